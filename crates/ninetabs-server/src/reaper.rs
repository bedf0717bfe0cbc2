//! The stream reaper: one thread that ends each stream which has reached its age.
//!
//! To a loop that writes, a client that stays and does not read looks like an
//! audience; only an age frees its thread for certain. At every round the reaper
//! tells those that are due. It does not wait for them: a stream that sleeps
//! leaves at once, and a write that is blocked is cut. So no stream is older than
//! `max_age + reap_every` and a scheduling delay. Where the front door hides its
//! sockets (tiny-http) a stream that is writing leaves after that write only, which
//! lasts at most for the write timeout.

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
