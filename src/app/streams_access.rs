//! Decides which pages may open streams, or request any other answer that holds a thread or a listener while
//! its client stays connected.
//!
//! A browser lets any page send a request to any address, and only withholds the answer from a page of
//! another origin. A stream costs its server the same whether or not it is read, so a page of another site is
//! refused before the stream holds a thread or a listener. Pages whose origins are listed by `--allow-origin`
//! are accepted. Every answer to such a page names its origin, on every stream and with every status, because
//! an EventSource gives up for good after the first answer that does not.

use super::browser;
use super::origin::Origin;
use http::StatusCode;
use ninetabs_server::{Request, Response};

/// The header fields that a page may send to a stream, in addition to those that do not need a preflight.
const FIELDS: &str = "cache-control, last-event-id";
/// How long a browser may cache the answer to its preflight, in seconds.
const REMEMBERED: &str = "600";

/// The rule, with the origins of `--allow-origin`.
#[derive(Debug, Clone, Default)]
pub struct StreamsAccess {
    allowed: Vec<String>,
}

impl StreamsAccess {
    /// `allowed` has origins as browsers write them, such as `http://127.0.0.1:9292`.
    pub fn new(allowed: Vec<String>) -> Self {
        StreamsAccess { allowed }
    }

    /// Answers a request for a stream with `action`, or refuses it with 403.
    pub fn answer(&self, request: &Request, action: impl FnOnce() -> Response) -> Response {
        let origin = self.allowed_origin(request);
        let answer = if origin.is_none() && is_of_another_site(request) { refusal() } else { action() };
        name_origin(answer, origin)
    }

    /// Answers `OPTIONS` for a stream. A browser sends it before a script's request with additional header
    /// fields.
    pub fn preflight(&self, request: &Request) -> Response {
        let origin = self.allowed_origin(request);
        let asks = request.header("access-control-request-method");
        let answer = match (origin, asks) {
            (None, Some(_)) => refusal(),
            (None, None) if is_of_another_site(request) => refusal(),
            (_, None) => nothing().with_header("allow", "GET, HEAD, OPTIONS"),
            (Some(_), Some(_)) => nothing()
                .with_header("access-control-allow-methods", "GET")
                .with_header("access-control-allow-headers", FIELDS)
                .with_header("access-control-max-age", REMEMBERED),
        };
        name_origin(answer, origin)
    }

    /// The origin of the requesting page, if `--allow-origin` lists it. `None` if the request has two
    /// origins.
    pub fn allowed_origin<'a>(&self, request: &'a Request) -> Option<&'a str> {
        request.only_header("origin").filter(|origin| self.allowed.iter().any(|it| admits(it, origin)))
    }
}

/// Whether an allowed origin, such as `http://127.0.0.1:9292` or `http://*.localhost:9292`, matches this
/// origin. The asterisk matches the names below a host, and not the host itself.
fn admits(allowed: &str, origin: &str) -> bool {
    let Some((scheme, host)) = allowed.split_once("://*.") else { return allowed == origin };
    let below = origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    let labels = below.and_then(|below| below.strip_suffix(host)?.strip_suffix('.'));
    labels.is_some_and(|labels| {
        labels.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
    })
}

/// Names the page's origin in an answer. Otherwise the browser withholds the answer from the page. A shared
/// cache must not reuse the answer for another origin, or for a request without one.
fn name_origin(answer: Response, origin: Option<&str>) -> Response {
    let answer = answer.with_header("vary", "origin");
    match origin {
        Some(origin) => answer.with_header("access-control-allow-origin", origin.to_owned()),
        None => answer,
    }
}

fn refusal() -> Response {
    let text =
        "this page belongs to another site; to let it open streams, give its origin with --allow-origin";
    Response::line(StatusCode::FORBIDDEN, text).with_header("cache-control", "no-store")
}

fn nothing() -> Response {
    Response::bare(StatusCode::NO_CONTENT)
}

/// Whether a browser sent this request for a page of another site.
///
/// If `Sec-Fetch-Site` is present, it decides. Its value `same-site` ignores ports, so the page must also
/// have an address on this server, unless the user follows a link to the stream itself.
///
/// Browsers do not send that field to a server whose name is neither loopback nor https. In that case the
/// page's address in `Origin` or `Referer` decides. A page can hide its address and choose its `Accept`, so a
/// request of a browser with neither field is refused. Our own pages send their address (`Referrer-Policy:
/// same-origin`). `fetch` of Node.js, which an EventSource for Node.js uses, sends other fields of browsers, but not
/// for a page.
fn is_of_another_site(request: &Request) -> bool {
    let is_repeated = |name| request.header_values(name).nth(1).is_some();
    if is_repeated("origin") || is_repeated("sec-fetch-site") {
        // It is unknown which of the values is true.
        return true;
    }
    let (origin, site) = (request.header("origin"), request.header("sec-fetch-site"));
    match (site, origin) {
        (Some("same-origin" | "none"), _) => false,
        (Some("cross-site"), _) => true,
        (_, Some(origin)) => is_foreign(origin, request) && browser::shows_itself(request),
        (Some(_), None) => !is_from_our_page(request) && !is_followed_link(request),
        (None, None) => {
            !is_from_our_page(request) && browser::shows_itself(request) && !is_of_nodes_fetch(request)
        }
    }
}

/// Whether `Referer` has the same host and port.
fn is_from_our_page(request: &Request) -> bool {
    request.header("referer").is_some_and(|page| !is_foreign(page, request))
}

/// Whether the browser opens this address in a tab. The mode alone does not suffice, because loading a frame
/// is a navigation as well.
fn is_followed_link(request: &Request) -> bool {
    request.only_header("sec-fetch-mode") == Some("navigate")
        && request.only_header("sec-fetch-dest") == Some("document")
}

/// Whether `fetch` of Node.js sent this request, which has no `Sec-Fetch-Site`. Browsers send `Sec-Fetch-Mode` only
/// together with `Sec-Fetch-Site`, and a page can neither set nor remove these fields.
fn is_of_nodes_fetch(request: &Request) -> bool {
    request.only_header("sec-fetch-mode").is_some()
}

/// Whether the host or port of an origin, or of a page's address, differs from the request's.
fn is_foreign(address: &str, request: &Request) -> bool {
    let path = address.match_indices('/').nth(2).map_or(address.len(), |(at, _)| at);
    Origin::parse(&address[..path]).is_none_or(|origin| !origin.is_same_host(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_two_origins_or_two_sites_is_of_another_site() {
        let origin = |value| ("Origin", value);
        let site = |value| ("Sec-Fetch-Site", value);
        for (fields, expected) in [
            (&[origin("http://localhost")][..], false),
            (&[origin("http://localhost"), origin("http://localhost")], true),
            (&[origin("http://localhost"), origin("http://evil.test")], true),
            (&[site("none")], false),
            (&[site("none"), site("cross-site")], true),
            (&[site("cross-site"), site("none")], true),
        ] {
            let fields = [&[("Host", "localhost")], fields].concat();
            let request = crate::test_request::with_fields("/fixes/push/stream", &fields);
            assert_eq!(is_of_another_site(&request), expected, "{fields:?}");
        }
        let access = StreamsAccess::new(vec!["http://a.test".to_owned()]);
        for (origins, expected) in [
            (&[origin("http://a.test")][..], Some("http://a.test")),
            (&[origin("http://a.test"), origin("http://evil.test")], None),
        ] {
            let request = crate::test_request::with_fields("/fixes/push/stream", origins);
            assert_eq!(access.allowed_origin(&request), expected, "{origins:?}");
        }
    }

    #[test]
    fn an_asterisk_allows_the_names_below_a_host_and_nothing_else() {
        let below_localhost = |origin| admits("http://*.localhost:9292", origin);
        assert!(below_localhost("http://tab1.localhost:9292"));
        assert!(below_localhost("http://a.b-c.localhost:9292"));
        for other in [
            "http://localhost:9292",
            "http://.localhost:9292",
            "http://tab1.localhost:9293",
            "https://tab1.localhost:9292",
            "http://tab1localhost:9292",
            "http://evil.test:80/.localhost:9292",
            "http://evil.test@.localhost:9292",
            "http://tab1.localhost:9292.evil.test",
        ] {
            assert!(!below_localhost(other), "{other}");
        }
        assert!(admits("http://127.0.0.1:9292", "http://127.0.0.1:9292"));
        assert!(!admits("http://127.0.0.1:9292", "http://127.0.0.1:92920"));
    }
    use crate::test_request::with_fields;

    fn field<'a>(answer: &'a Response, name: &str) -> Vec<&'a str> {
        answer.headers().filter(|(it, _)| *it == name).filter_map(|(_, value)| value.to_str().ok()).collect()
    }

    const HOST: (&str, &str) = ("Host", "localhost:9292");
    const OWN: (&str, &str) = ("Origin", "http://localhost:9292");
    const ALLOWED: (&str, &str) = ("Origin", "http://a.localhost:1");
    const EVIL: (&str, &str) = ("Origin", "http://evil.test");
    const AGENT: (&str, &str) = ("User-Agent", "Mozilla/5.0");
    const CROSS: (&str, &str) = ("Sec-Fetch-Site", "cross-site");
    const SAME_SITE: (&str, &str) = ("Sec-Fetch-Site", "same-site");
    const SAME_ORIGIN: (&str, &str) = ("Sec-Fetch-Site", "same-origin");
    const NAVIGATE: (&str, &str) = ("Sec-Fetch-Mode", "navigate");

    #[test]
    fn a_page_of_another_site_opens_no_stream_unless_its_origin_is_allowed() {
        let access = StreamsAccess::new(vec!["http://a.localhost:1".into()]);
        for (fields, status, named) in [
            (&[][..], 200, false),
            (&[HOST], 200, false),
            (&[HOST, ("Accept", "text/event-stream")], 200, false),
            (&[HOST, ("User-Agent", "curl/8.14.1"), ("Accept", "*/*")], 200, false),
            // A script chooses `Accept`, and hides its address with `no-cors` and `no-referrer`.
            (&[HOST, AGENT, ("Accept", "text/event-stream")], 403, false),
            (&[HOST, ("Accept-Language", "en"), ("Accept", "text/event-stream")], 403, false),
            (&[HOST, AGENT], 403, false),
            // Node.js: `Sec-Fetch-Mode` without `Sec-Fetch-Site`.
            (
                &[HOST, ("User-Agent", "node"), ("Accept-Language", "*"), ("Sec-Fetch-Mode", "cors")],
                200,
                false,
            ),
            (&[HOST, ("User-Agent", "node"), ("Accept-Language", "*")], 403, false),
            (&[HOST, AGENT, ("Sec-Fetch-Dest", "image")], 403, false),
            (&[HOST, AGENT, EVIL, ("Sec-Fetch-Mode", "cors")], 403, false),
            (&[HOST, AGENT, ("Accept", "image/avif,image/*,*/*;q=0.8")], 403, false),
            (&[HOST, ("Sec-Fetch-Site", "none")], 200, false),
            (&[HOST, SAME_ORIGIN], 200, false),
            (&[HOST, OWN, AGENT], 200, false),
            (&[HOST, OWN, SAME_ORIGIN], 200, false),
            (&[HOST, AGENT, ("Referer", "http://localhost:9292/?tab=1")], 200, false),
            (&[HOST, AGENT, ("Referer", "http://localhost:9293/")], 403, false),
            // One site can have several ports.
            (&[HOST, SAME_SITE], 403, false),
            (&[HOST, SAME_SITE, ("Sec-Fetch-Mode", "no-cors")], 403, false),
            (&[HOST, SAME_SITE, ("Referer", "http://localhost:1/")], 403, false),
            (&[HOST, SAME_SITE, ("Referer", "http://localhost:9292/")], 200, false),
            (&[HOST, SAME_SITE, NAVIGATE, ("Sec-Fetch-Dest", "document")], 200, false),
            (&[HOST, SAME_SITE, NAVIGATE, ("Sec-Fetch-Dest", "iframe")], 403, false),
            (&[HOST, CROSS], 403, false),
            (&[HOST, CROSS, EVIL], 403, false),
            (&[HOST, CROSS, ("Origin", "null")], 403, false),
            (&[HOST, CROSS, ("Sec-Fetch-Mode", "no-cors")], 403, false),
            (&[HOST, SAME_SITE, ("Origin", "http://localhost:1")], 403, false),
            (&[HOST, AGENT, EVIL], 403, false),
            (&[HOST, AGENT, ("Origin", "null")], 403, false),
            (&[HOST, AGENT, ("Referer", "http://evil.test/localhost:9292")], 403, false),
            (&[HOST, ALLOWED], 200, true),
            (&[HOST, ALLOWED, CROSS], 200, true),
            (&[HOST, ALLOWED, SAME_SITE, AGENT], 200, true),
            (&[HOST, CROSS, ("Origin", "http://a.localhost:11")], 403, false),
            // A program may send any origin; its answer does not name one.
            (&[HOST, EVIL], 200, false),
        ] {
            let answer = access.answer(&with_fields("/", fields), || Response::status(StatusCode::OK));
            let of = field(&answer, "access-control-allow-origin");
            assert_eq!((answer.status_code().as_u16(), !of.is_empty()), (status, named), "{fields:?}");
            assert!(!named || of == ["http://a.localhost:1"], "{of:?}");
            assert_eq!(field(&answer, "vary"), ["origin"], "{fields:?}");
            assert!(field(&answer, "access-control-allow-credentials").is_empty());
        }
    }

    #[test]
    fn a_refused_request_does_not_reach_its_action() {
        let access = StreamsAccess::default();
        access.answer(&with_fields("/", &[HOST, CROSS]), || panic!("the action was called"));
    }

    #[test]
    fn a_preflight_allows_the_fields_of_a_stream_request_and_nothing_else() {
        let access = StreamsAccess::new(vec!["http://a.localhost:1".into()]);
        let method = ("Access-Control-Request-Method", "GET");
        let answer = access.preflight(&with_fields("/", &[HOST, ALLOWED, method]));
        assert_eq!(answer.status_code(), 204);
        assert_eq!(field(&answer, "access-control-allow-origin"), ["http://a.localhost:1"]);
        assert_eq!(field(&answer, "access-control-allow-methods"), ["GET"]);
        assert_eq!(field(&answer, "access-control-allow-headers"), ["cache-control, last-event-id"]);
        let other = access.preflight(&with_fields("/", &[HOST, EVIL, method]));
        assert_eq!(other.status_code(), 403);
        assert!(other.headers().all(|(name, _)| !name.as_str().starts_with("access-control")));
        let plain = access.preflight(&with_fields("/", &[HOST]));
        assert_eq!((plain.status_code().as_u16(), field(&plain, "allow")), (204, vec!["GET, HEAD, OPTIONS"]));
    }
}
