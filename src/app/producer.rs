//! The producer: a thread that creates a model at a fixed interval, so that the streams have something to
//! send.
//!
//! It has its own database connection, so that it does not affect the pool that this program demonstrates.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::adapters::Failure;
use super::database::{CreateError, Database};
use ninetabs_server::log_limit::limited;
use ninetabs_server::services::Services;
use ninetabs_server::threads::{SpawnError, StoppableThread};

/// Why the producer cannot start.
#[derive(Debug, Error)]
pub enum ProducerError {
    #[error("the database answered: {0}")]
    Database(#[from] Failure),
    #[error(transparent)]
    Thread(#[from] SpawnError),
}

/// A pause of the producer, which ends after a given time.
#[derive(Debug, Default)]
pub struct Lull(Mutex<Option<Instant>>);

impl Lull {
    /// Begins a pause, or changes the end of the current one: it ends `time` from now.
    pub fn last(&self, time: Duration) {
        *self.until() = Instant::now().checked_add(time);
    }

    fn is_on(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        // The value is replaced as a whole, so a panic cannot leave it inconsistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. If this is dropped without [`Producer::stop`], the thread is signaled to end and the drop does
/// not wait for it.
#[derive(Debug)]
pub struct Producer {
    thread: StoppableThread,
}

impl Producer {
    /// Starts the thread. It creates a model at the interval `every`, and keeps the newest `keep` models.
    pub fn start(
        database: &Arc<Database>,
        services: &Services,
        every: Duration,
        keep: u64,
        lull: Arc<Lull>,
    ) -> Result<Producer, ProducerError> {
        let mut db = database.connect()?;
        let database = Arc::clone(database);
        let thread = services.spawn("producer", move |stop| {
            while stop.sleep(every) {
                if lull.is_on() {
                    continue;
                }
                let newest = db.last_id().unwrap_or(0);
                let name = format!("model {}", newest.saturating_add(1));
                match database.create(db.as_mut(), &name, keep) {
                    // The adapter has already logged this.
                    Ok(_) | Err(CreateError::Gone(_)) => {}
                    Err(error) => limited!(Error, "producer: {error}"),
                }
            }
            drop(db);
            Ok(())
        })?;
        Ok(Producer { thread })
    }

    /// Stops the thread, and blocks for at most this time until it has ended. Its write may be waiting for
    /// the lock of another program, and SQLite cannot interrupt that wait.
    pub fn stop(self, at_most: Duration) {
        if !self.thread.end_within(at_most) {
            log::warn!(
                "producer: a write is still waiting for the lock of another program; the stop does not wait for it"
            );
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.thread.leave();
    }
}
