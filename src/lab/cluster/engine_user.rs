//! The user that runs the private PostgreSQL if this process runs as root.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

/// The name of the user, which the packages of PostgreSQL create. The superuser of the private engine has the same name.
pub(super) const USER: &str = "postgres";

/// Why the user cannot run PostgreSQL.
#[derive(Debug, Error)]
pub enum EngineUserError {
    #[error(
        "cannot run PostgreSQL as root, and the user {USER} does not exist: create it, or run this as an ordinary user"
    )]
    NoUser,
    #[error(
        "cannot find the ids of the user {USER}: cannot run id: {0}; add the folder that contains id to PATH"
    )]
    NoIds(io::Error),
}

/// The ids of the user.
#[derive(Debug, Clone, Copy)]
pub(super) struct EngineUser {
    pub user: u32,
    pub group: u32,
}

impl EngineUser {
    /// Asks the program `id`, because the user may come from a directory service.
    pub fn find() -> Result<EngineUser, EngineUserError> {
        let number = |flag: &str| {
            let output = Command::new("id").args([flag, USER]).stderr(Stdio::null()).output();
            let output = output.map_err(EngineUserError::NoIds)?;
            String::from_utf8(output.stdout)
                .ok()
                .and_then(|it| it.trim().parse().ok())
                .ok_or(EngineUserError::NoUser)
        };
        Ok(EngineUser { user: number("-u")?, group: number("-g")? })
    }

    /// The uppermost folder of this path that the user cannot enter, by its mode. Access lists are not read, so the
    /// answer is valid only if the kernel has refused the access.
    pub fn closed_folder(self, path: &Path) -> Option<PathBuf> {
        let folders: Vec<&Path> = path.ancestors().collect();
        folders.into_iter().rev().find(|folder| self.is_shut_out_of(folder)).map(Path::to_owned)
    }

    fn is_shut_out_of(self, folder: &Path) -> bool {
        let Ok(meta) = folder.metadata() else { return false };
        let may_enter = match () {
            () if meta.uid() == self.user => 0o100,
            () if meta.gid() == self.group => 0o010,
            () => 0o001,
        };
        meta.mode() & may_enter == 0
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_folder_that_the_user_cannot_enter_is_named() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("folder");
        fs::create_dir_all(folder.join("below")).unwrap();
        let meta = folder.metadata().unwrap();
        let set = |mode| fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
        let (other_user, other_group) = (meta.uid() + 1, meta.gid() + 1);
        for (mode, user, group, is_shut_out) in [
            (0o711, other_user, other_group, false),
            (0o710, other_user, other_group, true),
            (0o710, other_user, meta.gid(), false),
            (0o701, other_user, meta.gid(), true),
            (0o611, meta.uid(), meta.gid(), true),
        ] {
            set(mode);
            assert_eq!(EngineUser { user, group }.is_shut_out_of(&folder), is_shut_out, "{mode:o}");
        }
        set(0o700);
        let named = EngineUser { user: other_user, group: other_group }.closed_folder(&folder.join("below"));
        // The temporary folder itself may be closed to other users.
        assert!(named.is_some_and(|named| folder.starts_with(named)));
    }
}
