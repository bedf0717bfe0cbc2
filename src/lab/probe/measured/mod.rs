//! What a probe measured, as plain data.
//!
//! The procedure fills a [`Measured`]; [`findings`](super::findings) infers the limit from it, and the
//! exporters print both. Nothing here knows a socket or a clock: a test writes the outcomes of a staircase
//! as literals.
//!
//! Times are durations. "At" means since the run began. A figure that was not measured is `None`.

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
    /// Whether the first tab received no event in time, so that tabs were judged by the pages alone.
    pub is_blind: bool,
    /// The climbs, the first of which has all details.
    pub climbs: Vec<Climb>,
    /// The tabs of the first climb beyond the last that flowed: the one that got nothing, a second one, and
    /// their replacements, in the order in which they were opened.
    pub waiting: Vec<ProbedTab>,
    /// The page ask that stayed open until the streams were closed.
    pub late_page: Option<LatePage>,
    /// The three asks with the other cookie.
    pub other_cookie: Option<Tries>,
    /// The three asks from another address, and from this one.
    pub other_address: Option<OtherAddress>,
    /// Pages that answered at the limit, asked once more with a random query parameter.
    pub uncached_pages: Vec<UncachedPage>,
    /// One stream with a random query parameter, where a cache was suspected: the tab shares the first tab's events.
    pub shared_stream: Option<SharedStream>,
    /// Up to three closes, and how long each slot took to come back.
    pub slot_returns: Vec<SlotReturn>,
    /// Whether a slot returned to a fresh tab while an older one went on waiting.
    pub slot_went_to_a_fresh_tab: bool,
    /// Streams that the server ended, whenever in the run.
    pub cuts: Vec<Cut>,
    /// How long the page and a fresh stream took after everything had been closed.
    pub free: Option<Free>,
    /// Silent connections: N of them, then perhaps 2N.
    pub idle: Vec<HeldConnections>,
    /// Connections that were answered a page and stay open.
    pub kept: Option<HeldConnections>,
    /// The gaps between events, with all streams open.
    pub crowded_gaps: Vec<Duration>,
    /// The gaps of one stream alone, right after the others were closed.
    pub lone_gaps: Vec<Duration>,
    /// Body bytes per arrival of the open streams; arrivals are 100 ms apart or more, the first excluded.
    pub arrivals: Vec<usize>,
    /// In blind mode: when events came after all, and how many at once.
    pub late_events: Option<LateEvents>,
    /// A stream that accepts gzip (or, if a header was given, the other variant).
    pub compression: Option<Compression>,
    /// The `/stats` of the control URL, in the order in which it was asked.
    pub statistics: Vec<Statistics>,
    /// The processes that hold the listening socket, before the first tab.
    pub listeners_before: Vec<ListeningProcess>,
    /// The same at the limit.
    pub listeners_at_limit: Vec<ListeningProcess>,
    /// `--zombies`.
    pub zombies: Option<Zombies>,
    /// `--http2`.
    pub http2: Option<Http2>,
    /// `--http10`.
    pub http10: Option<Http10>,
    /// How long the oldest stream was watched.
    pub watched: Duration,
    /// Requests sent.
    pub requests: usize,
    /// Page asks that were closed before their answer.
    pub abandoned_pages: usize,
    /// Streams that were closed before their first event.
    pub abandoned_streams: usize,
    /// Why the run ended early, if it did.
    pub stopped: Option<Stopped>,
    /// Everything that was seen on each connection, for the report.
    pub lanes: Vec<ProbeLane>,
}
