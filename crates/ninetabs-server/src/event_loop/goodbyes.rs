//! How fast a stopping server says goodbye.
//!
//! Every peer that is told to come back does so after the same `retry:`. If all were told in one
//! moment, all would come back in one moment, to a server that has just started. So they are told
//! at a rate, within the time that the stop has.

use std::time::{Duration, Instant};

/// The most goodbyes per second, unless the stop has no time for so few.
const PER_SECOND: u32 = 2_000;
/// How often some are told.
pub const TICK: Duration = Duration::from_millis(50);

/// When which share of the peers is told.
#[derive(Debug)]
pub struct Goodbyes {
    began: Instant,
    /// How long it takes to tell all.
    lasts: Duration,
    peers: usize,
    told: usize,
}

impl Goodbyes {
    /// For so many peers, the last of which is told before `deadline`.
    pub fn new(peers: usize, now: Instant, deadline: Instant) -> Goodbyes {
        let at_that_rate = Duration::from_secs(peers as u64) / PER_SECOND;
        let lasts = at_that_rate.min(deadline.saturating_duration_since(now));
        Goodbyes { began: now, lasts, peers, told: 0 }
    }

    /// How many are told now that were not before. Those of the first tick are told at once.
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

    /// Whether all have been told.
    pub fn are_over(&self) -> bool {
        self.told == self.peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are told at each tick.
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
    fn a_stop_says_goodbye_to_two_thousand_a_second() {
        assert!(ticks(0, Duration::from_secs(5)).is_empty());
        assert_eq!(ticks(100, Duration::from_secs(5)), [100]);
        let told = ticks(2_000, Duration::from_secs(5));
        assert_eq!((told.len(), told.iter().sum::<usize>()), (20, 2_000));
        assert!(told.iter().all(|told| *told <= 101), "{told:?}");
        let told = ticks(8_000, Duration::from_secs(5));
        assert!(told.len() == 80 && told.windows(20).all(|second| second.iter().sum::<usize>() <= 2_001));
    }

    #[test]
    fn a_stop_without_the_time_for_it_spreads_them_over_the_time_that_it_has() {
        let told = ticks(25_000, Duration::from_secs(5));
        assert_eq!((told.len(), told.iter().sum::<usize>()), (100, 25_000));
        assert!(told.iter().all(|told| *told <= 251), "{told:?}");
        assert_eq!(ticks(25_000, Duration::ZERO), [25_000]);
    }
}
