//! A server: a front door, todo and its thread pool, and the app that is handed in.
//!
//! Models Puma::Server as far as both front doors share it. The app is a function
//! of a request; the room knows no route, no template and no SQL. A request's
//! thread is held until its answer has ended, be it a page or a stream: that is
//! the whole of the seed's trouble.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::configuration::Configuration;
use super::connection::{Connection, Progress};
use super::request::Request;
use super::response::{self, Body, Ended, Framing, Response};
use super::thread_pool::{self, BadSize, Shutdown, ThreadPool};
use super::tiny_http_front::{self, Front, Job};
use crate::timeline::{Timeline, What};

pub use super::tiny_http_front::{DoorDied, StartError};

/// What every request is handed to.
pub type App = dyn Fn(&Request) -> Response + Send + Sync;

/// A running server. Dropping it stops accepting, and waits for nobody.
pub struct Server {
    // Dropped first, so that nothing is pushed into a pool that is going.
    front: Front,
    pool: Arc<ThreadPool<Job>>,
    serving: Arc<Serving>,
    trim: Sender<()>,
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

/// A request that holds a thread.
#[derive(Debug, Clone)]
pub struct RequestView {
    pub request: u64,
    pub connection: u64,
    pub target: String,
    /// How long it has held its thread.
    pub age: Duration,
    /// Bytes of its answer that the kernel has taken.
    pub bytes: u64,
}

/// The numbers of one moment; see docs/puma.md for what each counts.
#[derive(Debug, Clone)]
pub struct Stats {
    pub started_at: SystemTime,
    pub pool: thread_pool::Stats,
    /// Requests begun, not answered.
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
        let serving = Arc::new(Serving {
            app,
            timeline: Arc::clone(&timeline),
            write_timeout: configuration.write_timeout,
            started_at: SystemTime::now(),
            requests_count: AtomicU64::new(0),
            in_flight: Mutex::default(),
        });
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
        Ok(Server { front, pool, serving, trim })
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
            started_at: self.serving.started_at,
            pool: self.pool.stats(),
            requests_count: self.serving.requests_count.load(Ordering::Relaxed),
        }
    }

    /// Every pool thread, lowest number first.
    pub fn threads(&self) -> Vec<ThreadView> {
        let processors = self.pool.processors();
        let in_flight = self.serving.in_flight();
        let view = |subject: crate::timeline::Subject| {
            let begun = in_flight.get(&subject.request)?;
            Some(RequestView {
                request: subject.request,
                connection: subject.connection,
                target: begun.target.clone(),
                age: begun.at.elapsed(),
                bytes: begun.progress.bytes.load(Ordering::Relaxed),
            })
        };
        processors
            .into_iter()
            .map(|it| ThreadView {
                number: it.number,
                name: it.name,
                io_bound: it.io_bound,
                request: it.running.and_then(view),
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

/// What the pool's threads share while they serve.
pub(super) struct Serving {
    app: Arc<App>,
    pub(super) timeline: Arc<Timeline>,
    pub(super) write_timeout: Duration,
    started_at: SystemTime,
    requests_count: AtomicU64,
    in_flight: Mutex<HashMap<u64, Begun>>,
}

struct Begun {
    target: String,
    at: Instant,
    progress: Arc<Progress>,
}

impl Serving {
    /// Serves one request on this thread, to the end of its answer.
    ///
    /// An app that panics costs one 500, or, if its answer has begun, that answer.
    pub(super) fn serve(&self, request: Request, socket: Box<dyn std::io::Write + Send>) {
        self.requests_count.fetch_add(1, Ordering::Relaxed);
        let progress = Arc::new(Progress::default());
        let (number, thread) = (request.subject.request, request.thread);
        let begun =
            Begun { target: request.target.clone(), at: Instant::now(), progress: Arc::clone(&progress) };
        self.in_flight().insert(number, begun);
        let connection = Connection::new(
            socket,
            request.subject,
            thread,
            Arc::clone(&self.timeline),
            progress,
            self.write_timeout,
        );
        let response =
            panic::catch_unwind(AssertUnwindSafe(|| (self.app)(&request))).unwrap_or_else(|panic| {
                self.report(&request, panic.as_ref());
                Response::status(500)
            });
        self.answer(&request, response, connection);
        self.in_flight().remove(&number);
    }

    fn answer(&self, request: &Request, response: Response, mut connection: Connection) {
        let framing = response::framing(request, &response);
        connection.begin(response::head(request, &response, framing), framing);
        if request.method == "HEAD" || framing == Framing::None {
            connection.bare();
            return connection.end(Ended::Clean);
        }
        let ended = match response.body {
            // Its failure is on the timeline: a page has nobody else to tell.
            Body::Whole(bytes) => connection.write(&bytes).map_or(Ended::Cut, |()| Ended::Clean),
            Body::Live(live) => {
                let live = panic::catch_unwind(AssertUnwindSafe(|| live(&mut connection)));
                live.unwrap_or_else(|panic| {
                    self.report(request, panic.as_ref());
                    Ended::Cut
                })
            }
        };
        if ended == Ended::Cut && !connection.has_begun() {
            return self.answer(request, Response::status(500), connection);
        }
        connection.end(ended);
    }

    fn report(&self, request: &Request, panic: &(dyn std::any::Any + Send)) {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned());
        log::error!("{request:?}: {message}");
        self.timeline.record(Some(request.thread), Some(request.subject), What::Panicked { message });
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<u64, Begun>> {
        // Each holder inserts, removes or reads one entry: a panic leaves it whole.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
