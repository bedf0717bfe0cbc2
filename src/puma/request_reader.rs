//! From a connection's bytes to its requests, without the connection.
//!
//! The half of Puma::Client that does no I/O: bytes are pushed in as they were read,
//! in whatever pieces, and whole requests are taken out. What comes of the bytes
//! does not depend on how they were cut, and no more of them is kept than the limits
//! and one read; a body beyond Puma's MAX_BODY goes to the disk, which is all that
//! can block here.

use std::mem;

use super::body::{RequestBody, SpoolError};
use super::chunks::Chunks;
use super::framing::{self, BodyFraming};
use super::head::{self, Head, Parsed};
use super::refusal::Refusal;
use super::request::Version;

/// Up to here a line is looked at before it has ended, so that what is no HTTP is
/// refused at once, in bytes. A longer line is looked at when it is whole: to look at
/// each of its pieces from the beginning would cost the square of its length.
const EAGER_BYTES: usize = 4 * 1024;

/// A request that has come whole.
#[derive(Debug)]
pub struct Incoming {
    pub head: Head,
    pub body: RequestBody,
    /// Whether another may follow it on this connection, as far as framing goes.
    pub may_be_followed: bool,
}

/// What has been read of a connection and not been taken.
#[derive(Debug)]
pub struct RequestReader {
    max_head_bytes: usize,
    max_body_bytes: u64,
    buffer: Vec<u8>,
    /// Behind the last line end in the buffer.
    lines_end: usize,
    /// How much of the buffer was no whole head when it was last looked at.
    looked_at: usize,
    is_continue_due: bool,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Head,
    Counted { head: Head, left: u64, body: RequestBody },
    Chunked { head: Head, chunks: Chunks, may_be_followed: bool, body: RequestBody },
    Ready(Incoming),
}

impl RequestReader {
    pub fn new(max_head_bytes: usize, max_body_bytes: u64) -> Self {
        RequestReader {
            max_head_bytes,
            max_body_bytes,
            buffer: Vec::new(),
            lines_end: 0,
            looked_at: 0,
            is_continue_due: false,
            phase: Phase::Head,
        }
    }

    /// Adds what was read. It is kept until [`parse`](Self::parse) has used it.
    pub fn push(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') {
            self.lines_end = self.buffer.len() + last + 1;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes from the buffer what belongs to the request. True: it is whole. After a
    /// refusal nothing that follows means anything.
    pub fn parse(&mut self) -> Result<bool, Refusal> {
        loop {
            match &mut self.phase {
                Phase::Ready(_) => return Ok(true),
                Phase::Head => {
                    if !self.parse_head()? {
                        return Ok(false);
                    }
                }
                Phase::Counted { left, body, .. } => {
                    let taken = self.buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    keep(body, &self.buffer[..taken])?;
                    *left -= taken as u64;
                    let is_whole = *left == 0;
                    self.consume(taken);
                    if !is_whole {
                        return Ok(false);
                    }
                    self.finish();
                }
                Phase::Chunked { chunks, body, .. } => {
                    let most = self.max_body_bytes;
                    let taken = chunks.take(&self.buffer, |data| {
                        if body.len() + data.len() as u64 > most {
                            return Err(Refusal::BodyTooLarge);
                        }
                        keep(body, data)
                    })?;
                    let is_whole = chunks.is_done();
                    self.consume(taken);
                    if !is_whole {
                        return Ok(false);
                    }
                    self.finish();
                }
            }
        }
    }

    fn parse_head(&mut self) -> Result<bool, Refusal> {
        let Some(end) = self.worth_a_look() else { return Ok(false) };
        let (head, length) = match head::parse(&self.buffer[..end], self.max_head_bytes) {
            Parsed::Whole(head, length) => (head, length),
            Parsed::NotYet => {
                self.looked_at = end;
                return Ok(false);
            }
            Parsed::Refused(refusal) => return Err(refusal),
        };
        let framing = framing::of_request(&head, self.max_body_bytes)?;
        self.consume(length);
        self.is_continue_due = head.expects_continue()
            && head.version == Version::Http11
            && framing != BodyFraming::None
            && self.buffer.is_empty();
        let body = RequestBody::default();
        self.phase = match framing {
            BodyFraming::None => Phase::Ready(Incoming { head, body, may_be_followed: true }),
            BodyFraming::Counted(left) => Phase::Counted { head, left, body },
            BodyFraming::Chunked { may_be_followed } => {
                Phase::Chunked { head, chunks: Chunks::default(), may_be_followed, body }
            }
        };
        Ok(true)
    }

    /// How much of the buffer may be a head, if that is more than was looked at before.
    fn worth_a_look(&self) -> Option<usize> {
        let length = self.buffer.len().min(self.max_head_bytes);
        let is_over = length >= self.max_head_bytes || self.lines_end == 0 && length > head::MAX_TARGET_BYTES;
        let end = if is_over { length } else { length.min(EAGER_BYTES.max(self.lines_end)) };
        (end > self.looked_at).then_some(end)
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
        self.lines_end = self.lines_end.saturating_sub(bytes);
        self.looked_at = 0;
    }

    fn finish(&mut self) {
        let (head, body, may_be_followed) = match mem::replace(&mut self.phase, Phase::Head) {
            Phase::Counted { head, body, .. } => (head, body, true),
            Phase::Chunked { head, body, may_be_followed, .. } => (head, body, may_be_followed),
            other => {
                self.phase = other;
                return;
            }
        };
        self.phase = Phase::Ready(Incoming { head, body, may_be_followed });
    }

    /// Takes the request that is whole; the next begins in the buffer, or is to come.
    pub fn take(&mut self) -> Option<Incoming> {
        match mem::replace(&mut self.phase, Phase::Head) {
            Phase::Ready(incoming) => Some(incoming),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Whether the client waits to be told to send its body; once for each request.
    pub fn take_continue(&mut self) -> bool {
        mem::take(&mut self.is_continue_due)
    }

    /// Whether it is a head that is being read, or waited for.
    pub fn is_in_head(&self) -> bool {
        matches!(self.phase, Phase::Head)
    }

    /// Whether a request is whole.
    pub fn is_ready(&self) -> bool {
        self.ready().is_some()
    }

    /// The head of the request that is whole.
    pub fn ready(&self) -> Option<&Head> {
        match &self.phase {
            Phase::Ready(incoming) => Some(&incoming.head),
            _ => None,
        }
    }

    /// Whether the request that is being read says HTTP/1.1, whole or not.
    pub fn is_http11(&self) -> bool {
        match &self.phase {
            Phase::Counted { head, .. } | Phase::Chunked { head, .. } => head.version == Version::Http11,
            Phase::Ready(incoming) => incoming.head.version == Version::Http11,
            Phase::Head => says_http11(&self.buffer),
        }
    }

    /// What was read and belongs to no request yet.
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// The same, for who takes the socket over.
    pub fn into_unread(self) -> Vec<u8> {
        self.buffer
    }

    /// Gives back the memory that it does not need while it waits.
    pub fn settle(&mut self) {
        self.buffer.shrink_to_fit();
    }
}

/// Whether the request line, which may have been refused, says HTTP/1.1.
fn says_http11(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').find(|line| !line.iter().all(|byte| *byte == b'\n'));
    line.is_some_and(|line| line.ends_with(b" HTTP/1.1"))
}

fn keep(body: &mut RequestBody, data: &[u8]) -> Result<(), Refusal> {
    body.push(data).map_err(|error| {
        // That there are many is no fault of ours, and may be so for a while.
        if let SpoolError::Disk(_) = &error {
            log::error!("{error}");
        }
        Refusal::NoRoomForBody
    })
}
