//! Follows a server while it runs: asks its control server for its timeline, again and
//! again on a thread of its own, and keeps the [`Record`] of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    _thread: StoppableThread,
}

impl RecordFollower {
    /// Follows the server whose control server is at this address (`http://…`).
    pub fn start(control: &str) -> Result<RecordFollower, SpawnError> {
        let record = Arc::new(Mutex::new(Record::default()));
        let (to, control) = (Arc::clone(&record), control.to_owned());
        let thread = StoppableThread::start("follower", move |stop| {
            while stop.sleep(ASK_EVERY) {
                let last_seq = lock(&to).last_seq();
                // A server that has gone is noticed by whoever waits for it.
                let Ok(answer) = http::get(&format!("{control}/timeline?after={last_seq}"), ANSWER_WITHIN)
                else {
                    continue;
                };
                match serde_json::from_slice(&answer.body) {
                    Ok(excerpt) => lock(&to).take(excerpt),
                    Err(error) => log::warn!("{control}/timeline: {error}"),
                }
            }
        })?;
        Ok(RecordFollower { record, _thread: thread })
    }

    /// What is known now. Holds the follower up while it is kept.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    // A panic while it is taken in leaves a story short of a field, never wrong.
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
