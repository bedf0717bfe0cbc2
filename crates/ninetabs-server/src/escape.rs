//! Escapes text from clients and other programs, so that it is safe to print to a terminal.
//!
//! A control character, a C1 control such as U+009B (CSI), a bidirectional mark or a line end in a request target can
//! control the terminal that shows the log, or forge a log line. Every output escapes the same characters: those that
//! `{:?}` escapes in a `str`, which include characters without a glyph.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Displays text as `{:?}` displays a `str`, without the enclosing quotes.
///
/// For log lines and error messages. The escaping is reversible, because backslashes are escaped as well.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                // In a `str`, `{:?}` escapes only double quotes.
                '\'' => f.write_char(c)?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

/// Escapes each character that is not printable, in the same way as [`Escaped`]. All other characters are unchanged,
/// including quotes and backslashes.
///
/// For messages that quote another program, and for text on the screen.
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

/// Returns whether a terminal can show this character unchanged: it is not a control character or a line end, and it
/// has a glyph or combines with one.
pub fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        _ if c.is_ascii() => false,
        _ => {
            // `x` precedes the character, because `escape_debug` escapes a combining mark at the start of a string.
            let mut bytes = [b'x'; 5];
            let length = c.encode_utf8(&mut bytes[1..]).len();
            let text = std::str::from_utf8(&bytes[..=length]);
            text.is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
        }
    }
}

/// Escapes each character of a JSON text that is not printable as `\uXXXX`. The value of the JSON does not change, and
/// the result is safe to print to a terminal.
///
/// Line ends and tabs are kept: in JSON they appear only between values.
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

    /// Characters that control a terminal or hide text.
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
    fn escaped_text_equals_its_debug_form_without_quotes() {
        let steering: String = STEERING.into_iter().collect();
        for text in ["", "/a?b=\"c\"\\", "it's 模型 é e\u{301}", "a\r\nb\tc", &steering] {
            assert_eq!(format!("\"{}\"", Escaped(text)), format!("{text:?}"));
        }
        assert_eq!(Escaped("/\u{9b}31m\u{202e}").to_string(), "/\\u{9b}31m\\u{202e}");
    }

    #[test]
    fn printable_text_keeps_quotes_and_escapes_control_characters() {
        let steering: String = STEERING.into_iter().collect();
        assert!(printable(&steering).is_ascii());
        assert_eq!(printable("it's \"\u{9b}31m\" \\ \n 模型"), "it's \"\\u{9b}31m\" \\ \\n 模型");
        assert!(matches!(printable("it's \"模型\" \\"), Cow::Borrowed(_)));
    }

    #[test]
    fn characters_that_control_a_terminal_are_not_printable() {
        for c in STEERING.into_iter().chain("\r\n\t".chars()) {
            assert!(!is_printable(c), "{c:?}");
        }
        for c in "az ~'\"\\é模型\u{301}😀".chars() {
            assert!(is_printable(c), "{c:?}");
        }
    }

    #[test]
    fn escaped_json_keeps_its_value_without_control_characters() {
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
