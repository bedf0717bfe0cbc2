//! Escaping: text that a client or another program sent, made harmless to a terminal.
//!
//! A control character, a C1 control such as U+009B (CSI), a bidirectional mark or a line
//! end in a request target steers the terminal that shows the log, or forges a line of it.
//! One rule decides which characters those are, for every output: the rule of `{:?}` of a
//! `str`, which also escapes characters without a glyph.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Displays text as `{:?}` of a `str` does, without the quotes around it.
///
/// For log lines and error messages. It is reversible: a backslash is escaped too.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                // A `str` escapes only the quote that it stands in.
                '\'' => f.write_char(c)?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

/// Text with each character that is not printable escaped as in [`Escaped`], and all
/// others as they are, quotes and backslashes too.
///
/// For sentences of this program that repeat what another one said, and for a screen.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_printable(c) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_debug());
        }
    }
    escaped.into()
}

/// Whether a terminal can show this character as it is: it steers nothing, ends no line,
/// and has a glyph or combines with one.
pub fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        _ if c.is_ascii() => false,
        _ => {
            // Behind another character, so that combining marks stay as they are.
            let mut bytes = [b'x'; 5];
            let length = c.encode_utf8(&mut bytes[1..]).len();
            let text = std::str::from_utf8(&bytes[..=length]);
            text.is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
        }
    }
}

/// JSON with each character that is not printable as `\uXXXX`, so that it means the same
/// and steers no terminal.
///
/// Line ends and tabs stay: JSON has them between values only.
pub fn json(text: &str) -> Cow<'_, str> {
    let is_kept = |c: char| matches!(c, '\n' | '\r' | '\t') || is_printable(c);
    if text.chars().all(is_kept) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_kept(c) {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters that steer a terminal or hide text, and one that only looks odd.
    const STEERING: [char; 14] = [
        '\0',
        '\u{7}',
        '\u{1b}',
        '\u{7f}',
        '\u{80}',
        '\u{85}',
        '\u{9b}',
        '\u{ad}',
        '\u{200e}',
        '\u{2028}',
        '\u{202e}',
        '\u{2066}',
        '\u{feff}',
        '\u{e0001}',
    ];

    #[test]
    fn text_is_escaped_as_its_debug_form_without_quotes() {
        let steering: String = STEERING.into_iter().collect();
        for text in ["", "/a?b=\"c\"\\", "it's 模型 é e\u{301}", "a\r\nb\tc", &steering] {
            assert_eq!(format!("\"{}\"", Escaped(text)), format!("{text:?}"));
        }
        assert_eq!(Escaped("/\u{9b}31m\u{202e}").to_string(), "/\\u{9b}31m\\u{202e}");
    }

    #[test]
    fn a_sentence_keeps_its_quotes_and_loses_what_steers() {
        let steering: String = STEERING.into_iter().collect();
        assert!(printable(&steering).is_ascii());
        assert_eq!(printable("it's \"\u{9b}31m\" \\ \n 模型"), "it's \"\\u{9b}31m\" \\ \\n 模型");
        assert!(matches!(printable("it's \"模型\" \\"), Cow::Borrowed(_)));
    }

    #[test]
    fn characters_that_steer_a_terminal_are_not_printable() {
        for c in STEERING.into_iter().chain("\r\n\t".chars()) {
            assert!(!is_printable(c), "{c:?}");
        }
        for c in "az ~'\"\\é模型\u{301}😀".chars() {
            assert!(is_printable(c), "{c:?}");
        }
    }

    #[test]
    fn escaped_json_means_the_same_and_steers_nothing() {
        let steering: String = STEERING.into_iter().collect();
        let value = serde_json::json!({ "target": format!("/{steering}"), "name": "模型 \"\\" });
        for text in [value.to_string(), format!("{value:#}")] {
            let escaped = json(&text);
            assert!(escaped.chars().all(|c| c == '\n' || is_printable(c)), "{escaped:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }
        assert!(matches!(json("{\"name\": \"模型\"}\n"), Cow::Borrowed(_)));
    }
}
