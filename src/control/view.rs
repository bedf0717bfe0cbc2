//! Everything that can be read from a running server, in one place.

use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::beside::Beside;
use super::beside_latency::Latency;
use super::laboratory::Laboratory;
use super::stats::{self, StateJson, StatsJson, ThreadJson};
use super::warnings::{Warning, WarningInput, warnings};
use super::watcher::Watcher;
use crate::app::broadcaster::Broadcaster;
use crate::app::database::{self, Database};
use crate::front::AppServer;
use ninetabs_server::Streams;
use ninetabs_server::handle::ThreadView;
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
    pub(super) latency: Arc<Latency>,
    pub(super) beside: Arc<Beside>,
    pub(super) services: Services,
    watcher: Arc<Mutex<Watcher>>,
    /// The command line that started the server, without secrets.
    pub(super) command: Arc<str>,
    /// An identifier that no other run of a server has.
    pub(super) run: Arc<str>,
}

/// The parts of a running server that a view reads.
pub struct ServerParts {
    pub server: Arc<AppServer>,
    pub live: Arc<Streams>,
    pub database: Arc<Database>,
    pub broadcaster: Arc<Broadcaster>,
    pub timeline: Arc<Timeline>,
    pub services: Services,
}

impl View {
    /// Creates a view of the app's server, to which the lab's clients connect. `command` is the command line that
    /// started it, without secrets.
    pub fn new(parts: ServerParts, command: &str, beside: Arc<Beside>) -> Self {
        let ServerParts { server, live, database, broadcaster, timeline, services } = parts;
        let laboratory = Arc::new(Laboratory::new(server.addr()));
        let latency = Arc::new(Latency::new(&laboratory));
        View {
            server,
            live,
            database,
            broadcaster,
            timeline,
            laboratory,
            latency,
            beside,
            services,
            watcher: Arc::default(),
            command: command.into(),
            run: word_of_this_run(),
        }
    }

    /// The stats for pumactl. Reading them restarts the numbers that count since the last such request.
    pub(super) fn stats(&self) -> StatsJson {
        let View { server, live, database, broadcaster, .. } = self;
        let mut stats = stats::stats(server, live, database, broadcaster, server.stats());
        stats.warnings = Some(self.warnings(&server.threads(), &stats.database).0);
        stats
    }

    pub(super) fn threads(&self) -> Vec<ThreadJson> {
        let mut threads = stats::threads(self.server.threads());
        threads.extend(stats::action_threads(self.server.action_threads()));
        threads
    }

    /// Records an order that was carried out.
    pub(super) fn ordered(&self, text: impl Into<String>) {
        self.timeline.record(None, None, What::Ordered { text: text.into() });
    }

    /// The current warnings, and the length of the listen queue.
    pub(super) fn warnings(
        &self,
        threads: &[ThreadView],
        database: &database::Stats,
    ) -> (Vec<Warning>, Option<usize>) {
        let mut watcher = self.watcher();
        watcher.look(&self.timeline, threads);
        let (listen_queue, lasting) = watcher.listen_queue(self.server.addr());
        let warnings = warnings(&WarningInput {
            now_us: self.timeline.now_us(),
            snapshot: watcher.snapshot(),
            max_threads: self.server.size().max(),
            max_stream_age: self.live.max_age(),
            writing: &watcher.writing(),
            database,
            engine: &self.database.engine(),
            listen_queue: lasting,
            openings: watcher.openings(),
            frames: watcher.frames(),
        });
        (warnings, listen_queue)
    }

    pub(super) fn watcher(&self) -> MutexGuard<'_, Watcher> {
        // After a panic, the watcher lacks at most a few moments, which the next look adds.
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that a viewer is sent besides the timeline. Resets nothing.
    pub(super) fn state(&self) -> StateJson {
        let View { server, live, database, broadcaster, .. } = self;
        let (glance, threads) = (server.glance(), server.threads());
        let (connections, backlog) = (glance.connections, glance.pool.backlog);
        let stats = stats::stats(server, live, database, broadcaster, glance);
        let (warnings, listen_queue) = self.warnings(&threads, &stats.database);
        let threads = stats::threads(threads);
        let held = threads.iter().filter(|thread| thread.is_busy()).count();
        // Each connection is in todo, with a pool thread, or watched by the reactor.
        let reactor = connections.map(|all| all.saturating_sub(backlog + held));
        let size = server.size();
        StateJson {
            now_us: self.timeline.now_us(),
            server: Arc::clone(&self.run),
            stats,
            threads,
            reactor,
            listen_queue,
            min: size.min(),
            max: size.max(),
            lab: self.laboratory.show(),
            beside: self.beside.shown(),
            warnings,
            max_stream_age_s: live.max_age().map(|age| age.as_secs_f64()),
        }
    }
}

/// The process and the time: for two servers in succession, at least one of them differs. In a container each
/// server may be process 1.
fn word_of_this_run() -> Arc<str> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}.{:x}", process::id(), since_epoch.as_micros()).into()
}
