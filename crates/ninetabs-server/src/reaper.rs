//! The stream reaper: one thread that interrupts each stream that has reached its maximum age.
//!
//! A loop that writes cannot distinguish a stalled reader from an active one. Only a maximum age reliably frees the
//! thread. In each round, the reaper interrupts the streams that are due, and does not wait for them. A sleeping stream
//! ends immediately, and a blocked write is cut off. The age of a stream is therefore at most `max_age + reap_every`,
//! plus a scheduling delay, provided that its action sleeps or writes. An action that computes, or waits for anything
//! else, holds its thread until its next write. With a server that hides its sockets (tiny_http), a stream that is
//! writing ends after that write, which takes at most the write timeout.

use std::sync::Arc;
use std::time::Duration;

use crate::configuration::SHORTEST_ROUND;
use crate::services::Services;
use crate::streams::Streams;
use crate::threads::{SpawnError, StoppableThread};

/// The reaper's thread. It is stopped and joined when this is dropped.
#[derive(Debug)]
pub struct Reaper {
    _thread: StoppableThread,
}

impl Reaper {
    /// Starts the thread. It checks the streams at the interval `every`, but not more often than every
    /// [`SHORTEST_ROUND`].
    pub fn start(streams: Arc<Streams>, every: Duration, services: &Services) -> Result<Reaper, SpawnError> {
        let every = every.max(SHORTEST_ROUND);
        let thread = services.spawn("stream reaper", move |stop| {
            while stop.sleep(every) {
                let told = streams.reap_aged();
                if told > 0 {
                    let streams = if told == 1 { "stream" } else { "streams" };
                    log::info!("stream reaper: interrupted {told} {streams} at the maximum age");
                }
            }
            Ok(())
        })?;
        Ok(Reaper { _thread: thread })
    }
}
