//! The views of the app.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use minijinja::{Value, context};

use super::batch::Batch;
use super::content_security_policy::Nonce;
use super::embedded::{TemplateSource, embedded};
use super::servers::is_local;
use super::templates::{Templates, ViewsError};
use ninetabs_server::Request;

/// All views, with their names in the folder `views/`.
const EMBEDDED: &[TemplateSource] = &[
    embedded!("application.css"),
    embedded!("models/index.html"),
    embedded!("models/index.js"),
    PALETTE,
    PAGES,
];

/// The colors of every page.
pub const PALETTE: TemplateSource = embedded!("palette.css");
/// The links to the pages of both servers.
pub const PAGES: TemplateSource = embedded!("models/_pages.html");

/// How many tabs the index page links to.
const TABS: u32 = 9;

/// The contents of the page: the newest models, or the newest before an id, and the values shown around
/// them.
pub(super) struct Shown<'a> {
    pub batch: &'a Batch,
    pub before: Option<i64>,
    pub first_sentence: String,
    /// The origin of the control server's pages.
    pub control: Option<String>,
}

/// The views.
pub struct Views {
    templates: Templates,
}

impl Views {
    /// Uses the embedded views, or those of a folder, which must have all of them.
    pub fn new(folder: Option<&Path>) -> Result<Views, ViewsError> {
        Ok(Views { templates: Templates::new(EMBEDDED.to_vec(), folder)? })
    }

    /// The page of models.
    pub(super) fn index(
        &self,
        request: &Request,
        shown: &Shown<'_>,
        nonce: &Nonce,
        retry: Option<Duration>,
        streams_at: Option<&str>,
    ) -> Result<String, minijinja::Error> {
        let Shown { batch: Batch { models, is_all, .. }, before, first_sentence, control } = shown;
        let rows: Vec<Value> = models
            .iter()
            .map(|model| {
                let name = Value::from(Arc::clone(&model.name));
                context! { id => model.id, name, created_at => model.created_at_iso8601() }
            })
            .collect();
        let port = port(request).filter(|_| is_local(request));
        self.templates.render(
            "models/index.html",
            context! {
                models => rows,
                before,
                first_sentence,
                control,
                page => "app",
                older_than => models.last().filter(|_| !is_all).map(|model| model.id),
                newest_id => models.first().map_or(0, |model| model.id.max(0)),
                tab => request.param("tab").and_then(|tab| tab.parse::<u32>().ok()),
                tabs => (1..=TABS).collect::<Vec<_>>(),
                port,
                nonce => nonce.as_str(),
                streams_at,
                retry_ms => retry.map(|retry| retry.as_millis()),
            },
        )
    }
}

/// The port of the address that the browser requested, for links to other hosts of this server.
pub fn port(request: &Request) -> Option<u16> {
    request.authority()?.port
}
