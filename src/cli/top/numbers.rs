//! The numbers of `/stats` of a ninetabs, a Puma, or a cluster of Pumas.
//!
//! Any number may be missing: Puma 5 does not report `busy_threads`, a worker that has just booted reports nothing,
//! and only a ninetabs reports streams and a database.

use serde::Deserialize;

/// An answer of `/stats`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct StatsAnswer {
    pub started_at: String,
    #[serde(flatten)]
    pub pool: Pool,
    pub versions: VersionsAnswer,
    /// Only from a ninetabs.
    pub streams: Option<StreamsAnswer>,
    /// Only from a ninetabs.
    pub database: Option<DatabaseAnswer>,
    /// Only from a ninetabs.
    pub connections: Option<ConnectionsAnswer>,
    /// From a ninetabs, the most serious first. For a Puma, [`super::full_pool`] adds its own.
    pub warnings: Vec<WarningAnswer>,
    /// The workers of a cluster, which reports no other numbers.
    pub worker_status: Option<Vec<WorkerAnswer>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Pool {
    pub backlog: Option<u64>,
    pub running: Option<u64>,
    pub pool_capacity: Option<u64>,
    pub busy_threads: Option<u64>,
    pub io_threads: Option<u64>,
    pub max_threads: Option<u64>,
    pub requests_count: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VersionsAnswer {
    pub puma: Option<String>,
    pub ninetabs: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct StreamsAnswer {
    pub open: u64,
    pub opened: u64,
    pub disconnected: u64,
    pub reaped: u64,
    pub refused: u64,
    pub oldest_age_s: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DatabaseAnswer {
    pub size: u64,
    pub busy: u64,
    pub waiting: u64,
    pub checkout_timeouts: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConnectionsAnswer {
    pub open: Option<u64>,
}

/// What is wrong with a server, and the remedy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WarningAnswer {
    pub text: String,
    pub remedy: String,
}

impl WarningAnswer {
    /// Both, in one line.
    pub fn whole(&self) -> String {
        format!("{} {}", self.text, self.remedy).trim().to_owned()
    }
}

/// A process of Puma's cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WorkerAnswer {
    pub pid: u64,
    pub index: u64,
    pub phase: u64,
    pub booted: bool,
    pub last_status: Pool,
}

impl StatsAnswer {
    /// Whether this is an answer of a Puma or a ninetabs: each of them reports at least one of these numbers.
    pub fn are_a_pumas(&self) -> bool {
        self.pool != Pool::default() || self.worker_status.is_some()
    }

    /// The pool's numbers. For a cluster, they are the sums over its workers.
    pub fn whole(&self) -> Pool {
        let Some(workers) = &self.worker_status else { return self.pool };
        workers.iter().fold(Pool::default(), |sum, worker| sum.and(&worker.last_status))
    }
}

impl Pool {
    /// Threads that cannot take a request: Puma reports the maximum, and how many can.
    pub fn taken(&self) -> Option<u64> {
        Some(self.max_threads?.saturating_sub(self.pool_capacity?))
    }

    fn and(&self, other: &Pool) -> Pool {
        let sum =
            |a: Option<u64>, b: Option<u64>| a.map_or(b, |a| Some(a.saturating_add(b.unwrap_or_default())));
        Pool {
            backlog: sum(self.backlog, other.backlog),
            running: sum(self.running, other.running),
            pool_capacity: sum(self.pool_capacity, other.pool_capacity),
            busy_threads: sum(self.busy_threads, other.busy_threads),
            io_threads: sum(self.io_threads, other.io_threads),
            max_threads: sum(self.max_threads, other.max_threads),
            requests_count: sum(self.requests_count, other.requests_count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stats_of_a_single_puma_5_process_are_read() {
        let said = r#"{"started_at":"2026-11-25T23:19:25Z","backlog":1,"running":2,"pool_capacity":0,"max_threads":2,"requests_count":7}"#;
        let stats: StatsAnswer = serde_json::from_str(said).unwrap();
        let pool = stats.whole();
        assert_eq!((pool.taken(), pool.backlog, pool.busy_threads), (Some(2), Some(1), None));
        assert!(stats.are_a_pumas());
        assert_eq!((stats.versions.puma, stats.streams), (None, None));
    }

    #[test]
    fn the_stats_of_another_program_are_recognized() {
        let stats: StatsAnswer = serde_json::from_str(r#"{"uptime":7,"versions":{}}"#).unwrap();
        assert!(!stats.are_a_pumas());
    }

    #[test]
    fn the_numbers_of_a_cluster_are_the_sums_over_its_workers() {
        let said = r#"{"started_at":"2026-11-25T23:19:15Z","workers":2,"phase":0,"booted_workers":1,"old_workers":0,
            "worker_status":[
            {"started_at":"2026-11-25T23:19:15Z","pid":6930,"index":0,"phase":0,"booted":true,
             "last_checkin":"2026-11-25T23:19:21Z",
             "last_status":{"backlog":0,"running":2,"pool_capacity":1,"max_threads":2,"requests_count":3}},
            {"started_at":"2026-11-25T23:19:15Z","pid":6932,"index":1,"phase":0,"booted":true,
             "last_checkin":"2026-11-25T23:19:21Z",
             "last_status":{"backlog":4,"running":2,"pool_capacity":0,"max_threads":2,"requests_count":5}},
            {"started_at":"2026-11-25T23:19:15Z","pid":6934,"index":2,"phase":0,"booted":false,"last_status":{}}]}"#;
        let stats: StatsAnswer = serde_json::from_str(said).unwrap();
        let pool = stats.whole();
        assert!(stats.are_a_pumas());
        assert_eq!((pool.taken(), pool.max_threads, pool.backlog), (Some(3), Some(4), Some(4)));
        assert_eq!((pool.requests_count, pool.busy_threads), (Some(8), None));
    }
}
