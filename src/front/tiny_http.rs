//! The second front door: tiny_http, the simplest server that fits, in front of the same pool.
//!
//! tiny_http reads requests on its own threads, one per connection. The acceptor pushes a request into `todo` when its
//! head is complete, and each request holds a pool thread until its response ends. This is enough to show nine tabs on
//! eight threads. It has these limitations, most of which cannot be avoided from outside tiny_http:
//!
//! - The size of a request head is not limited, and each connection, even an idle one, uses a thread and two
//!   descriptors. The server therefore **binds to loopback only**.
//! - When a request is dropped, tiny_http allocates its declared length in one piece, and a large length aborts the
//!   process. A request that declares an unwanted body (over 1 KiB, or of unknown length), or a body over
//!   `max_body_bytes`, is therefore answered through `upgrade()`, and its connection is leaked on purpose. This loses
//!   two descriptors and a thread of tiny_http, but not the process. A request that is still queued when the server
//!   stops is leaked for the same reason.
//! - A client that declares a wanted body of a permitted size and sends it slowly holds its pool thread for that time.
//!   A read timeout is not possible, because it would end the listener as well.
//! - Each request that a client pipelines behind its own open stream holds a pool thread until that stream ends.
//! - A request in HTTP/2.0 or 3.0 is never answered. tiny_http waits for the request to be dropped, and the thread and
//!   the descriptors of the connection are lost.
//! - In a burst of connections, some may remain unread. tiny_http uses a count of idle threads, outside any lock, to
//!   decide whether to start another one. A thread that was notified but is not running yet still counts as idle.
//! - If the process is out of descriptors, tiny_http's accept thread panics and the listener closes, but `recv`
//!   continues to wait. [`TinyHttpServer::died`] reports the closed listener. A client that resets its connection early
//!   causes a panic in one of tiny_http's threads.
//! - The socket is hidden. A blocked write is ended only by SO_SNDTIMEO, a connection outlives its stream, and a client
//!   that closed while it was queued looks the same as one that is waiting.

mod reading;

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, bounded};

use ninetabs_server::action_threads::ActionThreadView;
use ninetabs_server::configuration::{self as default, AnswerLimits};
use ninetabs_server::handle::{AutoTrim, ListenerDied, ServerStats, ThreadView};
use ninetabs_server::listen::{ListenOptions, listen};
use ninetabs_server::services::Services;
use ninetabs_server::serving::Serving;
use ninetabs_server::thread_pool::{
    BadSize, PoolOptions, PoolSize, PoolStats, Processor, Shutdown, ThreadPool, Trim, Work,
};
use ninetabs_server::threads::{StopSignal, StoppableThread};
use ninetabs_server::timeline::{Subject, Timeline, What};
use ninetabs_server::{ActionsOn, App, Reaper, StartError, Streams};

/// The prefix of the names of the server's threads.
const NAME: &str = "puma srv";
/// The interval at which the acceptor checks whether it must stop and whether its listener is open.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A queued request.
pub struct Job {
    /// `None` once a pool thread has taken it.
    request: Option<tiny_http::Request>,
    subject: Subject,
}

impl Work for Job {
    fn subject(&self) -> Subject {
        self.subject
    }
}

/// A request is dropped without being served only when the server stops. tiny_http would then answer it with 500, wait
/// for earlier answers on the same connection, and allocate the length of its unread body. The request is therefore
/// leaked, and its connection ends with the process.
impl Drop for Job {
    fn drop(&mut self) {
        mem::forget(self.request.take());
    }
}

/// The settings of the server.
#[derive(Debug, Clone)]
pub struct TinyHttpSettings {
    /// The address to listen on, which must be a loopback address. With port 0, the system chooses a free port.
    pub bind: SocketAddr,
    /// The minimum and maximum number of pool threads.
    pub threads: RangeInclusive<usize>,
    /// The maximum number of IO-bound threads in addition to the pool's maximum.
    pub max_io_threads: usize,
    /// The interval at which one idle thread above the minimum ends.
    pub auto_trim_time: Duration,
    /// How long a blocked write waits for its client.
    pub write_timeout: Duration,
    /// The maximum size of a request body, in bytes.
    pub max_body_bytes: u64,
    /// How long written bytes may remain unacknowledged by a peer. With `None`, the kernel's default applies.
    pub tcp_user_timeout: Option<Duration>,
    /// The interval at which the reaper checks for streams that have reached their maximum age.
    pub reap_every: Duration,
    /// The kind of thread on which actions run.
    pub actions_on: ActionsOn,
    /// Receives a report if the reaper ends unexpectedly.
    pub services: Services,
}

impl TinyHttpSettings {
    /// Returns the defaults for a server at this address.
    pub fn new(bind: SocketAddr) -> TinyHttpSettings {
        TinyHttpSettings {
            bind,
            threads: default::THREADS,
            max_io_threads: default::MAX_IO_THREADS,
            auto_trim_time: default::AUTO_TRIM_TIME,
            write_timeout: default::WRITE_TIMEOUT,
            max_body_bytes: default::MAX_BODY_BYTES,
            tcp_user_timeout: None,
            reap_every: default::REAP_EVERY,
            actions_on: ActionsOn::PoolThread,
            services: Services::default(),
        }
    }
}

/// A running server: tiny_http in front of a thread pool. Dropping it stops accepting connections without waiting for
/// requests.
pub struct TinyHttpServer {
    front: TinyHttpFront,
    pool: Arc<ThreadPool<Job>>,
    serving: Arc<Serving>,
    trim: AutoTrim,
    started_at: SystemTime,
    _reaper: Reaper,
}

/// The listener, and the acceptor: a thread that takes requests from tiny_http and pushes them into `todo`.
struct TinyHttpFront {
    /// `None` after a stop. The listener closes when the last reference is dropped.
    server: Mutex<Option<Arc<tiny_http::Server>>>,
    address: SocketAddr,
    acceptor: StoppableThread,
    died: Receiver<ListenerDied>,
}

impl TinyHttpServer {
    /// Starts the server, and returns once it accepts connections.
    pub fn start(
        settings: &TinyHttpSettings,
        streams: Arc<Streams>,
        timeline: Arc<Timeline>,
        app: Arc<dyn App>,
    ) -> Result<TinyHttpServer, StartError> {
        let options = ListenOptions {
            tcp_user_timeout: settings.tcp_user_timeout,
            // This is the only limit that can apply to a write to the hidden socket.
            write_timeout: Some(settings.write_timeout),
        };
        let listener = listen(settings.bind, options)?;
        // An answer can be ended only by the write timeout.
        let limits = AnswerLimits { write_timeout: settings.write_timeout, max_answer_time: None };
        let serving = Serving::new(app, Arc::clone(&timeline), Arc::clone(&streams), limits);
        let serving = Arc::new(serving.with_actions_on(settings.actions_on));
        let process = {
            let (serving, record) = (Arc::clone(&serving), Arc::clone(&timeline));
            let most = settings.max_body_bytes;
            move |job: Job, processor: &Processor<Job>| process(job, processor, &serving, &record, most)
        };
        let (min, max) = (*settings.threads.start(), *settings.threads.end());
        let options = PoolOptions { name: NAME.to_owned(), min, max, max_io: settings.max_io_threads };
        let pool = Arc::new(ThreadPool::start(options, Arc::clone(&timeline), process)?);
        let front = TinyHttpFront::open(listener, Arc::clone(&pool), timeline)?;
        let trimmed = Arc::clone(&pool);
        let trim =
            AutoTrim::start(NAME, pool.size(), settings.auto_trim_time, move || trimmed.trim(Trim::IfFree))?;
        let reaper = Reaper::start(streams, settings.reap_every, &settings.services)?;
        Ok(TinyHttpServer { front, pool, serving, trim, started_at: SystemTime::now(), _reaper: reaper })
    }

    /// Returns the address that the server listens on. If port 0 was requested, this contains the actual port.
    pub fn addr(&self) -> SocketAddr {
        self.front.address
    }

    /// Receives one message if the listener dies unexpectedly.
    pub fn died(&self) -> &Receiver<ListenerDied> {
        &self.front.died
    }

    /// Returns the current statistics, and resets `backlog_max`, as in Puma.
    pub fn stats(&self) -> ServerStats {
        self.stats_of(self.pool.stats())
    }

    /// Returns the current statistics without resetting anything.
    pub fn glance(&self) -> ServerStats {
        self.stats_of(self.pool.glance())
    }

    fn stats_of(&self, pool: PoolStats) -> ServerStats {
        ServerStats::of(pool, &self.serving, self.started_at)
    }

    /// Returns all pool threads, ordered by number.
    pub fn threads(&self) -> Vec<ThreadView> {
        ThreadView::of(self.pool.processors(), &self.serving)
    }

    /// Returns the threads of actions, ordered by number. Empty if actions run on pool threads.
    pub fn action_threads(&self) -> Vec<ActionThreadView> {
        self.serving.action_threads()
    }

    /// Returns the current minimum and maximum size of the pool.
    pub fn size(&self) -> PoolSize {
        self.pool.size()
    }

    /// Sets the minimum and maximum number of threads. Neither starts nor ends a thread.
    pub fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        self.pool.resize(min, max)
    }

    /// Asks one thread above the minimum to end as soon as it is idle.
    pub fn trim(&self) {
        self.pool.trim(Trim::Forced);
    }

    /// Starts threads until the minimum is reached.
    pub fn fill(&self) {
        self.pool.fill();
    }

    /// Stops accepting connections. Queued requests are still served.
    pub fn stop_accepting(&self) {
        self.front.stop();
        self.trim.stop();
    }

    /// Stops accepting connections, ends the streams, serves queued requests, and waits for actions that continue
    /// without a client. Blocks for at most `timeout`. Actions that are still running after that are abandoned.
    pub fn shutdown(&self, timeout: Duration) -> Shutdown {
        let began = Instant::now();
        self.stop_accepting();
        self.serving.streams().stop();
        let shutdown = self.pool.shutdown(Some(timeout), Duration::ZERO);
        self.serving.await_actions(timeout.saturating_sub(began.elapsed()));
        shutdown
    }
}

impl TinyHttpFront {
    fn open(
        listener: TcpListener,
        pool: Arc<ThreadPool<Job>>,
        timeline: Arc<Timeline>,
    ) -> Result<TinyHttpFront, StartError> {
        let address = listener
            .local_addr()
            .map_err(|error| StartError::Listen { address: ([127, 0, 0, 1], 0).into(), error })?;
        let life = Life::of(&listener);
        let server = tiny_http::Server::from_listener(listener, None)
            .map_err(|error| StartError::Listen { address, error: io::Error::other(error) })?;
        let server = Arc::new(server);
        let (tell, died) = bounded(1);
        let acceptor = TinyHttpAcceptor { server: Arc::clone(&server), life, pool, timeline, requests: 0 };
        let acceptor = StoppableThread::start(NAME, move |stop| {
            if let Some(why) = acceptor.run(stop) {
                let _ = tell.send(ListenerDied { address, why });
            }
        })?;
        Ok(TinyHttpFront { server: Mutex::new(Some(server)), address, acceptor, died })
    }

    fn stop(&self) {
        self.acceptor.stop();
        if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            server.unblock();
        }
    }
}

impl Drop for TinyHttpFront {
    fn drop(&mut self) {
        self.stop();
    }
}

struct TinyHttpAcceptor {
    server: Arc<tiny_http::Server>,
    life: Life,
    pool: Arc<ThreadPool<Job>>,
    timeline: Arc<Timeline>,
    requests: u64,
}

impl TinyHttpAcceptor {
    /// Runs until it is stopped, and then returns `None`. If the listener ends unexpectedly, returns the reason.
    fn run(mut self, stop: &StopSignal) -> Option<String> {
        let mut looked = Instant::now();
        loop {
            // Compared with the clock, because `recv_timeout` may never time out while connections are busy.
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                if self.life.is_over() {
                    return Some("its accept thread ended, most likely because the process was out of file descriptors".into());
                }
            }
            match self.server.recv_timeout(LOOK_EVERY) {
                last if stop.has_come() => {
                    // Dropping an unserved request could block or end the process.
                    mem::forget(last);
                    while let Ok(Some(unread)) = self.server.try_recv() {
                        mem::forget(unread);
                    }
                    return None;
                }
                Ok(Some(request)) => self.push(request),
                Ok(None) => {}
                Err(error) => return Some(error.to_string()),
            }
        }
    }

    fn push(&mut self, request: tiny_http::Request) {
        self.requests += 1;
        let port = request.remote_addr().map_or(0, |peer| peer.port());
        let subject = Subject { connection: self.requests, port, request: self.requests };
        let what = What::accepted(request.method().to_string(), request.url());
        self.timeline.record(None, Some(subject), what);
        // The pool returns the job only when the server is stopping. Dropping it is then correct.
        let _ = self.pool.push(Job { request: Some(request), subject });
    }
}

/// Determines whether the listener, which tiny_http owns, is still open. A duplicate of its descriptor would keep the
/// port open, so this compares the link in /proc.
struct Life {
    link: PathBuf,
    socket: Option<PathBuf>,
}

impl Life {
    fn of(listener: &TcpListener) -> Life {
        let link = PathBuf::from(format!("/proc/self/fd/{}", listener.as_raw_fd()));
        let socket = std::fs::read_link(&link).ok();
        Life { link, socket }
    }

    /// Always `false` on a system without /proc.
    fn is_over(&self) -> bool {
        self.socket.is_some() && std::fs::read_link(&self.link).ok() != self.socket
    }
}

/// Reads the rest of a request and serves it, on a pool thread.
fn process(
    mut job: Job,
    processor: &Processor<Job>,
    serving: &Serving,
    timeline: &Timeline,
    max_body_bytes: u64,
) {
    let subject = job.subject;
    let Some(mut request) = job.request.take() else { return };
    let marker = processor.clone();
    let read = reading::read(&mut request, max_body_bytes).and_then(|it| {
        let it = it.subject(subject).thread(processor.number());
        it.on_io_bound(move || marker.mark_as_io_bound()).build()
    });
    match read {
        Ok(seen) => serving.serve_to(&seen, request.into_writer()),
        Err(refusal) => {
            let what = What::Rejected { status: refusal.status().as_u16(), why: refusal.to_string() };
            timeline.record(Some(processor.number()), Some(subject), what);
            reading::refuse(request, refusal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::thread;

    use ninetabs_server::streams::StreamSettings;
    use ninetabs_server::{Event, Request, Response};

    use super::*;

    #[test]
    fn a_shutdown_waits_for_actions_that_continue_without_a_client() {
        let (finish, finished) = bounded::<()>(0);
        let app = move |_: &Request| {
            let finished = finished.clone();
            Response::events(move |stream| {
                stream.send(Event::data("x"))?;
                // Like a query, this does not end with the stream.
                let _ = finished.recv();
                Ok(())
            })
        };
        let settings = TinyHttpSettings {
            actions_on: ActionsOn::OwnThread,
            ..TinyHttpSettings::new(([127, 0, 0, 1], 0).into())
        };
        let timeline = Arc::<Timeline>::default();
        let streams = Arc::new(Streams::new(&StreamSettings::default(), Arc::clone(&timeline)));
        let server = TinyHttpServer::start(&settings, streams, timeline, Arc::new(app)).unwrap();
        let mut client = TcpStream::connect(server.addr()).unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        client.read_to_end(&mut Vec::new()).unwrap();
        thread::scope(|scope| {
            let shutdown = scope.spawn(|| server.shutdown(Duration::from_secs(60)));
            thread::sleep(Duration::from_millis(300));
            let has_ended = shutdown.is_finished();
            drop(finish);
            shutdown.join().unwrap();
            assert!(!has_ended, "the shutdown returned while an action was still running");
        });
        assert_eq!(server.glance().action_threads.unwrap().running, 0);
    }
}
