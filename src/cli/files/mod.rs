//! The only module that writes, replaces and removes the user's files.
//!
//! Before a path is used, [`FilePlace::of`] follows all links and finds out what the path leads to:
//!
//! | at the path | written | removed |
//! |---|---|---|
//! | nothing, or a file | whole: a new file is moved to its place, or written in place if it cannot be moved ([`whole`]); a trace grows in place ([`output`]) | only if the file at the path is still the one that this process put there |
//! | a link | its target, as above; the link stays | its target, as above; the link stays |
//! | a device, a pipe | to it directly | never |
//! | a descriptor of this process (`/dev/stdout`) | after what was already written to it (`descriptor`) | never |
//! | a folder | refused | never |
//!
//! Opening never blocks: a pipe without a reader is an error. A write to a pipe waits for its reader as long as the
//! caller allows. A link in a folder where every user can create one (`/tmp`) is refused at any position in the path,
//! since another user could have created it. [`clash`] finds flags that name the same file, and [`claimed`] removes a
//! database that a refused start created.

pub mod access;
pub mod claimed;
pub mod clash;
mod descriptor;
pub mod output;
pub mod whole;

use std::ffi::OsString;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use thiserror::Error;

/// How many links are followed: the same limit as in Linux.
const MOST_LINKS: usize = 40;
/// The mode bits of a folder in which every user can create files, and only their owner can remove them.
const SHARED: u32 = 0o1002;
/// The first bytes of every SQLite database.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
/// The maximum number of bytes that [`read_small`] reads. A state file has about 200.
const MOST_SMALL_BYTES: u64 = 64 * 1024;
/// How long [`read_small`] waits for the writer of a pipe.
const SMALL_WITHIN: Duration = Duration::from_secs(5);

/// Why a path cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("it is a folder")]
    Folder,
    #[error("nothing reads this pipe")]
    Unread,
    #[error("it is a socket, and a socket cannot be opened by its path")]
    Socket,
    #[error("this descriptor is open for reading only")]
    ReadOnly,
    #[error("no data arrived through it within {SMALL_WITHIN:?}")]
    Silent,
    #[error("it did not end within {SMALL_WITHIN:?}")]
    Unended,
    #[error("the path has a symbolic link in a folder where every user can create one")]
    SharedLink,
    #[error("it is a device, pipe or socket, not a file")]
    NotAFile,
    #[error("it is a SQLite database")]
    Database,
    #[error("it is longer than {MOST_SMALL_BYTES} bytes")]
    TooLong,
    #[error("{}", cause(.0))]
    Io(#[from] io::Error),
}

/// The system's text for an error, as part of a sentence: without its number and in lower case.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or(&text);
    let mut chars = text.chars();
    let is_word = text.chars().nth(1).is_some_and(char::is_lowercase);
    match chars.next() {
        Some(first) if is_word => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// What is at a path after all links have been followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Nothing,
    File,
    Folder,
    /// A device, a pipe, a socket, or a descriptor of this process.
    Special,
}

/// Device and inode: the same for every name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId(u64, u64);

impl FileId {
    fn of(there: &Metadata) -> FileId {
        FileId(there.dev(), there.ino())
    }
}

/// A path, and where it leads.
#[derive(Debug, Clone)]
pub struct FilePlace {
    given: PathBuf,
    /// The path with all links followed. The file itself need not exist yet.
    real: PathBuf,
    kind: FileKind,
    there: Option<Metadata>,
    /// The number of the descriptor of this process that the path leads to.
    descriptor: Option<i32>,
    behind_a_shared_link: bool,
}

impl FilePlace {
    /// Examines a path. Returns an error if there cannot be a file at the path, such as below another file.
    pub fn of(path: &Path) -> io::Result<FilePlace> {
        let Followed { real, end, behind_a_shared_link } = follow(path);
        let there = match fs::metadata(path) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let kind = match &there {
            Some(there) if there.is_dir() => FileKind::Folder,
            Some(there) if there.is_file() && end == PathEnd::Path => FileKind::File,
            Some(_) => FileKind::Special,
            None if path.as_os_str().as_bytes().ends_with(b"/") => FileKind::Folder,
            None => FileKind::Nothing,
        };
        let descriptor = if let PathEnd::Descriptor(number) = end { Some(number) } else { None };
        Ok(FilePlace { given: path.to_owned(), real, kind, there, descriptor, behind_a_shared_link })
    }

    fn id(&self) -> Option<FileId> {
        self.there.as_ref().map(FileId::of)
    }

    fn is(&self, kind: impl FnOnce(&FileType) -> bool) -> bool {
        self.there.as_ref().is_some_and(|there| kind(&there.file_type()))
    }

    /// Whether it is a character device, a pipe or a socket, where a write never replaces an earlier one.
    fn is_a_stream(&self) -> bool {
        self.is(|it| it.is_char_device() || it.is_fifo() || it.is_socket())
    }

    /// Like `of`, for a path that will be written to. Refuses a path that must not be written to.
    pub fn to_write(path: &Path) -> Result<FilePlace, FileError> {
        let place = FilePlace::of(path)?;
        if place.behind_a_shared_link {
            return Err(FileError::SharedLink);
        }
        match place.kind {
            FileKind::Folder => Err(FileError::Folder),
            FileKind::File if starts_with(&place.real, SQLITE_MAGIC) => Err(FileError::Database),
            FileKind::File | FileKind::Nothing | FileKind::Special => Ok(place),
        }
    }

    /// Opens a device, a pipe or a descriptor for writing. Never waits for a reader, and never makes a terminal the
    /// controlling terminal of this process.
    fn open_special(&self) -> Result<OpenedOutput, FileError> {
        // Opening the path of a descriptor starts at offset 0 of its file, and fails for a socket.
        let is_file = self.is(FileType::is_file);
        if let Some(number) = self.descriptor
            && (is_file || self.is(FileType::is_socket))
            && let Some(file) = descriptor::duplicate(number)?
        {
            return Ok(OpenedOutput { file, is_shared: true });
        }
        if self.is(FileType::is_socket) {
            return Err(FileError::Socket);
        }
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
        let mut options = OpenOptions::new();
        // The file is a descriptor of another process, which may write to the same file.
        if is_file {
            options.append(true)
        } else {
            options.write(true)
        };
        match options.custom_flags(flags as i32).open(&self.given) {
            Ok(file) => Ok(OpenedOutput { file, is_shared: false }),
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Err(FileError::Unread),
            // The path leads to a pipe or terminal of another user, which this process has inherited.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                match self.descriptor.map(descriptor::duplicate).transpose()?.flatten() {
                    Some(file) => Ok(OpenedOutput { file, is_shared: true }),
                    None => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the existing file for writing, without changing its contents. If a link has replaced the file in the
    /// meantime, the link is not followed. Does not wait for a pipe.
    fn open_file(&self) -> io::Result<File> {
        let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY).bits();
        OpenOptions::new().write(true).custom_flags(flags as i32).open(&self.real)
    }
}

/// A device, a pipe or a descriptor that is open for writing.
struct OpenedOutput {
    file: File,
    /// Whether it is a duplicate. Other processes may share its flags, so they cannot be changed, and a write may
    /// block.
    is_shared: bool,
}

/// Whether the database at this path can be opened without waiting: neither it nor one of
/// its side files is a device or a pipe.
pub fn check_database(path: &Path) -> Result<(), FileError> {
    for file in std::iter::once(path.to_owned()).chain(clash::side_files(path)) {
        // Errors are left to SQLite, which describes them better.
        let Ok(place) = FilePlace::of(&file) else { continue };
        if place.behind_a_shared_link {
            return Err(FileError::SharedLink);
        }
        if place.kind == FileKind::Special {
            return Err(FileError::NotAFile);
        }
    }
    Ok(())
}

/// Reads a small text file. Does not wait until the other end of a pipe is opened, and waits at most 5 s for its
/// contents.
pub fn read_small(path: &Path) -> Result<String, FileError> {
    let mut file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    let there = file.metadata()?;
    if there.is_dir() {
        return Err(FileError::Folder);
    }
    if there.file_type().is_socket() {
        return Err(FileError::NotAFile);
    }
    let (mut bytes, deadline) = (Vec::new(), Instant::now() + SMALL_WITHIN);
    loop {
        let most = MOST_SMALL_BYTES + 1 - bytes.len() as u64;
        match Read::by_ref(&mut file).take(most).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 > MOST_SMALL_BYTES => return Err(FileError::TooLong),
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                wait_for(&file, PollFlags::IN, Duration::from_millis(100));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && bytes.is_empty() => {
                return Err(FileError::Silent);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(FileError::Unended),
            Err(error) => return Err(error.into()),
        }
    }
    String::from_utf8(bytes).map_err(|_| FileError::Io(ErrorKind::InvalidData.into()))
}

/// Waits for at most this time until a descriptor is ready, and returns whether it is. The next read or write reports
/// any error.
fn wait_for(file: impl AsFd, flags: PollFlags, time: Duration) -> bool {
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    poll(&mut [PollFd::new(&file, flags)], Some(&time)) != Ok(0)
}

struct Followed {
    real: PathBuf,
    end: PathEnd,
    behind_a_shared_link: bool,
}

/// Where a path ends after all links have been followed.
#[derive(Debug, PartialEq, Eq)]
enum PathEnd {
    Path,
    /// A descriptor of this process, such as `/dev/stdout`, by its number.
    Descriptor(i32),
    /// Another link that only the kernel can follow, such as `/proc/PID/exe`.
    Kernel,
}

/// Follows all links in a path, as the kernel does.
fn follow(path: &Path) -> Followed {
    let here = || fs::canonicalize(".").unwrap_or_else(|_| PathBuf::from("."));
    let mut real = if path.is_absolute() { PathBuf::from("/") } else { here() };
    let (mut rest, mut links, mut behind_a_shared_link) = (parts(path), 0, false);
    while let Some(part) = rest.pop() {
        match part.as_bytes() {
            b"/" => real = PathBuf::from("/"),
            b"." => {}
            // All links in `real` have been followed.
            b".." => drop(real.pop()),
            _ => {
                let at = real.join(&part);
                let target = if links < MOST_LINKS { fs::read_link(&at).ok() } else { None };
                let Some(target) = target else {
                    real = at;
                    continue;
                };
                links += 1;
                behind_a_shared_link |= fs::metadata(&real).is_ok_and(|it| it.mode() & SHARED == SHARED);
                // The text of a link below /proc need not be a path.
                let is_of_a_process = real.starts_with("/proc") && real != Path::new("/proc");
                if is_of_a_process && rest.is_empty() {
                    let end = descriptor::number(&at).map_or(PathEnd::Kernel, PathEnd::Descriptor);
                    return Followed { real: at, end, behind_a_shared_link };
                } else if is_of_a_process {
                    real = fs::canonicalize(&at).unwrap_or(at);
                } else {
                    rest.extend(parts(&target));
                }
            }
        }
    }
    let end = descriptor::number(&real).map_or(PathEnd::Path, PathEnd::Descriptor);
    Followed { real, end, behind_a_shared_link }
}

/// The parts of a path in reverse order.
fn parts(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn starts_with(path: &Path, bytes: &[u8]) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(bytes.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == bytes
}

#[cfg(test)]
mod tests;
