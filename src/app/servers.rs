//! The facts about the running servers that pages show: the addresses, and the size of the pool.
//!
//! The app is built before either server listens, and port 0 is resolved only when the server starts to
//! listen. These facts are therefore set once, when both servers have started. A page that is rendered
//! earlier omits the links and the commands that need the facts.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use ninetabs_server::Request;

/// The facts, shared by all pages. A clone refers to the same facts.
#[derive(Debug, Clone, Default)]
pub struct RunningServers(Arc<OnceLock<Started>>);

/// Both servers, after they have started.
pub struct Started {
    /// The app's address.
    pub app: SocketAddr,
    /// The control server's address.
    pub control: SocketAddr,
    /// Whether each request to the control server needs a token. Pages of the app never contain the token.
    pub needs_token: bool,
    /// Returns the maximum number of threads that is in force; `None` once the server has ended.
    pub threads: Box<dyn Fn() -> Option<usize> + Send + Sync>,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started")
            .field("app", &self.app)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

impl RunningServers {
    /// Sets the facts. Later calls are ignored.
    pub fn set(&self, started: Started) {
        let _ = self.0.set(started);
    }

    /// Both servers, once they have started.
    pub fn started(&self) -> Option<&Started> {
        self.0.get()
    }

    /// The maximum number of threads that is in force, or `configured` if it is not known.
    pub fn threads(&self, configured: usize) -> usize {
        self.started().and_then(|it| (it.threads)()).unwrap_or(configured)
    }

    /// The origin of the control server's pages for the browser that sent this request. `None` if those
    /// pages need a token, or if the browser is on another machine and the control server listens only on
    /// loopback.
    pub fn control(&self, request: &Request) -> Option<String> {
        let it = self.started().filter(|it| !it.needs_token)?;
        let ip = it.control.ip().to_canonical();
        let host = request.authority().map(|authority| &authority.host);
        let is_local = host.is_none_or(|host| host.is_local());
        let at = match host {
            // A page's policy cannot name an address in brackets.
            _ if is_local && (ip.is_loopback() || ip.is_unspecified()) => match ip.is_ipv4() {
                true if ip.is_unspecified() => "127.0.0.1".to_owned(),
                true => ip.to_string(),
                false => "localhost".to_owned(),
            },
            Some(host) if ip.is_unspecified() => host.to_string(),
            _ if ip.is_loopback() => return None,
            _ if ip.is_ipv6() => format!("[{ip}]"),
            _ => ip.to_string(),
        };
        Some(format!("http://{at}:{}", it.control.port()))
    }

    /// The same origin, if a script of the page may connect to it: a page's policy cannot name an IPv6
    /// address.
    pub fn pool_at(&self, request: &Request) -> Option<String> {
        self.control(request).filter(|origin| !origin.contains('['))
    }
}

/// Whether `localhost` and the names below it lead to this server from the browser that sent the request.
pub fn is_local(request: &Request) -> bool {
    request.authority().is_some_and(|authority| authority.host.is_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_request::with_fields;

    fn servers(control: &str, needs_token: bool) -> RunningServers {
        let servers = RunningServers::default();
        servers.set(Started {
            app: ([127, 0, 0, 1], 9292).into(),
            control: control.parse().unwrap(),
            needs_token,
            threads: Box::new(|| Some(12)),
        });
        servers
    }

    #[test]
    fn the_control_server_has_an_address_that_the_browser_can_open() {
        for (control, host, origin, pool_at) in [
            ("127.0.0.1:9293", "localhost:9292", Some("http://127.0.0.1:9293"), true),
            ("127.0.0.1:9293", "tab3.localhost:9292", Some("http://127.0.0.1:9293"), true),
            ("127.0.0.2:9293", "127.0.0.1:9292", Some("http://127.0.0.2:9293"), true),
            ("[::1]:9293", "localhost:9292", Some("http://localhost:9293"), true),
            ("0.0.0.0:9293", "localhost:9292", Some("http://127.0.0.1:9293"), true),
            ("0.0.0.0:9293", "app.test:9292", Some("http://app.test:9293"), true),
            ("[::]:9293", "[2001:db8::1]:9292", Some("http://[2001:db8::1]:9293"), false),
            ("10.0.0.9:9293", "app.test:9292", Some("http://10.0.0.9:9293"), true),
            ("[2001:db8::1]:9293", "localhost:9292", Some("http://[2001:db8::1]:9293"), false),
            // A browser on another machine would open its own loopback address.
            ("127.0.0.1:9293", "app.test:9292", None, false),
            ("[::1]:9293", "10.0.0.9:9292", None, false),
        ] {
            let request = with_fields("/fixes", &[("Host", host)]);
            let servers = servers(control, false);
            assert_eq!(servers.control(&request).as_deref(), origin, "{control}, {host}");
            assert_eq!(servers.pool_at(&request).is_some(), pool_at, "{control}, {host}");
        }
    }

    #[test]
    fn with_a_token_or_before_the_start_there_is_no_link() {
        let request = with_fields("/fixes", &[("Host", "localhost:9292")]);
        assert_eq!(servers("127.0.0.1:9293", true).control(&request), None);
        assert_eq!(RunningServers::default().control(&request), None);
        assert_eq!(RunningServers::default().threads(8), 8);
        assert_eq!(servers("127.0.0.1:9293", false).threads(8), 12);
    }
}
