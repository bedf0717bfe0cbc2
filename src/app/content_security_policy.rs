//! Models ActionDispatch::ContentSecurityPolicy, which restricts what a page may do in a browser.
//!
//! A page contains its style and its script, since each additional file would need a thread or a connection,
//! and both are scarce here. A script injected through a model's name must not run. The page's own style and
//! script therefore carry a nonce, drawn for each answer, and the browser runs no script or style without it.
//! The policy also keeps a page from fetching anything from servers that it does not list, or sending anything to them.

use http::StatusCode;
use ninetabs_server::Response;

/// An unguessable value, in the header of a page's answer and in the page's `nonce` attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// Draws one: 128 bits from the system's generator, in hexadecimal digits.
    pub fn draw() -> Result<Nonce, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Nonce(format!("{:032x}", u128::from_ne_bytes(bytes))))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The permissions that differ between pages. All other permissions are the same for every page.
#[derive(Debug, Clone, Default)]
pub struct ContentSecurityPolicy {
    /// Hosts whose pages this page may show in frames. Empty: none.
    pub frames: Vec<String>,
    /// Hosts whose pages may show this page in a frame. Empty: none.
    pub frame_ancestors: Vec<String>,
    /// Origins that the page may connect to in addition to its own server.
    pub connects: Vec<String>,
    /// Whether the page may start workers, with scripts from its own server.
    pub workers: bool,
}

impl ContentSecurityPolicy {
    /// A page whose style and script carry this nonce. The browser revalidates it at each visit, and may keep
    /// it in its back/forward cache.
    pub fn page(&self, nonce: &Nonce, html: String) -> Response {
        Response::new(StatusCode::OK, "text/html; charset=utf-8", html)
            .with_header("cache-control", "no-cache, private")
            .with_header("content-security-policy", self.directives(nonce))
            .with_header("referrer-policy", "same-origin")
            .with_header("x-content-type-options", "nosniff")
    }

    fn directives(&self, Nonce(nonce): &Nonce) -> String {
        format!(
            "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src {}; \
             img-src data:; form-action 'self'; base-uri 'none'; {}frame-src {}; frame-ancestors {}",
            self.connects.iter().fold("'self'".to_owned(), |all, origin| all + " " + origin),
            // Without `worker-src`, a worker falls under `script-src`, and a worker's script cannot carry the
            // nonce.
            if self.workers { "worker-src 'self'; " } else { "" },
            sources(&self.frames),
            sources(&self.frame_ancestors),
        )
    }
}

fn sources(hosts: &[String]) -> String {
    if hosts.is_empty() { "'none'".to_owned() } else { hosts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_long_and_differs_each_time() {
        let (one, other) = (Nonce::draw().unwrap(), Nonce::draw().unwrap());
        assert_ne!(one, other);
        assert!(one.as_str().len() == 32 && one.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn a_source_that_is_not_listed_is_denied() {
        let nonce = Nonce("0".into());
        let closed = ContentSecurityPolicy::default().directives(&nonce);
        assert!(closed.ends_with("; frame-src 'none'; frame-ancestors 'none'"), "{closed}");
        assert!(closed.starts_with("default-src 'none'; ") && !closed.contains("unsafe"), "{closed}");
        let wall = ContentSecurityPolicy {
            frames: vec!["http://a:*".into(), "http://b:*".into()],
            frame_ancestors: vec!["http://c:*".into()],
            ..ContentSecurityPolicy::default()
        };
        let open = wall.directives(&nonce);
        assert!(!open.contains("worker-src"), "{open}");
        assert!(open.ends_with("; frame-src http://a:* http://b:*; frame-ancestors http://c:*"), "{open}");
    }
}
