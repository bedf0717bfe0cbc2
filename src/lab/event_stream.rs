//! The event stream format of the HTML standard, as a pure parser.
//!
//! It takes bytes, in whatever pieces the network delivers them, and returns [`ReceivedEvent`]s. The
//! parser outlives a connection, because two values of a stream do: the last
//! event ID and the reconnection time. [`Parser::begin`] resets the rest.
//!
//! A line is decoded when its end has been seen. CR and LF are never part of a longer UTF-8
//! sequence, so decoding line by line gives the same result as decoding the whole stream, wherever
//! the pieces were split. A byte order mark is the first three bytes of the first line.
//!
//! Where the standard leaves a choice, the parser does what Chromium does: an empty `retry:`
//! restores the client's own delay. Nothing here blocks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Maximum size of an unfinished event (its fields and the line being read), unless
/// [`Parser::with_limit`] sets another: 64 MiB.
pub const MAX_EVENT_BYTES: usize = 64 * 1024 * 1024;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The event that a page's listener receives; models the standard's `MessageEvent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedEvent {
    /// The `event` field, or `message`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The `data` lines, joined by LF.
    pub data: String,
    /// The newest `id`, which may be that of an earlier event.
    #[serde(rename = "lastEventId")]
    pub last_event_id: String,
}

/// An event exceeded the parser's limit before its blank line arrived.
///
/// The parser cannot be used any further for this connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream has more than {limit} bytes and is still incomplete")]
pub struct EventTooLarge {
    /// The limit in bytes.
    pub limit: usize,
}

/// The parser of one EventSource, over all of its connections.
#[derive(Debug, Clone)]
pub struct Parser {
    limit: usize,

    // These outlive a connection.
    last_event_id: String,
    retry: Option<Duration>,

    // These belong to one connection.
    first_line: bool,
    /// Whether the previous byte was a CR. An LF that follows belongs to the same line end.
    after_cr: bool,
    line: Vec<u8>,
    pending: Pending,
}

/// The unfinished event, whose blank line is still missing: the standard's three buffers.
#[derive(Debug, Clone, Default)]
struct Pending {
    data: String,
    event_type: String,
    id: String,
}

impl Default for Parser {
    fn default() -> Self {
        Parser::with_limit(MAX_EVENT_BYTES)
    }
}

impl Parser {
    /// A parser that refuses an unfinished event of more than `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Parser {
            limit,
            last_event_id: String::new(),
            retry: None,
            first_line: true,
            after_cr: false,
            line: Vec::new(),
            pending: Pending::default(),
        }
    }

    /// Continues as if `id` had been received, for an EventSource that takes over from an earlier one.
    pub fn resume_from(&mut self, id: &str) {
        self.last_event_id = id.to_owned();
        self.begin();
    }

    /// Begins a new connection: an unfinished event and its id are discarded.
    pub fn begin(&mut self) {
        self.first_line = true;
        self.after_cr = false;
        self.line = Vec::new();
        self.pending = Pending { id: self.last_event_id.clone(), ..Pending::default() };
    }

    /// The value that a reconnect sends as `Last-Event-ID`. If it is empty, no such header is sent.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The reconnection time that the stream set, if it set one.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// Takes the next `bytes` of the stream, and passes each event that they complete to `on`, in
    /// order.
    pub fn feed(&mut self, mut bytes: &[u8], mut on: impl FnMut(ReceivedEvent)) -> Result<(), EventTooLarge> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
                self.line.extend_from_slice(bytes);
                return self.check_size(self.line.len());
            };
            // A CR ends its line immediately. Waiting for the next byte would delay an event until
            // the server sends more.
            self.after_cr = bytes[end] == b'\r';
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&bytes[..end]);
            // Checked even if the event arrived in one piece: the limit must not depend on how the
            // bytes were split.
            self.check_size(line.len())?;
            bytes = &bytes[end + 1..];
            if let Some(event) = self.end_of_line(&line) {
                on(event);
            }
            self.check_size(0)?;
            line.clear();
            self.line = line;
        }
        Ok(())
    }

    /// Checks the limit, with a line of this many bytes in addition to the fields.
    fn check_size(&self, line: usize) -> Result<(), EventTooLarge> {
        let Pending { data, event_type, id } = &self.pending;
        let held = line + data.len() + event_type.len() + id.len();
        if held > self.limit { Err(EventTooLarge { limit: self.limit }) } else { Ok(()) }
    }

    fn end_of_line(&mut self, mut line: &[u8]) -> Option<ReceivedEvent> {
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        // A comment is a field with an empty name, so it is ignored like any other unknown field.
        self.field(name, value.strip_prefix(b" ").unwrap_or(value));
        None
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"data" => {
                self.pending.data.push_str(&String::from_utf8_lossy(value));
                self.pending.data.push('\n');
            }
            b"event" => self.pending.event_type = String::from_utf8_lossy(value).into_owned(),
            b"id" if !value.contains(&0) => self.pending.id = String::from_utf8_lossy(value).into_owned(),
            b"retry" => self.set_retry(value),
            _ => {}
        }
    }

    fn set_retry(&mut self, value: &[u8]) {
        if value.is_empty() {
            self.retry = None;
        } else if value.iter().all(u8::is_ascii_digit) {
            let milliseconds = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            self.retry = milliseconds.map(Duration::from_millis).or(self.retry);
        }
    }

    /// A blank line: the id counts even without data to dispatch.
    fn dispatch(&mut self) -> Option<ReceivedEvent> {
        let mut data = std::mem::take(&mut self.pending.data);
        let event_type = std::mem::take(&mut self.pending.event_type);
        self.last_event_id.clone_from(&self.pending.id);
        data.pop()?;
        let event_type = if event_type.is_empty() { "message".to_owned() } else { event_type };
        Some(ReceivedEvent { event_type, data, last_event_id: self.last_event_id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(parser: &mut Parser, bytes: &[u8]) -> Vec<(String, String)> {
        let mut seen = Vec::new();
        parser.feed(bytes, |event| seen.push((event.data, event.last_event_id))).unwrap();
        seen
    }

    #[test]
    fn an_event_needs_its_blank_line() {
        let mut parser = Parser::default();
        assert_eq!(events(&mut parser, b"data: a\n"), []);
        assert_eq!(events(&mut parser, b"\n"), [("a".into(), "".into())]);
    }

    #[test]
    fn a_new_connection_keeps_id_and_retry_and_nothing_else() {
        let mut parser = Parser::default();
        events(&mut parser, b"retry: 700\nid: 4\ndata: a\n\nid: 5\nevent: lost\ndata: lost\r");
        parser.begin();
        assert_eq!((parser.last_event_id(), parser.retry()), ("4", Some(Duration::from_millis(700))));
        // The LF does not belong to the CR of the previous connection: it is a blank line. The bytes after it are
        // not at the start of the stream, so they are not a byte order mark, and spoil their line.
        assert_eq!(
            events(&mut parser, b"\n\xEF\xBB\xBFdata: spoilt\n\ndata: b\n\n"),
            [("b".into(), "4".into())]
        );
        parser.begin();
        assert_eq!(events(&mut parser, b"\xEF\xBB\xBFdata: c\n\n"), [("c".into(), "4".into())]);
    }

    #[test]
    fn an_empty_retry_restores_the_default_and_an_invalid_one_changes_nothing() {
        let mut parser = Parser::default();
        events(&mut parser, b"retry: 0000000000000000000000000800\nretry: 1 \n");
        assert_eq!(parser.retry(), Some(Duration::from_millis(800)));
        events(&mut parser, b"retry:\n");
        assert_eq!(parser.retry(), None);
    }

    #[test]
    fn an_unfinished_event_is_limited_within_a_line_and_over_lines() {
        let mut long_line = Parser::with_limit(100);
        assert_eq!(long_line.feed(&[b'x'; 101], |_| ()), Err(EventTooLarge { limit: 100 }));
        let mut whole_line = Parser::with_limit(100);
        let comment = [b":".as_slice(), &[b'x'; 100], b"\n"].concat();
        assert_eq!(whole_line.feed(&comment, |_| ()), Err(EventTooLarge { limit: 100 }));
        let mut many_lines = Parser::with_limit(100);
        let refused = (0..100).find_map(|_| many_lines.feed(b"data: ten bytes.\n", |_| ()).err());
        assert_eq!(refused, Some(EventTooLarge { limit: 100 }));
        let mut many_fields = Parser::with_limit(100);
        let fields = ["id", "event", "data"].map(|name| format!("{name}: {}\n", "x".repeat(40)));
        assert_eq!(many_fields.feed(fields.concat().as_bytes(), |_| ()), Err(EventTooLarge { limit: 100 }));
        let mut many_events = Parser::with_limit(100);
        for _ in 0..100 {
            many_events.feed(b"data: ten bytes.\n\n: and a comment\n", |_| ()).unwrap();
        }
    }
}
