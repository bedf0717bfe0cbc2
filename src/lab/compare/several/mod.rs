//! Measures a fix on several servers that share one database, for `ninetabs compare --servers N`.
//!
//! Each row goes through the same steps:
//!
//! 1. The tabs listen through a balancer, while models are created through one server. The delay until a model arrives
//!    at tabs of other servers is measured.
//! 2. One of the other servers is killed while models are created. Its tabs reconnect to the remaining servers.
//! 3. The ids that each tab has received are compared with the table.
//!
//! [`servers`] are the servers with their database and balancer, [`round`] is the measurement, and [`tally`] compares
//! the ids.

pub mod round;
pub mod servers;
pub mod tally;

use std::time::Duration;

use serde::Serialize;

use super::ComparePace;

/// The servers of each row.
#[derive(Debug, Clone, Copy)]
pub struct Several {
    /// The number of servers, at least 2.
    pub servers: usize,
    pub engine: SharedEngine,
}

impl Several {
    /// How long the tabs are watched before a server is killed. The kill takes the other half of the time.
    pub fn window(pace: &ComparePace) -> Duration {
        pace.window / 2
    }
}

/// The engine of the database that the servers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedEngine {
    /// A private PostgreSQL.
    Postgresql,
    /// A temporary file.
    Sqlite3,
}

impl SharedEngine {
    pub fn name(self) -> &'static str {
        match self {
            SharedEngine::Postgresql => "postgresql",
            SharedEngine::Sqlite3 => "sqlite3",
        }
    }
}

/// How a fix serves tabs of several servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fanout {
    /// Each server delivers a commit immediately, and queries the table once for all of its tabs.
    AtOnce,
    /// The tabs ask at each update, and the servers query the table for each tab.
    AskedForEach,
    /// The tabs ask at each update, and each server queries the table once per commit.
    AskedOnce,
}

/// The median and the maximum of a delay, in milliseconds. `None` if there was no delay to measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CrossDelay {
    pub p50: Option<f64>,
    pub max: Option<f64>,
}

/// The measured values that a row on one server does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SeveralFigures {
    /// From the answer to a create to the arrival of the model at a tab of another server.
    pub cross_server_ms: CrossDelay,
    /// Tabs whose last model before the kill came from the killed server.
    pub tabs_of_killed_server: usize,
    /// How many of these received a model after the kill.
    pub returned_tabs: usize,
    /// How many of these received it from another server. `None` if there is no balancer, because each tab then keeps
    /// the address of one server, and the killed server is started again.
    pub moved_tabs: Option<usize>,
    /// The other tabs.
    pub tabs_of_other_servers: usize,
    /// How many of these received a model that was created after the kill.
    pub undisturbed_tabs: usize,
    /// Models that a tab never received, over all tabs.
    pub lost: usize,
}
