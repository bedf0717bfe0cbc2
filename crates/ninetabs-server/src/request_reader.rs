//! Turns the bytes of a connection into requests, without doing any socket I/O.
//!
//! This is the parsing half of Puma::Client. Bytes are pushed in as they were read, in pieces of any size, and complete
//! requests are taken out. The result does not depend on how the bytes were split, and the reader stores no more than
//! the limits plus one read. A body larger than Puma's MAX_BODY is written to disk, which is the only operation here
//! that can block.

use std::mem;

use super::body::{RequestBody, SpoolError};
use super::chunks::Chunks;
use super::first_line::Version;
use super::framing::{self, BodyFraming};
use super::head::{HeadScan, Parsed, RequestHead};
use super::refusal::Refusal;
use crate::log_limit::limited;

/// A complete request.
#[derive(Debug)]
pub struct Incoming {
    /// Its head.
    pub head: RequestHead,
    /// Its body.
    pub body: RequestBody,
    /// Whether another request may follow on this connection, as far as framing is concerned.
    pub may_be_followed: bool,
}

impl Incoming {
    fn held_bytes(&self) -> usize {
        self.head.held_bytes() + self.body.held_bytes()
    }
}

/// The bytes of a connection that were read but not yet taken as a request.
#[derive(Debug)]
pub struct RequestReader {
    max_head_bytes: usize,
    max_body_bytes: u64,
    buffer: Vec<u8>,
    /// How many bytes at the front of the buffer have been consumed.
    used: usize,
    is_continue_due: bool,
    phase: ReadPhase,
}

/// The later phases are boxed, because most connections are waiting for a head, and an enum takes as much memory as its
/// largest variant.
#[derive(Debug)]
enum ReadPhase {
    Head(HeadScan),
    Body(Box<InBody>),
    Ready(Box<Incoming>),
}

/// A request whose body is being read.
#[derive(Debug)]
struct InBody {
    incoming: Incoming,
    rest: BodyRest,
}

/// The rest of a body.
#[derive(Debug)]
enum BodyRest {
    /// This many bytes.
    Counted(u64),
    Chunked(Chunks),
}

impl RequestReader {
    /// Creates a reader with these limits, in bytes.
    pub fn new(max_head_bytes: usize, max_body_bytes: u64) -> Self {
        RequestReader {
            max_head_bytes,
            max_body_bytes,
            buffer: Vec::new(),
            used: 0,
            is_continue_due: false,
            phase: ReadPhase::Head(HeadScan::new(max_head_bytes)),
        }
    }

    /// Appends bytes that were read. They are stored until [`parse`](Self::parse) has consumed them.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Consumes the bytes of the current request. Returns `true` once the request is complete. After a refusal, the
    /// remaining bytes cannot be interpreted.
    pub fn parse(&mut self) -> Result<bool, Refusal> {
        loop {
            match &mut self.phase {
                ReadPhase::Ready(_) => return Ok(true),
                ReadPhase::Head(scan) => match scan.look(&self.buffer[self.used..]) {
                    Parsed::Whole(head, length) => {
                        // The answer to a refused request depends on the request line, so the head is consumed after
                        // this check.
                        let framing = framing::of_request(&head, self.max_body_bytes)?;
                        self.consume(length);
                        self.begin_body(head, framing);
                    }
                    Parsed::NotYet => return Ok(false),
                    Parsed::Refused(refusal) => return Err(refusal),
                },
                ReadPhase::Body(in_body) => {
                    let InBody { incoming: Incoming { body, .. }, rest } = &mut **in_body;
                    let unread = &self.buffer[self.used..];
                    let (taken, is_whole) = match rest {
                        BodyRest::Counted(left) => {
                            let taken = unread.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                            keep(body, &unread[..taken])?;
                            *left -= taken as u64;
                            (taken, *left == 0)
                        }
                        BodyRest::Chunked(chunks) => {
                            // Collect the data first, because each call of `keep` is a separate write if the body is in
                            // a file.
                            let mut data = Vec::new();
                            let taken = chunks.take(unread, |more| data.extend_from_slice(more))?;
                            keep(body, &data)?;
                            (taken, chunks.is_done())
                        }
                    };
                    self.consume(taken);
                    if !is_whole {
                        return Ok(false);
                    }
                    self.finish();
                }
            }
        }
    }

    fn begin_body(&mut self, head: RequestHead, framing: BodyFraming) {
        self.is_continue_due = head.expects_continue()
            && head.version == Version::Http11
            && framing != BodyFraming::None
            && self.unread().is_empty();
        let incoming = |may_be_followed| Incoming { head, body: RequestBody::default(), may_be_followed };
        self.phase = match framing {
            BodyFraming::None => ReadPhase::Ready(Box::new(incoming(true))),
            BodyFraming::Counted(left) => {
                ReadPhase::Body(Box::new(InBody { incoming: incoming(true), rest: BodyRest::Counted(left) }))
            }
            BodyFraming::Chunked { may_be_followed } => {
                let rest = BodyRest::Chunked(Chunks::with_limit(self.max_body_bytes));
                ReadPhase::Body(Box::new(InBody { incoming: incoming(may_be_followed), rest }))
            }
        };
    }

    /// Moves the remaining bytes to the front once they are at most half of the buffer, so that each byte of pipelined
    /// requests is moved about once instead of once per request. Frees the memory of an empty buffer, because it counts
    /// against the limits and may be larger than any body.
    fn consume(&mut self, bytes: usize) {
        self.used += bytes;
        if self.used == self.buffer.len() {
            self.buffer = Vec::new();
            self.used = 0;
        } else if self.used >= self.buffer.len() - self.used {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
    }

    fn finish(&mut self) {
        let next = self.next_head();
        self.phase = match mem::replace(&mut self.phase, next) {
            ReadPhase::Body(in_body) => ReadPhase::Ready(Box::new(in_body.incoming)),
            other => other,
        };
    }

    fn next_head(&self) -> ReadPhase {
        ReadPhase::Head(HeadScan::new(self.max_head_bytes))
    }

    /// Takes the complete request. The next request may already begin in the buffer.
    pub fn take(&mut self) -> Option<Box<Incoming>> {
        let next = self.next_head();
        match mem::replace(&mut self.phase, next) {
            ReadPhase::Ready(incoming) => Some(incoming),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Returns whether the client is waiting for `100 Continue`. True at most once per request.
    pub fn take_continue(&mut self) -> bool {
        mem::take(&mut self.is_continue_due)
    }

    /// Returns whether the reader is reading a head or waiting for one.
    pub fn is_in_head(&self) -> bool {
        matches!(self.phase, ReadPhase::Head(_))
    }

    /// Returns whether a request is complete.
    pub fn is_ready(&self) -> bool {
        self.ready().is_some()
    }

    /// Returns the head of the complete request.
    pub fn ready(&self) -> Option<&RequestHead> {
        match &self.phase {
            ReadPhase::Ready(incoming) => Some(&incoming.head),
            _ => None,
        }
    }

    /// The head of the request that is complete or whose body is being read.
    fn head(&self) -> Option<&RequestHead> {
        match &self.phase {
            ReadPhase::Body(in_body) => Some(&in_body.incoming.head),
            ReadPhase::Ready(incoming) => Some(&incoming.head),
            ReadPhase::Head(_) => None,
        }
    }

    /// Returns the HTTP version of the current request, complete or not. HTTP/1.0 if it is unknown.
    pub fn version(&self) -> Version {
        match self.head() {
            Some(head) => head.version,
            None if request_line(self.unread()).ends_with(b" HTTP/1.1") => Version::Http11,
            None => Version::Http10,
        }
    }

    /// Returns whether the current request, complete or not, is a HEAD request.
    pub fn is_for_head(&self) -> bool {
        match self.head() {
            Some(head) => head.method == "HEAD",
            None => request_line(self.unread()).starts_with(b"HEAD "),
        }
    }

    /// Returns the bytes that were read but are not part of a request yet.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Like [`unread`](Self::unread), for the new owner of the socket.
    pub fn into_unread(mut self) -> Vec<u8> {
        self.buffer.drain(..self.used);
        self.buffer
    }

    /// Returns how many bytes of memory the received parts take: the buffer, the parsed head, and the body.
    pub fn held_bytes(&self) -> usize {
        let request = match &self.phase {
            ReadPhase::Body(in_body) => {
                let of_chunks = match &in_body.rest {
                    BodyRest::Counted(_) => 0,
                    BodyRest::Chunked(chunks) => chunks.held_bytes(),
                };
                in_body.incoming.held_bytes() + of_chunks
            }
            ReadPhase::Ready(incoming) => incoming.held_bytes(),
            ReadPhase::Head(_) => 0,
        };
        self.buffer.capacity() + request
    }

    /// Frees the memory that is not needed while the connection waits.
    pub fn settle(&mut self) {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.shrink_to_fit();
    }
}

/// The part of the request line that has arrived. The request may have been refused.
fn request_line(bytes: &[u8]) -> &[u8] {
    let mut lines = bytes.split(|byte| *byte == b'\r');
    let line = lines.find(|line| !line.iter().all(|byte| *byte == b'\n')).unwrap_or_default();
    line.strip_prefix(b"\n").unwrap_or(line)
}

fn keep(body: &mut RequestBody, data: &[u8]) -> Result<(), Refusal> {
    body.push(data).map_err(|error| {
        // Reaching the limit on large bodies is not logged, because it is not an error of this server and may last for
        // a while.
        if let SpoolError::Disk(_) = &error {
            limited!(Error, "{error}");
        }
        Refusal::NoRoomForBody
    })
}

#[cfg(test)]
mod tests;
