//! The limit on the memory of requests that no thread has taken yet, for all connections together.
//!
//! Each connection has its own limits (`--max-head-bytes`, and the part of a body that stays in memory). But with a
//! hundred thousand connections, a limit per connection does not protect the process. A connection that would exceed
//! the total is refused with 503.
//!
//! A request that a thread reads completely and serves immediately is not counted. A complete request that is queued is
//! counted, but refused only if it is larger than [`SMALL`]. Pages are therefore served even while other requests use
//! the whole budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A complete request of up to this many bytes is never refused. This is enough for one read and the head parsed from
/// it.
const SMALL: usize = 16 * 1024;

/// The sum of all shares and its limit, in bytes. Small queued requests may make the sum exceed the limit.
#[derive(Debug)]
pub(super) struct PendingBudget {
    held: AtomicUsize,
    most: usize,
}

/// The error if a share does not fit into the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The part of the budget that one connection holds. It is released when this is dropped.
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

    /// The limit.
    pub fn most(&self) -> usize {
        self.most
    }
}

impl Share {
    /// Creates an empty share.
    pub fn of(pending: &Arc<PendingBudget>) -> Share {
        Share { pending: Arc::clone(pending), bytes: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Changes the size of the share. Reducing it always succeeds. If an increase does not fit, the share is unchanged.
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

    /// Like [`set`](Self::set), for a complete request. A small one always fits.
    pub fn set_whole(&mut self, bytes: usize) -> Result<(), Full> {
        if bytes <= self.bytes || bytes > SMALL {
            return self.set(bytes);
        }
        self.pending.held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
        Ok(())
    }

    /// Reduces the share to nothing.
    pub fn clear(&mut self) {
        // A smaller share always fits.
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
    fn shares_never_exceed_the_budget() {
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
    fn a_small_complete_request_is_counted_and_fits_when_the_budget_is_used_up() {
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
