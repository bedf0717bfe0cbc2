//! The control server's own pages.
//!
//! A page is one request: it contains its style and its scripts, with a nonce, and its icon is
//! `data:`. Only the steps of the tour are loaded when they are opened. No other script runs in it, and it sends nothing to other addresses. It contains the
//! token without which a browser can change nothing here.

use std::path::Path;

use http::StatusCode;
use minijinja::{Value, context};

use crate::app::content_security_policy::ContentSecurityPolicy;
use crate::app::templates::{TemplateSource, Templates, ViewsError};
use ninetabs_server::Response;
use ninetabs_server::log_limit::limited;

/// Every view, by its name in the folder `views/`.
const EMBEDDED: &[TemplateSource] = &[
    ("control/action_rows.js", include_str!("../../views/control/action_rows.js")),
    ("control/actions.js", include_str!("../../views/control/actions.js")),
    ("control/beside.css", include_str!("../../views/control/beside.css")),
    ("control/beside.html", include_str!("../../views/control/beside.html")),
    ("control/beside.js", include_str!("../../views/control/beside.js")),
    ("control/beside_fix.js", include_str!("../../views/control/beside_fix.js")),
    ("control/beside_frame.html", include_str!("../../views/control/beside_frame.html")),
    ("control/beside_frame.js", include_str!("../../views/control/beside_frame.js")),
    ("control/beside_half.html", include_str!("../../views/control/beside_half.html")),
    ("control/beside_words.js", include_str!("../../views/control/beside_words.js")),
    ("control/connection.js", include_str!("../../views/control/connection.js")),
    ("control/control.css", include_str!("../../views/control/control.css")),
    ("control/dashboard.css", include_str!("../../views/control/dashboard.css")),
    ("control/dashboard.html", include_str!("../../views/control/dashboard.html")),
    ("control/dashboard.js", include_str!("../../views/control/dashboard.js")),
    ("control/drawing.js", include_str!("../../views/control/drawing.js")),
    ("control/feed.js", include_str!("../../views/control/feed.js")),
    ("control/freeze.js", include_str!("../../views/control/freeze.js")),
    ("control/headline.js", include_str!("../../views/control/headline.js")),
    ("control/in_browser.js", include_str!("../../views/control/in_browser.js")),
    ("control/keys.js", include_str!("../../views/control/keys.js")),
    ("control/lab.js", include_str!("../../views/control/lab.js")),
    ("control/lanes.js", include_str!("../../views/control/lanes.js")),
    ("control/layout.html", include_str!("../../views/control/layout.html")),
    ("control/legend.html", include_str!("../../views/control/legend.html")),
    ("control/limits.html", include_str!("../../views/control/limits.html")),
    ("control/limits.js", include_str!("../../views/control/limits.js")),
    ("control/orders.js", include_str!("../../views/control/orders.js")),
    ("control/page.js", include_str!("../../views/control/page.js")),
    ("control/picture.html", include_str!("../../views/control/picture.html")),
    ("control/record.js", include_str!("../../views/control/record.js")),
    ("control/scrub.html", include_str!("../../views/control/scrub.html")),
    ("control/shown.js", include_str!("../../views/control/shown.js")),
    ("control/story.js", include_str!("../../views/control/story.js")),
    ("control/tabs.js", include_str!("../../views/control/tabs.js")),
    ("control/steps/1.js", include_str!("../../views/control/steps/1.js")),
    ("control/steps/2.js", include_str!("../../views/control/steps/2.js")),
    ("control/steps/3.js", include_str!("../../views/control/steps/3.js")),
    ("control/steps/4.js", include_str!("../../views/control/steps/4.js")),
    ("control/steps/5.js", include_str!("../../views/control/steps/5.js")),
    ("control/steps/6.js", include_str!("../../views/control/steps/6.js")),
    ("control/steps/7.js", include_str!("../../views/control/steps/7.js")),
    ("control/steps/zombies.js", include_str!("../../views/control/steps/zombies.js")),
    ("control/tour.css", include_str!("../../views/control/tour.css")),
    ("control/tour.html", include_str!("../../views/control/tour.html")),
    ("control/tour.js", include_str!("../../views/control/tour.js")),
    ("control/tour_steps.js", include_str!("../../views/control/tour_steps.js")),
    ("control/wall_bar.html", include_str!("../../views/control/wall_bar.html")),
    ("control/wall_bar.js", include_str!("../../views/control/wall_bar.js")),
    ("control/wall.css", include_str!("../../views/control/wall.css")),
    ("control/wall.html", include_str!("../../views/control/wall.html")),
    ("control/wall.js", include_str!("../../views/control/wall.js")),
    ("control/wall_controls.js", include_str!("../../views/control/wall_controls.js")),
    ("control/wall_tab.js", include_str!("../../views/control/wall_tab.js")),
    ("control/words.js", include_str!("../../views/control/words.js")),
    ("palette.css", include_str!("../../views/palette.css")),
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

    /// A page with this token. It may show frames of these addresses, and pages of these framers may show it in
    /// a frame: sources of a Content-Security-Policy, or none if they are empty.
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
