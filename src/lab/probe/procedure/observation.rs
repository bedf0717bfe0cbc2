//! The reports of the connection threads, each with the time at which it happened.

use std::net::SocketAddr;
use std::time::Instant;

use crate::lab::http::{Body, Connection, Content, Head};
use crate::lab::probe::events::Arrival;
use crate::lab::probe::measured::Unit;

/// Identifies a connection of a run. Numbers are not reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(pub(super) u32);

/// Something that happened on a connection.
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) id: Id,
    pub(super) at: Instant,
    pub(super) what: Observed,
}

#[derive(Debug)]
pub(super) enum Observed {
    /// The connection is established, including TLS.
    Connected(Option<SocketAddr>),
    /// The request was written.
    Sent,
    FirstByte,
    /// The head is complete. The unit is `None` if the response cannot be a stream.
    Head(Box<Head>, Option<Unit>),
    /// Bytes of the body.
    Arrived(Arrival),
    /// The connection stays open without a thread. It is closed when this is dropped.
    Parked(ParkedConnection),
    /// The connection has ended, and nothing more will arrive.
    Ended(End),
}

/// An open connection that no thread reads.
#[derive(Debug)]
pub(super) enum ParkedConnection {
    /// No request was sent.
    Silent(Connection),
    /// A page was answered, and the server keeps the connection alive.
    Answered(Body),
    /// A stream that is no longer read.
    Stalled(#[expect(dead_code, reason = "dropping it would close the socket")] Content),
}

impl ParkedConnection {
    /// Whether the server has left it open. A stream that is not read always counts as open.
    pub(super) fn is_open(&self) -> bool {
        match self {
            ParkedConnection::Silent(connection) => connection.is_open(),
            ParkedConnection::Answered(body) => body.is_open(),
            ParkedConnection::Stalled(_) => true,
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The response is complete by its framing.
    Complete,
    /// The connection ended in the middle of the response.
    Early,
    /// The server closed the connection without a response.
    Closed,
    /// The server reset the connection.
    Reset,
    /// The connection could not be established, for this reason.
    NotConnected(String),
    /// This process has used up its descriptors, ports or threads.
    OwnLimit(String),
    /// The certificate was not accepted.
    Certificate(String),
    /// The response cannot be read, for this reason.
    Unusable(String),
    /// An event exceeds the size limit of the probe, which therefore stopped reading.
    EventTooLarge(String),
}
