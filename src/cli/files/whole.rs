//! A file that is written whole or not at all, and removed by the process that made it.
//!
//! A new file is written beside its path and moved there: nothing reads half of it, and a run
//! that is interrupted or killed leaves what was there before. A file that cannot be replaced
//! (another file system is mounted on it, or its folder belongs to another user) is written in
//! place.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::access::{Access, beside, plain};
use super::output::Output;
use super::{FileError, FileId, FileKind, FilePlace, starts_with};

/// How long a full pipe may keep a whole file waiting.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// A file cannot be written: the flag that named it, and the cause.
#[derive(Debug, Error)]
#[error("cannot write {flag} {}: {}; give a path that can be written", .path.display(), unwritable(error))]
pub struct Unwritable {
    flag: &'static str,
    path: PathBuf,
    error: FileError,
}

/// The cause in words. To create a file fails with "not found" only where its folder is missing.
pub fn unwritable(error: &FileError) -> String {
    match error {
        FileError::Io(error) if error.kind() == ErrorKind::NotFound => "no such directory".to_owned(),
        error => error.to_string(),
    }
}

/// A path where a file can be put. This is tested before the work begins, so that no run of two
/// minutes is lost and no start is refused late.
#[derive(Debug)]
pub struct ReservedFile {
    path: PathBuf,
    access: Access,
    /// Held open from the start, so that the reader of a pipe waits.
    special: Option<Output>,
}

impl ReservedFile {
    /// Tests whether a file can be put at this path, and changes nothing there.
    pub fn at(path: &Path, access: Access) -> Result<ReservedFile, FileError> {
        let place = FilePlace::to_write(path)?;
        let special = match place.kind {
            FileKind::Special => Some(Output::special(&place)?),
            // It is written in place if it cannot be replaced.
            FileKind::File => place.open_file().map(|_| None)?,
            FileKind::Nothing | FileKind::Folder => beside(&place, access).map(|_| None)?,
        };
        Ok(ReservedFile { path: path.to_owned(), access, special })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a device, pipe or descriptor: nothing there is replaced.
    pub fn is_special(&self) -> bool {
        self.special.is_some()
    }

    /// Writes a whole file there. Waits at most 5 s for the reader of a full pipe.
    pub fn put(self, bytes: &[u8]) -> Result<Put, FileError> {
        if let Some(mut output) = self.special {
            let deadline = Instant::now() + READ_WITHIN;
            output.write_all(bytes, || Instant::now() < deadline)?;
            return Ok(Put { real: self.path, what: PutWhere::Written });
        }
        let place = FilePlace::to_write(&self.path)?;
        let what = match replace(&place, bytes, self.access) {
            Err(FileError::Io(error)) if place.kind == FileKind::File && cannot_be_replaced(&error) => {
                write_in_place(&place, bytes, self.access)?;
                PutWhere::InPlace(bytes.to_owned())
            }
            replaced => PutWhere::File(replaced?),
        };
        Ok(Put { real: place.real, what })
    }
}

/// A path at which a command writes a file at its end.
#[derive(Debug)]
pub struct WholeFile {
    flag: &'static str,
    reserved: ReservedFile,
}

impl WholeFile {
    /// Checks whether a file can be written at this path.
    pub fn at(flag: &'static str, path: &Path) -> Result<WholeFile, Unwritable> {
        match ReservedFile::at(path, Access::Public) {
            Ok(reserved) => Ok(WholeFile { flag, reserved }),
            Err(error) => Err(Unwritable { flag, path: path.to_owned(), error }),
        }
    }

    /// Writes it. Waits at most 5 s for the reader of a full pipe.
    pub fn write(self, bytes: &[u8]) -> Result<(), Unwritable> {
        let (flag, path) = (self.flag, self.reserved.path.clone());
        self.reserved.put(bytes).map(drop).map_err(|error| Unwritable { flag, path, error })
    }
}

/// The file that was put at a path.
#[derive(Debug)]
pub struct Put {
    real: PathBuf,
    what: PutWhere,
}

#[derive(Debug)]
enum PutWhere {
    /// A new file.
    File(FileId),
    /// These bytes, into a file that is not this process's to remove.
    InPlace(Vec<u8>),
    /// Bytes that went to a device, a pipe or a descriptor.
    Written,
}

/// The result of a removal.
#[derive(Debug, PartialEq, Eq)]
pub enum Removal {
    Removed,
    /// It was written in place, and is empty now.
    Emptied,
    /// It was gone already, it is another file by now, or it is a device or pipe.
    NotOurs,
}

impl Put {
    /// Removes the file, if it is still the one that this process put there. A file that was written in
    /// place is emptied, if it still has what this process wrote.
    pub fn remove(&self) -> io::Result<Removal> {
        match &self.what {
            PutWhere::Written => Ok(Removal::NotOurs),
            PutWhere::File(id) => match fs::symlink_metadata(&self.real) {
                Ok(there) if FileId::of(&there) == *id => {
                    fs::remove_file(&self.real).map(|()| Removal::Removed)
                }
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                Ok(_) | Err(_) => Ok(Removal::NotOurs),
            },
            PutWhere::InPlace(bytes) => {
                let place = FilePlace::of(&self.real)?;
                if place.kind != FileKind::File || !starts_with(&place.real, bytes) {
                    return Ok(Removal::NotOurs);
                }
                place.open_file()?.set_len(0).map(|()| Removal::Emptied)
            }
        }
    }
}

/// Writes a new file and moves it to its place.
fn replace(place: &FilePlace, bytes: &[u8], access: Access) -> Result<FileId, FileError> {
    let mut file = beside(place, access)?;
    file.write_all(bytes).map_err(plain)?;
    let file = file.persist(&place.real).map_err(|error| error.error)?;
    Ok(FileId::of(&file.metadata()?))
}

/// Whether the error leaves writing in place: a file is mounted on the path, the folder is read-only,
/// or it belongs to another user. By its kind: the error of a temporary file has no code.
fn cannot_be_replaced(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ResourceBusy
            | ErrorKind::PermissionDenied
            | ErrorKind::CrossesDevices
            | ErrorKind::ReadOnlyFilesystem
    )
}

fn write_in_place(place: &FilePlace, bytes: &[u8], access: Access) -> Result<(), FileError> {
    let mut file = place.open_file()?;
    let there = file.metadata()?;
    if Some(FileId::of(&there)) != place.id() {
        return Err(FileError::Io(ErrorKind::ResourceBusy.into()));
    }
    // Before the token is in it. Only the owner of a file may do so.
    if access == Access::Secret && there.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(there.mode() & access.mode()))?;
    }
    file.set_len(0)?;
    Ok(file.write_all(bytes)?)
}
