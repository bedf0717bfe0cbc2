//! The end of a connection: nothing more is written, and what the client still sends is read and
//! thrown away for a while before the socket is closed.
//!
//! A kernel that closes a socket with unread bytes, or is sent some afterwards, answers with a
//! reset, and a reset discards what was written and has not been read yet. RFC 9112, 9.6: stop
//! writing, read until the client closes, then close. Two bounds keep a client from staying: a
//! time and a number of bytes. A client that has shown no sign of sending more is waited for
//! shorter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a client may go on sending.
pub const LINGER: Duration = Duration::from_secs(2);
/// How long one is waited for that has sent nothing since the end.
const QUIET: Duration = Duration::from_millis(500);
/// How much is read and thrown away, in bytes.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// The bounds of one connection that is read to its end.
#[derive(Debug)]
pub(super) struct Lingering {
    began: Instant,
    left: usize,
    is_sending: bool,
    counted: Option<Counted>,
}

/// One lingering connection in a count of them, until this is dropped.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lingering {
    /// Begins now. `is_sending`: bytes are known to have come, or to be on their way.
    pub fn begin(is_sending: bool) -> Lingering {
        Lingering { began: Instant::now(), left: LINGER_BYTES, is_sending, counted: None }
    }

    /// Counts it among those that linger, once.
    pub fn count_in(&mut self, count: &Arc<AtomicUsize>) {
        self.counted.get_or_insert_with(|| {
            count.fetch_add(1, Ordering::Relaxed);
            Counted(Arc::clone(count))
        });
    }

    /// Counts bytes that came. False: these were the last that are read.
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
    fn a_client_that_sends_is_waited_for_longer_but_not_forever() {
        let mut quiet = Lingering::begin(false);
        assert_eq!(quiet.deadline(), quiet.began + QUIET);
        assert!(quiet.discard(1));
        assert_eq!(quiet.deadline(), quiet.began + LINGER);
        assert!(quiet.discard(LINGER_BYTES - 2));
        assert!(!quiet.discard(1), "all that is read has come");
    }
}
