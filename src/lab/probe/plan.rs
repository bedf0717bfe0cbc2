//! The plan of one run of the probe: its target, its limits, and the requested experiments.

use std::net::SocketAddr;
use std::time::Duration;

use url::Url;

/// Default of `--tabs`.
pub const DEFAULT_TABS: usize = 40;

/// The values that `--tabs` accepts.
pub const TABS: std::ops::RangeInclusive<usize> = 2..=1000;

/// The longest `--patience`.
pub const LONGEST_PATIENCE: Duration = Duration::from_secs(3600);

/// How long the first tab and waiting tabs are watched, unless `--patience` says otherwise.
pub const WAITING_PATIENCE: Duration = Duration::from_secs(12);

/// Once a limit is found, the open streams are watched until the oldest one has this age, unless `--patience` says
/// otherwise.
pub const LISTENING_PATIENCE: Duration = Duration::from_secs(33);

/// How long zombies are watched, unless `--patience` says otherwise.
pub const ZOMBIE_PATIENCE: Duration = Duration::from_secs(60);

/// The plan of a run. The command line has already checked its values.
#[derive(Clone)]
pub struct ProbePlan {
    /// The URL of the stream. It may contain `{tab}`, percent-encoded or not.
    pub url: Url,
    /// URLs of pages on the same host, at least one.
    pub pages: Vec<Url>,
    /// The one address that every connection goes to.
    pub address: SocketAddr,
    /// Maximum number of connections held at the same time.
    pub tabs: usize,
    /// `--patience`, which replaces the three defaults above.
    pub patience: Option<Duration>,
    /// `--zombies`.
    pub zombies: Option<usize>,
    /// `--http10`.
    pub http10: bool,
    /// `--http2`.
    pub http2: bool,
    /// The stream's method.
    pub method: String,
    /// The stream's body.
    pub body: Option<Vec<u8>>,
    /// Header fields of every request, after those of an EventSource or a page, which they replace by name.
    pub headers: Vec<(String, Vec<u8>)>,
    /// `--cookie`: sent with every request.
    pub cookie: Option<String>,
    /// `--other-cookie`: sent instead of `cookie` by the other user. `None` sends no cookie.
    pub other_cookie: Option<String>,
    /// `--insecure`.
    pub is_insecure: bool,
    /// `--control-url`, and the token to send.
    pub control: Option<ControlAddress>,
}

/// A control server of ninetabs or Puma.
#[derive(Clone)]
pub struct ControlAddress {
    /// `http://HOST:PORT`.
    pub url: Url,
    /// Sent as `token`, if there is one.
    pub token: Option<String>,
}

impl ProbePlan {
    /// The plan for a stream beside these pages, with the defaults of the command line.
    pub fn new(url: Url, pages: Vec<Url>, address: SocketAddr) -> ProbePlan {
        ProbePlan {
            url,
            pages,
            address,
            tabs: DEFAULT_TABS,
            patience: None,
            zombies: None,
            http10: false,
            http2: false,
            method: "GET".to_owned(),
            body: None,
            headers: Vec::new(),
            cookie: None,
            other_cookie: None,
            is_insecure: false,
            control: None,
        }
    }

    /// How long the first tab, and each tab that waits, is watched.
    pub fn waiting_patience(&self) -> Duration {
        self.patience.unwrap_or(WAITING_PATIENCE)
    }

    /// The age of the oldest stream until which the open streams are watched, once a limit is found.
    pub fn listening_patience(&self) -> Duration {
        self.patience.unwrap_or(LISTENING_PATIENCE)
    }

    /// How long zombies are watched.
    pub fn zombie_patience(&self) -> Duration {
        self.patience.unwrap_or(ZOMBIE_PATIENCE)
    }

    /// Whether a request carries a cookie, by `--cookie` or by a header.
    pub fn has_cookie(&self) -> bool {
        self.cookie.is_some() || self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("cookie"))
    }
}
