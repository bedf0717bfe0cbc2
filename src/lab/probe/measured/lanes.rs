//! The observations of each connection, for the report.

use std::time::Duration;

use super::WaitPlace;

/// The observations of one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeLane {
    /// `tab 3`, `/page`, `idle`, …
    pub name: String,
    /// What the connection carried.
    pub kind: LaneKind,
    /// When the client began to connect.
    pub from: Duration,
    /// When the connection ended.
    pub to: Duration,
    /// The times of its events, at most [`MAX_TICKS`].
    pub ticks: Vec<Duration>,
    /// From when until when its request waited, and where.
    pub wait: Option<(Duration, Duration, Option<WaitPlace>)>,
    /// How the connection ended.
    pub end: LaneEnd,
}

/// Maximum number of events whose time a lane keeps. Later events are only counted.
pub const MAX_TICKS: usize = 400;

/// What a connection carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LaneKind {
    /// A stream.
    #[default]
    Stream,
    /// A page.
    Page,
    /// No request, or only one that had been answered.
    Held,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LaneEnd {
    /// The probe closed it.
    #[default]
    ClosedByUs,
    /// The server ended a stream that had delivered events, or closed a held connection.
    Cut,
    /// The server refused the request or ended it without an event. Has the status, if there was one.
    Refused(Option<u16>),
    /// A page that was answered.
    Answered,
}
