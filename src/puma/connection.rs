//! The way from an action to its client's socket.
//!
//! An action writes; the head goes out with its first write, and every write is
//! one chunk (HTTP/1.1) or bare bytes (HTTP/1.0), handed to the kernel at once:
//! Puma corks the socket here, which is why each of its events arrives 200 ms
//! late. A write blocks while the client does not read and its buffers are full,
//! for at most the server's write timeout, in sum; a write that failed, for
//! whatever reason, means that this client is gone.
//!
//! tiny_http hides the socket, so that writing is all that can be done through
//! it: a blocked write cannot be cut off from another thread, and the end of an
//! answer is not the end of the connection.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::framing::Framing;
use crate::timeline::{Subject, Timeline, What};

/// A write that took longer than this is recorded as blocked.
const BLOCKED_AFTER: Duration = Duration::from_millis(50);

/// How a live body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// To its end: the client is told so.
    Clean,
    /// In the middle: whoever reads it must not take it for whole.
    Cut,
}

/// The client of this connection is gone, or does not read any more.
#[derive(Debug, Error)]
#[error("write {number} failed: {errno}")]
pub struct WriteError {
    /// Which write of this answer it was, counted from 1.
    pub number: u64,
    /// The system's name for it: `EPIPE`, `ECONNRESET`, `EAGAIN` (the write timeout), …
    pub errno: String,
}

/// How far an answer has come; read by whoever watches the server.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that the kernel has taken so far.
    pub bytes: AtomicU64,
}

/// The writing end of one request's connection.
pub struct Connection {
    socket: Box<dyn Write + Send>,
    subject: Subject,
    thread: usize,
    timeline: Arc<Timeline>,
    progress: Arc<Progress>,
    write_timeout: Duration,
    head: Vec<u8>,
    last_words: Vec<u8>,
    framing: Framing,
    writes: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The last write waited for the client; the next one may, too.
    Slow,
    /// A write failed: nothing more can be said on it.
    Broken,
}

impl Connection {
    pub(super) fn new(
        socket: Box<dyn Write + Send>,
        subject: Subject,
        thread: usize,
        timeline: Arc<Timeline>,
        progress: Arc<Progress>,
        write_timeout: Duration,
    ) -> Self {
        Connection {
            socket,
            subject,
            thread,
            timeline,
            progress,
            write_timeout,
            head: Vec::new(),
            last_words: Vec::new(),
            framing: Framing::UntilClose,
            writes: 0,
            state: State::Open,
        }
    }

    /// Puts the head in front of the first write.
    pub(super) fn begin(&mut self, head: Vec<u8>, framing: Framing) {
        self.head = head;
        self.framing = framing;
    }

    /// The answer is its head alone, whatever that promises (HEAD, 204, 304).
    pub(super) fn bare(&mut self) {
        self.framing = Framing::None;
    }

    /// Whether anything has been sent, so that a different answer is too late.
    pub(super) fn has_begun(&self) -> bool {
        self.writes > 0
    }

    /// Writes part of the body and hands it to the kernel.
    ///
    /// Blocks while the client's buffers are full, at most for the write timeout.
    /// Empty parts are skipped: an empty chunk would end the body.
    pub fn write(&mut self, part: &[u8]) -> Result<(), WriteError> {
        if part.is_empty() {
            return Ok(());
        }
        let bytes = self.framed(part);
        self.send(&bytes)
    }

    /// What to say at a clean end: it is sent with what is due then.
    pub fn say_last(&mut self, words: &[u8]) {
        self.last_words = words.to_vec();
    }

    /// Ends the answer: sends what is still due (the head, the last words, the last
    /// chunk). It may block like a write, but never on a client that was slow at
    /// the last one: then it happens on a thread of its own.
    pub(super) fn end(mut self, ended: Ended) {
        let words = std::mem::take(&mut self.last_words);
        let mut due = match ended {
            Ended::Clean if !words.is_empty() => self.framed(&words),
            _ => std::mem::take(&mut self.head),
        };
        due.extend_from_slice(match (self.framing, ended) {
            (Framing::Chunked, Ended::Clean) => b"0\r\n\r\n",
            // The socket cannot be closed from here, so that the client is made to
            // close it: no chunk has such a size, and it stops reading at once.
            (Framing::Chunked, Ended::Cut) => b"cut\r\n",
            _ => b"",
        });
        match self.state {
            State::Open if due.is_empty() => {}
            State::Open => {
                // Its failure is on the timeline, and there is nobody left to tell.
                let _ = self.send(&due);
                if self.state != State::Open {
                    self.leave_elsewhere(b"");
                }
            }
            State::Slow => self.leave_elsewhere(&due),
            State::Broken => self.leave_elsewhere(b""),
        }
    }

    /// A part of the body as it goes over the wire, behind the head if that is still due.
    fn framed(&mut self, part: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.head);
        if self.framing == Framing::Chunked {
            bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        } else {
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// tiny_http flushes what it still holds when its writer is dropped, and so
    /// may wait out one more write timeout: not on a pool thread.
    fn leave_elsewhere(self, due: &[u8]) {
        let (mut socket, due) = (self.socket, due.to_vec());
        let left = thread::Builder::new().name("puma srv cut".into()).spawn(move || {
            if !due.is_empty() {
                let _ = socket.write_all(&due).and_then(|()| socket.flush());
            }
        });
        if let Err(error) = left {
            log::warn!("no thread to leave a blocked connection on: {error}");
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.writes += 1;
        let began = Instant::now();
        let sent = self.push_out(bytes, began);
        let took = began.elapsed();
        if took > BLOCKED_AFTER {
            self.record(What::Blocked { us: took.as_micros() as u64 });
            self.state = State::Slow;
        } else {
            self.state = State::Open;
        }
        match sent {
            Ok(()) => {
                self.record(What::Wrote { bytes: bytes.len() as u64 });
                Ok(())
            }
            Err(error) => {
                self.state = State::Broken;
                let errno = errno(&error);
                self.record(What::Disconnected { write: self.writes, error: errno.clone() });
                Err(WriteError { number: self.writes, errno })
            }
        }
    }

    /// Writes until all is with the kernel. Each call waits at most for the
    /// socket's own timeout (SO_SNDTIMEO), and comes back short only when that
    /// has run out, so the sum is looked at between the calls.
    fn push_out(&mut self, mut bytes: &[u8], began: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    self.progress.bytes.fetch_add(taken as u64, Ordering::Relaxed);
                    bytes = &bytes[taken..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if !bytes.is_empty() && began.elapsed() >= self.write_timeout {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        self.socket.flush()
    }

    fn record(&self, what: What) {
        self.timeline.record(Some(self.thread), Some(self.subject), what);
    }
}

/// The system's own name for what a write can meet.
fn errno(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::BrokenPipe => "EPIPE".into(),
        io::ErrorKind::ConnectionReset => "ECONNRESET".into(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "EAGAIN".into(),
        _ => error.to_string(),
    }
}
