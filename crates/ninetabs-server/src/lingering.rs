//! The end of a connection: nothing more is written, and what the client still sends is read and discarded
//! for a while before the socket is closed.
//!
//! If a socket is closed with unread bytes, or bytes arrive after the close, the kernel answers with a reset.
//! A reset discards what was written and has not been read yet. Therefore, as RFC 9112 9.6 says, the server
//! stops writing, reads until the client closes, and then closes. Two limits, a time and a number of bytes,
//! keep a client from staying forever. The time is shorter for a client that has shown no sign of sending
//! more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a client may continue to send.
pub const LINGER: Duration = Duration::from_secs(2);
/// How long the server waits for a client that has sent nothing since the end.
const QUIET: Duration = Duration::from_millis(500);
/// How many bytes are read and discarded.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// The limits of one lingering connection.
#[derive(Debug)]
pub(super) struct Lingering {
    began: Instant,
    left: usize,
    is_sending: bool,
    counted: Option<Counted>,
}

/// Counts one lingering connection until it is dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lingering {
    /// Begins now. `is_sending` means that bytes are known to have arrived, or to be on their way.
    pub fn begin(is_sending: bool) -> Lingering {
        Lingering { began: Instant::now(), left: LINGER_BYTES, is_sending, counted: None }
    }

    /// Adds it to the number of lingering connections, once.
    pub fn count_in(&mut self, count: &Arc<AtomicUsize>) {
        self.counted.get_or_insert_with(|| {
            count.fetch_add(1, Ordering::Relaxed);
            Counted(Arc::clone(count))
        });
    }

    /// Counts bytes that were discarded. Returns `false` if the limit has been reached.
    pub fn discard(&mut self, bytes: usize) -> bool {
        self.is_sending = true;
        self.left = self.left.saturating_sub(bytes);
        self.left > 0
    }

    pub fn deadline(&self) -> Instant {
        self.began + if self.is_sending { LINGER } else { QUIET }
    }

    pub fn began(&self) -> Instant {
        self.began
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_still_sends_lingers_longer_but_not_forever() {
        let mut quiet = Lingering::begin(false);
        assert_eq!(quiet.deadline(), quiet.began + QUIET);
        assert!(quiet.discard(1));
        assert_eq!(quiet.deadline(), quiet.began + LINGER);
        assert!(quiet.discard(LINGER_BYTES - 2));
        assert!(!quiet.discard(1), "the limit has been reached");
    }
}
