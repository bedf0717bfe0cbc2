//! The stream reaper: one thread that ends each stream that has reached its maximum age.
//!
//! A loop that writes cannot tell a stalled reader from an active one; only an age frees its thread for certain. In each
//! round the reaper interrupts the streams that are due, and does not wait for them. A stream that sleeps leaves at
//! once, and a blocked write is cut off. So no stream is older than `max_age + reap_every`, plus a scheduling delay.
//! With a server that hides its sockets (tiny_http), a stream that is writing leaves after that write, which lasts at
//! most for the write timeout.

use std::sync::Arc;
use std::time::Duration;

use crate::configuration::SHORTEST_ROUND;
use crate::services::Services;
use crate::streams::Streams;
use crate::threads::{SpawnError, StoppableThread};

/// The reaper's thread; it ends, and is joined, when this is dropped.
#[derive(Debug)]
pub struct Reaper {
    _thread: StoppableThread,
}

impl Reaper {
    /// Starts the thread; it looks at the streams every `every`, and at most once in a
    /// [`SHORTEST_ROUND`].
    pub fn start(streams: Arc<Streams>, every: Duration, services: &Services) -> Result<Reaper, SpawnError> {
        let every = every.max(SHORTEST_ROUND);
        let thread = services.spawn("stream reaper", move |stop| {
            while stop.sleep(every) {
                let told = streams.reap_aged();
                if told > 0 {
                    log::info!("stream reaper: told {told} of maximum age to end");
                }
            }
            Ok(())
        })?;
        Ok(Reaper { _thread: thread })
    }
}
