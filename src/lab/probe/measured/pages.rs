//! The pages that are requested beside the streams.

use std::time::Duration;

use super::WaitPlace;

/// The requests for one path beside one tab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAsks {
    /// The path, including its query.
    pub path: String,
    /// The requests, at most three, in the order in which they ended.
    pub asks: Vec<PageAsk>,
}

impl PageAsks {
    /// How many requests were answered.
    pub fn answered(&self) -> usize {
        self.asks.iter().filter(|ask| ask.outcome == PageOutcome::Answered).count()
    }

    /// Whether no request was answered.
    pub fn is_dead(&self) -> bool {
        !self.asks.is_empty() && self.answered() == 0
    }

    /// Whether some requests were answered and some were not.
    pub fn is_partial(&self) -> bool {
        self.answered() > 0 && self.answered() < self.asks.len()
    }
}

/// One request for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageAsk {
    /// Its outcome.
    pub outcome: PageOutcome,
    /// Time until the complete answer, the end, or the moment at which the probe stopped waiting.
    pub time: Duration,
    /// Where the request waited, if it was not answered.
    pub place: Option<WaitPlace>,
}

/// The outcome of a page request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageOutcome {
    /// It got a complete response in time, with the status of the baseline.
    Answered,
    /// It got a complete response with another status.
    Status(u16),
    /// The server closed the connection before the response was complete.
    Closed,
    /// The server reset the connection before the response was complete.
    Reset,
    /// The connection was refused or could not be made.
    NotConnected,
    /// It got no complete response in time.
    Nothing,
}

/// The page request that was left open until the streams were closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatePage {
    /// Its path.
    pub path: String,
    /// How the request ended while the streams were open; `Nothing` if it did not end.
    pub ask: PageAsk,
    /// Whether the response appears to come from another program than the baseline's response.
    pub is_from_another_sender: bool,
}

/// A page at the limit, with a random query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncachedPage {
    /// The path without the parameter.
    pub path: String,
    /// Whether the page was answered without the parameter.
    pub plain: bool,
    /// Whether the page was answered with the parameter.
    pub uncached: bool,
}
