//! One connection: reads its bytes, and takes whole requests out of them.
//!
//! Models Puma::Client. Its socket never blocks. A pool thread or the reactor reads the bytes that have arrived, until
//! a request is whole; each read ends in a [`ReadProgress`]. [`RequestReader`] does the parsing, and no client can make
//! it keep more than [`ClientLimits`] allows. `glance.rs` has the part that looks at a client in todo.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use super::configuration::ClientLimits;
use super::head::RequestHead;
use super::lingering::Lingering;
use super::pending::{Full, PendingBudget, Share};
use super::reactor::{REPORTS_URGENT_DATA, SlotHandle, Watched};
use super::reactor_state::{Parked, WaitsFor};
use super::refusal::Refusal;
use super::request_reader::{Incoming, RequestReader};
use super::socket::{READ_BYTES, Socket};
use super::thread_pool::Work;
use crate::timeline::Subject;

/// As much of an answer as a kernel sends without waiting for an acknowledgement, in bytes: ten
/// segments of an Ethernet (RFC 6928).
const SENT_AT_ONCE_BYTES: usize = 10 * 1_460;

/// What became of a client's bytes.
#[derive(Debug)]
pub(super) enum ReadProgress {
    /// A request is whole.
    Ready,
    /// None is whole, and nothing more can be read now.
    ReadEmpty,
    /// None is whole, and there may be more to read now.
    MoreToRead,
    /// It left, or broke off in the middle.
    Gone,
    Refused(Refusal),
}

/// Whether more may come from a client whose connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// It has not announced its last request.
    More,
    Nothing,
}

/// A connection, and what has been read of its next request.
pub(super) struct Client {
    slot: Option<SlotHandle<Box<Client>>>,
    pub socket: Arc<Socket>,
    pub subject: Subject,
    limits: Arc<ClientLimits>,
    reader: RequestReader,
    /// What it holds of a request that no thread has taken.
    share: Share,
    /// Whether the last read emptied the kernel's buffer, unless the reactor has heard of urgent data.
    is_read_empty: bool,
    /// Nothing more is written, and what still comes is thrown away.
    lingering: Option<Box<Lingering>>,
    /// It has sent a request before the one ahead of it was answered.
    has_pipelined: bool,
    /// It ends behind the next answer, or now if no request has come.
    pub is_ending: bool,
    /// Requests that have been served on it.
    pub served: usize,
    deadline: Instant,
    /// Since when it has had no whole request.
    since: Instant,
    /// When the first byte of the head came that is being read.
    head_began: Option<Instant>,
}

impl Client {
    /// Boxed: it is passed on from hand to hand.
    pub fn new(
        socket: Arc<Socket>,
        subject: Subject,
        limits: Arc<ClientLimits>,
        pending: &Arc<PendingBudget>,
    ) -> Box<Self> {
        let now = Instant::now();
        Box::new(Client {
            slot: None,
            socket,
            subject,
            reader: RequestReader::new(limits.max_head_bytes, limits.max_body_bytes),
            share: Share::of(pending),
            deadline: now + limits.first_data_timeout,
            since: now,
            limits,
            is_read_empty: false,
            lingering: None,
            has_pipelined: false,
            is_ending: false,
            served: 0,
            head_began: None,
        })
    }

    /// Reads for as long as something is there now, until a request is whole.
    /// Never blocks. Models Puma::Client#eagerly_finish.
    pub fn eagerly_finish(&mut self) -> ReadProgress {
        loop {
            match self.try_to_finish() {
                ReadProgress::MoreToRead => {}
                progress => return progress,
            }
        }
    }

    /// The same, with so many reads at most.
    pub fn finish_within(&mut self, reads: usize) -> ReadProgress {
        for _ in 0..reads {
            match self.try_to_finish() {
                ReadProgress::MoreToRead => {}
                progress => return progress,
            }
        }
        ReadProgress::MoreToRead
    }

    /// Parses the bytes that were read, or, if they hold no whole request, reads once more.
    pub fn try_to_finish(&mut self) -> ReadProgress {
        if let Some(lingering) = &mut self.lingering {
            return match self.socket.read(|_| ()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ReadProgress::ReadEmpty,
                Ok(read) if read > 0 && lingering.discard(read) => {
                    self.deadline = lingering.deadline();
                    ReadProgress::MoreToRead
                }
                Ok(_) | Err(_) => ReadProgress::Gone,
            };
        }
        match self.parse() {
            Ok(true) => return ReadProgress::Ready,
            Ok(false) => {}
            Err(refusal) => return ReadProgress::Refused(refusal),
        }
        // What is kept is as large as what has come, and not as large as a read may be: thousands
        // may be in the middle of a head.
        match self.socket.read(|bytes| self.reader.push(bytes)) {
            Ok(0) => return ReadProgress::Gone,
            Ok(read) => {
                self.is_read_empty = REPORTS_URGENT_DATA && read < READ_BYTES;
                self.note_bytes();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_read_empty = true;
                return ReadProgress::ReadEmpty;
            }
            Err(_) => return ReadProgress::Gone,
        }
        match self.parse() {
            Ok(true) => ReadProgress::Ready,
            Ok(false) => ReadProgress::MoreToRead,
            Err(refusal) => ReadProgress::Refused(refusal),
        }
    }

    /// Each byte starts the time anew; a head has a time in total besides.
    fn note_bytes(&mut self) {
        let now = Instant::now();
        self.deadline = now + self.limits.first_data_timeout;
        if self.reader.is_in_head() {
            let began = *self.head_began.get_or_insert(now);
            self.deadline = self.deadline.min(began + self.limits.head_timeout);
        }
    }

    fn parse(&mut self) -> Result<bool, Refusal> {
        let is_whole = self.reader.parse()?;
        if self.reader.take_continue() {
            // It is small, and the socket is fresh or was just answered on: it fits, or
            // the client waits for its own time and sends the body then.
            self.socket.try_write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if self.reader.is_ready() {
            self.head_began = None;
        }
        // A whole request is about to be taken, or is counted when it is queued.
        if !is_whole {
            self.share.set(self.reader.held_bytes()).map_err(|Full| Refusal::TooManyPending)?;
        }
        Ok(is_whole)
    }

    /// Counts the request that is whole, which is to be queued until a thread takes it.
    pub fn count_whole(&mut self) -> Result<(), Refusal> {
        self.share.set_whole(self.reader.held_bytes()).map_err(|Full| Refusal::TooManyPending)
    }

    /// Takes the request that is whole; the next begins in what was read, or is to come.
    pub fn take(&mut self) -> Option<Box<Incoming>> {
        let incoming = self.reader.take();
        self.share.clear();
        self.has_pipelined |= !self.reader.unread().is_empty();
        incoming
    }

    /// What was read and belongs to no request yet: for who takes the socket over.
    pub fn into_unread(self) -> Vec<u8> {
        self.reader.into_unread()
    }

    /// The head of the request that is whole.
    pub fn ready(&self) -> Option<&RequestHead> {
        self.reader.ready()
    }

    pub fn max_head_bytes(&self) -> usize {
        self.limits.max_head_bytes
    }

    /// Models Puma::Client#reset: the next request, under a number of its own.
    pub fn reset(&mut self, request: u64) {
        self.served += 1;
        self.socket.reset();
        self.subject.request = request;
        let now = Instant::now();
        self.since = now;
        let idle = self.reader.unread().is_empty();
        self.head_began = (!idle).then_some(now);
        self.deadline =
            now + if idle { self.limits.persistent_timeout } else { self.limits.first_data_timeout };
    }

    /// Gives back the memory that it does not need while it waits.
    pub fn settle(&mut self) {
        self.reader.settle();
        if !self.share.is_empty() {
            // Less always fits.
            let _ = self.share.set(self.reader.held_bytes());
        }
    }

    /// Whether it has sent nothing of its next request, as of the last read.
    pub fn is_idle(&self) -> bool {
        self.is_read_empty && self.reader.is_in_head() && self.reader.unread().is_empty()
    }

    /// Whether a part of a request has come, and not all of it.
    pub fn is_in_request(&self) -> bool {
        let is_idle = self.reader.is_in_head() && self.reader.unread().is_empty();
        !is_idle && !self.reader.is_ready() && self.lingering.is_none()
    }

    /// Answers with a refusal; the connection is to end.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.socket.try_write(&refusal.answer(self.reader.version(), self.reader.is_for_head()));
        // A request that is not read whole is still being sent.
        self.has_pipelined = true;
    }

    /// Whether the socket may be closed now. If not, nothing more is written, and the client is to be
    /// read from until it has gone or its time is over.
    ///
    /// A client that has announced its last request is believed, unless something of it is unread, it has
    /// sent ahead before, or part of the answer may still be in the kernel: a stray byte that comes after
    /// the close discards that part.
    pub fn may_close(&mut self, expected: Expected) -> bool {
        if self.lingering.is_some() {
            return self.has_lingered();
        }
        let is_read = self.socket.read(|_| ());
        let is_sending = match is_read {
            Ok(0) => return true,
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.has_pipelined || !self.reader.unread().is_empty()
            }
            Err(_) => return true,
        };
        // A reader of a large answer may take a while to come to its end.
        let is_sent = self.socket.written() <= SENT_AT_ONCE_BYTES;
        if expected == Expected::Nothing && !is_sending && is_sent {
            return true;
        }
        self.socket.finish_writing();
        self.reader = RequestReader::new(self.limits.max_head_bytes, self.limits.max_body_bytes);
        self.share.clear();
        let lingering = Lingering::begin(is_sending || !is_sent);
        self.deadline = lingering.deadline();
        self.since = lingering.began();
        self.lingering = Some(Box::new(lingering));
        false
    }

    /// Adds it to the count of those that linger, once.
    pub fn count_lingering(&mut self, count: &Arc<AtomicUsize>) {
        if let Some(lingering) = &mut self.lingering {
            lingering.count_in(count);
        }
    }

    /// Reads away what has come, and answers whether there was nothing left, or too much.
    fn has_lingered(&mut self) -> bool {
        loop {
            match self.try_to_finish() {
                ReadProgress::MoreToRead => {}
                ReadProgress::ReadEmpty => return self.deadline <= Instant::now(),
                ReadProgress::Ready | ReadProgress::Gone | ReadProgress::Refused(_) => return true,
            }
        }
    }
}

impl Work for Box<Client> {
    fn subject(&self) -> Subject {
        self.subject
    }
}

impl Parked for Box<Client> {
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn waits_for(&self) -> WaitsFor {
        if self.lingering.is_some() { WaitsFor::ItsEnd } else { WaitsFor::ARequest }
    }
}

impl Watched for Box<Client> {
    fn fd(&self) -> RawFd {
        self.socket.stream.as_raw_fd()
    }

    fn slot(&mut self) -> &mut Option<SlotHandle<Box<Client>>> {
        &mut self.slot
    }
}
