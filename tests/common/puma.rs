//! The real Puma with its control server on a Unix socket.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::common::{program, wait_for};

/// A running Puma, which is killed when dropped. Its control token is `s3cret`.
pub struct Puma {
    pub child: Child,
    folder: TempDir,
    pub control: String,
}

impl Puma {
    /// Starts Puma with this app and these flags. If Puma is not installed, prints a message and returns `None`.
    pub fn start(app: &str, flags: &[&str]) -> Option<Puma> {
        let puma = program("puma")?;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        fs::write(path("config.ru"), app).unwrap();
        let control = format!("unix://{}", path("ctl.sock").display());
        let said = fs::File::create(path("said")).unwrap();
        let mut command = Command::new(puma);
        command
            .args(flags)
            .args(["-e", "production", "-b", "tcp://127.0.0.1:0"])
            .args(["--control-url", &control, "--control-token", "s3cret", "-S"])
            .args([path("state"), path("config.ru")])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stderr(said.try_clone().unwrap())
            .stdout(said);
        let child = command.spawn().unwrap();
        let mut puma = Puma { child, folder, control };
        wait_for("Puma", || {
            let status = puma.child.try_wait().unwrap();
            assert!(status.is_none(), "puma ended with {status:?}: {}", puma.said());
            // A cluster opens its control socket after this line.
            let is_controlled = || UnixStream::connect(puma.path("ctl.sock")).is_ok();
            (puma.said().contains("Use Ctrl-C") && is_controlled()).then_some(())
        });
        Some(puma)
    }

    pub fn said(&self) -> String {
        fs::read_to_string(self.path("said")).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    /// The address of its app.
    pub fn app(&self) -> std::net::SocketAddr {
        let said = self.said();
        let line = said.lines().find_map(|line| line.split_once("Listening on http://")).unwrap();
        line.1.trim().parse().unwrap()
    }
}

impl Drop for Puma {
    fn drop(&mut self) {
        // A cluster's workers end when the pipe to their parent closes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
