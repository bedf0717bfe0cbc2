//! The control server's own pages.
//!
//! A page is one request: its style and its scripts stand in it, with a nonce, and its
//! icon is `data:`. Nothing else runs in it and nothing leaves for another address. It
//! carries the token without which a browser can change nothing here.

use std::path::Path;

use minijinja::{Value, context};

use crate::app::content_security_policy::ContentSecurityPolicy;
use crate::app::templates::{TemplateSource, Templates, ViewsError};
use ninetabs_server::Response;

/// Every view, by the name that it has in the folder `views/`.
const EMBEDDED: &[TemplateSource] = &[
    ("control/connection.js", include_str!("../../views/control/connection.js")),
    ("control/control.css", include_str!("../../views/control/control.css")),
    ("control/dashboard.css", include_str!("../../views/control/dashboard.css")),
    ("control/dashboard.html", include_str!("../../views/control/dashboard.html")),
    ("control/dashboard.js", include_str!("../../views/control/dashboard.js")),
    ("control/feed.js", include_str!("../../views/control/feed.js")),
    ("control/lanes.js", include_str!("../../views/control/lanes.js")),
    ("control/layout.html", include_str!("../../views/control/layout.html")),
    ("control/orders.js", include_str!("../../views/control/orders.js")),
    ("control/record.js", include_str!("../../views/control/record.js")),
    ("control/story.js", include_str!("../../views/control/story.js")),
    ("control/tabs.js", include_str!("../../views/control/tabs.js")),
    ("control/tour.js", include_str!("../../views/control/tour.js")),
    ("control/tour_steps.js", include_str!("../../views/control/tour_steps.js")),
    ("control/wall.css", include_str!("../../views/control/wall.css")),
    ("control/wall.html", include_str!("../../views/control/wall.html")),
    ("control/wall.js", include_str!("../../views/control/wall.js")),
    ("control/words.js", include_str!("../../views/control/words.js")),
];

/// The pages.
pub struct Pages {
    templates: Templates,
}

impl Pages {
    /// The embedded ones, or those of a folder, which must have all of them.
    pub fn new(folder: Option<&Path>) -> Result<Pages, ViewsError> {
        Ok(Pages { templates: Templates::new(EMBEDDED.to_vec(), folder)? })
    }

    /// A page with this token, which may show frames of these addresses: sources of a
    /// Content-Security-Policy, none where that is empty.
    pub(super) fn show(&self, name: &str, token: &str, frames: Vec<String>, more: Value) -> Response {
        let policy = ContentSecurityPolicy { frames, ..Default::default() };
        self.templates.page(name, None, &policy, context! { token, ..more })
    }
}
