//! A file that a command writes at its end, whole or not at all.
//!
//! Whether it can be written is tried before the work begins, so that nobody waits two
//! minutes for a file that cannot be. Nothing of it is on the disk until it is whole:
//! a run that is interrupted, or killed, leaves what was there before.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use thiserror::Error;

/// It cannot be written: the flag that named it, and why.
#[derive(Debug, Error)]
#[error("{flag} {}: {error}; give a path that can be written", .path.display())]
pub struct Unwritable {
    flag: &'static str,
    path: PathBuf,
    error: io::Error,
}

/// What stands at a path.
enum Kind {
    /// A file, or nothing yet.
    File,
    Folder,
    /// A pipe, a terminal, `/dev/null`: written to as it is, since a file in its place would be another thing.
    Device,
}

/// A path at which a file can be made.
#[derive(Debug)]
pub struct WholeFile {
    flag: &'static str,
    path: PathBuf,
}

impl WholeFile {
    /// Tries whether there is a way to this path.
    pub fn at(flag: &'static str, path: &Path) -> Result<WholeFile, Unwritable> {
        let file = WholeFile { flag, path: path.to_owned() };
        let tried = file.kind().and_then(|kind| match kind {
            Kind::Folder => Err(ErrorKind::IsADirectory.into()),
            Kind::Device => Ok(()),
            Kind::File => file.beside().map(drop),
        });
        match tried {
            Ok(()) => Ok(file),
            Err(error) => Err(file.unwritable(error)),
        }
    }

    /// Writes it beside its path, and moves it there.
    pub fn write(self, bytes: &[u8]) -> Result<(), Unwritable> {
        let written = self.kind().and_then(|kind| match kind {
            Kind::Device => fs::write(&self.path, bytes),
            Kind::File | Kind::Folder => {
                let mut file = self.beside()?;
                file.write_all(bytes)?;
                file.persist(&self.path).map(drop).map_err(|error| error.error)
            }
        });
        written.map_err(|error| self.unwritable(error))
    }

    /// An error where no file can ever stand, such as below a file, or by too long a name.
    fn kind(&self) -> io::Result<Kind> {
        match fs::metadata(&self.path) {
            Ok(there) if there.is_dir() => Ok(Kind::Folder),
            Ok(there) if !there.is_file() => Ok(Kind::Device),
            Ok(_) => Ok(Kind::File),
            Err(_) if self.path.as_os_str().as_bytes().ends_with(b"/") => Ok(Kind::Folder),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kind::File),
            Err(error) => Err(error),
        }
    }

    fn beside(&self) -> io::Result<NamedTempFile> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // As any file that a program makes: the umask says who may read it.
        let permissions = Permissions::from_mode(0o666);
        tempfile::Builder::new().permissions(permissions).tempfile_in(folder.unwrap_or(Path::new(".")))
    }

    fn unwritable(&self, error: io::Error) -> Unwritable {
        Unwritable { flag: self.flag, path: self.path.clone(), error }
    }
}
