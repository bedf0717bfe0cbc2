//! Templates that escape what they are given: the engine behind all pages.
//!
//! They are in the binary, so that it runs from anywhere; `--views DIR` has them
//! read from a folder at each request instead, so that an edit shows at the next
//! reload.

use std::path::{Path, PathBuf};

use minijinja::{Environment, Value, path_loader};
use thiserror::Error;

use crate::puma::Response;

/// A template's name in the folder `views/`, and its text.
pub type Source = (&'static str, &'static str);

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

/// Where templates come from.
pub struct Templates {
    embedded: Environment<'static>,
    folder: Option<PathBuf>,
}

impl Templates {
    /// The embedded ones, or those of a folder, which must have all of them.
    pub fn new(embedded: &'static [Source], folder: Option<&Path>) -> Result<Templates, ViewsError> {
        if let Some(folder) = folder {
            if !folder.is_dir() {
                return Err(ViewsError::NoFolder);
            }
            if let Some((name, _)) = embedded.iter().find(|(name, _)| !folder.join(name).is_file()) {
                return Err(ViewsError::Missing(name));
            }
        }
        let mut environment = Environment::new();
        for (name, source) in embedded {
            environment.add_template(name, source)?;
        }
        Ok(Templates { embedded: environment, folder: folder.map(Path::to_owned) })
    }

    /// The page, or 500 where its template fails, which is logged.
    pub fn render(&self, name: &str, context: Value) -> Response {
        match self.text(name, context) {
            Ok(page) => Response::new(200, "text/html; charset=utf-8", page),
            Err(error) => {
                log::error!("view {name}: {error:#}");
                Response::status(500)
            }
        }
    }

    /// The page's text.
    pub fn text(&self, name: &str, context: Value) -> Result<String, minijinja::Error> {
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

/// A word that nobody can guess, for the nonce of a page or its token: 128 bits of the
/// system's randomness, in hexadecimal.
///
/// # Panics
///
/// Where the system has no randomness to give.
pub fn secret() -> String {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        panic!("the system gives no random bytes: {error}");
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_comes_twice() {
        let (one, two) = (secret(), secret());
        assert!(one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
        assert_ne!(one, two);
    }
}
