//! The optional experiments.

use std::time::Duration;

use super::Free;

/// The result of `--zombies`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Zombies {
    /// How many streams stopped reading after their first event. If 0, nothing else was measured.
    pub n: usize,
    /// How long they were watched.
    pub watched: Duration,
    /// Time until the first event of the tab beside them; `None` if none arrived.
    pub tab: Option<Duration>,
    /// Time until the page beside them was answered; `None` if it was not.
    pub page: Option<Duration>,
    /// Unsent bytes at the server's ends of these connections, where the kernel shows them.
    pub unsent: Option<u64>,
    /// How long the server took to recover after everything was closed.
    pub free: Option<Free>,
}

/// The result of `--http2`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Http2 {
    /// Why HTTP/2 could not be measured, if it could not.
    pub error: Option<String>,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`; `None` if the server announced no limit.
    pub announced: Option<u32>,
    /// Number of streams that ran at the same time on the first connection.
    pub reached: usize,
    /// The reason why the next stream did not run: `settings`, `refused-stream`, `waits`, `reset`, or nothing.
    pub stopped_by: Option<Http2Stop>,
    /// Whether a page on the same connection was answered.
    pub page: Option<bool>,
    /// Whether a stream on a second connection delivered an event.
    pub second_connection: Option<bool>,
    /// Whether a new stream on the first connection delivered an event after all others had been canceled.
    pub after_cancel: Option<bool>,
}

/// How HTTP/2 stopped a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Http2Stop {
    /// The announced maximum.
    Settings,
    /// `REFUSED_STREAM`.
    RefusedStream,
    /// The stream was accepted, but no event arrived.
    Waits,
    /// The stream ended without an event, with another status, or by another reset or error.
    Reset,
}

/// The result of `--http10`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http10 {
    /// Whether an HTTP/1.0 stream delivered an event.
    pub flowed: bool,
    /// Time from its first event to its end, if the server ended the stream within two gaps between events.
    pub ended: Option<Duration>,
    /// Number of streams that a climb without pages found afterward.
    pub streams_after: Option<usize>,
}
