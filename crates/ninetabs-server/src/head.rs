//! The head of a request: its request line and its fields.
//!
//! httparse checks only the syntax. This module also refuses input that Puma's grammar does not allow (a bare LF, a
//! lower-case method, a target without its slash), and input that would make a request ambiguous (two hosts, or a
//! malformed one). Parsing is a pure function of the bytes and has three possible results.
//!
//! A head may arrive in pieces ([`HeadScan`]). However the network splits it, each byte is examined once to find the
//! end, and once more by an early check that refuses a bad head before it is complete. The complete head is parsed
//! once. A head that arrives in one piece skips the early check unless it has an error. The result does not depend on
//! how the bytes were split: the early check depends only on their sequence, and it also decides which status a
//! complete head with an error gets.

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
/// The longest field name, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The longest field value, in bytes.
pub const MAX_VALUE_BYTES: usize = 80 * 1024;
/// The longest method that Puma accepts, in bytes.
const MAX_METHOD_BYTES: usize = 20;
/// The longest request line, in bytes, including its line end.
pub(super) const MAX_LINE_BYTES: usize = MAX_METHOD_BYTES + MAX_TARGET_BYTES + b"  HTTP/1.1\r\n".len();
/// The methods that Puma supports.
const METHODS: [&str; 9] = ["HEAD", "GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "QUERY"];

/// A complete request head, up to and including its empty line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, which is one that this server supports.
    pub method: Method,
    /// The target, without its fragment.
    pub target: Arc<str>,
    /// The HTTP version.
    pub version: Version,
    /// The host to which the request is addressed, or `None` for an HTTP/1.0 request that names no host.
    pub authority: Option<Authority>,
    /// The fields in the order received, with names spelled as received. Fields whose name contains an
    /// underscore are removed.
    pub fields: Fields,
}

/// The result of examining the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// The head is complete, and consists of this many bytes.
    Whole(RequestHead, usize),
    /// The head is incomplete.
    NotYet,
    /// The request is refused.
    Refused(Refusal),
}

impl RequestHead {
    /// Creates a head from its parts, or refuses it.
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

    /// Returns whether the client waits for `100 Continue` before it sends the body. The comparison is
    /// case-insensitive (RFC 9110).
    pub fn expects_continue(&self) -> bool {
        fields::has_token(self.fields.values("expect"), "100-continue")
    }

    /// How many bytes of memory the variable-length parts take.
    pub(super) fn held_bytes(&self) -> usize {
        let authority = self.authority.as_ref().map_or(0, Authority::held_bytes);
        self.target.len() + authority + self.fields.held_bytes()
    }
}

/// Reads a head from the beginning of `bytes`, which may contain less or more than the head.
pub fn parse(bytes: &[u8], max_head_bytes: usize) -> Parsed {
    HeadScan::new(max_head_bytes).look(bytes)
}

/// Why a complete head is refused.
pub(super) enum Fault {
    /// It does not match the grammar.
    Syntax(Refusal),
    /// It matches the grammar, but the server does not serve it.
    Meaning(Refusal),
}

/// Parses a complete head, including its empty line. `lines` is the number of its line ends.
pub(super) fn read(bytes: &[u8], lines: usize) -> Result<RequestHead, Fault> {
    // Most heads have few fields, which fit on the stack. Like Puma, this limits only the size of the head
    // and not the number of its fields.
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

/// Checks one line after the request line, including its line end.
pub(super) fn check_field(line: &[u8]) -> Result<(), Refusal> {
    httparse::parse_headers(line, &mut [httparse::EMPTY_HEADER]).map(drop).map_err(refusal)
}

/// Checks a field that was not received as a line.
pub(super) fn check_name_and_value(name: &str, value: &str) -> Result<(), Refusal> {
    if name.len() > MAX_NAME_BYTES || value.len() > MAX_VALUE_BYTES {
        return Err(Refusal::HeadTooLarge("a field is over the limit"));
    }
    // In a head, the first colon would end the name.
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

/// Parses a method that this server supports.
fn method(method: &str) -> Result<Method, Refusal> {
    if method.len() > MAX_METHOD_BYTES || !method.bytes().all(is_method_byte) {
        return Err(Refusal::BadRequest("the method is malformed"));
    }
    let known = METHODS.into_iter().find(|it| *it == method).and_then(|it| it.parse().ok());
    known.ok_or(Refusal::NotImplemented("the method is not supported"))
}

/// The name of a supported method, for the record.
pub(super) fn method_name(method: &Method) -> Cow<'static, str> {
    let known = METHODS.into_iter().find(|it| method == it);
    known.map_or_else(|| method.as_str().to_owned().into(), Cow::Borrowed)
}

/// Checks a target: `*`, `scheme:…` or `/…`. Removes the fragment, which no client should send.
fn target(text: &str) -> Result<Arc<str>, Refusal> {
    let target = text.split('#').next().unwrap_or_default();
    if target.bytes().any(|byte| byte <= b' ' || matches!(byte, 0x7f | b'"' | b'<' | b'>')) {
        return Err(Refusal::BadRequest("the request target contains an invalid character"));
    }
    if target == "*" || target.starts_with('/') || authority::absolute_form(target).is_some() {
        Ok(target.into())
    } else {
        Err(Refusal::BadRequest("the request target is not a path"))
    }
}

fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'$' | b'-' | b'_' | b'.')
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName => Refusal::BadRequest("a field's name is malformed"),
        httparse::Error::HeaderValue => Refusal::BadRequest("a field's value is malformed"),
        httparse::Error::NewLine => Refusal::BadRequest("a line end is malformed"),
        _ => Refusal::BadRequest("the request line is malformed"),
    }
}

/// How much of the head at the beginning of a buffer has been examined.
#[derive(Debug, Clone)]
pub struct HeadScan {
    max_head_bytes: usize,
    /// How many bytes have been searched for the end of the head.
    searched: usize,
    /// Where the request line begins, after any empty lines.
    begun: Option<usize>,
    /// Where the request line ends, after its line end.
    first_line_end: Option<usize>,
    /// The number of line ends, counted from the request line.
    lines: usize,
    has_bare_line_feed: bool,
    /// How many bytes the early check has examined.
    checked: usize,
    place: ScanPlace,
}

/// The current position of the early check in the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanPlace {
    /// In empty lines before the request line.
    Before,
    RequestLine {
        begun: usize,
        /// Where the current word begins: the method, target or version.
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
    /// Creates a scan of a head of at most this many bytes.
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

    /// Examines the bytes that have arrived since the last call. `bytes` is everything received so far, which may be
    /// more than the head. Do not call this again after it has returned a head or a refusal.
    pub fn look(&mut self, bytes: &[u8]) -> Parsed {
        // Bytes beyond the limit cannot be part of the head, so they are not examined.
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

    /// Returns where the head ends, after its empty line. Continues where the last search stopped.
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
        // The line is incomplete. Note where it begins, because the next search starts after these bytes.
        if self.begun.is_none() {
            let first = bytes[self.searched..].iter().position(|byte| *byte != b'\r');
            self.begun = first.map(|first| self.searched + first);
        }
        self.searched = bytes.len();
        None
    }

    /// Parses the complete head.
    fn read(&mut self, bytes: &[u8]) -> Result<RequestHead, Refusal> {
        let read = if self.has_bare_line_feed { None } else { Some(read(bytes, self.lines)) };
        let begun = self.begun.unwrap_or_default();
        let is_too_long = self.first_line_end.is_some_and(|end| end - begun > MAX_LINE_BYTES);
        match read {
            Some(Ok(_)) | Some(Err(Fault::Meaning(_))) if is_too_long => Err(Refusal::TargetTooLong),
            Some(Ok(head)) => Ok(head),
            Some(Err(Fault::Meaning(refusal))) => Err(refusal),
            // The early check determines which error comes first.
            Some(Err(Fault::Syntax(refusal))) => Err(self.check(bytes).err().unwrap_or(refusal)),
            None => Err(self.check(bytes).err().unwrap_or(BARE_LINE_FEED)),
        }
    }

    /// The early check: refuses bytes that cannot be the beginning of a valid head, at the first invalid byte.
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
            byte if byte.is_ascii_control() => {
                Err(Refusal::BadRequest("a field contains a control character"))
            }
            _ => Ok(ScanPlace::Field { begun }),
        }
    }
}

const BARE_LINE_FEED: Refusal = Refusal::BadRequest("a line ends without CR");
const LINE_END: Refusal = Refusal::BadRequest("a line end is malformed");

/// Whether this byte may be part of a token (RFC 9110 5.6.2), such as a method or a field's name.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
pub(crate) mod tests;
