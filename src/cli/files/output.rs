//! A file, device or pipe that is written piece by piece.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::OFlags;

use super::access::{Access, beside};
use super::{FileError, FileKind, FilePlace, OpenedOutput, wait_for};

/// How often a write that waits for its reader checks whether to keep waiting.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// A pipe that is ready accepts this many bytes without blocking: the minimum `PIPE_BUF` of POSIX.
const MOST_AT_ONCE: usize = 512;

/// A file, device or pipe that is open for writing.
#[derive(Debug)]
pub struct Output {
    file: File,
    can_be_cut: bool,
    is_shared: bool,
}

/// A path where an output can begin. An existing file is already open, but it is not changed before the
/// output begins.
#[derive(Debug)]
pub struct PreparedOutput {
    place: FilePlace,
    there: Option<Output>,
}

impl PreparedOutput {
    /// Opens an existing file, or tests whether one can be created at this path.
    pub fn at(path: &Path) -> Result<PreparedOutput, FileError> {
        let place = FilePlace::to_write(path)?;
        let there = match place.kind {
            FileKind::Special => Some(Output::special(&place)?),
            FileKind::File => Some(Output::file(place.open_file()?)?),
            FileKind::Nothing | FileKind::Folder => beside(&place, Access::Public).map(|_| None)?,
        };
        Ok(PreparedOutput { place, there })
    }

    /// Whether it is a device, pipe or descriptor, so that no file is replaced.
    pub fn is_special(&self) -> bool {
        self.place.kind == FileKind::Special
    }

    /// Creates the file or empties it. A device or pipe is left as it is.
    pub fn begin(self) -> Result<Output, FileError> {
        let output = match self.there {
            Some(there) => there,
            None => {
                let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY).bits();
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(false).custom_flags(flags as i32);
                Output::file(options.open(&self.place.real)?)?
            }
        };
        output.cut(0)?;
        Ok(output)
    }
}

impl Output {
    pub(super) fn special(place: &FilePlace) -> Result<Output, FileError> {
        let OpenedOutput { file, is_shared } = place.open_special()?;
        Ok(Output { file, can_be_cut: false, is_shared })
    }

    fn file(file: File) -> io::Result<Output> {
        let can_be_cut = file.metadata()?.is_file();
        Ok(Output { file, can_be_cut, is_shared: false })
    }

    /// Writes all bytes. While a pipe is full, calls `goes_on` every 50 ms, and gives up once it
    /// returns `false`.
    pub fn write_all(&mut self, mut bytes: &[u8], mut goes_on: impl FnMut() -> bool) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !goes_on() {
                        return Err(io::Error::new(ErrorKind::TimedOut, FileError::Unread));
                    }
                    wait_for(&self.file, PollFlags::OUT, ASK_EVERY);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_shared {
            return self.file.write(bytes);
        }
        // A larger write may block.
        if !wait_for(&self.file, PollFlags::OUT, Duration::ZERO) {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.file.write(&bytes[..bytes.len().min(MOST_AT_ONCE)])
    }

    /// Removes everything after this length. Bytes that were written to a device cannot be removed.
    pub fn cut(&self, length: u64) -> io::Result<()> {
        if self.can_be_cut { self.file.set_len(length) } else { Ok(()) }
    }
}
