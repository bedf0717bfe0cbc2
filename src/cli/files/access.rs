//! A new file beside its path, with the owner and the mode that it is to have.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use tempfile::NamedTempFile;

use super::{FileError, FilePlace, folder_of};

/// The users that may read and write a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// All that the umask permits. A file that is replaced passes on its owner and its mode.
    Public,
    /// Its owner alone, since it contains a token.
    Secret,
}

impl Access {
    pub(super) fn mode(self) -> u32 {
        match self {
            Access::Public => 0o666,
            Access::Secret => 0o600,
        }
    }
}

/// Creates a file in the folder of a place, to be moved there.
pub(super) fn beside(place: &FilePlace, access: Access) -> Result<NamedTempFile, FileError> {
    let folder = folder_of(&place.real);
    // A folder that is missing is named by the system; below, a temporary name would be.
    fs::metadata(folder)?;
    let mode = match &place.there {
        Some(there) => there.mode() & access.mode() & 0o700,
        None => access.mode(),
    };
    let permissions = Permissions::from_mode(mode);
    let file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder).map_err(plain)?;
    if let (Some(there), Access::Public) = (&place.there, access) {
        pass_on(there, file.as_file())?;
    }
    Ok(file)
}

/// Gives a file the owner and the group of the one that it replaces, where that is permitted, and
/// its mode.
fn pass_on(there: &Metadata, file: &File) -> io::Result<()> {
    let group = Some(there.gid());
    if fchown(file, Some(there.uid()), group).is_err() {
        // Only root gives files away; each user may give them to a group of its own.
        let _ = fchown(file, None, group);
    }
    // Behind the owner, since that takes bits of the mode away.
    file.set_permissions(Permissions::from_mode(there.mode() & 0o777))
}

/// Without the path of the temporary file, which says nothing to the user.
pub(super) fn plain(error: io::Error) -> io::Error {
    if error.get_ref().is_some() { error.kind().into() } else { error }
}
