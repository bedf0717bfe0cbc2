//! Streams that are requested in another way: with another cookie, from another address, bypassing caches, or
//! compressed.

use std::time::Duration;

/// Up to three streams that were requested under another condition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// How many delivered an event.
    pub flowed: usize,
    /// How many were requested.
    pub of: usize,
}

/// Streams from 127.0.0.2, alternating with streams from 127.0.0.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OtherAddress {
    /// Streams from the other address.
    pub other: Tries,
    /// Streams from our own address at the same time.
    pub own: Tries,
    /// Whether a stream ended during the experiment, so that the result may be due to chance.
    pub a_stream_ended: bool,
}

/// A late tab, and whether its first read had all events that the first tab had received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedStream {
    /// Events in its first read.
    pub events_at_once: usize,
    /// Events that the first tab had received by then.
    pub events_of_the_first: usize,
    /// Whether a stream with a random query parameter began anew, which proves the cache.
    pub a_new_address_begins_anew: Option<bool>,
}

/// Events that arrived late in blind mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LateEvents {
    /// Time from the first SYN of the stream to its first event.
    pub after: Duration,
    /// Number of events in the first arrival that had any.
    pub at_once: usize,
}

/// Step 8: a stream that accepts compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// The `Accept-Encoding` of this stream.
    pub accepted: String,
    /// The `Content-Encoding` of its response.
    pub coding: Option<String>,
    /// Time until its first event; `None` if none arrived in time.
    pub first_event: Option<Duration>,
    /// How long the probe waited for the first event.
    pub within: Duration,
    /// Whether an uncompressed stream delivers events. If this stream was not answered at all, an uncompressed one is
    /// tried right after it.
    pub identity_flows: bool,
    /// Number of body bytes that arrived if no event did, before decoding: a gzip header has ten, which decode to
    /// nothing.
    pub bytes: usize,
}
