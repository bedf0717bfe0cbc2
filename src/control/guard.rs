//! The rules for requests to the control server: those that may only read, and those that may give orders.
//!
//! With no token set, an order must meet two conditions. First, no browser has sent it: every field of the
//! request is one that command-line clients send, in the form in which they send it (pumactl sends none).
//! Second, its `Host`, if it has one, is a loopback name: for other names a page can make the browser leave out
//! `Origin`, `Referer` and `Sec-Fetch-Site`. The names of `--allow-host` give access to the app and to the
//! pages of the control server, but not to orders. A token that is set gives programs access to everything, from
//! any host.
//!
//! A browser changes nothing without the token in the control server's own pages. Those pages send it in a header with
//! each order; other pages can neither read the token nor send the header. A browser may read if it proves the origin
//! of the request: one of the control server's own pages (`Origin`, `Sec-Fetch-Site`, the page's token, or a `Referer`
//! of the same address, which other pages cannot send), or an address that the user typed (`Sec-Fetch-Site: none`). A
//! link or a bookmark may lead to the pages, which refuse to be framed.
//!
//! In every case `Host` must be an allowed name: a page whose own name resolves to this address sends that
//! name.

use url::form_urlencoded;

use super::token::Token;
use crate::app::browser;
use crate::app::content_security_policy::Nonce;
use crate::app::host_authorization::HostAuthorization;
use crate::app::origin::{Origin, Said};
use http::StatusCode;
use ninetabs_server::{Request, Response};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    ToLook,
    /// To read one of the control server's pages, to which a link may lead.
    ForPage,
    /// The same, for a page whose policy allows a page of another address to show it in a frame.
    ForFramedPage,
    ToChange,
}

/// Lets a request pass, or answers 403.
pub struct Guard {
    hosts: HostAuthorization,
    token: Option<Token>,
    page_token: Token,
}

/// The header in which the control server's own pages send their token.
const TOKEN_HEADER: &str = "x-ninetabs-token";

impl Guard {
    /// Creates a guard for these hosts and this token. Without a token, a random one is drawn for the control server's
    /// own pages.
    pub fn new(hosts: HostAuthorization, token: Option<Token>) -> Result<Self, getrandom::Error> {
        let page_token = match &token {
            Some(token) => token.clone(),
            None => Token::drawn(&Nonce::draw()?),
        };
        Ok(Guard { hosts, token, page_token })
    }

    /// The token in the control server's own pages.
    pub(super) fn page_token(&self) -> &str {
        self.page_token.reveal()
    }

    /// The query that the address of a page needs.
    pub(super) fn query(&self) -> String {
        self.token.as_ref().map(|token| format!("?token={}", token.reveal())).unwrap_or_default()
    }

    /// Lets the request pass, or answers 403.
    pub(super) fn check(&self, request: &Request, asks: Asks) -> Result<(), Response> {
        self.hosts.check(request)?;
        if self.may(request, asks) {
            return Ok(());
        }
        Err(match &self.token {
            // Puma's text, without a newline.
            Some(_) => Response::new(StatusCode::FORBIDDEN, "text/plain", "Invalid auth token"),
            None => Response::line(StatusCode::FORBIDDEN, &self.why(request, asks)),
        })
    }

    /// The origin of the requesting page, if the app on this port served that page. `None` if a token is set, since the
    /// app's pages do not have it.
    pub(super) fn page_of_app<'a>(&self, request: &'a Request, port: u16) -> Option<&'a str> {
        let said = request.only_header("origin").filter(|_| self.token.is_none())?;
        let is_ours = self.hosts.check(request).is_ok() && self.hosts.has_at(&Origin::parse(said)?, port);
        is_ours.then_some(said)
    }

    fn may(&self, request: &Request, asks: Asks) -> bool {
        let brings = |token: &Token| request.header(TOKEN_HEADER).is_some_and(|said| token.is(said));
        let is_of_our_page = || brings(&self.page_token) || has_in_query(request, &self.page_token);
        match (Sender::of(request), &self.token, asks) {
            (Sender::Browser, None, Asks::ToChange) if !names_loopback(request) => false,
            (Sender::Browser, _, Asks::ToChange) => is_ours(request) && brings(&self.page_token),
            (_, Some(_), _) => is_of_our_page(),
            (Sender::Program, None, Asks::ToChange) => names_loopback(request),
            (Sender::Unknown, None, Asks::ToChange) => false,
            (Sender::Program | Sender::Unknown, None, _) => true,
            (Sender::Browser, None, Asks::ToLook) => {
                let is_of_our_page = || is_of_our_page() || is_referred_by_us(request);
                is_typed(request) || is_ours(request) || (has_no_origin(request) && is_of_our_page())
            }
            (Sender::Browser, None, Asks::ForPage) => {
                is_typed(request) || is_ours(request) || is_followed(request)
            }
            (Sender::Browser, None, Asks::ForFramedPage) => {
                let is_for_a_page = is_typed(request) || is_ours(request) || is_followed(request);
                is_for_a_page || is_framed(request)
            }
        }
    }

    /// Why a request is refused if no token is set, and what would be accepted.
    fn why(&self, request: &Request, asks: Asks) -> String {
        const SET_TOKEN: &str = "or start the server with --control-token";
        let field = odd_field(request);
        if asks != Asks::ToChange {
            return format!(
                "refused: the field {field} shows that a browser sent this request, and no field shows that a page of this server did; open the address itself"
            );
        }
        if !names_loopback(request) {
            return format!(
                "refused: an order without a token needs a loopback name, such as localhost, as Host; use such a name, {SET_TOKEN}"
            );
        }
        match Sender::of(request) {
            Sender::Browser if is_ours(request) => {
                format!(
                    "refused: {TOKEN_HEADER} is not the token of this server's pages; load the page again"
                )
            }
            Sender::Browser => {
                format!(
                    "refused: the field {field} shows that a browser sent this order, and browsers may give orders only on this server's own pages; leave the field out"
                )
            }
            _ => format!(
                "refused: the field {field} is not one that command-line clients send; leave the field out, {SET_TOKEN}"
            ),
        }
    }
}

/// The field that command-line clients do not send.
fn odd_field(request: &Request) -> &str {
    let odd = request.headers().map(|(name, _)| name).find(|name| !is_of_programs(name));
    odd.unwrap_or(if accepts_as_programs(request) { "User-Agent" } else { "Accept" })
}

/// The sender of a request, judged by its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// Some field shows that a browser has sent it.
    Browser,
    /// Each field is one that command-line clients send.
    Program,
    /// Neither.
    Unknown,
}

/// The fields that command-line clients send: curl, wget, `Net::HTTP`, Java's `HttpClient` and similar ones.
/// pumactl sends none.
///
/// None of them proves that a program sent the request: browsers send most of them as well. Browsers are recognized by
/// the fields of [`browser`]: each of their requests has at least one of these. `authorization`, `if-match`,
/// `if-none-match`, `upgrade` and `http2-settings` are also safe for another reason: a page of another site cannot add
/// any of them without a preflight, which is refused. Proxies add other fields (`X-Forwarded-For`, `Via`,
/// `X-Request-Id`): their clients may be on another host, so these fields are not listed.
const OF_PROGRAMS: &[&str] = &[
    "host",
    "user-agent",
    "accept",
    "accept-encoding",
    "authorization",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "http2-settings",
    "if-match",
    "if-none-match",
    "pragma",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
    TOKEN_HEADER,
];
/// The types that command-line clients accept.
const ACCEPTED_BY_PROGRAMS: &[&str] = &["*/*", "application/json", "text/plain"];

impl Sender {
    fn of(request: &Request) -> Sender {
        let said = |name| request.header(name).is_some();
        if said("origin") || said("referer") || browser::shows_itself(request) {
            return Sender::Browser;
        }
        let is_program =
            request.headers().all(|(name, _)| is_of_programs(name)) && accepts_as_programs(request);
        if is_program { Sender::Program } else { Sender::Unknown }
    }
}

fn is_of_programs(name: &str) -> bool {
    OF_PROGRAMS.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn accepts_as_programs(request: &Request) -> bool {
    let accepted = request.header_values("accept").flat_map(|value| value.split(','));
    let mut types = accepted.map(|entry| entry.split(';').next().unwrap_or_default().trim());
    types.all(|it| ACCEPTED_BY_PROGRAMS.contains(&it))
}

/// Whether the query has this token. As in Puma, the token is one parameter of the query, split at `&` and `;`,
/// undecoded. It may also be encoded as in a form, as the script of a page writes it.
fn has_in_query(request: &Request, token: &Token) -> bool {
    let query = request.target().split_once('?').map_or("", |(_, query)| query);
    let in_a_form: String = form_urlencoded::byte_serialize(token.reveal().as_bytes()).collect();
    query.split(['&', ';']).filter_map(|parameter| parameter.strip_prefix("token=")).any(|said| {
        token.is(said) || constant_time_eq::constant_time_eq(said.as_bytes(), in_a_form.as_bytes())
    })
}

/// Whether the request names a loopback host, or no host, as pumactl does.
fn names_loopback(request: &Request) -> bool {
    request.authority().is_none_or(|authority| authority.host.is_local())
}

fn has_no_origin(request: &Request) -> bool {
    request.header("origin").is_none()
}

fn is_typed(request: &Request) -> bool {
    has_no_origin(request) && request.header("sec-fetch-site") == Some("none")
}

/// Whether the browser reports that a page of the same address sent the request.
fn is_ours(request: &Request) -> bool {
    let site = request.header("sec-fetch-site");
    match Origin::of(request) {
        Said::Of(origin) => {
            matches!(site, None | Some("same-origin")) && origin.is_http() && origin.is_same_host(request)
        }
        Said::Nothing => site == Some("same-origin"),
        Said::Foreign => false,
    }
}

/// Whether `Referer` is a page of the same host and port. A page can shorten its own `Referer` or leave it out, but
/// cannot send that of another page. The control server's pages send it: after a restart their token is outdated.
fn is_referred_by_us(request: &Request) -> bool {
    let referer = request.only_header("referer").and_then(|referer| referer.split_once("://"));
    referer.is_some_and(|(scheme, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let origin = Origin::parse(&format!("{scheme}://{authority}"));
        origin.is_some_and(|origin| origin.is_http() && origin.is_same_host(request))
    })
}

/// Whether the user followed a link or, for a name without `Sec-Fetch-Site`, opened the page in any way. The page
/// with the link cannot read the answer.
fn is_followed(request: &Request) -> bool {
    let says = |name, value| request.header(name) == Some(value);
    let is_navigation = says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document");
    let is_unsaid = request.header("sec-fetch-site").is_none() && says("upgrade-insecure-requests", "1");
    has_no_origin(request) && (is_navigation || is_unsaid)
}

/// Whether the browser opens the page in a frame.
fn is_framed(request: &Request) -> bool {
    let says = |name, value| request.header(name) == Some(value);
    has_no_origin(request) && says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "iframe")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_request::with_fields;

    const BROWSER: (&str, &str) = ("User-Agent", "Mozilla/5.0");
    const LANGUAGE: (&str, &str) = ("Accept-Language", "en");
    const NAME: (&str, &str) = ("Host", "ninetabs.test:9293");
    const LOCAL: (&str, &str) = ("Host", "tab1.localhost:9293");

    fn guard(token: Option<&str>) -> Guard {
        let token = token.map(|token| Token::new(token).unwrap());
        Guard::new(HostAuthorization::new(vec!["ninetabs.test".into()]), token).unwrap()
    }

    fn may(guard: &Guard, target: &str, fields: &[(&str, &str)]) -> [bool; 3] {
        let request = with_fields(target, fields);
        [Asks::ForPage, Asks::ToLook, Asks::ToChange].map(|asks| guard.check(&request, asks).is_ok())
    }

    #[test]
    fn an_order_without_a_token_needs_a_program_and_a_loopback_name() {
        let guard = guard(None);
        const ALL: [bool; 3] = [true, true, true];
        const LOOKS: [bool; 3] = [true, true, false];
        const PAGE: [bool; 3] = [true, false, false];
        const NONE: [bool; 3] = [false, false, false];
        for (fields, wanted) in [
            // pumactl, curl, Ruby, wget.
            (&[][..], ALL),
            (&[LOCAL], ALL),
            (&[LOCAL, ("User-Agent", "curl/8.14.1"), ("Accept", "*/*")], ALL),
            (&[LOCAL, ("Accept-Encoding", "gzip;q=1.0,deflate"), ("User-Agent", "Ruby")], ALL),
            (&[("Host", "[::1]:9293"), ("Accept", "*/*"), ("Connection", "Keep-Alive")], ALL),
            (&[NAME, ("User-Agent", "curl/8.14.1"), ("Accept", "*/*")], LOOKS),
            (&[LOCAL, ("X-Forwarded-For", "203.0.113.7")], LOOKS),
            (&[LOCAL, ("X-Request-Id", "1")], LOOKS),
            (&[LOCAL, ("Accept", "text/event-stream")], LOOKS),
            // Java's HttpClient, and fields that clients add for caching, ranges or passwords.
            (
                &[
                    LOCAL,
                    ("Connection", "Upgrade, HTTP2-Settings"),
                    ("Upgrade", "h2c"),
                    ("HTTP2-Settings", "AA"),
                ],
                ALL,
            ),
            (&[LOCAL, ("Cache-Control", "no-cache"), ("Pragma", "no-cache")], ALL),
            (&[LOCAL, ("Range", "bytes=0-"), ("If-None-Match", "*"), ("Authorization", "Basic eDp5")], ALL),
            (&[LOCAL, BROWSER, ("Range", "bytes=0-")], NONE),
            (&[NAME, ("Authorization", "Basic eDp5")], LOOKS),
            // Requests for a page's image, script, style sheet, video and frame, its no-cors requests and its beacons,
            // sent to a name that gets no Sec-Fetch field. The last rows are from a browser that never sends one.
            (&[NAME, BROWSER, LANGUAGE, ("Accept", "image/avif,image/webp,*/*;q=0.8")], NONE),
            (&[NAME, BROWSER, LANGUAGE, ("Accept", "*/*")], NONE),
            (&[LOCAL, BROWSER, LANGUAGE, ("Accept", "*/*")], NONE),
            (&[LOCAL, BROWSER], NONE),
            (&[LOCAL, LANGUAGE], NONE),
            (&[LOCAL, ("Accept", "text/css,*/*;q=0.1")], NONE),
            (&[LOCAL, ("Cookie", "a=b")], NONE),
            (&[LOCAL, ("Sec-Purpose", "prefetch")], NONE),
            (&[LOCAL, ("Referer", "http://evil.test/")], NONE),
            (&[LOCAL, ("Origin", "null")], NONE),
            (&[NAME, BROWSER, LANGUAGE, ("Upgrade-Insecure-Requests", "1"), ("Accept", "text/html")], PAGE),
            (&[LOCAL, BROWSER, ("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")], LOOKS),
            (&[LOCAL, BROWSER, ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")], NONE),
            // A page of another site, port or scheme, and finally one of this same address.
            (&[NAME, BROWSER, ("Referer", "http://evil.test/http://ninetabs.test:9293/")], NONE),
            (&[NAME, BROWSER, ("Referer", "http://ninetabs.test:9293@evil.test/")], NONE),
            (&[NAME, BROWSER, ("Referer", "http://ninetabs.test:9292/")], NONE),
            (&[NAME, BROWSER, ("Referer", "https://ninetabs.test:9293/")], NONE),
            (&[NAME, BROWSER, ("Referer", "http://ninetabs.test:9293/wall?tabs=9")], [false, true, false]),
            (&[NAME, BROWSER, ("Referer", "http://ninetabs.test:9293/"), ("Origin", "null")], NONE),
            (&[("Host", "evil.test")], NONE),
        ] {
            assert_eq!(may(&guard, "/halt", fields), wanted, "{fields:?}");
        }
    }

    #[test]
    fn a_refusal_without_a_token_names_the_field_and_the_remedy() {
        let guard = guard(None);
        for (fields, asks, words) in [
            (&[LOCAL, ("X-Request-Id", "1")][..], Asks::ToChange, ["X-Request-Id", "--control-token"]),
            (&[LOCAL, LANGUAGE], Asks::ToChange, ["Accept-Language", "leave the field out"]),
            (&[LOCAL, BROWSER], Asks::ToChange, ["User-Agent", "leave the field out"]),
            (&[LOCAL, ("Accept", "text/event-stream")], Asks::ToChange, ["Accept ", "--control-token"]),
            (
                &[LOCAL, ("Origin", "http://tab1.localhost:9293")],
                Asks::ToChange,
                [TOKEN_HEADER, "load the page"],
            ),
            (&[NAME], Asks::ToChange, ["as Host", "--control-token"]),
            (&[NAME, BROWSER, LANGUAGE], Asks::ToLook, ["Accept-Language", "open the address"]),
        ] {
            let refusal = guard.check(&with_fields("/reap", fields), asks).unwrap_err();
            let status = refusal.status_code();
            let text = refusal.into_bytes().unwrap();
            let text = String::from_utf8(text).unwrap();
            assert_eq!((status.as_u16(), text.lines().count()), (403, 1), "{text}");
            assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text:?}");
        }
    }

    #[test]
    fn our_own_page_gives_orders_and_may_listen_with_its_token() {
        let guard = guard(None);
        let token = guard.page_token().to_owned();
        let brings = (TOKEN_HEADER, token.as_str());
        let origin = ("Origin", "http://tab1.localhost:9293");
        assert_eq!(may(&guard, "/reap", &[LOCAL, BROWSER, origin, brings]), [true, true, true]);
        assert_eq!(
            may(&guard, "/reap", &[LOCAL, BROWSER, origin, (TOKEN_HEADER, "other")]),
            [true, true, false]
        );
        let events = format!("/events?token={token}");
        assert_eq!(may(&guard, &events, &[NAME, BROWSER, LANGUAGE]), [false, true, false]);
        assert_eq!(may(&guard, &events, &[NAME, BROWSER, ("Origin", "http://evil.test")]), [false; 3]);
        // No token was set, and the name is not a loopback name.
        let origin = ("Origin", "http://ninetabs.test:9293");
        assert_eq!(may(&guard, "/reap", &[NAME, BROWSER, origin, brings]), [true, true, false]);
    }

    #[test]
    fn a_token_gives_programs_access_to_everything_from_any_allowed_host() {
        let guard = guard(Some("s3cret"));
        let (with, without) = ("/halt?token=s3cret", "/halt?token=s3cre");
        for fields in [&[][..], &[LOCAL], &[NAME], &[NAME, ("X-Forwarded-For", "203.0.113.7")]] {
            assert_eq!(may(&guard, with, fields), [true; 3], "{fields:?}");
            assert_eq!(may(&guard, without, fields), [false; 3], "{fields:?}");
        }
        // A browser that opens the address with the token may read.
        assert_eq!(may(&guard, with, &[NAME, BROWSER]), [true, true, false]);
        let brings = (TOKEN_HEADER, "s3cret");
        let origin = ("Origin", "http://ninetabs.test:9293");
        assert_eq!(may(&guard, "/halt", &[NAME, BROWSER, origin, brings]), [true; 3]);
        assert_eq!(may(&guard, with, &[("Host", "evil.test")]), [false; 3]);
    }
}
