//! Distinguishes requests of browsers from those of other programs, by header fields that only browsers send.
//!
//! A page cannot remove these fields from a request that its browser sends. `Origin`, `Referer` and
//! `Sec-Fetch-Site` do not suffice: a browser sends none of the three with an image that has
//! `referrerpolicy=no-referrer`, if the server's name is neither loopback nor https.

use ninetabs_server::Request;

/// Fields that browsers send and programs do not.
const FIELDS: &[&str] =
    &["accept-language", "cookie", "dnt", "priority", "save-data", "upgrade-insecure-requests"];
/// Types that `Accept` lists for a navigation or a style.
const TYPES: &[&str] = &["text/html", "application/xhtml+xml", "text/css"];

/// Whether a field other than `Origin` and `Referer` shows that a browser sent this request. A program can be
/// configured to send those two as well.
pub fn shows_itself(request: &Request) -> bool {
    let in_the_fields = request
        .headers()
        .any(|(name, _)| FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field)) || begins(name, "sec-"));
    in_the_fields || is_its_name(request) || lists_pages_or_images(request)
}

fn is_its_name(request: &Request) -> bool {
    request.header_values("user-agent").any(|agent| {
        let agent = agent.to_ascii_lowercase();
        agent.contains("mozilla/") || agent.contains("opera/")
    })
}

fn lists_pages_or_images(request: &Request) -> bool {
    let entries = request.header_values("accept").flat_map(|value| value.split(','));
    let mut types = entries.map(|entry| entry.split(';').next().unwrap_or_default().trim());
    types.any(|it| TYPES.iter().any(|known| it.eq_ignore_ascii_case(known)) || begins(it, "image/"))
}

fn begins(text: &str, with: &str) -> bool {
    text.get(..with.len()).is_some_and(|front| front.eq_ignore_ascii_case(with))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_request::with_fields;

    #[test]
    fn any_field_of_a_browser_identifies_it_and_programs_send_none() {
        for (fields, is_browser) in [
            (&[][..], false),
            (&[("Host", "localhost")], false),
            (&[("User-Agent", "curl/8.14.1"), ("Accept", "*/*")], false),
            (&[("User-Agent", "Ruby"), ("Accept", "*/*"), ("Accept-Encoding", "gzip;q=1.0")], false),
            (&[("User-Agent", "Python-urllib/3.13"), ("Connection", "close")], false),
            (&[("Origin", "http://a.test"), ("Referer", "http://a.test/")], false),
            (&[("Accept", "text/event-stream")], false),
            (&[("Accept-Language", "")], true),
            (&[("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)")], true),
            (&[("user-agent", "mozilla/4.0")], true),
            (&[("User-Agent", "Opera/9.80")], true),
            (&[("SEC-FETCH-DEST", "image")], true),
            (&[("Sec-GPC", "1")], true),
            (&[("Cookie", "a=b")], true),
            (&[("Upgrade-Insecure-Requests", "1")], true),
            (&[("Accept", "image/avif,image/webp,*/*;q=0.8")], true),
            (&[("Accept", "*/*, TEXT/HTML;q=0.1")], true),
            (&[("Accept", "*/*"), ("Accept", "text/css")], true),
        ] {
            assert_eq!(shows_itself(&with_fields("/", fields)), is_browser, "{fields:?}");
        }
    }
}
