//! The control server's own pages.
//!
//! A page is one request: its style and its scripts stand in it, with a nonce, and its
//! icon is `data:`. Nothing else runs in it and nothing leaves for another address. It
//! carries the token without which a browser can change nothing here.

use std::path::Path;

use minijinja::{Value, context};

use crate::app::templates::{Source, Templates, ViewsError, secret};
use crate::puma::Response;

/// Every view, by the name that it has in the folder `views/`.
const EMBEDDED: &[Source] = &[
    ("control/connection.js", include_str!("../../views/control/connection.js")),
    ("control/control.css", include_str!("../../views/control/control.css")),
    ("control/dashboard.html", include_str!("../../views/control/dashboard.html")),
    ("control/dashboard.js", include_str!("../../views/control/dashboard.js")),
    ("control/feed.js", include_str!("../../views/control/feed.js")),
    ("control/lanes.js", include_str!("../../views/control/lanes.js")),
    ("control/layout.html", include_str!("../../views/control/layout.html")),
    ("control/orders.js", include_str!("../../views/control/orders.js")),
];

/// The pages.
pub struct Pages {
    templates: Templates,
}

impl Pages {
    /// The embedded ones, or those of a folder, which must have all of them.
    pub fn new(folder: Option<&Path>) -> Result<Pages, ViewsError> {
        Ok(Pages { templates: Templates::new(EMBEDDED, folder)? })
    }

    /// A page with this token, which may show frames of these addresses (`'none'`: of no
    /// one), each a source of a Content-Security-Policy.
    pub(super) fn show(&self, name: &str, token: &str, frames: &str, more: Value) -> Response {
        let nonce = secret();
        let policy = format!(
            "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
             img-src data:; frame-src {frames}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        );
        let version = env!("CARGO_PKG_VERSION");
        self.templates
            .render(name, context! { nonce, token, version, ..more })
            .with_header("content-security-policy", policy)
            .with_header("cache-control", "no-store")
            .with_header("referrer-policy", "no-referrer")
            .with_header("x-content-type-options", "nosniff")
    }
}
