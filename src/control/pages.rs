//! The control server's own pages.
//!
//! A page is one request: it contains its style and its scripts, with a nonce, and its icon is
//! `data:`. No other script runs in it, and it sends nothing to other addresses. It contains the
//! token without which a browser can change nothing here.

use std::path::Path;
use std::sync::LazyLock;

use minijinja::{Value, context};

use crate::app::content_security_policy::ContentSecurityPolicy;
use crate::app::templates::{TemplateSource, Templates, ViewsError};
use ninetabs_server::Response;

/// Every view, by its name in the folder `views/`.
const EMBEDDED: &[TemplateSource] = &[
    ("control/connection.js", include_str!("../../views/control/connection.js")),
    ("control/control.css", include_str!("../../views/control/control.css")),
    ("control/dashboard.css", include_str!("../../views/control/dashboard.css")),
    ("control/dashboard.html", include_str!("../../views/control/dashboard.html")),
    ("control/dashboard.js", include_str!("../../views/control/dashboard.js")),
    ("control/drawing.js", include_str!("../../views/control/drawing.js")),
    ("control/feed.js", include_str!("../../views/control/feed.js")),
    ("control/freeze.js", include_str!("../../views/control/freeze.js")),
    ("control/headline.js", include_str!("../../views/control/headline.js")),
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
    ("control/tour.css", include_str!("../../views/control/tour.css")),
    ("control/tour.html", include_str!("../../views/control/tour.html")),
    ("control/tour.js", include_str!("../../views/control/tour.js")),
    ("control/tour_steps.js", include_str!("../../views/control/tour_steps.js")),
    ("control/wall.css", include_str!("../../views/control/wall.css")),
    ("control/wall.html", include_str!("../../views/control/wall.html")),
    ("control/wall.js", include_str!("../../views/control/wall.js")),
    ("control/wall_controls.js", include_str!("../../views/control/wall_controls.js")),
    ("control/wall_tab.js", include_str!("../../views/control/wall_tab.js")),
    ("control/words.js", include_str!("../../views/control/words.js")),
    ("palette.css", include_str!("../../views/palette.css")),
];

/// The texts of [`EMBEDDED`] as they are sent.
static SHORT: LazyLock<Vec<String>> =
    LazyLock::new(|| EMBEDDED.iter().map(|(name, text)| shortened(name, text)).collect());

/// Without indentation and empty lines, and for scripts without the lines that are comments.
fn shortened(name: &str, text: &str) -> String {
    let is_script = name.ends_with(".js");
    let lines = text.lines().map(str::trim);
    let kept = lines.filter(|line| !(line.is_empty() || is_script && line.starts_with("//")));
    kept.fold(String::with_capacity(text.len()), |short, line| short + line + "\n")
}

/// The pages.
pub struct Pages {
    templates: Templates,
}

impl Pages {
    /// The embedded views, or those of a folder, which must have all of them.
    pub fn new(folder: Option<&Path>) -> Result<Pages, ViewsError> {
        let sources = EMBEDDED.iter().zip(SHORT.iter()).map(|((name, _), text)| (*name, text.as_str()));
        Ok(Pages { templates: Templates::new(sources.collect(), folder)? })
    }

    /// A page with this token. It may show frames of these addresses: sources of a
    /// Content-Security-Policy, or none if that is empty.
    pub(super) fn show(&self, name: &str, token: &str, frames: Vec<String>, more: Value) -> Response {
        let policy = ContentSecurityPolicy { frames, ..Default::default() };
        self.templates.page(name, None, &policy, context! { token, ..more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_sent_without_indentation_and_comment_lines() {
        let script = "// Why.\nif (a) {\n  b('// c'); // d\n\n}\n";
        assert_eq!(shortened("a.js", script), "if (a) {\nb('// c'); // d\n}\n");
        assert_eq!(shortened("a.html", "<p>\n  // e\n</p>"), "<p>\n// e\n</p>\n");
        // A text over several lines would lose its indentation.
        for (name, text) in EMBEDDED.iter().filter(|(name, _)| name.ends_with(".js")) {
            assert!(!shortened(name, text).contains('`'), "{name} has a template literal");
        }
    }
}
