//! A temporary folder that is removed with this process, even if the process is killed.
//!
//! A shell waits for the end of this process, which ends its standard input, and then removes the
//! folder. It is started before the folder is made, so a `kill -9` at any moment
//! does not leave the folder. Dropping a [`Scratch`] removes the folder and then ends the shell.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use thiserror::Error;

use super::program::Program;

/// A line of its standard input names a process group to kill first. Other processes that still write into
/// the folder may take a moment to end, and may create it again. The shell therefore checks again a moment
/// after each removal.
const SCRIPT: &str = r#"group=
read -r group && read -r _
[ -n "$group" ] && kill -s KILL -- "-$group"
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
  [ -e "$1" ] || break
  rm -rf -- "$1"
  sleep 0.2
done"#;

/// Why the folder could not be created.
#[derive(Debug, Error)]
pub enum ScratchError {
    #[error(
        "cannot create a temporary folder in {}: {error}; set TMPDIR to a folder that can be written", .beside.display()
    )]
    Folder { beside: PathBuf, error: io::Error },
    #[error("cannot start sh, which removes a temporary folder: {0}; add the folder that has sh to PATH")]
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
        let name = format!("{prefix}-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let beside = std::env::temp_dir();
        let no_folder = |error| ScratchError::Folder { beside: beside.clone(), error };
        let path = std::path::absolute(&beside).map_err(no_folder)?.join(name);
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(&path);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let cleaner = Program::start(&mut command).map_err(ScratchError::Shell)?;
        DirBuilder::new().mode(0o700).create(&path).map_err(no_folder)?;
        Ok(Scratch { path, cleaner })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// If this process is killed, this process group is killed before the folder is removed.
    pub fn kill_first(&mut self, group: u32) -> io::Result<()> {
        match &mut self.cleaner.child().stdin {
            Some(stdin) => writeln!(stdin, "{group}"),
            None => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The shell ends after this: if this process is killed in the meantime, the shell removes the
        // rest.
        if let Err(error) = remove(&self.path) {
            log::warn!("{} could not be removed: {error}", self.path.display());
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
    fn a_temporary_folder_is_closed_to_other_users() {
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
        // As the end of this process would do.
        drop(scratch.cleaner.child().stdin.take());
        let end = std::time::Instant::now() + Duration::from_secs(60);
        assert!(sleeper.wait(end).unwrap().is_some(), "the group was killed");
        while path.exists() {
            assert!(std::time::Instant::now() < end, "the folder is still there");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
