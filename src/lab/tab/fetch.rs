//! Decides what an answer's head means to an EventSource, by the Fetch standard's rules for
//! redirects, credentials and other origins. This module does not use sockets.
//!
//! The tab belongs to a page with the origin of its URL. A [`Fetch`] is one request with its
//! redirects and its repetition after a 401. It determines the additional header fields
//! ([`Fetch::headers`]) and the next step ([`Fetch::judge`]).
//!
//! - An answer from another origin, including a redirect, must have an
//!   `Access-Control-Allow-Origin` with `*` or the page's origin.
//! - The user and password of a URL are sent after a 401, and only to the page's own origin. The
//!   target of a redirect may have its own user and password, unless it is at another origin.
//! - The header fields that a user gave are sent to every origin, except `Authorization` and `Cookie`.
//! - A page that was loaded over https does not read a stream over http, unless the stream is on this
//!   machine (mixed content).

use data_encoding::BASE64;
use percent_encoding::percent_decode_str;
use url::{Host, Origin, Url};

use super::Reason;
use crate::lab::http::{Field, Head, Schemes, address, bad_url, check_url, field, mime};

/// One request, from its first address to its last.
#[derive(Debug)]
pub(super) struct Fetch {
    page: Origin,
    url: Url,
    schemes: Schemes,
    /// Whether the request was redirected to another origin. If so, answers must allow the page's origin.
    is_cross: bool,
    /// Whether one foreign origin redirected the request to another origin. If so, the page's origin is not sent.
    is_tainted: bool,
    /// Whether the user and the password are sent.
    is_authorized: bool,
}

/// The next step after an answer's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Its body is the stream.
    Stream,
    /// Another request is sent to [`Fetch::url`], on a new connection.
    Ask,
    Failed(Reason),
}

impl Fetch {
    /// Creates a request of a page with this origin. `is_authorized` means that the URL's user and
    /// password have been accepted before.
    pub(super) fn new(page: Origin, url: Url, schemes: Schemes, is_authorized: bool) -> Fetch {
        let is_cross = url.origin() != page;
        Fetch { page, url, schemes, is_cross, is_tainted: false, is_authorized }
    }

    /// The URL of the next request.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Whether the URL's user and password are sent with the request.
    pub(super) fn is_authorized(&self) -> bool {
        self.is_authorized
    }

    /// The header fields in addition to the usual ones.
    pub(super) fn headers(&self) -> Vec<Field> {
        let mut headers = Vec::new();
        if self.is_cross {
            headers.push(field("Origin", self.origin()));
        }
        if self.is_authorized {
            headers.push(field("Authorization", authorization(&self.url)));
        }
        headers
    }

    /// Whether a header field that a user gave may be sent to the current URL.
    pub(super) fn may_send(&self, name: &str) -> bool {
        let is_secret = ["authorization", "cookie"].iter().any(|secret| name.eq_ignore_ascii_case(secret));
        !(is_secret && self.is_cross)
    }

    fn origin(&self) -> String {
        if self.is_tainted { "null".to_owned() } else { self.page.ascii_serialization() }
    }

    /// Decides the next step after this head.
    pub(super) fn judge(&mut self, head: &Head) -> Next {
        if self.is_cross && !self.is_allowed_by(head) {
            return Next::Failed(Reason::OtherOrigin { origin: self.url.origin().ascii_serialization() });
        }
        match head.status {
            301 | 302 | 303 | 307 | 308 => self.redirect(head),
            401 if !self.is_cross && has_credentials(&self.url) => self.authorize(head),
            200 => match mime::essence(head) {
                Some(essence) if essence == "text/event-stream" => Next::Stream,
                _ => Next::Failed(Reason::MimeType(mime::spoken(head))),
            },
            status => Next::Failed(Reason::Status(status)),
        }
    }

    fn is_allowed_by(&self, head: &Head) -> bool {
        let values: Vec<&[u8]> = head.values("access-control-allow-origin").collect();
        let allowed = values.join(&b", "[..]);
        allowed == b"*" || allowed == self.origin().as_bytes()
    }

    fn redirect(&mut self, head: &Head) -> Next {
        let location = head.values("location").find(|value| !value.is_empty());
        let Some(location) = location.map(|value| String::from_utf8_lossy(value).into_owned()) else {
            return Next::Failed(Reason::Status(head.status));
        };
        let target = self.url.join(&location).map_err(|error| bad_url(&location, &error));
        let target = match target.and_then(|target| check_url(&target, self.schemes).map(|()| target)) {
            Ok(target) => target,
            Err(error) => {
                return Next::Failed(Reason::Unusable(format!("a redirect has an unusable target: {error}")));
            }
        };
        let (from, to) = (self.url.origin(), target.origin());
        let is_foreign = self.is_cross || to != self.page;
        if is_foreign && has_credentials(&target) {
            let what = "a redirect to another origin has a user or a password, which a browser refuses";
            return Next::Failed(Reason::Unusable(what.to_owned()));
        }
        if is_mixed(&self.page, &target) {
            let what = "a redirect leads from https to http, which a browser refuses";
            return Next::Failed(Reason::Unusable(what.to_owned()));
        }
        self.is_tainted |= to != from && from != self.page;
        self.is_cross = is_foreign;
        self.is_authorized &= credentials(&target) == credentials(&self.url) && to == from;
        self.url = target;
        Next::Ask
    }

    /// Decides the next step after a 401 to a URL with a user or a password.
    fn authorize(&mut self, head: &Head) -> Next {
        let failed = |why: String| Next::Failed(Reason::Unauthorized(why));
        if self.is_authorized {
            return failed("the user and the password of the URL are not accepted".to_owned());
        }
        if percent_decode_str(self.url.username()).any(|byte| byte == b':') {
            return failed("the user in the URL contains a colon, which Basic does not allow".to_owned());
        }
        let schemes = challenges(head);
        // An answer that names no scheme can only mean Basic.
        if !schemes.is_empty() && !schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic")) {
            return failed(format!(
                "the server requires {}, but only Basic is supported",
                schemes.join(" or ")
            ));
        }
        self.is_authorized = true;
        Next::Ask
    }
}

/// Whether the page was loaded over https, and the target would be loaded over a network without TLS.
fn is_mixed(page: &Origin, target: &Url) -> bool {
    let is_secure = matches!(page, Origin::Tuple(scheme, ..) if scheme == "https");
    let is_local = match target.host() {
        Some(Host::Domain(name)) => address::is_local(name),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    is_secure && target.scheme() == "http" && !is_local
}

fn credentials(url: &Url) -> (&str, Option<&str>) {
    (url.username(), url.password())
}

fn has_credentials(url: &Url) -> bool {
    credentials(url) != ("", None)
}

/// The value for `Basic`, with the percent-decoded user and password.
fn authorization(url: &Url) -> Vec<u8> {
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    format!("Basic {}", BASE64.encode(&pair)).into_bytes()
}

/// The names of the schemes that the server offers. A challenge begins with a token that is
/// followed by a blank or by nothing; a parameter has a `=`.
fn challenges(head: &Head) -> Vec<String> {
    let mut schemes = Vec::new();
    for value in head.values("www-authenticate") {
        let value = String::from_utf8_lossy(value);
        for part in outside_quotes(&value).split(',') {
            let mut words = part.split_whitespace();
            if let Some(word) = words.next().filter(|word| !word.contains('=')) {
                // `realm = "x"`, with blanks, is a parameter as well.
                if words.next() != Some("=") {
                    schemes.push(word.to_owned());
                }
            }
        }
    }
    schemes
}

/// The text without its quoted strings.
fn outside_quotes(text: &str) -> String {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let is_outside = |c: &char| match c {
        _ if std::mem::take(&mut is_escaped) => false,
        '\\' if is_quoted => {
            is_escaped = true;
            false
        }
        '"' => {
            is_quoted = !is_quoted;
            false
        }
        _ => !is_quoted,
    };
    text.chars().filter(is_outside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "http://me:se%63ret@a.test/old/x";

    fn fetch(url: &str) -> Fetch {
        let url = Url::parse(url).unwrap();
        Fetch::new(url.origin(), url, Schemes::Http, false)
    }

    fn head(status: u16, fields: &[(&str, &str)]) -> Head {
        let headers = fields.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        Head { status, headers: headers.collect(), minor_version: 1 }
    }

    fn to(target: &str) -> Head {
        head(302, &[("Location", target)])
    }

    fn sent(fetch: &Fetch, name: &str) -> Option<String> {
        let headers = fetch.headers();
        let found = headers.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| String::from_utf8(value.clone()).unwrap())
    }

    const STREAM: (&str, &str) = ("Content-Type", "text/event-stream");

    #[test]
    fn a_redirects_target_is_found_as_a_browser_finds_it() {
        for (target, url) in [
            ("/new", "http://me:se%63ret@a.test/new"),
            ("new?a=b#c", "http://me:se%63ret@a.test/old/new?a=b#c"),
            ("//a.test/new", "http://a.test/new"),
            ("HTTP://A.test:80/new", "http://a.test/new"),
            ("  /new\t", "http://me:se%63ret@a.test/new"),
            ("/n\n\tew", "http://me:se%63ret@a.test/new"),
            ("/ä", "http://me:se%63ret@a.test/%C3%A4"),
            ("http://you:p@a.test/", "http://you:p@a.test/"),
        ] {
            for status in [301, 302, 303, 307, 308] {
                let mut fetch = fetch(HOME);
                let head = Head { status, ..to(target) };
                assert_eq!((fetch.judge(&head), fetch.url().as_str()), (Next::Ask, url), "{target:?}");
            }
        }
    }

    #[test]
    fn a_redirect_without_a_usable_target_fails_for_good() {
        for status in [300, 301, 304, 305, 306] {
            let next = fetch(HOME).judge(&head(status, &[("Location", "")]));
            assert_eq!(next, Next::Failed(Reason::Status(status)));
        }
        for target in [
            "https://a.test/",
            "ftp://a.test/",
            "data:text/event-stream,",
            "http://[::1/",
            "http://a.test:0/",
        ] {
            assert!(matches!(fetch(HOME).judge(&to(target)), Next::Failed(Reason::Unusable(_))), "{target}");
        }
    }

    #[test]
    fn an_answer_from_another_origin_must_allow_the_pages_origin() {
        let other = || {
            let mut fetch = fetch("http://a.test/");
            assert_eq!(fetch.judge(&to("http://b.test/")), Next::Ask);
            fetch
        };
        assert_eq!(sent(&fetch("http://a.test/"), "Origin"), None);
        assert_eq!(sent(&other(), "Origin").as_deref(), Some("http://a.test"));
        for (allowed, is_read) in [
            (None, false),
            (Some("*"), true),
            (Some("http://a.test"), true),
            (Some("http://a.test/"), false),
            (Some("http://b.test"), false),
            (Some("http://a.test, *"), false),
            (Some("null"), false),
        ] {
            let fields: Vec<_> =
                [STREAM].into_iter().chain(allowed.map(|it| ("Access-Control-Allow-Origin", it))).collect();
            let next = other().judge(&head(200, &fields));
            assert_eq!(next == Next::Stream, is_read, "{allowed:?}: {next:?}");
        }
        // The status of an answer that does not allow the page's origin is not reported either.
        assert!(matches!(other().judge(&head(404, &[])), Next::Failed(Reason::OtherOrigin { .. })));
        // If the other origin redirects back, the page's origin is not sent, and answers must still allow the request.
        let back = || (302, [("Location", "http://a.test/"), ("Access-Control-Allow-Origin", "*")]);
        let mut there_and_back = other();
        assert_eq!(there_and_back.judge(&head(back().0, &back().1)), Next::Ask);
        assert_eq!(sent(&there_and_back, "Origin").as_deref(), Some("null"));
        assert!(matches!(there_and_back.judge(&head(200, &[STREAM])), Next::Failed(_)));
        let allowed = head(200, &[STREAM, ("Access-Control-Allow-Origin", "null")]);
        assert_eq!(there_and_back.judge(&allowed), Next::Stream);
    }

    #[test]
    fn user_and_password_are_sent_after_a_401_and_only_to_their_own_origin() {
        let asks = |challenge: &str| head(401, &[("WWW-Authenticate", challenge)]);
        let mut fetch = fetch(HOME);
        assert_eq!(sent(&fetch, "Authorization"), None);
        assert_eq!(fetch.judge(&asks("Basic realm=\"x\"")), Next::Ask);
        assert_eq!(sent(&fetch, "Authorization").as_deref(), Some("Basic bWU6c2VjcmV0"));
        let again = fetch.judge(&asks("Basic realm=\"x\""));
        assert!(matches!(again, Next::Failed(Reason::Unauthorized(why)) if why.contains("not accepted")));
        // They are also sent after a redirect to the same user at the same origin.
        assert_eq!(fetch.judge(&to("/new")), Next::Ask);
        assert!(sent(&fetch, "Authorization").is_some());
        // A target's own user and password are sent only after another 401.
        assert_eq!(fetch.judge(&to("http://you:p%3Aq@a.test/")), Next::Ask);
        assert_eq!(sent(&fetch, "Authorization"), None);
        assert_eq!(fetch.judge(&head(401, &[])), Next::Ask);
        assert_eq!(sent(&fetch, "Authorization").as_deref(), Some("Basic eW91OnA6cQ=="));
        // Another origin does not get credentials, and its URL must not have any.
        assert!(matches!(fetch.judge(&to("http://you:p@b.test/")), Next::Failed(Reason::Unusable(_))));
        assert_eq!(fetch.judge(&to("http://b.test/")), Next::Ask);
        assert_eq!(sent(&fetch, "Authorization"), None);
    }

    #[test]
    fn given_secrets_are_not_sent_to_another_origin_or_after_a_redirect_back() {
        let mut fetch = fetch("http://a.test/");
        assert_eq!(fetch.judge(&to("http://a.test/x")), Next::Ask);
        assert!(fetch.may_send("Authorization") && fetch.may_send("Cookie") && fetch.may_send("X"));
        assert_eq!(fetch.judge(&to("http://b.test/")), Next::Ask);
        assert!(!fetch.may_send("authorization") && !fetch.may_send("COOKIE") && fetch.may_send("X"));
        let back = head(302, &[("Location", "http://a.test/"), ("Access-Control-Allow-Origin", "*")]);
        assert_eq!(fetch.judge(&back), Next::Ask);
        assert!(!fetch.may_send("Authorization"));
    }

    #[test]
    fn a_redirect_may_lead_to_https_but_from_https_only_to_http_of_this_machine() {
        let next = |url: &str, target: &str| {
            let url = Url::parse(url).unwrap();
            let mut fetch = Fetch::new(url.origin(), url, Schemes::HttpOrHttps, false);
            (fetch.judge(&to(target)), sent(&fetch, "Origin"))
        };
        let origin = |text: &str| Some(text.to_owned());
        assert_eq!(next("http://a.test/", "https://a.test/"), (Next::Ask, origin("http://a.test")));
        assert_eq!(next("https://a.test/", "https://a.test:443/x"), (Next::Ask, None));
        for local in ["http://localhost:3000/", "http://x.localhost/", "http://127.0.0.2/", "http://[::1]/"] {
            assert_eq!(next("https://a.test/", local), (Next::Ask, origin("https://a.test")), "{local}");
        }
        let (refused, _) = next("https://a.test/", "http://a.test/");
        assert!(matches!(refused, Next::Failed(Reason::Unusable(why)) if why.contains("from https to http")));
    }

    #[test]
    fn a_401_that_the_url_cannot_answer_fails_for_good_and_says_why() {
        let next = |url: &str, challenges: &[&str]| {
            let fields: Vec<_> = challenges.iter().map(|it| ("WWW-Authenticate", *it)).collect();
            fetch(url).judge(&head(401, &fields))
        };
        assert_eq!(next("http://a.test/", &["Basic realm=x"]), Next::Failed(Reason::Status(401)));
        let digest = next(HOME, &["Digest realm=\"Basic, Basic\", nonce = \"a\\\", b\"", "Bearer"]);
        let says = "the server requires Digest or Bearer, but only Basic is supported";
        assert_eq!(digest, Next::Failed(Reason::Unauthorized(says.to_owned())));
        for challenge in ["basic", "Digest realm=x, BASIC realm=y", "Negotiate, Basic realm=\"x\""] {
            assert_eq!(next(HOME, &[challenge]), Next::Ask, "{challenge}");
        }
        assert!(matches!(next("http://a%3Ab:c@a.test/", &[]), Next::Failed(Reason::Unauthorized(_))));
    }
}
