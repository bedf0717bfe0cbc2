//! Follows a server while it runs: a thread asks its control server for the timeline again and again, and keeps
//! the [`Record`] of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ninetabs_server::threads::{SpawnError, StoppableThread};

use super::http;
use super::record::Record;

/// How often the control server is asked.
const ASK_EVERY: Duration = Duration::from_millis(40);
/// How long it may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Keeps a [`Record`] up to date until it is dropped.
#[derive(Debug)]
pub struct RecordFollower {
    record: Arc<Mutex<Record>>,
    /// When the last answer came.
    heard_at: Arc<Mutex<Instant>>,
    _thread: StoppableThread,
}

impl RecordFollower {
    /// Follows the server whose control server is at this address (`http://…`).
    pub fn start(control: &str) -> Result<RecordFollower, SpawnError> {
        let record = Arc::new(Mutex::new(Record::default()));
        let heard_at = Arc::new(Mutex::new(Instant::now()));
        let (to, control) = (Arc::clone(&record), control.to_owned());
        let heard = Arc::clone(&heard_at);
        let thread = StoppableThread::start("follower", move |stop| {
            while stop.sleep(ASK_EVERY) {
                let last_seq = lock(&to).last_seq();
                // The act that waits for the server notices that it has ended.
                let Ok(answer) = http::get(&format!("{control}/timeline?after={last_seq}"), ANSWER_WITHIN)
                else {
                    continue;
                };
                match serde_json::from_slice(&answer.body) {
                    Ok(excerpt) => {
                        *lock(&heard) = Instant::now();
                        lock(&to).take(excerpt);
                    }
                    Err(error) => log::warn!("{control}/timeline: {error}"),
                }
            }
        })?;
        Ok(RecordFollower { record, heard_at, _thread: thread })
    }

    /// The record so far. The follower waits while the guard is kept.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    /// The server's clock at this moment, late by the way of one answer.
    pub fn clock_us(&self) -> u64 {
        let record = self.record();
        let since = lock(&self.heard_at).elapsed();
        record.now_us.saturating_add(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Notes that the client with this port has just closed.
    pub fn client_closed(&self, port: u16) {
        let at_us = self.clock_us();
        self.record().client_closed(port, at_us);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // After a panic in the middle of an update a story may lack a field, but holds no wrong one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
