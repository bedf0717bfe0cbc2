//! Finds the first event of a stream, by the unit of its response.

use crate::lab::event_stream::Parser;
use crate::lab::http::{Head, mime};
use crate::lab::probe::measured::Unit;

/// Maximum size of an unfinished event: 1 MiB. Beyond it, the response is not a stream.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// Types whose events are lines.
const LINES: [&str; 6] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/json-lines",
    "application/json-seq",
];

/// What the bytes of a response have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamSign {
    Nothing,
    /// A comment or `retry:`, which counts as an event if none comes.
    SignOfLife,
    Event,
}

/// Reads a response up to its first event.
pub(super) struct FirstEvent {
    unit: Unit,
    parser: Parser,
    /// Bytes before the first line end.
    line: usize,
    comment: CommentLine,
}

/// Whether the line that is being read is a comment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CommentLine {
    AtLineStart,
    Begun,
    No,
    /// One was complete.
    Seen,
}

impl FirstEvent {
    pub(super) fn of(head: &Head) -> FirstEvent {
        let unit = match mime::essence(head).as_deref() {
            Some("text/event-stream") => Unit::Sse,
            Some(other) if LINES.contains(&other) => Unit::Line,
            _ => Unit::Chunk,
        };
        let parser = Parser::with_limit(MAX_EVENT_BYTES);
        FirstEvent { unit, parser, line: 0, comment: CommentLine::AtLineStart }
    }

    /// Takes the next bytes. Fails if an unfinished event becomes too large.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<StreamSign, ()> {
        let has_event = match self.unit {
            Unit::Sse | Unit::SignOfLife => {
                let mut has_event = false;
                self.parser.feed(bytes, |_| has_event = true).map_err(|_| ())?;
                self.note_comments(bytes);
                has_event
            }
            Unit::Line => {
                self.line += bytes.len();
                let is_complete = bytes.contains(&b'\n');
                if !is_complete && self.line > MAX_EVENT_BYTES {
                    return Err(());
                }
                is_complete
            }
            Unit::Chunk => !bytes.is_empty(),
        };
        let is_alive = self.comment == CommentLine::Seen || self.parser.retry().is_some();
        Ok(match (has_event, is_alive) {
            (true, _) => StreamSign::Event,
            (false, true) => StreamSign::SignOfLife,
            (false, false) => StreamSign::Nothing,
        })
    }

    fn note_comments(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.comment = match (self.comment, byte) {
                (CommentLine::Seen, _) | (CommentLine::Begun, b'\r' | b'\n') => CommentLine::Seen,
                (CommentLine::AtLineStart, b':') | (CommentLine::Begun, _) => CommentLine::Begun,
                (_, b'\r' | b'\n') => CommentLine::AtLineStart,
                (CommentLine::AtLineStart | CommentLine::No, _) => CommentLine::No,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(essence: &str, pieces: &[&str]) -> Result<StreamSign, ()> {
        let headers = vec![("content-type".to_owned(), essence.as_bytes().to_vec())];
        let mut first = FirstEvent::of(&Head { status: 200, headers, minor_version: 1 });
        pieces.iter().try_fold(StreamSign::Nothing, |_, piece| first.feed(piece.as_bytes()))
    }

    #[test]
    fn the_unit_of_a_response_decides_what_its_first_event_is() {
        for (essence, pieces, expected) in [
            ("text/event-stream", &["data: 1\n", "\n"][..], StreamSign::Event),
            ("text/event-stream", &["data: 1\n"], StreamSign::Nothing),
            ("text/event-stream; charset=utf-8", &["retry: 5\n"], StreamSign::SignOfLife),
            ("text/event-stream", &["data: x\n:", "p", "ing\r\n"], StreamSign::SignOfLife),
            ("text/event-stream", &["data: :x\n"], StreamSign::Nothing),
            ("text/event-stream", &[":ping"], StreamSign::Nothing),
            ("application/x-ndjson", &["{", "}"], StreamSign::Nothing),
            ("application/x-ndjson", &["{}", "\n"], StreamSign::Event),
            ("text/plain", &[""], StreamSign::Nothing),
            ("text/plain", &["x"], StreamSign::Event),
        ] {
            assert_eq!(shown(essence, pieces), Ok(expected), "{essence} {pieces:?}");
        }
    }

    #[test]
    fn an_event_that_never_ends_is_not_a_stream() {
        let endless = "x".repeat(MAX_EVENT_BYTES);
        for essence in ["text/event-stream", "application/x-ndjson"] {
            assert_eq!(shown(essence, &["data: ", &endless]), Err(()), "{essence}");
        }
    }
}
