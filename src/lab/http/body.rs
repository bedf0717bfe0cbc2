//! The body of an answer: counted, chunked, or until the connection's end.
//!
//! Which of the three is decided once, from the head (RFC 9112, 6.3). A body that
//! ends before its time is an `UnexpectedEof`, never a short success; a body that
//! has no length of its own ends well with the connection.
//!
//! Reading blocks until bytes are there, the connection's deadline passes
//! (`WouldBlock`), or its [`Closer`](super::Closer) is used.

use std::io::{self, BufReader, ErrorKind, Read};

use super::connection::{Connection, Wire};
use super::{Head, HttpError, chunked::ChunkedReader};

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Counted(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    pub(super) fn of(head: &Head) -> Result<Framing, HttpError> {
        if matches!(head.status, 100..200 | 204 | 304) {
            return Ok(Framing::Counted(0));
        }
        if let Some(coding) = head.header("transfer-encoding") {
            let last = coding.rsplit(',').next().unwrap_or_default().trim();
            let chunked = last.eq_ignore_ascii_case("chunked");
            return Ok(if chunked { Framing::Chunked } else { Framing::UntilClose });
        }
        let mut lengths = head.values("content-length");
        let Some(first) = lengths.next() else { return Ok(Framing::UntilClose) };
        let length = std::str::from_utf8(first).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        match length.and_then(|text| text.parse().ok()) {
            Some(length) if lengths.all(|other| other == first) => Ok(Framing::Counted(length)),
            _ => {
                Err(HttpError::BadFraming { what: "Content-Length is no number, or two numbers".to_owned() })
            }
        }
    }
}

/// What is left to read of an answer. It owns the connection, and gives it back
/// when the answer was read to its end and another may follow.
#[derive(Debug)]
pub struct Body {
    rest: Rest,
    keep_alive: bool,
}

#[derive(Debug)]
enum Rest {
    Counted { left: u64, wire: BufReader<Wire> },
    Chunked(ChunkedReader<BufReader<Wire>>),
    UntilClose(BufReader<Wire>),
}

impl Body {
    pub(super) fn new(framing: Framing, wire: BufReader<Wire>, keep_alive: bool) -> Body {
        let rest = match framing {
            Framing::Counted(left) => Rest::Counted { left, wire },
            Framing::Chunked => Rest::Chunked(ChunkedReader::new(wire)),
            Framing::UntilClose => Rest::UntilClose(wire),
        };
        Body { rest, keep_alive }
    }

    /// The connection, for the next request; `None` when the body was not read to
    /// its end, or the server does not keep the connection.
    pub fn into_connection(self) -> Option<Connection> {
        let wire = match self.rest {
            Rest::Counted { left: 0, wire } => wire,
            Rest::Chunked(reader) if reader.is_ended() => reader.into_inner(),
            Rest::Counted { .. } | Rest::Chunked(_) | Rest::UntilClose(_) => return None,
        };
        self.keep_alive.then(|| Connection::from_wire(wire))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(status: u16, headers: &[(&str, &str)]) -> Option<Framing> {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        Framing::of(&Head { status, headers: headers.collect(), minor_version: 1 }).ok()
    }

    #[test]
    fn the_head_decides_how_the_body_ends() {
        assert_eq!(framing(200, &[]), Some(Framing::UntilClose));
        assert_eq!(framing(200, &[("Content-Length", "3")]), Some(Framing::Counted(3)));
        assert_eq!(
            framing(200, &[("content-length", "3"), ("Content-Length", "3")]),
            Some(Framing::Counted(3))
        );
        assert_eq!(framing(200, &[("Content-Length", "3"), ("Content-Length", "4")]), None);
        assert_eq!(framing(200, &[("Content-Length", "+3")]), None);
        assert_eq!(framing(200, &[("Content-Length", "")]), None);
        assert_eq!(
            framing(200, &[("Transfer-Encoding", "Chunked"), ("Content-Length", "3")]),
            Some(Framing::Chunked)
        );
        assert_eq!(framing(200, &[("Transfer-Encoding", "gzip")]), Some(Framing::UntilClose));
        assert_eq!(framing(204, &[("Transfer-Encoding", "chunked")]), Some(Framing::Counted(0)));
        assert_eq!(framing(304, &[]), Some(Framing::Counted(0)));
    }
}
