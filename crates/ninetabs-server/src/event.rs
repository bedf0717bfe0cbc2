//! Encodes events in the HTML standard's event stream format.
//!
//! Data is split into separate `data:` lines at every kind of line end, so that nothing in it can end the event or
//! begin another field. An ID or an event type cannot contain a line end, so line ends are removed from them. A field's
//! value is always preceded by one space, which the client's parser removes.

use std::fmt::Write;
use std::time::Duration;

/// An event, or a block of fields without data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    id: Option<String>,
    kind: Option<String>,
    data: Option<String>,
    comment: Option<String>,
}

impl Event {
    /// Creates a `message` event with this data.
    pub fn data(text: impl ToString) -> Self {
        Event { data: Some(text.to_string()), ..Event::default() }
    }

    /// Sets the last event ID. Line ends and NUL, which an ID cannot contain, are removed.
    pub fn id(mut self, id: impl ToString) -> Self {
        self.id = Some(one_line(id.to_string()));
        self
    }

    /// Sets the event type, for which a page listens with `addEventListener`. Line ends and NUL are removed.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(one_line(kind.into()));
        self
    }

    /// Puts a comment, if there is one, before the event. Line ends and NUL are removed.
    pub fn comments(mut self, comment: Option<impl ToString>) -> Self {
        self.comment = comment.map(|text| one_line(text.to_string()));
        self
    }

    /// Appends the event's bytes, including the final empty line.
    pub fn encode(&self, out: &mut String) {
        if let Some(text) = &self.comment {
            comment(out, text);
        }
        if let Some(id) = &self.id {
            field(out, "id", id);
        }
        if let Some(kind) = &self.kind {
            field(out, "event", kind);
        }
        if let Some(data) = &self.data {
            for line in lines(data) {
                field(out, "data", line);
            }
        }
        out.push('\n');
    }
}

fn one_line(mut text: String) -> String {
    text.retain(|c| !matches!(c, '\r' | '\n' | '\0'));
    text
}

/// Appends a comment. The client's parser ignores it, but the write shows whether the client is gone.
pub fn comment(out: &mut String, text: &str) {
    field(out, "", text);
}

/// Appends a `retry:` field: the delay after which the client is to reconnect once the stream has ended.
pub fn retry(out: &mut String, after: Duration) {
    field(out, "retry", &after.as_millis().to_string());
}

fn field(out: &mut String, name: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{name}: {value}");
}

/// Splits at CR LF, CR and LF alike, as an event stream parser does.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(['\r', '\n']) else {
            rest = None;
            return Some(text);
        };
        let end = if text[at..].starts_with("\r\n") { at + 2 } else { at + 1 };
        rest = Some(&text[end..]);
        Some(&text[..at])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(event: &Event) -> String {
        let mut out = String::new();
        event.encode(&mut out);
        out
    }

    #[test]
    fn events_are_encoded_without_injected_fields() {
        for (event, bytes) in [
            (Event::data("[]"), "data: []\n\n"),
            (Event::data("[]").id(7), "id: 7\ndata: []\n\n"),
            (Event::data("[]").id(7).comments(Some("a\nid: 9")), ": aid: 9\nid: 7\ndata: []\n\n"),
            (Event::data("a\nb\r\nc\rd"), "data: a\ndata: b\ndata: c\ndata: d\n\n"),
            (Event::data(" a"), "data:  a\n\n"),
            (Event::data(""), "data: \n\n"),
            (Event::data("a\n"), "data: a\ndata: \n\n"),
            (Event::data("x").id("1\ndata: injected\0"), "id: 1data: injected\ndata: x\n\n"),
            (Event::data("x").kind("said\r\nid: 9"), "event: saidid: 9\ndata: x\n\n"),
        ] {
            assert_eq!(encoded(&event), bytes);
        }
    }

    #[test]
    fn a_comment_and_a_retry_are_one_line_each() {
        let mut out = String::new();
        comment(&mut out, "hello");
        retry(&mut out, Duration::from_millis(1500));
        assert_eq!(out, ": hello\nretry: 1500\n");
    }
}
