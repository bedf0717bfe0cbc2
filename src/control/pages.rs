//! The control server's own pages.
//!
//! A page is one request: it contains its style and its scripts, with a nonce, and its icon is `data:`. Only the steps
//! of the tour are loaded when they are opened. No other script runs in it, and it sends nothing to other addresses. It
//! contains the token without which a browser cannot change anything here.

use std::path::Path;

use http::StatusCode;
use minijinja::{Value, context};

use crate::app::content_security_policy::ContentSecurityPolicy;
use crate::app::embedded::{TemplateSource, embedded};
use crate::app::templates::{Templates, ViewsError};
use ninetabs_server::Response;
use ninetabs_server::log_limit::limited;

/// Every view, by its name in the folder `views/`.
const EMBEDDED: &[TemplateSource] = &[
    embedded!("control/action_rows.js"),
    embedded!("control/actions.js"),
    embedded!("control/beside.css"),
    embedded!("control/beside.html"),
    embedded!("control/beside.js"),
    embedded!("control/beside_fix.js"),
    embedded!("control/beside_frame.html"),
    embedded!("control/beside_frame.js"),
    embedded!("control/beside_half.html"),
    embedded!("control/beside_words.js"),
    embedded!("control/connection.js"),
    embedded!("control/control.css"),
    embedded!("control/dashboard.css"),
    embedded!("control/dashboard.html"),
    embedded!("control/dashboard.js"),
    embedded!("control/drawing.js"),
    embedded!("control/feed.js"),
    embedded!("control/freeze.js"),
    embedded!("control/headline.js"),
    embedded!("control/in_browser.js"),
    embedded!("control/keys.js"),
    embedded!("control/lab.js"),
    embedded!("control/lanes.js"),
    embedded!("control/layout.html"),
    embedded!("control/legend.html"),
    embedded!("control/limits.html"),
    embedded!("control/limits.js"),
    embedded!("control/orders.js"),
    embedded!("control/page.js"),
    embedded!("control/picture.html"),
    embedded!("control/record.js"),
    embedded!("control/scrub.html"),
    embedded!("control/shown.js"),
    embedded!("control/story.js"),
    embedded!("control/tabs.js"),
    embedded!("control/steps/1.js"),
    embedded!("control/steps/2.js"),
    embedded!("control/steps/3.js"),
    embedded!("control/steps/4.js"),
    embedded!("control/steps/5.js"),
    embedded!("control/steps/6.js"),
    embedded!("control/steps/7.js"),
    embedded!("control/steps/zombies.js"),
    embedded!("control/tour.css"),
    embedded!("control/tour.html"),
    embedded!("control/tour.js"),
    embedded!("control/tour_steps.js"),
    embedded!("control/wall_bar.html"),
    embedded!("control/wall_bar.js"),
    embedded!("control/wall.css"),
    embedded!("control/wall.html"),
    embedded!("control/wall.js"),
    embedded!("control/wall_controls.js"),
    embedded!("control/wall_tab.js"),
    embedded!("control/words.js"),
    embedded!("palette.css"),
];

/// Steps of the tour.
pub(super) const STEPS: usize = 7;

/// The pages.
pub struct Pages {
    templates: Templates,
}

impl Pages {
    /// The embedded views, or those of a folder, which must have all of them.
    pub fn new(folder: Option<&Path>) -> Result<Pages, ViewsError> {
        Ok(Pages { templates: Templates::new(EMBEDDED.to_vec(), folder)? })
    }

    /// Renders a page with this token. It may show frames from the addresses in `frames`, and pages from the addresses
    /// in `framers` may show it in a frame. Both are sources of a Content-Security-Policy; an empty list means none.
    pub(super) fn show(
        &self,
        name: &str,
        token: &str,
        frames: Vec<String>,
        framers: Vec<String>,
        more: Value,
    ) -> Response {
        let policy = ContentSecurityPolicy { frames, frame_ancestors: framers, ..Default::default() };
        self.templates.page(name, None, &policy, context! { token, ..more })
    }

    /// The script of a step of the tour, from 1 to [`STEPS`].
    pub(super) fn step(&self, number: usize) -> Response {
        match self.templates.render(&format!("control/steps/{number}.js"), Value::UNDEFINED) {
            Ok(script) => Response::new(StatusCode::OK, "text/javascript; charset=utf-8", script)
                .with_header("cache-control", "no-cache, private")
                .with_header("x-content-type-options", "nosniff"),
            Err(error) => {
                limited!(Error, "step {number} of the tour: {error}");
                Response::status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}
