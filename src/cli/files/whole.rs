//! A file that is written completely or not at all, and is removed by the process that created it.
//!
//! A new file is written beside its path and then moved to it. No program therefore reads an incomplete
//! file, and a run that is interrupted or killed leaves the previous file unchanged. A file that cannot
//! be replaced (another file system is mounted on it, or its folder belongs to another user) is written
//! in place.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::access::{Access, beside, plain};
use super::output::Output;
use super::{FileError, FileId, FileKind, FilePlace, starts_with};

/// How long the write of a file may wait for a full pipe.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Why a file cannot be written: the flag that named it, and the cause.
#[derive(Debug, Error)]
#[error("cannot write {flag} {}: {}; give a path that can be written", .path.display(), unwritable(error))]
pub struct Unwritable {
    flag: &'static str,
    path: PathBuf,
    error: FileError,
}

/// The cause in words. Creating a file fails with "not found" only if its folder is missing.
pub fn unwritable(error: &FileError) -> String {
    match error {
        FileError::Io(error) if error.kind() == ErrorKind::NotFound => "no such directory".to_owned(),
        error => error.to_string(),
    }
}

/// A path at which a file can be written. The path is tested before any other work: the result of a
/// long run must not be lost at its end, and a start must not fail halfway.
#[derive(Debug)]
pub struct ReservedFile {
    path: PathBuf,
    access: Access,
    /// A pipe or device, which is held open from the start so that the reader of a pipe waits.
    special: Option<Output>,
}

impl ReservedFile {
    /// Tests whether a file can be put at this path, without changing anything there.
    pub fn at(path: &Path, access: Access) -> Result<ReservedFile, FileError> {
        let place = FilePlace::to_write(path)?;
        let special = match place.kind {
            FileKind::Special => Some(Output::special(&place)?),
            // A file that cannot be replaced is written in place.
            FileKind::File => place.open_file().map(|_| None)?,
            FileKind::Nothing | FileKind::Folder => beside(&place, access).map(|_| None)?,
        };
        Ok(ReservedFile { path: path.to_owned(), access, special })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a device, pipe or descriptor, so that no file is replaced.
    pub fn is_special(&self) -> bool {
        self.special.is_some()
    }

    /// Writes the complete file. Waits at most 5 s for the reader of a full pipe.
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

/// A path at which a command writes a file when it ends.
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
    /// These bytes were written to a file that this process must not remove.
    InPlace(Vec<u8>),
    /// The bytes went to a device, a pipe or a descriptor.
    Written,
}

/// The result of a removal.
#[derive(Debug, PartialEq, Eq)]
pub enum Removal {
    Removed,
    /// The file had been written in place, and is now empty.
    Emptied,
    /// Nothing was removed: the file no longer exists, another file is at the path, or it is a device
    /// or pipe.
    NotOurs,
}

impl Put {
    /// Removes the file, if it is still the one that this process put there. A file that was written in
    /// place is emptied if it still has the bytes that this process wrote.
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

/// Whether writing in place is still possible after this error: a file is mounted on the path, or the
/// folder is read-only or belongs to another user. The check uses the error's kind, because the error
/// of a temporary file does not have a code.
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
    // The mode is changed before the token is written. Only the owner of a file may change it.
    if access == Access::Secret && there.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(there.mode() & access.mode()))?;
    }
    file.set_len(0)?;
    Ok(file.write_all(bytes)?)
}
