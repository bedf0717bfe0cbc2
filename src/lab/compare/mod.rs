//! Measures every fix under the same nine tabs, for `ninetabs compare`.
//!
//! Each row has its own server, started with the flags of its fix, and a second server on the same database, which acts
//! as "another program". All rows go through the same steps:
//!
//! 1. Nine tabs listen while rows are inserted, pages are requested, and rows are posted. One tab stops reading for a
//!    while.
//! 2. Another program writes.
//! 3. The server restarts, and a row is inserted in the meantime.
//! 4. Nine clients connect and never read.
//!
//! [`contenders`] has the rows, [`claims`] their claims, [`listeners`] the tabs, [`round`] the measurement, and
//! [`servers`] the servers. [`columns`], [`summary`] and [`report`] show the result. [`several`] measures the fixes whose
//! tabs hold no thread on several servers that share one database.

pub mod claims;
pub mod columns;
pub mod contenders;
mod figures;
pub mod listeners;
mod models;
pub mod report;
pub mod round;
pub mod servers;
pub mod several;
pub mod summary;
mod window;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use super::chromium::ChromiumError;
use super::claim::Claim;
use super::cluster::haproxy::HaProxyError;
use super::cluster::postgres::PostgresError;
use super::http::HttpError;
use super::interrupt::Interrupted;
use super::scratch::ScratchError;
use super::stage::Scene;
use super::subject::SubjectError;
use super::tab::TabError;
use ninetabs_server::threads::SpawnError;
use several::{Several, SeveralFigures};

/// The pace of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct ComparePace {
    pub update_rate: Duration,
    pub produce_every: Duration,
    pub max_stream_age: Duration,
    pub reap_every: Duration,
    pub retry: Duration,
    /// How long the tabs are watched.
    pub window: Duration,
    /// A pool that is not free after this time counts as never free.
    pub patience: Duration,
}

impl ComparePace {
    /// The article's pace: an update every two seconds.
    pub const ARTICLE: ComparePace = ComparePace {
        update_rate: Duration::from_secs(2),
        produce_every: Duration::from_millis(500),
        max_stream_age: Duration::from_secs(4),
        reap_every: Duration::from_millis(500),
        retry: Duration::from_secs(1),
        window: Duration::from_secs(12),
        patience: Duration::from_secs(30),
    };
    /// Shorter times, and each row is watched for less time.
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

/// The fixes to compare, and the settings of the comparison.
#[derive(Debug, Clone)]
pub struct ComparePlan {
    /// The program to start as the servers.
    pub program: PathBuf,
    pub tabs: usize,
    pub pace: ComparePace,
    /// `None` measures each fix on one server.
    pub several: Option<Several>,
}

/// How often a row is posted.
pub const POST_EVERY: Duration = Duration::from_millis(500);
/// Threads of each pool, unless a fix sets another number.
pub const THREADS: usize = 8;

/// Why a row could not be measured.
#[derive(Debug, Error)]
pub enum CompareError {
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Subject(SubjectError),
    #[error("cannot open a tab: {0}")]
    Tab(#[from] TabError),
    #[error("cannot send a request: {0}")]
    Http(#[from] HttpError),
    #[error("cannot drive the browser: {0}")]
    Browser(ChromiumError),
    #[error(transparent)]
    Thread(#[from] SpawnError),
    #[error(transparent)]
    NoFolder(#[from] ScratchError),
    #[error("cannot create a model: the server answered {0}")]
    NoModel(u16),
    #[error(transparent)]
    Postgres(PostgresError),
    #[error(transparent)]
    HaProxy(#[from] HaProxyError),
    #[error("cannot kill a server: {0}")]
    NotKilled(io::Error),
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

impl From<PostgresError> for CompareError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Interrupted => CompareError::Interrupted,
            error => CompareError::Postgres(error),
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

/// Median and p99. Either is `None` if the value of that rank never arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

/// The measured values of one fix. `None` if a value never arrived, or does not exist for the fix.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    pub fix: &'static str,
    /// Tabs that received rows while they were watched.
    pub tabs_live: Option<usize>,
    /// Latency of a page, in milliseconds.
    pub page_ms: Spread,
    pub pool_threads_held: Option<u64>,
    /// Additional action threads, with `--live rails` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_threads: Option<u64>,
    pub os_threads: Option<u64>,
    pub connections: Option<u64>,
    pub queries_per_s: Option<f64>,
    /// From the commit of a row to its arrival in a tab, in milliseconds.
    pub event_ms: Spread,
    /// Seconds until the pool is free again, although nine clients that never read stay connected.
    pub pool_free_s: Option<f64>,
    pub missed: Option<usize>,
    pub repeated: Option<usize>,
    pub db_connections_held: Option<u64>,
    /// The longest time from the commit of a posted row to its answer, in milliseconds.
    pub sender_worst_ms: Option<f64>,
    /// Seconds from the order to restart until every tab has received a row again.
    pub blind_s: Option<f64>,
    /// How many rows a tab never received because of the restart: the largest number of any tab.
    pub lost_over_restart: Option<usize>,
    pub stop_ends: Option<bool>,
    pub outside_writer_seen: Option<bool>,
    /// The further values of a row that was measured on several servers.
    #[serde(flatten)]
    pub several: Option<SeveralFigures>,
    /// Which value is missing, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    pub claims: Vec<Claim>,
    /// What the server recorded while the tabs were watched.
    #[serde(skip)]
    pub scene: Option<Scene>,
}

impl Row {
    /// Whether every claim held.
    pub fn held(&self) -> bool {
        self.claims.iter().all(|claim| claim.held)
    }

    /// Whether it was measured. Only a measured row has claims.
    pub fn is_measured(&self) -> bool {
        !self.claims.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::claim::Claims;

    pub fn plan() -> ComparePlan {
        ComparePlan { program: "ninetabs".into(), tabs: 9, pace: ComparePace::ARTICLE, several: None }
    }

    /// Two rows on three servers, one of which lost a row.
    pub fn on_several() -> (ComparePlan, [Row; 2]) {
        let engine = several::SharedEngine::Sqlite3;
        let plan = ComparePlan { several: Some(Several { servers: 3, engine }), ..plan() };
        let cross_server_ms = several::CrossDelay { p50: Some(1.9), max: Some(11017.2) };
        let figures = SeveralFigures {
            cross_server_ms,
            tabs_of_killed_server: 3,
            moved_tabs: Some(3),
            ..SeveralFigures::default()
        };
        let [lost, push] = rows();
        let row = |row, several| Row { repeated: Some(0), several: Some(several), ..row };
        let later = several::CrossDelay { p50: Some(2.5), ..cross_server_ms };
        let with_loss = SeveralFigures { lost: 2, moved_tabs: None, cross_server_ms: later, ..figures };
        (plan, [row(lost, with_loss), row(push, figures)])
    }

    /// One row that exhausts its pool, and one that holds no thread.
    pub fn rows() -> [Row; 2] {
        let claims = |held| {
            let mut claims = Claims::default();
            claims.push("a page & more", "no answer", "3.0 ms", held);
            claims.into_vec()
        };
        let naive = Row {
            fix: "naive",
            tabs_live: Some(8),
            pool_threads_held: Some(8),
            event_ms: Spread { p50: Some(1012.5), p99: None },
            stop_ends: Some(true),
            claims: claims(false),
            ..Row::default()
        };
        let push = Row {
            fix: "push",
            tabs_live: Some(9),
            pool_threads_held: Some(0),
            page_ms: Spread { p50: Some(0.6), p99: Some(1.5) },
            event_ms: Spread { p50: Some(1.2), p99: Some(4.0) },
            queries_per_s: Some(4.0),
            stop_ends: Some(true),
            claims: claims(true),
            ..Row::default()
        };
        [naive, push]
    }
}
