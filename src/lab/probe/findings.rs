//! From what was measured to what it means: exactly one limit, and any number of notes.
//!
//! [`infer`] is a pure function. A limit is the first kind, in the order of [`LimitKind`], whose rule holds.

use serde_json::{Map, Value};

use super::measured::Measured;

/// The kinds of limit, in the order in which their rules are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitKind {
    SessionLock,
    BlockedLoop,
    OneAtATime,
    DatabasePool,
    QueueTimeout,
    RefusedPerClient,
    Connections,
    Descriptors,
    Refused,
    Workers,
    StreamCapWaits,
    SharedSlots,
    Http2Streams,
    NoneFound,
}

/// The kinds of note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoteKind {
    Buffered,
    Quiet,
    Compressed,
    Lumps,
    LateFirstEvent,
    Grows,
    Cut,
    SlotReturn,
    Leak,
    ZombiesStay,
    ZombiesFreed,
    SeveralQueues,
    QueueFull,
    AcceptQueue,
    Cached,
    StatsDisagree,
    StatsSilent,
    BrowsersSix,
    OwnLimit,
    NotAStream,
    Unreachable,
}

/// One finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding<K> {
    /// Which.
    pub kind: K,
    /// Figures by name. Never adjectives.
    pub evidence: Map<String, Value>,
    /// One or two sentences with those figures, for people.
    pub text: String,
    /// What to do, in the words of the server where it was recognized.
    pub remedy: String,
    /// A name of `/fixes` that shows the remedy.
    pub fix: Option<&'static str>,
    /// The act of `reproduce` that shows the failure.
    pub act: Option<u8>,
    /// The command that shows it: `ninetabs reproduce --act 6`.
    pub see: Option<String>,
}

/// What a run means.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// `None` only if nothing was measured.
    pub limit: Option<Finding<LimitKind>>,
    /// Second readings that fit the evidence as well.
    pub or: Vec<LimitKind>,
    /// Whether one path stopped and another never did: the limit is behind the front that serves the second.
    pub behind: bool,
    /// In the order of [`NoteKind`].
    pub notes: Vec<Finding<NoteKind>>,
    /// Lines of advice that are no finding, such as a cookie that the server sets.
    pub advice: Vec<String>,
}

/// Infers the limit and the notes.
pub fn infer(measured: &Measured) -> Findings {
    todo!()
}
