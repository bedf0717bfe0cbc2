//! The type of an answer, extracted from all values of `Content-Type` as in the Fetch standard.
//!
//! The values of all fields form one list, which is split at the commas outside quotes. The last
//! element that is a MIME type other than `*/*` counts. Parameters do not matter to an EventSource,
//! because the HTML standard decodes every stream as UTF-8.

use super::Head;
use super::head::is_token_byte;

/// The essence (`type/subtype` in lower case) of the answer's type, or `None` if it has none.
pub fn essence(head: &Head) -> Option<String> {
    let list = list(head);
    let mut known = split(&list).into_iter().filter_map(essence_of).filter(|essence| essence != "*/*");
    known.next_back()
}

/// The answer's type as it is shown in messages: each element without its parameters.
pub fn spoken(head: &Head) -> String {
    let list = list(head);
    let plain = |element: &str| {
        essence_of(element)
            .unwrap_or_else(|| element.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    };
    split(&list).into_iter().map(plain).collect::<Vec<_>>().join(",")
}

/// All values as one, with one character for each byte.
fn list(head: &Head) -> String {
    let values =
        head.values("content-type").map(|value| value.iter().map(|byte| char::from(*byte)).collect());
    values.collect::<Vec<String>>().join(", ")
}

/// The elements between commas. A comma inside a quoted string does not separate elements.
fn split(list: &str) -> Vec<&str> {
    let (mut elements, mut begin) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in list.char_indices() {
        match c {
            _ if std::mem::take(&mut is_escaped) => {}
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                elements.push(&list[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    elements.push(&list[begin..]);
    elements
}

fn essence_of(element: &str) -> Option<String> {
    let is_blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let bare = element.split(';').next().unwrap_or_default();
    let (kind, subtype) = bare.split_once('/')?;
    let (kind, subtype) = (kind.trim_start_matches(is_blank), subtype.trim_end_matches(is_blank));
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token_byte);
    (is_token(kind) && is_token(subtype)).then(|| format!("{kind}/{subtype}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(values: &[&str]) -> Head {
        let headers = values.iter().map(|value| ("Content-Type".to_owned(), value.as_bytes().to_vec()));
        Head { status: 200, headers: headers.collect(), minor_version: 1 }
    }

    #[test]
    fn the_last_value_that_is_a_type_counts() {
        const STREAM: Option<&str> = Some("text/event-stream");
        const PAGE: Option<&str> = Some("text/html");
        for (values, expected) in [
            (&["text/event-stream"][..], STREAM),
            (&["Text/Event-Stream;charset=utf-8"], STREAM),
            (&["\ttext/event-stream ; x"], STREAM),
            (&["text/event-stream;"], STREAM),
            (&["text/event-stream, text/event-stream"], STREAM),
            (&["text/event-stream", "text/event-stream"], STREAM),
            (&["text/event-stream, text/html"], PAGE),
            (&["text/event-stream", "text/html"], PAGE),
            (&["text/html", "text/event-stream"], STREAM),
            (&["text/event-stream, garbage"], STREAM),
            (&["garbage, text/event-stream"], STREAM),
            (&["text/event-stream, */*"], STREAM),
            (&["text/event-stream", ""], STREAM),
            (&["text/event-stream;x=\"a, text/html\""], STREAM),
            (&["text/event-stream;x=\"a\\\", text/html\""], STREAM),
            (&["text/event-stream;x=\"a, text/html"], STREAM),
            (&["text/event-stream;x=a, text/html"], PAGE),
            (&["text/event stream"], None),
            (&["text / event-stream"], None),
            (&["text/"], None),
            (&["/event-stream"], None),
            (&["*/*"], None),
            (&["text/event-stream\u{e9}"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(essence(&head(values)).as_deref(), expected, "{values:?}");
        }
    }

    #[test]
    fn messages_show_a_type_without_its_parameters() {
        assert_eq!(spoken(&head(&["text/html; charset=utf-8"])), "text/html");
        assert_eq!(spoken(&head(&["Text/Event-Stream, text/html;x"])), "text/event-stream,text/html");
        assert_eq!(spoken(&head(&["no type; x"])), "no type");
        assert_eq!(spoken(&head(&[])), "");
    }
}
