//! The end of a connection: the server stops writing, and for a while reads and discards what the client still sends,
//! before it closes the socket.
//!
//! If a socket is closed with unread bytes, or bytes arrive after the close, the kernel answers with a reset. A reset
//! discards data that was written but not read yet. Therefore, as RFC 9112 9.6 recommends, the server stops writing,
//! reads until the client closes, and then closes. Two limits, one on time and one on bytes, prevent a client from
//! keeping the connection open forever. The time limit is shorter for a client that is not known to be sending.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a client may continue to send.
pub const LINGER: Duration = Duration::from_secs(2);
/// How long the server waits for a client that has sent nothing since lingering began.
const QUIET: Duration = Duration::from_millis(500);
/// The maximum number of bytes that are read and discarded.
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
    /// Begins to linger. Set `is_sending` if more bytes are known to have arrived or to be in transit.
    pub fn begin(is_sending: bool) -> Lingering {
        Lingering { began: Instant::now(), left: LINGER_BYTES, is_sending, counted: None }
    }

    /// Adds the connection to the number of lingering ones. Further calls do nothing.
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
    fn a_client_that_is_still_sending_lingers_longer_but_not_forever() {
        let mut quiet = Lingering::begin(false);
        assert_eq!(quiet.deadline(), quiet.began + QUIET);
        assert!(quiet.discard(1));
        assert_eq!(quiet.deadline(), quiet.began + LINGER);
        assert!(quiet.discard(LINGER_BYTES - 2));
        assert!(!quiet.discard(1), "the client may send more than the limit");
    }
}
