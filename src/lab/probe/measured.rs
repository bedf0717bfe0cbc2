//! What a probe measured, as plain data.
//!
//! The procedure fills a [`Measured`]; [`findings`](super::findings) infers the limit from it, and the
//! exporters print both. Nothing here knows a socket or a clock: a test writes the outcomes of a staircase
//! as literals.
//!
//! Times are durations. "At" means since the run began. A figure that was not measured is `None`.

use std::net::IpAddr;
use std::time::Duration;

/// Everything that one run of `ninetabs probe` measured.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// What was probed.
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

/// What was probed.
#[derive(Debug, Clone, Default)]
pub struct ProbeTarget {
    /// Without user and password.
    pub url: String,
    /// `GET`, `POST`, …
    pub method: String,
    /// The version of the first response: `1.0`, `1.1` or `2`.
    pub http: String,
    /// What counts as an event; unknown until a stream has opened.
    pub unit: Option<Unit>,
    /// The `Server` header of the first response, without control characters.
    pub server: Option<String>,
    /// Names of cookies that the server set, without their values.
    pub sets_cookies: Vec<String>,
    /// Whether a cookie was given.
    pub has_cookie: bool,
    /// Whether a header of the stream or of a page says that a cache answered it.
    pub names_a_cache: bool,
    /// Maximum number of connections held at the same time.
    pub tabs: usize,
    /// The one address that all connections went to.
    pub address: Option<IpAddr>,
    /// How long waiting tabs were watched.
    pub patience: Duration,
}

/// What counts as an event of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// `text/event-stream`: a dispatched event.
    Sse,
    /// A server-sent comment or `retry:` on a stream that stays open, because no event came within 3 s.
    SignOfLife,
    /// `application/x-ndjson` and similar: a line.
    Line,
    /// Another chunked body: its first chunk.
    Chunk,
}

/// A page before the first stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// With its query.
    pub path: String,
    /// Its status.
    pub status: u16,
    /// Median of the three asks that agreed.
    pub time: Duration,
}

impl Baseline {
    /// The limit within which a page counts as answered: ten times its usual time, at least 3 s.
    pub fn limit(&self) -> Duration {
        (self.time * 10).max(Duration::from_secs(3))
    }
}

/// One staircase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Climb {
    /// The most tabs that flowed at one moment.
    pub streams: usize,
    /// The most streams beside which every path was answered 3 of 3. In blind mode, the most held streams.
    pub pages_until: usize,
    /// The tabs that were judged, in order, with the pages beside each.
    pub tabs: Vec<ProbedTab>,
    /// Whether a tab beyond `streams` got nothing. Otherwise the climb ended at `--tabs`.
    pub met_a_limit: bool,
}

/// One tab of a staircase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbedTab {
    /// 1 for the first.
    pub number: usize,
    /// When its connection was begun.
    pub opened_at: Duration,
    /// What became of it.
    pub outcome: TabOutcome,
    /// The status of its response.
    pub status: Option<u16>,
    /// From the first SYN to the first byte.
    pub first_byte: Option<Duration>,
    /// From the first SYN to the first event.
    pub first_event: Option<Duration>,
    /// From the first SYN to the end, if the server ended it.
    pub ended: Option<Duration>,
    /// How long it was watched without an end.
    pub watched: Duration,
    /// Where its request waited.
    pub place: Option<WaitPlace>,
    /// Whether a stream was cut while it waited, in which case it may have taken over a slot.
    pub saw_a_cut: bool,
    /// Whether the response looks like that of another program than the pages': another `Server`, or none.
    pub is_from_another_sender: bool,
    /// The pages asked beside it.
    pub pages: Vec<PageAsks>,
}

/// What became of a tab.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TabOutcome {
    /// An event came in time, and the stream was open when the next tab was judged.
    Flows,
    /// An event came after more than 3 s, without any stream having ended.
    Late,
    /// Nothing came: neither a byte nor an end.
    #[default]
    Waits,
    /// A response began, and no event came.
    NoEvent,
    /// A 200 that ended without an event.
    Empty,
    /// Another status.
    Status,
    /// The server closed the connection without a response.
    Closed,
    /// The server reset the connection without a response.
    Reset,
    /// The connection was refused or could not be made.
    NotConnected,
    /// An event came, and the server ended the stream before the next tab was judged.
    Cut,
}

impl TabOutcome {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            TabOutcome::Flows => "flows",
            TabOutcome::Late => "late",
            TabOutcome::Waits => "waits",
            TabOutcome::NoEvent => "no-event",
            TabOutcome::Empty => "empty",
            TabOutcome::Status => "status",
            TabOutcome::Closed => "closed",
            TabOutcome::Reset => "reset",
            TabOutcome::NotConnected => "not-connected",
            TabOutcome::Cut => "cut",
        }
    }
}

/// Where a request waits, read from the kernel's table of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitPlace {
    /// The connection is made and not accepted.
    Kernel,
    /// The handshake is not finished after the request was sent: the accept queue is full.
    AcceptQueueFull,
    /// Accepted, and the request is unread.
    Unread,
    /// Read by the server, or a proxy has it.
    Read,
    /// There is no connection.
    Refused,
}

impl WaitPlace {
    /// The name in JSON and on the terminal.
    pub fn name(self) -> &'static str {
        match self {
            WaitPlace::Kernel => "kernel",
            WaitPlace::AcceptQueueFull => "accept-queue",
            WaitPlace::Unread => "unread",
            WaitPlace::Read => "read",
            WaitPlace::Refused => "refused",
        }
    }
}

/// The asks of one path beside one tab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAsks {
    /// With its query.
    pub path: String,
    /// In the order in which they ended, at most three.
    pub asks: Vec<PageAsk>,
}

impl PageAsks {
    /// How many were answered.
    pub fn answered(&self) -> usize {
        self.asks.iter().filter(|ask| ask.outcome == PageOutcome::Answered).count()
    }

    /// Whether none was answered.
    pub fn is_dead(&self) -> bool {
        !self.asks.is_empty() && self.answered() == 0
    }

    /// Whether some were answered and some were not.
    pub fn is_partial(&self) -> bool {
        self.answered() > 0 && self.answered() < self.asks.len()
    }
}

/// One ask of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageAsk {
    /// What became of it.
    pub outcome: PageOutcome,
    /// To the complete answer, to the end, or to the moment at which it was given up.
    pub time: Duration,
    /// Where it waited, if it went unanswered.
    pub place: Option<WaitPlace>,
}

/// What became of a page ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageOutcome {
    /// Complete, with the status of the baseline, in time.
    Answered,
    /// Complete, with another status.
    Status(u16),
    /// The server closed the connection before the response was complete.
    Closed,
    /// The server reset the connection before the response was complete.
    Reset,
    /// The connection was refused or could not be made.
    NotConnected,
    /// Nothing came in time.
    Nothing,
}

/// The page ask that was listened to until the streams were closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatePage {
    /// Its path.
    pub path: String,
    /// How it ended while the streams were open; `Nothing` if it did not.
    pub ask: PageAsk,
    /// Whether the response looks like that of another program than the baseline's.
    pub is_from_another_sender: bool,
}

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

/// A page at the limit, with a random query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncachedPage {
    /// Without the parameter.
    pub path: String,
    /// Whether it was answered as it is.
    pub plain: bool,
    /// Whether it was answered with the parameter.
    pub uncached: bool,
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

/// Connections that hold nothing but themselves, and the pages beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldConnections {
    /// How many were opened.
    pub n: usize,
    /// How many were open before the pages were asked.
    pub open_before: usize,
    /// How many were open afterwards.
    pub open_after: usize,
    /// One ask per path.
    pub pages: Vec<(String, PageAsk)>,
    /// Where the connections themselves were; the most frequent place.
    pub place: Option<WaitPlace>,
}

impl HeldConnections {
    /// Whether the server closed them before the pages were asked, so that the experiment says nothing.
    pub fn is_untestable(&self) -> bool {
        self.n > 0 && self.open_before * 2 < self.n
    }

    /// Whether the server closed some of them while a page waited.
    pub fn were_closed_for_the_page(&self) -> bool {
        self.open_after < self.open_before
    }
}

/// What came late in blind mode.
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
    /// To its first event; `None` if none came in 5 s.
    pub first_event: Option<Duration>,
    /// Whether identity flowed in the run.
    pub identity_flows: bool,
    /// Body bytes that came without completing an event.
    pub bytes: usize,
}

/// When the statistics were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatsMoment {
    /// Before the first tab.
    Before,
    /// While the next tab waited.
    AtLimit,
    /// After everything was closed.
    After,
}

/// One answer of the control server.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// When.
    pub moment: StatsMoment,
    /// Its figures, or `None` if it did not answer.
    pub figures: Option<StatFigures>,
}

/// The figures of Puma's `/stats`, or of ninetabs', summed over workers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatFigures {
    /// `ninetabs` or `Puma`.
    pub program: String,
    /// `max_threads`.
    pub max_threads: Option<u64>,
    /// `running`.
    pub running: Option<u64>,
    /// `busy_threads`, which counts the queue as well.
    pub busy_threads: Option<u64>,
    /// `backlog`.
    pub backlog: Option<u64>,
    /// `pool_capacity`.
    pub pool_capacity: Option<u64>,
}

/// A process that holds the listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListeningProcess {
    /// Its process id.
    pub pid: u32,
    /// Its name, without control characters.
    pub name: String,
    /// Its threads.
    pub threads: usize,
    /// Its open descriptors.
    pub descriptors: usize,
    /// Its soft limit of descriptors.
    pub limit: u64,
}

/// `--zombies`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Zombies {
    /// How many streams stopped reading after their first event.
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
    /// Another reset or error.
    Reset,
}

/// `--http10`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http10 {
    /// Whether a stream by HTTP/1.0 flowed.
    pub flowed: bool,
    /// Streams of a climb afterwards, without pages.
    pub streams_after: Option<usize>,
}

/// Why a run ended before its last step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// A signal.
    Interrupted,
    /// A page never settled, or answered 5xx.
    UnstablePage {
        /// Its path.
        path: String,
        /// What its answers were.
        answers: String,
    },
    /// No connection, or no byte.
    Unreachable {
        /// The error.
        why: String,
    },
    /// The stream's response has no event, and its body ended.
    NotAStream {
        /// Status and type.
        what: String,
    },
    /// The certificate was not accepted.
    Certificate {
        /// The error.
        why: String,
    },
    /// Streams ended by themselves before the next tab was judged.
    StreamsFinish {
        /// How long they lasted.
        after: Duration,
    },
    /// This process has no descriptor or no port left.
    OwnLimit {
        /// The system's error.
        why: String,
        /// Connections held at that moment.
        held: usize,
    },
    /// After everything was closed, nothing came back in 30 s.
    Leak,
}

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
