//! The durations of steps that the rules do not decide. Each is drawn from a table.
//!
//! Each table has the deciles of a duration on one machine with two cores, in microseconds. Those of `connect`, `open`,
//! `update` and `reaped` are from a real server with 64 tabs, as `benches/simulate.sh` prints them. Their maxima were
//! delays of the busy machine, and are reduced to 1 or 1.5 ms. The other tables are estimates. Their
//! medians are far below a millisecond, so none of them has a visible effect on a figure. All intervals between two
//! neighboring deciles are equally likely.

use std::time::Duration;

use ninetabs_server::rules::SHORTEST_ROUND;

/// The deciles of a duration, from the minimum to the maximum, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deciles(pub [u32; 11]);

impl Deciles {
    /// Draws a duration, in microseconds.
    pub fn draw(&self, random: &mut fastrand::Rng) -> u64 {
        let at = random.f64() * 10.0;
        let below = (at as usize).min(9);
        let [from, to] = [self.0[below], self.0[below + 1]].map(f64::from);
        (from + (to - from) * (at - below as f64)) as u64
    }
}

/// The durations of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepCosts {
    /// From the end of the client's delay to the time when the server has queued its connection.
    pub connect: Deciles,
    /// From the time when the server has queued a connection to the arrival of its request.
    pub request: Deciles,
    /// A thread takes a connection whose request has not arrived, and passes it to the reactor.
    pub set_aside: Deciles,
    /// From the notification of a thread until it takes work.
    pub wake: Deciles,
    /// From the time when a thread takes a stream's request to its first event: read, query, write.
    pub open: Deciles,
    /// A later query and write of a stream, without the sleep.
    pub update: Deciles,
    /// From the reaper's decision to the time when the thread is free.
    pub reaped: Deciles,
    /// A thread takes the request of a client that has closed.
    pub left: Deciles,
    /// A page: read, query, render, write.
    pub page: Deciles,
    /// A stream that moves to the event loop: read, query, write, and the move.
    pub detach: Deciles,
    /// How much longer a round of the reaper takes than its interval.
    pub round: Deciles,
}

impl Default for StepCosts {
    fn default() -> StepCosts {
        StepCosts {
            connect: Deciles([0, 207, 263, 298, 340, 386, 435, 488, 569, 755, 1_500]),
            request: Deciles([5, 15, 25, 35, 45, 60, 80, 110, 150, 220, 400]),
            set_aside: Deciles([10, 13, 16, 19, 22, 25, 28, 31, 34, 38, 80]),
            wake: Deciles([15, 25, 30, 35, 40, 45, 50, 60, 75, 110, 400]),
            open: Deciles([28, 71, 94, 109, 132, 205, 231, 252, 288, 382, 1_000]),
            update: Deciles([99, 148, 171, 183, 193, 201, 213, 231, 265, 360, 1_000]),
            reaped: Deciles([74, 128, 147, 173, 207, 239, 256, 278, 334, 488, 1_000]),
            left: Deciles([20, 25, 28, 30, 32, 35, 38, 42, 50, 70, 300]),
            page: Deciles([160, 180, 195, 210, 225, 240, 260, 290, 330, 430, 1_500]),
            detach: Deciles([38, 42, 45, 48, 51, 54, 57, 61, 66, 80, 300]),
            round: Deciles([50, 55, 58, 60, 65, 70, 75, 85, 100, 140, 600]),
        }
    }
}

/// A duration in microseconds, saturating. A run ends long before the maximum.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

/// The time between two periodic checks, in microseconds.
pub fn period_us(every: Duration) -> u64 {
    micros(every.max(SHORTEST_ROUND))
}

/// When the database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    Now,
    /// It is unavailable until this time.
    At(u64),
    /// The query fails at this time.
    FailsAt(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_draws_falls_between_two_deciles() {
        let deciles = Deciles([0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 1_000]);
        let mut random = fastrand::Rng::with_seed(1);
        let drawn: Vec<u64> = (0..10_000).map(|_| deciles.draw(&mut random)).collect();
        assert!(drawn.iter().all(|us| *us <= 1_000));
        let above = drawn.iter().filter(|us| **us >= 90).count();
        assert!((900..1_100).contains(&above), "{above}");
    }
}
