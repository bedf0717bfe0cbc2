//! The database engines. Only this module uses SQL and the crates of an engine.
//!
//! The rest of the app uses three traits:
//!
//! - a [`Session`] is one connection, which reads and creates models;
//! - an [`Adapter`] opens sessions, and checks whether the database's files are still in place;
//! - a [`Follower`] finds the commits of other programs.
//!
//! There are two engines: [`sqlite3`], and `postgresql` behind the feature of the same name. The tests have a third one
//! (`scripted`), whose answers follow a script. Every call may block for up to the timeout of its session, so the event
//! loop of the listeners does not make any.
//!
//! An id stands for "everything up to here", so an engine must make models visible in the order of their ids:
//! a session that sees a model also sees every model with a smaller id that any session will ever see.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crossbeam_channel::Receiver;
use thiserror::Error;

use ninetabs_server::threads::StopSignal;

use super::batch::{Batch, Limit};
use super::model::Model;
use super::table::Table;

mod engine;
#[cfg(feature = "postgresql")]
pub mod postgresql;
pub mod sqlite3;

pub use engine::{EngineStats, LockHolder};

/// One connection to the models.
pub trait Session: Send + fmt::Debug {
    /// Sets the maximum time that each later call waits for a lock or for an answer.
    fn set_timeout(&mut self, at_most: Duration) -> Result<(), Failure>;

    /// Makes every later call end early with [`Failure::Interrupted`] once this channel is disconnected. An engine
    /// whose calls cannot be interrupted ignores it.
    fn set_interrupt(&mut self, _ended: Option<&Receiver<Infallible>>) {}

    /// The newest models with a smaller id, or the newest models if no id is given, newest first.
    fn before(&mut self, id: Option<i64>, limit: Limit) -> Result<Batch, Failure>;

    /// The first models with a greater id, oldest first.
    fn next(&mut self, id: i64, limit: Limit) -> Result<Batch, Failure>;

    /// The newest models, oldest first.
    fn newest(&mut self, limit: Limit) -> Result<Batch, Failure> {
        let mut batch = self.before(None, limit)?;
        batch.models.reverse();
        Ok(batch)
    }

    /// `Model.models_since(time)` of the original app: models created after that time, or at that time with a
    /// greater id. Ordered by time, oldest first.
    fn models_since(&mut self, from: (i64, i64), limit: Limit) -> Result<Batch, Failure>;

    /// The greatest visible id, or a later one, such that no model up to this id becomes visible later. 0 before the
    /// first model.
    fn last_id(&mut self) -> Result<i64, Failure>;

    /// The last id that the table has assigned, whether or not its row still exists or is visible yet; 0 before the
    /// first. A greater id belongs to another table.
    fn last_number(&mut self) -> Result<i64, Failure> {
        self.last_id()
    }

    /// Creates a model. If `keep` is given, deletes all but the newest `keep` models; an engine may keep up to a
    /// tenth more, at most 100. Both are committed when this returns. After an error, the model may have been created
    /// nevertheless.
    fn create(&mut self, name: &str, keep: Option<u64>) -> Result<Model, Failure>;
}

/// Opens sessions of one database.
pub trait Adapter: Send + Sync + fmt::Debug {
    /// Opens a connection.
    fn connect(&self) -> Result<Box<dyn Session>, Failure>;

    /// Opens a connection that finds the commits of other programs.
    fn follow(&self) -> Result<Box<dyn Follower>, Failure>;

    /// Checks that the database's files are where they were when it was opened. The disappearance of the
    /// files is logged once, and so is their return. An engine without files has nothing to check.
    fn check_files(&self) -> Result<(), Gone> {
        Ok(())
    }

    /// The known state of the engine. Does not block.
    fn engine(&self) -> EngineStats;

    /// Sends an event to the other servers on this database, at most once. Does not block. Does nothing if the engine
    /// cannot send events.
    fn forward(&self, _name: &str, _data: &str) {}
}

/// Finds the commits of other programs, which do not run the hooks of this process.
pub trait Follower: Send {
    /// How long the thread sleeps between two calls of [`look`]. An engine that sends notifications of
    /// commits waits in [`look`] instead, for at most as long as a stop may take.
    ///
    /// [`look`]: Follower::look
    fn pause(&self) -> Duration;

    /// Returns how the table has changed since the last look that found a change. `known` was read before the
    /// call. The first look always returns a change, since another program may have written before it. A look that
    /// waits ends early at the signal.
    fn look(&mut self, known: Known, stop: &StopSignal) -> Result<Option<Change>, Failure>;
}

/// What this process knows about the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub table: Table,
    /// The last id that is known to be committed.
    pub newest: i64,
}

/// A change by another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Models up to this id are committed. An id that is already known changes nothing.
    Committed(i64),
    /// The table was replaced by another one.
    Replaced { table: Table, last_id: i64 },
    /// The ids of the table restarted, so the table has another number from now on.
    BeganAnew { table: Table, last_id: i64 },
    /// Another server has sent an event.
    Event { name: String, data: String },
}

/// A database that was opened.
#[derive(Debug)]
pub struct Opened {
    pub adapter: Box<dyn Adapter>,
    /// The first connection.
    pub session: Box<dyn Session>,
    pub table: Table,
    /// The last id that the table has assigned, 0 before the first.
    pub last_id: i64,
}

/// The engine's own error.
pub type EngineCause = Box<dyn Error + Send + Sync>;

/// Why an engine failed. A database that is refused when it is opened is not changed.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// The database cannot be used in its current state, or with the given settings. The text contains the remedy.
    #[error("{0}")]
    Setup(String),
    #[error("it is not a SQLite database")]
    NotADatabase,
    #[error("it is the database of another program")]
    Foreign,
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Long names are read without SQLite's conversion, so only UTF-8 works.
    #[error("its text is encoded as {0}, and only UTF-8 is supported")]
    Encoding(String),
    #[error(transparent)]
    Gone(#[from] Gone),
    /// Another connection held the lock for longer than the timeout.
    #[error("{0}")]
    Busy(EngineCause),
    /// The connection was lost or could not be established.
    #[error("{0}")]
    Lost(EngineCause),
    /// The engine does not accept another connection.
    #[error("{0}")]
    Full(EngineCause),
    /// The engine has no space or memory left. The connection can still be used.
    #[error("{0}")]
    Exhausted(EngineCause),
    /// The engine did not answer within this time.
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The action that waited was interrupted.
    #[error("the wait for an answer was interrupted")]
    Interrupted,
    /// A model was created, but it may be lost if this server of the engine is lost.
    #[error("the model may not be stored safely: {0}")]
    Unconfirmed(String),
    #[error("another program has used the greatest possible id ({}); {remedy}", i64::MAX)]
    OutOfIds { remedy: &'static str },
    /// Any other error.
    #[error("{0}")]
    Refused(EngineCause),
}

impl Failure {
    /// Returns whether the same call may succeed soon. The outcome of this one is unknown.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Failure::Busy(_)
                | Failure::Lost(_)
                | Failure::Full(_)
                | Failure::Exhausted(_)
                | Failure::TimedOut(_)
                | Failure::Interrupted
                | Failure::Unconfirmed(_)
        )
    }

    /// Whether the connection cannot be used after this failure.
    #[cfg(feature = "postgresql")]
    fn ends_the_connection(&self) -> bool {
        matches!(self, Failure::Lost(_) | Failure::TimedOut(_) | Failure::Interrupted)
    }
}

/// The database's file, or one beside it, is not the one that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("its file is gone")]
pub struct Gone;

#[cfg(test)]
pub(crate) mod scripted;
