//! Runs axe-core, which finds accessibility problems in a page, in the real Chromium.
//!
//! axe-core is fetched with npm, once per test program, and injected through WebDriver. A page's
//! Content-Security-Policy does not block WebDriver's scripts.

use std::sync::OnceLock;

use super::chromedriver::{Browser, SCHEMES, Tab};
use super::npm;

/// The version whose rules the pages follow.
const PACKAGE: &str = "axe-core@4.14.1";

/// The library, ready to be inserted into pages.
pub struct Axe {
    source: &'static str,
}

impl Axe {
    /// Fetches axe-core. Returns `None` when [`npm::fetch`] does.
    pub fn fetch() -> Option<Axe> {
        static SOURCE: OnceLock<Option<String>> = OnceLock::new();
        let source = SOURCE.get_or_init(|| npm::fetch(PACKAGE, "axe.min.js"));
        source.as_deref().map(|source| Axe { source })
    }

    /// Checks that a tab's page has no serious and no critical problem in any color scheme. The rules that do not depend
    /// on colors are checked in one scheme.
    pub fn expect_nothing_serious(&self, browser: &Browser, tab: &Tab, what: &str) {
        for (n, scheme) in SCHEMES.into_iter().enumerate() {
            browser.prefer(tab, scheme);
            let rules = if n == 0 { "" } else { ", runOnly: ['color-contrast', 'link-in-text-block']" };
            assert_eq!(self.serious(browser, tab, rules), [""; 0], "{what}, {scheme}");
        }
    }

    /// The current findings: each rule with the elements that violate it.
    fn serious(&self, browser: &Browser, tab: &Tab, rules: &str) -> Vec<String> {
        let begin = format!(
            "window.found = undefined;
            axe.run(document, {{ resultTypes: ['violations']{rules} }}).then(
              results => {{ window.found = {{ violations: results.violations, passes: results.passes.length }} }},
              error => {{ window.found = {{ failed: String(error) }} }});"
        );
        if browser.eval(tab, "typeof axe") != "object" {
            browser.run(tab, self.source);
        }
        browser.run(tab, &begin);
        browser.wait_for(tab, "found !== undefined");
        let found = browser.eval(tab, "found");
        let violations = found["violations"].as_array().unwrap_or_else(|| panic!("axe failed: {found}"));
        assert!(found["passes"].as_u64() > Some(0), "axe examined nothing: {found}");
        let is_serious = |it: &&serde_json::Value| it["impact"] == "serious" || it["impact"] == "critical";
        let tell = |it: &serde_json::Value| {
            let nodes = it["nodes"].as_array().into_iter().flatten();
            let nodes: Vec<_> =
                nodes.map(|node| node["failureSummary"].to_string() + &node["html"].to_string()).collect();
            format!("{}: {}", it["id"], nodes.join("; "))
        };
        violations.iter().filter(is_serious).map(tell).collect()
    }
}
