//! The head of a request: its line and its fields.
//!
//! httparse reads the syntax and nothing else; what it lets pass and Puma's
//! grammar does not (a bare LF, a lower-case method, a target without its slash)
//! is refused here, and so is what would make a request ambiguous (two hosts).
//! Pure: bytes in, one of three things out.

use std::sync::Arc;

use super::fields::Fields;
use super::refusal::Refusal;
use super::request::Version;

/// The longest request target, in bytes.
pub const MAX_TARGET_BYTES: usize = 12 * 1024;
/// The longest field name and value, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
pub const MAX_VALUE_BYTES: usize = 80 * 1024;
/// The longest method that Puma reads, in bytes.
const MAX_METHOD_BYTES: usize = 20;
/// What a request line may have until its end is seen, in bytes.
const MAX_LINE_BYTES: usize = MAX_METHOD_BYTES + MAX_TARGET_BYTES + b"  HTTP/1.1\r\n".len();
/// Methods that Puma serves.
const METHODS: [&str; 9] = ["HEAD", "GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "QUERY"];

/// A head that has been read to its empty line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub method: &'static str,
    pub target: Arc<str>,
    pub version: Version,
    /// As they came, names spelt as they were; those with an underscore are gone.
    pub fields: Fields,
}

/// What became of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// The head, and how many bytes it took.
    Whole(Head, usize),
    /// It goes on.
    NotYet,
    Refused(Refusal),
}

impl Head {
    /// Whether the client waits to be told to send its body (in any case: RFC 9110).
    pub fn expects_continue(&self) -> bool {
        self.fields.values("expect").any(|value| value.eq_ignore_ascii_case("100-continue"))
    }
}

/// Reads a head from the beginning of `bytes`, which may hold more or less than it.
///
/// What comes of it does not depend on how much more has come: nothing is looked at
/// that a limit forbids to be part of the head.
pub fn parse(bytes: &[u8], max_head_bytes: usize) -> Parsed {
    let bytes = &bytes[..bytes.len().min(max_head_bytes)];
    let begun = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let line_limit = (begun + MAX_LINE_BYTES).min(bytes.len());
    let has_line = bytes[begun..line_limit].contains(&b'\n');
    let bytes = if has_line { bytes } else { &bytes[..line_limit] };
    // Most heads have few fields, which stay on the stack; Puma has no limit on their
    // number but the head's.
    let mut few = [httparse::EMPTY_HEADER; 32];
    let mut many;
    for room in [few.len(), 1024, max_head_bytes / 3 + 1] {
        let fields = if room == few.len() {
            &mut few[..]
        } else {
            many = vec![httparse::EMPTY_HEADER; room];
            &mut many[..]
        };
        let mut request = httparse::Request::new(fields);
        match request.parse(bytes) {
            Err(httparse::Error::TooManyHeaders) => {}
            Err(httparse::Error::Version) => match version_said(bytes, begun) {
                Said::Another => return Parsed::Refused(Refusal::BadVersion),
                Said::NotYet => break,
                Said::None => {
                    return Parsed::Refused(Refusal::BadRequest("that is no version of HTTP"));
                }
            },
            Err(error) => return Parsed::Refused(refusal(error)),
            Ok(httparse::Status::Partial) => break,
            Ok(httparse::Status::Complete(length)) => {
                return match check(&request, &bytes[..length]) {
                    Ok(head) => Parsed::Whole(head, length),
                    Err(refusal) => Parsed::Refused(refusal),
                };
            }
        }
    }
    // It goes on: refused as soon as it is clear that it cannot end well.
    if has_bare_line_feed(bytes) {
        return Parsed::Refused(Refusal::BadRequest("a line ends without CR"));
    }
    if bytes.len() >= begun + MAX_LINE_BYTES && !has_line {
        return Parsed::Refused(Refusal::TargetTooLong);
    }
    if bytes.len() >= max_head_bytes {
        return Parsed::Refused(Refusal::HeadTooLarge("the head is over the limit"));
    }
    Parsed::NotYet
}

fn check(request: &httparse::Request<'_, '_>, bytes: &[u8]) -> Result<Head, Refusal> {
    if has_bare_line_feed(bytes) {
        return Err(Refusal::BadRequest("a line ends without CR"));
    }
    let method = request.method.unwrap_or_default();
    if method.len() > MAX_METHOD_BYTES || !method.bytes().all(is_method_byte) {
        return Err(Refusal::BadRequest("that is no method"));
    }
    let Some(method) = METHODS.into_iter().find(|it| *it == method) else {
        return Err(Refusal::NotImplemented("that method is not served"));
    };
    let target = target(request.path.unwrap_or_default())?;
    let version = if request.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let mut fields = Fields::with_capacity(request.headers.len(), bytes.len());
    for field in request.headers.iter() {
        if field.name.len() > MAX_NAME_BYTES || field.value.len() > MAX_VALUE_BYTES {
            return Err(Refusal::HeadTooLarge("a field is over the limit"));
        }
        // A name with an underscore is taken for its twin with a dash behind many a
        // proxy, so that none is seen at all.
        if !field.name.contains('_') {
            fields.push(field.name, field.value);
        }
    }
    let head = Head { method, target, version, fields };
    check_host(&head)?;
    Ok(head)
}

/// One host for HTTP/1.1, and never two: who is meant must not be a choice.
fn check_host(head: &Head) -> Result<(), Refusal> {
    let mut hosts = head.fields.values("host");
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Refusal::BadRequest("Host is given twice")),
        (None | Some(""), None) if head.version == Version::Http11 => {
            Err(Refusal::BadRequest("HTTP/1.1 without a Host"))
        }
        _ => Ok(()),
    }
}

/// `*`, `scheme:…` or `/…`; the fragment, which no client should send, is left out.
fn target(text: &str) -> Result<Arc<str>, Refusal> {
    if text.len() > MAX_TARGET_BYTES {
        return Err(Refusal::TargetTooLong);
    }
    let target = text.split('#').next().unwrap_or_default();
    if target.bytes().any(|byte| byte <= b' ' || matches!(byte, 0x7f | b'"' | b'<' | b'>')) {
        return Err(Refusal::BadRequest("the request target has a character that it cannot have"));
    }
    let has_scheme = target.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    });
    if target == "*" || target.starts_with('/') || has_scheme {
        Ok(target.into())
    } else {
        Err(Refusal::BadRequest("the request target is no path"))
    }
}

fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'$' | b'-' | b'_' | b'.')
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || bytes[at - 1] != b'\r'))
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName => Refusal::BadRequest("a field's name is malformed"),
        httparse::Error::HeaderValue => Refusal::BadRequest("a field's value is malformed"),
        httparse::Error::NewLine => Refusal::BadRequest("a line's end is malformed"),
        _ => Refusal::BadRequest("the request line is malformed"),
    }
}

/// What a request line has for its version, where it is none that is spoken here.
enum Said {
    /// A well-formed one, such as `HTTP/2.0`.
    Another,
    /// The beginning of one.
    NotYet,
    None,
}

/// Reads the third word of the line that begins at `begun`. The rest of the line is
/// not looked at: it may not have come yet.
fn version_said(bytes: &[u8], begun: usize) -> Said {
    if has_bare_line_feed(&bytes[..begun]) {
        return Said::None;
    }
    let word = bytes[begun..].splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    let is_like = |(seen, form): (&u8, &u8)| seen == form || (*form == b'0' && seen.is_ascii_digit());
    match word.iter().zip(b"HTTP/0.0").all(is_like) {
        true if word.len() >= b"HTTP/0.0".len() => Said::Another,
        true => Said::NotYet,
        false => Said::None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const MAX: usize = 112 * 1024;

    /// A head that must be whole.
    pub fn head(text: &str) -> Head {
        match parse(text.as_bytes(), MAX) {
            Parsed::Whole(head, length) => {
                assert_eq!(length, text.len());
                head
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn status(bytes: &[u8]) -> Option<u16> {
        match parse(bytes, MAX) {
            Parsed::Whole(..) => Some(200),
            Parsed::NotYet => None,
            Parsed::Refused(refusal) => Some(refusal.status()),
        }
    }

    #[test]
    fn request_lines() {
        for (line, expected) in [
            ("GET / HTTP/1.1", 200),
            ("GET / HTTP/1.0", 200),
            ("GET * HTTP/1.1", 200),
            ("GET http://a/b?c HTTP/1.1", 200),
            ("GET /up?a=%27%%27&x[]=1;y={z}|~ HTTP/1.1", 200),
            ("GET /#fragment HTTP/1.1", 200),
            ("get / HTTP/1.1", 400),
            ("get_lost / HTTP/1.1", 400),
            ("PUMA / HTTP/1.1", 501),
            ("CONNECT a:1 HTTP/1.1", 501),
            ("AAAAAAAAAAAAAAAAAAAAA / HTTP/1.1", 400),
            ("GET up HTTP/1.1", 400),
            ("GET  / HTTP/1.1", 400),
            ("GET /  HTTP/1.1", 400),
            ("GET\t/ HTTP/1.1", 400),
            ("GET /a b HTTP/1.1", 400),
            ("GET /\"x HTTP/1.1", 400),
            ("GET /<x HTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            (" GET / HTTP/1.1", 400),
            ("GET /", 400),
            ("GET / http/1.1", 400),
            ("GET / HTTP/1.a", 400),
            ("GET / HTTP/2", 400),
            ("GET / HTTP/2.0", 505),
            ("PRI * HTTP/2.0", 505),
            ("\r\nGET / HTTP/2.0", 505),
            ("\nGET / HTTP/2.0", 400),
        ] {
            assert_eq!(status(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()), Some(expected), "{line}");
        }
        assert_eq!(&*head("GET /a#b HTTP/1.0\r\n\r\n").target, "/a");
    }

    #[test]
    fn fields() {
        for (fields, expected) in [
            (&b"Host: a\r\nX-A:1\r\n"[..], 200),
            (b"Host:a\r\nX-A:\r\n", 200),
            (b"hOST: a\r\nX-A: caf\xe9\r\n", 200),
            (b"", 400),
            (b"Host:\r\n", 400),
            (b"Host: \t \r\n", 400),
            (b"Host: a\r\nHost: a\r\n", 400),
            (b"Host : a\r\n", 400),
            (b" Host: a\r\n", 400),
            (b"Host: a\r\n b\r\n", 400),
            (b"Host: a\r\n: 1\r\n", 400),
            (b"Host: a\r\nX-\xc3\xa4: 1\r\n", 400),
            (b"Host: a\r\nX\0A: 1\r\n", 400),
            (b"Host: a\r\nX-A: a\0b\r\n", 400),
            (b"Host: a\r\nX-A: a\x01b\r\n", 400),
            (b"Host: a\r\nX-A: a\x7fb\r\n", 400),
            (b"Host: a\r\nX-A: 1\rX-B: 2\r\n", 400),
            (b"Host: a\nX-A: 1\r\n", 400),
        ] {
            let head = [b"GET / HTTP/1.1\r\n", fields, b"\r\n"].concat();
            assert_eq!(status(&head), Some(expected), "{}", String::from_utf8_lossy(fields));
        }
        assert_eq!(head("GET / HTTP/1.0\r\nX_A: 1\r\nX-A: 2\r\n\r\n").fields.iter().count(), 1);
    }

    #[test]
    fn limits() {
        let over = |text: String| status(text.as_bytes());
        let long = "a".repeat(MAX_TARGET_BYTES);
        assert_eq!(over(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), Some(414));
        assert_eq!(over(format!("GET /{}", "a".repeat(20_000))), Some(414));
        assert_eq!(
            over(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(90_000))),
            Some(431)
        );
        assert_eq!(over(format!("GET / HTTP/1.1\r\nHost: a\r\n{}: 1\r\n\r\n", "n".repeat(257))), Some(431));
        assert_eq!(over(format!("GET / HTTP/1.1\r\n{}", "X-Drip: 1\r\n".repeat(20_000))), Some(431));
        let many = "X: 1\r\n".repeat(10_000);
        assert_eq!(over(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")), Some(200));
    }

    #[test]
    fn a_head_in_pieces_is_not_yet_a_head() {
        let text = "\r\n\r\nGET /up HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(status(&text.as_bytes()[..end]), None, "{end}");
        }
        assert_eq!(status(text.as_bytes()), Some(200));
        let other = "GET / HTTP/2.0\r\n\r\n";
        for end in 0..other.len() {
            let expected = (end >= "GET / HTTP/2.0".len()).then_some(505);
            assert_eq!(status(&other.as_bytes()[..end]), expected, "{end}");
        }
    }
}
