//! One request as the app sees it: Rack's `env`, with types.
//!
//! It is whole before the app is called: the body has been read, and nothing
//! here blocks.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use url::form_urlencoded;

use super::body::RequestBody;
use super::fields::Fields;
use crate::escape::Escaped;
use crate::timeline::Subject;

/// The version a request was written in; it decides how an answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// A request that has been read to its last byte.
pub struct Request {
    /// Which connection and which request this is, in every record.
    pub subject: Subject,
    /// The number of the pool thread that serves it.
    pub thread: usize,
    pub method: Cow<'static, str>,
    /// The request target as it was sent, query and all.
    pub target: Arc<str>,
    pub version: Version,
    pub body: RequestBody,
    pub(super) headers: Fields,
    pub(super) mark: Box<dyn Fn() + Send + Sync>,
}

impl Request {
    /// The target's path, neither decoded nor normalised (as Puma leaves it).
    pub fn path(&self) -> &str {
        let origin_form = match self.target.split_once("://") {
            // The absolute form, as a proxy sends it: the path begins after the authority.
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
                rest.find(['/', '?']).map_or("/", |at| &rest[at..])
            }
            _ => &self.target,
        };
        let path = origin_form.split(['?', '#']).next().unwrap_or_default();
        if path.is_empty() { "/" } else { path }
    }

    /// The first value of a query parameter, decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1.split('#').next()?;
        form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The first value of a header, its name in any case.
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

    /// Whether a list in this header (`Connection`, `Accept`) has this entry, parameters aside.
    pub fn header_lists(&self, name: &str, entry: &str) -> bool {
        self.headers
            .values(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.split(';').next().is_some_and(|word| word.trim().eq_ignore_ascii_case(entry)))
    }

    /// Models `env["puma.mark_as_io_bound"].call`: for the rest of this request
    /// its thread does not count against the pool, within `max_io_threads`.
    pub fn mark_as_io_bound(&self) {
        (self.mark)();
    }

    /// Whether the connection is to be kept after the answer, as far as the client wishes.
    pub fn keeps_alive(&self) -> bool {
        match self.version {
            Version::Http11 => !self.header_lists("connection", "close"),
            Version::Http10 => self.header_lists("connection", "keep-alive"),
        }
    }
}

/// For the log. Method and target are the client's text, so both are escaped.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subject { connection, request, .. } = self.subject;
        let (method, target) = (Escaped(&self.method), Escaped(&self.target));
        write!(f, "{method} {target} (request {request} of connection {connection})")
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
            method: "GET".into(),
            target: target.into(),
            version: Version::Http11,
            body: RequestBody::default(),
            headers: Fields::default(),
            mark: Box::new(|| {}),
        }
    }

    /// The same with these headers.
    pub fn with_fields(target: &str, fields: &[(&str, &str)]) -> Request {
        let mut request = get(target);
        for (name, value) in fields {
            request.headers.push(name, value.as_bytes());
        }
        request
    }

    #[test]
    fn the_path_of_every_form_of_target() {
        for (target, path) in [
            ("/", "/"),
            ("/models.json?since=3", "/models.json"),
            ("http://127.0.0.1:9292/up?x=1", "/up"),
            ("http://127.0.0.1:9292", "/"),
            ("http://127.0.0.1:9292?x=/y", "/"),
            ("/redirect?to=http://elsewhere/x", "/redirect"),
            ("*", "*"),
        ] {
            assert_eq!(get(target).path(), path, "{target}");
        }
    }

    #[test]
    fn a_request_in_the_log_steers_no_terminal() {
        let mut request = get("/models?\u{9b}31mEVIL\u{202e}\r\nname='a'");
        request.method = "GE\u{1b}T".into();
        let said = format!("{request:?}");
        let target = "/models?\\u{9b}31mEVIL\\u{202e}\\r\\nname='a'";
        assert_eq!(said, format!("GE\\u{{1b}}T {target} (request 1 of connection 1)"));
    }

    #[test]
    fn parameters_are_decoded_and_the_first_wins() {
        assert_eq!(get("/?a=1%20b&a=2").param("a").as_deref(), Some("1 b"));
        assert_eq!(get("/?a").param("a").as_deref(), Some(""));
        assert_eq!(get("/?b=1").param("a"), None);
        assert_eq!(get("/").param("a"), None);
    }

    #[test]
    fn lists_are_read_entry_by_entry() {
        let mut request = get("/");
        request.headers.push("Connection", b"TE, Close");
        assert!(request.header_lists("connection", "close") && !request.keeps_alive());
        assert!(!request.header_lists("connection", "clo"));
        request.headers.push("Accept", b"text/html;q=0.9, */*");
        assert!(request.header_lists("accept", "text/html"));
    }
}
