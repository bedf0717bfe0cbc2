//! Templates that escape what they are given: the engine behind all pages.
//!
//! They are in the binary, so that it runs from anywhere; `--views DIR` has them
//! read from a folder at each request instead, so that an edit shows at the next
//! reload.

use std::path::{Path, PathBuf};

use http::StatusCode;
use minijinja::{Environment, Value, context, path_loader};
use thiserror::Error;

use super::content_security_policy::{ContentSecurityPolicy, Nonce};
use ninetabs_server::Response;
use ninetabs_server::log_limit::limited;

/// A template's name in the folder `views/`, and its text.
pub type TemplateSource = (&'static str, &'static str);

/// The folder of views cannot be used.
#[derive(Debug, Error)]
pub enum ViewsError {
    #[error("there is no such folder")]
    NoFolder,
    #[error("it has no {0}")]
    Missing(&'static str),
}

/// Why there is no page; it goes to the log.
#[derive(Debug, Error)]
enum PageError {
    #[error("the system gives no random bytes: {0}")]
    Nonce(#[from] getrandom::Error),
    #[error("{0:#}")]
    Template(#[from] minijinja::Error),
}

/// Where templates come from.
pub struct Templates {
    embedded: Environment<'static>,
    folder: Option<PathBuf>,
}

impl Templates {
    /// The embedded ones, or those of a folder, which must have all of them.
    pub fn new(embedded: Vec<TemplateSource>, folder: Option<&Path>) -> Result<Templates, ViewsError> {
        if let Some(folder) = folder {
            if !folder.is_dir() {
                return Err(ViewsError::NoFolder);
            }
            if let Some((name, _)) = embedded.iter().find(|(name, _)| !folder.join(name).is_file()) {
                return Err(ViewsError::Missing(name));
            }
        }
        let mut environment = Environment::new();
        // Each is compiled when it is first used: compiling all of them takes a third of the start.
        environment.set_loader(move |name| {
            let source = embedded.iter().find(|(it, _)| *it == name);
            Ok(source.map(|(_, text)| (*text).to_owned()))
        });
        Ok(Templates { embedded: environment, folder: folder.map(Path::to_owned) })
    }

    /// A page as an answer, with this nonce, or one of its own; what goes wrong is told to the log.
    pub fn page(
        &self,
        name: &str,
        nonce: Option<Nonce>,
        policy: &ContentSecurityPolicy,
        more: Value,
    ) -> Response {
        let page = || -> Result<Response, PageError> {
            let nonce = nonce.map_or_else(Nonce::draw, Ok)?;
            let page = self.render(name, context! { nonce => nonce.as_str(), ..more })?;
            Ok(policy.page(&nonce, page))
        };
        page().unwrap_or_else(|error| {
            limited!(Error, "view {name}: {error}");
            Response::status(StatusCode::INTERNAL_SERVER_ERROR)
        })
    }

    /// The text of a page.
    pub fn render(&self, name: &str, context: Value) -> Result<String, minijinja::Error> {
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
