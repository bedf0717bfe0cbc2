//! Limits how often a client may connect, whatever its server answers.
//!
//! A server influences how often its clients connect: with `retry: 0`, with redirects, and with answers that end
//! immediately. None of these may make a client of this program flood a server. A [`Pacing`] allows a burst of
//! [`BURST`] connections, which is more than the longest chain of redirects, and then [`PER_SECOND`] per second.
//! Connections that a user causes, such as by cutting a tab repeatedly, are not counted.
//!
//! It only computes the delay; the caller waits.

use std::time::{Duration, Instant};

/// Connections per second in the long run.
pub const PER_SECOND: u32 = 10;
/// Connections that may be made without a delay after a pause.
pub const BURST: u32 = 30;

/// The rate of one client.
#[derive(Debug, Clone, Default)]
pub struct Pacing {
    /// When the whole burst is available again. A time in the past means that it is available now.
    full_at: Option<Instant>,
}

impl Pacing {
    /// Counts one connection, and returns the delay before it may be made.
    pub fn next(&mut self, now: Instant) -> Duration {
        let each = Duration::from_secs(1) / PER_SECOND;
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + each;
        self.full_at = Some(full_at);
        full_at.duration_since(now).saturating_sub(each * BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_the_rate_holds() {
        let begin = Instant::now();
        let (mut pacing, mut now) = (Pacing::default(), begin);
        for _ in 0..BURST {
            assert_eq!(pacing.next(now), Duration::ZERO);
        }
        for _ in 0..100 {
            now += pacing.next(now);
        }
        assert_eq!(now - begin, Duration::from_secs(100) / PER_SECOND);
        // A pause restores the burst, but no more than that.
        now += Duration::from_secs(1000);
        for _ in 0..BURST {
            assert_eq!(pacing.next(now), Duration::ZERO);
        }
        assert!(!pacing.next(now).is_zero());
    }

    #[test]
    fn a_client_that_connects_more_slowly_than_the_rate_never_waits() {
        let (mut pacing, mut now) = (Pacing::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(pacing.next(now), Duration::ZERO);
            now += Duration::from_secs(1) / PER_SECOND;
        }
    }
}
