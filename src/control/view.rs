//! Everything that can be read from a running server, in one place.

use std::process;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::laboratory::Laboratory;
use super::stats::{self, StateJson, StatsJson, ThreadJson};
use super::warnings::{WarningInput, Watcher, warnings};
use crate::app::broadcaster::Broadcaster;
use crate::app::database::Database;
use crate::front::AppServer;
use ninetabs_server::Streams;
use ninetabs_server::handle::ServerStats;
use ninetabs_server::services::Services;
use ninetabs_server::timeline::{Timeline, What};

/// The server and its parts.
#[derive(Clone)]
pub struct View {
    pub(super) server: Arc<AppServer>,
    pub(super) live: Arc<Streams>,
    pub(super) database: Arc<Database>,
    pub(super) broadcaster: Arc<Broadcaster>,
    pub(super) timeline: Arc<Timeline>,
    pub(super) laboratory: Arc<Laboratory>,
    pub(super) services: Services,
    /// A word that no other run of a server has.
    pub(super) run: Arc<str>,
}

impl View {
    /// Creates a view of the app's server, to which the lab's clients connect.
    pub fn new(
        server: Arc<AppServer>,
        live: Arc<Streams>,
        database: Arc<Database>,
        broadcaster: Arc<Broadcaster>,
        timeline: Arc<Timeline>,
        services: Services,
    ) -> Self {
        let laboratory = Arc::new(Laboratory::new(server.addr()));
        View { server, live, database, broadcaster, timeline, laboratory, services, run: word_of_this_run() }
    }

    /// The stats for pumactl. Reading them restarts the numbers that count since the last such request.
    pub(super) fn stats(&self) -> StatsJson {
        self.stats_of(self.server.stats())
    }

    fn stats_of(&self, stats: ServerStats) -> StatsJson {
        stats::stats(&self.server, &self.live, &self.database, &self.broadcaster, stats)
    }

    pub(super) fn threads(&self) -> Vec<ThreadJson> {
        stats::threads(&self.server)
    }

    /// Records an order that was carried out.
    pub(super) fn ordered(&self, text: impl Into<String>) {
        self.timeline.record(None, None, What::Ordered { text: text.into() });
    }

    /// Everything that a viewer is sent besides the timeline. Resets nothing. `queued` is how many connections
    /// have waited in the kernel for a second.
    pub(super) fn state(
        &self,
        listen_queue: Option<usize>,
        queued: usize,
        watcher: &mut Watcher,
    ) -> StateJson {
        let glance = self.server.glance();
        let threads = self.threads();
        let held = threads.iter().filter(|thread| thread.is_busy()).count();
        // Each connection is in todo, with a pool thread, or watched by the reactor.
        let reactor = glance.connections.map(|all| all.saturating_sub(glance.pool.backlog + held));
        let size = self.server.size();
        watcher.look(&self.timeline);
        let now_us = self.timeline.now_us();
        let warnings = warnings(&WarningInput {
            now_us,
            snapshot: watcher.snapshot(),
            max_threads: size.max(),
            max_stream_age: self.live.max_age(),
            database: &self.database.stats(),
            listen_queue: queued,
            openings: watcher.openings(),
        });
        StateJson {
            now_us,
            server: Arc::clone(&self.run),
            stats: self.stats_of(glance),
            threads,
            reactor,
            listen_queue,
            min: size.min(),
            max: size.max(),
            lab: self.laboratory.show(),
            warnings,
            max_stream_age_s: self.live.max_age().map(|age| age.as_secs_f64()),
        }
    }
}

/// The process and the time: for two servers in succession, at least one of them differs. In a container each
/// server may be process 1.
fn word_of_this_run() -> Arc<str> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}.{:x}", process::id(), since_epoch.as_micros()).into()
}
