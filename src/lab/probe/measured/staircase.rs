//! The tabs of a staircase: the outcome of each, and where its request waited.

use std::time::Duration;

use super::PageAsks;

/// One staircase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Climb {
    /// The maximum number of tabs that streamed at the same time.
    pub streams: usize,
    /// The maximum number of streams beside which every path was answered three times out of three. In blind mode, all
    /// open streams count.
    pub pages_until: usize,
    /// The tabs that were judged, in order, with the pages beside each.
    pub tabs: Vec<ProbedTab>,
    /// Whether a further tab got nothing. Otherwise the climb ended at `--tabs`.
    pub met_a_limit: bool,
}

/// One tab of a staircase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbedTab {
    /// Its number, from 1.
    pub number: usize,
    /// When the client began to connect.
    pub opened_at: Duration,
    /// Its outcome.
    pub outcome: TabOutcome,
    /// The status of its response.
    pub status: Option<u16>,
    /// Time from the first SYN to the first byte.
    pub first_byte: Option<Duration>,
    /// Time from the first SYN to the first event.
    pub first_event: Option<Duration>,
    /// Time from the first SYN to the end, if the server ended it.
    pub ended: Option<Duration>,
    /// How long the tab was watched: until its end, or until the probe stopped watching.
    pub watched: Duration,
    /// Where its request waited.
    pub place: Option<WaitPlace>,
    /// Whether another stream was cut off while the tab waited. The tab may then have taken over that stream's slot.
    pub saw_a_cut: bool,
    /// Whether the response appears to come from another program than the pages, because its `Server` header differs.
    pub is_from_another_sender: bool,
    /// The pages that were requested beside the tab.
    pub pages: Vec<PageAsks>,
}

/// The outcome of a tab.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TabOutcome {
    /// An event arrived in time, and the stream was still open when the next tab was judged.
    Flows,
    /// An event arrived after more than 3 s, although no other stream had ended.
    Late,
    /// Neither data nor an end arrived.
    #[default]
    Waits,
    /// A response began, but no event arrived.
    NoEvent,
    /// The response was a 200 that ended without an event.
    Empty,
    /// The response had another status.
    Status,
    /// The server closed the connection without a response.
    Closed,
    /// The server reset the connection without a response.
    Reset,
    /// The connection was refused or could not be made.
    NotConnected,
    /// An event arrived, and the server ended the stream before the next tab was judged.
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
    /// The connection is established but not accepted.
    Kernel,
    /// The handshake has not completed, because the accept queue is full.
    AcceptQueueFull,
    /// The connection is accepted, but the request has not been read.
    Unread,
    /// The server, or a proxy, has read the request.
    Read,
    /// The connection does not exist.
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
