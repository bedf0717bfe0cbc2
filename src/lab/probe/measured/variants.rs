//! Streams asked for in another way: another cookie, another address, past a cache, with a coding.

use std::time::Duration;

/// Three asks of a stream under another condition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// How many flowed.
    pub flowed: usize,
    /// Of how many.
    pub of: usize,
}

/// Streams from 127.0.0.2, beside those from 127.0.0.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OtherAddress {
    /// From the other address.
    pub other: Tries,
    /// From our own at the same time.
    pub own: Tries,
    /// Whether a stream ended meanwhile, which makes it luck.
    pub a_stream_ended: bool,
}

/// A late tab whose first read held all events that the first tab had received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedStream {
    /// Events in its first read.
    pub events_at_once: usize,
    /// Events that the first tab had received by then.
    pub events_of_the_first: usize,
    /// Whether a stream with a random query parameter began anew, which proves the cache.
    pub a_new_address_begins_anew: Option<bool>,
}

/// Events that came late in blind mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LateEvents {
    /// From the first SYN of that stream.
    pub after: Duration,
    /// Events in the first arrival that had any.
    pub at_once: usize,
}

/// Step 8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// The `Accept-Encoding` of this stream.
    pub accepted: String,
    /// The `Content-Encoding` of its response.
    pub coding: Option<String>,
    /// To its first event; `None` if none came in time.
    pub first_event: Option<Duration>,
    /// How long its first event was waited for.
    pub within: Duration,
    /// Whether identity flows: if this stream was not answered at all, as seen right after it.
    pub identity_flows: bool,
    /// Body bytes that came without completing an event, as they were sent: a gzip header has ten, and decodes to none.
    pub bytes: usize,
}
