//! The body of an answer: counted, chunked, or until the connection's end.
//!
//! The head decides once which of the three it is (RFC 9112, 6.3). A body that ends early is an
//! `UnexpectedEof`, never a short success. A body without a length ends with the connection.
//!
//! Reading blocks until bytes have arrived, the connection's deadline passes (`WouldBlock`), or its
//! [`Closer`] is used.

use std::io::{self, BufReader, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::chunked::ChunkedReader;
use super::coding::Coding;
use super::framing::Framing;
use super::wire::{Closer, Wire};

/// The body of an answer. It owns the connection.
#[derive(Debug)]
pub struct Body {
    rest: Rest,
    codings: Vec<Coding>,
    /// Counts the bytes that are read, before their codings are decoded.
    counter: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Rest {
    Counted { left: u64, wire: BufReader<Wire> },
    Chunked(ChunkedReader<BufReader<Wire>>),
    UntilClose(BufReader<Wire>),
}

impl Body {
    pub(super) fn new((framing, codings): (Framing, Vec<Coding>), wire: BufReader<Wire>) -> Body {
        let rest = match framing {
            Framing::Counted(left) => Rest::Counted { left, wire },
            Framing::Chunked => Rest::Chunked(ChunkedReader::new(wire)),
            Framing::UntilClose => Rest::UntilClose(wire),
        };
        Body { rest, codings, counter: Arc::default() }
    }

    /// Makes reading fail once `deadline` has passed. `None` means no deadline.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.rest.wire_mut().set_deadline(deadline);
    }

    /// Counts the bytes that are read into `counter`, before their codings are decoded. A decoder may have read bytes
    /// from which it cannot return anything yet.
    pub fn count_into(&mut self, counter: Arc<AtomicUsize>) {
        self.counter = counter;
    }

    /// Returns a handle that ends the connection from another thread.
    pub fn closer(&self) -> Closer {
        self.rest.wire().closer()
    }

    /// Returns whether the server has neither closed nor reset the connection, even after the end of the body.
    /// Never blocks. On systems other than Linux, unread bytes hide the end of the connection.
    pub fn is_open(&self) -> bool {
        self.rest.wire().is_open()
    }

    /// Returns whether only the end of the connection ends the body. If so, a body that was cut off looks complete.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.rest, Rest::UntilClose(_))
    }

    /// The transfer codings other than the chunks. Reading the body does not decode them;
    /// [`super::Content`] does.
    pub(super) fn transfer_codings(&self) -> &[Coding] {
        &self.codings
    }
}

impl Rest {
    fn wire(&self) -> &Wire {
        match self {
            Rest::Counted { wire, .. } | Rest::UntilClose(wire) => wire.get_ref(),
            Rest::Chunked(reader) => reader.source().get_ref(),
        }
    }

    fn wire_mut(&mut self) -> &mut Wire {
        match self {
            Rest::Counted { wire, .. } | Rest::UntilClose(wire) => wire.get_mut(),
            Rest::Chunked(reader) => reader.source_mut().get_mut(),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.rest {
            Rest::UntilClose(wire) => wire.read(buffer)?,
            Rest::Chunked(reader) => reader.read(buffer)?,
            Rest::Counted { left: 0, .. } => 0,
            Rest::Counted { left, wire } => {
                let read = wire.by_ref().take(*left).read(buffer)?;
                if read == 0 && !buffer.is_empty() {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                *left -= read as u64;
                read
            }
        };
        self.counter.fetch_add(read, Ordering::Relaxed);
        Ok(read)
    }
}
