//! Limits the rate at which a stopping server says goodbye.
//!
//! Every peer that gets a goodbye reconnects after the same `retry:`. If all goodbyes were sent at the same time, all
//! peers would reconnect at the same time, to a server that has just started. They are therefore spread over time,
//! within the deadline of the shutdown.

use std::time::{Duration, Instant};

/// The maximum number of goodbyes per second. A close deadline can require more.
const PER_SECOND: u32 = 2_000;
/// The interval at which goodbyes are sent.
pub const TICK: Duration = Duration::from_millis(50);

/// The schedule of the goodbyes.
#[derive(Debug)]
pub struct Goodbyes {
    began: Instant,
    /// How long all goodbyes take.
    lasts: Duration,
    peers: usize,
    told: usize,
}

impl Goodbyes {
    /// Creates a schedule for this many peers, in which the last goodbye is due before `deadline`.
    pub fn new(peers: usize, now: Instant, deadline: Instant) -> Goodbyes {
        let at_that_rate = Duration::from_secs(peers as u64) / PER_SECOND;
        let lasts = at_that_rate.min(deadline.saturating_duration_since(now));
        Goodbyes { began: now, lasts, peers, told: 0 }
    }

    /// Returns how many goodbyes have become due since the last call. The goodbyes of the first tick are due
    /// immediately.
    pub fn due(&mut self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.began) + TICK;
        let due = if elapsed >= self.lasts {
            self.peers
        } else {
            (self.peers as f64 * elapsed.as_secs_f64() / self.lasts.as_secs_f64()) as usize
        };
        let more = due.saturating_sub(self.told);
        self.told += more;
        more
    }

    /// Whether all goodbyes have become due.
    pub fn are_over(&self) -> bool {
        self.told == self.peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of goodbyes at each tick.
    fn ticks(peers: usize, time: Duration) -> Vec<usize> {
        let began = Instant::now();
        let mut goodbyes = Goodbyes::new(peers, began, began + time);
        let mut told = Vec::new();
        while !goodbyes.are_over() {
            told.push(goodbyes.due(began + TICK * told.len() as u32));
        }
        told
    }

    #[test]
    fn a_stop_sends_at_most_two_thousand_goodbyes_per_second() {
        assert!(ticks(0, Duration::from_secs(5)).is_empty());
        assert_eq!(ticks(100, Duration::from_secs(5)), [100]);
        let told = ticks(2_000, Duration::from_secs(5));
        assert_eq!((told.len(), told.iter().sum::<usize>()), (20, 2_000));
        assert!(told.iter().all(|told| *told <= 101), "{told:?}");
        let told = ticks(8_000, Duration::from_secs(5));
        assert!(told.len() == 80 && told.windows(20).all(|second| second.iter().sum::<usize>() <= 2_001));
    }

    #[test]
    fn a_stop_with_a_short_deadline_spreads_goodbyes_over_the_time_left() {
        let told = ticks(25_000, Duration::from_secs(5));
        assert_eq!((told.len(), told.iter().sum::<usize>()), (100, 25_000));
        assert!(told.iter().all(|told| *told <= 251), "{told:?}");
        assert_eq!(ticks(25_000, Duration::ZERO), [25_000]);
    }
}
