//! Which control server is meant, and what it answers: what `ctl` and `top` have in
//! common. A refusal is told with its way out.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use thiserror::Error;

use super::control_client::{AskError, ControlUrl};
use super::files::FileError;
use super::greeting::OpenedAddress;
use super::state_file;
use super::token_file::{self, TokenFileError};
use super::values::{self, OrNoToken, SecretToken, without_scheme};
use crate::control::Token;
use crate::lab::http::HttpError;

/// The most characters that are repeated of a refusal: whoever listens there may be any program.
const MOST_SAID: usize = 200;

/// Where it listens and which token it wants, as typed.
// A global flag's value is seen by every command above it, too, by its id; so the
// ids are not those of `serve`'s flags of the same names.
#[derive(Debug, Clone, Args)]
pub struct ControlServerArgs {
    /// Where the control server listens, as tcp://HOST:PORT or unix://PATH.
    #[arg(
        id = "ctl_control_url",
        long = "control-url",
        value_name = "URL",
        env = "NINETABS_CONTROL_URL",
        default_value = values::CONTROL_URL,
        global = true
    )]
    pub control_url: ControlUrl,
    /// The token that the control server wants, or none.
    #[arg(
        id = "ctl_control_token",
        long = "control-token",
        value_name = "TOKEN|none",
        env = "NINETABS_CONTROL_TOKEN",
        default_value = values::NO_TOKEN,
        hide_env_values = true,
        value_parser = SecretToken,
        global = true
    )]
    pub control_token: OrNoToken,
    /// A file that has the token on its only line [default: none is read].
    #[arg(
        id = "ctl_control_token_file",
        long = "control-token-file",
        value_name = "PATH",
        env = "NINETABS_CONTROL_TOKEN_FILE",
        conflicts_with = "ctl_control_token",
        global = true
    )]
    pub control_token_file: Option<PathBuf>,
    /// A running server's state file, which says both and wins over both [default: none is read].
    #[arg(id = "ctl_state", long = "state", value_name = "PATH", global = true)]
    pub state: Option<PathBuf>,
}

/// Why there is no answer that says what was asked.
#[derive(Debug, Error)]
pub enum ControlError {
    #[error(transparent)]
    TokenFile(#[from] TokenFileError),
    #[error("--state {}: its token cannot be one: {what}", .path.display())]
    StateToken { path: PathBuf, what: String },
    #[error("--state {}: {error}; give the file that a running server was told to write by --state", .path.display())]
    State { path: PathBuf, error: FileError },
    #[error("--state {}: {why}; start the server with --control-url", .path.display())]
    NoControlServer { path: PathBuf, why: String },
    #[error("{}", no_answer(url, error))]
    Ask { url: ControlUrl, error: AskError },
    #[error(
        "{url} refused: {said}; give its token with --control-token or --control-token-file, or --state with the file that it was told to write"
    )]
    Forbidden { url: ControlUrl, said: String },
    #[error("{url} has no {order}: {said}; ninetabs ctl --help says what ninetabs has, and what Puma")]
    Unsupported { url: ControlUrl, order: &'static str, said: String },
    #[error("{url} refused {order} with {status}: {said}")]
    Refused { url: ControlUrl, order: &'static str, status: u16, said: String },
}

fn no_answer(url: &ControlUrl, error: &AskError) -> String {
    let cause = match error {
        AskError::Unreachable(HttpError::Refused { .. }) => String::new(),
        AskError::Unreachable(HttpError::Connect { source, .. } | HttpError::Resolve { source, .. }) => {
            format!(" ({source})")
        }
        AskError::Unreachable(HttpError::ConnectTimedOut { after, .. }) => {
            format!(" (not connected within {after:?})")
        }
        AskError::Broken(HttpError::Reset { source }) => {
            return format!(
                "{url}: it was reached, and then: {source}; name another with --control-url, or --state with its state file"
            );
        }
        AskError::Unreachable(error) => format!(" ({error})"),
        error => {
            return format!(
                "{url}: {error}; name another with --control-url, or --state with its state file"
            );
        }
    };
    format!("no server answers at {url}{cause}: start one with ninetabs, or name another with --control-url")
}

impl ControlServerArgs {
    /// As with pumactl, a state file wins over both flags. It is read anew each time.
    pub fn find(&self) -> Result<ControlServer, ControlError> {
        let Some(path) = self.state.clone() else {
            let token = match &self.control_token_file {
                Some(path) => Some(token_file::read(path)?),
                None => self.control_token.0.clone(),
            };
            return Ok(ControlServer { url: self.control_url.clone(), token });
        };
        let found = match state_file::read(&path) {
            Ok(found) => found,
            Err(error) => return Err(ControlError::State { path, error }),
        };
        let url = found.url.ok_or_else(|| "it names no control_url".to_owned());
        let url = url.and_then(|url| url.parse().map_err(|why| format!("its control_url {url}: {why}")));
        match url {
            Ok(url) => {
                let token = found.token.as_deref().map(Token::new).transpose();
                let token = token.map_err(|what| ControlError::StateToken { path, what })?;
                Ok(ControlServer { url, token })
            }
            Err(why) => Err(ControlError::NoControlServer { path, why }),
        }
    }
}

/// A control server that may be there.
#[derive(Debug, Clone)]
pub struct ControlServer {
    pub url: ControlUrl,
    token: Option<Token>,
}

impl ControlServer {
    /// The address of one of its pages, without the token; none on a Unix socket. An IP address
    /// is printed as a browser of this machine opens it.
    pub fn page(&self, path: &str) -> Option<String> {
        let ControlUrl::Tcp { .. } = &self.url else { return None };
        let url = self.url.to_string();
        let place = without_scheme(&url);
        let server = place.parse().map_or_else(|_| format!("http://{place}"), |at| OpenedAddress(at).url());
        Some(format!("{server}{path}"))
    }

    pub fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// Connects, and asks nothing. Blocks for `patience` at the most.
    pub fn touch(&self, patience: Duration) -> Result<(), ControlError> {
        self.url.touch(patience).map_err(|error| ControlError::Ask { url: self.url.clone(), error })
    }

    /// The body of its answer, which was a 200. Blocks for `patience` at the most.
    pub fn ask(
        &self,
        method: &str,
        order: &'static str,
        parameters: Vec<String>,
        patience: Duration,
    ) -> Result<String, ControlError> {
        let url = self.url.clone();
        let token = self.token.iter().map(|token| format!("token={}", token.reveal()));
        let query = parameters.into_iter().chain(token).collect::<Vec<_>>().join("&");
        let target = if query.is_empty() { format!("/{order}") } else { format!("/{order}?{query}") };
        let answer = match url.ask(method, &target, patience) {
            Ok(answer) => answer,
            Err(error) => return Err(ControlError::Ask { url, error }),
        };
        if answer.status == 200 {
            return Ok(answer.body);
        }
        let said = answer.body.chars().take(MOST_SAID).collect();
        match answer.status {
            403 => Err(ControlError::Forbidden { url, said }),
            404 => Err(ControlError::Unsupported { url, order, said }),
            status => Err(ControlError::Refused { url, order, status, said }),
        }
    }
}
