//! Writes an answer to its client's socket.
//!
//! The head is sent with the action's first write. Each write of a stream is one chunk (HTTP/1.1) or bare bytes
//! (HTTP/1.0), and is passed to the kernel immediately. Puma corks the socket here, which is why each of its events
//! arrives 200 ms late. A page is one bare write. A write blocks while the client does not read and the socket buffers
//! are full, for at most the server's write timeout in total. After a failed write, nothing more is sent.
//!
//! If the server has access to the socket, another thread can end a blocked write ([`AnswerWriter::cutter`]), and the
//! writer can wait for the client to close. tiny_http hides its socket, so only writing is possible.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::framing::{AnswerEnd, AnswerFraming};
use super::socket::{Cutter, Patience, Socket, Waited, WritePieces};
use crate::log_limit::limited;
use crate::threads;
use crate::timeline::{SEEN_CLOSED, Subject, Timeline, What};

/// The largest part of a body, in bytes, that is copied into one buffer with its framing. Copying a small part costs
/// less than passing several pieces to the kernel.
pub(super) const COPIED_BYTES: usize = 4 * 1024;

/// A write to a hidden socket that took longer than this is recorded as having waited for its client.
const WAITED_AFTER: Duration = Duration::from_millis(50);

/// A failed write: the client is gone or no longer reads.
#[derive(Debug, Error)]
#[error("write {number} failed: {cause}")]
pub struct WriteError {
    /// The number of this write within its answer, counted from 1.
    pub number: u64,
    /// Why the write failed.
    pub cause: WriteFailure,
}

/// Why a write to a client failed. Displayed as the name of the system error (`EPIPE`), if there is one.
#[derive(Debug, Clone, Error)]
pub enum WriteFailure {
    /// The client has closed.
    #[error("EPIPE")]
    Closed,
    /// The client was seen to close while nothing was being written.
    #[error("{SEEN_CLOSED}")]
    SeenClosed,
    /// The client has reset the connection.
    #[error("ECONNRESET")]
    Reset,
    /// The client read too little within the write timeout, or nothing within the stall limit.
    #[error("EAGAIN")]
    TimedOut,
    /// The client acknowledged nothing for so long that the kernel dropped the connection.
    #[error("ETIMEDOUT")]
    Vanished,
    /// A [`Cutter`] ended the write.
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
    /// Bytes that the kernel has accepted so far.
    pub bytes: AtomicU64,
    /// Bytes of the current write that the kernel has not accepted yet.
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
    /// Why the last write failed, if it did.
    failure: Option<WriteFailure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WriteState {
    Open,
    /// The last write waited for the client, so the next one may wait as well.
    Slow,
    /// A write failed, so nothing more can be sent.
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

    /// Sets the head, which is sent with the first write.
    pub(super) fn begin(&mut self, head: Vec<u8>, framing: AnswerFraming) {
        self.head = head;
        self.framing = framing;
    }

    /// Limits how long later writes wait: in total, and while the client reads nothing.
    pub(super) fn limit_waits(&mut self, total: Duration, stall: Duration) {
        self.patience = self.patience.at_most(total, stall);
    }

    /// Sends only the head, whatever framing it announces (HEAD, 204, 304).
    pub(super) fn bare(&mut self) {
        self.framing = AnswerFraming::None;
    }

    /// Whether it is too late for a different answer: something has been sent, or nothing can be sent any more. (The
    /// writer may have seen the client close before the first write.)
    pub(super) fn has_begun(&self) -> bool {
        self.writes > 0 || self.state == WriteState::Broken
    }

    /// Writes a part of the body and passes it to the kernel.
    ///
    /// Blocks while the client's buffers are full, for at most the write timeout. Empty parts are skipped, because an
    /// empty chunk would end the body. A failed write may have been cut off within a chunk, so every later write fails
    /// and sends nothing.
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

    /// The error of a write when nothing more can be sent.
    pub(crate) fn over(&self) -> WriteError {
        let cause = self.failure.clone().unwrap_or(WriteFailure::Closed);
        WriteError { number: self.writes + 1, cause }
    }

    /// Sets the last bytes to send if the answer ends cleanly.
    pub fn say_last(&mut self, words: &[u8]) {
        self.last_words = words.to_vec();
    }

    /// Whether the socket is inaccessible (tiny_http).
    pub(super) fn is_hidden(&self) -> bool {
        matches!(self.transport, Transport::Writer(_))
    }

    /// Returns a handle that ends this connection's waits from another thread.
    pub fn cutter(&self) -> Cutter {
        self.transport.cutter()
    }

    /// Waits for the client to close. Returns `None` if a close cannot be detected (tiny_http). A half-closed client
    /// looks the same as a closed one.
    pub fn wait_for_close(&self, timeout: Duration) -> Option<Waited> {
        self.transport.wait_for_close(timeout)
    }

    /// Records that the client has closed, like a failed write.
    pub fn closed(&mut self) -> WriteError {
        self.lose(self.writes + 1, WriteFailure::SeenClosed)
    }

    /// Records why nothing more can be sent.
    fn lose(&mut self, number: u64, cause: WriteFailure) -> WriteError {
        self.state = WriteState::Broken;
        self.failure = Some(cause.clone());
        self.record(What::Disconnected { write: number, error: cause.to_string() });
        WriteError { number, cause }
    }

    /// Ends the answer by sending whatever is still due: the head, the last words, the last chunk. This may block like
    /// a write, but it does not wait if the last write had to. Returns whether another request may follow on the
    /// connection.
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
                // The failure is in the timeline, and the client is gone.
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

    /// The bytes before a part of the body: the head, if it has not been sent, and the size of the part if it
    /// is a chunk.
    fn front(&mut self, part: usize) -> Vec<u8> {
        let mut front = std::mem::take(&mut self.head);
        if self.framing == AnswerFraming::Chunked {
            front.extend_from_slice(format!("{part:x}\r\n").as_bytes());
        }
        front
    }

    /// The bytes after a part of the body.
    fn behind(&self) -> &'static [u8] {
        if self.framing == AnswerFraming::Chunked { b"\r\n" } else { b"" }
    }

    /// Passes these pieces to the kernel in one write.
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

/// The connection that an answer is written to.
pub(crate) enum Transport {
    /// A writer that hides its connection.
    Writer(Box<dyn Write + Send>),
    Socket(Arc<Socket>),
}

impl Transport {
    /// Writes all pieces, and waits for the client no longer than `patience` allows. Each time the kernel accepts
    /// bytes, calls `took` with their number. Returns how long it waited, even if the write failed.
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

    /// Returns a handle that ends the waits of a writer. It does nothing for a hidden socket.
    pub fn cutter(&self) -> Cutter {
        match self {
            Transport::Socket(socket) => Cutter(Arc::downgrade(socket)),
            Transport::Writer(_) => Cutter::default(),
        }
    }

    /// Waits for the client to close. Returns `None` if a close cannot be detected.
    pub fn wait_for_close(&self, timeout: Duration) -> Option<Waited> {
        match self {
            Transport::Socket(socket) => Some(socket.wait_for_close(timeout)),
            Transport::Writer(_) => None,
        }
    }

    /// Returns the bytes that tell a client reading chunks that the answer was cut off. A hidden socket cannot be
    /// closed, so the client is made to close it: `cut` is not a valid chunk size, so the client stops reading.
    pub fn cut_mark(&self, ended: AnswerEnd) -> &'static [u8] {
        match (self, ended) {
            (Transport::Writer(_), AnswerEnd::Cut) => b"cut\r\n",
            _ => b"",
        }
    }

    /// Abandons a slow client without waiting for it. Writes as much of `due` as the kernel accepts without blocking.
    ///
    /// When the writer is dropped, tiny_http flushes its buffer, which may block for one more write timeout. The writer
    /// is therefore dropped on another thread.
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

/// Writes all pieces. Each call of `write` waits for at most the socket's own timeout (SO_SNDTIMEO). A short write
/// means that this timeout has expired, so the total time is checked between the calls.
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
