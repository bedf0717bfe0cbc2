//! The head of a request: its line and its fields.
//!
//! httparse reads the syntax and nothing else. What it accepts and Puma's grammar does not
//! (a bare LF, a lower-case method, a target without its slash) is refused here, and so is what
//! would make a request ambiguous (two hosts, a malformed one). Pure: bytes in, one of three
//! things out.
//!
//! A head may come in pieces ([`HeadScan`]). Each byte is looked at once for the end, and once more
//! for an early refusal, however the network cut them; the head is parsed once, when it is whole. A
//! head that came in one piece skips the early look. The result does not depend on how the bytes
//! were cut: the early look is a function of the bytes in their order, and it also decides which
//! status a whole head with an error gets.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::sync::Arc;

use http::Method;

use super::authority::{self, Authority};
use super::fields::{self, Fields};
use super::first_line::Version;
use super::refusal::Refusal;

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
pub struct RequestHead {
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
    Whole(RequestHead, usize),
    /// It goes on.
    NotYet,
    /// It is not served.
    Refused(Refusal),
}

impl RequestHead {
    /// A head of these parts, if what they mean can be served.
    pub(super) fn new(
        method: &str,
        target: &str,
        version: Version,
        fields: Fields,
    ) -> Result<RequestHead, Refusal> {
        let method = self::method(method)?;
        let target = self::target(target)?;
        let authority = authority::of_request(&target, version, &fields)?;
        Ok(RequestHead { method, target, version, authority, fields })
    }

    /// Whether the client waits to be told to send its body (in any case: RFC 9110).
    pub fn expects_continue(&self) -> bool {
        fields::has_token(self.fields.values("expect"), "100-continue")
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
pub(super) fn read(bytes: &[u8], lines: usize) -> Result<RequestHead, Fault> {
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

fn check(request: &httparse::Request<'_, '_>, bytes: &[u8]) -> Result<RequestHead, Refusal> {
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
    RequestHead::new(request.method.unwrap_or_default(), target, version, fields)
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

/// How far the head at the beginning of a buffer has been looked at.
#[derive(Debug, Clone)]
pub struct HeadScan {
    max_head_bytes: usize,
    /// Bytes that have been searched for the end.
    searched: usize,
    /// Where the request line begins, behind empty lines.
    begun: Option<usize>,
    /// Where the request line ends, behind its line end.
    first_line_end: Option<usize>,
    /// Line ends from the request line on.
    lines: usize,
    has_bare_line_feed: bool,
    /// Bytes that the early look has seen.
    checked: usize,
    place: ScanPlace,
}

/// Where in a head the early look stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanPlace {
    /// In empty lines before the request line.
    Before,
    RequestLine {
        begun: usize,
        /// Where the word begins that is being read: method, target or version.
        word_begun: usize,
        word: Word,
    },
    Field {
        begun: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Method,
    Target,
    Version,
}

const VERSION: &[u8] = b"HTTP/0.0";

impl HeadScan {
    /// A scan of a head of at most this many bytes.
    pub fn new(max_head_bytes: usize) -> HeadScan {
        HeadScan {
            max_head_bytes,
            searched: 0,
            begun: None,
            first_line_end: None,
            lines: 0,
            has_bare_line_feed: false,
            checked: 0,
            place: ScanPlace::Before,
        }
    }

    /// Looks at the bytes that have come since the last look. `bytes` are all of the head so
    /// far, and may hold more than it. After a head or a refusal the scan is over.
    pub fn look(&mut self, bytes: &[u8]) -> Parsed {
        // Nothing is looked at that a limit forbids to be part of the head.
        let bytes = &bytes[..bytes.len().min(self.max_head_bytes)];
        match self.find_end(bytes) {
            Some(end) => match self.read(&bytes[..end]) {
                Ok(head) => Parsed::Whole(head, end),
                Err(refusal) => Parsed::Refused(refusal),
            },
            None => match self.check(bytes) {
                Err(refusal) => Parsed::Refused(refusal),
                Ok(()) if bytes.len() >= self.max_head_bytes => {
                    Parsed::Refused(Refusal::HeadTooLarge("the head is over the limit"))
                }
                Ok(()) => Parsed::NotYet,
            },
        }
    }

    /// Where the head ends, behind its empty line. Searches on from where it stopped.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(at) = bytes[self.searched..].iter().position(|byte| *byte == b'\n') {
            let at = self.searched + at;
            let is_bare = at == 0 || bytes[at - 1] != b'\r';
            self.has_bare_line_feed |= is_bare;
            let line = self.searched;
            self.searched = at + 1;
            if self.begun.is_none() {
                let first = bytes[line..at].iter().position(|byte| *byte != b'\r');
                self.begun = first.map(|first| line + first);
                if self.begun.is_none() {
                    continue;
                }
                self.first_line_end = Some(at + 1);
            }
            self.lines += 1;
            if !is_bare && at >= 2 && bytes[at - 2] == b'\n' {
                return Some(at + 1);
            }
        }
        // The line goes on. Its beginning is needed: the next piece is searched from here.
        if self.begun.is_none() {
            let first = bytes[self.searched..].iter().position(|byte| *byte != b'\r');
            self.begun = first.map(|first| self.searched + first);
        }
        self.searched = bytes.len();
        None
    }

    /// Parses the head that has come whole.
    fn read(&mut self, bytes: &[u8]) -> Result<RequestHead, Refusal> {
        let read = if self.has_bare_line_feed { None } else { Some(read(bytes, self.lines)) };
        let begun = self.begun.unwrap_or_default();
        let is_too_long = self.first_line_end.is_some_and(|end| end - begun > MAX_LINE_BYTES);
        match read {
            Some(Ok(_)) | Some(Err(Fault::Meaning(_))) if is_too_long => Err(Refusal::TargetTooLong),
            Some(Ok(head)) => Ok(head),
            Some(Err(Fault::Meaning(refusal))) => Err(refusal),
            // The early look says which error comes first.
            Some(Err(Fault::Syntax(refusal))) => Err(self.check(bytes).err().unwrap_or(refusal)),
            None => Err(self.check(bytes).err().unwrap_or(BARE_LINE_FEED)),
        }
    }

    /// The early look: refuses what cannot become a head, at the first byte that shows it.
    fn check(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        while let Some(byte) = bytes.get(self.checked) {
            self.place = match self.place {
                ScanPlace::Before => self.before(bytes, *byte)?,
                ScanPlace::RequestLine { begun, word_begun, word } => {
                    self.in_request_line(bytes, *byte, begun, word_begun, word)?
                }
                ScanPlace::Field { begun } => self.in_field(bytes, *byte, begun)?,
            };
            self.checked += 1;
        }
        Ok(())
    }

    fn before(&self, bytes: &[u8], byte: u8) -> Result<ScanPlace, Refusal> {
        let at = self.checked;
        let is_behind_cr = at > 0 && bytes[at - 1] == b'\r';
        match byte {
            b'\n' if is_behind_cr => Ok(ScanPlace::Before),
            b'\n' => Err(BARE_LINE_FEED),
            _ if is_behind_cr => Err(LINE_END),
            b'\r' => Ok(ScanPlace::Before),
            _ => self.in_request_line(bytes, byte, at, at, Word::Method),
        }
    }

    fn in_request_line(
        &self,
        bytes: &[u8],
        byte: u8,
        begun: usize,
        word_begun: usize,
        word: Word,
    ) -> Result<ScanPlace, Refusal> {
        let at = self.checked;
        if at - begun >= MAX_LINE_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        let (is_first, seen) = (at == word_begun, &bytes[word_begun..at]);
        let next = |word| Ok(ScanPlace::RequestLine { begun, word_begun: at + 1, word });
        let same = Ok(ScanPlace::RequestLine { begun, word_begun, word });
        match (word, byte) {
            (Word::Method, b' ') if !is_first => next(Word::Target),
            (Word::Method, byte) if is_token_byte(byte) => same,
            (Word::Target, b' ') if !is_first && std::str::from_utf8(seen).is_ok() => next(Word::Version),
            (Word::Target, byte) if byte > b' ' && byte != 0x7f => same,
            (Word::Version, byte) if seen.len() < VERSION.len() => {
                let form = VERSION[seen.len()];
                match byte == form || form == b'0' && byte.is_ascii_digit() {
                    false => Err(Refusal::BadRequest("the version is malformed")),
                    true if seen.len() + 1 < VERSION.len() => same,
                    true if [b"1.0", b"1.1"].contains(&&[seen[5], seen[6], byte]) => same,
                    true => Err(Refusal::BadVersion),
                }
            }
            (Word::Version, b'\r') if seen.len() == VERSION.len() => same,
            (Word::Version, b'\n') if seen.len() == VERSION.len() => Err(BARE_LINE_FEED),
            (Word::Version, b'\n') => Ok(ScanPlace::Field { begun: at + 1 }),
            _ => Err(Refusal::BadRequest("the request line is malformed")),
        }
    }

    fn in_field(&self, bytes: &[u8], byte: u8, begun: usize) -> Result<ScanPlace, Refusal> {
        let at = self.checked;
        let is_behind_cr = at > begun && bytes[at - 1] == b'\r';
        match byte {
            b'\n' if !is_behind_cr => Err(BARE_LINE_FEED),
            b'\n' => check_field(&bytes[begun..=at]).map(|()| ScanPlace::Field { begun: at + 1 }),
            _ if is_behind_cr => Err(LINE_END),
            b'\r' | b'\t' => Ok(ScanPlace::Field { begun }),
            byte if byte.is_ascii_control() => Err(Refusal::BadRequest("a field has a control character")),
            _ => Ok(ScanPlace::Field { begun }),
        }
    }
}

const BARE_LINE_FEED: Refusal = Refusal::BadRequest("a line ends without CR");
const LINE_END: Refusal = Refusal::BadRequest("a line's end is malformed");

/// What a token is made of (RFC 9110 5.6.2), such as a method or a field's name.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
pub(crate) mod tests;
