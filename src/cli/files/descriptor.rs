//! A path that names an open descriptor of this process, such as `/dev/stdout`.
//!
//! On Linux, opening such a path creates a new open file description, which begins at offset 0 and does
//! not append. A write to it would overwrite the start of the user's file. A duplicate shares the
//! offset and the flags of the descriptor, so it behaves like standard output itself.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl};

use super::FileError;

/// The number of this process's descriptor that this path names. Only the last part of the path may be
/// a link.
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
    // macOS has no /proc, and no links in /dev/fd.
    if folder != Path::new("/dev/fd") {
        is_of_this_process()?;
    }
    name.parse().ok()
}

/// A second descriptor for the same open file description, or `None` if the system cannot duplicate
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

/// Only unsafe code can borrow a descriptor by its number. Since Linux 5.6, however, the kernel can
/// duplicate a descriptor for a given process and number.
#[cfg(target_os = "linux")]
fn duplicate_any(number: i32) -> Option<OwnedFd> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    pidfd_getfd(this, number, PidfdGetfdFlags::empty()).ok()
}

/// On other systems, opening the path duplicates the descriptor.
#[cfg(not(target_os = "linux"))]
fn duplicate_any(_: i32) -> Option<OwnedFd> {
    None
}
