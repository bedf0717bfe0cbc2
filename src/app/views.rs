//! The views: templates that escape what they are given.
//!
//! They are in the binary, so that it runs from anywhere; `--views DIR` has them
//! read from a folder at each request instead, so that an edit shows at the next
//! reload.

use std::path::{Path, PathBuf};
use std::time::Duration;

use minijinja::{Environment, context, path_loader};
use thiserror::Error;

use super::content_security_policy::Nonce;
use super::model::Model;
use crate::puma::Request;

/// Every view, by the name that it has in the folder `views/`.
const EMBEDDED: &[(&str, &str)] = &[
    ("application.css", include_str!("../../views/application.css")),
    ("models/index.html", include_str!("../../views/models/index.html")),
    ("models/index.js", include_str!("../../views/models/index.js")),
];

/// How many tabs the index page links to.
const TABS: u32 = 9;

/// The folder of views cannot be used.
#[derive(Debug, Error)]
pub enum ViewsError {
    #[error("there is no such folder")]
    NoFolder,
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("{0}")]
    Template(#[from] minijinja::Error),
}

/// Where views come from.
pub struct Views {
    embedded: Environment<'static>,
    folder: Option<PathBuf>,
}

impl Views {
    /// The embedded views, or those of a folder, which must have all of them.
    pub fn new(folder: Option<&Path>) -> Result<Views, ViewsError> {
        if let Some(folder) = folder {
            if !folder.is_dir() {
                return Err(ViewsError::NoFolder);
            }
            if let Some((name, _)) = EMBEDDED.iter().find(|(name, _)| !folder.join(name).is_file()) {
                return Err(ViewsError::Missing(name));
            }
        }
        let mut embedded = Environment::new();
        for (name, source) in EMBEDDED {
            embedded.add_template(name, source)?;
        }
        Ok(Views { embedded, folder: folder.map(Path::to_owned) })
    }

    /// The page of models.
    pub(super) fn index(
        &self,
        request: &Request,
        models: &[Model],
        nonce: &Nonce,
        retry: Option<Duration>,
    ) -> Result<String, minijinja::Error> {
        let rows: Vec<minijinja::Value> = models
            .iter()
            .map(|model| context! { id => model.id, name => model.name.as_str(), created_at => model.created_at_iso8601() })
            .collect();
        // A browser always sends it; the links need its port.
        let port = request
            .header("host")
            .and_then(|host| host.rsplit_once(':'))
            .map(|(_, port)| port)
            .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        self.render(
            "models/index.html",
            context! {
                models => rows,
                newest_id => models.first().map_or(0, |model| model.id),
                tab => request.param("tab").and_then(|tab| tab.parse::<u32>().ok()),
                tabs => (1..=TABS).collect::<Vec<_>>(),
                port,
                nonce => nonce.as_str(),
                retry_ms => retry.map(|retry| retry.as_millis()),
            },
        )
    }

    fn render(&self, name: &str, context: minijinja::Value) -> Result<String, minijinja::Error> {
        match &self.folder {
            None => self.embedded.get_template(name)?.render(context),
            Some(folder) => {
                let mut environment = Environment::new();
                environment.set_loader(path_loader(folder));
                environment.get_template(name)?.render(context)
            }
        }
    }
}
