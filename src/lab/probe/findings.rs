//! From what was measured to what it means: exactly one limit, and any number of notes.
//!
//! [`infer`] is a pure function. A limit is the first kind, in the order of [`LimitKind`], whose rule holds. Each
//! rule is a function of its own, in one file per group; `facts` has what they share, and every threshold is a
//! named constant. [`kinds`] is the table of names and descriptions from which `docs/probe-kinds.md` is made.

mod evidence;
mod facts;
pub mod kinds;
mod limits;
mod live;
mod measurable;
mod notes;
mod products;
mod remedies;
mod verdict;

#[cfg(test)]
pub mod tests;

use serde_json::{Map, Value};

pub use self::facts::pages_stop_at;
pub use self::kinds::{FindingKind, UnknownKind, kinds_markdown};
pub use self::live::{LiveState, WatchedServer, live_remedy};
pub use self::measurable::{NotMeasured, is_measured};
pub use self::verdict::verdict;

use self::facts::Facts;
use self::products::Recognized;
use super::measured::{Measured, Zombies};

/// The kinds of limit, in the order in which their rules are tried.
///
/// [`Descriptors`](LimitKind::Descriptors) is the exception: it is [`Connections`](LimitKind::Connections) with
/// the evidence of a full table of descriptors, so it is tried right before it.
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
    /// One to three sentences with those figures, for people. A note's text follows its name and a colon, so it
    /// begins in lower case.
    pub text: String,
    /// What to do, in the words of the server where it was recognized. Empty if there is nothing to do.
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
    /// Whether that front can be a proxy. A database pool stops one path of two as well, and so can a server with
    /// several pools.
    pub is_proxied: bool,
    /// In the order of [`NoteKind`].
    pub notes: Vec<Finding<NoteKind>>,
    /// Lines of advice that are not findings, such as a cookie that the server sets.
    pub advice: Vec<String>,
}

impl Findings {
    /// The note of a kind, if there is one.
    pub fn note(&self, kind: NoteKind) -> Option<&Finding<NoteKind>> {
        self.notes.iter().find(|note| note.kind == kind)
    }

    /// Whether the limit or a note is of a kind. A second reading does not count.
    pub fn has(&self, kind: FindingKind) -> bool {
        match kind {
            FindingKind::Limit(kind) => self.limit.as_ref().is_some_and(|limit| limit.kind == kind),
            FindingKind::Note(kind) => self.note(kind).is_some(),
        }
    }
}

/// Infers the limit and the notes. The same measurements give the same findings.
pub fn infer(measured: &Measured) -> Findings {
    let recognized = Recognized::of(measured);
    let facts = Facts::of(measured);
    let limit = match measurable::obstacle(measured, facts.as_ref()) {
        Some(_) => None,
        None => facts.as_ref().map(|facts| limits::of(facts, &recognized)),
    };
    let (limit, or) = limit.map_or((None, Vec::new()), |found| (Some(found.limit), found.or));
    let notes = notes::of(measured, facts.as_ref(), limit.as_ref().map(|limit| limit.kind), &recognized);
    let behind = limit.is_some() && facts.as_ref().is_some_and(Facts::is_behind);
    let is_proxied = behind && can_be_behind_a_proxy(limit.as_ref(), &recognized);
    let advice = advice(measured, facts.as_ref());
    Findings { limit, or, behind, is_proxied, notes, advice }
}

/// Whether the program that answers can be a proxy, and the limit a setting of the server behind it.
fn can_be_behind_a_proxy(limit: Option<&Finding<LimitKind>>, recognized: &Recognized) -> bool {
    let is_database = limit.is_some_and(|limit| limit.kind == LimitKind::DatabasePool);
    !is_database && (recognized.product.is_none() || recognized.is_front())
}

/// Lines that are not findings.
fn advice(measured: &Measured, facts: Option<&Facts<'_>>) -> Vec<String> {
    let target = &measured.target;
    let mut lines = Vec::new();
    let cookie = target.sets_cookies.iter().find(|name| !name.is_empty());
    if let (Some(name), false) = (cookie, target.has_cookie) {
        // The server chooses the name, and users paste the command into a shell.
        let quoted = name.replace('\'', r"'\''");
        lines.push(format!(
            "The server sets the cookie {name}, and none was given. Tabs of one browser share it: run again \
             with --cookie '{quoted}=VALUE' to test for a session lock."
        ));
    }
    if let (Some(zombies), Some(facts)) = (&measured.zombies, facts) {
        lines.extend(too_few_zombies(zombies, facts));
    }
    lines
}

/// Fewer zombies than slots leave one for the tab beside them, which therefore shows nothing.
fn too_few_zombies(zombies: &Zombies, facts: &Facts<'_>) -> Option<String> {
    zombies.tab.zip(zombies.page)?;
    let held = facts.held();
    if facts.all_flow() {
        return Some("No limit was found, so a tab beside zombies needs none of their slots.".to_owned());
    }
    (zombies.n < held).then(|| {
        format!(
            "--zombies {} leaves a slot free, because the server holds {held} streams: to see whether zombies keep \
             theirs, give --zombies {held} or more.",
            zombies.n
        )
    })
}
