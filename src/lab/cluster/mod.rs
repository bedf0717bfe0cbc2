//! Several servers on one database, a balancer before them, and tabs that check what arrives: `ninetabs cluster`.
//!
//! [`postgres`] is a PostgreSQL of this process, [`haproxy`] the balancer, and [`servers`] the servers. Each of them is
//! started again if it ends, as a supervisor of services would do it, so that any of them may be killed while tabs
//! listen. [`deliveries`] counts which tab received which model; [`run`] puts all of it together.
//!
//! Everything ends with this process, however it ends.

pub mod deliveries;
pub mod haproxy;
pub mod postgres;
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
use postgres::PostgresError;

/// Where the models are.
#[derive(Clone)]
pub enum ClusterDatabase {
    /// A PostgreSQL that is started and ended with the servers.
    PrivatePostgres,
    /// The URL of a PostgreSQL database, which may contain a password.
    Url(String),
    /// A file that is removed in the end.
    TemporaryFile,
}

/// What is started.
#[derive(Clone)]
pub struct ClusterPlan {
    /// The program to start as the servers.
    pub program: PathBuf,
    pub servers: usize,
    pub tabs: usize,
    pub database: ClusterDatabase,
    /// Flags of every server.
    pub server_flags: Vec<String>,
    /// How long the tabs listen. `None`: until an interrupt.
    pub duration: Option<Duration>,
}

/// Why the cluster could not be started, or could not go on.
#[derive(Debug, Error)]
pub enum ClusterError {
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Postgres(PostgresError),
    #[error(transparent)]
    HaProxy(#[from] HaProxyError),
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
    #[error("server {number} did not create a model: it answered {answered}")]
    NotCreated { number: usize, answered: String },
    #[error(transparent)]
    Thread(#[from] SpawnError),
    #[error("cannot watch {program}: {error}")]
    Watch { program: &'static str, error: io::Error },
    /// What happens cannot be printed.
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

/// What happens, as it happens.
#[derive(Debug)]
pub enum ClusterNews {
    /// A line that stays.
    Line(String),
    /// The numbers of this moment, which replace those before.
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
    /// How many times tabs connected again.
    pub reconnects: u64,
    pub deliveries: Vec<Delivery>,
    pub claims: Vec<Claim>,
    pub held: bool,
}
