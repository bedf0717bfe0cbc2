//! `partials`: a partial is rendered once per commit, and pushed as HTML.
//!
//! Models render_sync and its successor, Turbo Streams: the server sends finished HTML, so the page needs no
//! script for displaying a model. A partial is rendered once, however many tabs there are. The connections are those of
//! `push`.

use std::sync::Arc;

use minijinja::{Value, context};

use super::push::{self, PushShape};
use super::{Fix, FixGroup, PLAIN};
use crate::app::embedded::{TemplateSource, embedded};
use crate::app::model::Model;
use crate::app::templates::Templates;
use ninetabs_server::log_limit::limited;

pub(super) const FIX: Fix = Fix {
    name: "partials",
    does: "A row is rendered once per commit and pushed as HTML, which the page inserts.",
    group: FixGroup::FreeTheThread,
    measured_as: "partials",
    view: embedded!("fixes/partials.html"),
    streams: &["stream"],
    detaches: true,
    action: |fixes, request, rest| {
        (rest == "stream").then(|| push::listen(fixes, request, as_html(&fixes.templates)))
    },
    ..PLAIN
};

/// The partials: a row, and the Turbo Streams that insert rows.
pub(super) const PARTIALS: [TemplateSource; 2] = [embedded!("fixes/_model.html"), TURBO_STREAMS];
const TURBO_STREAMS: TemplateSource = embedded!("fixes/_turbo_streams.html");

/// One `<turbo-stream>` per model, as Turbo expects it in an event's data.
pub(super) fn as_html(templates: &Arc<Templates>) -> PushShape {
    let templates = Arc::clone(templates);
    let make = move |models: &[Model]| {
        let name = |model: &Model| Value::from(Arc::clone(&model.name));
        let models: Vec<Value> =
            models.iter().map(|model| context! { id => model.id, name => name(model) }).collect();
        let html = templates.render(TURBO_STREAMS.name, context! { models });
        html.unwrap_or_else(|error| {
            limited!(Error, "view {}: {error:#}", TURBO_STREAMS.name);
            String::new()
        })
    };
    PushShape { name: "turbo streams", make: Box::new(make) }
}
