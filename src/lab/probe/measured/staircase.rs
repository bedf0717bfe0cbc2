//! The tabs of a staircase: what became of each, and where its request waited.

use std::time::Duration;

use super::PageAsks;

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
    /// Its outcome.
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

/// The outcome of a tab.
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
    /// Whether the server has not read the request.
    pub(in super::super) fn is_unread(self) -> bool {
        matches!(self, WaitPlace::Kernel | WaitPlace::AcceptQueueFull | WaitPlace::Unread)
    }

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
