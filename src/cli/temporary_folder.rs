//! The folder of a database that is deleted when the process ends: `--database :memory:`.
//!
//! The folder is removed when the process ends. A process that is killed cannot remove its folder, so
//! each start removes the folders that such processes left behind. A process holds a lock on a file in
//! its folder while it runs, and the kernel releases the lock however the process ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tempfile::TempDir;

use super::storage::Storage;
use crate::app::database_place::DatabasePlace;

const PREFIX: &str = "ninetabs-db-";
const LOCK: &str = "lock";

/// The folder, if the database needs one.
#[derive(Debug)]
pub struct TemporaryFolder(Option<HeldFolder>);

#[derive(Debug)]
struct HeldFolder {
    folder: TempDir,
    _lock: File,
}

impl TemporaryFolder {
    /// Creates the folder, in the directory for temporary files, if the database is a temporary file.
    pub fn of(database: &DatabasePlace) -> io::Result<TemporaryFolder> {
        if *database != DatabasePlace::Memory {
            return Ok(TemporaryFolder(None));
        }
        let beside = std::env::temp_dir();
        remove_abandoned(&beside);
        loop {
            if let Some(held) = make(&beside)? {
                return Ok(TemporaryFolder(Some(held)));
            }
        }
    }

    /// The folder.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|held| held.folder.path())
    }

    /// Where the models of this database are.
    pub fn storage(&self, database: &DatabasePlace) -> Storage {
        Storage::of(database, || self.path().unwrap_or(Path::new("")).join("models.sqlite3"))
    }
}

/// Returns `None` if another process removed the folder before it was locked.
fn make(beside: &Path) -> io::Result<Option<HeldFolder>> {
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(beside)?;
    let path = folder.path().join(LOCK);
    let lock = match File::create_new(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        created => created?,
    };
    let is_ours = lock.try_lock().is_ok() && path.exists();
    Ok(is_ours.then_some(HeldFolder { folder, _lock: lock }))
}

/// Removes folders that processes of this user left behind. A folder that cannot be removed is left,
/// and does not prevent the start.
fn remove_abandoned(beside: &Path) {
    let Ok(entries) = fs::read_dir(beside) else { return };
    let user = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let is_named_so = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !is_named_so || !entry.metadata().is_ok_and(|it| it.is_dir() && it.uid() == user) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_removed_once_the_process_that_made_it_is_gone() {
        let beside = tempfile::tempdir().unwrap();
        let of = |held: &HeldFolder| held.folder.path().to_owned();
        let running = make(beside.path()).unwrap().unwrap();
        let ended = make(beside.path()).unwrap().unwrap();
        let (running_at, ended_at) = (of(&running), of(&ended));
        // Simulates a killed process: its descriptors are closed, and nothing is removed.
        let HeldFolder { folder, _lock } = ended;
        let _ = folder.keep();
        drop(_lock);
        let theirs = beside.path().join("ninetabs-database");
        fs::create_dir(&theirs).unwrap();

        remove_abandoned(beside.path());
        assert!(running_at.exists(), "the folder of a running process was removed");
        assert!(!ended_at.exists(), "the folder of an ended process was not removed");
        assert!(theirs.exists(), "an unrelated folder was removed");
        drop(running);
        assert!(!running_at.exists());
    }
}
