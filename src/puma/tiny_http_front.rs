//! The front door on tiny_http: the pool at its plainest.
//!
//! tiny_http reads the requests, on one thread of its own per connection; its
//! whole requests are pushed into todo, and a pool thread holds each until its
//! answer ends. That is all that is needed to show nine tabs on eight threads.
//! What it costs stands here, since most of it cannot be helped from outside:
//!
//! - A request head has no limit, and a thread and two descriptors go with each
//!   connection, idle ones too; so it **binds to loopback only**.
//! - Dropping a request allocates its declared length at once, and a large one
//!   ends the process. So a request that declares a body where none is wanted
//!   (over 1 KiB, or of a length that only its end will tell), or one over
//!   `max_body_bytes`, is answered through `upgrade()` and its connection is
//!   leaked on purpose: two descriptors and a thread of tiny_http's, for ever,
//!   against the process. A request that is still in todo when the server gives
//!   up on it is leaked for the same reason.
//! - A client that declares a body of a permitted size where one is wanted, and
//!   sends it slowly, holds its pool thread meanwhile: there is no read timeout
//!   that would not end the listener, too.
//! - Requests that a client pipelines behind its own open stream each hold a pool
//!   thread until that stream ends.
//! - A request in HTTP/2.0 or 3.0 is never answered: tiny_http waits on it for
//!   itself, and its thread and descriptors are lost.
//! - A burst of connections can strand some of them unread: tiny_http decides by
//!   a count of waiting threads, outside any lock, whether to start one more, and
//!   counts a thread that is woken but does not run yet.
//! - Out of descriptors its accept thread panics and the listener is gone, while
//!   `recv` goes on waiting; [`Door::died`] tells. A client that resets before
//!   it is looked at costs a panic in one of its threads.
//! - The socket is hidden: a blocked write ends by SO_SNDTIMEO and by nothing
//!   else, a connection outlives its stream, a client that left while it was
//!   queued is not told from one that waits.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::body::RequestBody;
use super::configuration::UNWANTED_BODY_BYTES;
use super::door::{Door, DoorDied, StartError};
use super::fields::Fields;
use super::framing;
use super::head::{self, Head};
use super::refusal;
use super::request::{Request, Version};
use super::response::{Body, Response};
use super::serving::Serving;
use super::thread_pool::{Processor, ThreadPool, Work};
use super::transport::Transport;
use crate::timeline::{Subject, Timeline, What};

/// How often the acceptor looks whether it is to stop, and whether its listener lives.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A request in todo.
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

/// The acceptor: a thread that takes requests from tiny_http and pushes them into todo.
pub(super) struct TinyHttpFront {
    /// None once it has been stopped: with the last hold of it the listener closes.
    server: Mutex<Option<Arc<tiny_http::Server>>>,
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    died: Receiver<DoorDied>,
}

impl TinyHttpFront {
    pub(super) fn open(
        listener: TcpListener,
        name: &str,
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
        let stopping = Arc::new(AtomicBool::new(false));
        let (tell, died) = bounded(1);
        let acceptor = Acceptor {
            server: Arc::clone(&server),
            stopping: Arc::clone(&stopping),
            life,
            pool,
            timeline,
            requests: 0,
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if let Some(why) = acceptor.run() {
                    let _ = tell.send(DoorDied { address, why });
                }
            })
            .map_err(StartError::Thread)?;
        Ok(TinyHttpFront { server: Mutex::new(Some(server)), address, stopping, died })
    }
}

impl Door for TinyHttpFront {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn died(&self) -> &Receiver<DoorDied> {
        &self.died
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
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

struct Acceptor {
    server: Arc<tiny_http::Server>,
    stopping: Arc<AtomicBool>,
    life: Life,
    pool: Arc<ThreadPool<Job>>,
    timeline: Arc<Timeline>,
    requests: u64,
}

impl Acceptor {
    /// Runs until it is told to stop (None), or until the listener died (why).
    fn run(mut self) -> Option<String> {
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
                last if self.stopping.load(Ordering::Acquire) => {
                    // Dropping what nobody will serve could block, or end the process.
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
pub(super) fn process(job: Job, processor: &Processor<Job>, serving: &Serving, max_body_bytes: u64) {
    let mut job = job;
    let subject = job.subject;
    let Some(mut request) = job.request.take() else { return };
    let read = read_head(&request).and_then(|head| Ok((head, read_body(&mut request, max_body_bytes)?)));
    let (head, body) = match read {
        Ok(read) => read,
        Err(refusal) => {
            let thread = Some(processor.number());
            let what = What::Rejected { status: refusal.status, why: refusal.why.clone().into_owned() };
            serving.timeline.record(thread, Some(subject), what);
            return refuse(request, &refusal);
        }
    };
    let marker = processor.clone();
    let seen = Request {
        subject,
        thread: processor.number(),
        method: head.method.into(),
        target: head.target,
        version: head.version,
        body: RequestBody::Memory(body),
        authority: head.authority,
        headers: head.fields,
        mark: Box::new(move || marker.mark_as_io_bound()),
    };
    serving.serve(&seen, Transport::Hidden(request.into_writer()), true);
}

struct Refusal {
    status: u16,
    why: Cow<'static, str>,
}

impl Refusal {
    fn new(status: u16, why: &'static str) -> Refusal {
        Refusal { status, why: why.into() }
    }
}

impl From<refusal::Refusal> for Refusal {
    fn from(refusal: refusal::Refusal) -> Refusal {
        Refusal { status: refusal.status(), why: refusal.to_string().into() }
    }
}

/// The same rules of methods, targets, hosts and transfer codings as on Puma's own front;
/// tiny_http has none of them, and reads any coding as chunked.
fn read_head(request: &tiny_http::Request) -> Result<Head, Refusal> {
    let is_http10 = *request.http_version() == tiny_http::HTTPVersion(1, 0);
    let version = if is_http10 { Version::Http10 } else { Version::Http11 };
    let mut fields = Fields::default();
    for header in request.headers() {
        head::push_field(&mut fields, header.field.as_str().as_str(), header.value.as_str().as_bytes());
    }
    let codings: Vec<&str> = fields.values("transfer-encoding").collect();
    if !codings.is_empty() {
        framing::transfer_coding(&codings)?;
    }
    Ok(Head::new(request.method().as_str(), request.url(), version, fields)?)
}

/// Reads the body, or says why the request can be neither read nor dropped.
///
/// Blocks for as long as the client takes over a body of a permitted size, but only
/// where one is wanted: elsewhere what tiny_http has not read yet is refused.
fn read_body(request: &mut tiny_http::Request, max_body_bytes: u64) -> Result<Vec<u8>, Refusal> {
    let wanted = max_body_bytes > 0 && matches!(request.method().as_str(), "POST" | "PUT" | "PATCH");
    let declared = declared_length(request)?;
    let limit = if wanted { max_body_bytes } else { UNWANTED_BODY_BYTES.min(max_body_bytes) };
    if declared > limit {
        return Err(Refusal::new(413, "the body is over the limit"));
    }
    if !wanted && is_unread(request) {
        return Err(Refusal::new(413, "no body is wanted, and its end is not waited for"));
    }
    if says(request, "Connection", "upgrade") {
        // tiny_http hands over the bare connection then, which has no end.
        return match declared {
            0 => Ok(Vec::new()),
            _ => Err(Refusal::new(400, "an upgrade with a body")),
        };
    }
    let counted = request.body_length().map_or(0, |length| length as u64);
    let mut body = Vec::new();
    let read = request.as_reader().take(limit.saturating_add(1)).read_to_end(&mut body);
    match read {
        Ok(_) if body.len() as u64 > limit => Err(Refusal::new(413, "the body is over the limit")),
        Ok(_) if (body.len() as u64) < counted => Err(Refusal::new(400, "the body ended early")),
        Ok(_) => Ok(body),
        Err(_) => Err(Refusal::new(400, "the body cannot be read")),
    }
}

/// The length that Content-Length declares. One that is no number is refused, since tiny_http would
/// read it as none; so are two, of which it would read the first.
fn declared_length(request: &tiny_http::Request) -> Result<u64, Refusal> {
    let mut lengths = lengths(request);
    let (first, second) = (lengths.next(), lengths.next());
    if second.is_some() {
        return Err(Refusal::new(400, "Content-Length is given twice"));
    }
    match first {
        None => Ok(0),
        Some(text) if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(Refusal::new(400, "Content-Length is not a number"))
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
/// request, and its answer would wait for this one's end on a pool thread, for ever.
fn refuse(request: tiny_http::Request, refusal: &Refusal) {
    let line = match Response::status(refusal.status).body {
        Body::Whole(line) => line,
        Body::Live(_) | Body::Detached { .. } => Vec::new(),
    };
    if !holds_its_connection(&request) {
        let response = tiny_http::Response::from_data(line).with_status_code(refusal.status);
        // Its failure would mean that the client has gone.
        let _ = request.respond(response);
        return;
    }
    let is_head = *request.method() == tiny_http::Method::Head;
    // tiny_http frames no body after an upgrade and knows no other way to keep a
    // request, so the length goes out as a second line of the one free value.
    let protocol =
        format!("close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}", line.len());
    let mut stream = request.upgrade(&protocol, tiny_http::Response::empty(refusal.status));
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
