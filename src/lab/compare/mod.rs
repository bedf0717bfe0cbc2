//! Every fix under the same nine tabs, side by side: what `ninetabs compare` runs.
//!
//! Each row is a server of its own, started as its fix wants it, with another one beside it on
//! the same database, which is "another program" to the first. Then the same is done to all:
//! nine tabs listen while models are made; pages are asked for and models posted meanwhile, and one
//! tab stops reading for a while; another program writes; the server is restarted, with a
//! model written while it is away; and nine clients ask and never read. What each row claims
//! is in [`contenders`], who listens in [`listeners`], how it is measured in [`round`], on which
//! [`servers`].

pub mod contenders;
pub mod listeners;
pub mod report;
pub mod round;
pub mod servers;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use super::chromium::ChromiumError;
use super::claim::Claim;
use super::http::HttpError;
use super::interrupt::Interrupted;
use super::record::Record;
use super::scratch::ScratchError;
use super::subject::SubjectError;
use super::tab::TabError;
use ninetabs_server::threads::SpawnError;

/// How fast everything goes.
#[derive(Debug, Clone, Copy)]
pub struct ComparePace {
    pub update_rate: Duration,
    pub produce_every: Duration,
    pub max_stream_age: Duration,
    pub reap_every: Duration,
    pub retry: Duration,
    /// How long the tabs are watched.
    pub window: Duration,
    /// How long a pool may take to be free, until it counts as never.
    pub patience: Duration,
}

impl ComparePace {
    /// The seed's: an update every two seconds.
    pub const SEED: ComparePace = ComparePace {
        update_rate: Duration::from_secs(2),
        produce_every: Duration::from_millis(500),
        max_stream_age: Duration::from_secs(4),
        reap_every: Duration::from_millis(500),
        retry: Duration::from_secs(1),
        window: Duration::from_secs(12),
        patience: Duration::from_secs(30),
    };
    /// As fast as the fixes' own two seconds between two answers let it be.
    pub const FAST: ComparePace = ComparePace {
        update_rate: Duration::from_millis(500),
        produce_every: Duration::from_millis(200),
        max_stream_age: Duration::from_secs(1),
        reap_every: Duration::from_millis(100),
        retry: Duration::from_millis(300),
        window: Duration::from_secs(5),
        patience: Duration::from_secs(6),
    };
}

/// What is compared with what.
#[derive(Debug, Clone)]
pub struct ComparePlan {
    /// The program to start as the servers.
    pub program: PathBuf,
    pub tabs: usize,
    pub pace: ComparePace,
}

/// How often a model is posted.
pub const POST_EVERY: Duration = Duration::from_millis(500);
/// Threads of each pool, where a fix does not say otherwise.
pub const THREADS: usize = 8;

/// Why a row did not come to its end.
#[derive(Debug, Error)]
pub enum CompareError {
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Subject(SubjectError),
    #[error("a tab could not be opened: {0}")]
    Tab(#[from] TabError),
    #[error("a request could not be sent: {0}")]
    Http(#[from] HttpError),
    #[error("the browser could not be driven: {0}")]
    Browser(ChromiumError),
    #[error(transparent)]
    Thread(#[from] SpawnError),
    #[error(transparent)]
    NoFolder(#[from] ScratchError),
    #[error("the other server made no model: it answered {0}")]
    NoModel(u16),
}

impl From<Interrupted> for CompareError {
    fn from(Interrupted: Interrupted) -> Self {
        CompareError::Interrupted
    }
}

impl From<SubjectError> for CompareError {
    fn from(error: SubjectError) -> Self {
        match error {
            SubjectError::Interrupted => CompareError::Interrupted,
            error => CompareError::Subject(error),
        }
    }
}

impl From<ChromiumError> for CompareError {
    fn from(error: ChromiumError) -> Self {
        match error {
            ChromiumError::Interrupted => CompareError::Interrupted,
            error => CompareError::Browser(error),
        }
    }
}

/// Median and p99; none where that many did not come at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

/// What was measured of one fix. None is what it cannot have, or what did not come.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    pub fix: &'static str,
    /// Tabs that got models while they were watched.
    pub tabs_live: Option<usize>,
    /// A page, in milliseconds.
    pub page_ms: Spread,
    pub pool_threads_held: Option<u64>,
    pub os_threads: Option<u64>,
    pub connections: Option<u64>,
    pub queries_per_s: Option<f64>,
    /// From a model's commit to its arrival in a tab, in milliseconds.
    pub event_ms: Spread,
    /// Seconds from nine clients that ask and never read to a pool that is free again.
    pub pool_free_s: Option<f64>,
    pub missed: Option<usize>,
    pub repeated: Option<usize>,
    pub db_connections_held: Option<u64>,
    /// From a posted model's commit to its answer, at worst.
    pub sender_worst_ms: Option<f64>,
    /// From the order to restart to the last tab's first model after it.
    pub blind_s: Option<f64>,
    /// Models that some tab never got, of those around the restart.
    pub lost_over_restart: Option<usize>,
    pub stop_ends: Option<bool>,
    pub outside_writer_seen: Option<bool>,
    /// What is missing, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    pub claims: Vec<Claim>,
    /// What the server recorded while the tabs were watched, and since when it is to be drawn.
    #[serde(skip)]
    pub record: Option<(Record, u64)>,
}

impl Row {
    /// Whether every claim held.
    pub fn held(&self) -> bool {
        self.claims.iter().all(|claim| claim.held)
    }
}
