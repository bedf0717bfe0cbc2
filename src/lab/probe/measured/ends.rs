//! Ends: slots that return, streams that the server cuts, and the server after everything was closed.

use std::time::Duration;

/// A stream that was closed to see how long its slot takes to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotReturn {
    /// FIN or RST.
    pub by: CloseBy,
    /// To the first event of the tab that took the slot; `None` if none did in 15 s.
    pub after: Option<Duration>,
    /// Tabs that ended in between.
    pub ends_between: usize,
    /// Whether something else happened that frees a slot, so that the figure says nothing.
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
    /// When it ended.
    pub at: Duration,
    /// From its first event to its end.
    pub age: Duration,
    /// How it ended.
    pub how: CutHow,
    /// Whether a `retry:` or a comment came right before.
    pub is_polite: bool,
}

/// How the server ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CutHow {
    /// Against the framing, or by a reset.
    Abrupt,
    /// By its framing.
    Clean,
    /// `[DONE]`, or by the framing of a request other than GET: the answer was complete.
    Finished,
}

/// Step 6: everything is closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Free {
    /// To the page's answer.
    pub page: Option<Duration>,
    /// To the first event of a fresh stream.
    pub stream: Option<Duration>,
}
