//! `ninetabs cluster`: several servers on one database, a balancer in front of them, and tabs that check what arrives.
//!
//! [`postgres`] is a private PostgreSQL (`engine_user` is the user that runs it, and `engine_end` ends it), [`haproxy`]
//! is the balancer, and [`servers`] are the servers. Each of them is restarted if it ends, as by a service supervisor,
//! so that any of them can be killed while tabs listen. [`deliveries`] counts which tab received which model. [`run`]
//! connects all parts. [`psql`] runs statements beside the servers, and [`pooler`] is PgBouncer, both for the acts.
//!
//! All started processes end with this one, however it ends.

pub mod deliveries;
mod engine_end;
mod engine_user;
pub mod haproxy;
pub mod pooler;
pub mod postgres;
pub mod psql;
pub mod run;
pub mod servers;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ninetabs_server::threads::SpawnError;
use serde::Serialize;
use thiserror::Error;

use super::claim::Claim;
use super::interrupt::Interrupted;
use super::scratch::ScratchError;
use super::subject::SubjectError;
use super::tab::TabError;
use deliveries::Delivery;
use haproxy::HaProxyError;
use pooler::PoolerError;
use postgres::PostgresError;

/// Where the models are stored.
#[derive(Clone)]
pub enum ClusterDatabase {
    /// A private PostgreSQL that starts and ends with the servers.
    PrivatePostgres,
    /// The URL of a PostgreSQL database, which may contain a password.
    Url(String),
    /// A file that is removed at the end.
    TemporaryFile,
}

/// What to start.
#[derive(Clone)]
pub struct ClusterPlan {
    /// The program to start as the servers.
    pub program: PathBuf,
    pub servers: usize,
    pub tabs: usize,
    pub database: ClusterDatabase,
    /// Flags of every server.
    pub server_flags: Vec<String>,
    /// How long the tabs listen. `None` means until an interrupt.
    pub duration: Option<Duration>,
}

/// Why the cluster could not start, or had to stop.
#[derive(Debug, Error)]
pub enum ClusterError {
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Postgres(PostgresError),
    #[error(transparent)]
    HaProxy(#[from] HaProxyError),
    #[error(transparent)]
    Pooler(PoolerError),
    #[error("server {number}: {error}")]
    Server { number: usize, error: SubjectError },
    #[error(transparent)]
    Subject(SubjectError),
    #[error(transparent)]
    NoFolder(#[from] ScratchError),
    #[error("cannot open a tab: {0}")]
    Tab(#[from] TabError),
    #[error("server 1 does not answer with the models")]
    NoModels,
    #[error("cannot create a model: server {number} answered {answered}")]
    NotCreated { number: usize, answered: String },
    #[error(transparent)]
    Thread(#[from] SpawnError),
    #[error("cannot watch {program}: {error}")]
    Watch { program: &'static str, error: io::Error },
    /// An event cannot be printed.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl From<Interrupted> for ClusterError {
    fn from(Interrupted: Interrupted) -> Self {
        ClusterError::Interrupted
    }
}

impl From<SubjectError> for ClusterError {
    fn from(error: SubjectError) -> Self {
        match error {
            SubjectError::Interrupted => ClusterError::Interrupted,
            error => ClusterError::Subject(error),
        }
    }
}

impl From<PostgresError> for ClusterError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Interrupted => ClusterError::Interrupted,
            error => ClusterError::Postgres(error),
        }
    }
}

impl From<PoolerError> for ClusterError {
    fn from(error: PoolerError) -> Self {
        match error {
            PoolerError::Interrupted => ClusterError::Interrupted,
            error => ClusterError::Pooler(error),
        }
    }
}

/// An event of the run, reported immediately.
#[derive(Debug)]
pub enum ClusterNews {
    /// A line that stays.
    Line(String),
    /// The current numbers, which replace the previous ones.
    Numbers(String),
}

/// The result.
#[derive(Debug, Serialize)]
pub struct ClusterReport {
    pub servers: usize,
    pub tabs: usize,
    /// Seconds for which the tabs listened.
    pub seconds: f64,
    /// Models that at least one tab received.
    pub models: usize,
    /// How many times tabs reconnected.
    pub reconnects: u64,
    pub deliveries: Vec<Delivery>,
    pub claims: Vec<Claim>,
    pub held: bool,
}
