//! A temporary folder that is removed when this process ends, even if the process is killed.
//!
//! A shell waits for the end of its standard input, which this process holds open, and then removes the folder. The
//! shell is started before the folder is created, so a `kill -9` at any moment does not leave a folder behind. Dropping
//! a [`Scratch`] removes the folder and then ends the shell.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::program::Program;

/// The last line of standard input, if there is one, names a process group to end before the folder `$1` is removed;
/// `$2` says how. Other processes that still write into the folder may take a moment to end, and may create it again.
/// The shell therefore checks again a moment after each removal.
const SCRIPT: &str = r#"group=
while read -r line; do group=$line; done
[ -n "$group" ] && eval "$2"
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
  [ -e "$1" ] || break
  rm -rf -- "$1"
  sleep 0.2
done"#;

/// Kills the group.
const KILL: &str = r#"kill -s KILL -- "-$group""#;

/// Why the folder could not be created.
#[derive(Debug, Error)]
pub enum ScratchError {
    #[error(
        "cannot create a temporary folder in {}: {error}; set TMPDIR to a writable folder", .beside.display()
    )]
    Folder { beside: PathBuf, error: io::Error },
    #[error("cannot start sh to clean up a temporary folder: {0}; add the folder that contains sh to PATH")]
    Shell(io::Error),
}

/// A folder of this process, which other users cannot read.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    cleaner: Program,
}

impl Scratch {
    /// Creates it in the folder for temporary files. Its name begins with `prefix`.
    pub fn make(prefix: &str) -> Result<Scratch, ScratchError> {
        Scratch::make_with_end(prefix, KILL)
    }

    /// Like `make`, but these lines of shell end the process group, which is in `$group`. The folder is in `$1`.
    pub fn make_with_end(prefix: &str, end: &str) -> Result<Scratch, ScratchError> {
        let name = format!("{prefix}-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let beside = std::env::temp_dir();
        let no_folder = |error| ScratchError::Folder { beside: beside.clone(), error };
        let path = std::path::absolute(&beside).map_err(no_folder)?.join(name);
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(&path).arg(end);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let cleaner = Program::start(&mut command).map_err(ScratchError::Shell)?;
        DirBuilder::new().mode(0o700).create(&path).map_err(no_folder)?;
        Ok(Scratch { path, cleaner })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has the shell end this process group before it removes the folder, in case this process is killed. Only the last
    /// call counts.
    pub fn kill_first(&mut self, group: u32) -> io::Result<()> {
        match &mut self.cleaner.child().stdin {
            Some(stdin) => writeln!(stdin, "{group}"),
            None => Ok(()),
        }
    }

    /// Lets the shell end the group and remove the folder, and blocks until it has, or for at most `limit`.
    /// `meanwhile` is called every 5 ms, so that the owner can wait for its children.
    pub fn end_group(&mut self, limit: Duration, mut meanwhile: impl FnMut()) -> io::Result<()> {
        drop(self.cleaner.child().stdin.take());
        let deadline = Instant::now() + limit;
        while self.cleaner.wait(Instant::now() + Duration::from_millis(5))?.is_none()
            && Instant::now() < deadline
        {
            meanwhile();
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The shell is still running. If this process is killed now, the shell removes the rest of the folder.
        if let Err(error) = remove(&self.path) {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes the folder. Killed processes may still write for a moment.
fn remove(folder: &Path) -> io::Result<()> {
    let mut attempts = 0;
    loop {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && attempts < 50 => attempts += 1,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => return Ok(()),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_users_cannot_read_a_temporary_folder() {
        let scratch = Scratch::make("ninetabs-test").unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(scratch.path()).unwrap());
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_folder_is_removed_when_it_is_dropped_and_when_its_owner_has_ended() {
        let scratch = Scratch::make("ninetabs-test").unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("file"), "").unwrap();
        drop(scratch);
        assert!(!path.exists());

        let mut scratch = Scratch::make("ninetabs-test").unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("file"), "").unwrap();
        let mut sleeper = Program::start(Command::new("sleep").arg("600")).unwrap();
        scratch.kill_first(sleeper.id()).unwrap();
        // Closes standard input, as the end of this process would.
        drop(scratch.cleaner.child().stdin.take());
        let end = Instant::now() + Duration::from_secs(60);
        assert!(sleeper.wait(end).unwrap().is_some(), "the group was killed");
        while path.exists() {
            assert!(Instant::now() < end, "the folder is still there");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
