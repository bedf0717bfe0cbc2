//! One connection: reads its bytes and extracts complete requests from them.
//!
//! Models Puma::Client. The socket never blocks. A pool thread or the reactor reads the bytes that have arrived until a
//! request is complete; each read returns a [`ReadProgress`]. [`RequestReader`] does the parsing, and no client can
//! make it store more than [`ClientLimits`] allows. `glance.rs` has the functions that examine a client while it is in
//! `todo`.

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

/// How many bytes a kernel sends without waiting for an acknowledgement: ten Ethernet segments (RFC 6928).
const SENT_AT_ONCE_BYTES: usize = 10 * 1_460;

/// The result of reading from a client.
#[derive(Debug)]
pub(super) enum ReadProgress {
    /// A request is complete.
    Ready,
    /// No request is complete, and nothing more can be read now.
    ReadEmpty,
    /// No request is complete, and there may be more to read now.
    MoreToRead,
    /// The client has closed, possibly in the middle of a request.
    Gone,
    Refused(Refusal),
}

/// Whether a client whose connection is ending may send more data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// The client has not announced that this is its last request.
    More,
    Nothing,
}

/// A connection, and the part of its next request that has been read.
pub(super) struct Client {
    slot: Option<SlotHandle<Box<Client>>>,
    pub socket: Arc<Socket>,
    pub subject: Subject,
    limits: Arc<ClientLimits>,
    reader: RequestReader,
    /// The memory of a request that no thread has taken yet. It counts against the budget for pending requests.
    share: Share,
    /// Whether the last read emptied the kernel's buffer. See `REPORTS_URGENT_DATA` for short reads.
    is_read_empty: bool,
    /// Set once the server has finished writing. Bytes that arrive after that are discarded.
    lingering: Option<Box<Lingering>>,
    /// The client may still be sending: a request was refused before it was read completely, or the client has sent one
    /// before the previous one was answered.
    may_be_sending: bool,
    /// The connection ends after the next answer, or now if no request has arrived.
    pub is_ending: bool,
    /// The number of requests that have been served on this connection.
    pub served: usize,
    deadline: Instant,
    /// When the connection began to wait for a complete request.
    since: Instant,
    /// When the first byte of the current head arrived.
    head_began: Option<Instant>,
}

impl Client {
    /// Creates a client. It is boxed because it is passed between threads and queues.
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
            may_be_sending: false,
            is_ending: false,
            served: 0,
            head_began: None,
        })
    }

    /// Reads while bytes are available, until a request is complete. Never blocks. Models
    /// Puma::Client#eagerly_finish.
    pub fn eagerly_finish(&mut self) -> ReadProgress {
        loop {
            match self.try_to_finish() {
                ReadProgress::MoreToRead => {}
                progress => return progress,
            }
        }
    }

    /// Like [`eagerly_finish`](Self::eagerly_finish), with at most this many reads.
    pub fn finish_within(&mut self, reads: usize) -> ReadProgress {
        for _ in 0..reads {
            match self.try_to_finish() {
                ReadProgress::MoreToRead => {}
                progress => return progress,
            }
        }
        ReadProgress::MoreToRead
    }

    /// Parses the bytes that were read. If they do not contain a complete request, reads once more.
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
        // The reader stores only the bytes that arrived, not a buffer of the size of one read, because thousands of
        // clients may be in the middle of a head.
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

    /// Every read restarts the timeout between bytes. The head as a whole has a timeout as well.
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
            // The write is small, and the kernel's send buffer is normally empty at this point. If the write does not
            // fit, the client sends the body after its own timeout.
            self.socket.try_write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if self.reader.is_ready() {
            self.head_began = None;
        }
        // A complete request is not counted here. It is either taken immediately or counted when it is queued.
        if !is_whole {
            self.share.set(self.reader.held_bytes()).map_err(|Full| Refusal::TooManyPending)?;
        }
        Ok(is_whole)
    }

    /// Counts the complete request against the budget. Called before the request is queued.
    pub fn count_whole(&mut self) -> Result<(), Refusal> {
        self.share.set_whole(self.reader.held_bytes()).map_err(|Full| Refusal::TooManyPending)
    }

    /// Takes the complete request. The next request may begin in bytes that have already been read.
    pub fn take(&mut self) -> Option<Box<Incoming>> {
        let incoming = self.reader.take();
        self.share.clear();
        self.may_be_sending |= !self.reader.unread().is_empty();
        incoming
    }

    /// The bytes that were read but are not part of any request yet, for the new owner of the socket.
    pub fn into_unread(self) -> Vec<u8> {
        self.reader.into_unread()
    }

    /// The head of the complete request.
    pub fn ready(&self) -> Option<&RequestHead> {
        self.reader.ready()
    }

    pub fn max_head_bytes(&self) -> usize {
        self.limits.max_head_bytes
    }

    /// Prepares for the next request, which gets this number. Models Puma::Client#reset.
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

    /// Frees the memory that the connection does not need while it waits.
    pub fn settle(&mut self) {
        self.reader.settle();
        if !self.share.is_empty() {
            // A smaller share always fits.
            let _ = self.share.set(self.reader.held_bytes());
        }
    }

    /// Whether the last read of a request emptied the kernel's buffer.
    pub fn has_read_all(&self) -> bool {
        self.is_read_empty && self.lingering.is_none()
    }

    /// Whether no byte of the next request had arrived at the last read.
    pub fn is_idle(&self) -> bool {
        self.is_read_empty && self.reader.is_in_head() && self.reader.unread().is_empty()
    }

    /// Whether part of a request has arrived, but not all of it.
    pub fn is_in_request(&self) -> bool {
        let is_between_requests = self.reader.is_in_head() && self.reader.unread().is_empty();
        !is_between_requests && !self.reader.is_ready() && self.lingering.is_none()
    }

    /// Answers with a refusal. The caller then ends the connection.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.socket.try_write(&refusal.answer(self.reader.version(), self.reader.is_for_head()));
        self.may_be_sending = true;
    }

    /// Whether the socket may be closed now. If not, nothing more is written, and the server keeps reading until the
    /// client has closed or the lingering time is up.
    ///
    /// If the client has announced its last request, it is expected to send nothing more. There are three exceptions:
    /// some of its bytes are unread, it has pipelined before, or part of the answer may still be in the kernel. If a
    /// stray byte arrived after the close, the kernel would discard that part of the answer.
    pub fn may_close(&mut self, expected: Expected) -> bool {
        if self.lingering.is_some() {
            return self.has_lingered();
        }
        let is_read = self.socket.read(|_| ());
        let is_sending = match is_read {
            Ok(0) => return true,
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.may_be_sending || !self.reader.unread().is_empty()
            }
            Err(_) => return true,
        };
        // A client may take a while to read all of a large answer.
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

    /// Counts this connection as lingering. Further calls do nothing.
    pub fn count_lingering(&mut self, count: &Arc<AtomicUsize>) {
        if let Some(lingering) = &mut self.lingering {
            lingering.count_in(count);
        }
    }

    /// Discards the bytes that have arrived. Returns whether the connection has lingered for long enough: it
    /// has closed, sent too much, or run out of time.
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
