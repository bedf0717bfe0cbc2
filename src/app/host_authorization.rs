//! Models ActionDispatch::HostAuthorization, and the check of a form's origin.
//!
//! A page of elsewhere can point a name of its own at 127.0.0.1 and then speak to
//! this server as if it were its own; what it cannot do is send our `Host`. So
//! hosts are checked by name: loopback addresses, `localhost` and all names below
//! it always, others by `--allow-host`.

use std::net::IpAddr;

use crate::puma::{Request, Response};

/// The hosts that are answered.
#[derive(Debug, Clone, Default)]
pub struct HostAuthorization {
    allowed: Vec<String>,
}

impl HostAuthorization {
    /// These hosts besides the local ones; a leading dot allows all names below.
    pub fn new(allowed: Vec<String>) -> Self {
        HostAuthorization { allowed: allowed.into_iter().map(|host| host.to_ascii_lowercase()).collect() }
    }

    /// Refuses with 403 a request for a host that is not ours. A request without
    /// one comes from no browser, and passes.
    pub fn check(&self, request: &Request) -> Result<(), Response> {
        match request.header("host") {
            Some(host) if !self.allows(host) => {
                Err(Response::line(403, "Blocked host; --allow-host admits it"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses with 403 a form or a script of another origin.
    pub fn check_origin(&self, request: &Request) -> Result<(), Response> {
        let foreign = match request.header("origin") {
            // `null` is the origin of who wants to hide it.
            Some(origin) => {
                origin.split_once("://").is_none_or(|(_, host)| Some(host) != request.header("host"))
            }
            None => request.header("sec-fetch-site") == Some("cross-site"),
        };
        if foreign { Err(Response::line(403, "Blocked origin")) } else { Ok(()) }
    }

    /// The same hosts as sources of a Content-Security-Policy, on any port. It knows no
    /// address of IPv6, and of names only letters, digits and hyphens: others are left out.
    pub fn sources(&self) -> Vec<String> {
        let local = ["127.0.0.1", "localhost", "*.localhost"].map(str::to_owned);
        let allowed = self.allowed.iter().filter(|host| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        });
        let allowed = allowed.map(|host| match host.strip_prefix('.') {
            Some(above) => format!("*.{above}"),
            None => host.clone(),
        });
        local.into_iter().chain(allowed).map(|host| format!("http://{host}:*")).collect()
    }

    fn allows(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_below = |of: &str| name.strip_suffix(of).is_some_and(|front| !front.is_empty());
        bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            || name == "localhost"
            || is_below(".localhost")
            || self.allowed.iter().any(|host| name == *host || (host.starts_with('.') && is_below(host)))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_a_policy_can_hold() {
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

    #[test]
    fn local_names_and_allowed_ones() {
        let hosts = HostAuthorization::new(vec!["Example.com".into(), ".test".into()]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:9292",
            "127.9.9.9:1",
            "localhost",
            "LOCALHOST:80",
            "tab1.localhost:9292",
            "[::1]:9292",
            "[::1]",
            "example.com:9292",
            "a.test",
        ] {
            assert!(hosts.allows(host), "{host}");
        }
        for host in [
            "",
            "evil.com",
            "localhost.evil.com",
            "evillocalhost",
            ".localhost",
            "127.0.0.1.evil.com",
            "10.0.0.1",
            "a.example.com",
            "test",
            "127.0.0.1:9292:9292",
            "[::2]",
        ] {
            assert!(!hosts.allows(host), "{host}");
        }
    }
}
