//! Slots that return, streams that the server ends, and how the server recovers after everything was closed.

use std::time::Duration;

/// A stream that was closed to measure how long its slot takes to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotReturn {
    /// Whether the stream was closed by FIN or by RST.
    pub by: CloseBy,
    /// Time until the first event of the tab that took the slot; `None` if no tab took it within 15 s.
    pub after: Option<Duration>,
    /// Number of tabs that ended in between.
    pub ends_between: usize,
    /// Whether something else may have freed a slot, so that the figure proves nothing.
    pub is_void: bool,
}

/// How a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseBy {
    /// As a browser closes a tab.
    Fin,
    /// As a killed program with unread data does.
    Rst,
}

/// A stream that the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The tab's number, or 0 for a connection that is not a step of a staircase.
    pub tab: usize,
    /// When the stream ended.
    pub at: Duration,
    /// Time from its first event to its end.
    pub age: Duration,
    /// How the server ended the stream.
    pub how: CutHow,
    /// Whether a `retry:` or a comment came right before the end.
    pub is_polite: bool,
}

/// How the server ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CutHow {
    /// In the middle of the response, or by a reset.
    Abrupt,
    /// With a complete response.
    Clean,
    /// After `[DONE]`, or with a complete response to a request other than GET: there was nothing more to send.
    Finished,
}

/// Step 6: how long the server takes to recover after everything was closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Free {
    /// Time until the page was answered.
    pub page: Option<Duration>,
    /// Time until the first event of a fresh stream.
    pub stream: Option<Duration>,
}
