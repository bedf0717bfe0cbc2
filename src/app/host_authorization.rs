//! Models ActionDispatch::HostAuthorization, and the check of a form's origin.
//!
//! Another site can point its own name at 127.0.0.1, and its page can then send requests to this server as
//! if to its own (DNS rebinding). But such a request carries the site's name in `Host`, not ours. Hosts are
//! therefore checked by name: loopback addresses, `localhost` and all names below it are always allowed, and
//! others if `--allow-host` lists them.

use std::net::IpAddr;

use super::origin::{Origin, Said};
use http::StatusCode;
use ninetabs_server::{Authority, Host, Request, Response};

/// The hosts whose requests are answered.
#[derive(Debug, Clone, Default)]
pub struct HostAuthorization {
    allowed: Vec<Pattern>,
}

/// The hosts that one `--allow-host` allows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Is(Host),
    /// All names below this domain, which begins with a dot.
    Below(String),
}

impl Pattern {
    /// `None` if no request can name such a host.
    fn parse(text: &str) -> Option<Pattern> {
        if let Some(domain) = text.strip_prefix('.') {
            let is_name = matches!(Host::parse(domain), Some(Host::Name(_)));
            return is_name.then(|| Pattern::Below(text.to_ascii_lowercase()));
        }
        // An IPv6 address may be given without brackets.
        let address = text.parse::<IpAddr>().ok().map(Host::Address);
        address.or_else(|| Host::parse(text)).map(Pattern::Is)
    }

    fn allows(&self, host: &Host) -> bool {
        match self {
            Pattern::Is(allowed) => host == allowed,
            Pattern::Below(domain) => host.is_below(domain),
        }
    }
}

impl HostAuthorization {
    /// Whether this text allows any host that a request can name. A host name in a request cannot contain an
    /// asterisk.
    pub fn can_allow(text: &str) -> bool {
        !text.contains('*') && Pattern::parse(text).is_some()
    }

    /// Allows these hosts in addition to the local ones. A leading dot allows all names below a domain.
    pub fn new(allowed: Vec<String>) -> Self {
        HostAuthorization { allowed: allowed.iter().filter_map(|text| Pattern::parse(text)).collect() }
    }

    /// Refuses a request for a host that is not ours, with 403. A request without a host does not come from
    /// a browser, and is accepted.
    pub fn check(&self, request: &Request) -> Result<(), Response> {
        match request.authority() {
            Some(authority) if !self.allows(&authority.host) => {
                Err(Response::line(StatusCode::FORBIDDEN, "Blocked host; allow it with --allow-host"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a request that a form or a script of another origin sent, with 403.
    pub fn check_origin(&self, request: &Request) -> Result<(), Response> {
        let foreign = match Origin::of(request) {
            Said::Of(origin) => !origin.is_same_host(request),
            Said::Foreign => true,
            Said::Nothing => request.header("sec-fetch-site") == Some("cross-site"),
        };
        if foreign { Err(Response::line(StatusCode::FORBIDDEN, "Blocked origin")) } else { Ok(()) }
    }

    /// Whether this origin is an http server on this port, under an allowed name.
    pub fn has_at(&self, origin: &Origin, port: u16) -> bool {
        let Authority { host, port: named } = origin.authority();
        origin.is_http() && named.unwrap_or(80) == port && self.allows(host)
    }

    /// The same hosts as sources of a Content-Security-Policy, on any port. A policy cannot name an IPv6
    /// address, or a host with characters other than letters, digits, hyphens and dots; such hosts are left
    /// out.
    pub fn sources(&self) -> Vec<String> {
        let local = ["127.0.0.1", "localhost", "*.localhost"].map(str::to_owned);
        let allowed = self.allowed.iter().map(|pattern| match pattern {
            Pattern::Is(host) => host.to_string(),
            Pattern::Below(domain) => format!("*{domain}"),
        });
        let is_known = |host: &String| {
            let name = host.strip_prefix("*.").unwrap_or(host);
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        };
        local.into_iter().chain(allowed.filter(is_known)).map(|host| format!("http://{host}:*")).collect()
    }

    fn allows(&self, host: &Host) -> bool {
        host.is_local() || self.allowed.iter().any(|pattern| pattern.allows(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninetabs_server::head::{self, Parsed};

    #[test]
    fn only_hosts_that_a_policy_can_name_become_sources() {
        let odd = ["", "a b.com", "a;script-src *", "[::1]", "a_b.com"];
        let allowed = ["Example.com", ".test"].iter().chain(&odd).map(|host| (*host).to_owned());
        assert_eq!(
            HostAuthorization::new(allowed.collect()).sources(),
            [
                "http://127.0.0.1:*",
                "http://localhost:*",
                "http://*.localhost:*",
                "http://example.com:*",
                "http://*.test:*"
            ]
        );
    }

    /// The status of the answer to a request with these fields: 200, or that of the refusal.
    fn status(hosts: &HostAuthorization, target: &str, version: &str, fields: &str) -> u16 {
        match head::parse(format!("POST {target} {version}\r\n{fields}\r\n").as_bytes(), 10_000) {
            Parsed::Whole(head, _) => {
                let request = Request::builder().path(&*head.target).version(head.version);
                let request = head.fields.iter().fold(request, |it, (name, value)| it.header(name, value));
                let request = request.build().unwrap();
                let checked = hosts.check(&request).and_then(|()| hosts.check_origin(&request));
                checked.map_or_else(|refusal| refusal.status_code().as_u16(), |()| 200)
            }
            Parsed::Refused(refusal) => refusal.status().as_u16(),
            Parsed::NotYet => panic!("{fields:?} is not a complete request"),
        }
    }

    /// Each host is tried in both places where a request can name it, and with both versions of HTTP.
    #[test]
    fn hosts_are_allowed_by_their_parsed_form() {
        let allowed = ["Example.com", ".Test", "10.0.0.9", "2001:DB8::1", "not a host"];
        let hosts = HostAuthorization::new(allowed.map(str::to_owned).to_vec());
        for (host, expected) in [
            ("127.0.0.1", 200),
            ("127.0.0.1:9292", 200),
            ("127.9.9.9:1", 200),
            ("localhost", 200),
            ("LOCALHOST:80", 200),
            ("localhost:", 200),
            ("tab1.localhost:9292", 200),
            ("[::1]:9292", 200),
            ("[0:0::1]", 200),
            ("example.com:9292", 200),
            ("EXAMPLE.com", 200),
            ("a.test", 200),
            ("10.0.0.9:80", 200),
            ("[2001:db8:0::1]", 200),
            // Well-formed, but not ours.
            ("evil.com", 403),
            ("localhost.evil.com", 403),
            ("evillocalhost", 403),
            (".localhost", 403),
            ("127.0.0.1.evil.com", 403),
            ("127.1", 403),
            ("0x7f000001", 403),
            ("10.0.0.1", 403),
            ("a.example.com", 403),
            ("test", 403),
            (".test", 403),
            ("[::2]", 403),
            ("%6cocalhost", 403),
            ("localhost,evil.com", 403),
            // Malformed: the parser refuses the request before any check of its host.
            ("127.0.0.1:80x", 400),
            ("127.0.0.1:9292:9292", 400),
            ("localhost:65536", 400),
            ("user@localhost", 400),
            ("localhost@evil.com", 400),
            ("[localhost]", 400),
            ("[::1", 400),
            ("::1", 400),
            ("[::1%25lo]", 400),
            ("localhost, evil.com", 400),
            ("localhost%", 400),
            (":9292", 400),
        ] {
            for version in ["HTTP/1.1", "HTTP/1.0"] {
                let of_field = status(&hosts, "/models", version, &format!("Host: {host}\r\n"));
                assert_eq!(of_field, expected, "{version} Host: {host}");
                // The target's authority takes precedence over Host.
                for field in ["localhost", "evil.com"] {
                    if !host.contains(' ') {
                        let target = format!("http://{host}/models");
                        let of_target = status(&hosts, &target, version, &format!("Host: {field}\r\n"));
                        assert_eq!(of_target, expected, "{version} {target} {field}");
                    }
                }
            }
        }
        assert_eq!(status(&hosts, "/", "HTTP/1.0", ""), 200);
        assert_eq!(status(&hosts, "/", "HTTP/1.1", ""), 400);
        assert_eq!(status(&hosts, "/", "HTTP/1.1", "Host: localhost\r\nHost: localhost\r\n"), 400);
    }

    #[test]
    fn a_form_of_another_origin_is_refused() {
        let hosts = HostAuthorization::new(vec!["example.com".into()]);
        for (fields, expected) in [
            ("Host: localhost:9292\r\n", 200),
            ("Host: localhost:9292\r\nOrigin: http://localhost:9292\r\n", 200),
            ("Host: LocalHost:9292\r\nOrigin: http://localhost:9292\r\n", 200),
            ("Host: localhost:80\r\nOrigin: http://localhost\r\n", 200),
            ("Host: localhost\r\nOrigin: http://localhost:80\r\n", 200),
            ("Host: [::1]:1\r\nOrigin: http://[0::1]:1\r\n", 200),
            ("Host: example.com\r\nOrigin: https://example.com\r\n", 200),
            ("Host: localhost:9292\r\nOrigin: http://localhost:9293\r\n", 403),
            ("Host: localhost:9292\r\nOrigin: http://localhost\r\n", 403),
            ("Host: localhost:80\r\nOrigin: https://localhost\r\n", 403),
            ("Host: localhost\r\nOrigin: http://evil.com\r\n", 403),
            ("Host: localhost\r\nOrigin: null\r\n", 403),
            ("Host: localhost\r\nOrigin: file://localhost\r\n", 403),
            ("Host: localhost\r\nOrigin: http://user@localhost\r\n", 403),
            ("Host: localhost\r\nOrigin: http://localhost/\r\n", 403),
            ("Host: localhost\r\nOrigin: localhost\r\n", 403),
            ("Host: localhost\r\nOrigin:\r\n", 403),
            ("Host: localhost\r\nOrigin: http://localhost http://evil.com\r\n", 403),
            ("Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://localhost\r\n", 403),
            ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", 403),
            ("Host: localhost\r\nSec-Fetch-Site: same-origin\r\n", 200),
        ] {
            assert_eq!(status(&hosts, "/models", "HTTP/1.1", fields), expected, "{fields:?}");
        }
        let own = "Host: evil.com\r\nOrigin: http://localhost\r\n";
        assert_eq!(status(&hosts, "http://localhost/models", "HTTP/1.1", own), 200);
        let other = "Host: localhost\r\nOrigin: http://localhost\r\n";
        assert_eq!(status(&hosts, "http://127.0.0.1/models", "HTTP/1.1", other), 403);
    }
}
