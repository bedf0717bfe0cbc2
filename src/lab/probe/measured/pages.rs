//! The pages asked beside the streams.

use std::time::Duration;

use super::WaitPlace;

/// The asks of one path beside one tab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAsks {
    /// With its query.
    pub path: String,
    /// In the order in which they ended, at most three.
    pub asks: Vec<PageAsk>,
}

impl PageAsks {
    /// How many were answered.
    pub fn answered(&self) -> usize {
        self.asks.iter().filter(|ask| ask.outcome == PageOutcome::Answered).count()
    }

    /// Whether none was answered.
    pub fn is_dead(&self) -> bool {
        !self.asks.is_empty() && self.answered() == 0
    }

    /// Whether some were answered and some were not.
    pub fn is_partial(&self) -> bool {
        self.answered() > 0 && self.answered() < self.asks.len()
    }
}

/// One ask of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageAsk {
    /// Its outcome.
    pub outcome: PageOutcome,
    /// To the complete answer, to the end, or to the moment at which it was given up.
    pub time: Duration,
    /// Where it waited, if it went unanswered.
    pub place: Option<WaitPlace>,
}

/// The outcome of a page ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageOutcome {
    /// Complete, with the status of the baseline, in time.
    Answered,
    /// Complete, with another status.
    Status(u16),
    /// The server closed the connection before the response was complete.
    Closed,
    /// The server reset the connection before the response was complete.
    Reset,
    /// The connection was refused or could not be made.
    NotConnected,
    /// Nothing came in time.
    Nothing,
}

/// The page ask that was listened to until the streams were closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatePage {
    /// Its path.
    pub path: String,
    /// How it ended while the streams were open; `Nothing` if it did not.
    pub ask: PageAsk,
    /// Whether the response looks like that of another program than the baseline's.
    pub is_from_another_sender: bool,
}

/// A page at the limit, with a random query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncachedPage {
    /// Without the parameter.
    pub path: String,
    /// Whether it was answered as it is.
    pub plain: bool,
    /// Whether it was answered with the parameter.
    pub uncached: bool,
}
