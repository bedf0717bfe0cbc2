//! A running server: how it is started, and its numbers, orders and shutdown.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, bounded};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token, Waker};

use crate::acceptor::Acceptor;
pub use crate::acceptor::ListenerDied;
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

/// A running server. Dropping it stops accepting, and waits for no request.
pub struct Handle {
    // Dropped first, so that nothing is pushed into a pool that is going.
    front: Front,
    pool: Arc<ThreadPool<Box<Client>>>,
    serving: Arc<Serving>,
    trim: AutoTrim,
    started_at: SystemTime,
    _reaper: Option<Reaper>,
}

/// The threads in front of the pool: the acceptor's and the reactor's.
struct Front {
    address: SocketAddr,
    server: Arc<PumaServer>,
    waker: Waker,
    died: Receiver<ListenerDied>,
    acceptor: StoppableThread,
}

/// What one pool thread is doing.
#[derive(Debug, Clone)]
pub struct ThreadView {
    /// Counts from 1; the lowest free number goes to the next thread.
    pub number: usize,
    /// The thread's name, as the operating system shows it.
    pub name: String,
    /// Whether it is marked IO-bound, and does not count against the pool.
    pub io_bound: bool,
    /// The request that holds it; None while it waits for work.
    pub request: Option<RequestView>,
}

impl ThreadView {
    /// What each of these threads is doing, lowest number first.
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

/// The numbers of a server. Those of `pool` belong to one moment, the others are read one after the
/// other.
#[derive(Debug, Clone)]
pub struct ServerStats {
    /// When the server was started, by the system's clock.
    pub started_at: SystemTime,
    /// The thread pool's own numbers.
    pub pool: PoolStats,
    /// Requests that a thread has begun since the start, whether or not they are answered.
    pub requests_count: u64,
    /// The most clients in the reactor since this was last asked; None if it was not asked for.
    pub reactor_max: Option<usize>,
    /// Connections that are open; None if the server cannot see them.
    pub connections: Option<usize>,
    /// Connections without a whole request that were closed to make room for others, ever.
    pub evicted: u64,
    /// Bytes that writes under way have not handed to the kernel yet.
    pub unsent_bytes: u64,
    /// What connections hold of requests that no thread has taken; None if the server cannot see it.
    pub pending_bytes: Option<PendingBytes>,
}

impl ServerStats {
    /// The numbers that each server has, also one that cannot see its connections.
    pub fn of(pool: PoolStats, serving: &Serving, started_at: SystemTime) -> ServerStats {
        ServerStats {
            started_at,
            pool,
            requests_count: serving.requests_count(),
            reactor_max: None,
            connections: None,
            evicted: 0,
            unsent_bytes: serving.unsent_bytes(),
            pending_bytes: None,
        }
    }
}

/// Bytes of unfinished requests in memory, of all connections.
#[derive(Debug, Clone, Copy)]
pub struct PendingBytes {
    /// How many there are.
    pub held: usize,
    /// How many there may be.
    pub most: usize,
}

impl Handle {
    /// Starts the pool, then lets connections in: all of the least threads are idle before the first
    /// one is accepted.
    pub(crate) fn start(
        listener: TcpListener,
        configuration: Configuration,
        streams: Arc<Streams>,
        timeline: Arc<Timeline>,
        app: Arc<dyn App>,
    ) -> Result<Handle, StartError> {
        let limits = configuration.answer_limits();
        let serving = Arc::new(Serving::new(app, Arc::clone(&timeline), Arc::clone(&streams), limits));
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

    /// Where it listens, port 0 resolved.
    pub fn addr(&self) -> SocketAddr {
        self.front.address
    }

    /// The open streams, and the orders to them.
    pub fn streams(&self) -> &Arc<Streams> {
        self.serving.streams()
    }

    /// Tells every stream of at least this age to end; returns how many were told. Does not wait for
    /// them.
    pub fn reap(&self, at_least: Duration) -> usize {
        self.streams().reap(at_least)
    }

    /// Receives once if the listener dies by itself.
    pub fn died(&self) -> &Receiver<ListenerDied> {
        &self.front.died
    }

    /// The numbers of now. Reading resets `backlog_max`, as in Puma, and `reactor_max`.
    pub fn stats(&self) -> ServerStats {
        let reactor_max = self.front.server.take_reactor_max();
        ServerStats { reactor_max, ..self.stats_of(self.pool.stats()) }
    }

    /// The numbers of now, for a caller that only watches: nothing is reset, and `reactor_max` is left out.
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

    /// Records the heads of requests that wait in todo unread, for a caller that is about to show the record.
    pub fn look_at_todo(&self) {
        self.front.server.look_at_todo();
    }

    /// Every pool thread, lowest number first.
    pub fn threads(&self) -> Vec<ThreadView> {
        ThreadView::of(self.pool.processors(), &self.serving)
    }

    /// Sets the least and the most number of threads. Models Puma::Server#update_thread_pool_min_max: it
    /// neither starts nor ends a thread by itself; see [`Handle::fill`] and [`Handle::trim`].
    pub fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        self.pool.resize(min, max)
    }

    /// Asks one thread above the least to leave as soon as it is idle. Each call asks for one more.
    /// Models Puma::ThreadPool#trim, forced.
    pub fn trim(&self) {
        self.pool.trim(Trim::Forced);
    }

    /// Starts threads until the least are there, which Puma leaves to the next requests.
    pub fn fill(&self) {
        self.pool.fill();
    }

    /// The size of the pool that is in force.
    pub fn size(&self) -> PoolSize {
        self.pool.size()
    }

    /// The most connections that are let in.
    pub fn max_connections(&self) -> usize {
        self.front.server.max_connections()
    }

    /// Lets in no more than this many connections from now on; those that are open stay.
    pub fn limit_connections(&self, most: usize) {
        self.front.server.limit_connections(most);
    }

    /// Stops accepting and closes idle connections. What is queued will still be served. A second call
    /// does nothing.
    pub fn stop_accepting(&self) {
        self.front.stop();
        self.trim.stop();
    }

    /// Stops the server: accepts no connection, tells streams to end, serves what is queued, and closes.
    ///
    /// Blocks for at most `timeout`; as much of it as is left is for clients that have not read their
    /// last answers.
    pub fn shutdown(&self, timeout: Duration) -> Shutdown {
        self.shutdown_with(timeout, Duration::ZERO)
    }

    /// The same, where threads that are still at work after `timeout` have this grace. What is left in
    /// todo by then is refused with 503. Models Puma::ThreadPool#shutdown.
    pub fn shutdown_with(&self, timeout: Duration, grace: Duration) -> Shutdown {
        let began = Instant::now();
        self.stop_accepting();
        self.streams().stop();
        let server = &self.front.server;
        let shutdown = self.pool.shutdown_with(Some(timeout), grace, |client| server.give_up(client));
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

    /// Stops accepting, and closes what is idle. Blocks until that has happened; what lingers is
    /// watched until the end.
    fn stop(&self) {
        self.server.begin_stopping();
        // It fails only if the acceptor has gone already.
        let _ = self.waker.wake();
        self.acceptor.join();
        if let Some(reactor) = self.server.reactor() {
            reactor.close();
        }
    }

    /// Ends what is left once the pool has: connections that are read to their end. Blocks for at most
    /// this time.
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

/// Models the automaton `puma srv tp trim`: one idle thread above the least leaves in each round. There
/// is no such thread if least and most are the same.
#[derive(Debug)]
pub struct AutoTrim(Option<StoppableThread>);

impl AutoTrim {
    /// Starts the thread. `trim` asks one idle thread to leave; it is called after each `every`, and at most
    /// once in a [`SHORTEST_ROUND`].
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

    /// Ends the thread. Does not wait for it.
    pub fn stop(&self) {
        self.0.iter().for_each(StoppableThread::stop);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_trim_without_a_pause_is_given_one() {
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
