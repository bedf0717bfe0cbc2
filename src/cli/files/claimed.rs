//! A database that this process created, and that is removed if the start is refused.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::clash::side_files;
use super::{FileId, FilePlace};

/// The mode that SQLite gives to a new database, before the umask is applied.
const MODE: u32 = 0o644;

/// The path of a database, and the id of the empty file that this process created at the path if there
/// was none.
#[derive(Debug)]
pub struct Claimed {
    path: PathBuf,
    id: Option<FileId>,
}

impl Claimed {
    /// Creates an empty file if none exists. SQLite treats it as a new database. Errors are left to
    /// SQLite, which describes them better.
    pub fn at(path: &Path) -> Claimed {
        let path = FilePlace::of(path).map_or_else(|_| path.to_owned(), |place| place.real);
        let created = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path);
        let id = created.and_then(|file| file.metadata()).ok().map(|there| FileId::of(&there));
        Claimed { path, id }
    }

    /// Removes the file if this process created it and no other process has it open. Every connection of
    /// this process must be closed: SQLite removes the side files with the last one.
    pub fn remove(self) {
        let there = fs::symlink_metadata(&self.path).ok().map(|there| FileId::of(&there));
        let is_open = side_files(&self.path).iter().any(|file| file.exists());
        if self.id.is_none() || there != self.id || is_open {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("cannot remove the new database {}: {error}", self.path.display());
        }
    }
}
