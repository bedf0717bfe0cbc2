//! A server: a front door, todo and its thread pool, and the app that is handed in.
//!
//! Models Puma::Server as far as both front doors share it. The app is a function
//! of a request; the room knows no route, no template and no SQL. A request's
//! thread is held until its answer has ended, be it a page or a stream: that is
//! the whole of the seed's trouble.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::client::Client;
use super::configuration::{Configuration, FrontDoor};
use super::door::{self, Door};
use super::lingering::LINGER;
use super::puma_front::{self, PumaFront};
use super::serving::{App, RequestView, Serving};
use super::thread_pool::{self, BadSize, ProcessorView, Shutdown, ThreadPool, Work};
use super::tiny_http_front::{self, Job, TinyHttpFront};
use crate::timeline::Timeline;

pub use super::door::{DoorDied, PendingBytes, StartError};

/// A running server. Dropping it stops accepting, and waits for nobody.
pub struct Server {
    // Dropped first, so that nothing is pushed into a pool that is going.
    front: Box<dyn Door>,
    pool: Arc<dyn Pool>,
    serving: Arc<Serving>,
    trim: Sender<()>,
    started_at: SystemTime,
}

/// What one pool thread is doing, as `/threads` shows it.
#[derive(Debug, Clone)]
pub struct ThreadView {
    pub number: usize,
    pub name: String,
    pub io_bound: bool,
    /// None while it waits for work.
    pub request: Option<RequestView>,
}

/// The numbers of a server; docs/puma.md says what each counts. Those of `pool` belong to one
/// moment, the others are read one after the other.
#[derive(Debug, Clone)]
pub struct Stats {
    pub started_at: SystemTime,
    pub pool: thread_pool::Stats,
    /// Requests that a thread has begun since the start, whether or not they are answered.
    pub requests_count: u64,
    /// The most clients in the reactor since this was last asked; None without one.
    pub reactor_max: Option<usize>,
    /// Connections that are open; None where the front door hides them.
    pub connections: Option<usize>,
    /// Connections without a whole request that were closed to make room for others, ever.
    pub evicted: u64,
    /// Bytes that writes under way have not handed to the kernel yet.
    pub unsent_bytes: u64,
    /// What connections hold of requests that no thread has taken; None where the front door hides it.
    pub pending_bytes: Option<PendingBytes>,
}

/// What a server needs of its pool, whatever the pool's work is.
trait Pool: Send + Sync {
    fn stats(&self) -> thread_pool::Stats;
    fn glance(&self) -> thread_pool::Stats;
    fn processors(&self) -> Vec<ProcessorView>;
    fn resize(&self, min: usize, max: usize) -> Result<(), BadSize>;
    fn size(&self) -> (usize, usize);
    fn trim(&self, force: bool);
    fn fill(&self);
    fn shutdown(&self, timeout: Option<Duration>, grace: Duration) -> Shutdown;
}

/// A pool, and what becomes of work that it gives up on.
struct Pooled<W: Work> {
    pool: Arc<ThreadPool<W>>,
    unserved: Box<dyn Fn(W) + Send + Sync>,
}

impl<W: Work> Pool for Pooled<W> {
    fn stats(&self) -> thread_pool::Stats {
        self.pool.stats()
    }

    fn glance(&self) -> thread_pool::Stats {
        self.pool.glance()
    }

    fn processors(&self) -> Vec<ProcessorView> {
        self.pool.processors()
    }

    fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        self.pool.resize(min, max)
    }

    fn size(&self) -> (usize, usize) {
        self.pool.size()
    }

    fn trim(&self, force: bool) {
        self.pool.trim(force);
    }

    fn fill(&self) {
        self.pool.fill();
    }

    fn shutdown(&self, timeout: Option<Duration>, grace: Duration) -> Shutdown {
        self.pool.shutdown_with(timeout, grace, &self.unserved)
    }
}

impl Server {
    /// Opens the front door and starts the pool; all of its least threads are
    /// idle before the first connection is accepted.
    pub fn start(
        configuration: Configuration,
        timeline: Arc<Timeline>,
        app: Arc<App>,
    ) -> Result<Server, StartError> {
        let listener = door::listen(&configuration)?;
        let serving = Arc::new(Serving::new(app, Arc::clone(&timeline), &configuration));
        let (min, max) = configuration.threads;
        let options = thread_pool::Options {
            name: configuration.name.to_owned(),
            min,
            max,
            max_io: configuration.max_io_threads,
        };
        let (pool, front): (Arc<dyn Pool>, Box<dyn Door>) = match configuration.front {
            FrontDoor::Puma => {
                let shared =
                    puma_front::Shared::new(&configuration, Arc::clone(&serving), Arc::clone(&timeline));
                let process = {
                    let shared = Arc::clone(&shared);
                    move |client: Box<Client>, processor: &_| shared.process(client, processor)
                };
                let pool = Arc::new(ThreadPool::start(options, timeline, process)?);
                let gives_up = Arc::clone(&shared);
                let front = PumaFront::open(listener, &configuration, shared, &pool)?;
                let unserved = Box::new(move |client| gives_up.give_up(client));
                (Arc::new(Pooled { pool, unserved }), Box::new(front))
            }
            FrontDoor::TinyHttp => {
                let serving = Arc::clone(&serving);
                let most = configuration.max_body_bytes;
                let process =
                    move |job: Job, processor: &_| tiny_http_front::process(job, processor, &serving, most);
                let pool = Arc::new(ThreadPool::start(options, Arc::clone(&timeline), process)?);
                let front = TinyHttpFront::open(listener, configuration.name, Arc::clone(&pool), timeline)?;
                (Arc::new(Pooled { pool, unserved: Box::new(drop) }), Box::new(front))
            }
        };
        let trim = auto_trim(&configuration, &pool)?;
        Ok(Server { front, pool, serving, trim, started_at: SystemTime::now() })
    }

    /// Where it listens, port 0 resolved.
    pub fn address(&self) -> SocketAddr {
        self.front.address()
    }

    /// Receives once if the front door dies of itself.
    pub fn died(&self) -> &Receiver<DoorDied> {
        self.front.died()
    }

    /// Reading resets `backlog_max`, as in Puma.
    pub fn stats(&self) -> Stats {
        Stats {
            started_at: self.started_at,
            pool: self.pool.stats(),
            requests_count: self.serving.requests_count(),
            reactor_max: self.front.take_reactor_max(),
            connections: self.front.connections(),
            evicted: self.front.evicted(),
            unsent_bytes: self.serving.unsent_bytes(),
            pending_bytes: self.front.pending_bytes(),
        }
    }

    /// The same for who only watches: nothing is reset, and `reactor_max` is left out.
    pub fn glance(&self) -> Stats {
        Stats {
            started_at: self.started_at,
            pool: self.pool.glance(),
            requests_count: self.serving.requests_count(),
            reactor_max: None,
            connections: self.front.connections(),
            evicted: self.front.evicted(),
            unsent_bytes: self.serving.unsent_bytes(),
            pending_bytes: self.front.pending_bytes(),
        }
    }

    /// Puts on the timeline what lies unread in todo, for whoever is about to look.
    pub fn look_at_todo(&self) {
        self.front.look_at_todo();
    }

    /// Every pool thread, lowest number first.
    pub fn threads(&self) -> Vec<ThreadView> {
        let processors = self.pool.processors();
        processors
            .into_iter()
            .map(|it| ThreadView {
                number: it.number,
                name: it.name,
                io_bound: it.io_bound,
                request: it.running.and_then(|subject| self.serving.view(it.number, subject.connection)),
            })
            .collect()
    }

    /// Models Puma::Server#update_thread_pool_min_max: sets the numbers, and
    /// neither starts nor ends a thread by itself.
    pub fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        self.pool.resize(min, max)
    }

    /// Whether a resize would take these numbers.
    pub fn check_size(&self, min: usize, max: usize) -> Result<(), BadSize> {
        BadSize::check(min, max)
    }

    /// Models Puma::ThreadPool#trim, forced: one thread above the least leaves as soon as it
    /// is idle. Each call asks for one more.
    pub fn trim(&self) {
        self.pool.trim(true);
    }

    /// Starts threads until the least are there, which Puma leaves to the next requests.
    pub fn fill(&self) {
        self.pool.fill();
    }

    /// The least and most threads in force.
    pub fn size(&self) -> (usize, usize) {
        self.pool.size()
    }

    /// The most connections that are let in; None where the front door has no limit.
    pub fn max_connections(&self) -> Option<usize> {
        self.front.max_connections()
    }

    /// Lets in no more than so many from now on; those that are open stay.
    pub fn limit_connections(&self, most: usize) {
        self.front.limit_connections(most);
    }

    /// Stops accepting. What is queued will still be served.
    pub fn stop_accepting(&self) {
        self.front.stop();
        let _ = self.trim.try_send(());
    }

    /// Models Puma::ThreadPool#shutdown. Blocks for at most the two times; as much of them as is left is
    /// for clients that have not read their last answers.
    pub fn shutdown(&self, timeout: Duration, grace: Duration) -> Shutdown {
        let began = Instant::now();
        self.stop_accepting();
        let shutdown = self.pool.shutdown(Some(timeout), grace);
        self.front.end(timeout.saturating_add(grace).saturating_sub(began.elapsed()).min(LINGER));
        shutdown
    }
}

/// Models the automaton `puma srv tp trim`: one idle thread goes at each round,
/// and there is no such thread where least and most are the same.
fn auto_trim(configuration: &Configuration, pool: &Arc<dyn Pool>) -> Result<Sender<()>, StartError> {
    let (stop, stopped) = bounded::<()>(1);
    let (min, max) = configuration.threads;
    if min != max {
        let every = configuration.auto_trim_time;
        let pool = Arc::clone(pool);
        thread::Builder::new()
            .name(format!("{} tp trim", configuration.name))
            .spawn(move || {
                while stopped.recv_timeout(every).is_err_and(|error| error.is_timeout()) {
                    pool.trim(false);
                }
            })
            .map_err(StartError::Thread)?;
    }
    Ok(stop)
}
