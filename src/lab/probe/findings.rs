//! Infers what the measurements mean: exactly one limit, and any number of notes.
//!
//! [`infer`] is a pure function. The limit is the first kind, in the order of [`LimitKind`], whose rule holds. Each
//! rule is a separate function, in one file per group. `facts` contains the code that the rules share, and every
//! threshold is a named constant. [`kinds`] is the table of names and descriptions from which `docs/probe-kinds.md` is
//! generated.

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
/// [`Descriptors`](LimitKind::Descriptors) is the exception. It is [`Connections`](LimitKind::Connections) with
/// evidence that the process is out of descriptors, so its rule is tried right before that of connections.
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

/// A limit or a note that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding<K> {
    /// Its kind.
    pub kind: K,
    /// Figures by name, never judgments.
    pub evidence: Map<String, Value>,
    /// One to three sentences with these figures, for people. The text of a note follows its name and a colon, so it
    /// begins in lower case.
    pub text: String,
    /// What to do. Names the settings of the server if it was recognized. Empty if there is nothing to do.
    pub remedy: String,
    /// The name of the fix (`/fixes/NAME`) that shows the remedy.
    pub fix: Option<&'static str>,
    /// The act of `reproduce` that shows the failure.
    pub act: Option<u8>,
    /// The command that shows the failure: `ninetabs reproduce --act 6`.
    pub see: Option<String>,
}

/// What a run means.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// `None` only if nothing was measured.
    pub limit: Option<Finding<LimitKind>>,
    /// Other kinds of limit that fit the evidence as well.
    pub or: Vec<LimitKind>,
    /// Whether one path stopped and another never did. The limit is then behind the front that serves the other path.
    pub behind: bool,
    /// Whether that front can be a proxy. If not, the paths differ for another reason: one of them does not use the
    /// database, or the server has several pools.
    pub is_proxied: bool,
    /// In the order of [`NoteKind`].
    pub notes: Vec<Finding<NoteKind>>,
    /// Lines of advice that are not findings, such as a cookie that the server sets.
    pub advice: Vec<String>,
}

impl Findings {
    /// The note of this kind, if there is one.
    pub fn note(&self, kind: NoteKind) -> Option<&Finding<NoteKind>> {
        self.notes.iter().find(|note| note.kind == kind)
    }

    /// Whether the limit or a note is of this kind. Second readings (`or`) do not count.
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

/// Whether the program that answers can be a proxy, so that the limit belongs to the server behind it.
fn can_be_behind_a_proxy(limit: Option<&Finding<LimitKind>>, recognized: &Recognized) -> bool {
    let is_database = limit.is_some_and(|limit| limit.kind == LimitKind::DatabasePool);
    let is_unknown = recognized.product.is_none() && !recognized.is_the_application;
    !is_database && (is_unknown || recognized.is_front())
}

/// Advice that is not part of a finding.
fn advice(measured: &Measured, facts: Option<&Facts<'_>>) -> Vec<String> {
    let target = &measured.target;
    let mut lines = Vec::new();
    let cookie = target.sets_cookies.iter().find(|name| !name.is_empty());
    if let (Some(name), false) = (cookie, target.has_cookie) {
        // The server chooses the name, and users paste the command into a shell.
        let quoted = name.replace('\'', r"'\''");
        lines.push(format!(
            "The server sets the cookie {name}, and no cookie was given. All tabs of a browser share it: run again \
             with --cookie '{quoted}=VALUE' to test for a session lock."
        ));
    }
    if let (Some(zombies), Some(facts)) = (&measured.zombies, facts) {
        lines.extend(too_few_zombies(zombies, facts));
    }
    lines
}

/// With fewer zombies than slots, a slot is left for the tab beside them, so that tab proves nothing.
fn too_few_zombies(zombies: &Zombies, facts: &Facts<'_>) -> Option<String> {
    zombies.tab.zip(zombies.page)?;
    let held = facts.held();
    if facts.all_flow() {
        return Some(
            "No limit was found, so a tab beside zombies does not need one of their slots.".to_owned(),
        );
    }
    (zombies.n < held).then(|| {
        format!(
            "--zombies {} leaves a slot free, because the server holds {held} streams: to see whether zombies keep \
             their slots, give --zombies {held} or more.",
            zombies.n
        )
    })
}
