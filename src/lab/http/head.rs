//! The head of an answer, read strictly or as a browser reads it.
//!
//! [`Reading::Strict`] is for checks of a server: the syntax of RFC 9112, at most [`MAX_HEADERS`]
//! fields. [`Reading::Browser`] accepts what Chromium accepts, because servers may rely on it: up to
//! four bytes before the status line, any version, a missing reason or status, lines that end in CR
//! or LF, folded fields, lines without a field, and as many fields as fit. Each of its rules has a
//! row in `tests/eventsource_cases.rs`, and was observed in Chromium 156.
//!
//! Nothing here blocks.

use super::{Head, HttpError, MAX_HEADERS};

/// How strictly a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    /// What RFC 9112 allows a server to send.
    #[default]
    Strict,
    /// What Chromium accepts.
    Browser,
}

/// How many bytes may precede a status line.
pub(super) const MAX_GARBAGE: usize = 4;
/// The number of bytes that decide whether an answer is HTTP: the garbage and `HTTP`.
pub(super) const TELLING: usize = MAX_GARBAGE + HTTP.len();
const HTTP: &[u8] = b"http";

/// Where the status line begins, if this is the beginning of an HTTP answer.
pub(super) fn status_line_start(bytes: &[u8]) -> Option<usize> {
    let is_it =
        |at: &usize| bytes.get(*at..at + HTTP.len()).is_some_and(|word| word.eq_ignore_ascii_case(HTTP));
    (0..=MAX_GARBAGE).find(is_it)
}

/// Whether an answer that ended after these bytes could have become a status line. Anything else,
/// such as the alert of a TLS server, is another protocol, and the next attempt would fail as well.
pub(super) fn may_become_http(bytes: &[u8]) -> bool {
    let begun = bytes.trim_ascii_start();
    HTTP.get(..begun.len()).is_some_and(|word| word.eq_ignore_ascii_case(begun))
}

/// Reads a complete head.
pub(super) fn parse(bytes: &[u8], reading: Reading) -> Result<Head, HttpError> {
    match reading {
        Reading::Strict => parse_strictly(bytes),
        Reading::Browser => parse_as_browser(bytes),
    }
}

fn parse_strictly(bytes: &[u8]) -> Result<Head, HttpError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(HttpError::EndedEarly),
        Err(httparse::Error::TooManyHeaders) => return Err(HttpError::HeadTooLarge),
        Err(error) => return Err(HttpError::BadHead { what: error.to_string() }),
    }
    let headers = response.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec()));
    Ok(Head {
        status: response.code.unwrap_or_default(),
        headers: headers.collect(),
        minor_version: response.version.unwrap_or_default(),
    })
}

fn parse_as_browser(bytes: &[u8]) -> Result<Head, HttpError> {
    let bad = |what: &str| HttpError::BadHead { what: what.to_owned() };
    let start = status_line_start(bytes).ok_or_else(|| bad("it does not begin with HTTP/"))?;
    if bytes.contains(&0) {
        return Err(bad("it contains a NUL"));
    }
    let mut lines =
        bytes[start..].split(|byte| matches!(byte, b'\r' | b'\n')).filter(|line| !line.is_empty());
    let status_line = lines.next().unwrap_or_default();
    let mut head = Head {
        status: status_of(status_line),
        headers: Vec::new(),
        minor_version: u8::from(is_at_least_1_1(status_line)),
    };
    let mut may_go_on = false;
    for line in lines {
        if line[0].is_ascii_whitespace() {
            // A folded line belongs to the field before it, if there is one.
            if let Some((_, value)) = head.headers.last_mut().filter(|_| may_go_on) {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        let field = field(line);
        may_go_on = field.is_some();
        head.headers.extend(field);
    }
    for name in ["location", "content-disposition"] {
        let mut values = head.values(name);
        if let Some(first) = values.next()
            && values.any(|other| other != first)
        {
            return Err(HttpError::BadHead { what: format!("it has two different values of {name}") });
        }
    }
    Ok(head)
}

/// Parses a line that has a token and a colon. Any other line is skipped.
fn field(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
    let is_token = !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte));
    is_token.then(|| (String::from_utf8_lossy(name).into_owned(), value.to_vec()))
}

/// A byte of RFC 9110's `token`.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The number after the first blanks. Without a number, the answer counts as 200.
fn status_of(line: &[u8]) -> u16 {
    let Some(blank) = line.iter().position(|byte| *byte == b' ') else { return 200 };
    let rest = line[blank..].trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
    if digits.clone().next().is_none() {
        return 200;
    }
    digits.fold(0, |status: u16, digit| status.saturating_mul(10).saturating_add(u16::from(digit - b'0')))
}

/// Whether the version is HTTP/1.1 or newer. A version that cannot be parsed counts as 1.0.
fn is_at_least_1_1(line: &[u8]) -> bool {
    let Some(version) = line.get(HTTP.len()..).and_then(|rest| rest.strip_prefix(b"/")) else { return false };
    let minor = version.iter().position(|byte| *byte == b'.').and_then(|dot| version.get(dot + 1));
    match (version.first(), minor) {
        (Some(major), Some(minor)) if major.is_ascii_digit() && minor.is_ascii_digit() => {
            (*major, *minor) >= (b'1', b'1')
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(head: &[u8]) -> Result<(u16, u8, usize), String> {
        let head = parse_as_browser(head).map_err(|error| error.to_string())?;
        Ok((head.status, head.minor_version, head.headers.len()))
    }

    #[test]
    fn a_browser_reads_nearly_any_status_line() {
        for (line, status, minor) in [
            ("HTTP/1.1 200 OK", 200, 1),
            ("http/1.1 204", 204, 1),
            ("HTTP/1.0 404 Not Found", 404, 0),
            ("HTTP/0.9 200 OK", 200, 0),
            ("HTTP/1.10 200 OK", 200, 1),
            ("HTTP/2.0 503 X", 503, 1),
            ("HTTP/1.1", 200, 1),
            ("HTTP/1.1 OK", 200, 1),
            ("HTTP/1.1   301   X", 301, 1),
            ("HTTP/1.1 200x", 200, 1),
            ("HTTP/1.1 0200 OK", 200, 1),
            ("HTTP/1.1 20 OK", 20, 1),
            ("HTTP/1.1 99999999999999999999 OK", u16::MAX, 1),
            ("HTTP 500 X", 500, 0),
            ("HTTP/a.b 500 X", 500, 0),
            ("HTTP/1.1\t500 X", 200, 1),
        ] {
            assert_eq!(seen(format!("{line}\r\n\r\n").as_bytes()), Ok((status, minor, 0)), "{line}");
            assert_eq!(seen(format!("abc\n{line}\n\n").as_bytes()), Ok((status, minor, 0)), "{line}");
        }
        for line in ["", "ICY 200 OK", "abcdeHTTP/1.1 200 OK", "data: x"] {
            assert!(seen(format!("{line}\r\n\r\n").as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn an_answer_that_ended_early_may_be_http_only_if_it_began_like_http() {
        for bytes in ["", "H", "HTT", "http", "\r\n", "\r\nHT"] {
            assert!(may_become_http(bytes.as_bytes()), "{bytes:?}");
        }
        for bytes in ["\x15\x03\x01\0\x02\x02\x46", "\x15", "+OK", "hello", "HTML", "-ERR\r\n"] {
            assert!(!may_become_http(bytes.as_bytes()), "{bytes:?}");
        }
    }

    #[test]
    fn a_browser_reads_fields_in_odd_forms_and_skips_lines_that_are_not_fields() {
        let head = b"HTTP/1.1 200 OK\r\n first: folded into nothing\r\nA : b\r\nno field\r\n not: folded\r\n: x\r\nx y: z\r\n\
                     C:\r\n\td\n  e\rF:\xff\x01\r\n\r\n";
        let head = parse_as_browser(head).unwrap();
        let fields: Vec<(&str, &[u8])> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        assert_eq!(fields, [("A", &b"b"[..]), ("C", b" d e"), ("F", b"\xff\x01")]);
    }

    #[test]
    fn a_browser_refuses_a_nul_and_two_different_targets() {
        assert!(seen(b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n").unwrap_err().contains("NUL"));
        let two = |other: &str| format!("HTTP/1.1 301 X\r\nLocation: /a\r\nLocation: {other}\r\n\r\n");
        assert!(seen(two("/b").as_bytes()).unwrap_err().contains("two different values of location"));
        assert_eq!(seen(two("/a").as_bytes()), Ok((301, 1, 2)));
    }

    #[test]
    fn strict_reading_refuses_what_a_browser_accepts() {
        for head in
            ["HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "abHTTP/1.1 200 OK\r\n\r\n"]
        {
            assert!(parse(head.as_bytes(), Reading::Strict).is_err(), "{head}");
            assert!(parse(head.as_bytes(), Reading::Browser).is_ok(), "{head}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        assert!(matches!(parse(many.as_bytes(), Reading::Strict), Err(HttpError::HeadTooLarge)));
        assert_eq!(parse(many.as_bytes(), Reading::Browser).unwrap().headers.len(), MAX_HEADERS + 1);
    }
}
