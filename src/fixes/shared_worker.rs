//! `shared-worker`: one EventSource for all tabs of a browser.
//!
//! The article wished to share streams; this does it in the browser. The stream is in a SharedWorker, which
//! passes each event on to all tabs. The server is unchanged, and has one stream per browser instead of one
//! per tab.

use http::StatusCode;
use minijinja::context;

use super::{Fix, FixGroup, Fixes, PLAIN, TemplateSource, embedded};
use crate::app::models_controller::failed;
use ninetabs_server::{Request, Response};

pub(super) const FIX: Fix = Fix {
    name: "shared-worker",
    does: "All tabs of a browser share one stream, in a SharedWorker.",
    group: FixGroup::OpenFewerStreams,
    measured_as: "shared-worker",
    view: embedded!("fixes/shared-worker.html"),
    has_worker: true,
    action,
    ..PLAIN
};

/// A worker's script cannot be part of the page: tabs find the running worker by its URL.
pub(super) const WORKER: TemplateSource = embedded!("fixes/shared-worker.js");

fn action(fixes: &Fixes, request: &Request, rest: &str) -> Option<Response> {
    (rest == "worker.js").then(|| match fixes.templates.render(WORKER.name, context! {}) {
        Ok(script) => Response::new(StatusCode::OK, "text/javascript; charset=utf-8", script)
            .with_header("cache-control", "no-cache")
            .with_header("content-security-policy", "default-src 'none'; connect-src 'self'")
            .with_header("x-content-type-options", "nosniff"),
        Err(error) => failed(request, &error),
    })
}
