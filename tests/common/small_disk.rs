//! A small file system, for a test that fills it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// How the source of a mount begins. The id of the process follows.
const SOURCE: &str = "ninetabs-test-";

/// A file system of a few megabytes in memory. Unmounted when dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts the file system. If this user may not do that, prints a message and returns `None`. With `CI` set, the
    /// test of root fails instead.
    pub fn mount(size: &str) -> Option<SmallDisk> {
        unmount_leftovers();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}")]);
        command.arg(format!("{SOURCE}{}", std::process::id())).arg(folder.path());
        if command.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Some(SmallDisk(folder));
        }
        let must_work = rustix::process::geteuid().is_root() && std::env::var_os("CI").is_some();
        assert!(!must_work, "root cannot mount a file system");
        eprintln!("skipped: this user may not mount a file system");
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn grow(&self, size: &str) {
        let mut command = Command::new("mount");
        let status = command.args(["-o", &format!("remount,size={size}")]).arg(self.path()).status().unwrap();
        assert!(status.success());
    }

    /// Fills the rest with a file, and returns its path.
    #[cfg(feature = "postgresql")]
    pub fn fill(&self) -> std::path::PathBuf {
        use std::io::Write;
        let path = self.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.path());
    }
}

fn unmount(path: &Path) {
    let _ = Command::new("umount").arg("-l").arg(path).status();
}

/// Unmounts the file systems of test runs that were killed.
fn unmount_leftovers() {
    for line in fs::read_to_string("/proc/mounts").unwrap_or_default().lines() {
        let mut fields = line.split(' ');
        let id = fields.next().and_then(|source| source.strip_prefix(SOURCE));
        if let (Some(id), Some(path)) = (id, fields.next())
            && !Path::new("/proc").join(id).exists()
        {
            unmount(Path::new(path));
            let _ = fs::remove_dir(path);
        }
    }
}
