//! The flags that name a control server, and the requests to it. They are shared by `ctl`, `top` and the
//! commands that print an address. Each error message includes what to do.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use thiserror::Error;

use super::control_client::{AskError, ControlUrl};
use super::files::{FileError, cause};
use super::greeting::OpenedAddress;
use super::state_file;
use super::token_file::{self, TokenFileError};
use super::values::{self, OrNoToken, SecretToken, without_scheme};
use crate::control::Token;
use crate::lab::http::HttpError;

/// The maximum number of characters of a refusal that are repeated, since any program may be listening at
/// the address.
const MOST_SAID: usize = 200;

/// The token of a control server, as `serve` and `probe` take it.
#[derive(Debug, Clone, Args)]
pub struct ControlTokenArg {
    /// Token of control requests, sent as ?token= [default: none]
    ///
    /// At least 3 characters. A server without one can be controlled by any local program. Other users can
    /// see the flag in the list of processes; the environment variable keeps the token secret.
    #[arg(
        id = "control_token",
        long = "control-token",
        value_name = "TOKEN|none",
        env = "NINETABS_CONTROL_TOKEN",
        default_value = values::NO_TOKEN,
        hide_env_values = true,
        value_parser = SecretToken
    )]
    pub token: OrNoToken,
}

/// The server's address and its token, as typed.
// clap passes the value of a global flag to the commands above it as well, by its id. The ids therefore
// differ from those of `serve`'s flags of the same names.
#[derive(Debug, Clone, Args)]
pub struct ControlServerArgs {
    /// Control server: tcp://, http:// or unix:// [default: tcp://127.0.0.1:9293]
    #[arg(
        id = "ctl_control_url",
        long = "control-url",
        value_name = "URL",
        env = "NINETABS_CONTROL_URL",
        default_value = values::CONTROL_URL,
        global = true
    )]
    pub control_url: ControlUrl,
    /// Token of the control server [default: none]
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
    /// File with the token on its only line
    #[arg(
        id = "ctl_control_token_file",
        long = "control-token-file",
        value_name = "PATH",
        env = "NINETABS_CONTROL_TOKEN_FILE",
        conflicts_with = "ctl_control_token",
        global = true
    )]
    pub control_token_file: Option<PathBuf>,
    /// State file of a running server, with its address and token
    ///
    /// It overrides --control-url and --control-token.
    #[arg(id = "ctl_state", long = "state", value_name = "PATH", global = true)]
    pub state: Option<PathBuf>,
}

/// Why a request got no usable answer.
#[derive(Debug, Error)]
pub enum ControlError {
    #[error(transparent)]
    TokenFile(#[from] TokenFileError),
    #[error("--state {}: its token is invalid: {what}", .path.display())]
    StateToken { path: PathBuf, what: String },
    #[error("cannot read --state {}: {error}; give the state file of a running server (`ninetabs serve --state PATH`)", .path.display())]
    State { path: PathBuf, error: FileError },
    #[error("--state {}: {why}; start the server with --control-url", .path.display())]
    NoControlServer { path: PathBuf, why: String },
    #[error("{}", no_answer(url, error))]
    Ask { url: ControlUrl, error: AskError },
    #[error(
        "{url} refused the request: {said}; give its token with --control-token or --control-token-file, or its state file with --state"
    )]
    Forbidden { url: ControlUrl, said: String },
    #[error("{url} has no {order}: {said}; `ninetabs ctl --help` lists the commands of ninetabs and of Puma")]
    Unsupported { url: ControlUrl, order: &'static str, said: String },
    #[error("{url} refused {order} with {status}: {said}")]
    Refused { url: ControlUrl, order: &'static str, status: u16, said: String },
}

fn no_answer(url: &ControlUrl, error: &AskError) -> String {
    let cause = match error {
        AskError::Unreachable(HttpError::Refused { .. }) => "connection refused".to_owned(),
        AskError::Unreachable(HttpError::Connect { source, .. } | HttpError::Resolve { source, .. }) => {
            cause(source)
        }
        AskError::Unreachable(HttpError::ConnectTimedOut { after, .. }) => {
            format!("no connection within {after:?}")
        }
        AskError::Unreachable(error) => error.to_string(),
        AskError::Broken(HttpError::Reset { source }) => {
            return format!(
                "{url}: the connection broke: {}; name another server with --control-url or --state",
                cause(source)
            );
        }
        error => return format!("{url}: {error}; name another server with --control-url or --state"),
    };
    format!(
        "cannot connect to {url}: {cause}. Start a server with `ninetabs`, or name one with --control-url or --state"
    )
}

impl ControlServerArgs {
    /// Finds the server. As with pumactl, a state file overrides both flags. The file is read again at each
    /// call.
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
        let url = found.url.ok_or_else(|| "it has no control_url".to_owned());
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

/// A control server, whether or not it is running.
#[derive(Debug, Clone)]
pub struct ControlServer {
    pub url: ControlUrl,
    token: Option<Token>,
}

impl ControlServer {
    /// The address of one of its pages, without the token. `None` for a Unix socket. An unspecified IP
    /// address becomes the loopback address, which a browser on this machine can open.
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

    /// Connects, without sending a request. Blocks for at most `patience`.
    pub fn touch(&self, patience: Duration) -> Result<(), ControlError> {
        self.url.touch(patience).map_err(|error| ControlError::Ask { url: self.url.clone(), error })
    }

    /// Returns the body of a 200. Any other status is an error. Blocks for at most `patience`.
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
