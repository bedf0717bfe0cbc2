//! A server: a front door, todo and its thread pool, and the app that is handed in.
//!
//! Models Puma::Server as far as both front doors share it. The app is a function
//! of a request; the room knows no route, no template and no SQL. A request's
//! thread is held until its answer has ended, be it a page or a stream: that is
//! the whole of the seed's trouble.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::configuration::Configuration;
use super::serving::{App, RequestView, Serving};
use super::thread_pool::{self, BadSize, Shutdown, ThreadPool};
use super::tiny_http_front::{self, Front, Job};
use crate::timeline::Timeline;

pub use super::tiny_http_front::{DoorDied, StartError};

/// A running server. Dropping it stops accepting, and waits for nobody.
pub struct Server {
    // Dropped first, so that nothing is pushed into a pool that is going.
    front: Front,
    pool: Arc<ThreadPool<Job>>,
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

/// The numbers of one moment; see docs/puma.md for what each counts.
#[derive(Debug, Clone)]
pub struct Stats {
    pub started_at: SystemTime,
    pub pool: thread_pool::Stats,
    /// Requests that a thread has begun since the start, whether or not they are answered.
    pub requests_count: u64,
}

impl Server {
    /// Opens the front door and starts the pool; all of its least threads are
    /// idle before the first connection is accepted.
    pub fn start(
        configuration: Configuration,
        timeline: Arc<Timeline>,
        app: Arc<App>,
    ) -> Result<Server, StartError> {
        let listener = tiny_http_front::listen(&configuration)?;
        let serving = Arc::new(Serving::new(app, Arc::clone(&timeline), configuration.write_timeout));
        let (min, max) = configuration.threads;
        let options = thread_pool::Options {
            name: configuration.name.to_owned(),
            min,
            max,
            max_io: configuration.max_io_threads,
        };
        let process = {
            let serving = Arc::clone(&serving);
            let max_body_bytes = configuration.max_body_bytes;
            move |job: Job, processor: &_| tiny_http_front::process(job, processor, &serving, max_body_bytes)
        };
        let pool = Arc::new(ThreadPool::start(options, Arc::clone(&timeline), process)?);
        let trim = auto_trim(&configuration, &pool)?;
        let front = Front::open(listener, configuration.name, Arc::clone(&pool), timeline)?;
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
        }
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
                request: it.running.and_then(|subject| self.serving.view(subject)),
            })
            .collect()
    }

    /// Models Puma::Server#update_thread_pool_min_max: sets the numbers, and
    /// neither starts nor ends a thread by itself.
    pub fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        self.pool.resize(min, max)
    }

    /// The least and most threads in force.
    pub fn size(&self) -> (usize, usize) {
        self.pool.size()
    }

    /// Stops accepting. What is queued will still be served.
    pub fn stop_accepting(&self) {
        self.front.stop();
        let _ = self.trim.try_send(());
    }

    /// Models Puma::ThreadPool#shutdown. Blocks for at most the two times.
    pub fn shutdown(&self, timeout: Duration, grace: Duration) -> Shutdown {
        self.stop_accepting();
        self.pool.shutdown(Some(timeout), grace)
    }
}

/// Models the automaton `puma srv tp trim`: one idle thread goes at each round,
/// and there is no such thread where least and most are the same.
fn auto_trim(configuration: &Configuration, pool: &Arc<ThreadPool<Job>>) -> Result<Sender<()>, StartError> {
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
