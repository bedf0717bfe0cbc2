//! The rules of streams that depend on chance or time: when a client reconnects, and when a stream is too old.
//!
//! Pure functions, so that a simulation uses the same ones (`rules`).

use std::time::Duration;

/// How many clients may reconnect per second once the server has started again.
const COME_BACK_PER_SECOND: u32 = 2_000;
/// Below this number, all clients may reconnect at the same moment.
const FEW: usize = 100;

/// Returns how long one of this many clients waits before it reconnects. `draw` returns a random number from 0 to 1,
/// and is called only if there are many clients.
pub fn retry_of(base: Duration, clients: usize, draw: impl FnOnce() -> f64) -> Duration {
    if clients < FEW {
        return base;
    }
    let spread = Duration::from_secs(clients as u64) / COME_BACK_PER_SECOND;
    base.saturating_add(spread.mul_f64(draw()))
}

/// The fraction of the maximum age that applies to a stream, from 1 - jitter to 1. `drawn` is a random number from 0
/// to 1.
pub fn share_of_max_age(jitter: f64, drawn: f64) -> f64 {
    1.0 - jitter * drawn
}

/// Whether a stream of this age has reached its share of the maximum age.
pub fn is_due(age: Duration, max_age: Duration, share: f64) -> bool {
    // Calculated in seconds, because a product with the largest duration may overflow.
    age.as_secs_f64() >= max_age.as_secs_f64() * share
}
