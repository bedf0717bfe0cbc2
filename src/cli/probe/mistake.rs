//! Wrong usage of `probe`. No message repeats a value that may be a secret.

use crate::cli::files::FileError;
use crate::lab::http::FieldError;

/// The reason why a run cannot be planned.
#[derive(Debug)]
pub enum ProbeError {
    /// Exit status 2.
    Misused(ProbeMistake),
    /// The name of the host does not resolve: exit status 3.
    Unreachable {
        /// The resolver's error.
        why: String,
    },
}

impl From<ProbeMistake> for ProbeError {
    fn from(mistake: ProbeMistake) -> ProbeError {
        ProbeError::Misused(mistake)
    }
}

/// A mistake in the arguments.
#[derive(Debug, thiserror::Error)]
pub enum ProbeMistake {
    #[error("{0}")]
    Url(String),
    #[error("'{url}' has no scheme; give http://{url}")]
    NoScheme { url: String },
    #[error("{what} has a user or a password; leave them out, and give -u USER:PASSWORD")]
    Userinfo { what: &'static str },
    #[error("--page '{page}': {why}; give a path such as /up, or a URL")]
    Page { page: String, why: String },
    #[error("--page '{page}': it is on another host; give a page of {host}")]
    OtherHost { page: String, host: String },
    #[error("-H: give 'NAME: VALUE', such as 'Authorization: Bearer TOKEN'")]
    Header,
    #[error("-H: {0}; give another header")]
    HeaderValue(FieldError),
    #[error("-X '{method}': {why}; give a method such as GET or POST")]
    Method { method: String, why: &'static str },
    #[error("-u: give USER:PASSWORD, with a colon and without line breaks")]
    User,
    #[error("{flag}: give NAME=VALUE, without line breaks")]
    Cookie { flag: &'static str },
    #[error("--cookie cannot be used with a Cookie header given by -H: give only one of them")]
    TwoCookies,
    #[error("--other-cookie: give the first user's cookie as well, with --cookie")]
    OtherCookieAlone,
    #[error("cannot read -d @{path}: {error}; give the path of a file")]
    Data { path: String, error: FileError },
    #[error("--zombies {zombies}: give a number up to {most}, or a greater number of --tabs")]
    Zombies { zombies: usize, most: usize },
    #[error("--fail-below {streams}: give a number up to the value of --tabs, {tabs}")]
    FailBelow { streams: usize, tabs: usize },
    #[error("--control-url: give tcp://HOST:PORT; probe cannot query a Unix socket")]
    ControlSocket,
    #[error("--control-url: cannot resolve {host}: {why}; give tcp://HOST:PORT")]
    ControlHost { host: String, why: String },
    #[error(
        "cannot probe {host}: it is not this machine; a probe makes its pages hang for up to a minute, so confirm with \
         --i-own-this-host"
    )]
    NotThisMachine { host: String },
}
