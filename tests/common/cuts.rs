//! Properties that hold for any bytes, however they are split into pieces: the result is the same, nothing panics,
//! and no more bytes are buffered than the limits allow.
//!
//! Used by the property tests, and included by path in the fuzz targets.

use ninetabs::lab::event_stream::{EventTooLarge, Parser, ReceivedEvent};
use ninetabs_server::chunks::Chunks;
use ninetabs_server::fields::Fields;
use ninetabs_server::request_reader::RequestReader;

/// The limits are small, so that short inputs exceed them.
pub const MAX_HEAD_BYTES: usize = 16 * 1_024;
pub const MAX_BODY_BYTES: u64 = 256;
/// Maximum size of an unfinished event.
pub const MAX_EVENT_BYTES: usize = 1_024;

/// What the reader made of a connection's bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Requests {
    pub whole: Vec<Whole>,
    /// The status of the refusal that ended the connection, if any.
    pub refused: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    pub line: String,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub may_be_followed: bool,
}

/// The result of a chunked body: its data and its number of bytes if it has ended, or the status of the
/// refusal.
pub type Decoded = Result<(Vec<u8>, Option<usize>), u16>;

/// The events that a page receives from a stream, and the delay and position of its next connection.
pub type Seen = (Vec<ReceivedEvent>, Result<(Option<std::time::Duration>, String), EventTooLarge>);

/// Cuts `bytes` into pieces with these lengths, repeatedly.
pub fn cut<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    let mut lengths = lengths.iter().map(|length| (*length).max(1)).cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(lengths.next().unwrap_or(rest.len()).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Reads requests until one is refused or is the last of its connection, as Puma's `Client` does.
pub fn requests(pieces: &[&[u8]]) -> Requests {
    let mut reader = RequestReader::new(MAX_HEAD_BYTES, MAX_BODY_BYTES);
    let mut seen = Requests { whole: Vec::new(), refused: None };
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.parse() {
                Ok(false) => break,
                Err(refusal) => {
                    seen.refused = Some(refusal.status().as_u16());
                    return seen;
                }
                Ok(true) => {}
            }
            let incoming = reader.take().expect("a complete request can be taken");
            assert!(incoming.body.len() <= MAX_BODY_BYTES, "a body exceeds the limit");
            let (head, may_be_followed) = (incoming.head, incoming.may_be_followed);
            seen.whole.push(Whole {
                line: format!("{} {} {:?}", head.method, head.target, head.version),
                fields: head.fields,
                body: incoming.body.read().expect("a small body is in memory"),
                may_be_followed,
            });
            if !may_be_followed {
                return seen;
            }
        }
        assert!(reader.unread().len() < MAX_HEAD_BYTES, "the unread bytes exceed the limit of a head");
    }
    seen
}

/// Decodes a chunked body.
pub fn chunks(pieces: &[&[u8]]) -> Decoded {
    let (mut chunks, mut data, mut taken) = (Chunks::with_limit(u64::MAX), Vec::new(), 0);
    for piece in pieces {
        let took = chunks.take(piece, |more| data.extend_from_slice(more));
        let took = took.map_err(|refusal| refusal.status())?;
        taken += took;
        if chunks.is_done() {
            assert!(data.len() < taken, "the data is not shorter than its encoding");
            return Ok((data, Some(taken)));
        }
        assert_eq!(took, piece.len(), "bytes were left unread although the body continues");
    }
    Ok((data, None))
}

/// Parses an event stream as one connection.
pub fn events(pieces: &[&[u8]]) -> Seen {
    let mut parser = Parser::with_limit(MAX_EVENT_BYTES);
    let mut events = Vec::new();
    for piece in pieces {
        if let Err(refused) = parser.feed(piece, |event| events.push(event)) {
            return (events, Err(refused));
        }
    }
    parser.begin();
    let next = (parser.retry(), parser.last_event_id().to_owned());
    (events, Ok(next))
}

/// Input longer than this is not read byte by byte, since that would take too long.
const BYTE_BY_BYTE: usize = 1_024;

/// Checks that the result is the same for `bytes` in one piece, byte by byte, and cut into these lengths.
pub fn same_requests(bytes: &[u8], lengths: &[usize]) {
    same(bytes, lengths, requests);
}

/// Like [`same_requests`], for a chunked body.
pub fn same_chunks(bytes: &[u8], lengths: &[usize]) {
    same(bytes, lengths, chunks);
}

/// Like [`same_requests`], for an event stream.
pub fn same_events(bytes: &[u8], lengths: &[usize]) {
    same(bytes, lengths, events);
}

fn same<T: PartialEq + std::fmt::Debug>(bytes: &[u8], lengths: &[usize], read: fn(&[&[u8]]) -> T) {
    let whole = read(&[bytes]);
    let single: &[usize] = if bytes.len() <= BYTE_BY_BYTE { &[1] } else { &[] };
    for lengths in [single, lengths] {
        let cut = read(&cut(bytes, lengths));
        assert!(cut == whole, "cut: {cut:?}, whole: {whole:?}, input: {:?}", String::from_utf8_lossy(bytes));
    }
}
