//! Creates a temporary file beside a path, with the owner and the mode that the final file should have.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use tempfile::NamedTempFile;

use super::{FileError, FilePlace, folder_of};

/// The users that may read and write a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// All users that the umask permits. A file that replaces another one gets its owner and its mode.
    Public,
    /// Only the owner, since the file contains a token.
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

/// Creates a temporary file in the folder of a place, to be moved to that place.
pub(super) fn beside(place: &FilePlace, access: Access) -> Result<NamedTempFile, FileError> {
    let folder = folder_of(&place.real);
    // If the folder is missing, the error of this call is about the folder. The error of the call below
    // would name a temporary file.
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

/// Gives a file the mode of the one that it replaces and, where that is permitted, the owner and
/// the group.
fn pass_on(there: &Metadata, file: &File) -> io::Result<()> {
    let group = Some(there.gid());
    if fchown(file, Some(there.uid()), group).is_err() {
        // Only root may give files to another user, but any user may give them to one of the user's
        // groups.
        let _ = fchown(file, None, group);
    }
    // After the owner, because a change of the owner clears bits of the mode.
    file.set_permissions(Permissions::from_mode(there.mode() & 0o777))
}

/// Removes the path of the temporary file from an error, since it would mean nothing to the user.
pub(super) fn plain(error: io::Error) -> io::Error {
    if error.get_ref().is_some() { error.kind().into() } else { error }
}
