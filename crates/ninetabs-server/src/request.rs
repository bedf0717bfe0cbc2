//! A request as the app sees it: Rack's `env`, with types.
//!
//! The body has been read before the app is called, so nothing here waits for the client.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::Method;

use super::authority::{self, AbsoluteForm, Authority};
use super::body::RequestBody;
use super::fields::{self, Fields};
pub use super::first_line::Version;
use super::framing;
use super::head::{self, RequestHead};
use super::refusal::Refusal;
use super::thread_pool::IoBoundMark;
use crate::escape::Escaped;
use crate::timeline::Subject;

/// A request that has been read completely.
pub struct Request {
    pub(super) subject: Subject,
    pub(super) thread: usize,
    pub(super) method: Method,
    pub(super) target: Arc<str>,
    pub(super) version: Version,
    pub(super) body: RequestBody,
    pub(super) authority: Option<Authority>,
    pub(super) headers: Fields,
    pub(super) mark: Option<Mark>,
}

impl Request {
    /// Creates a request that did not arrive over a connection of this server. Meant for tests of an app, and for
    /// servers that parse requests themselves.
    pub fn builder() -> RequestBuilder {
        RequestBuilder::default()
    }

    /// Returns the numbers of the connection and the request, which identify the request in every record.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Returns the number of the pool thread that serves the request.
    pub fn thread(&self) -> usize {
        self.thread
    }

    /// Returns the method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the request target as sent, including the query but not the fragment.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns the HTTP version of the request.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the body.
    pub fn body(&self) -> &RequestBody {
        &self.body
    }

    /// Returns the `Last-Event-ID`, the last event that an EventSource has received, or `None` if the field
    /// is absent, given several times, or cannot be parsed as a `T`.
    pub fn last_event_id<T: FromStr>(&self) -> Option<T> {
        self.only_header("last-event-id")?.parse().ok()
    }

    /// Returns the path of the target, neither decoded nor normalized, as in Puma.
    pub fn path(&self) -> &str {
        let origin_form = match authority::absolute_form(&self.target) {
            // In absolute form, which proxies use, the path begins after the authority.
            Some(AbsoluteForm { authority: Some(_), rest, .. }) => rest,
            _ => &self.target,
        };
        let end = origin_form.bytes().position(|byte| matches!(byte, b'?' | b'#'));
        let path = &origin_form[..end.unwrap_or(origin_form.len())];
        if path.is_empty() { "/" } else { path }
    }

    /// Returns the host to which the request is addressed: the authority of a target in absolute form, otherwise
    /// `Host`. `None` for an HTTP/1.0 request that names no host.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Returns the decoded value of a query parameter. If the parameter is given several times, the last value wins, as
    /// in Rack.
    pub fn param(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1.split('#').next()?;
        let values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
        values.last().map(|(_, value)| value.into_owned())
    }

    /// Returns the first value of a header, or `None` if the header is absent. The name is case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.values(name).next()
    }

    /// Returns all values of a header. The name is case-insensitive.
    pub fn header_values<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.headers.values(name)
    }

    /// Returns all headers as they were sent, as pairs of name and value.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter()
    }

    /// Returns the value of a header that is not a list. `None` if the header is absent or given several times. With
    /// several values, two programs might use different ones.
    pub fn only_header(&self, name: &str) -> Option<&str> {
        fields::single(self.headers.values(name))
    }

    /// Returns the members of a header that is a list, on one line or on several.
    pub fn header_list<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        fields::members(self.headers.values(name))
    }

    /// Returns whether a header that is a list of tokens (`Connection`, `Upgrade`) contains this one.
    pub fn header_lists(&self, name: &str, token: &str) -> bool {
        fields::has_token(self.headers.values(name), token)
    }

    /// Returns whether the body is declared to be of this media type, ignoring parameters.
    pub fn is_of_type(&self, media_type: &str) -> bool {
        let said = self.only_header("content-type").map(fields::essence);
        said.is_some_and(|said| said.eq_ignore_ascii_case(media_type))
    }

    /// Returns whether `Accept` names this media type.
    pub fn accepts(&self, media_type: &str) -> bool {
        fields::accepts(self.headers.values("accept"), media_type)
    }

    /// Returns whether `If-None-Match` contains this entity tag, which means that the client already has this version.
    /// `tag` is given without quotes.
    pub fn has_tag(&self, tag: &str) -> bool {
        let lines: Vec<&str> = self.headers.values("if-none-match").collect();
        fields::matches_tag(lines.iter().copied(), tag)
    }

    /// Marks this request as IO-bound: until it ends, its thread does not count toward the pool's maximum. The number
    /// of such threads is limited by `max_io_threads`. Models `env["puma.mark_as_io_bound"].call`.
    pub fn mark_as_io_bound(&self) {
        match &self.mark {
            Some(Mark::Thread(mark)) => mark.set(),
            Some(Mark::Call(mark)) => mark(),
            None => {}
        }
    }

    /// Returns whether the client has asked to keep the connection alive after the answer.
    pub fn keeps_alive(&self) -> bool {
        // `close` wins over `keep-alive` in every version (RFC 9112 9.3).
        let may = !self.header_lists("connection", "close");
        may && (self.version == Version::Http11 || self.header_lists("connection", "keep-alive"))
    }
}

/// Builds a [`Request`]. The default is `GET /` for `localhost` in HTTP/1.1.
#[derive(Debug)]
pub struct RequestBuilder {
    method: String,
    target: String,
    version: Version,
    fields: Fields,
    body: RequestBody,
    subject: Subject,
    thread: usize,
    mark: Option<Mark>,
}

/// How a request marks its thread as IO-bound.
pub(super) enum Mark {
    Thread(IoBoundMark),
    Call(Box<dyn Fn() + Send + Sync>),
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}

impl Default for RequestBuilder {
    fn default() -> Self {
        RequestBuilder {
            method: "GET".to_owned(),
            target: "/".to_owned(),
            version: Version::Http11,
            fields: Fields::default(),
            body: RequestBody::default(),
            subject: Subject { connection: 1, port: 1, request: 1 },
            thread: 1,
            mark: None,
        }
    }
}

impl RequestBuilder {
    /// Sets the method.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = method.into();
        self
    }

    /// Sets the target: a path or an absolute URI, with its query.
    pub fn path(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// Sets the HTTP version.
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Adds a header. Invalid UTF-8 in the value is replaced with U+FFFD.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push_field(name, value.as_ref());
        self
    }

    /// Sets the body, which is kept in memory.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = RequestBody::Memory(body.into());
        self
    }

    /// Sets the numbers that identify the request in the record.
    pub fn subject(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }

    /// Sets the number of the pool thread that serves the request.
    pub fn thread(mut self, thread: usize) -> Self {
        self.thread = thread;
        self
    }

    /// Sets the function that [`Request::mark_as_io_bound`] calls.
    pub fn on_io_bound(mut self, mark: impl Fn() + Send + Sync + 'static) -> Self {
        self.mark = Some(Mark::Call(Box::new(mark)));
        self
    }

    /// Builds the request. The rules are the same as for a request received over a connection, except that `Host` may
    /// be omitted. Returns an error if the server would refuse the request.
    pub fn build(mut self) -> Result<Request, Refusal> {
        if self.version == Version::Http11 && self.fields.values("host").next().is_none() {
            self.fields.push("Host", b"localhost");
        }
        for (name, value) in self.fields.iter() {
            head::check_name_and_value(name, value)?;
        }
        let codings: Vec<&str> = self.fields.values("transfer-encoding").collect();
        if !codings.is_empty() {
            framing::transfer_coding(&codings)?;
        }
        let head = RequestHead::new(&self.method, &self.target, self.version, self.fields)?;
        Ok(Request::of(head, self.body, self.subject, self.thread, self.mark))
    }
}

impl Request {
    pub(super) fn of(
        head: RequestHead,
        body: RequestBody,
        subject: Subject,
        thread: usize,
        mark: Option<Mark>,
    ) -> Request {
        let RequestHead { method, target, version, authority, fields } = head;
        Request { subject, thread, method, target, version, body, authority, headers: fields, mark }
    }
}

/// Formats the request for the log. The method and the target come from the client, so both are escaped.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subject { connection, request, .. } = self.subject;
        let target = without_secrets(&self.target);
        let (method, target) = (Escaped(self.method.as_str()), Escaped(&target));
        write!(f, "{method} {target} (request {request} of connection {connection})")
    }
}

/// Returns the target in a form that may be logged. The value of `token`, which is the secret of Puma's control server,
/// is replaced up to the next `&`. Names are decoded before they are compared, as in [`Request::param`].
fn without_secrets(target: &str) -> Cow<'_, str> {
    let Some((path, query)) = target.split_once('?') else { return target.into() };
    let parts: Vec<_> = query.split('&').map(without_secret).collect();
    format!("{path}?{}", parts.join("&")).into()
}

/// Like [`without_secrets`], for one `&`-separated part. Some clients separate parameters with `;`, so a name may
/// follow a `;` as well.
fn without_secret(part: &str) -> Cow<'_, str> {
    let is_secret =
        |pair: &str| form_urlencoded::parse(pair.as_bytes()).next().is_some_and(|(name, _)| name == "token");
    let mut pairs = part.split(';').scan(0, |next, pair| {
        let at = *next;
        *next += pair.len() + 1;
        Some((at, pair))
    });
    match pairs.find(|(_, pair)| is_secret(pair)).and_then(|(at, _)| Some(at + part[at..].find('=')?)) {
        Some(equals) => format!("{}=…", &part[..equals]).into(),
        None => part.into(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
