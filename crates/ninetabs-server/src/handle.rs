//! A running server: starting it, reading its statistics, changing its settings, and shutting it down.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, bounded};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token, Waker};

use crate::acceptor::Acceptor;
pub use crate::acceptor::ListenerDied;
use crate::action_threads::{ActionThreadStats, ActionThreadView};
use crate::app::App;
use crate::client::Client;
use crate::configuration::{Configuration, SHORTEST_ROUND};
use crate::lingering::LINGER;
use crate::listen::StartError;
use crate::puma_server::PumaServer;
use crate::reactor::Reactor;
use crate::reaper::Reaper;
use crate::serving::{RequestView, Serving};
use crate::streams::Streams;
use crate::thread_pool::{BadSize, PoolSize, PoolStats, ProcessorView, Shutdown, ThreadPool, Trim};
use crate::threads::{SpawnError, StoppableThread};
use crate::timeline::Timeline;

/// A running server. Dropping it stops accepting connections without waiting for requests.
pub struct Handle {
    // Dropped first, so that nothing is pushed into a pool that is shutting down.
    front: Front,
    pool: Arc<ThreadPool<Box<Client>>>,
    serving: Arc<Serving>,
    trim: AutoTrim,
    started_at: SystemTime,
    _reaper: Option<Reaper>,
}

/// The threads in front of the pool: the acceptor and the reactor.
struct Front {
    address: SocketAddr,
    server: Arc<PumaServer>,
    waker: Waker,
    died: Receiver<ListenerDied>,
    acceptor: StoppableThread,
}

/// The state of one pool thread.
#[derive(Debug, Clone)]
pub struct ThreadView {
    /// The thread's number, counted from 1. A new thread gets the lowest free number.
    pub number: usize,
    /// The thread's name, as shown by the operating system.
    pub name: String,
    /// Whether the thread is marked IO-bound, and so does not count toward the pool's maximum.
    pub io_bound: bool,
    /// The request that holds the thread, or `None` while it waits for work.
    pub request: Option<RequestView>,
}

impl ThreadView {
    /// Returns what each of these threads is doing, lowest number first.
    pub fn of(processors: Vec<ProcessorView>, serving: &Serving) -> Vec<ThreadView> {
        let view = |it: ProcessorView| ThreadView {
            number: it.number,
            name: it.name,
            io_bound: it.io_bound,
            request: it.running.and_then(|subject| serving.view(it.number, subject.connection)),
        };
        processors.into_iter().map(view).collect()
    }
}

/// The statistics of a server. All values in `pool` are from the same moment. The other values are read one after
/// another.
#[derive(Debug, Clone)]
pub struct ServerStats {
    /// When the server was started, according to the system clock.
    pub started_at: SystemTime,
    /// The statistics of the thread pool.
    pub pool: PoolStats,
    /// Requests that have reached a thread since the start, whether or not they have been answered.
    pub requests_count: u64,
    /// The maximum number of clients in the reactor since the last call of [`Handle::stats`]. `None` from
    /// [`Handle::glance`], and if the server runs without a reactor.
    pub reactor_max: Option<usize>,
    /// Open connections. `None` if the server cannot access its connections.
    pub connections: Option<usize>,
    /// How many connections without a complete request have been closed since the start because there were too many.
    pub evicted: u64,
    /// Actions that run on their own threads. `None` if actions run on pool threads.
    pub action_threads: Option<ActionThreadStats>,
    /// Bytes of writes in progress that the kernel has not accepted yet.
    pub unsent_bytes: u64,
    /// Memory of requests that no thread has taken yet. `None` if the server cannot access its connections.
    pub pending_bytes: Option<PendingBytes>,
}

impl ServerStats {
    /// Returns the statistics that every server has, including a server without access to its connections.
    pub fn of(pool: PoolStats, serving: &Serving, started_at: SystemTime) -> ServerStats {
        ServerStats {
            started_at,
            pool,
            requests_count: serving.requests_count(),
            reactor_max: None,
            connections: None,
            evicted: 0,
            action_threads: serving.action_thread_stats(),
            unsent_bytes: serving.unsent_bytes(),
            pending_bytes: None,
        }
    }
}

/// Memory of the requests that no thread has taken yet, for all connections together.
#[derive(Debug, Clone, Copy)]
pub struct PendingBytes {
    /// The current number of bytes.
    pub held: usize,
    /// The limit in bytes. Small complete requests may exceed it.
    pub most: usize,
}

impl Handle {
    /// Starts the pool and then accepts connections: the minimum number of threads is idle before the first connection
    /// is accepted.
    pub(crate) fn start(
        listener: TcpListener,
        configuration: Configuration,
        streams: Arc<Streams>,
        timeline: Arc<Timeline>,
        app: Arc<dyn App>,
    ) -> Result<Handle, StartError> {
        let limits = configuration.answer_limits();
        let serving = Serving::new(app, Arc::clone(&timeline), Arc::clone(&streams), limits);
        let serving = Arc::new(serving.with_actions_on(configuration.actions_on));
        let server = PumaServer::new(&configuration, Arc::clone(&serving), Arc::clone(&timeline));
        let pool = Arc::new(ThreadPool::start(configuration.pool_options(), timeline, server.processing())?);
        let front = Front::open(listener, &configuration, server, &pool)?;
        let trimmed = Arc::clone(&pool);
        let trim =
            AutoTrim::start(&configuration.name, pool.size(), configuration.auto_trim_time, move || {
                trimmed.trim(Trim::IfFree);
            })?;
        let reaper = configuration
            .reap_every
            .map(|every| Reaper::start(streams, every, &configuration.services))
            .transpose()?;
        Ok(Handle { front, pool, serving, trim, started_at: SystemTime::now(), _reaper: reaper })
    }

    /// Returns the address that the server listens on. If port 0 was requested, this contains the actual
    /// port.
    pub fn addr(&self) -> SocketAddr {
        self.front.address
    }

    /// Returns the registry of open streams.
    pub fn streams(&self) -> &Arc<Streams> {
        self.serving.streams()
    }

    /// Interrupts every stream of at least this age, and returns how many were interrupted. Does not wait for them to
    /// end.
    pub fn reap(&self, at_least: Duration) -> usize {
        self.streams().reap(at_least)
    }

    /// Receives one message if the listener dies unexpectedly.
    pub fn died(&self) -> &Receiver<ListenerDied> {
        &self.front.died
    }

    /// Returns the current statistics. Resets `backlog_max`, as in Puma, and `reactor_max`.
    pub fn stats(&self) -> ServerStats {
        let reactor_max = self.front.server.take_reactor_max();
        ServerStats { reactor_max, ..self.stats_of(self.pool.stats()) }
    }

    /// Returns the current statistics without resetting anything. `reactor_max` is `None`.
    pub fn glance(&self) -> ServerStats {
        self.stats_of(self.pool.glance())
    }

    fn stats_of(&self, pool: PoolStats) -> ServerStats {
        let server = &self.front.server;
        ServerStats {
            connections: Some(server.connections()),
            evicted: server.evicted(),
            pending_bytes: Some(PendingBytes {
                held: server.pending().held(),
                most: server.pending().most(),
            }),
            ..ServerStats::of(pool, &self.serving, self.started_at)
        }
    }

    /// Records the heads of unread requests in `todo`. Call this before you display the record.
    pub fn look_at_todo(&self) {
        self.front.server.look_at_todo();
    }

    /// Returns every pool thread, lowest number first.
    pub fn threads(&self) -> Vec<ThreadView> {
        ThreadView::of(self.pool.processors(), &self.serving)
    }

    /// Returns the threads of actions, lowest number first. Empty if actions run on pool threads.
    pub fn action_threads(&self) -> Vec<ActionThreadView> {
        self.serving.action_threads()
    }

    /// Sets the minimum and maximum number of threads. Models Puma::Server#update_thread_pool_min_max: it neither
    /// starts nor ends a thread. For that, see [`Handle::fill`] and [`Handle::trim`].
    pub fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        self.pool.resize(min, max)
    }

    /// Asks one thread above the minimum to end as soon as it is idle. Each call applies to one more thread. Models a
    /// forced Puma::ThreadPool#trim.
    pub fn trim(&self) {
        self.pool.trim(Trim::Forced);
    }

    /// Starts threads until the minimum is reached. Puma starts them only when requests arrive.
    pub fn fill(&self) {
        self.pool.fill();
    }

    /// Returns the current size limits of the pool.
    pub fn size(&self) -> PoolSize {
        self.pool.size()
    }

    /// Returns the maximum number of open connections.
    pub fn max_connections(&self) -> usize {
        self.front.server.max_connections()
    }

    /// Sets the maximum number of open connections. Connections that are already open stay open.
    pub fn limit_connections(&self, most: usize) {
        self.front.server.limit_connections(most);
    }

    /// Stops accepting connections, and closes idle ones. Queued requests are still served. A second call does nothing.
    pub fn stop_accepting(&self) {
        self.front.stop();
        self.trim.stop();
    }

    /// Stops the server: stops accepting connections, interrupts the streams, serves queued requests, and closes.
    ///
    /// Blocks for at most `timeout`. If the pool ends sooner, the remaining time is given to actions on their own
    /// threads, and then to clients that have not read their last answers. Actions that are still running after that
    /// are abandoned, and [`Handle::glance`] counts them.
    pub fn shutdown(&self, timeout: Duration) -> Shutdown {
        self.shutdown_with(timeout, Duration::ZERO)
    }

    /// Like [`Handle::shutdown`], but threads that are still busy after `timeout` get this grace period. Clients that
    /// are still in `todo` after that are refused with 503. Models Puma::ThreadPool#shutdown.
    pub fn shutdown_with(&self, timeout: Duration, grace: Duration) -> Shutdown {
        let began = Instant::now();
        self.stop_accepting();
        self.streams().stop();
        let server = &self.front.server;
        let shutdown = self.pool.shutdown_with(Some(timeout), grace, |client| server.give_up(client));
        self.serving.await_actions(timeout.saturating_add(grace).saturating_sub(began.elapsed()));
        self.front.end(timeout.saturating_add(grace).saturating_sub(began.elapsed()).min(LINGER));
        shutdown
    }
}

impl Front {
    fn open(
        listener: TcpListener,
        configuration: &Configuration,
        server: Arc<PumaServer>,
        pool: &Arc<ThreadPool<Box<Client>>>,
    ) -> Result<Front, StartError> {
        let name = &configuration.name;
        let listen = |error| StartError::Listen { address: configuration.bind, error };
        let address = listener.local_addr().map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let reactor = Reactor::start(&format!("{name} reactor"), &configuration.services, server.waking())?;
        server.join(pool, reactor);

        let refused = SpawnError::of(name);
        let poll = Poll::new().map_err(&refused)?;
        let waker = Waker::new(poll.registry(), Token(1)).map_err(&refused)?;
        let fd = listener.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(0), Interest::READABLE).map_err(&refused)?;
        let (tell, died) = bounded(1);
        let acceptor = Acceptor::new(listener, poll, Arc::clone(&server));
        let acceptor = StoppableThread::start(name, move |_| acceptor.run(address, &tell))?;
        Ok(Front { address, server, waker, died, acceptor })
    }

    /// Stops accepting connections, and closes idle ones. Blocks until both are done. Lingering connections stay in the
    /// reactor until [`Front::end`].
    fn stop(&self) {
        self.server.begin_stopping();
        // This fails only if the acceptor has already ended.
        let _ = self.waker.wake();
        self.acceptor.join();
        if let Some(reactor) = self.server.reactor() {
            reactor.close();
        }
    }

    /// Ends the remaining (lingering) connections. Called after the pool has ended. Blocks for at most this time.
    fn end(&self, within: Duration) {
        self.stop();
        if let Some(reactor) = self.server.reactor() {
            reactor.end(within);
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// Models Puma's automaton `puma srv tp trim`, a thread that ends one idle pool thread above the minimum per interval.
/// It is not started if minimum and maximum are equal.
#[derive(Debug)]
pub struct AutoTrim(Option<StoppableThread>);

impl AutoTrim {
    /// Starts the thread. It calls `trim`, which asks one idle pool thread to end, at the interval `every`, but not
    /// more often than every [`SHORTEST_ROUND`].
    pub fn start(
        name: &str,
        size: PoolSize,
        every: Duration,
        trim: impl Fn() + Send + 'static,
    ) -> Result<AutoTrim, SpawnError> {
        if size.min() == size.max() {
            return Ok(AutoTrim(None));
        }
        let every = every.max(SHORTEST_ROUND);
        let thread = StoppableThread::start(&format!("{name} tp trim"), move |stop| {
            while stop.sleep(every) {
                trim();
            }
        })?;
        Ok(AutoTrim(Some(thread)))
    }

    /// Stops the thread. Does not wait for it.
    pub fn stop(&self) {
        self.0.iter().for_each(StoppableThread::stop);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_trim_interval_of_zero_becomes_the_shortest_round() {
        let rounds = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&rounds);
        let began = Instant::now();
        let trim = AutoTrim::start("test", PoolSize::new(0, 1).unwrap(), Duration::ZERO, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let seen = rounds.load(Ordering::Relaxed);
        assert!(u128::from(seen) <= began.elapsed().as_millis(), "{seen} rounds");
        drop(trim);
    }
}
