//! The front door on tiny_http: the simplest server in front of the pool.
//!
//! tiny_http reads the requests on one thread of its own per connection. Whole requests are pushed into `todo`, and a
//! pool thread holds each until its response ends. That is enough to show nine tabs on eight threads. Its costs are
//! listed here, since most of them cannot be avoided from outside:
//!
//! - A request head has no size limit, and each connection, even an idle one, takes a thread and two descriptors. The
//!   server therefore **binds to loopback only**.
//! - Dropping a request allocates its declared length at once, and a large one ends the process. A request that
//!   declares an unwanted body (over 1 KiB, or of a length that only its end will tell), or one over
//!   `max_body_bytes`, is therefore answered through `upgrade()`, and its connection is leaked on purpose: two
//!   descriptors and a thread of tiny_http, forever, instead of the process. A request that is still in `todo` when
//!   the server gives up on it is leaked for the same reason.
//! - A client that declares a wanted body of a permitted size and sends it slowly holds its pool thread meanwhile:
//!   every read timeout would end the listener as well.
//! - Requests that a client pipelines behind its own open stream each hold a pool
//!   thread until that stream ends.
//! - A request in HTTP/2.0 or 3.0 is never answered: tiny_http waits on it for
//!   itself, and its thread and descriptors are lost.
//! - A burst of connections can strand some of them unread: tiny_http decides by
//!   a count of waiting threads, outside any lock, whether to start one more, and
//!   counts a thread that is woken but does not run yet.
//! - Out of descriptors its accept thread panics and the listener is gone, while
//!   `recv` goes on waiting; [`TinyHttpServer::died`] tells. A client that resets before
//!   it is looked at costs a panic in one of its threads.
//! - The socket is hidden: a blocked write ends by SO_SNDTIMEO and by nothing
//!   else, a connection outlives its stream, a client that left while it was
//!   queued is not told from one that waits.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, bounded};

use http::StatusCode;
use ninetabs_server::configuration::{self as default, AnswerLimits, UNWANTED_BODY_BYTES};
use ninetabs_server::handle::{AutoTrim, ListenerDied, ServerStats, ThreadView};
use ninetabs_server::listen::{ListenOptions, listen};
use ninetabs_server::refusal;
use ninetabs_server::request::Version;
use ninetabs_server::services::Services;
use ninetabs_server::serving::Serving;
use ninetabs_server::thread_pool::{
    BadSize, PoolOptions, PoolSize, PoolStats, Processor, Shutdown, ThreadPool, Trim, Work,
};
use ninetabs_server::threads::{StopSignal, StoppableThread};
use ninetabs_server::timeline::{Subject, Timeline, What};
use ninetabs_server::{App, Reaper, Request, RequestBuilder, Response, StartError, Streams};

/// The name of the server, with which the names of its threads begin.
const NAME: &str = "puma srv";
/// How often the acceptor checks whether it must stop and whether its listener is open.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A queued request.
pub struct Job {
    /// None once a pool thread has taken it.
    request: Option<tiny_http::Request>,
    subject: Subject,
}

impl Work for Job {
    fn subject(&self) -> Subject {
        self.subject
    }
}

/// Only a server that stops drops a request unserved. tiny_http would answer it
/// with 500, wait meanwhile for an answer that comes before it on the same
/// connection, and allocate the length of its unread body: it is leaked, and its
/// connection ends with the process.
impl Drop for Job {
    fn drop(&mut self) {
        mem::forget(self.request.take());
    }
}

/// The settings of the server.
#[derive(Debug, Clone)]
pub struct TinyHttpSettings {
    /// The address, on loopback; port 0 takes a free port.
    pub bind: SocketAddr,
    /// Minimum and maximum of pool threads.
    pub threads: RangeInclusive<usize>,
    /// Threads that may be marked IO-bound on top of those.
    pub max_io_threads: usize,
    /// How often one idle thread above the minimum ends.
    pub auto_trim_time: Duration,
    /// How long a blocked write waits for its client, in total.
    pub write_timeout: Duration,
    /// The largest request body, in bytes.
    pub max_body_bytes: u64,
    /// How long written bytes may stay unacknowledged by a peer.
    pub tcp_user_timeout: Option<Duration>,
    /// How often the reaper looks for streams that are too old.
    pub reap_every: Duration,
    /// Notified of a reaper that ends by itself.
    pub services: Services,
}

impl TinyHttpSettings {
    /// A server at that address, with the defaults.
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
            services: Services::default(),
        }
    }
}

/// A running server: tiny_http in front of a thread pool. Dropping it stops accepting, and waits for no
/// request.
pub struct TinyHttpServer {
    front: TinyHttpFront,
    pool: Arc<ThreadPool<Job>>,
    serving: Arc<Serving>,
    trim: AutoTrim,
    started_at: SystemTime,
    _reaper: Reaper,
}

/// The acceptor: a thread that takes requests from tiny_http and pushes them into todo.
struct TinyHttpFront {
    /// None once it has been stopped: with the last hold of it the listener closes.
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
            // The only bound that there is on a write to a hidden socket.
            write_timeout: Some(settings.write_timeout),
        };
        let listener = listen(settings.bind, options)?;
        // An answer's time is its writes': nothing can end them before.
        let limits = AnswerLimits { write_timeout: settings.write_timeout, max_answer_time: None };
        let serving = Arc::new(Serving::new(app, Arc::clone(&timeline), Arc::clone(&streams), limits));
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

    /// Where it listens, port 0 resolved.
    pub fn addr(&self) -> SocketAddr {
        self.front.address
    }

    /// Receives once if the listener dies by itself.
    pub fn died(&self) -> &Receiver<ListenerDied> {
        &self.front.died
    }

    /// The numbers of now. Reading resets `backlog_max`, as in Puma.
    pub fn stats(&self) -> ServerStats {
        self.stats_of(self.pool.stats())
    }

    /// The numbers of now; nothing is reset.
    pub fn glance(&self) -> ServerStats {
        self.stats_of(self.pool.glance())
    }

    fn stats_of(&self, pool: PoolStats) -> ServerStats {
        ServerStats::of(pool, &self.serving, self.started_at)
    }

    /// Every pool thread, lowest number first.
    pub fn threads(&self) -> Vec<ThreadView> {
        ThreadView::of(self.pool.processors(), &self.serving)
    }

    /// The size of the pool that is in force.
    pub fn size(&self) -> PoolSize {
        self.pool.size()
    }

    /// Sets the least and the most number of threads, and neither starts nor ends one.
    pub fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        self.pool.resize(min, max)
    }

    /// Asks one thread above the least to leave as soon as it is idle.
    pub fn trim(&self) {
        self.pool.trim(Trim::Forced);
    }

    /// Starts threads until the least are there.
    pub fn fill(&self) {
        self.pool.fill();
    }

    /// Stops accepting. What is queued will still be served.
    pub fn stop_accepting(&self) {
        self.front.stop();
        self.trim.stop();
    }

    /// Accepts no connection, tells streams to end, serves what is queued; blocks for at most `timeout`.
    pub fn shutdown(&self, timeout: Duration) -> Shutdown {
        self.stop_accepting();
        self.serving.streams().stop();
        self.pool.shutdown(Some(timeout), Duration::ZERO)
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
    /// Runs until it must stop (None), or until the listener ended by itself (the reason).
    fn run(mut self, stop: &StopSignal) -> Option<String> {
        let mut looked = Instant::now();
        loop {
            // By the clock: connections that are kept may leave no pause to look in.
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                if self.life.is_over() {
                    return Some("its accept thread ended, most likely for want of file descriptors".into());
                }
            }
            match self.server.recv_timeout(LOOK_EVERY) {
                last if stop.has_come() => {
                    // Dropping an unserved request could block, or end the process.
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
        // It comes back only while the server stops, and may then be dropped.
        let _ = self.pool.push(Job { request: Some(request), subject });
    }
}

/// Whether the listener that was given away is still open, asked of the kernel
/// without holding it: a copy of it would keep the port open after its end.
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

    /// False where there is no /proc to ask.
    fn is_over(&self) -> bool {
        self.socket.is_some() && std::fs::read_link(&self.link).ok() != self.socket
    }
}

/// What a pool thread does with a request: reads the rest of it, serves it.
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
    let read = read(&mut request, max_body_bytes).and_then(|it| {
        let it = it.subject(subject).thread(processor.number());
        Ok(it.on_io_bound(move || marker.mark_as_io_bound()).build()?)
    });
    match read {
        Ok(seen) => serving.serve_to(&seen, request.into_writer()),
        Err(refusal) => {
            let what =
                What::Rejected { status: refusal.status.as_u16(), why: refusal.why.clone().into_owned() };
            timeline.record(Some(processor.number()), Some(subject), what);
            refuse(request, &refusal);
        }
    }
}

struct TinyHttpRefusal {
    status: StatusCode,
    why: Cow<'static, str>,
}

impl TinyHttpRefusal {
    fn bad_request(why: &'static str) -> TinyHttpRefusal {
        TinyHttpRefusal { status: StatusCode::BAD_REQUEST, why: why.into() }
    }

    fn too_large(why: &'static str) -> TinyHttpRefusal {
        TinyHttpRefusal { status: StatusCode::PAYLOAD_TOO_LARGE, why: why.into() }
    }
}

impl From<refusal::Refusal> for TinyHttpRefusal {
    fn from(refusal: refusal::Refusal) -> TinyHttpRefusal {
        TinyHttpRefusal { status: refusal.status(), why: refusal.to_string().into() }
    }
}

/// The same rules of methods, targets, hosts and transfer codings hold as on Puma's own front;
/// tiny_http has none of them, and reads any coding as chunked. So the head is checked before the body
/// is read.
fn read(request: &mut tiny_http::Request, max_body_bytes: u64) -> Result<RequestBuilder, TinyHttpRefusal> {
    head(request).build()?;
    let body = read_body(request, max_body_bytes)?;
    Ok(head(request).body(body))
}

fn head(request: &tiny_http::Request) -> RequestBuilder {
    let is_http10 = *request.http_version() == tiny_http::HTTPVersion(1, 0);
    let head = Request::builder()
        .method(request.method().as_str())
        .path(request.url())
        .version(if is_http10 { Version::Http10 } else { Version::Http11 });
    request
        .headers()
        .iter()
        .fold(head, |head, header| head.header(header.field.as_str().as_str(), header.value.as_str()))
}

/// Reads the body, or says why the request can be neither read nor dropped.
///
/// Blocks for as long as the client takes over a body of a permitted size, but only
/// where one is wanted: elsewhere what tiny_http has not read yet is refused.
fn read_body(request: &mut tiny_http::Request, max_body_bytes: u64) -> Result<Vec<u8>, TinyHttpRefusal> {
    let wanted = max_body_bytes > 0 && matches!(request.method().as_str(), "POST" | "PUT" | "PATCH");
    let declared = declared_length(request)?;
    let limit = if wanted { max_body_bytes } else { UNWANTED_BODY_BYTES.min(max_body_bytes) };
    if declared > limit {
        return Err(TinyHttpRefusal::too_large("the body is over the limit"));
    }
    if !wanted && is_unread(request) {
        return Err(TinyHttpRefusal::too_large("no body is wanted, and its end is not waited for"));
    }
    if says(request, "Connection", "upgrade") {
        // tiny_http then passes on the bare connection, which does not end with the body.
        return match declared {
            0 => Ok(Vec::new()),
            _ => Err(TinyHttpRefusal::bad_request("an upgrade with a body")),
        };
    }
    let counted = request.body_length().map_or(0, |length| length as u64);
    let mut body = Vec::new();
    let read = request.as_reader().take(limit.saturating_add(1)).read_to_end(&mut body);
    match read {
        Ok(_) if body.len() as u64 > limit => Err(TinyHttpRefusal::too_large("the body is over the limit")),
        Ok(_) if (body.len() as u64) < counted => Err(TinyHttpRefusal::bad_request("the body ended early")),
        Ok(_) => Ok(body),
        Err(_) => Err(TinyHttpRefusal::bad_request("the body cannot be read")),
    }
}

/// The length that Content-Length declares. An invalid number is refused, since tiny_http would ignore it. Two lengths
/// are refused as well, since it would use the first.
fn declared_length(request: &tiny_http::Request) -> Result<u64, TinyHttpRefusal> {
    let mut lengths = lengths(request);
    let (first, second) = (lengths.next(), lengths.next());
    if second.is_some() {
        return Err(TinyHttpRefusal::bad_request("Content-Length is given twice"));
    }
    match first {
        None => Ok(0),
        Some(text) if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(TinyHttpRefusal::bad_request("Content-Length is not a number"))
        }
        // More digits than a u64 holds is more than any limit.
        Some(text) => Ok(text.parse().unwrap_or(u64::MAX)),
    }
}

fn lengths(request: &tiny_http::Request) -> impl Iterator<Item = &str> {
    let all = request.headers().iter().filter(|header| header.field.equiv("Content-Length"));
    all.map(|header| header.value.as_str())
}

/// Whether the first header of this name has this word, which is how tiny_http asks.
fn says(request: &tiny_http::Request, name: &'static str, word: &str) -> bool {
    let first = request.headers().iter().find(|header| header.field.equiv(name));
    first.is_some_and(|header| header.value.as_str().to_ascii_lowercase().contains(word))
}

/// Answers a request whose body is not read to its end.
///
/// Where tiny_http waits for that end before it reads on, the connection is
/// leaked. Elsewhere it must not be: what the client sends next is read as a
/// request, and its answer would wait for this one's end on a pool thread, forever.
fn refuse(request: tiny_http::Request, refusal: &TinyHttpRefusal) {
    let line = Response::status(refusal.status).into_bytes().unwrap_or_default();
    if !holds_its_connection(&request) {
        let response = tiny_http::Response::from_data(line).with_status_code(refusal.status.as_u16());
        // Its failure would mean that the client has gone.
        let _ = request.respond(response);
        return;
    }
    let is_head = *request.method() == tiny_http::Method::Head;
    // tiny_http frames no body after an upgrade and knows no other way to keep a
    // request, so the length goes out as a second line of the one free value.
    let protocol =
        format!("close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}", line.len());
    let mut stream = request.upgrade(&protocol, tiny_http::Response::empty(refusal.status.as_u16()));
    if !is_head {
        let _ = stream.write_all(&line).and_then(|()| stream.flush());
    }
    mem::forget(stream);
}

/// Whether tiny_http reads nothing more from this connection before the body of
/// this request has been read or dropped: it copies only short counted ones.
fn holds_its_connection(request: &tiny_http::Request) -> bool {
    is_unread(request) || says(request, "Connection", "upgrade")
}

/// Whether the body is still with the client, or on its way.
fn is_unread(request: &tiny_http::Request) -> bool {
    let has = |name| says(request, name, "");
    match request.body_length() {
        Some(length) => length > 1024 || (length > 0 && has("Expect")),
        None => has("Transfer-Encoding"),
    }
}
