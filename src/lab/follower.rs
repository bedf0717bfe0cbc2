//! Follows a running server: a thread polls its control server for the timeline, and keeps a [`Record`] up to date.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ninetabs_server::threads::{SpawnError, StoppableThread};

use super::http;
use super::record::Record;

/// The interval of the requests to the control server.
const ASK_EVERY: Duration = Duration::from_millis(40);
/// How long the control server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Keeps a [`Record`] up to date until it is dropped.
#[derive(Debug)]
pub struct RecordFollower {
    followed: Arc<Mutex<FollowedRecord>>,
    _thread: StoppableThread,
}

/// The record, and when its newest part arrived.
#[derive(Debug)]
struct FollowedRecord {
    record: Record,
    at: Instant,
}

impl RecordFollower {
    /// Follows the server whose control server is at this address (`http://…`).
    pub fn start(control: &str) -> Result<RecordFollower, SpawnError> {
        let followed = Arc::new(Mutex::new(FollowedRecord { record: Record::default(), at: Instant::now() }));
        let (to, control) = (Arc::clone(&followed), control.to_owned());
        let thread = StoppableThread::start("follower", move |stop| {
            while stop.sleep(ASK_EVERY) {
                let last_seq = lock(&to).record.last_seq();
                // The server may have ended, which the act that uses it detects itself.
                let Ok(answer) = http::get(&format!("{control}/timeline?after={last_seq}"), ANSWER_WITHIN)
                else {
                    continue;
                };
                match serde_json::from_slice(&answer.body) {
                    Ok(excerpt) => {
                        let mut followed = lock(&to);
                        followed.record.take(excerpt);
                        followed.at = Instant::now();
                    }
                    Err(error) => log::warn!("cannot read {control}/timeline: {error}"),
                }
            }
        })?;
        Ok(RecordFollower { followed, _thread: thread })
    }

    /// Returns the result of `look` on the record so far. The follower waits until `look` returns.
    pub fn record<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&lock(&self.followed).record)
    }

    /// Estimates the server's current time. The estimate lags by the time that an answer takes to arrive.
    pub fn clock_us(&self) -> u64 {
        lock(&self.followed).clock_us()
    }

    /// Notes that the client with this port has just closed.
    pub fn client_closed(&self, port: u16) {
        let mut followed = lock(&self.followed);
        let at_us = followed.clock_us();
        followed.record.client_closed(port, at_us);
    }
}

impl FollowedRecord {
    fn clock_us(&self) -> u64 {
        self.record.now_us.saturating_add(u64::try_from(self.at.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // After a panic in the middle of an update, a story may lack a field, but its other fields are correct.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
