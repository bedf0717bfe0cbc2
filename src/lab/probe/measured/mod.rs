//! The measurements of a probe run, as plain data.
//!
//! The procedure fills a [`Measured`], [`findings`](super::findings) infers the limit from it, and the exporters print
//! both. This module uses neither sockets nor clocks, so tests can write the outcomes of a staircase as literals.
//!
//! All times are durations. A time that is named `at` is measured from the beginning of the run. A figure that was not
//! measured is `None`.

mod ends;
mod evidence;
mod experiments;
mod held;
mod lanes;
mod pages;
mod staircase;
mod stopped;
mod target;
mod variants;

use std::time::Duration;

pub use ends::{CloseBy, Cut, CutHow, Free, SlotReturn};
pub use evidence::{ListeningProcess, StatFigures, Statistics, StatsMoment};
pub use experiments::{Http2, Http2Stop, Http10, Zombies};
pub use held::HeldConnections;
pub use lanes::{LaneEnd, LaneKind, MAX_TICKS, ProbeLane};
pub use pages::{LatePage, PageAsk, PageAsks, PageOutcome, UncachedPage};
pub use staircase::{Climb, ProbedTab, TabOutcome, WaitPlace};
pub use stopped::Stopped;
pub use target::{Baseline, ProbeTarget, Unit};
pub use variants::{Compression, LateEvents, OtherAddress, SharedStream, Tries};

/// Everything that one run of `ninetabs probe` measured.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// The target of the run.
    pub target: ProbeTarget,
    /// One entry per page, in the order in which they were given.
    pub baseline: Vec<Baseline>,
    /// Whether the first tab received no event in time, so that the pages alone showed the limit.
    pub is_blind: bool,
    /// The climbs. Only the first one has all details.
    pub climbs: Vec<Climb>,
    /// The tabs of the first climb beyond the last one that streamed: the one that got nothing, a second one, and
    /// their replacements, in the order in which they were opened.
    pub waiting: Vec<ProbedTab>,
    /// The page request that was left open until the streams were closed.
    pub late_page: Option<LatePage>,
    /// The three streams with the other cookie.
    pub other_cookie: Option<Tries>,
    /// The three streams from another address, and the three from this one.
    pub other_address: Option<OtherAddress>,
    /// Pages that answered at the limit, requested once more with a random query parameter.
    pub uncached_pages: Vec<UncachedPage>,
    /// Whether a late tab received the events of the first tab, which may come from a cache.
    pub shared_stream: Option<SharedStream>,
    /// Up to three closed streams, and how long each slot took to return.
    pub slot_returns: Vec<SlotReturn>,
    /// Whether a slot returned to a fresh tab while an older one still waited.
    pub slot_went_to_a_fresh_tab: bool,
    /// Streams that the server ended, at any time during the run.
    pub cuts: Vec<Cut>,
    /// How long the page and a fresh stream took after everything had been closed.
    pub free: Option<Free>,
    /// The experiments with silent connections: N of them, and 2N if N did not stop a page.
    pub idle: Vec<HeldConnections>,
    /// The experiment with keep-alive connections on which a page was answered.
    pub kept: Option<HeldConnections>,
    /// The gaps between events, with all streams open.
    pub crowded_gaps: Vec<Duration>,
    /// The gaps between the events of a single stream, right after all others were closed.
    pub lone_gaps: Vec<Duration>,
    /// Body bytes per arrival on the streams. Arrivals are at least 100 ms apart. The first one of each stream is left
    /// out.
    pub arrivals: Vec<usize>,
    /// In blind mode: when events arrived after all, and how many arrived together.
    pub late_events: Option<LateEvents>,
    /// A stream that accepts gzip, or one that does not if the command line asks for compression.
    pub compression: Option<Compression>,
    /// The answers of the control URL's `/stats`, in order.
    pub statistics: Vec<Statistics>,
    /// The processes that hold the listening socket, as they were before the first tab.
    pub listeners_before: Vec<ListeningProcess>,
    /// The processes that hold the listening socket, as they were at the limit.
    pub listeners_at_limit: Vec<ListeningProcess>,
    /// The result of `--zombies`.
    pub zombies: Option<Zombies>,
    /// The result of `--http2`.
    pub http2: Option<Http2>,
    /// The result of `--http10`.
    pub http10: Option<Http10>,
    /// How long the oldest stream was watched.
    pub watched: Duration,
    /// Number of requests that were sent.
    pub requests: usize,
    /// Number of page requests that were closed before they were answered.
    pub abandoned_pages: usize,
    /// Number of streams that were closed before their first event.
    pub abandoned_streams: usize,
    /// Why the run ended early, if it did.
    pub stopped: Option<Stopped>,
    /// The observations of each connection, for the report.
    pub lanes: Vec<ProbeLane>,
}
