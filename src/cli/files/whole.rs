//! A file that is written whole or not at all, and removed by the process that made it.
//!
//! A new file is written beside its path and moved there: nothing reads half of it, and a run
//! that is interrupted or killed leaves what was there before.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use thiserror::Error;

use super::output::Output;
use super::{FileError, FileId, Kind, Place, folder_of};

/// How long a full pipe may keep a whole file waiting.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// It cannot be written: the flag that named it, and why.
#[derive(Debug, Error)]
#[error("{flag} {}: {error}; give a path that can be written", .path.display())]
pub struct Unwritable {
    flag: &'static str,
    path: PathBuf,
    error: FileError,
}

/// A path at which a command writes a file at its end. Whether it can is tried before the work
/// begins, so that no run of two minutes is lost.
#[derive(Debug)]
pub struct WholeFile {
    flag: &'static str,
    path: PathBuf,
    /// Held open from the start, so that the reader of a pipe waits.
    special: Option<Output>,
}

impl WholeFile {
    /// Tries whether a file can be written at this path.
    pub fn at(flag: &'static str, path: &Path) -> Result<WholeFile, Unwritable> {
        let tried = Place::to_write(path).and_then(|place| match place.kind {
            Kind::Special => Output::special(&place).map(Some),
            _ => beside(&place, 0o666).map(|_| None),
        });
        match tried {
            Ok(special) => Ok(WholeFile { flag, path: path.to_owned(), special }),
            Err(error) => Err(Unwritable { flag, path: path.to_owned(), error }),
        }
    }

    /// Writes it. Waits at most 5 s for the reader of a full pipe.
    pub fn write(self, bytes: &[u8]) -> Result<(), Unwritable> {
        let written = match self.special {
            Some(output) => write_special(output, bytes),
            None => put(&self.path, bytes, 0o666).map(drop),
        };
        written.map_err(|error| Unwritable { flag: self.flag, path: self.path, error })
    }
}

/// What was put at a path.
#[derive(Debug)]
pub struct Put {
    real: PathBuf,
    /// None where it was written to what was there already.
    id: Option<FileId>,
}

/// What became of a file that was to be removed.
#[derive(Debug, PartialEq, Eq)]
pub enum Removal {
    Removed,
    /// It was gone already, it is another file by now, or it is a device or pipe.
    NotOurs,
}

impl Put {
    /// Removes the file, if it is still the one that this process put there.
    pub fn remove(&self) -> io::Result<Removal> {
        let there = match fs::symlink_metadata(&self.real) {
            Ok(there) => Some(FileId::of(&there)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if self.id.is_none() || there != self.id {
            return Ok(Removal::NotOurs);
        }
        fs::remove_file(&self.real).map(|()| Removal::Removed)
    }
}

/// Writes a whole file at this path with this mode, as far as the umask lets it; one that is
/// replaced passes its narrower mode on. Waits at most 5 s for the reader of a full pipe.
pub fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<Put, FileError> {
    let place = Place::to_write(path)?;
    if place.kind == Kind::Special {
        write_special(Output::special(&place)?, bytes)?;
        return Ok(Put { real: place.real, id: None });
    }
    let mut file = beside(&place, mode)?;
    file.write_all(bytes).map_err(plain)?;
    let file = file.persist(&place.real).map_err(|error| error.error)?;
    let id = FileId::of(&file.metadata()?);
    Ok(Put { real: place.real, id: Some(id) })
}

fn write_special(mut output: Output, bytes: &[u8]) -> Result<(), FileError> {
    let deadline = Instant::now() + READ_WITHIN;
    Ok(output.write_all(bytes, || Instant::now() < deadline)?)
}

fn beside(place: &Place, mode: u32) -> Result<NamedTempFile, FileError> {
    let folder = folder_of(&place.real);
    // A folder that is missing is named by the system; below, a temporary name would be.
    fs::metadata(folder)?;
    let mode = place.there.as_ref().map_or(mode, |there| there.mode() & mode);
    let permissions = Permissions::from_mode(mode);
    Ok(tempfile::Builder::new().permissions(permissions).tempfile_in(folder).map_err(plain)?)
}

/// Without the path of the temporary file, which says nothing to the user.
fn plain(error: io::Error) -> io::Error {
    let inner =
        error.get_ref().and_then(|inner| inner.source()).and_then(|it| it.downcast_ref::<io::Error>());
    match inner.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None if error.get_ref().is_some() => error.kind().into(),
        None => error,
    }
}
