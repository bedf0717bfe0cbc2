//! The body of a request, which is read completely before the app is called.
//!
//! A small body stays in memory. A large one is written to an unnamed temporary file, as in Puma, so that parallel
//! uploads are not all held in memory. Each file needs a descriptor in addition to the connection's, so the number of
//! files is limited.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;

/// The largest body that stays in memory, in bytes (Puma's MAX_BODY).
pub const MAX_IN_MEMORY_BYTES: usize = 112 * 1024;

/// The maximum number of bodies in temporary files at one time, in the whole process. (The limit on descriptors is per
/// process as well.)
pub const MAX_SPOOLED: usize = 32;

/// How many temporary files exist now.
static SPOOLED: AtomicUsize = AtomicUsize::new(0);

/// Why a large body cannot be stored.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// The limit of [`MAX_SPOOLED`] bodies has been reached.
    #[error("cannot store a large body: {MAX_SPOOLED} are already stored")]
    Full,
    /// The temporary file could not be created or written.
    #[error("cannot store a large body in a temporary file: {0}")]
    Disk(#[from] io::Error),
}

/// An unnamed temporary file. It counts toward [`MAX_SPOOLED`] while it exists.
#[derive(Debug)]
pub struct SpoolFile(File);

impl SpoolFile {
    fn create() -> Result<SpoolFile, SpoolError> {
        let more = |spooled: usize| (spooled < MAX_SPOOLED).then_some(spooled + 1);
        SPOOLED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| SpoolError::Full)?;
        tempfile::tempfile().map(SpoolFile).map_err(|error| {
            SPOOLED.fetch_sub(1, Ordering::Relaxed);
            error.into()
        })
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        SPOOLED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The part of a body that has been received.
#[derive(Debug)]
pub enum RequestBody {
    /// The body is in memory.
    Memory(Vec<u8>),
    /// The body is in a temporary file.
    File {
        /// The temporary file.
        file: SpoolFile,
        /// The number of bytes written so far.
        bytes: u64,
    },
}

impl Default for RequestBody {
    fn default() -> Self {
        RequestBody::Memory(Vec::new())
    }
}

impl RequestBody {
    /// Returns the number of bytes received so far.
    pub fn len(&self) -> u64 {
        match self {
            RequestBody::Memory(bytes) => bytes.len() as u64,
            RequestBody::File { bytes, .. } => *bytes,
        }
    }

    /// How many bytes of memory the body takes.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            RequestBody::Memory(bytes) => bytes.capacity(),
            RequestBody::File { .. } => 0,
        }
    }

    /// Returns whether nothing has been received.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes that were received.
    pub(super) fn push(&mut self, more: &[u8]) -> Result<(), SpoolError> {
        match self {
            RequestBody::Memory(bytes) if bytes.len() + more.len() <= MAX_IN_MEMORY_BYTES => {
                bytes.extend_from_slice(more);
            }
            RequestBody::Memory(bytes) => {
                let mut file = SpoolFile::create()?;
                file.0.write_all(bytes)?;
                file.0.write_all(more)?;
                *self = RequestBody::File { file, bytes: (bytes.len() + more.len()) as u64 };
            }
            RequestBody::File { file, bytes } => {
                file.0.write_all(more)?;
                *bytes += more.len() as u64;
            }
        }
        Ok(())
    }

    /// Returns a copy of the whole body, for an app that needs it in one piece. Its size is at most the server's limit.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            RequestBody::Memory(bytes) => Ok(bytes.clone()),
            RequestBody::File { file, bytes } => {
                let mut file = &file.0;
                file.rewind()?;
                let mut all = Vec::with_capacity(usize::try_from(*bytes).unwrap_or_default());
                file.read_to_end(&mut all)?;
                Ok(all)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_moves_from_memory_to_a_file() {
        let mut body = RequestBody::default();
        let piece = vec![7; 60_000];
        for pushed in 1..=4 {
            body.push(&piece).unwrap();
            assert_eq!(body.len(), 60_000 * pushed);
            assert_eq!(matches!(body, RequestBody::Memory(_)), pushed == 1);
        }
        assert_eq!(body.read().unwrap(), vec![7; 240_000]);
        assert_eq!(body.read().unwrap().len(), 240_000);
    }
}
