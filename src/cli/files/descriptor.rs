//! A path that names an open descriptor of this process, such as `/dev/stdout`.
//!
//! On Linux, opening such a path makes a new description of the file, which begins at offset 0 and
//! does not append: a write to it replaces the start of the user's file. A duplicate shares the
//! offset and the flags of the descriptor, as a write to standard output does.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl};

use super::FileError;

/// The number of the descriptor of this process that is at this path, which has no links but the
/// last part.
pub(super) fn number(path: &Path) -> Option<i32> {
    let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
    let is_ours = |rest: &Path| {
        let parts: Vec<_> = rest.iter().collect();
        matches!(parts[..], [fd] if fd == "fd")
            || matches!(parts[..], [task, _, fd] if task == "task" && fd == "fd")
    };
    let is_of_this_process = || {
        let ours = Path::new("/proc").join(fs::read_link("/proc/self").ok()?);
        folder.strip_prefix(ours).ok().filter(|rest| is_ours(rest)).map(drop)
    };
    // There is no /proc on macOS, and no link in /dev/fd.
    if folder != Path::new("/dev/fd") {
        is_of_this_process()?;
    }
    name.parse().ok()
}

/// A second descriptor for the same description. None if the system has no way to make one of
/// this number.
pub(super) fn duplicate(number: i32) -> Result<Option<File>, FileError> {
    let descriptor = match number {
        0 => Some(io::stdin().as_fd().try_clone_to_owned()?),
        1 => Some(io::stdout().as_fd().try_clone_to_owned()?),
        2 => Some(io::stderr().as_fd().try_clone_to_owned()?),
        _ => duplicate_any(number),
    };
    let Some(descriptor) = descriptor else { return Ok(None) };
    if fcntl_getfl(&descriptor).is_ok_and(|flags| flags & OFlags::RWMODE == OFlags::RDONLY) {
        return Err(FileError::ReadOnly);
    }
    Ok(Some(descriptor.into()))
}

/// Rust lends a descriptor by its number to unsafe code only; the kernel hands it out by the number of
/// the process, since Linux 5.6.
#[cfg(target_os = "linux")]
fn duplicate_any(number: i32) -> Option<OwnedFd> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    pidfd_getfd(this, number, PidfdGetfdFlags::empty()).ok()
}

/// Elsewhere to open the path is to duplicate it.
#[cfg(not(target_os = "linux"))]
fn duplicate_any(_: i32) -> Option<OwnedFd> {
    None
}
