//! The unit of a response: what counts as one event, and how many events a piece of the body completes.

use crate::lab::event_stream::{EventTooLarge, Parser};
use crate::lab::http::{Head, mime};
use crate::lab::probe::measured::Unit;

/// Maximum size of an unfinished event: 1 MiB.
pub(super) const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// The data with which many LLM endpoints mark their last event.
const DONE: &str = "[DONE]";

/// Content types whose unit is a line.
const LINES: &[&str] = &[
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonl",
    "application/jsonlines",
    "application/x-jsonlines",
    "application/json-seq",
    "application/stream+json",
];

/// What a piece of the body contained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Number of bytes, after the transfer and content codings were removed.
    pub(super) bytes: usize,
    /// Number of events that these bytes completed.
    pub(super) events: usize,
    /// Number of comments and `retry:` fields.
    pub(super) signs: usize,
    /// Whether a comment or a `retry:` came after the last event.
    pub(super) ends_with_sign: bool,
    /// Whether one of the events marks the answer as complete.
    pub(super) is_done: bool,
}

/// Counts the events of one response.
#[derive(Debug)]
pub(super) enum UnitReader {
    Sse {
        parser: Box<Parser>,
        signs: SignsOfLife,
    },
    Line {
        pending: usize,
    },
    Chunk,
    /// The response has a length: it is not a stream.
    None,
}

impl UnitReader {
    /// The reader for a response with this head. `is_open_ended` means that the body is chunked or ends with the
    /// connection.
    pub(super) fn of(head: &Head, is_open_ended: bool) -> UnitReader {
        let essence = mime::essence(head).unwrap_or_default();
        match essence.as_str() {
            "text/event-stream" => UnitReader::Sse {
                parser: Box::new(Parser::with_limit(MAX_EVENT_BYTES)),
                signs: SignsOfLife::default(),
            },
            lines if LINES.contains(&lines) => UnitReader::Line { pending: 0 },
            _ if is_open_ended => UnitReader::Chunk,
            _ => UnitReader::None,
        }
    }

    pub(super) fn unit(&self) -> Option<Unit> {
        match self {
            UnitReader::Sse { .. } => Some(Unit::Sse),
            UnitReader::Line { .. } => Some(Unit::Line),
            UnitReader::Chunk => Some(Unit::Chunk),
            UnitReader::None => None,
        }
    }

    /// Takes the next bytes of the body.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Arrival, EventTooLarge> {
        let mut arrival = Arrival { bytes: bytes.len(), ..Arrival::default() };
        match self {
            UnitReader::Sse { parser, signs } => {
                // Line by line, to find out whether a comment or an event came last.
                for line in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
                    let mut events = 0;
                    parser.feed(line, |event| {
                        events += 1;
                        arrival.is_done |= event.data.trim() == DONE;
                    })?;
                    let signs = signs.feed(line);
                    arrival.events += events;
                    arrival.signs += signs;
                    if events > 0 || signs > 0 {
                        arrival.ends_with_sign = signs > 0;
                    }
                }
            }
            UnitReader::Line { pending } => {
                for byte in bytes {
                    match byte {
                        b'\n' if *pending > 0 => {
                            arrival.events += 1;
                            *pending = 0;
                        }
                        b'\n' | b'\r' => {}
                        _ => *pending += 1,
                    }
                }
                if *pending > MAX_EVENT_BYTES {
                    return Err(EventTooLarge { limit: MAX_EVENT_BYTES });
                }
            }
            UnitReader::Chunk => arrival.events = usize::from(!bytes.is_empty()),
            UnitReader::None => {}
        }
        Ok(arrival)
    }
}

/// Counts comments and `retry:` fields, which the event parser does not report.
#[derive(Debug, Default)]
pub(super) struct SignsOfLife {
    /// The first bytes of the unfinished line.
    begun: Vec<u8>,
}

impl SignsOfLife {
    const RETRY: &[u8] = b"retry:";

    /// Takes a line or a part of one, including the line end if it has arrived, and returns how many comments or
    /// `retry:` fields were completed.
    fn feed(&mut self, part: &[u8]) -> usize {
        let is_whole = matches!(part.last(), Some(b'\n' | b'\r'));
        let text = part.strip_suffix(b"\n").or_else(|| part.strip_suffix(b"\r")).unwrap_or(part);
        let room = Self::RETRY.len() - self.begun.len();
        self.begun.extend_from_slice(&text[..text.len().min(room)]);
        if !is_whole {
            return 0;
        }
        let is_sign = self.begun.starts_with(b":") || self.begun == Self::RETRY;
        self.begun.clear();
        usize::from(is_sign)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(content_type: &str) -> Head {
        let headers = vec![("content-type".to_owned(), content_type.as_bytes().to_vec())];
        Head { status: 200, headers, minor_version: 1 }
    }

    fn fed(reader: &mut UnitReader, bytes: &str) -> (usize, usize, bool) {
        let arrival = reader.feed(bytes.as_bytes()).unwrap();
        (arrival.events, arrival.signs, arrival.ends_with_sign)
    }

    #[test]
    fn an_sse_event_needs_data_and_a_blank_line() {
        let mut reader = UnitReader::of(&head("text/event-stream; charset=utf-8"), true);
        assert_eq!(fed(&mut reader, "event: x\n\nid: 1\ndata: 1\n"), (0, 0, false));
        assert_eq!(fed(&mut reader, "\n"), (1, 0, false));
        assert_eq!(fed(&mut reader, "data: 2\r\n\r\ndata: 3\r\r"), (2, 0, false));
        assert!(reader.feed(b"data: [DONE]\n\n").unwrap().is_done);
    }

    #[test]
    fn comments_and_retry_fields_are_signs_of_life_and_not_events() {
        let mut reader = UnitReader::of(&head("text/event-stream"), true);
        assert_eq!(fed(&mut reader, ": hello\n\n"), (0, 1, true));
        assert_eq!(fed(&mut reader, "ret"), (0, 0, false));
        assert_eq!(fed(&mut reader, "ry: 100\n"), (0, 1, true));
        assert_eq!(fed(&mut reader, ":\ndata: 1\n\n"), (1, 1, false));
        assert_eq!(fed(&mut reader, "data: 1\n\nretry: 5\r\n\r\n"), (1, 1, true));
        assert_eq!(fed(&mut reader, "retrying: 5\ndata: : x\n"), (0, 0, false));
    }

    #[test]
    fn other_streams_are_counted_by_line_or_by_chunk() {
        let mut lines = UnitReader::of(&head("application/x-ndjson"), true);
        assert_eq!(fed(&mut lines, "{}\r\n\r\n{"), (1, 0, false));
        assert_eq!(fed(&mut lines, "}\n"), (1, 0, false));
        let mut chunks = UnitReader::of(&head("text/plain"), true);
        assert_eq!((chunks.unit(), fed(&mut chunks, "abc").0), (Some(Unit::Chunk), 1));
        let mut page = UnitReader::of(&head("text/plain"), false);
        assert_eq!((page.unit(), fed(&mut page, "abc").0), (None, 0));
    }

    #[test]
    fn an_unfinished_event_is_limited() {
        let much = vec![b'x'; MAX_EVENT_BYTES + 1];
        for kind in ["text/event-stream", "application/x-ndjson"] {
            assert!(UnitReader::of(&head(kind), true).feed(&much).is_err(), "{kind}");
        }
    }
}
