//! Writes an answer to its client's socket.
//!
//! The head goes out with the action's first write. Every write is one chunk (HTTP/1.1) or bare
//! bytes (HTTP/1.0), handed to the kernel at once. Puma corks the socket here, which is why each of
//! its events arrives 200 ms late. A write blocks while the client does not read and its buffers are
//! full, for at most the server's write timeout in total. A write that failed, for whatever reason,
//! means that this client is gone.
//!
//! If the server has the socket, a write that is blocked can be ended from another thread
//! ([`AnswerWriter::cutter`]), and a client that closes can be waited for. tiny_http hides its
//! socket, so it can only be written to.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::framing::{AnswerEnd, AnswerFraming};
use super::socket::{Cutter, Patience, Socket, Waited, WritePieces};
use crate::log_limit::limited;
use crate::threads;
use crate::timeline::{Subject, Timeline, What};

/// A part up to this is copied behind what goes out before it, in bytes: that costs less than to hand the
/// kernel several pieces.
pub(super) const COPIED_BYTES: usize = 4 * 1024;

/// A write behind which the socket is hidden and that took longer than this is
/// said to have waited for its client.
const WAITED_AFTER: Duration = Duration::from_millis(50);

/// The client of this connection is gone, or does not read any more.
#[derive(Debug, Error)]
#[error("write {number} failed: {cause}")]
pub struct WriteError {
    /// Which write of this answer it was, counted from 1.
    pub number: u64,
    /// What the write met.
    pub cause: WriteFailure,
}

/// What a write to a client can meet. Its text is the system's own name, where there is one.
#[derive(Debug, Clone, Error)]
pub enum WriteFailure {
    /// The client has closed.
    #[error("EPIPE")]
    Closed,
    /// The client has closed, and was seen to do so while nothing was written.
    #[error("POLLRDHUP")]
    SeenClosed,
    /// The client has reset the connection.
    #[error("ECONNRESET")]
    Reset,
    /// The client has read nothing for the write timeout.
    #[error("EAGAIN")]
    TimedOut,
    /// The client has acknowledged nothing for so long that the kernel has given it up.
    #[error("ETIMEDOUT")]
    Vanished,
    /// A [`Cutter`] has ended the write.
    #[error("cut")]
    Cut,
    /// Any other error.
    #[error("{0}")]
    Other(Arc<io::Error>),
}

impl From<io::Error> for WriteFailure {
    fn from(error: io::Error) -> WriteFailure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => WriteFailure::Closed,
            io::ErrorKind::ConnectionReset => WriteFailure::Reset,
            io::ErrorKind::ConnectionAborted => WriteFailure::Cut,
            io::ErrorKind::WouldBlock => WriteFailure::TimedOut,
            io::ErrorKind::TimedOut => WriteFailure::Vanished,
            _ => WriteFailure::Other(Arc::new(error)),
        }
    }
}

/// How much of an answer has been sent. Other threads read it, for `/threads` and `/stats`.
#[derive(Debug, Default)]
pub struct SentSoFar {
    /// Bytes that the kernel has taken so far.
    pub bytes: AtomicU64,
    /// Bytes of the write under way that it has not taken yet.
    pub unsent: AtomicU64,
}

/// The writing end of one request's connection.
pub struct AnswerWriter {
    transport: Transport,
    subject: Subject,
    thread: usize,
    timeline: Arc<Timeline>,
    progress: Arc<SentSoFar>,
    patience: Patience,
    head: Vec<u8>,
    last_words: Vec<u8>,
    framing: AnswerFraming,
    writes: u64,
    state: WriteState,
    /// What the write that failed met.
    failure: Option<WriteFailure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteState {
    Open,
    /// The last write waited for the client; the next one may, too.
    Slow,
    /// A write failed: nothing more can be said on it.
    Broken,
}

impl AnswerWriter {
    pub(super) fn new(
        transport: Transport,
        subject: Subject,
        thread: usize,
        timeline: Arc<Timeline>,
        progress: Arc<SentSoFar>,
        write_timeout: Duration,
    ) -> Self {
        AnswerWriter {
            transport,
            subject,
            thread,
            timeline,
            progress,
            patience: Patience::of(write_timeout),
            head: Vec::new(),
            last_words: Vec::new(),
            framing: AnswerFraming::UntilClose,
            writes: 0,
            state: WriteState::Open,
            failure: None,
        }
    }

    /// Puts the head in front of the first write.
    pub(super) fn begin(&mut self, head: Vec<u8>, framing: AnswerFraming) {
        self.head = head;
        self.framing = framing;
    }

    /// From now on a write waits no longer than this, in total and while its client takes nothing.
    pub(super) fn limit_waits(&mut self, total: Duration, stall: Duration) {
        self.patience = self.patience.at_most(total, stall);
    }

    /// The answer is its head alone, whatever that promises (HEAD, 204, 304).
    pub(super) fn bare(&mut self) {
        self.framing = AnswerFraming::None;
    }

    /// Whether a different answer is too late: something has been sent, or nothing can be. The client may
    /// have been seen to close before the first write.
    pub(super) fn has_begun(&self) -> bool {
        self.writes > 0 || self.state == WriteState::Broken
    }

    /// Writes part of the body and hands it to the kernel.
    ///
    /// Blocks while the client's buffers are full, at most for the write timeout.
    /// Empty parts are skipped: an empty chunk would end the body. After a write has failed, in the
    /// middle of a chunk perhaps, every further one fails and sends nothing.
    pub fn write(&mut self, part: &[u8]) -> Result<(), WriteError> {
        if self.state == WriteState::Broken {
            return Err(self.over());
        }
        if part.is_empty() {
            return Ok(());
        }
        let mut front = self.front(part.len());
        if part.len() > COPIED_BYTES {
            return self.send([&front, part, self.behind()]);
        }
        front.extend_from_slice(part);
        front.extend_from_slice(self.behind());
        self.send([&front, &[], &[]])
    }

    /// What a write gets when nothing more can be sent.
    pub(crate) fn over(&self) -> WriteError {
        let cause = self.failure.clone().unwrap_or(WriteFailure::Closed);
        WriteError { number: self.writes + 1, cause }
    }

    /// What to say at a clean end: it is sent with what is due then.
    pub fn say_last(&mut self, words: &[u8]) {
        self.last_words = words.to_vec();
    }

    /// Whether the socket is out of reach.
    pub(super) fn is_hidden(&self) -> bool {
        matches!(self.transport, Transport::Writer(_))
    }

    /// A handle that ends this connection's waits from another thread.
    pub fn cutter(&self) -> Cutter {
        self.transport.cutter()
    }

    /// Waits for the client to close. None where that cannot be seen (tiny-http). A
    /// client that only stopped sending looks the same as one that has closed.
    pub fn wait_for_close(&self, timeout: Duration) -> Option<Waited> {
        self.transport.wait_for_close(timeout)
    }

    /// The client has been seen to close: recorded as a write that failed would be.
    pub fn closed(&mut self) -> WriteError {
        self.lose(self.writes + 1, WriteFailure::SeenClosed)
    }

    /// Nothing more can be sent: records why.
    fn lose(&mut self, number: u64, cause: WriteFailure) -> WriteError {
        self.state = WriteState::Broken;
        self.failure = Some(cause.clone());
        self.record(What::Disconnected { write: number, error: cause.to_string() });
        WriteError { number, cause }
    }

    /// Ends the answer: sends what is still due (the head, the last words, the last
    /// chunk). It may block like a write, but never on a client that was slow at
    /// the last one. Answers whether another request may follow on the connection.
    pub(super) fn end(mut self, ended: AnswerEnd) -> bool {
        let words = std::mem::take(&mut self.last_words);
        let mut due = match ended {
            AnswerEnd::Clean if !words.is_empty() => {
                [&self.front(words.len())[..], &words, self.behind()].concat()
            }
            _ => std::mem::take(&mut self.head),
        };
        due.extend_from_slice(match (self.framing, ended) {
            (AnswerFraming::Chunked, AnswerEnd::Clean) => b"0\r\n\r\n",
            (AnswerFraming::Chunked, AnswerEnd::Cut) => self.transport.cut_mark(ended),
            _ => b"",
        });
        match self.state {
            WriteState::Open if due.is_empty() => {}
            WriteState::Open => {
                // Its failure is on the timeline. No client is left to be told.
                let _ = self.send([&due[..], &[], &[]]);
                due.clear();
            }
            WriteState::Slow => {}
            WriteState::Broken => due.clear(),
        }
        let is_whole = ended == AnswerEnd::Clean && self.state != WriteState::Broken && due.is_empty();
        if self.state != WriteState::Open {
            self.transport.leave(due);
        }
        is_whole && self.framing != AnswerFraming::UntilClose
    }

    /// The bytes before a part of the body: the head, if that is still due, and the size of
    /// the part where it is a chunk. A large part is not copied behind it.
    fn front(&mut self, part: usize) -> Vec<u8> {
        let mut front = std::mem::take(&mut self.head);
        if self.framing == AnswerFraming::Chunked {
            front.extend_from_slice(format!("{part:x}\r\n").as_bytes());
        }
        front
    }

    /// The bytes behind a part of the body.
    fn behind(&self) -> &'static [u8] {
        if self.framing == AnswerFraming::Chunked { b"\r\n" } else { b"" }
    }

    /// Hands these pieces to the kernel together.
    fn send(&mut self, pieces: WritePieces<'_>) -> Result<(), WriteError> {
        self.writes += 1;
        let progress = &self.progress;
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        progress.unsent.store(bytes, Ordering::Relaxed);
        let took = |bytes: usize| {
            progress.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            progress.unsent.fetch_sub(bytes as u64, Ordering::Relaxed);
        };
        let (waited, written) = self.transport.write_all(pieces, self.patience, took);
        progress.unsent.store(0, Ordering::Relaxed);
        if !waited.is_zero() {
            self.record(What::Blocked { us: waited.as_micros() as u64 });
        }
        match written {
            Ok(()) => {
                self.state = if waited.is_zero() { WriteState::Open } else { WriteState::Slow };
                self.record(What::Wrote { bytes });
                Ok(())
            }
            Err(error) => Err(self.lose(self.writes, error.into())),
        }
    }

    fn record(&self, what: What) {
        self.timeline.record(Some(self.thread), Some(self.subject), what);
    }
}

/// The way of an answer's bytes to the client.
pub(crate) enum Transport {
    /// A writer behind which there may be any connection, or none.
    Writer(Box<dyn Write + Send>),
    Socket(Arc<Socket>),
}

impl Transport {
    /// Writes all of it, waiting for the client no longer than its patience. Calls `took` with the number of
    /// bytes that the kernel has taken. Returns how long it waited, also if the write failed.
    pub fn write_all(
        &mut self,
        pieces: WritePieces<'_>,
        patience: Patience,
        took: impl Fn(usize),
    ) -> (Duration, io::Result<()>) {
        match self {
            Transport::Socket(socket) => socket.write_all(pieces, patience, took),
            Transport::Writer(writer) => {
                let began = Instant::now();
                let written = write_out(writer, pieces, patience.total, took);
                (Some(began.elapsed()).filter(|time| *time > WAITED_AFTER).unwrap_or_default(), written)
            }
        }
    }

    /// A handle that ends the waits of a writer. Nothing ends those of a hidden socket.
    pub fn cutter(&self) -> Cutter {
        match self {
            Transport::Socket(socket) => Cutter(Arc::downgrade(socket)),
            Transport::Writer(_) => Cutter::default(),
        }
    }

    /// Waits for the client to close; None where it cannot be seen.
    pub fn wait_for_close(&self, timeout: Duration) -> Option<Waited> {
        match self {
            Transport::Socket(socket) => Some(socket.wait_for_close(timeout)),
            Transport::Writer(_) => None,
        }
    }

    /// How a cut is said to a client that reads chunks. A hidden socket cannot be
    /// closed, so that the client is made to close it: no chunk has such a size, and
    /// it stops reading at once.
    pub fn cut_mark(&self, ended: AnswerEnd) -> &'static [u8] {
        match (self, ended) {
            (Transport::Writer(_), AnswerEnd::Cut) => b"cut\r\n",
            _ => b"",
        }
    }

    /// Leaves a client that is slow, without waiting for it. Writes of `due` as much as the kernel takes
    /// at once.
    ///
    /// tiny_http flushes what it still holds when its writer is dropped, and so may
    /// wait out one more write timeout: that happens on a thread of its own.
    pub fn leave(self, due: Vec<u8>) {
        match self {
            Transport::Socket(socket) => socket.try_write(&due),
            Transport::Writer(mut writer) => {
                let left = threads::spawn("puma srv cut", move || {
                    if !due.is_empty() {
                        let _ = writer.write_all(&due).and_then(|()| writer.flush());
                    }
                });
                if let Err(error) = left {
                    limited!(Warn, "{error}; a blocked connection ends without its last bytes");
                }
            }
        }
    }
}

/// Each call waits at most for the socket's own timeout (SO_SNDTIMEO), and comes back
/// short only when that has run out, so the sum is looked at between the calls.
fn write_out(
    writer: &mut (dyn Write + Send),
    pieces: WritePieces<'_>,
    timeout: Duration,
    took: impl Fn(usize),
) -> io::Result<()> {
    let began = Instant::now();
    for mut bytes in pieces {
        while !bytes.is_empty() {
            match writer.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    took(taken);
                    bytes = &bytes[taken..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if !bytes.is_empty() && began.elapsed() >= timeout {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }
    writer.flush()
}
