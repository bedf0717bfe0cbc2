//! The experiments that run on request only.

use std::time::Duration;

use super::Free;

/// `--zombies`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Zombies {
    /// How many streams stopped reading after their first event. With 0, nothing else was measured.
    pub n: usize,
    /// How long they were watched.
    pub watched: Duration,
    /// To the first event of the tab that waited beside them; `None` if none came.
    pub tab: Option<Duration>,
    /// To the answer of the page that was pending; `None` if none came.
    pub page: Option<Duration>,
    /// Unsent bytes at the server's ends, where the kernel shows them.
    pub unsent: Option<u64>,
    /// Whether everything was free afterwards.
    pub free: Option<Free>,
}

/// `--http2`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Http2 {
    /// Why it could not be measured.
    pub error: Option<String>,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`; `None` if the server announced no limit.
    pub announced: Option<u32>,
    /// Streams that flowed on the first connection.
    pub reached: usize,
    /// How the stream beyond them failed: `settings`, `refused-stream`, `waits`, `reset`, or none.
    pub stopped_by: Option<Http2Stop>,
    /// Whether a page on the same connection was answered.
    pub page: Option<bool>,
    /// Whether a stream on a second connection flowed.
    pub second_connection: Option<bool>,
    /// Whether a stream flowed on the first connection after all were canceled.
    pub after_cancel: Option<bool>,
}

/// How HTTP/2 stopped a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Http2Stop {
    /// The announced maximum.
    Settings,
    /// `REFUSED_STREAM`.
    RefusedStream,
    /// Accepted, and no event came.
    Waits,
    /// It ended without an event, with another status, or by another reset or error.
    Reset,
}

/// `--http10`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http10 {
    /// Whether a stream by HTTP/1.0 delivered an event.
    pub flowed: bool,
    /// From its first event to its end, if the server ended it within two gaps.
    pub ended: Option<Duration>,
    /// Streams of a climb afterwards, without pages.
    pub streams_after: Option<usize>,
}
