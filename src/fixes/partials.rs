//! `partials`: a partial is rendered once a commit, and pushed as HTML.
//!
//! Models render_sync, and its heir, Turbo Streams: the server says what is to become of the
//! page, so that the page needs no script of its own that knows what a model looks like. What
//! is rendered is rendered once, however many tabs there are. The way to them is `push`'s.

use std::sync::Arc;

use minijinja::{Value, context};

use super::push::{self, PushShape};
use super::{Fix, PLAIN};
use crate::app::model::Model;
use crate::app::templates::{TemplateSource, Templates};
use ninetabs_server::log_limit::limited;

pub(super) const FIX: Fix = Fix {
    name: "partials",
    does: "a partial is rendered once a commit and pushed as HTML, which the page puts in",
    view: ("fixes/partials.html", include_str!("../../views/fixes/partials.html")),
    streams: &["stream"],
    detaches: true,
    action: |fixes, request, rest| {
        (rest == "stream").then(|| push::listen(fixes, request, as_html(&fixes.templates)))
    },
    ..PLAIN
};

/// The partials: a row, and what Turbo is told to do with rows.
pub(super) const PARTIALS: [TemplateSource; 2] = [
    ("fixes/_model.html", include_str!("../../views/fixes/_model.html")),
    (TURBO_STREAMS, include_str!("../../views/fixes/_turbo_streams.html")),
];
const TURBO_STREAMS: &str = "fixes/_turbo_streams.html";

/// One `<turbo-stream>` for each model, which Turbo takes out of an event's data as it stands.
pub(super) fn as_html(templates: &Arc<Templates>) -> PushShape {
    let templates = Arc::clone(templates);
    let make = move |models: &[Model]| {
        let name = |model: &Model| Value::from(Arc::clone(&model.name));
        let models: Vec<Value> =
            models.iter().map(|model| context! { id => model.id, name => name(model) }).collect();
        let html = templates.render(TURBO_STREAMS, context! { models });
        html.unwrap_or_else(|error| {
            limited!(Error, "view {TURBO_STREAMS}: {error:#}");
            String::new()
        })
    };
    PushShape { name: "turbo streams", make: Box::new(make) }
}
