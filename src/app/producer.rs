//! Something that happens: a thread that creates a model at every round, so that
//! the streams have something to tell.
//!
//! It has a database connection of its own, so that it is never in the way of
//! the pool that it is there to show.

use std::convert::Infallible;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use thiserror::Error;

use super::database::Database;
use super::model::Model;

/// Why nothing can be produced.
#[derive(Debug, Error)]
pub enum ProducerError {
    #[error("the database answered: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// The thread; it ends, and is joined, when this is dropped.
#[derive(Debug)]
pub struct Producer {
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Producer {
    /// Creates a model every `every`, keeping the newest `keep`.
    pub fn start(database: &Database, every: Duration, keep: u64) -> Result<Producer, ProducerError> {
        let mut db = database.connect()?;
        let (stop, stopped) = bounded(0);
        let thread = thread::Builder::new().name("producer".into()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                let newest = Model::newest_id(&db).unwrap_or(0);
                if let Err(error) = Model::create(&mut db, &format!("model {}", newest + 1), keep) {
                    log::error!("producer: {error}");
                }
            }
        })?;
        Ok(Producer { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported by the panic hook; a drop must not add one.
            let _ = thread.join();
        }
    }
}
