//! Writes moments as a trace in the Trace Event Format, which Perfetto and chrome://tracing open.
//!
//! A server is a process, and a pool thread is a thread. Each request is an interval on its thread, from the time when the
//! thread took it to its end. A request in the queue is not on a thread, so its wait is a pair of asynchronous events. The
//! module does no I/O, and works moment by moment: it keeps only the requests in flight. It uses only the timeline's
//! types, so that a server can be drawn from outside, or write its own trace.
//!
//! Starts and ends follow from the [`RecordState`] before and after each moment. The ring may have dropped moments before
//! they were fetched. Their number is written, and an interval whose start or end is missing gets one that says so.

mod format;
mod tracks;
mod window;

use std::collections::BTreeMap;
use std::mem;

use serde_json::{Value, json};

use super::state::RecordState;
use super::story::{name_of, tab_of};
use ninetabs_server::timeline::{Held, Moment, Subject, What};

pub use format::{Encoder, TraceEvent};

use format::Phase;
use tracks::Tracks;

/// The end of an interval that had not ended when the record did.
const OPEN: &str = "had not ended when the record did";
/// A start or an end in place of one that was forgotten.
const UNSEEN: &str = "not seen";

/// A request on its thread whose begin has been written, with what the state does not have.
#[derive(Debug, Default)]
struct Begun {
    bytes: u64,
    panicked: bool,
}

/// One server, as far as its moments have been taken in.
#[derive(Debug)]
pub struct TraceProcess {
    state: RecordState,
    /// The begun requests by thread. A thread that has a request but is not in this map is still reading it.
    begun: BTreeMap<usize, Begun>,
    tracks: Tracks,
}

impl TraceProcess {
    /// Creates a server with this number and name. The name is the first event.
    pub fn new(pid: u32, name: &str) -> TraceProcess {
        TraceProcess { state: RecordState::default(), begun: BTreeMap::new(), tracks: Tracks::new(pid, name) }
    }

    /// Takes the events since the last call.
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
            // The action is orphaned, so the reaper names no pool thread.
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
            // It may not have been read completely. Then it has not begun.
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
                // The next request of a connection, in the record of an older server, which has no `answered`.
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
            // The reaper records it, while the thread may be in the middle of a write.
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

    /// Begins the request of the thread, once it has been read. `before` is what the thread had before, which may be
    /// the same request, unread.
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

    /// Begins this request now if the thread has another one, because its own begin was forgotten.
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
mod tests {
    use super::tracks::{FRONT_DOOR, POOL, STREAM_REAPER};
    use super::*;

    const NINTH: Subject = Subject { connection: 40_009, port: 0, request: 9 };

    fn asks(target: &str) -> What {
        What::accepted("GET", target)
    }

    fn peeked(target: &str) -> What {
        What::peeked("GET", target)
    }

    /// The events of these moments, which are at least a microsecond apart, without names of processes and threads.
    fn events(moments: &[(Option<usize>, Option<Subject>, What)]) -> Vec<TraceEvent> {
        let mut process = TraceProcess::new(1, "a server");
        for (seq, (thread, subject, what)) in (1..).zip(moments.iter().cloned()) {
            process.take(&Moment { seq, at_us: seq * 10, thread, subject, what });
        }
        process.end(1_000);
        process.drain().into_iter().filter(|event| event.phase != Phase::Metadata).collect()
    }

    /// The events as text: `phase name at`.
    fn seen(moments: &[(Option<usize>, Option<Subject>, What)]) -> Vec<String> {
        let line = |event: TraceEvent| {
            let json = serde_json::to_value(&event).unwrap();
            format!("{} {} {}", json["ph"].as_str().unwrap(), event.name, event.ts)
        };
        events(moments).into_iter().map(line).collect()
    }

    #[test]
    fn a_request_waits_in_todo_and_is_then_on_its_thread() {
        let (on, of) = (Some(3), Some(NINTH));
        let rest = [
            (on, of, What::Streaming),
            (on, of, What::Wrote { bytes: 5 }),
            (on, of, What::Disconnected { write: 2, error: "EPIPE".into() }),
            (on, of, What::Finished),
        ];
        let lines = ["B tab 9 30", "i streaming 50", "i write 60", "i write fails 70", "E tab 9 80"];
        // With Puma's front, a request is seen in todo, and read by the thread.
        let puma = [
            (None, of, What::Queued),
            (None, of, peeked("/?tab=9")),
            (on, of, What::Started),
            (on, of, asks("/?tab=9")),
        ];
        let wait = ["b todo: tab 9 10", "e todo: tab 9 30"];
        assert_eq!(seen(&[&puma[..], &rest].concat()), [&wait[..], &lines].concat());
        // With tiny-http, it is read before it is queued.
        let tiny = [
            (None, of, asks("/?tab=9")),
            (None, of, What::Queued),
            (on, of, What::Started),
            (on, of, What::MarkedIoBound),
        ];
        let lines =
            [&["b todo: tab 9 20", "e todo: tab 9 30", "B tab 9 30", "i marked as IO-bound 40"], &lines[1..]];
        assert_eq!(seen(&[&tiny[..], &rest].concat()), lines.concat());
    }

    #[test]
    fn a_refused_request_ends_where_it_is_refused() {
        let refused = |thread| {
            let rejected = What::Rejected { status: 400, why: "no HTTP".into() };
            (thread, Some(NINTH), rejected)
        };
        let (on, of) = (Some(1), Some(NINTH));
        let queued = (None, of, What::Queued);
        let finished = (on, of, What::Finished);
        let lines = |moments: &[_]| {
            let line = |event: &TraceEvent| {
                let json = serde_json::to_value(event).unwrap();
                let dur = json["dur"].as_u64().map_or(String::new(), |dur| format!(" for {dur}"));
                let ended = json["args"]["ended"].as_str().unwrap_or_default();
                format!("{} {}{dur} {ended}", event.name, event.ts).trim_end().to_owned()
            };
            events(moments).iter().map(line).collect::<Vec<_>>()
        };
        let in_todo = lines(&[queued.clone(), refused(None)]);
        assert_eq!(in_todo, ["todo: request 9 10", "todo: request 9 20 no HTTP", "refused 20"]);
        let unread = lines(&[queued.clone(), (on, of, What::Started), refused(on), finished.clone()]);
        let reads = "reads an incomplete request 20 for 10 no HTTP";
        let waits = ["todo: request 9 10", "todo: request 9 20 a thread took it"];
        assert_eq!(unread, [&waits[..], &[reads, "refused 30"]].concat());
        // The thread reads the next request of a connection, which does not pass through the queue.
        assert_eq!(lines(&[(on, None, What::Spawned), refused(on)]), ["spawned 10", "refused 20"]);
        let left = lines(&[(on, of, What::Started), (on, of, asks("/up")), (on, of, What::Left), finished]);
        assert_eq!(left, ["/up 10", "/up 30 its client had closed", "left 30"]);
    }

    #[test]
    fn a_connection_that_was_set_aside_has_not_started_its_request() {
        let of = Some(NINTH);
        let moments = [
            (None, of, What::Queued),
            (Some(1), of, What::Started),
            (None, of, What::Queued),
            (Some(2), of, What::Started),
            // After the next one has begun.
            (Some(1), of, What::Finished),
            (Some(2), of, asks("/up")),
            (Some(2), of, What::Finished),
        ];
        let lines = [
            "b todo: request 9 10",
            "e todo: request 9 20",
            "X reads an incomplete request 20",
            "b todo: /up 30",
            "e todo: /up 40",
            "B /up 40",
            "E /up 70",
        ];
        assert_eq!(seen(&moments), lines);
    }

    #[test]
    fn the_next_request_of_a_connection_ends_the_one_before() {
        let (on, second) = (Some(1), Subject { request: 10, ..NINTH });
        let moments = [
            (on, Some(NINTH), What::Started),
            (on, Some(NINTH), asks("/up")),
            (on, Some(NINTH), What::Wrote { bytes: 1 }),
            (on, Some(second), asks("/")),
            (on, Some(second), What::Wrote { bytes: 1 }),
            // The pool identifies the work by its first request.
            (on, Some(NINTH), What::Finished),
        ];
        assert_eq!(seen(&moments), ["B /up 10", "i write 30", "E /up 30", "B / 40", "i write 50", "E / 60"]);
    }

    #[test]
    fn an_interval_that_is_still_open_gets_an_end_that_says_so() {
        let waits = Subject { connection: 1, port: 0, request: 10 };
        let moments = [
            (Some(1), Some(NINTH), What::Started),
            (Some(1), Some(NINTH), asks("/?tab=9")),
            (Some(1), Some(NINTH), What::Reaped { age_ms: 5, why: "max age".into() }),
            (Some(1), Some(NINTH), What::Blocked { us: 15 }),
            (None, Some(waits), What::Queued),
        ];
        let events = events(&moments);
        let last: Vec<_> = events.iter().rev().take(3).map(|event| (event.name.as_str(), event.ts)).collect();
        assert_eq!(last, [("todo: request 10", 1_000), ("todo: request 10", 50), ("tab 9", 1_000)]);
        assert_eq!((&events[3].args["ended"], &events[5].args["ended"]), (&OPEN.into(), &OPEN.into()));
        assert_eq!((events[1].tid, events[2].tid), (STREAM_REAPER, POOL + 1));
        assert_eq!((events[2].ts, &events[2].phase), (25, &Phase::Complete { dur: 15 }));
    }

    #[test]
    fn an_orphaned_action_that_is_interrupted_is_on_the_track_of_the_reaper() {
        let moments = [(None, Some(NINTH), What::Reaped { age_ms: 5, why: "max age".into() })];
        let events = events(&moments);
        let seen: Vec<_> = events.iter().map(|event| (event.name.as_str(), event.tid)).collect();
        assert_eq!(seen, [("interrupted", STREAM_REAPER)]);
    }

    #[test]
    fn a_panic_on_a_thread_of_its_own_is_on_the_pool_thread_that_has_the_request() {
        let (on, of) = (Some(1), Some(NINTH));
        let panic = || (None, of, What::Panicked { message: "for a test".into() });
        let moments = [
            (on, of, What::Started),
            (on, of, asks("/?tab=9")),
            panic(),
            (on, of, What::Answered { status: 500, bytes: 9, duration_us: 20 }),
            panic(),
        ];
        let events = events(&moments);
        let seen: Vec<_> = events.iter().map(|event| (event.name.as_str(), event.tid)).collect();
        let pool = POOL + 1;
        assert_eq!(seen, [("tab 9", pool), ("panicked", pool), ("tab 9", pool), ("panicked", FRONT_DOOR)]);
        assert_eq!(events[2].args["ended"], "panicked");
    }

    #[test]
    fn dropped_moments_leave_starts_and_ends_in_pairs() {
        let mut process = TraceProcess::new(1, "a server");
        let tenth = Subject { request: 10, ..NINTH };
        for (seq, thread, of, what) in [
            (1, Some(1), NINTH, What::Started),
            (2, Some(1), NINTH, asks("/?tab=9")),
            (3, None, tenth, What::Queued),
            (4, None, tenth, peeked("/up")),
            (10, Some(1), tenth, What::Wrote { bytes: 1 }),
            (11, Some(1), tenth, What::Finished),
        ] {
            process.take(&Moment { seq, at_us: seq * 10, thread, subject: Some(of), what });
        }
        assert_eq!(process.state.todo().count(), 0);
        let events = process.drain();
        let said = events.iter().find(|event| event.name == "forgotten").unwrap();
        assert_eq!(said.args["moments"], 5);
        let seen: Vec<_> = events
            .iter()
            .filter(|event| event.phase != Phase::Metadata)
            .map(|event| (event.name.as_str(), event.ts))
            .collect();
        let lines = [
            ("tab 9", 10),
            ("todo: /up", 30),
            ("5 moments were forgotten before they could be written", 100),
            ("todo: /up", 100),
            ("tab 9", 20),
            ("request 10", 100),
            ("write", 100),
            ("request 10", 110),
        ];
        assert_eq!(seen, lines);
        assert_eq!((&events.last().unwrap().args["ended"]), "finished");
    }
}
