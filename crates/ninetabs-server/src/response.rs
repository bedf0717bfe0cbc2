//! The answer of an app, and how its head is written.
//!
//! Models the writing half of Puma's `response.rb`: field names are in lower case, and neither a `date` nor a `server`
//! field is added. A body of known length gets a `content-length`. Other bodies are sent in chunks in HTTP/1.1, and end
//! with the connection in HTTP/1.0.

use std::borrow::Cow;
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, StatusCode};
use socket2::SockRef;

use super::answer_writer::COPIED_BYTES;
use super::fields;
use super::first_line::Version;
use super::first_line::reason;
use super::framing::{AfterAnswer, AnswerFraming};
use super::request::Request;
use super::socket::{Cutter, Patience, Socket};
use super::stream::{Dialect, Stream, StreamError};
use super::timeline::Subject;

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Few answers have more headers than this.
const USUAL_HEADERS: usize = 6;
/// An upper bound for the status line and the fields that the server adds, in bytes.
const OWN_LINES_BYTES: usize = 128;

/// The action of a stream. It may write events for any length of time, and holds the thread that calls it until it
/// returns.
pub type Action = Box<dyn FnOnce(&mut Stream<'_>) -> Result<(), StreamError> + Send>;

/// A body of events, which is written while the action runs.
pub struct Events {
    pub(crate) dialect: Dialect,
    pub(crate) action: Action,
}

/// A connection that has left the pool: its non-blocking socket, and the bytes that were read after the request. When
/// this is dropped, nothing more can be written, and the server closes the socket like that of any other connection.
pub struct Detached {
    pub(super) socket: Arc<Socket>,
    /// Bytes that were read after the request.
    pub unread: Box<[u8]>,
    /// The server that ends the connection, and the connection's subject. `None` if it is to end with a reset.
    pub(super) take_back: Option<(Weak<dyn TakeBack>, Subject)>,
}

/// The part of the server that a detached connection uses.
pub(super) trait TakeBack: Send + Sync {
    /// Ends this connection like any other. Does not block.
    fn take_back(&self, socket: Arc<Socket>, subject: Subject);
}

impl Detached {
    /// Returns the socket, which is non-blocking.
    pub fn stream(&self) -> &TcpStream {
        &self.socket.stream
    }

    /// Writes all bytes, and waits for the client for at most `timeout` in total. Returns how long it waited,
    /// even if the write failed.
    pub fn write_all(&self, bytes: &[u8], timeout: Duration) -> (Duration, io::Result<()>) {
        self.socket.write_all([bytes, &[], &[]], Patience::of(timeout), |_| ())
    }

    /// Returns whether a [`Cutter`] from [`Detached::cutter`] has been used to end the waits of this connection.
    pub fn is_cut(&self) -> bool {
        self.socket.is_cut()
    }

    /// Closes the connection immediately with a reset. Meant for a client that does not read, because waiting for it
    /// would keep the connection open.
    pub fn abort(mut self) {
        self.take_back = None;
        if let Err(error) = SockRef::from(self.stream()).set_linger(Some(Duration::ZERO)) {
            log::debug!("cannot reset a connection, so it is closed instead: {error}");
        }
    }

    /// Returns a handle that ends a blocked write from another thread.
    pub fn cutter(&self) -> Cutter {
        Cutter(Arc::downgrade(&self.socket))
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some((server, subject)) = self.take_back.take()
            && let Some(server) = server.upgrade()
        {
            server.take_back(Arc::clone(&self.socket), subject);
        }
    }
}

/// The function that takes over a connection. It is called on the pool thread, and must return quickly.
pub type TakeOver = Box<dyn FnOnce(Detached) + Send>;

/// The part of an answer after the head.
pub enum ResponseBody {
    /// Bytes of known length.
    Whole(Vec<u8>),
    /// Events, which are written while an action runs.
    Events(Events),
    /// The connection is handed over, and the server does not write a body. Models Rack's partial and full hijack.
    Detached {
        /// Which side writes the head.
        head: DetachedHead,
        /// The function that takes over the connection.
        take_over: TakeOver,
    },
}

/// Which side writes the head of a connection that is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetachedHead {
    /// The server, before it hands the connection over.
    ByServer,
    /// The app, after it has taken the connection over.
    ByApp,
}

/// An answer of the app: a status, header fields, and a body.
///
/// The server adds the fields that frame the body (`content-length`, `transfer-encoding`, `connection`), but neither
/// `date` nor `server`. If the server frames the body, it drops a length or transfer coding given by the app. In an
/// answer to HEAD, it keeps the app's length.
pub struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: ResponseBody,
}

impl Response {
    /// Creates an answer with this status, media type and body.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let mut headers = Vec::with_capacity(USUAL_HEADERS);
        headers.push((CONTENT_TYPE, media_type(content_type)));
        Response { status, headers, body: ResponseBody::Whole(body.into()) }
    }

    /// Creates a 200 answer with plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Response::new(StatusCode::OK, TEXT, text.into())
    }

    /// Creates a 200 answer with an HTML page.
    pub fn html(page: impl Into<String>) -> Self {
        Response::new(StatusCode::OK, HTML, page.into())
    }

    /// Creates a 200 answer with this JSON text.
    pub fn json(json: impl Into<String>) -> Self {
        Response::new(StatusCode::OK, JSON, json.into())
    }

    /// Creates an answer with one line of plain text, such as an error message of the app.
    pub fn line(status: StatusCode, text: &str) -> Self {
        Response::new(status, TEXT, format!("{text}\n"))
    }

    /// Creates an answer whose text is the reason phrase of the status, such as `Not Found`.
    pub fn status(status: StatusCode) -> Self {
        Response::line(status, reason(status))
    }

    /// Creates an answer without a body and without fields, such as 204.
    pub fn bare(status: StatusCode) -> Self {
        Response { status, headers: Vec::new(), body: ResponseBody::Whole(Vec::new()) }
    }

    /// Creates a 404 answer.
    pub fn not_found() -> Self {
        Response::status(StatusCode::NOT_FOUND)
    }

    /// Creates a 303 answer, which makes the client send a GET request to this address.
    pub fn redirect(to: impl Into<Cow<'static, str>>) -> Self {
        Response::status(StatusCode::SEE_OTHER).with_header("location", to)
    }

    /// Creates a stream of server-sent events. `action` runs on the pool thread that took the request, and holds it
    /// until it returns, unless the server uses [`ActionsOn::OwnThread`](crate::ActionsOn::OwnThread).
    ///
    /// The stream counts as open, and its age is measured, from the moment the thread enters the action. However the
    /// action ends, the stream is closed afterward. An error that the action returns ends only this stream.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ninetabs_server::{Event, Response};
    ///
    /// Response::events(|stream| {
    ///     for n in stream.last_event_id::<u64>().unwrap_or(0).. {
    ///         stream.send(Event::data(n).id(n))?;
    ///         stream.sleep(Duration::from_secs(1))?;
    ///     }
    ///     Ok(())
    /// });
    /// ```
    pub fn events(action: impl FnOnce(&mut Stream<'_>) -> Result<(), StreamError> + Send + 'static) -> Self {
        Response::events_in(Dialect::default(), action)
    }

    /// Like [`Response::events`], with a [`Dialect`], which sets what the stream sends in addition to its events.
    pub fn events_in(
        dialect: Dialect,
        action: impl FnOnce(&mut Stream<'_>) -> Result<(), StreamError> + Send + 'static,
    ) -> Self {
        let body = ResponseBody::Events(Events { dialect, action: Box::new(action) });
        Response { status: StatusCode::OK, headers: Vec::with_capacity(USUAL_HEADERS), body }
            .with_header("content-type", "text/event-stream")
            .with_header("cache-control", "no-cache")
            .with_header("x-accel-buffering", "no")
    }

    /// Hands the connection over after the head of this response. The connection leaves the pool, and the server writes
    /// nothing more to it. Models Rack's partial hijack. `take_over` runs on the pool thread and must return quickly.
    ///
    /// If the server cannot access the socket, the request is answered with 501. A HEAD request is answered with the
    /// head alone, and `take_over` is not called.
    pub fn detach(take_over: impl FnOnce(Detached) + Send + 'static) -> Self {
        Response::detached(DetachedHead::ByServer, take_over)
    }

    /// Like [`Response::detach`], but `take_over` has to write the head, even for HEAD requests. Models Rack's full
    /// hijack.
    pub fn detach_without_head(take_over: impl FnOnce(Detached) + Send + 'static) -> Self {
        Response::detached(DetachedHead::ByApp, take_over)
    }

    fn detached(head: DetachedHead, take_over: impl FnOnce(Detached) + Send + 'static) -> Self {
        let body = ResponseBody::Detached { head, take_over: Box::new(take_over) };
        Response { status: StatusCode::OK, headers: Vec::with_capacity(USUAL_HEADERS), body }
    }

    /// Replaces the status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Adds a header field. Control characters in the value, except tabs, are removed, so a value cannot
    /// begin a new field or end the head. (Puma drops such a field completely.)
    ///
    /// # Panics
    ///
    /// Panics if the name is not a valid header name in lower case.
    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((HeaderName::from_static(name), header_value(value.into())));
        self
    }

    /// Replaces the body with these bytes.
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = ResponseBody::Whole(body.into());
        self
    }

    /// Returns the status.
    pub fn status_code(&self) -> StatusCode {
        self.status
    }

    /// Returns the header fields, in the order in which they are sent.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.headers.iter().map(|(name, value)| (name, value))
    }

    /// Returns the first value of a field, or `None` if the field is absent or the value is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(it, _)| it == name);
        found.and_then(|(_, value)| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// Returns the body.
    pub fn body(&self) -> &ResponseBody {
        &self.body
    }

    /// Returns the bytes of the body, or `None` for a stream or a connection that is handed over.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self.body {
            ResponseBody::Whole(bytes) => Some(bytes),
            ResponseBody::Events(_) | ResponseBody::Detached { .. } => None,
        }
    }

    /// Whether the app ends the connection with this answer (`connection: close`).
    pub(crate) fn says_close(&self) -> bool {
        let named = self.headers.iter().filter(|(name, _)| *name == CONNECTION);
        fields::has_token(named.filter_map(|(_, value)| value.to_str().ok()), "close")
    }

    /// Adds default fields to JSON, text and scripts: `x-content-type-options: nosniff`, and `cache-control:
    /// no-store` unless the answer has a `cache-control`. Pages and streams are not changed.
    pub fn with_default_headers(self) -> Self {
        let has_its_own = |it: &str| it.starts_with("text/html") || it.starts_with("text/event-stream");
        if self.header("content-type").is_none_or(has_its_own) {
            return self;
        }
        let is_cached = self.header("cache-control").is_some();
        let typed = match self.header("x-content-type-options") {
            None => self.with_header("x-content-type-options", "nosniff"),
            Some(_) => self,
        };
        if is_cached { typed } else { typed.with_header("cache-control", "no-store") }
    }
}

/// Media types whose characters were checked when the program was compiled.
const MEDIA_TYPES: [(&str, HeaderValue); 3] = [
    (HTML, HeaderValue::from_static(HTML)),
    (TEXT, HeaderValue::from_static(TEXT)),
    (JSON, HeaderValue::from_static(JSON)),
];

fn media_type(name: &'static str) -> HeaderValue {
    let known = MEDIA_TYPES.into_iter().find(|(it, _)| *it == name).map(|(_, value)| value);
    known.unwrap_or_else(|| header_value(name.into()))
}

fn header_value(text: Cow<'static, str>) -> HeaderValue {
    let text = match text {
        Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
        Cow::Owned(text) => Bytes::from(text),
    };
    let without_control = || -> Bytes {
        text.iter().copied().filter(|byte| *byte == b'\t' || !byte.is_ascii_control()).collect()
    };
    // Cloning `Bytes` does not copy the content. Any text without control characters is a valid value.
    HeaderValue::from_maybe_shared(text.clone())
        .or_else(|_| HeaderValue::from_maybe_shared(without_control()))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Determines how the answer to this request is framed.
pub fn framing(request: &Request, response: &Response) -> AnswerFraming {
    match &response.body {
        // A 101 answer is followed by another protocol, so it does not end by itself.
        ResponseBody::Detached { .. } => AnswerFraming::UntilClose,
        _ if response.status.is_informational() || matches!(response.status.as_u16(), 204 | 304) => {
            AnswerFraming::None
        }
        ResponseBody::Whole(bytes) => AnswerFraming::Counted(bytes.len()),
        ResponseBody::Events(_) if request.version() == Version::Http11 => AnswerFraming::Chunked,
        ResponseBody::Events(_) => AnswerFraming::UntilClose,
    }
}

/// Returns the head of the answer, including its final empty line.
pub fn head(request: &Request, response: &Response, framing: AnswerFraming, after: AfterAnswer) -> Vec<u8> {
    let version = request.version().as_str();
    let fields: usize =
        response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let copied = match &response.body {
        ResponseBody::Whole(bytes) if bytes.len() <= COPIED_BYTES => bytes.len(),
        _ => 0,
    };
    let mut head = Vec::with_capacity(fields + OWN_LINES_BYTES + copied);
    for part in [version, " ", response.status.as_str(), " ", reason(response.status), "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    let mut field = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    };
    let is_for_head = request.method == "HEAD";
    // With two lengths, or a length in addition to chunks, two programs could find different ends of the body.
    let frames_itself = match framing {
        AnswerFraming::Counted(_) | AnswerFraming::Chunked => !is_for_head,
        AnswerFraming::UntilClose => matches!(response.body, ResponseBody::Events(_)),
        AnswerFraming::None => false,
    };
    let mut is_framed = false;
    for (name, value) in &response.headers {
        if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING {
            if frames_itself {
                continue;
            }
            is_framed = true;
        }
        field(name.as_str(), value.as_bytes());
    }
    match framing {
        _ if is_framed => {}
        AnswerFraming::Counted(length) => {
            field("content-length", itoa::Buffer::new().format(length).as_bytes());
        }
        AnswerFraming::Chunked => field("transfer-encoding", b"chunked"),
        AnswerFraming::None | AnswerFraming::UntilClose => {}
    }
    let said = response.headers.iter().any(|(name, _)| *name == CONNECTION);
    match (request.version(), after) {
        _ if said => {}
        (Version::Http11, AfterAnswer::Close) => field("connection", b"close"),
        (Version::Http10, AfterAnswer::Keep) => field("connection", b"keep-alive"),
        _ => {}
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Returns the head of an answer of known length that is the last one on its connection. Meant for connections that
/// have left the pool.
pub fn last_head(version: Version, response: &Response, length: usize) -> Vec<u8> {
    let version = version.as_str();
    let mut head =
        format!("{version} {} {}\r\n", response.status.as_str(), reason(response.status)).into_bytes();
    for (name, value) in &response.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(format!("content-length: {length}\r\nconnection: close\r\n\r\n").as_bytes());
    head
}

#[cfg(test)]
mod tests;
