//! Writes moments as a trace in the Trace Event Format, which Perfetto and chrome://tracing open.
//!
//! A server is a process, and a pool thread is a thread. Each request is an interval on its thread, from the time when
//! the thread took it to its end. A request in the queue is not on a thread, so its wait is a pair of asynchronous
//! events.
//!
//! The module does no I/O. It processes one moment after another, and keeps only the requests in flight. It uses only
//! the timeline's types, so both a server and an observer of a server can write a trace.
//!
//! Starts and ends follow from the [`RecordState`] before and after each moment. The server may have dropped moments
//! before they were fetched. The trace states their number, and an interval whose start or end is missing gets one that
//! is marked as not seen.

mod format;
mod tracks;
mod window;

use std::collections::BTreeMap;
use std::mem;

use serde_json::{Value, json};

use super::state::RecordState;
use super::story::{name_of, tab_of};
use ninetabs_server::timeline::{Held, Moment, Subject, What, is_seen_close};

pub use format::{Encoder, TraceEvent};

use format::Phase;
use tracks::Tracks;

/// The recorded end of an interval that is still open when the record ends.
const OPEN: &str = "still open at the end of the record";
/// Marks a start or an end that was dropped from the record.
const UNSEEN: &str = "not seen";

/// A request on its thread whose begin event has been written, with the values that the state does not have.
#[derive(Debug, Default)]
struct Begun {
    bytes: u64,
    panicked: bool,
}

/// One server, up to the last moment that was taken in.
#[derive(Debug)]
pub struct TraceProcess {
    state: RecordState,
    /// The requests that have begun, by thread. A thread that has a request but is not in this map is still reading it.
    begun: BTreeMap<usize, Begun>,
    tracks: Tracks,
}

impl TraceProcess {
    /// Creates a server with this number and name. The name is the first event.
    pub fn new(pid: u32, name: &str) -> TraceProcess {
        TraceProcess { state: RecordState::default(), begun: BTreeMap::new(), tracks: Tracks::new(pid, name) }
    }

    /// Returns the events since the last call.
    pub fn drain(&mut self) -> Vec<TraceEvent> {
        self.tracks.drain()
    }

    /// Takes in the next moment. Moments must be passed in the order of their numbers.
    pub fn take(&mut self, moment: &Moment) {
        let forgotten = moment.seq.saturating_sub(self.state.seq() + 1);
        if forgotten > 0 {
            self.forget(forgotten, moment.at_us);
        }
        match (moment.thread, moment.subject) {
            (Some(thread), Some(subject)) => self.on_thread(thread, subject, moment),
            (Some(thread), None) => self.of_thread(thread, moment),
            (None, Some(subject)) => self.at_the_door(subject, moment),
            (None, None) => self.of_the_server(moment),
        }
    }

    fn of_the_server(&mut self, moment: &Moment) {
        if let What::Ordered { text } = &moment.what {
            self.tracks.ordered(text, moment.at_us);
        }
        self.state.take(moment);
    }

    /// Ends all open intervals, because the record is over.
    pub fn end(&mut self, now_us: u64) {
        let mut state = mem::take(&mut self.state);
        for (thread, held) in state.held() {
            self.close(thread, held, now_us, OPEN);
        }
        for held in state.clear_todo() {
            self.tracks.wait(&held, None, now_us, OPEN);
        }
    }

    fn of_thread(&mut self, thread: usize, moment: &Moment) {
        if let Some(before) = self.state.take(moment) {
            self.close(thread, &before, moment.at_us, UNSEEN);
        }
        let name = if matches!(moment.what, What::Exited) { "exited" } else { "spawned" };
        self.tracks.instant(thread, moment.at_us, name, json!({}));
    }

    fn at_the_door(&mut self, subject: Subject, moment: &Moment) {
        let at_us = moment.at_us;
        match &moment.what {
            What::Accepted { target, peeked: true, .. } => {
                // A request that has left the queue by now is named by its thread.
                if let Some(held) = self.state.waiting(subject.request) {
                    self.tracks.wait_begins(held, &name_of(target));
                }
            }
            What::Withdrawn => self.leaves_todo(subject, at_us, "its connection was evicted"),
            What::Rejected { status, why } => {
                self.leaves_todo(subject, at_us, why);
                let args = json!({ "request": subject.request, "status": status, "why": why });
                self.tracks.at_the_front_door("refused", at_us, args);
            }
            What::ClientClosed => {
                let args = json!({ "request": subject.request });
                self.on_its_thread("client closed", subject, at_us, args);
            }
            // The action runs on a thread of its own, and its request may have ended.
            What::Panicked { message } => {
                let args = json!({ "request": subject.request, "message": message });
                let thread = self.on_its_thread("panicked", subject, at_us, args);
                if let Some(begun) = thread.and_then(|thread| self.begun.get_mut(&thread)) {
                    begun.panicked = true;
                }
            }
            // The action is orphaned, so the reaper does not name a pool thread.
            What::Reaped { age_ms, why } => {
                let args = json!({ "request": subject.request, "age_ms": age_ms, "why": why });
                self.tracks.by_the_reaper("interrupted", at_us, args);
            }
            _ => {}
        }
        self.state.take(moment);
    }

    /// Writes an event without a thread on the thread that has its request, and returns that thread. If there is none,
    /// the event is written on the track of the front door.
    fn on_its_thread(&mut self, name: &str, subject: Subject, at_us: u64, args: Value) -> Option<usize> {
        let holds = self.state.held().find(|(_, held)| held.subject.request == subject.request);
        let thread = holds.map(|(thread, _)| thread);
        match thread {
            Some(thread) => self.tracks.instant(thread, at_us, name, args),
            None => self.tracks.at_the_front_door(name, at_us, args),
        }
        thread
    }

    fn leaves_todo(&mut self, subject: Subject, at_us: u64, how: &str) {
        if let Some(held) = self.state.waiting(subject.request) {
            self.tracks.wait(held, None, at_us, how);
        }
    }

    fn on_thread(&mut self, thread: usize, subject: Subject, moment: &Moment) {
        let at_us = moment.at_us;
        match moment.what {
            What::Blocked { us } => self.see(thread, subject, at_us.saturating_sub(us)),
            // A request that is refused before it has been read completely has not begun.
            What::Rejected { .. } if !self.begun.contains_key(&thread) => {}
            What::Streaming
            | What::Wrote { .. }
            | What::Disconnected { .. }
            | What::Rejected { .. }
            | What::Left
            | What::Panicked { .. } => self.see(thread, subject, at_us),
            _ => {}
        }
        let before = self.state.take(moment);
        if let Some(held) =
            before.as_ref().filter(|held| !self.state.is_held_by(thread, held.subject.request))
        {
            let (at_us, how) = match &moment.what {
                // In the record of an older server, which has no `answered`, the next request on the connection ends
                // this one.
                What::Accepted { .. } => (self.tracks.last_us(thread), "answered"),
                What::Answered { .. } => (at_us, "answered"),
                What::Finished => (at_us, "finished"),
                What::Rejected { why, .. } => (at_us, why.as_str()),
                What::Left => (at_us, "its client had closed"),
                _ => (at_us, UNSEEN),
            };
            self.close(thread, held, at_us, how);
        }
        if matches!(moment.what, What::Started | What::Accepted { .. }) {
            self.begin(thread, before.as_deref(), at_us);
        }
        self.tell(thread, subject, moment);
    }

    /// Writes the moment itself.
    fn tell(&mut self, thread: usize, subject: Subject, moment: &Moment) {
        let at_us = moment.at_us;
        let (name, args) = match &moment.what {
            What::Streaming => ("streaming", json!({})),
            What::Wrote { bytes } => {
                self.begun.entry(thread).or_default().bytes += bytes;
                ("write", json!({ "bytes": bytes }))
            }
            What::Blocked { us } => return self.tracks.blocked(thread, at_us, *us),
            What::Disconnected { write, error } => ("write fails", json!({ "write": write, "error": error })),
            What::Rejected { status, why } => ("refused", json!({ "status": status, "why": why })),
            What::Left => ("left", json!({})),
            What::Panicked { message } => {
                self.begun.entry(thread).or_default().panicked = true;
                ("panicked", json!({ "message": message }))
            }
            What::MarkedIoBound => ("marked as IO-bound", json!({})),
            // The reaper records this, while the thread may be in the middle of a write.
            What::Reaped { age_ms, why } => {
                let args =
                    json!({ "request": subject.request, "thread": thread, "age_ms": age_ms, "why": why });
                return self.tracks.by_the_reaper("interrupted", at_us, args);
            }
            _ => return,
        };
        self.tracks.instant(thread, at_us, name, args);
    }

    /// Whether the thread has a request that it is still reading.
    fn reads(&self, thread: usize) -> bool {
        self.state.held_by(thread).is_some() && !self.begun.contains_key(&thread)
    }

    /// Begins the request of the thread, once it has been read. `before` is the thread's previous request, which may be
    /// the same one before it was read.
    fn begin(&mut self, thread: usize, before: Option<&Held>, at_us: u64) {
        let Some(held) = self.state.held_by(thread).filter(|_| self.reads(thread)).cloned() else { return };
        let Some(target) = held.target.as_deref().filter(|_| !held.peeked) else { return };
        let name = name_of(target);
        let waited = before.filter(|before| before.subject == held.subject).unwrap_or(&held);
        if waited.waited_us.is_some() {
            self.tracks.wait(waited, Some(&name), held.started_us.unwrap_or(at_us), "a thread took it");
        }
        let args = arguments(&held, target);
        self.tracks.on_thread(thread, held.started_us.unwrap_or(at_us), Phase::Begin, name, args);
        self.tracks.go_on(thread, at_us);
        self.begun.insert(thread, Begun::default());
    }

    /// Begins this request now, unless it has already begun: its start may have been dropped from the record.
    fn see(&mut self, thread: usize, subject: Subject, at_us: u64) {
        let Subject { connection, request, .. } = subject;
        if self.state.is_held_by(thread, request) && !self.reads(thread) {
            return;
        }
        let held = Held { subject, ..Held::default() };
        if let Some(before) = self.state.hold(thread, held.clone()) {
            self.close(thread, &before, self.tracks.last_us(thread), UNSEEN);
        }
        let args = json!({ "request": request, "connection": connection, "begin": UNSEEN });
        self.tracks.on_thread(thread, at_us, Phase::Begin, called(&held), args);
        self.begun.insert(thread, Begun::default());
    }

    /// Ends this request of the thread.
    fn close(&mut self, thread: usize, held: &Held, at_us: u64, how: &str) {
        let Subject { connection, request, .. } = held.subject;
        let Some(begun) = self.begun.remove(&thread) else {
            let since_us = held.started_us.unwrap_or(at_us);
            if held.waited_us.is_some() {
                self.tracks.wait(held, None, since_us, "a thread took it");
            }
            let args = json!({ "request": request, "connection": connection, "ended": how });
            return self.tracks.lasted(thread, since_us, at_us, "reads an incomplete request", args);
        };
        let ended = match (&held.reaped, &held.gone) {
            _ if how == OPEN => OPEN.to_owned(),
            _ if begun.panicked => "panicked".to_owned(),
            (Some(reaped), _) => format!("interrupted: {}", reaped.why),
            (None, Some(gone)) if is_seen_close(&gone.error) => format!("client closed: {}", gone.error),
            (None, Some(gone)) => format!("write {} failed: {}", gone.write, gone.error),
            (None, None) => how.to_owned(),
        };
        let args =
            json!({ "writes": held.writes, "bytes": begun.bytes, "stream": held.is_stream, "ended": ended });
        self.tracks.on_thread(thread, at_us, Phase::End, called(held), args);
    }

    /// Writes that moments are missing here. A request in todo may have left it in the meantime.
    fn forget(&mut self, count: u64, at_us: u64) {
        self.tracks.forgotten(count, at_us);
        for held in self.state.clear_todo() {
            if held.peeked {
                self.tracks.wait(&held, None, at_us, UNSEEN);
            }
        }
    }
}

/// The arguments of the event that begins a request.
fn arguments(held: &Held, target: &str) -> Value {
    let Subject { connection, request, .. } = held.subject;
    let mut args =
        json!({ "method": held.method, "path": target, "request": request, "connection": connection });
    if let Some(tab) = tab_of(target) {
        args["tab"] = tab.into();
    }
    args
}

/// The name of a request, if it is known, or its number.
fn called(held: &Held) -> String {
    held.target.as_deref().map_or_else(|| format!("request {}", held.subject.request), name_of)
}

#[cfg(test)]
mod tests;
