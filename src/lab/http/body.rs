//! The body of an answer: counted, chunked, or until the connection's end.
//!
//! The head decides once which of the three it is (RFC 9112, 6.3). A body that ends early is an
//! `UnexpectedEof`, never a short success. A body without a length ends with the connection.
//!
//! Reading blocks until bytes have arrived, the connection's deadline passes (`WouldBlock`), or its
//! [`Closer`](super::Closer) is used.

use std::io::{self, BufReader, ErrorKind, Read};

use super::chunked::ChunkedReader;
use super::coding::Coding;
use super::connection::Wire;
use super::framing::Framing;

/// The rest of an answer. It owns the connection.
#[derive(Debug)]
pub struct Body {
    rest: Rest,
    codings: Vec<Coding>,
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
        Body { rest, codings }
    }

    /// The transfer codings other than the chunks. Reading the body does not decode them;
    /// [`super::Content`] does.
    pub(super) fn transfer_codings(&self) -> &[Coding] {
        &self.codings
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.rest {
            Rest::UntilClose(wire) => wire.read(buffer),
            Rest::Chunked(reader) => reader.read(buffer),
            Rest::Counted { left: 0, .. } => Ok(0),
            Rest::Counted { left, wire } => {
                let read = wire.by_ref().take(*left).read(buffer)?;
                if read == 0 && !buffer.is_empty() {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                *left -= read as u64;
                Ok(read)
            }
        }
    }
}
