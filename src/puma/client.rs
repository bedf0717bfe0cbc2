//! One connection, from its bytes to its requests.
//!
//! Models Puma::Client. Its socket never blocks: bytes are read as they come, by a
//! pool thread or by the reactor, until a request is whole. What comes of a read is
//! one of four things ([`Progress`]); the parsing itself is [`RequestReader`]'s, and
//! no client can make it keep more than the limits that [`Limits`] names.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{self, RecvFlags};

use super::head::{self, Head, Parsed};
use super::reactor::{Place, Watched};
use super::refusal::Refusal;
use super::request_reader::{Incoming, RequestReader};
use super::socket::Socket;
use super::thread_pool::Work;
use crate::timeline::Subject;

/// The most that is read at once, in bytes. It is read onto the stack, which is as deep
/// for every page, so that a thread has no buffer of its own.
const READ_BYTES: usize = 8 * 1024;

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
pub(super) struct Client {
    place: Option<Place<Box<Client>>>,
    pub socket: Arc<Socket>,
    pub subject: Subject,
    limits: Arc<Limits>,
    reader: RequestReader,
    /// Refused: what still comes is thrown away, up to so many bytes.
    lingering: Option<usize>,
    /// Requests that have been served on it.
    pub served: usize,
    deadline: Instant,
    /// When the first byte of the head came that is being read.
    head_began: Option<Instant>,
    /// Whether what it asks for has been looked at in todo.
    is_peeked: AtomicBool,
}

impl Client {
    /// Boxed: it is passed on from hand to hand.
    pub fn new(socket: Socket, subject: Subject, limits: Arc<Limits>) -> Box<Self> {
        let deadline = Instant::now() + limits.first_data_timeout;
        Box::new(Client {
            place: None,
            socket: Arc::new(socket),
            subject,
            reader: RequestReader::new(limits.max_head_bytes, limits.max_body_bytes),
            limits,
            lingering: None,
            served: 0,
            deadline,
            head_began: None,
            is_peeked: AtomicBool::new(false),
        })
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
            Ok(read) => self.note_bytes(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (Progress::NotYet, false),
            Err(_) => return (Progress::Gone, false),
        }
        if let Some(left) = self.lingering {
            return (if left == 0 { Progress::Gone } else { Progress::NotYet }, true);
        }
        match self.parse() {
            Ok(whole) => (if whole { Progress::Ready } else { Progress::NotYet }, true),
            Err(refusal) => (Progress::Refused(refusal), true),
        }
    }

    /// What is kept is as large as what has come, and not as large as a read may be:
    /// thousands may be in the middle of a head.
    fn read(&mut self) -> io::Result<usize> {
        let mut scratch = [MaybeUninit::uninit(); READ_BYTES];
        let received = net::recv(&self.socket.stream, &mut scratch[..], RecvFlags::empty());
        let ((bytes, _), read) = match received {
            Err(Errno::INTR) => return self.read(),
            received => received?,
        };
        if self.lingering.is_none() {
            self.reader.push(bytes);
        }
        Ok(read)
    }

    /// Each byte starts the time anew; a head has a time in sum besides.
    fn note_bytes(&mut self, read: usize) {
        if let Some(left) = &mut self.lingering {
            *left = left.saturating_sub(read);
            return;
        }
        let now = Instant::now();
        self.deadline = now + self.limits.first_data_timeout;
        if self.reader.is_in_head() {
            let began = *self.head_began.get_or_insert(now);
            self.deadline = self.deadline.min(began + self.limits.head_timeout);
        }
    }

    fn parse(&mut self) -> Result<bool, Refusal> {
        if self.lingering.is_some() {
            return Ok(false);
        }
        let is_whole = self.reader.parse();
        if self.reader.take_continue() {
            // It is small, and the socket is fresh or was just answered on: it fits, or
            // the client waits for its own time and sends the body then.
            self.socket.try_write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if self.reader.is_ready() {
            self.head_began = None;
        }
        is_whole
    }

    /// Takes the request that is whole; the next begins in what was read, or is to come.
    pub fn take(&mut self) -> Option<Incoming> {
        self.reader.take()
    }

    /// What was read and belongs to no request yet: for who takes the socket over.
    pub fn into_unread(self) -> Vec<u8> {
        self.reader.into_unread()
    }

    /// What its request line and fields look like, without consuming them: a client in
    /// todo has not been read, but by the reactor if it came from there. None if no whole
    /// head has come, or it was looked at before.
    pub fn peek(&self) -> Option<Head> {
        if self.is_peeked.load(Ordering::Relaxed) {
            return None;
        }
        let head = self.reader.ready().cloned().or_else(|| self.peek_unread())?;
        self.is_peeked.store(true, Ordering::Relaxed);
        Some(head)
    }

    fn peek_unread(&self) -> Option<Head> {
        let mut bytes = vec![0; PEEK_BYTES];
        let seen = self.socket.stream.peek(&mut bytes).ok()?;
        match head::parse(&bytes[..seen], self.limits.max_head_bytes) {
            Parsed::Whole(head, _) => Some(head),
            Parsed::NotYet | Parsed::Refused(_) => None,
        }
    }

    /// Models Puma::Client#reset: the next request, under a number of its own.
    pub fn reset(&mut self, request: u64) {
        self.served += 1;
        self.is_peeked = AtomicBool::new(false);
        self.subject.request = request;
        let now = Instant::now();
        let idle = self.reader.unread().is_empty();
        self.head_began = (!idle).then_some(now);
        self.deadline =
            now + if idle { self.limits.persistent_timeout } else { self.limits.first_data_timeout };
    }

    /// Gives back the memory that it does not need while it waits.
    pub fn settle(&mut self) {
        self.reader.settle();
    }

    /// What to say when its time has run out: nothing to one that has said nothing.
    pub fn timed_out(&self) -> Option<Refusal> {
        let is_idle = self.reader.is_in_head() && self.reader.unread().is_empty();
        let is_due = !is_idle && !self.reader.is_ready() && self.lingering.is_none();
        is_due.then_some(Refusal::RequestTimeout)
    }

    /// Answers with a refusal and stops writing. What the client still sends is to be
    /// read for a while: closing at once would make its kernel throw the answer away.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.socket.try_write(&refusal.answer(self.reader.is_http11()));
        self.socket.finish_writing();
        self.reader = RequestReader::new(self.limits.max_head_bytes, self.limits.max_body_bytes);
        self.lingering = Some(LINGER_BYTES);
        self.deadline = Instant::now() + LINGER;
    }
}

impl Work for Box<Client> {
    fn subject(&self) -> Subject {
        self.subject
    }
}

impl Watched for Box<Client> {
    fn fd(&self) -> RawFd {
        self.socket.stream.as_raw_fd()
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn place(&mut self) -> &mut Option<Place<Box<Client>>> {
        &mut self.place
    }
}
