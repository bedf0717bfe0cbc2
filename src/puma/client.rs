//! One connection, from its bytes to its requests.
//!
//! Models Puma::Client. Its socket never blocks: bytes are read as they come, by a
//! pool thread or by the reactor, until a request is whole. What comes of a read is
//! one of four things ([`Progress`]); the parsing itself does no I/O, and no client
//! can make it keep more than the limits that [`Limits`] names.

use std::cell::RefCell;
use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::body::RequestBody;
use super::chunks::Chunks;
use super::framing::{self, BodyFraming};
use super::head::{self, Head, LookedAt, Parsed};
use super::reactor::Watched;
use super::refusal::Refusal;
use super::request::Version;
use super::socket::Socket;
use super::thread_pool::Work;
use crate::timeline::Subject;

/// The most that is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;
thread_local! {
    /// What a thread reads into. It is zeroed once and not at each read, and of its
    /// pages only those are resident that a read has filled.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// How much of an unread request is looked at, in bytes.
const PEEK_BYTES: usize = 4 * 1024;
/// How long a refused client may go on sending before its connection is closed.
const LINGER: Duration = Duration::from_secs(2);
/// How much of that is read and thrown away, in bytes.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// What a client may take, in bytes and in time.
#[derive(Debug, Clone)]
pub struct Limits {
    pub max_head_bytes: usize,
    pub max_body_bytes: u64,
    /// From one byte of a request to the next, and for the first of a connection.
    pub first_data_timeout: Duration,
    /// For a head, from its first byte to its last.
    pub head_timeout: Duration,
    /// Between two requests.
    pub persistent_timeout: Duration,
    /// Requests a connection.
    pub max_keep_alive: usize,
}

/// A request that has come whole.
#[derive(Debug)]
pub(super) struct Incoming {
    pub head: Head,
    pub body: RequestBody,
    /// Whether another may follow it on this connection, as far as framing goes.
    pub may_be_followed: bool,
}

/// What became of a client's bytes.
#[derive(Debug)]
pub(super) enum Progress {
    Ready,
    NotYet,
    /// It left, or broke off in the middle.
    Gone,
    Refused(Refusal),
}

/// A connection, and what has been read of its next request.
#[derive(Debug)]
pub(super) struct Client {
    pub socket: Arc<Socket>,
    pub subject: Subject,
    limits: Arc<Limits>,
    buffer: Vec<u8>,
    looked_at: LookedAt,
    phase: Phase,
    /// Requests that have been served on it.
    pub served: usize,
    deadline: Instant,
    /// When the first byte of the head came that is being read.
    head_began: Option<Instant>,
    /// Whether what it asks for has been looked at in todo.
    is_peeked: AtomicBool,
}

#[derive(Debug)]
enum Phase {
    Head,
    Counted {
        head: Head,
        left: u64,
        body: RequestBody,
    },
    Chunked {
        head: Head,
        chunks: Chunks,
        and_counted: bool,
        body: RequestBody,
    },
    Ready(Box<Incoming>),
    /// Refused: what still comes is thrown away, up to so many bytes.
    Lingering {
        left: usize,
    },
}

impl Client {
    pub fn new(socket: Socket, subject: Subject, limits: Arc<Limits>) -> Self {
        let deadline = Instant::now() + limits.first_data_timeout;
        Client {
            socket: Arc::new(socket),
            subject,
            limits,
            buffer: Vec::new(),
            looked_at: LookedAt::default(),
            phase: Phase::Head,
            served: 0,
            deadline,
            head_began: None,
            is_peeked: AtomicBool::new(false),
        }
    }

    /// Reads for as long as something is there now, until a request is whole.
    /// Never blocks. Models Puma::Client#eagerly_finish.
    pub fn eagerly_finish(&mut self) -> Progress {
        loop {
            match self.try_to_finish() {
                (Progress::NotYet, true) => {}
                (progress, _) => return progress,
            }
        }
    }

    /// Parses what is there, else reads once. Says whether there may be more to read now.
    pub fn try_to_finish(&mut self) -> (Progress, bool) {
        match self.parse() {
            Ok(true) => return (Progress::Ready, true),
            Ok(false) => {}
            Err(refusal) => return (Progress::Refused(refusal), true),
        }
        match self.read() {
            Ok(0) => return (Progress::Gone, false),
            Ok(_) => self.note_bytes(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (Progress::NotYet, false),
            Err(_) => return (Progress::Gone, false),
        }
        if let Phase::Lingering { left } = &mut self.phase {
            *left = left.saturating_sub(self.buffer.len());
            self.buffer.clear();
            return (if *left == 0 { Progress::Gone } else { Progress::NotYet }, true);
        }
        match self.parse() {
            Ok(whole) => (if whole { Progress::Ready } else { Progress::NotYet }, true),
            Err(refusal) => (Progress::Refused(refusal), true),
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        SCRATCH.with_borrow_mut(|scratch| {
            let read = loop {
                match (&self.socket.stream).read(scratch) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            }?;
            self.buffer.extend_from_slice(&scratch[..read]);
            Ok(read)
        })
    }

    /// Each byte starts the time anew; a head has a time in sum besides.
    fn note_bytes(&mut self) {
        let now = Instant::now();
        if matches!(self.phase, Phase::Lingering { .. }) {
            return;
        }
        self.deadline = now + self.limits.first_data_timeout;
        if matches!(self.phase, Phase::Head) {
            let began = *self.head_began.get_or_insert(now);
            self.deadline = self.deadline.min(began + self.limits.head_timeout);
        }
    }

    /// Takes from the buffer what belongs to this request. True: it is whole.
    fn parse(&mut self) -> Result<bool, Refusal> {
        loop {
            match &mut self.phase {
                Phase::Ready(_) => return Ok(true),
                Phase::Lingering { .. } => return Ok(false),
                Phase::Head => {
                    if !self.is_head_due() || !self.parse_head()? {
                        return Ok(false);
                    }
                    self.looked_at = LookedAt::default();
                }
                Phase::Counted { left, body, .. } => {
                    let taken = self.buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    keep(body, &self.buffer[..taken])?;
                    self.buffer.drain(..taken);
                    *left -= taken as u64;
                    if *left > 0 {
                        return Ok(false);
                    }
                    self.finish();
                }
                Phase::Chunked { chunks, body, .. } => {
                    let most = self.limits.max_body_bytes;
                    let taken = chunks.take(&self.buffer, |data| {
                        if body.len() + data.len() as u64 > most {
                            return Err(Refusal::BodyTooLarge);
                        }
                        keep(body, data)
                    })?;
                    self.buffer.drain(..taken);
                    if !chunks.is_done() {
                        return Ok(false);
                    }
                    self.finish();
                }
            }
        }
    }

    /// Whether a look at the head is worth its while. Empty lines in front of it are no
    /// part of it.
    fn is_head_due(&mut self) -> bool {
        let empty = 2 * self.buffer.chunks(2).take_while(|it| *it == b"\r\n").count();
        if empty > 0 {
            self.buffer.drain(..empty);
            self.looked_at = LookedAt::default();
        }
        self.looked_at.is_due(&self.buffer, self.limits.max_head_bytes)
    }

    fn parse_head(&mut self) -> Result<bool, Refusal> {
        let (head, length) = match head::parse(&self.buffer, self.limits.max_head_bytes) {
            Parsed::Whole(head, length) => (head, length),
            Parsed::NotYet => return Ok(false),
            Parsed::Refused(refusal) => return Err(refusal),
        };
        let framing = framing::of_request(&head, self.limits.max_body_bytes)?;
        self.buffer.drain(..length);
        let waits = head.expects_continue() && head.version == Version::Http11 && self.buffer.is_empty();
        if waits && framing != BodyFraming::None {
            // It is small, and the socket is fresh or was just answered on: it fits, or
            // the client waits for its own time and sends the body then.
            self.socket.try_write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let body = RequestBody::default();
        self.phase = match framing {
            BodyFraming::None => Phase::Counted { head, left: 0, body },
            BodyFraming::Counted(left) => Phase::Counted { head, left, body },
            BodyFraming::Chunked { and_counted } => {
                Phase::Chunked { head, chunks: Chunks::default(), and_counted, body }
            }
        };
        Ok(true)
    }

    fn finish(&mut self) {
        let (head, body, may_be_followed) = match mem::replace(&mut self.phase, Phase::Head) {
            Phase::Counted { head, body, .. } => (head, body, true),
            Phase::Chunked { head, body, and_counted, .. } => (head, body, !and_counted),
            other => {
                self.phase = other;
                return;
            }
        };
        self.head_began = None;
        self.phase = Phase::Ready(Box::new(Incoming { head, body, may_be_followed }));
    }

    /// Takes the request that is whole; the next begins in the buffer, or is to come.
    pub fn take(&mut self) -> Option<Incoming> {
        match mem::replace(&mut self.phase, Phase::Head) {
            Phase::Ready(incoming) => Some(*incoming),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// What was read and belongs to no request yet: for who takes the socket over.
    pub fn into_unread(self) -> Vec<u8> {
        self.buffer
    }

    /// What its request line and fields look like, without consuming them: a client
    /// in todo has not been read. None if no whole head has come, or it was looked at
    /// before.
    pub fn peek(&self) -> Option<Head> {
        if self.is_peeked.load(Ordering::Relaxed) {
            return None;
        }
        let mut bytes = vec![0; PEEK_BYTES];
        let seen = self.socket.stream.peek(&mut bytes).ok()?;
        match head::parse(&bytes[..seen], self.limits.max_head_bytes) {
            Parsed::Whole(head, _) => {
                self.is_peeked.store(true, Ordering::Relaxed);
                Some(head)
            }
            Parsed::NotYet | Parsed::Refused(_) => None,
        }
    }

    /// Models Puma::Client#reset: the next request, under a number of its own.
    pub fn reset(&mut self, request: u64) {
        self.served += 1;
        self.is_peeked = AtomicBool::new(false);
        self.subject.request = request;
        let now = Instant::now();
        let idle = self.buffer.is_empty();
        self.head_began = (!idle).then_some(now);
        self.deadline =
            now + if idle { self.limits.persistent_timeout } else { self.limits.first_data_timeout };
    }

    /// Gives back the memory that it does not need while it waits.
    pub fn settle(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// What to say when its time has run out: nothing to one that has said nothing.
    pub fn timed_out(&self) -> Option<Refusal> {
        match self.phase {
            Phase::Head if self.buffer.is_empty() => None,
            Phase::Lingering { .. } | Phase::Ready(_) => None,
            _ => Some(Refusal::RequestTimeout),
        }
    }

    /// Answers with a refusal and stops writing. What the client still sends is to be
    /// read for a while: closing at once would make its kernel throw the answer away.
    pub fn refuse(&mut self, refusal: Refusal) {
        let is_http11 = match &self.phase {
            Phase::Counted { head, .. } | Phase::Chunked { head, .. } => head.version == Version::Http11,
            _ => memchr_http11(&self.buffer),
        };
        self.socket.try_write(&refusal.answer(is_http11));
        self.socket.finish_writing();
        self.buffer = Vec::new();
        self.phase = Phase::Lingering { left: LINGER_BYTES };
        self.deadline = Instant::now() + LINGER;
    }
}

/// Whether the request line that was refused says HTTP/1.1.
fn memchr_http11(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').find(|line| !line.iter().all(|byte| *byte == b'\n'));
    line.is_some_and(|line| line.ends_with(b" HTTP/1.1"))
}

fn keep(body: &mut RequestBody, data: &[u8]) -> Result<(), Refusal> {
    body.push(data).map_err(|error| {
        log::error!("{error}");
        Refusal::BodyTooLarge
    })
}

impl Work for Client {
    fn subject(&self) -> Subject {
        self.subject
    }
}

impl Watched for Client {
    fn fd(&self) -> RawFd {
        self.socket.stream.as_raw_fd()
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }
}
