//! The head of a request: its line and its fields.
//!
//! httparse reads the syntax and nothing else. What it accepts and Puma's grammar does not
//! (a bare LF, a lower-case method, a target without its slash) is refused here and in
//! `HeadScan`, and so is what would make a request ambiguous (two hosts, a malformed one).
//! Pure: bytes in, one of three things out.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::sync::Arc;

use http::Method;

use super::authority::{self, Authority};
use super::field_values;
use super::fields::Fields;
use super::head_scan::HeadScan;
use super::refusal::Refusal;
use super::request::Version;

/// The longest request target, in bytes.
pub const MAX_TARGET_BYTES: usize = 12 * 1024;
/// The longest field name and value, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The longest field value, in bytes.
pub const MAX_VALUE_BYTES: usize = 80 * 1024;
/// The longest method that Puma reads, in bytes.
const MAX_METHOD_BYTES: usize = 20;
/// What a request line may have until its end is seen, in bytes.
pub(super) const MAX_LINE_BYTES: usize = MAX_METHOD_BYTES + MAX_TARGET_BYTES + b"  HTTP/1.1\r\n".len();
/// Methods that Puma serves.
const METHODS: [&str; 9] = ["HEAD", "GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "QUERY"];

/// A head that has been read to its empty line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The method, which is one that is served.
    pub method: Method,
    /// The target, without its fragment.
    pub target: Arc<str>,
    /// The version of HTTP.
    pub version: Version,
    /// Which host it is for; None: HTTP/1.0 without one.
    pub authority: Option<Authority>,
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
    /// It is not served.
    Refused(Refusal),
}

impl Head {
    /// A head of these parts, if what they mean can be served.
    pub(super) fn new(method: &str, target: &str, version: Version, fields: Fields) -> Result<Head, Refusal> {
        let method = self::method(method)?;
        let target = self::target(target)?;
        let authority = authority::of_request(&target, version, &fields)?;
        Ok(Head { method, target, version, authority, fields })
    }

    /// Whether the client waits to be told to send its body (in any case: RFC 9110).
    pub fn expects_continue(&self) -> bool {
        field_values::has_token(self.fields.values("expect"), "100-continue")
    }

    /// How many bytes of memory it takes, as far as they grow with what came.
    pub(super) fn held_bytes(&self) -> usize {
        let authority = self.authority.as_ref().map_or(0, Authority::held_bytes);
        self.target.len() + authority + self.fields.held_bytes()
    }
}

/// Reads a head from the beginning of `bytes`, which may hold more or less than it.
pub fn parse(bytes: &[u8], max_head_bytes: usize) -> Parsed {
    HeadScan::new(max_head_bytes).look(bytes)
}

/// Why a whole head is refused.
pub(super) enum Fault {
    /// It does not match the grammar.
    Syntax(Refusal),
    /// It does, and is not served all the same.
    Meaning(Refusal),
}

/// Reads a whole head, empty line included, that has so many line ends.
pub(super) fn read(bytes: &[u8], lines: usize) -> Result<Head, Fault> {
    // Most heads have few fields, which stay on the stack; Puma has no limit on their
    // number but the head's.
    let mut few = [const { MaybeUninit::uninit() }; 32];
    let mut many = Vec::new();
    let fields = if lines <= few.len() {
        &mut few[..]
    } else {
        many.resize_with(lines, MaybeUninit::uninit);
        &mut many[..]
    };
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, fields) {
        Ok(httparse::Status::Complete(_)) => check(&request, bytes).map_err(Fault::Meaning),
        Ok(httparse::Status::Partial) => Err(Fault::Syntax(Refusal::BadRequest("the head is malformed"))),
        Err(error) => Err(Fault::Syntax(refusal(error))),
    }
}

/// Checks one line behind the request line, line end included.
pub(super) fn check_field(line: &[u8]) -> Result<(), Refusal> {
    httparse::parse_headers(line, &mut [httparse::EMPTY_HEADER]).map(drop).map_err(refusal)
}

/// Checks a field that came on no line.
pub(super) fn check_name_and_value(name: &str, value: &str) -> Result<(), Refusal> {
    if name.len() > MAX_NAME_BYTES || value.len() > MAX_VALUE_BYTES {
        return Err(Refusal::HeadTooLarge("a field is over the limit"));
    }
    // On a line the first colon would end the name.
    if name.contains(':') {
        return Err(Refusal::BadRequest("a field's name is malformed"));
    }
    // A line end would begin another field, or end the head.
    if value.contains(['\r', '\n']) {
        return Err(Refusal::BadRequest("a field's value is malformed"));
    }
    check_field(&[name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat())
}

fn check(request: &httparse::Request<'_, '_>, bytes: &[u8]) -> Result<Head, Refusal> {
    let version = if request.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let mut fields = Fields::with_capacity(request.headers.len(), bytes.len());
    let target = request.path.unwrap_or_default();
    if target.len() > MAX_TARGET_BYTES {
        return Err(Refusal::TargetTooLong);
    }
    for field in request.headers.iter() {
        if field.name.len() > MAX_NAME_BYTES || field.value.len() > MAX_VALUE_BYTES {
            return Err(Refusal::HeadTooLarge("a field is over the limit"));
        }
        fields.push_field(field.name, field.value);
    }
    Head::new(request.method.unwrap_or_default(), target, version, fields)
}

/// One of the methods that are served.
fn method(method: &str) -> Result<Method, Refusal> {
    if method.len() > MAX_METHOD_BYTES || !method.bytes().all(is_method_byte) {
        return Err(Refusal::BadRequest("that is no method"));
    }
    let known = METHODS.into_iter().find(|it| *it == method).and_then(|it| it.parse().ok());
    known.ok_or(Refusal::NotImplemented("that method is not served"))
}

/// The name of a method that is served, for the record.
pub(super) fn method_name(method: &Method) -> Cow<'static, str> {
    let known = METHODS.into_iter().find(|it| method == it);
    known.map_or_else(|| method.as_str().to_owned().into(), Cow::Borrowed)
}

/// `*`, `scheme:…` or `/…`; the fragment, which no client should send, is left out.
fn target(text: &str) -> Result<Arc<str>, Refusal> {
    let target = text.split('#').next().unwrap_or_default();
    if target.bytes().any(|byte| byte <= b' ' || matches!(byte, 0x7f | b'"' | b'<' | b'>')) {
        return Err(Refusal::BadRequest("the request target has a character that it cannot have"));
    }
    if target == "*" || target.starts_with('/') || authority::absolute_form(target).is_some() {
        Ok(target.into())
    } else {
        Err(Refusal::BadRequest("the request target is no path"))
    }
}

fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'$' | b'-' | b'_' | b'.')
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName => Refusal::BadRequest("a field's name is malformed"),
        httparse::Error::HeaderValue => Refusal::BadRequest("a field's value is malformed"),
        httparse::Error::NewLine => Refusal::BadRequest("a line's end is malformed"),
        _ => Refusal::BadRequest("the request line is malformed"),
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
            Parsed::Refused(refusal) => Some(refusal.status().as_u16()),
        }
    }

    /// What becomes of a head, which does not depend on how it was cut.
    fn outcome(bytes: &[u8]) -> Option<u16> {
        let whole = status(bytes);
        let mut scan = HeadScan::new(MAX);
        let single = (1..=bytes.len()).map(|end| scan.look(&bytes[..end])).find_map(|parsed| match parsed {
            Parsed::Whole(..) => Some(200),
            Parsed::NotYet => None,
            Parsed::Refused(refusal) => Some(refusal.status().as_u16()),
        });
        assert_eq!(single, whole, "byte by byte: {}", String::from_utf8_lossy(bytes));
        whole
    }

    /// A row per rule of the request line, for every method and both versions.
    #[test]
    fn targets_of_every_form_by_method_and_version() {
        for (target, expected) in [
            ("/", 200),
            ("/up?a=%27%%27&x[]=1;y={z}|~", 200),
            ("/#fragment", 200),
            ("//up", 200),
            ("*", 200),
            ("http://a/b?c", 200),
            ("http://a", 200),
            ("http://a?b", 200),
            ("HTTPS://A:443/", 200),
            ("http://[::1]:1/", 200),
            ("http://a:/", 200),
            ("urn:a:b", 200),
            ("http://127.0.0.1:port/up", 400),
            ("http://127.0.0.1:80x/up", 400),
            ("http://a:65536/", 400),
            ("http://a:1:2/", 400),
            ("http://user@a/", 400),
            ("http://user:secret@a/", 400),
            ("http://@a/", 400),
            ("http:///up", 400),
            ("http://:80/", 400),
            ("http://", 400),
            ("http:/up", 400),
            ("http:up", 400),
            ("http://::1/", 400),
            ("http://[::1/", 400),
            ("http://[a]/", 400),
            ("http://[::1%25lo]/", 400),
            ("http://a%/", 400),
            ("http://a%zz/", 400),
            ("http://a\\b/", 400),
            ("http://a,b:c/", 400),
            ("http://caf\u{e9}/", 400),
            ("up", 400),
            ("a:1", 200),
            ("127.0.0.1:80", 400),
            ("://a/", 400),
            ("?a", 400),
            ("#a", 400),
            ("/a\"b", 400),
            ("/<a", 400),
            ("/\u{7f}", 400),
        ] {
            for method in METHODS {
                for version in ["HTTP/1.1", "HTTP/1.0"] {
                    let head = format!("{method} {target} {version}\r\nHost: a\r\n\r\n");
                    assert_eq!(outcome(head.as_bytes()), Some(expected), "{head:?}");
                }
            }
        }
    }

    #[test]
    fn request_lines() {
        for (line, expected) in [
            ("GET / HTTP/1.1", 200),
            ("GET / HTTP/1.0", 200),
            ("get / HTTP/1.1", 400),
            ("get_lost / HTTP/1.1", 400),
            ("PUMA / HTTP/1.1", 501),
            ("CONNECT a:1 HTTP/1.1", 501),
            ("AAAAAAAAAAAAAAAAAAAAA / HTTP/1.1", 400),
            ("G@T / HTTP/1.1", 400),
            ("G@T / HTTP/2.0", 400),
            ("GET  / HTTP/1.1", 400),
            ("GET /  HTTP/1.1", 400),
            ("GET\t/ HTTP/1.1", 400),
            ("GET /a b HTTP/1.1", 400),
            ("GET /\0 HTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            (" GET / HTTP/1.1", 400),
            ("GET /", 400),
            ("GET", 400),
            ("GET / http/1.1", 400),
            ("GET / HTTP/1.a", 400),
            ("GET / HTTP/1.10", 400),
            ("GET / HTTP/10.0", 400),
            ("GET / HTTP/01.1", 400),
            ("GET / HTTP/2", 400),
            ("GET / HTTP/1.2", 505),
            ("GET / HTTP/2.0", 505),
            ("GET / HTTP/0.9", 505),
            ("PRI * HTTP/2.0", 505),
            ("\r\nGET / HTTP/1.1", 200),
            ("\r\n\r\nGET / HTTP/2.0", 505),
            ("\nGET / HTTP/2.0", 400),
            ("\rGET / HTTP/1.1", 400),
            ("\r\r\nGET / HTTP/1.1", 400),
        ] {
            let head = format!("{line}\r\nHost: a\r\n\r\n");
            assert_eq!(outcome(head.as_bytes()), Some(expected), "{line:?}");
        }
        assert_eq!(outcome(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"), Some(400));
        assert_eq!(outcome(b"GET /\xff HTTP/2.0\r\nHost: a\r\n\r\n"), Some(400));
        assert_eq!(outcome(b"\x16\x03\x01"), Some(400), "a TLS handshake is refused at once");
        assert_eq!(&*head("GET /a#b HTTP/1.0\r\n\r\n").target, "/a");
    }

    #[test]
    fn fields() {
        for (fields, by_11, by_10) in [
            (&b"Host: a\r\nX-A:1\r\n"[..], 200, 200),
            (b"Host:a\r\nX-A:\r\n", 200, 200),
            (b"hOST: a\r\nX-A: caf\xe9\r\n", 200, 200),
            (b"Host: \ta\t \r\n", 200, 200),
            (b"", 400, 200),
            (b"Host:\r\n", 400, 200),
            (b"Host: \t \r\n", 400, 200),
            (b"Host: a\r\nHost: a\r\n", 400, 400),
            (b"Host: a\r\nhost:\r\n", 400, 400),
            (b"Host: a b\r\n", 400, 400),
            (b"Host: caf\xe9\r\n", 400, 400),
            (b"Host: a:80x\r\n", 400, 400),
            (b"Host_: a\r\nHost: a\r\n", 200, 200),
            (b"Host : a\r\n", 400, 400),
            (b" Host: a\r\n", 400, 400),
            (b"Host: a\r\n b\r\n", 400, 400),
            (b"Host: a\r\nX\r\n", 400, 400),
            (b"Host: a\r\n: 1\r\n", 400, 400),
            (b"Host: a\r\nX-\xc3\xa4: 1\r\n", 400, 400),
            (b"Host: a\r\nX\0A: 1\r\n", 400, 400),
            (b"Host: a\r\nX-A: a\0b\r\n", 400, 400),
            (b"Host: a\r\nX-A: a\x01b\r\n", 400, 400),
            (b"Host: a\r\nX-A: a\x7fb\r\n", 400, 400),
            (b"Host: a\r\nX-A: 1\rX-B: 2\r\n", 400, 400),
            (b"Host: a\r\nX-A: 1\r\r\n", 400, 400),
            (b"Host: a\nX-A: 1\r\n", 400, 400),
        ] {
            for (version, expected) in [(&b"GET / HTTP/1.1\r\n"[..], by_11), (b"GET / HTTP/1.0\r\n", by_10)] {
                let head = [version, fields, b"\r\n"].concat();
                assert_eq!(outcome(&head), Some(expected), "{}", String::from_utf8_lossy(&head));
            }
        }
        assert_eq!(head("GET / HTTP/1.0\r\nX_A: 1\r\nX-A: 2\r\n\r\n").fields.iter().count(), 1);
    }

    /// A list means the same on one line and on several.
    #[test]
    fn expectations() {
        for (lines, expected) in [
            (&["100-continue"][..], true),
            (&["100-Continue"], true),
            (&["a=b, 100-continue"], true),
            (&["a=b", "100-continue"], true),
            (&["a=\"100-continue\""], false),
            (&["100-continue=x"], false),
            (&["100"], false),
            (&[], false),
        ] {
            let fields: String = lines.iter().map(|line| format!("Expect: {line}\r\n")).collect();
            let head = head(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            assert_eq!(head.expects_continue(), expected, "{lines:?}");
        }
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
        let line_over = format!("{} /{} HTTP/1.1", "A".repeat(100), "a".repeat(MAX_TARGET_BYTES - 50));
        assert_eq!(outcome(format!("{line_over}\r\nHost: a\r\n\r\n").as_bytes()), Some(414));
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
