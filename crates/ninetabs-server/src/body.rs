//! The body of a request, read whole before the app is called.
//!
//! A small one stays in memory; a large one goes to a temporary file that has no
//! name, as in Puma, so that a pool's worth of uploads does not cost their size in
//! memory. Each of those files takes a descriptor besides its connection's, so there
//! may be only so many at a time.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;

/// Up to this many bytes a body stays in memory (Puma's MAX_BODY).
pub const MAX_IN_MEMORY_BYTES: usize = 112 * 1024;

/// The most bodies that lie in temporary files at a time, in the whole process, as the
/// limit of descriptors is the process's too.
pub const MAX_SPOOLED: usize = 32;

/// How many there are.
static SPOOLED: AtomicUsize = AtomicUsize::new(0);

/// Why a large body is not kept.
#[derive(Debug, Error)]
pub enum SpoolError {
    /// As many large bodies are kept as may be.
    #[error("there are {MAX_SPOOLED} large bodies already")]
    Full,
    /// The temporary file failed.
    #[error("a large body could not be kept in a temporary file: {0}")]
    Disk(#[from] io::Error),
}

/// A temporary file without a name, counted for as long as it is there.
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

/// A body, as far as it has come.
#[derive(Debug)]
pub enum RequestBody {
    /// In memory.
    Memory(Vec<u8>),
    /// Written to so far; read from its beginning.
    File {
        /// The temporary file.
        file: SpoolFile,
        /// How many bytes it has.
        bytes: u64,
    },
}

impl Default for RequestBody {
    fn default() -> Self {
        RequestBody::Memory(Vec::new())
    }
}

impl RequestBody {
    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        match self {
            RequestBody::Memory(bytes) => bytes.len() as u64,
            RequestBody::File { bytes, .. } => *bytes,
        }
    }

    /// How many bytes of memory it takes.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            RequestBody::Memory(bytes) => bytes.capacity(),
            RequestBody::File { .. } => 0,
        }
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds what has come.
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

    /// All of it, in memory: for an app that needs it whole, up to the server's limit.
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
    fn a_large_body_leaves_memory() {
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
