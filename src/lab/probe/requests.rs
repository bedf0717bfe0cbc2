//! The requests of a run: streams as an `EventSource` requests them, pages as a browser does.

use std::borrow::Cow;

use url::Url;

use crate::lab::http::{ClientRequest, Field, RequestVersion, field, replace_fields};
use crate::lab::probe::plan::ProbePlan;

/// Sent as `User-Agent`.
pub(super) const AGENT: &str = concat!("ninetabs-probe/", env!("CARGO_PKG_VERSION"));

/// The placeholder for the tab's number in a URL, as users write it and as it is percent-encoded.
const TAB: [&str; 3] = ["{tab}", "%7Btab%7D", "%7btab%7d"];

/// Name of the random query parameter that bypasses caches.
const UNCACHED: &str = "ninetabs-probe";

/// How a stream's request differs from the usual one.
#[derive(Debug, Clone, Default)]
pub(super) struct Variant {
    /// `Accept-Encoding`, instead of `identity` or the given one.
    pub(super) encoding: Option<String>,
    /// Sends the other user's cookie.
    pub(super) is_other_user: bool,
    /// Adds a random query parameter.
    pub(super) is_uncached: bool,
    pub(super) is_http10: bool,
}

/// The URL and the request for stream number `tab`.
pub(super) fn stream(plan: &ProbePlan, tab: usize, variant: &Variant) -> (Url, ClientRequest) {
    let mut headers = vec![
        field("Accept", "text/event-stream"),
        field("Cache-Control", "no-cache"),
        field("Accept-Encoding", "identity"),
        field("User-Agent", AGENT),
    ];
    add_given(plan, &mut headers);
    if variant.is_other_user {
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("cookie"));
        headers.extend(plan.other_cookie.iter().map(|cookie| field("Cookie", cookie.as_bytes())));
    }
    if let Some(encoding) = &variant.encoding {
        replace_fields(&mut headers, [("Accept-Encoding", encoding.as_bytes().to_vec())]);
    }
    let version = if variant.is_http10 { RequestVersion::Http10 } else { RequestVersion::Http11 };
    let method = Cow::Owned(plan.method.clone());
    let url = numbered(&plan.url, tab);
    let url = if variant.is_uncached { uncached(&url) } else { url };
    (url, ClientRequest { method, headers, body: plan.body.clone(), version })
}

/// The request for a page, on a keep-alive connection or on one that ends with the response.
pub(super) fn page(plan: &ProbePlan, is_kept: bool) -> ClientRequest {
    let connection = if is_kept { "keep-alive" } else { "close" };
    let mut headers =
        vec![field("Accept", "text/html"), field("User-Agent", AGENT), field("Connection", connection)];
    add_given(plan, &mut headers);
    ClientRequest { headers, ..ClientRequest::default() }
}

fn add_given(plan: &ProbePlan, headers: &mut Vec<Field>) {
    replace_fields(headers, plan.headers.clone());
    if let Some(cookie) = &plan.cookie {
        replace_fields(headers, [("Cookie", cookie.as_bytes().to_vec())]);
    }
}

/// The given `Accept-Encoding`, if it allows a coding other than identity.
pub(super) fn given_encoding(plan: &ProbePlan) -> Option<String> {
    let given = plan.headers.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case("accept-encoding"))?;
    let value = String::from_utf8_lossy(&given.1).into_owned();
    let allows = |coding: &str| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let is_refused = parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        !name.is_empty() && !name.eq_ignore_ascii_case("identity") && !is_refused
    };
    value.split(',').any(allows).then_some(value)
}

/// The URL with the tab's number inserted.
fn numbered(url: &Url, tab: usize) -> Url {
    let mut text = url.to_string();
    for name in TAB {
        text = text.replace(name, &tab.to_string());
    }
    // A number cannot make a URL invalid.
    Url::parse(&text).unwrap_or_else(|_| url.clone())
}

/// The URL with a query parameter that no cache has seen.
pub(super) fn uncached(url: &Url) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().append_pair(UNCACHED, &format!("{:016x}", fastrand::u64(..)));
    url
}

/// Path and query, which are how the output names a page.
pub(super) fn path_of(url: &Url) -> String {
    url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn plan(url: &str) -> ProbePlan {
        let page = Url::parse("http://127.0.0.1:1/").unwrap();
        ProbePlan::new(Url::parse(url).unwrap(), vec![page], SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    fn sent(request: &ClientRequest, name: &str) -> Vec<String> {
        let named = request.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| String::from_utf8(value.clone()).unwrap()).collect()
    }

    #[test]
    fn the_placeholder_is_replaced_with_the_tabs_number() {
        for url in ["http://a.test/s/{tab}?n={tab}", "http://a.test/s/%7Btab%7D?n=%7btab%7d"] {
            let (url, _) = stream(&plan(url), 12, &Variant::default());
            assert_eq!(url.as_str(), "http://a.test/s/12?n=12");
        }
    }

    #[test]
    fn given_headers_replace_those_of_an_event_source_and_the_other_user_has_the_other_cookie() {
        let mut plan = plan("http://a.test/");
        plan.headers =
            vec![("accept".to_owned(), b"*/*".to_vec()), ("cookie".to_owned(), b"given=1".to_vec())];
        let (_, own) = stream(&plan, 1, &Variant::default());
        assert_eq!(
            (sent(&own, "Accept"), sent(&own, "Cookie")),
            (vec!["*/*".into()], vec!["given=1".into()])
        );
        let other = Variant { is_other_user: true, ..Variant::default() };
        assert!(sent(&stream(&plan, 1, &other).1, "Cookie").is_empty());
        plan.cookie = Some("a=1".to_owned());
        plan.other_cookie = Some("b=2".to_owned());
        assert_eq!(sent(&stream(&plan, 1, &Variant::default()).1, "Cookie"), ["a=1"]);
        assert_eq!(sent(&stream(&plan, 1, &other).1, "Cookie"), ["b=2"]);
        assert_eq!(sent(&page(&plan, false), "Cookie"), ["a=1"]);
        let gzip = Variant { encoding: Some("gzip".to_owned()), ..Variant::default() };
        assert_eq!(sent(&stream(&plan, 1, &gzip).1, "Accept-Encoding"), ["gzip"]);
    }

    #[test]
    fn only_a_header_that_allows_a_coding_allows_compression() {
        for (given, allows) in
            [("gzip, br", true), ("identity", false), ("gzip;q=0", false), ("*", true), ("", false)]
        {
            let mut plan = plan("http://a.test/");
            plan.headers = vec![("Accept-Encoding".to_owned(), given.as_bytes().to_vec())];
            assert_eq!(given_encoding(&plan).is_some(), allows, "{given:?}");
        }
    }

    #[test]
    fn an_uncached_url_keeps_its_own_query() {
        let url = uncached(&Url::parse("http://a.test/p?a=b").unwrap());
        assert!(url.as_str().starts_with("http://a.test/p?a=b&ninetabs-probe="));
        assert_ne!(url, uncached(&Url::parse("http://a.test/p?a=b").unwrap()));
    }
}
