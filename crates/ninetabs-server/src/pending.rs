//! The limit on the memory of requests that no thread has taken, for all connections together.
//!
//! Each connection has limits of its own (`--max-head-bytes`, the part of a body that stays in memory). There may be a
//! hundred thousand connections, so a limit per connection does not bound the process. A connection that would exceed
//! this limit is refused with 503.
//!
//! A request that a thread reads whole and serves at once is not counted. A whole request that is queued is counted,
//! but refused only if it is larger than [`SMALL`]. Pages are therefore served while other requests use the whole limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A whole request that takes at most this is never refused, in bytes: one read, and the head
/// that was parsed from it.
const SMALL: usize = 16 * 1024;

/// The sum of all shares, and its bound, in bytes. Small requests that are queued may go beyond it.
#[derive(Debug)]
pub(super) struct PendingBudget {
    held: AtomicUsize,
    most: usize,
}

/// There is no room for what a connection would hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// What one connection holds of it. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    pending: Arc<PendingBudget>,
    bytes: usize,
}

impl PendingBudget {
    pub fn new(most: usize) -> Arc<PendingBudget> {
        Arc::new(PendingBudget { held: AtomicUsize::new(0), most })
    }

    /// How many bytes are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        self.most
    }
}

impl Share {
    /// Nothing yet.
    pub fn of(pending: &Arc<PendingBudget>) -> Share {
        Share { pending: Arc::clone(pending), bytes: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// From now on the connection holds so many bytes. Less is always possible; if more do not
    /// fit, the share stays as it was.
    pub fn set(&mut self, bytes: usize) -> Result<(), Full> {
        let held = &self.pending.held;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let fits = |held: usize| held.checked_add(more).filter(|sum| *sum <= self.pending.most);
            held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Full)?;
        } else if bytes < self.bytes {
            held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// The same for a request that is whole. A small one always fits.
    pub fn set_whole(&mut self, bytes: usize) -> Result<(), Full> {
        if bytes <= self.bytes || bytes > SMALL {
            return self.set(bytes);
        }
        self.pending.held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
        Ok(())
    }

    /// The connection holds nothing any more.
    pub fn clear(&mut self) {
        // Less always fits.
        let _ = self.set(0);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_hold_more_than_there_may_be() {
        let pending = PendingBudget::new(100);
        let (mut one, mut other) = (Share::of(&pending), Share::of(&pending));
        assert_eq!(one.set(60), Ok(()));
        assert_eq!(other.set(41), Err(Full));
        assert_eq!((pending.held(), other.is_empty()), (60, true));
        assert_eq!(other.set(40), Ok(()));
        assert_eq!(one.set(61), Err(Full));
        assert_eq!(one.set(10), Ok(()));
        assert_eq!(pending.held(), 50);
        drop(one);
        assert_eq!(pending.held(), 40);
        other.clear();
        assert_eq!((pending.held(), pending.most()), (0, 100));
    }

    #[test]
    fn a_small_whole_request_is_counted_and_fits_beside_a_full_sum() {
        let pending = PendingBudget::new(100);
        let (mut one, mut other) = (Share::of(&pending), Share::of(&pending));
        assert_eq!(one.set(100), Ok(()));
        assert_eq!(other.set_whole(SMALL), Ok(()));
        assert_eq!(pending.held(), 100 + SMALL);
        assert_eq!((other.set_whole(SMALL + 1), one.set(101)), (Err(Full), Err(Full)));
        assert_eq!(pending.held(), 100 + SMALL);
        drop((one, other));
        assert_eq!(pending.held(), 0);
    }
}
