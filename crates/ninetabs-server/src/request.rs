//! One request as the app sees it: Rack's `env`, with types.
//!
//! It is whole before the app is called: the body has been read, and nothing
//! here blocks.

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

/// A request that has been read to its last byte.
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
    /// A request that no client sent: for tests of an app, and for servers that read heads by themselves.
    ///
    /// ```
    /// use ninetabs_server::Request;
    ///
    /// let request = Request::builder()
    ///     .method("POST")
    ///     .path("/models?tab=3")
    ///     .header("content-type", "application/json")
    ///     .body(r#"{"name":"nine"}"#)
    ///     .build()
    ///     .unwrap();
    /// assert_eq!(request.path(), "/models");
    /// assert_eq!(request.param("tab").as_deref(), Some("3"));
    /// ```
    pub fn builder() -> RequestBuilder {
        RequestBuilder::default()
    }

    /// Which connection and which request this is, in every record.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// The number of the pool thread that serves it.
    pub fn thread(&self) -> usize {
        self.thread
    }

    /// Its method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The request target as it was sent, query and all.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The version of HTTP that it was written in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its body.
    pub fn body(&self) -> &RequestBody {
        &self.body
    }

    /// The `Last-Event-ID`, with which an EventSource says how far it has come. None: it is absent, or
    /// is no `T`.
    pub fn last_event_id<T: FromStr>(&self) -> Option<T> {
        self.only_header("last-event-id")?.parse().ok()
    }

    /// The target's path, neither decoded nor normalised (as Puma leaves it).
    pub fn path(&self) -> &str {
        let origin_form = match authority::absolute_form(&self.target) {
            // As a proxy sends it: the path begins after the authority.
            Some(AbsoluteForm { authority: Some(_), rest, .. }) => rest,
            _ => &self.target,
        };
        let end = origin_form.bytes().position(|byte| matches!(byte, b'?' | b'#'));
        let path = &origin_form[..end.unwrap_or(origin_form.len())];
        if path.is_empty() { "/" } else { path }
    }

    /// Which host the request is for: the authority of a target in absolute form, else `Host`.
    /// None: HTTP/1.0 without one.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// The value of a query parameter, decoded; the last of several, as in Rack.
    pub fn param(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1.split('#').next()?;
        let values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
        values.last().map(|(_, value)| value.into_owned())
    }

    /// The first value of a header, its name in any case. None: it is absent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.values(name).next()
    }

    /// All values of a header, its name in any case.
    pub fn header_values<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.headers.values(name)
    }

    /// All headers as they were sent, each name with its value.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter()
    }

    /// The value of a header that is no list. None: it is absent, or given several times, so
    /// that two readers may see two values.
    pub fn only_header(&self, name: &str) -> Option<&str> {
        fields::single(self.headers.values(name))
    }

    /// The members of a header that is a list, on one line or on several.
    pub fn header_list<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        fields::members(self.headers.values(name))
    }

    /// Whether a header that is a list of tokens (`Connection`, `Upgrade`) has this one.
    pub fn header_lists(&self, name: &str, token: &str) -> bool {
        fields::has_token(self.headers.values(name), token)
    }

    /// Whether the body is said to be of this media type, parameters aside.
    pub fn is_of_type(&self, media_type: &str) -> bool {
        let said = self.only_header("content-type").map(fields::essence);
        said.is_some_and(|said| said.eq_ignore_ascii_case(media_type))
    }

    /// Whether the client names this media type among those that it accepts.
    pub fn accepts(&self, media_type: &str) -> bool {
        fields::accepts(self.headers.values("accept"), media_type)
    }

    /// Whether the client says that it has what this entity tag names. `tag` is without quotes.
    pub fn has_tag(&self, tag: &str) -> bool {
        let lines: Vec<&str> = self.headers.values("if-none-match").collect();
        fields::matches_tag(lines.iter().copied(), tag)
    }

    /// Models `env["puma.mark_as_io_bound"].call`: for the rest of this request
    /// its thread does not count against the pool, within `max_io_threads`.
    pub fn mark_as_io_bound(&self) {
        match &self.mark {
            Some(Mark::Thread(mark)) => mark.set(),
            Some(Mark::Call(mark)) => mark(),
            None => {}
        }
    }

    /// Whether the connection is to be kept after the answer, as far as the client wishes.
    pub fn keeps_alive(&self) -> bool {
        // `close` wins over `keep-alive` in every version (RFC 9112 9.3).
        let may = !self.header_lists("connection", "close");
        may && (self.version == Version::Http11 || self.header_lists("connection", "keep-alive"))
    }
}

/// Builds a [`Request`]. Without anything said it is `GET /` for `localhost`, on HTTP/1.1.
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
    /// Its method.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = method.into();
        self
    }

    /// Its target: a path, or an absolute address, with its query.
    pub fn path(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// The version of HTTP that it is written in.
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// One more field. Invalid UTF-8 in a value is replaced with U+FFFD.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push_field(name, value.as_ref());
        self
    }

    /// Its body, in memory.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = RequestBody::Memory(body.into());
        self
    }

    /// What the record calls it.
    pub fn subject(mut self, subject: Subject) -> Self {
        self.subject = subject;
        self
    }

    /// The number of the pool thread that serves it.
    pub fn thread(mut self, thread: usize) -> Self {
        self.thread = thread;
        self
    }

    /// What [`Request::mark_as_io_bound`] does.
    pub fn on_io_bound(mut self, mark: impl Fn() + Send + Sync + 'static) -> Self {
        self.mark = Some(Mark::Call(Box::new(mark)));
        self
    }

    /// The request, if the server would serve it: the same rules hold as for one that came over a
    /// connection, except that `Host` may be left out.
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

/// For the log. Method and target are the client's text, so both are escaped.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subject { connection, request, .. } = self.subject;
        let target = without_secrets(&self.target);
        let (method, target) = (Escaped(self.method.as_str()), Escaped(&target));
        write!(f, "{method} {target} (request {request} of connection {connection})")
    }
}

/// The target as a log may show it: the value of `token`, by which Puma's control server is asked, is
/// left out, up to the next `&`. Names are decoded before they are compared, as [`Request::param`] does.
fn without_secrets(target: &str) -> Cow<'_, str> {
    let Some((path, query)) = target.split_once('?') else { return target.into() };
    let parts: Vec<_> = query.split('&').map(without_secret).collect();
    format!("{path}?{}", parts.join("&")).into()
}

/// Some clients separate parameters by `;`, so a name may follow that, too.
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
pub(crate) mod tests {
    use super::*;

    /// A request as a test writes it: no body, no headers, request 1 on thread 1.
    pub fn get(target: &str) -> Request {
        Request {
            subject: Subject { connection: 1, port: 40_001, request: 1 },
            thread: 1,
            method: Method::GET,
            target: target.into(),
            version: Version::Http11,
            body: RequestBody::default(),
            authority: None,
            headers: Fields::default(),
            mark: None,
        }
    }

    #[test]
    fn a_request_that_no_client_sent_has_no_field_that_none_could_send() {
        let built = |name: &str, value: &str| Request::builder().header(name, value).build().map(drop);
        for (name, value) in [("x", ""), ("X-Name", "a\tb é"), ("a_b", "dropped, as from a connection")] {
            assert_eq!(built(name, value), Ok(()), "{name}: {value}");
        }
        let long = "x".repeat(head::MAX_NAME_BYTES + 1);
        for (name, value) in [
            ("", "a"),
            ("a name", "a"),
            ("a:b", "a"),
            ("a\r\nb", "a"),
            ("a", "b\r\nc: d"),
            ("a", "b\r\n\r\n"),
            ("a", "\0"),
            (&long, "a"),
        ] {
            assert!(built(name, value).is_err(), "{name:?}: {value:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown_in_a_log() {
        for (query, expected) in [
            ("a=1&token=s3cret&b=2", "a=1&token=…&b=2"),
            ("a=1;token=s3cret&b=2", "a=1;token=…&b=2"),
            // To param() all of this is the value.
            ("token=s3c;ret=#?&b=2", "token=…&b=2"),
            ("token=;s3cret", "token=…"),
            ("%74oken=s3cret", "%74oken=…"),
            ("tok%65n=s3%63ret&%74%6F%6b%65%6E=s3cret", "tok%65n=…&%74%6F%6b%65%6E=…"),
            ("tab=1&tokens=2&x=token=", "tab=1&tokens=2&x=token="),
            ("token&token=", "token&token=…"),
        ] {
            let shown = format!("{:?}", get(&format!("/stats?{query}")));
            assert_eq!(shown, format!("GET /stats?{expected} (request 1 of connection 1)"));
        }
        assert!(format!("{:?}", get("/token=1")).starts_with("GET /token=1 ("));
    }

    #[test]
    fn the_path_of_every_form_of_target() {
        for (target, path) in [
            ("/", "/"),
            ("/models.json?since=3", "/models.json"),
            ("http://127.0.0.1:9292/up?x=1", "/up"),
            ("http://127.0.0.1:9292", "/"),
            ("http://127.0.0.1:9292?x=/y", "/"),
            ("HTTP://127.0.0.1:9292/up", "/up"),
            ("/redirect?to=http://elsewhere/x", "/redirect"),
            ("/a://b", "/a://b"),
            ("urn:a:b", "urn:a:b"),
            ("*", "*"),
        ] {
            assert_eq!(get(target).path(), path, "{target}");
        }
    }

    #[test]
    fn a_request_in_the_log_steers_no_terminal() {
        let request = get("/models?\u{9b}31mEVIL\u{202e}\r\nname='a'");
        let said = format!("{request:?}");
        let target = "/models?\\u{9b}31mEVIL\\u{202e}\\r\\nname='a'";
        assert_eq!(said, format!("GET {target} (request 1 of connection 1)"));
    }

    #[test]
    fn parameters_are_decoded_and_the_last_wins() {
        assert_eq!(get("/?a=1&a=1%20b&b=3").param("a").as_deref(), Some("1 b"));
        assert_eq!(get("/?a").param("a").as_deref(), Some(""));
        assert_eq!(get("/?b=1").param("a"), None);
        assert_eq!(get("/").param("a"), None);
    }

    #[test]
    fn close_wins_over_keep_alive_in_every_version() {
        for (lines, is_kept_by_11, is_kept_by_10) in [
            (&[][..], true, false),
            (&["keep-alive"], true, true),
            (&["Keep-Alive"], true, true),
            (&["TE, keep-alive"], true, true),
            (&["TE"], true, false),
            (&["close"], false, false),
            (&["TE, Close"], false, false),
            (&["close, keep-alive"], false, false),
            (&["keep-alive, close"], false, false),
            (&["close", "keep-alive"], false, false),
            (&["keep-alive", "close"], false, false),
            (&["keep-alive", "TE", ", ,CLOSE,"], false, false),
            (&["clo, se"], true, false),
            (&["keep-alive-not"], true, false),
        ] {
            for (version, expected) in [(Version::Http11, is_kept_by_11), (Version::Http10, is_kept_by_10)] {
                let mut request = get("/");
                request.version = version;
                lines.iter().for_each(|line| request.headers.push("Connection", line.as_bytes()));
                assert_eq!(request.keeps_alive(), expected, "{version:?} {lines:?}");
            }
        }
    }

    #[test]
    fn a_header_that_is_no_list_and_is_given_twice_has_no_value() {
        let mut request = get("/");
        request.headers.push("Content-Type", b"application/json; charset=utf-8");
        assert!(request.is_of_type("application/json"));
        request.headers.push("content-type", b"application/json");
        assert!(!request.is_of_type("application/json"));
        assert_eq!(request.only_header("content-type"), None);
        assert_eq!(request.header("Content-Type"), Some("application/json; charset=utf-8"));
    }
}
