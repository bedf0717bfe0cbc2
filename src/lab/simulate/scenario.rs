//! A scenario: how many tabs, on which servers, for how long, and which faults at which time.

use std::ops::RangeInclusive;
use std::time::Duration;

use ninetabs_server::rules::PoolSize;
use serde::Serialize;

use super::costs::StepCosts;
use super::pool::Flaw;

/// The maximum number of tabs.
pub const MOST_TABS: u32 = 10_000_000;
/// The maximum number of servers.
pub const MOST_SERVERS: u16 = 1_000;

/// How the balancer chooses a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The server with the fewest connections, including queued ones.
    LeastConnections,
    /// Each server in turn.
    RoundRobin,
}

/// The holder of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// A pool thread, as in the original controller.
    Thread,
    /// The event loop, as with the fix `push`: the stream leaves the pool once it is open.
    EventLoop,
}

/// How a server detects that the client of a stream has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noticed {
    /// By the second write after the close.
    BySecondWrite,
    /// Immediately.
    ByPoll,
}

/// A time for which a server is unavailable. Servers are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    pub server: u16,
    pub from: Duration,
    /// `None` if the server does not return.
    pub until: Option<Duration>,
}

/// Describes a run.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub tabs: u32,
    pub servers: u16,
    pub threads: PoolSize,
    pub held_by: HeldBy,
    pub max_stream_age: Option<Duration>,
    pub max_stream_age_jitter: f64,
    pub reap_every: Duration,
    pub retry: Duration,
    pub update_rate: Duration,
    /// The interval of new rows.
    pub produce_every: Option<Duration>,
    pub noticed: Noticed,
    pub auto_trim_time: Duration,
    pub pages_per_second: f64,
    /// The time within which all tabs are opened.
    pub open_within: Duration,
    /// The mean time after which the network cuts a tab's connection.
    pub cut_every: Option<Duration>,
    pub balance: Balance,
    /// How long the balancer takes to detect that a server does not answer, or answers again.
    pub check: Duration,
    /// Servers that are killed. Their clients see their connections close.
    pub killed: Vec<Outage>,
    /// Servers that are stopped. Their clients see nothing.
    pub stopped: Vec<Outage>,
    /// The times in which the database answers no query.
    pub engine_gone: Vec<(Duration, Duration)>,
    /// How long a query waits for the database at most.
    pub query_timeout: Duration,
    /// The simulated time.
    pub length: Duration,
    pub seed: u64,
    pub flaw: Option<Flaw>,
    pub costs: StepCosts,
}

impl Default for Scenario {
    /// The defaults of `serve`, and nine tabs.
    fn default() -> Scenario {
        Scenario {
            tabs: 9,
            servers: 1,
            threads: size(8..=8),
            held_by: HeldBy::Thread,
            max_stream_age: None,
            max_stream_age_jitter: 0.1,
            reap_every: Duration::from_secs(1),
            retry: Duration::from_secs(3),
            update_rate: Duration::from_secs(2),
            produce_every: Some(Duration::from_secs(1)),
            noticed: Noticed::BySecondWrite,
            auto_trim_time: Duration::from_secs(30),
            pages_per_second: 1.0,
            open_within: Duration::from_secs(1),
            cut_every: None,
            balance: Balance::LeastConnections,
            check: Duration::from_secs(1),
            killed: Vec::new(),
            stopped: Vec::new(),
            engine_gone: Vec::new(),
            query_timeout: Duration::from_secs(5),
            length: Duration::from_secs(600),
            seed: 1,
            flaw: None,
            costs: StepCosts::default(),
        }
    }
}

/// A pool size that is known to be valid.
fn size(threads: RangeInclusive<usize>) -> PoolSize {
    ninetabs_server::rules::pool_size(threads).unwrap_or_else(|error| unreachable!("{error}"))
}

impl Scenario {
    /// The threads of all servers together.
    pub fn all_threads(&self) -> u64 {
        self.threads.max() as u64 * u64::from(self.servers)
    }

    /// Whether the run contains faults.
    pub fn has_faults(&self) -> bool {
        let faults = self.killed.len() + self.stopped.len() + self.engine_gone.len();
        faults > 0 || self.cut_every.is_some()
    }
}
