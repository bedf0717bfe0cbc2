//! Everything that was seen on each connection, for the report.

use std::time::Duration;

use super::WaitPlace;

/// Everything that was seen on one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeLane {
    /// `tab 3`, `/page`, `idle`, …
    pub name: String,
    /// What it carried.
    pub kind: LaneKind,
    /// When its connection was begun.
    pub from: Duration,
    /// When it ended.
    pub to: Duration,
    /// Its events. At most [`MAX_TICKS`] are kept.
    pub ticks: Vec<Duration>,
    /// From when to when it waited, and where.
    pub wait: Option<(Duration, Duration, Option<WaitPlace>)>,
    /// How it ended.
    pub end: LaneEnd,
}

/// Events that a lane keeps. Later ones are counted, not kept.
pub const MAX_TICKS: usize = 400;

/// What a connection carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LaneKind {
    /// A stream.
    #[default]
    Stream,
    /// A page.
    Page,
    /// No request, or one that had been answered.
    Held,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LaneEnd {
    /// We closed it.
    #[default]
    ClosedByUs,
    /// The server cut a stream that had flowed.
    Cut,
    /// The server refused it, or ended it without an event.
    Refused(Option<u16>),
    /// A page that was answered.
    Answered,
}
