//! How often a client may connect, whatever its server answers.
//!
//! A server steers its clients: by `retry: 0`, by redirects, by answers that end at once.
//! None of that may turn a client of this program into a flood. A [`Pacing`] lets
//! [`BURST`] connections through at once, which is more than the longest chain of
//! redirects, and after that [`PER_SECOND`] a second. What a person asks for, such as
//! cutting a tab again and again, is not counted.
//!
//! It is a number and a clock: the caller waits.

use std::time::{Duration, Instant};

/// Connections in the long run, a second.
pub const PER_SECOND: u32 = 10;
/// Connections that may be made at once after a pause.
pub const BURST: u32 = 30;

/// The rate of one client.
#[derive(Debug, Clone, Default)]
pub struct Pacing {
    /// When all of the burst will be there again; in the past while it is.
    full_at: Option<Instant>,
}

impl Pacing {
    /// Counts one connection, and gives how long to wait before it is made.
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
        // A pause fills the burst again, and no more than that.
        now += Duration::from_secs(1000);
        for _ in 0..BURST {
            assert_eq!(pacing.next(now), Duration::ZERO);
        }
        assert!(!pacing.next(now).is_zero());
    }

    #[test]
    fn who_connects_more_slowly_than_the_rate_never_waits() {
        let (mut pacing, mut now) = (Pacing::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(pacing.next(now), Duration::ZERO);
            now += Duration::from_secs(1) / PER_SECOND;
        }
    }
}
