//! The target of the run: the stream, its unit, and the pages before the first stream.

use std::net::IpAddr;
use std::time::Duration;

/// The target of the run.
#[derive(Debug, Clone, Default)]
pub struct ProbeTarget {
    /// Without user and password.
    pub url: String,
    /// `GET`, `POST`, …
    pub method: String,
    /// The version of the first response: `1.0`, `1.1` or `2`.
    pub http: String,
    /// The unit that counts as an event; unknown until a stream has opened.
    pub unit: Option<Unit>,
    /// The `Server` header of the first response, without control characters.
    pub server: Option<String>,
    /// Names of cookies that the server set, without their values.
    pub sets_cookies: Vec<String>,
    /// Whether a cookie was given.
    pub has_cookie: bool,
    /// Whether a header of the stream or of a page says that a cache answered it.
    pub names_a_cache: bool,
    /// Maximum number of connections held at the same time.
    pub tabs: usize,
    /// The one address that all connections went to.
    pub address: Option<IpAddr>,
    /// How long waiting tabs were watched.
    pub patience: Duration,
}

/// The unit that counts as an event of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// `text/event-stream`: a dispatched event.
    Sse,
    /// A server-sent comment or `retry:` on a stream that stays open, because no event came within 3 s.
    SignOfLife,
    /// `application/x-ndjson` and similar: a line.
    Line,
    /// Another chunked body: its first chunk.
    Chunk,
}

/// A page before the first stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// With its query.
    pub path: String,
    /// Its status.
    pub status: u16,
    /// Median of the three asks that agreed.
    pub time: Duration,
}

impl Baseline {
    /// The limit within which a page counts as answered: ten times its usual time, at least 3 s.
    pub fn limit(&self) -> Duration {
        (self.time * 10).max(Duration::from_secs(3))
    }
}
