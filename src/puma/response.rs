//! What an app answers, and how its head looks on the wire.
//!
//! Models the writing half of Puma's `response.rb`: names in lower case, no
//! `date` and no `server` field, a length where it is known, else chunks for
//! HTTP/1.1 and the end of the connection for HTTP/1.0.

use std::borrow::Cow;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use super::connection::Connection;
use super::framing::{Ended, Framing};
use super::request::{Request, Version};
use super::socket::{Cutter, Patience, Socket};
use super::status::code_and_reason;

/// Few answers have more.
const USUAL_HEADERS: usize = 6;
/// More than the status line and the fields take that the server adds by itself, in bytes.
const OWN_LINES_BYTES: usize = 128;

/// A header value: it cannot hold CR, LF or NUL, so no value can begin a new
/// field or end the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderValue(Cow<'static, str>);

impl HeaderValue {
    /// Control characters, tab aside, are left out, as Puma leaves out such fields.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        let mut text = text.into();
        let is_left_out = |byte: u8| byte.is_ascii_control() && byte != b'\t';
        if text.bytes().any(is_left_out) {
            text.to_mut().retain(|c| c == '\t' || !c.is_ascii_control());
        }
        HeaderValue(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The body of a live answer: it writes on the connection for as long as it
/// likes, on the pool thread that it was called on.
pub type Live = Box<dyn FnOnce(&mut Connection) -> Ended + Send>;

/// A connection that has left the pool: its socket, set not to block, and what was
/// read of it beyond the request. When this is dropped nothing more can be written, and the
/// server closes the socket as it closes all others.
pub struct Detached {
    pub(super) socket: Arc<Socket>,
    pub unread: Vec<u8>,
    /// None: it is not left politely.
    pub(super) take_back: Option<Box<dyn Fn(Arc<Socket>) + Send>>,
}

impl Detached {
    pub fn stream(&self) -> &TcpStream {
        &self.socket.stream
    }

    /// Writes all of it, waiting for the client in total at most for `timeout`. Answers how long it
    /// waited, also where it waited in vain.
    pub fn write_all(&self, bytes: &[u8], timeout: Duration) -> (Duration, io::Result<()>) {
        self.socket.write_all([bytes, &[], &[]], Patience::of(timeout), |_| ())
    }

    /// Whether its waits were ended by [`Detached::cutter`].
    pub fn is_cut(&self) -> bool {
        self.socket.is_cut()
    }

    /// Closes it at once by a reset: its client does not read, so waiting for it would hold a connection.
    pub fn abort(mut self) {
        self.take_back = None;
        if let Err(error) = SockRef::from(self.stream()).set_linger(Some(Duration::ZERO)) {
            log::debug!("a connection is closed without a reset: {error}");
        }
    }

    /// What ends a write that waits, from another thread.
    pub fn cutter(&self) -> Cutter {
        Cutter(Arc::downgrade(&self.socket))
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(take_back) = &self.take_back {
            take_back(Arc::clone(&self.socket));
        }
    }
}

/// Who takes a connection over. Called on the pool thread, which it must not keep.
pub type TakeOver = Box<dyn FnOnce(Detached) + Send>;

/// What comes after the head.
pub enum Body {
    /// Bytes whose number is known.
    Whole(Vec<u8>),
    /// A body that is written while the action runs.
    Live(Live),
    /// Nothing that the server knows of: the connection is handed over. Models Rack's
    /// partial hijack (`with_head`) and full hijack.
    Detached { with_head: bool, take_over: TakeOver },
}

/// An answer of the app.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, HeaderValue)>,
    pub body: Body,
}

impl Response {
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let mut headers = Vec::with_capacity(USUAL_HEADERS);
        headers.push(("content-type", HeaderValue::new(content_type)));
        Response { status, headers, body: Body::Whole(body.into()) }
    }

    /// One line of plain text, which is all that an error ever shows.
    pub fn line(status: u16, text: &str) -> Self {
        Response::new(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }

    /// The bare answer to a status: its own words.
    pub fn status(status: u16) -> Self {
        let text = code_and_reason(status);
        Response::line(status, text.split_once(' ').map_or("", |(_, reason)| reason))
    }

    /// An answer whose body is written while the action runs. The head goes out
    /// with the first write.
    pub fn live(live: impl FnOnce(&mut Connection) -> Ended + Send + 'static) -> Self {
        Response { status: 200, headers: Vec::new(), body: Body::Live(Box::new(live)) }
    }

    /// Hands the connection over, behind the head of this response or in its place.
    /// On a front that hides its socket this is answered with 501.
    pub fn detach(with_head: bool, take_over: impl FnOnce(Detached) + Send + 'static) -> Self {
        let body = Body::Detached { with_head, take_over: Box::new(take_over) };
        Response { status: 200, headers: Vec::new(), body }
    }

    /// Whether the app itself ends the connection with this answer.
    pub(super) fn says_close(&self) -> bool {
        self.headers.iter().any(|(name, value)| *name == "connection" && value.as_str() == "close")
    }

    /// With what JSON, text and scripts say unless their route says otherwise: that their type is
    /// not to be guessed, and that no cache keeps them. Pages and streams have fields of their own.
    pub fn with_default_headers(mut self) -> Self {
        let value = |name| self.headers.iter().find(|(it, _)| *it == name).map(|(_, value)| value.as_str());
        let (content_type, is_typed) = (value("content-type"), value("x-content-type-options").is_some());
        let is_cached = value("cache-control").is_some();
        let has_its_own = |it: &str| it.starts_with("text/html") || it.starts_with("text/event-stream");
        if content_type.is_none_or(has_its_own) {
            return self;
        }
        if !is_typed {
            self.headers.push(("x-content-type-options", HeaderValue("nosniff".into())));
        }
        if !is_cached {
            self.headers.push(("cache-control", HeaderValue("no-store".into())));
        }
        self
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, HeaderValue::new(value)));
        self
    }
}

/// How the answer to this request is framed.
pub fn framing(request: &Request, response: &Response) -> Framing {
    match &response.body {
        // An answer with 101 is not over: what follows is another protocol.
        Body::Detached { .. } => Framing::UntilClose,
        _ if matches!(response.status, 100..=199 | 204 | 304) => Framing::None,
        Body::Whole(bytes) => Framing::Counted(bytes.len()),
        Body::Live(_) if request.version == Version::Http11 => Framing::Chunked,
        Body::Live(_) => Framing::UntilClose,
    }
}

/// The head of the answer, up to and with its empty line.
pub fn head(request: &Request, response: &Response, framing: Framing, keep: bool) -> Vec<u8> {
    let version = match request.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    let fields: usize =
        response.headers.iter().map(|(name, value)| name.len() + value.as_str().len() + 4).sum();
    let mut head = String::with_capacity(fields + OWN_LINES_BYTES);
    for part in [version, " ", &code_and_reason(response.status), "\r\n"] {
        head.push_str(part);
    }
    let mut field = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            head.push_str(part);
        }
    };
    for (name, value) in &response.headers {
        field(name, value.as_str());
    }
    match framing {
        Framing::Counted(length) => field("content-length", &length.to_string()),
        Framing::Chunked => field("transfer-encoding", "chunked"),
        Framing::None | Framing::UntilClose => {}
    }
    let said = response.headers.iter().any(|(name, _)| *name == "connection");
    match (request.version, keep) {
        _ if said => {}
        (Version::Http11, false) => field("connection", "close"),
        (Version::Http10, true) => field("connection", "keep-alive"),
        _ => {}
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// The head of a counted answer that is the last of its connection, for what has left the pool with it.
pub fn last_head(version: Version, response: &Response, length: usize) -> Vec<u8> {
    let version = match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    let mut head = format!("{version} {}\r\n", code_and_reason(response.status));
    for (name, value) in &response.headers {
        for part in [*name, ": ", value.as_str(), "\r\n"] {
            head.push_str(part);
        }
    }
    head.push_str(&format!("content-length: {length}\r\nconnection: close\r\n\r\n"));
    head.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::get;
    use super::*;

    fn lines(request: &Request, response: &Response) -> String {
        String::from_utf8(head(
            request,
            response,
            framing(request, response),
            request.keeps_alive() && framing(request, response) != Framing::UntilClose,
        ))
        .unwrap()
    }

    #[test]
    fn a_value_cannot_start_a_field() {
        let response = Response::status(404).with_header("x-name", "a\r\nset-cookie: b\0");
        assert!(lines(&get("/"), &response).contains("x-name: aset-cookie: b\r\n"));
    }

    #[test]
    fn each_version_gets_the_framing_that_it_can_read() {
        let mut request = get("/");
        let live = || Response::live(|_| Ended::Clean);
        assert_eq!(framing(&request, &live()), Framing::Chunked);
        assert!(!lines(&request, &Response::status(200)).contains("connection"));

        request.version = Version::Http10;
        assert_eq!(framing(&request, &live()), Framing::UntilClose);
        assert!(lines(&request, &live()).starts_with("HTTP/1.0 200 OK\r\n"));
        request.headers.push("Connection", b"keep-alive");
        assert!(lines(&request, &Response::status(200)).contains("connection: keep-alive\r\n"));
        // Its end is the connection's end, so it must not promise to keep it.
        assert!(!lines(&request, &live()).contains("connection"));
    }

    #[test]
    fn a_head_takes_no_memory_for_its_body() {
        let response = Response::new(200, "text/html", vec![b'x'; 1_000_000]);
        let head = head(&get("/"), &response, framing(&get("/"), &response), true);
        assert!(head.capacity() < 1_000, "{}", head.capacity());
    }

    #[test]
    fn json_and_text_say_how_they_may_be_cached() {
        let fields = |response: Response| {
            let names = ["x-content-type-options", "cache-control"];
            let response = response.with_default_headers().with_default_headers();
            let found = response.headers.iter().filter(|(name, _)| names.contains(name));
            found.map(|(_, value)| value.as_str().to_owned()).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(fields(Response::status(404)), "nosniff, no-store");
        let cached = Response::new(200, "application/json", "[]").with_header("cache-control", "no-cache");
        assert_eq!(fields(cached), "no-cache, nosniff");
        let stream = Response::live(|_| Ended::Clean).with_header("content-type", "text/event-stream");
        assert_eq!(fields(stream), "");
        assert_eq!(fields(Response::detach(true, |_| ())), "");
    }

    #[test]
    fn an_answer_without_a_body_says_no_length() {
        assert_eq!(framing(&get("/"), &Response::status(204)), Framing::None);
        assert_eq!(framing(&get("/"), &Response::status(304)), Framing::None);
    }
}
