//! Models ActionDispatch::ContentSecurityPolicy: what a page may do in a browser.
//!
//! A page brings its style and its script in itself, since every further file would
//! want a thread or a connection, the very things that are scarce. So that a script
//! that came in by a model's name still does not run, those two carry a nonce, drawn
//! anew for each answer, and nothing without it is run; nor is anything fetched from
//! elsewhere, or sent there.

use http::StatusCode;
use ninetabs_server::Response;

/// A word that nobody can guess, in a page's head and in its `nonce` attributes.
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

/// What differs between pages; all else is the same for each, and closed.
#[derive(Debug, Clone, Default)]
pub struct ContentSecurityPolicy {
    /// What it may show in frames: host sources. Empty: nothing.
    pub frames: Vec<String>,
    /// Whose frames may show it: host sources. Empty: nobody's.
    pub frame_ancestors: Vec<String>,
    /// Whom it may ask besides its own server: origins.
    pub connects: Vec<String>,
    /// Whether it may start workers, whose scripts are its own server's.
    pub workers: bool,
}

impl ContentSecurityPolicy {
    /// A page whose style and script carry this nonce. It is asked for anew at each visit,
    /// and may wait in the browser's back/forward cache meanwhile.
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
            // Without it a worker is a script, and none has the nonce.
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
    fn a_nonce_is_long_and_another_each_time() {
        let (one, other) = (Nonce::draw().unwrap(), Nonce::draw().unwrap());
        assert_ne!(one, other);
        assert!(one.as_str().len() == 32 && one.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn what_is_not_named_is_closed() {
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
