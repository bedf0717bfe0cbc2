//! The template engine of all pages, which escapes every value.
//!
//! Templates are compiled into the program ([`embedded`](super::embedded)). With `--views DIR` they are read from a
//! folder at each request instead, so that an edit takes effect at the next reload. They are sent without comments and
//! indentation.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use http::StatusCode;
use minijinja::{Environment, ErrorKind, Value, context};
use thiserror::Error;

use super::content_security_policy::{ContentSecurityPolicy, Nonce};
use super::embedded::TemplateSource;
use super::shorten::shortened;
use crate::words;
use ninetabs_server::Response;
use ninetabs_server::log_limit::limited;

/// Why the folder of views cannot be used.
#[derive(Debug, Error)]
pub enum ViewsError {
    #[error("there is no such folder")]
    NoFolder,
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// Why a page cannot be rendered. Only the log shows it.
#[derive(Debug, Error)]
enum PageError {
    #[error("cannot get random bytes from the system: {0}")]
    Nonce(#[from] getrandom::Error),
    #[error("{0:#}")]
    Template(#[from] minijinja::Error),
}

/// Reads a template from a folder. `None` if there is no such file, or if the name would lead out of the folder.
fn read(folder: &Path, name: &str) -> Result<Option<String>, minijinja::Error> {
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(None);
    }
    match fs::read_to_string(folder.join(name)) {
        Ok(text) => Ok(Some(shortened(name, &text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error)),
    }
}

fn unreadable(error: io::Error) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, "cannot read the template").with_source(error)
}

/// The source of templates.
pub struct Templates {
    embedded: Environment<'static>,
    folder: Option<PathBuf>,
}

impl Templates {
    /// Uses the embedded templates, or those of a folder, which must have all of them.
    pub fn new(embedded: Vec<TemplateSource>, folder: Option<&Path>) -> Result<Templates, ViewsError> {
        if let Some(folder) = folder {
            if !folder.is_dir() {
                return Err(ViewsError::NoFolder);
            }
            if let Some(source) = embedded.iter().find(|source| !folder.join(source.name).is_file()) {
                return Err(ViewsError::Missing(source.name));
            }
        }
        let mut environment = with_words();
        // Each template is compiled at its first use. Compiling all of them at the start would take a third of the
        // start-up time.
        environment.set_loader(move |name| {
            let Some(source) = embedded.iter().find(|source| source.name == name) else { return Ok(None) };
            let text = source.text().map_err(unreadable)?;
            Ok(Some(shortened(name, &text)))
        });
        Ok(Templates { embedded: environment, folder: folder.map(Path::to_owned) })
    }

    /// A page as an answer, with this nonce or a new one. Errors are logged.
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
                let mut environment = with_words();
                let folder = folder.clone();
                environment.set_loader(move |name| read(&folder, name));
                environment.get_template(name)?.render(context)
            }
        }
    }
}

/// An environment in which every template can use the [`words`] for states and events: `words.held` in the text of a
/// page, and the whole tables as JSON in its scripts.
fn with_words() -> Environment<'static> {
    let mut environment = Environment::new();
    let states: BTreeMap<&str, &str> = words::STATES.iter().copied().collect();
    environment.add_global("words", Value::from(states));
    for (name, table) in [("state_words", words::STATES), ("event_words", words::EVENTS)] {
        environment.add_global(name, Value::from_safe_string(words::json(table)));
    }
    environment
}
