//! Something that happens: a thread that creates a model at every round, so that
//! the streams have something to tell.
//!
//! It has a database connection of its own, so that it is never in the way of
//! the pool that it is there to show.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use thiserror::Error;

use super::adapters::Failure;
use super::database::{CreateError, Database};
use ninetabs_server::log_limit::limited;
use ninetabs_server::services::Services;

/// Why nothing can be produced.
#[derive(Debug, Error)]
pub enum ProducerError {
    #[error("the database answered: {0}")]
    Database(#[from] Failure),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// A time without new models, which ends by itself.
#[derive(Debug, Default)]
pub struct Lull(Mutex<Option<Instant>>);

impl Lull {
    /// Begins one, or lengthens it: it ends after `time` from now.
    pub fn last(&self, time: Duration) {
        *self.until() = Instant::now().checked_add(time);
    }

    fn is_on(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() < until)
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        // The value is replaced whole, so a panic cannot leave half of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. Dropped without [`Producer::stop`] it is told to end, and not waited for.
#[derive(Debug)]
pub struct Producer {
    /// Given up: the order to end.
    stop: Sender<Infallible>,
    /// Disconnected when the thread has ended.
    ended: Receiver<Infallible>,
}

impl Producer {
    /// Creates a model every `every`, keeping the newest `keep`.
    pub fn start(
        database: &Arc<Database>,
        services: &Services,
        every: Duration,
        keep: u64,
        lull: Arc<Lull>,
    ) -> Result<Producer, ProducerError> {
        let mut db = database.connect()?;
        let database = Arc::clone(database);
        let (stop, stopped) = bounded(0);
        let (end, ended) = bounded::<Infallible>(0);
        services.spawn("producer", move || {
            // Dropped last, when the connection is closed, and also in a panic.
            let _end = end;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                if lull.is_on() {
                    continue;
                }
                let newest = db.last_id().unwrap_or(0);
                let name = format!("model {}", newest.saturating_add(1));
                match database.create(db.as_mut(), &name, keep) {
                    // Its own log line says so, once.
                    Ok(_) | Err(CreateError::Gone(_)) => {}
                    Err(error) => limited!(Error, "producer: {error}"),
                }
            }
            drop(db);
            Ok(())
        })?;
        Ok(Producer { stop, ended })
    }

    /// Tells it to end, and blocks until it has, at most for this time: its write may be
    /// waiting for another program's, and such a wait of SQLite's cannot be cut short.
    pub fn stop(self, at_most: Duration) {
        drop(self.stop);
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(at_most) {
            log::warn!("producer: its write still waits for another program's, and is left");
        }
    }
}
