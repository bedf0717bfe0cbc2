//! The target of the run: the stream, its unit, and the baseline of the pages.

use std::net::IpAddr;
use std::time::Duration;

/// The target of the run.
#[derive(Debug, Clone, Default)]
pub struct ProbeTarget {
    /// The URL of the stream, without user and password.
    pub url: String,
    /// The method: `GET`, `POST`, …
    pub method: String,
    /// The version of the first response: `1.0`, `1.1` or `2`.
    pub http: String,
    /// The unit that counts as an event; unknown until a stream has opened.
    pub unit: Option<Unit>,
    /// The `Server` header of the first response, without control characters.
    pub server: Option<String>,
    /// Names of cookies that the server set, without their values.
    pub sets_cookies: Vec<String>,
    /// Whether the command line gives a cookie.
    pub has_cookie: bool,
    /// Whether a header of the stream or of a page shows that a cache answered.
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
    /// A comment or `retry:` of a `text/event-stream` on which no event arrived within 3 s.
    SignOfLife,
    /// `application/x-ndjson` and similar: a line.
    Line,
    /// Another chunked body: its first chunk.
    Chunk,
}

/// How a page answered before the first stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The path, including its query.
    pub path: String,
    /// Its status.
    pub status: u16,
    /// Median time of the three requests that agreed.
    pub time: Duration,
}

impl Baseline {
    /// The time within which a page must answer: ten times its usual time, but at least 3 s.
    pub fn limit(&self) -> Duration {
        (self.time * 10).max(Duration::from_secs(3))
    }
}
