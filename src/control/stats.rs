//! The control server's numbers, as JSON.
//!
//! The keys of Puma have Puma's order and meanings: the backlog counts as busy, and `backlog_max` is the
//! highest backlog since the last request for it.

use std::sync::Arc;

use serde::Serialize;

use super::beside::BesideShown;
use super::kernel_table::open_connections;
use super::laboratory;
use super::warnings::Warning;
use crate::app::adapters::EngineStats;
use crate::app::broadcaster::Broadcaster;
use crate::app::database::{self, Database};
use crate::front::AppServer;
use crate::timestamp;
use ninetabs_server::action_threads::{ActionThreadStats, ActionThreadView};
use ninetabs_server::event_loop::Counts;
use ninetabs_server::handle::{ServerStats, ThreadView};
use ninetabs_server::streams::{StreamStats, Streams};

/// The version of Puma that is modeled.
const PUMA: &str = "8.0.2";

#[derive(Serialize)]
pub(super) struct StatsJson {
    started_at: String,
    backlog: usize,
    running: usize,
    pool_capacity: usize,
    busy_threads: usize,
    io_threads: usize,
    backlog_max: usize,
    max_threads: usize,
    requests_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reactor_max: Option<usize>,
    versions: VersionsJson,
    streams: StreamStats,
    /// Only with `--live rails`.
    #[serde(skip_serializing_if = "Option::is_none")]
    live_threads: Option<ActionThreadStats>,
    pub database: database::Stats,
    connections: ConnectionsJson,
    /// Queries of the app since the start.
    queries: u64,
    /// How often a client requested rows that `--keep-models` had deleted, since the start.
    gaps: u64,
    listeners: Counts,
    pub engine: EngineStats,
    /// The most serious first. A viewer gets them beside the numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<Warning>>,
}

#[derive(Serialize)]
struct VersionsJson {
    puma: &'static str,
    ninetabs: &'static str,
}

/// tiny_http does not report its number of connections, so the kernel's count is used.
#[derive(Serialize)]
struct ConnectionsJson {
    open: Option<usize>,
    /// Maximum number of connections; null on tiny-http, which does not limit them.
    max: Option<usize>,
    /// Connections without a complete request that were closed because others needed their slots, since the start.
    evicted: u64,
    /// Bytes of answers that threads are writing and that the kernel has not taken yet.
    unsent_bytes: u64,
    /// Bytes of incomplete requests that no thread has taken; null on tiny-http.
    pending_bytes: Option<usize>,
    max_pending_bytes: Option<usize>,
}

/// The data of a viewer's `event: state`: see [`super::viewers`].
#[derive(Serialize)]
pub(super) struct StateJson {
    /// On the timeline's clock.
    pub now_us: u64,
    /// Identifies this run of the server: two runs can have the same `started_at`.
    pub server: Arc<str>,
    pub stats: StatsJson,
    pub threads: Vec<ThreadJson>,
    /// Connections that are idle or have sent no complete request; None if the front door hides them.
    pub reactor: Option<usize>,
    /// Connections that the kernel has completed and the server has not accepted; `None` if the kernel does
    /// not report it.
    pub listen_queue: Option<usize>,
    pub min: usize,
    pub max: usize,
    pub max_stream_age_s: Option<f64>,
    pub lab: laboratory::LabShown,
    /// The second server that was started last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<BesideShown>,
    /// The warnings, most serious first.
    pub warnings: Vec<Warning>,
}

pub(super) fn stats(
    server: &AppServer,
    live: &Streams,
    database: &Database,
    broadcaster: &Broadcaster,
    stats: ServerStats,
) -> StatsJson {
    StatsJson {
        started_at: timestamp::seconds(stats.started_at).to_string(),
        backlog: stats.pool.backlog,
        running: stats.pool.running,
        pool_capacity: stats.pool.pool_capacity,
        busy_threads: stats.pool.busy_threads,
        io_threads: stats.pool.io_threads,
        backlog_max: stats.pool.backlog_max,
        max_threads: stats.pool.max_threads,
        requests_count: stats.requests_count,
        reactor_max: stats.reactor_max,
        versions: VersionsJson { puma: PUMA, ninetabs: env!("CARGO_PKG_VERSION") },
        streams: live.stats(),
        live_threads: stats.action_threads,
        database: database.stats(),
        connections: ConnectionsJson {
            open: stats.connections.or_else(|| open_connections(server.addr())),
            max: server.max_connections(),
            evicted: stats.evicted,
            unsent_bytes: stats.unsent_bytes,
            pending_bytes: stats.pending_bytes.map(|pending| pending.held),
            max_pending_bytes: stats.pending_bytes.map(|pending| pending.most),
        },
        queries: database.queries(),
        gaps: database.gaps(),
        listeners: broadcaster.counts(),
        engine: database.engine(),
        warnings: None,
    }
}

#[derive(Serialize)]
pub(super) struct ThreadJson {
    name: String,
    state: &'static str,
    io_bound: bool,
    request: Option<u64>,
    connection: Option<u64>,
    /// The client's port.
    port: Option<u16>,
    path: Option<Arc<str>>,
    /// Seconds that it has held its request.
    age: Option<f64>,
    /// Bytes of the answer that the kernel has taken.
    bytes: Option<u64>,
    /// Its number on the timeline. Threads of actions are numbered separately.
    number: usize,
    /// The additional fields of an action's thread.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    action: Option<ActionJson>,
}

/// A thread of an action, with `--live rails`.
#[derive(Serialize)]
struct ActionJson {
    kind: &'static str,
    /// The pool thread that writes its answer; null if it is orphaned or idle.
    pool_thread: Option<usize>,
    /// How often the action has written.
    writes: Option<u64>,
}

impl ThreadJson {
    pub fn is_busy(&self) -> bool {
        self.request.is_some()
    }
}

pub(super) fn threads(threads: Vec<ThreadView>) -> Vec<ThreadJson> {
    threads
        .into_iter()
        .map(|thread| {
            let request = thread.request.as_ref();
            ThreadJson {
                name: thread.name,
                state: if request.is_some() { "busy" } else { "waiting" },
                io_bound: thread.io_bound,
                request: request.map(|it| it.subject.request),
                connection: request.map(|it| it.subject.connection),
                port: request.map(|it| it.subject.port),
                path: request.map(|it| it.target.clone()),
                age: request.map(|it| it.age.as_secs_f64()),
                bytes: request.map(|it| it.bytes),
                number: thread.number,
                action: None,
            }
        })
        .collect()
}

pub(super) fn action_threads(threads: Vec<ActionThreadView>) -> Vec<ThreadJson> {
    threads
        .into_iter()
        .map(|thread| {
            let action = thread.action.as_ref();
            let pool_thread = action.and_then(|it| it.pool_thread);
            ThreadJson {
                name: thread.name,
                state: match (action, pool_thread) {
                    (None, _) => "waiting",
                    (Some(_), Some(_)) => "attached",
                    (Some(_), None) => "orphaned",
                },
                io_bound: false,
                request: action.map(|it| it.subject.request),
                connection: action.map(|it| it.subject.connection),
                port: action.map(|it| it.subject.port),
                path: action.map(|it| Arc::clone(&it.target)),
                age: action.map(|it| it.age.as_secs_f64()),
                // The pool thread counts the bytes.
                bytes: None,
                number: thread.number,
                action: Some(ActionJson { kind: "action", pool_thread, writes: action.map(|it| it.writes) }),
            }
        })
        .collect()
}

#[derive(Serialize)]
pub(super) struct Backtrace {
    name: String,
    backtrace: [String; 1],
}

/// Models Puma's thread-backtraces, as far as one thread can inspect another: one line with what the thread does.
pub(super) fn thread_backtraces(server: &AppServer) -> Vec<Backtrace> {
    let doing = |thread: &ThreadView| match &thread.request {
        None => "waiting for work in todo".to_owned(),
        Some(it) => format!(
            "serving {}, request {} on connection {} from port {}, for {:.1} s, {} bytes written",
            it.target,
            it.subject.request,
            it.subject.connection,
            it.subject.port,
            it.age.as_secs_f64(),
            it.bytes
        ),
    };
    let backtrace = |thread: ThreadView| Backtrace {
        backtrace: [doing(&thread)],
        name: format!("Thread: {}", thread.name),
    };
    let acting = |thread: ActionThreadView| Backtrace {
        backtrace: [match &thread.action {
            None => "waiting for an action".to_owned(),
            Some(it) => format!(
                "running the action of {}, request {} on connection {}, for {:.1} s, {} writes, {}",
                it.target,
                it.subject.request,
                it.subject.connection,
                it.age.as_secs_f64(),
                it.writes,
                it.pool_thread
                    .map_or_else(|| "orphaned".to_owned(), |number| format!("attached to thread {number}"))
            ),
        }],
        name: format!("Thread: {}", thread.name),
    };
    let actions = server.action_threads().into_iter().map(acting);
    server.threads().into_iter().map(backtrace).chain(actions).collect()
}
