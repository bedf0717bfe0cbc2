//! Moments as a trace, in the Trace Event Format: what Perfetto and
//! chrome://tracing open.
//!
//! A process a server, a thread a pool thread, and on it each request from the
//! moment when a thread took it to its end. Who waits in todo is on no thread: a wait
//! is a pair of asynchronous events. Pure, and piece by piece: what is kept between
//! two moments is what is in flight. Only the timeline's words are known here, so that
//! a server may be drawn from outside or write of itself.
//!
//! The ring may have forgotten moments before they came here. Their number is said, and
//! whatever lost its begin or its end by that gets one, with a word that it was not seen.

mod format;

use std::collections::BTreeMap;
use std::mem;

use serde_json::{Map, Value, json};

use super::story::{name_of, tab_of};
use ninetabs_server::timeline::{Moment, Subject, What};

pub use format::{Encoder, Event};

use format::{OfItsProcess, Phase};

/// The track of what happens before a thread has a request.
const FRONT_DOOR: usize = 1;
/// The track of what ends streams.
const STREAM_REAPER: usize = 2;
/// Pool threads come behind this number: one with the number of its process would be
/// taken for the main thread.
const POOL: usize = 100;
/// What stands at the end of a thing that outlived its record.
const OPEN: &str = "had not ended when the record did";
/// What stands at the end, or the begin, of a thing that lost it.
const UNSEEN: &str = "not seen";

/// A request on its thread.
#[derive(Debug)]
struct Open {
    request: u64,
    name: String,
    writes: u64,
    bytes: u64,
    is_stream: bool,
    /// What ended it, once that is known.
    why: Option<String>,
}

impl Open {
    fn new(subject: Subject, name: String) -> Open {
        Open { request: subject.request, name, writes: 0, bytes: 0, is_stream: false, why: None }
    }
}

/// What a thread does.
#[derive(Debug, Default)]
enum Doing {
    #[default]
    Nothing,
    /// It has taken a connection out of todo, and nobody knows yet what is asked there.
    Reading {
        subject: Subject,
        since_us: u64,
        wait: Option<Wait>,
    },
    Serving(Open),
}

#[derive(Debug, Default)]
struct Lane {
    /// When the last event of this thread was.
    last_us: u64,
    doing: Doing,
}

/// A request in todo.
#[derive(Debug)]
struct Wait {
    since_us: u64,
    /// Its method and target, where they are read before it is queued.
    asks: Option<(String, String)>,
    /// The name under which its begin was written, since somebody has looked at it.
    begun: Option<String>,
}

/// One server, as far as its moments have been taken in.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    lanes: BTreeMap<usize, Lane>,
    todo: BTreeMap<u64, Wait>,
    last_seq: u64,
    events: Vec<Event>,
}

impl Process {
    /// A server by this number and name; the name is the first event.
    pub fn new(pid: u32, name: &str) -> Process {
        let mut process =
            Process { pid, lanes: BTreeMap::new(), todo: BTreeMap::new(), last_seq: 0, events: Vec::new() };
        process.metadata(FRONT_DOOR, "process_name", json!({ "name": name }));
        process.name_thread(FRONT_DOOR, "front door");
        process.name_thread(STREAM_REAPER, "stream reaper");
        process
    }

    /// The events since the last time.
    pub fn drain(&mut self) -> Vec<Event> {
        mem::take(&mut self.events)
    }

    /// The next moment, in the order of their numbers.
    pub fn take(&mut self, moment: &Moment) {
        let forgotten = moment.seq.saturating_sub(self.last_seq + 1);
        self.last_seq = moment.seq;
        if forgotten > 0 {
            self.forget(forgotten, moment.at_us);
        }
        let at_us = moment.at_us;
        match (moment.thread, moment.subject, &moment.what) {
            // The reaper says it, while the thread may be in the middle of a write.
            (Some(thread), Some(subject), What::Reaped { age_ms, why }) => {
                self.reaped(thread, subject, at_us, *age_ms, why);
            }
            (Some(thread), Some(subject), what) => self.on_thread(thread, subject, at_us, what),
            (Some(thread), None, What::Exited) => {
                self.close(thread, at_us, UNSEEN);
                self.instant(thread, at_us, "exited", json!({}));
            }
            (Some(thread), None, _) => self.instant(thread, at_us, "spawned", json!({})),
            (None, Some(subject), what) => self.at_the_door(subject, at_us, what),
            (None, None, _) => {}
        }
    }

    /// Ends what has not ended: the record is over.
    pub fn end(&mut self, now_us: u64) {
        for thread in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.close(thread, now_us, OPEN);
        }
        for (request, wait) in mem::take(&mut self.todo) {
            self.wait_is_over(request, wait, now_us, None, OPEN);
        }
    }

    fn at_the_door(&mut self, subject: Subject, at_us: u64, what: &What) {
        match what {
            What::Accepted { target, peeked: true, .. } => {
                // One that has left todo by now has a thread that knows more.
                let Some(wait) = self.todo.get_mut(&subject.request) else { return };
                let name = waits(&name_of(target));
                wait.begun = Some(name.clone());
                let since_us = wait.since_us;
                self.wait_begins(subject.request, since_us, name);
            }
            What::Accepted { method, target, peeked: false } => {
                let asks = Some((method.to_string(), target.to_string()));
                self.todo.insert(subject.request, Wait { since_us: at_us, asks, begun: None });
            }
            What::Queued => {
                let asks = self.todo.remove(&subject.request).and_then(|wait| wait.asks);
                self.todo.insert(subject.request, Wait { since_us: at_us, asks, begun: None });
            }
            What::Withdrawn => {
                if let Some(wait) = self.todo.remove(&subject.request) {
                    self.wait_is_over(subject.request, wait, at_us, None, "its connection was to make room");
                }
            }
            What::Rejected { status, why } => {
                if let Some(wait) = self.todo.remove(&subject.request) {
                    self.wait_is_over(subject.request, wait, at_us, None, why);
                }
                let args = json!({ "request": subject.request, "status": status, "why": why });
                self.push(
                    "request",
                    Phase::Instant { s: "t" },
                    at_us,
                    FRONT_DOOR,
                    "refused".to_owned(),
                    args,
                );
            }
            _ => {}
        }
    }

    fn on_thread(&mut self, thread: usize, subject: Subject, at_us: u64, what: &What) {
        match what {
            What::Started => {
                self.close(thread, at_us, UNSEEN);
                let wait = self.todo.remove(&subject.request);
                match wait.as_ref().and_then(|wait| wait.asks.clone()) {
                    Some((method, target)) => self.begin(thread, subject, at_us, wait, &method, &target),
                    // Puma's front reads on the thread itself, and may find that not all has come.
                    None => self.lane(thread).doing = Doing::Reading { subject, since_us: at_us, wait },
                }
            }
            What::Answered { .. } => self.answered(thread, subject, at_us),
            What::Finished => self.close(thread, at_us, "finished"),
            What::Accepted { method, target, .. } => self.accepted(thread, subject, at_us, method, target),
            What::Streaming => {
                self.note(thread, subject, at_us, |open| open.is_stream = true);
                self.instant(thread, at_us, "streaming", json!({}));
            }
            What::Wrote { bytes } => {
                self.note(thread, subject, at_us, |open| {
                    open.writes += 1;
                    open.bytes += bytes;
                });
                self.instant(thread, at_us, "write", json!({ "bytes": bytes }));
            }
            What::Blocked { us } => {
                self.note(thread, subject, at_us.saturating_sub(*us), |_| {});
                let from_us = at_us.saturating_sub(*us).max(self.lane(thread).last_us);
                let dur = at_us.saturating_sub(from_us);
                let name = "blocked: the client does not read".to_owned();
                self.on_lane(thread, from_us, Phase::Complete { dur }, name, json!({ "waited_us": us }));
                self.lane(thread).last_us = at_us;
            }
            What::Disconnected { write, error } => {
                self.note(thread, subject, at_us, |open| {
                    open.why.get_or_insert_with(|| format!("write {write} failed: {error}"));
                });
                self.instant(thread, at_us, "write fails", json!({ "write": write, "error": error }));
            }
            What::Rejected { status, why } => {
                // On Puma's front it may not have been read whole, and has not begun then.
                if !matches!(self.lane(thread).doing, Doing::Reading { .. }) {
                    self.note(thread, subject, at_us, |_| {});
                }
                self.close(thread, at_us, why);
                self.instant(thread, at_us, "refused", json!({ "status": status, "why": why }));
            }
            What::Left => {
                self.note(thread, subject, at_us, |_| {});
                self.close(thread, at_us, "its client had left");
                self.instant(thread, at_us, "left", json!({}));
            }
            What::Panicked { message } => {
                self.note(thread, subject, at_us, |open| open.why = Some("panicked".to_owned()));
                self.instant(thread, at_us, "panicked", json!({ "message": message }));
            }
            What::MarkedIoBound => self.instant(thread, at_us, "marked as IO-bound", json!({})),
            What::Queued
            | What::Withdrawn
            | What::Reaped { .. }
            | What::Spawned
            | What::Exited
            | What::Unknown => {}
        }
    }

    fn reaped(&mut self, thread: usize, subject: Subject, at_us: u64, age_ms: u64, why: &str) {
        if let Doing::Serving(open) = &mut self.lane(thread).doing
            && open.request == subject.request
        {
            open.why = Some(format!("told to end: {why}"));
        }
        let args = json!({ "request": subject.request, "thread": thread, "age_ms": age_ms, "why": why });
        let name = "told to end".to_owned();
        self.push("stream", Phase::Instant { s: "t" }, at_us, STREAM_REAPER, name, args);
    }

    /// The thread may still be busy with the connection, which may have sent the next request.
    fn answered(&mut self, thread: usize, subject: Subject, at_us: u64) {
        if matches!(&self.lane(thread).doing, Doing::Serving(open) if open.request == subject.request) {
            self.close(thread, at_us, "answered");
        }
    }

    /// A thread knows what is asked. It may be the second request of a connection, and the end of
    /// the first may be missing from the record of an older server.
    fn accepted(&mut self, thread: usize, subject: Subject, at_us: u64, method: &str, target: &str) {
        match mem::take(&mut self.lane(thread).doing) {
            Doing::Reading { subject: taken, since_us, wait } if taken.request == subject.request => {
                self.begin(thread, subject, since_us, wait, method, target);
                self.lane(thread).last_us = at_us;
            }
            Doing::Serving(open) if open.request == subject.request => {
                self.lane(thread).doing = Doing::Serving(open);
            }
            doing => {
                self.lane(thread).doing = doing;
                let last_us = self.lane(thread).last_us;
                self.close(thread, last_us, "answered");
                self.begin(thread, subject, at_us, None, method, target);
            }
        }
    }

    fn begin(
        &mut self,
        thread: usize,
        subject: Subject,
        at_us: u64,
        wait: Option<Wait>,
        method: &str,
        target: &str,
    ) {
        let name = name_of(target);
        if let Some(wait) = wait {
            self.wait_is_over(subject.request, wait, at_us, Some(&name), "a thread took it");
        }
        let mut args = json!({
            "method": method, "path": target, "request": subject.request, "connection": subject.connection,
        });
        if let Some(tab) = tab_of(target) {
            args["tab"] = tab.into();
        }
        self.on_lane(thread, at_us, Phase::Begin, name.clone(), args);
        self.lane(thread).doing = Doing::Serving(Open::new(subject, name));
    }

    /// Notes something of the request that this thread is at: as it was begun, or, if that
    /// was not seen, from now on.
    fn note(&mut self, thread: usize, subject: Subject, at_us: u64, note: impl FnOnce(&mut Open)) {
        let mut open = match mem::take(&mut self.lane(thread).doing) {
            Doing::Serving(open) if open.request == subject.request => open,
            doing => {
                self.lane(thread).doing = doing;
                let last_us = self.lane(thread).last_us;
                self.close(thread, last_us, UNSEEN);
                let name = format!("request {}", subject.request);
                let args = json!({
                    "request": subject.request, "connection": subject.connection, "begin": UNSEEN,
                });
                self.on_lane(thread, at_us, Phase::Begin, name.clone(), args);
                Open::new(subject, name)
            }
        };
        note(&mut open);
        self.lane(thread).doing = Doing::Serving(open);
    }

    /// Ends what the thread is at, if it is at anything.
    fn close(&mut self, thread: usize, at_us: u64, how: &str) {
        match mem::take(&mut self.lane(thread).doing) {
            Doing::Nothing => {}
            Doing::Reading { subject, since_us, wait } => {
                let Subject { request, connection, .. } = subject;
                if let Some(wait) = wait {
                    self.wait_is_over(request, wait, since_us, None, "a thread took it");
                }
                let dur = at_us.saturating_sub(since_us);
                let args = json!({ "request": request, "connection": connection, "ended": how });
                let name = "reads, and has no whole request".to_owned();
                self.on_lane(thread, since_us, Phase::Complete { dur }, name, args);
                self.lane(thread).last_us = since_us + dur;
            }
            Doing::Serving(open) => {
                let ended = if how == OPEN { OPEN } else { open.why.as_deref().unwrap_or(how) };
                let args = json!({
                    "writes": open.writes, "bytes": open.bytes, "stream": open.is_stream, "ended": ended,
                });
                self.on_lane(thread, at_us, Phase::End, open.name, args);
            }
        }
    }

    /// What was lost is said where it is missing. Who is in todo may have left it meanwhile.
    fn forget(&mut self, count: u64, at_us: u64) {
        self.metadata(FRONT_DOOR, "forgotten", json!({ "moments": count }));
        let name = format!("{count} moments were forgotten before they could be written");
        self.push("ninetabs", Phase::Instant { s: "p" }, at_us, FRONT_DOOR, name, json!({}));
        for (request, wait) in mem::take(&mut self.todo) {
            if wait.begun.is_some() {
                self.wait_is_over(request, wait, at_us, None, UNSEEN);
            }
        }
    }

    fn wait_begins(&mut self, request: u64, since_us: u64, name: String) {
        let phase = Phase::WaitBegins { id2: OfItsProcess { local: request.to_string() } };
        self.push("todo", phase, since_us, FRONT_DOOR, name, json!({ "request": request }));
    }

    /// Writes the wait's end, and its begin too, unless that stands there already.
    fn wait_is_over(&mut self, request: u64, wait: Wait, at_us: u64, asks: Option<&str>, how: &str) {
        let name = match (wait.begun, asks, wait.asks) {
            (Some(name), ..) => name,
            (None, asks, asked) => {
                let asks = asks.map(str::to_owned).or_else(|| Some(name_of(&asked?.1)));
                let name = waits(&asks.unwrap_or_else(|| format!("request {request}")));
                self.wait_begins(request, wait.since_us, name.clone());
                name
            }
        };
        let phase = Phase::WaitEnds { id2: OfItsProcess { local: request.to_string() } };
        let at_us = at_us.max(wait.since_us);
        self.push("todo", phase, at_us, FRONT_DOOR, name, json!({ "ended": how }));
    }

    fn instant(&mut self, thread: usize, at_us: u64, name: &str, args: Value) {
        self.on_lane(thread, at_us, Phase::Instant { s: "t" }, name.to_owned(), args);
    }

    /// An event of a pool thread: never before the last one of it.
    fn on_lane(&mut self, thread: usize, at_us: u64, phase: Phase, name: String, args: Value) {
        let lane = self.lane(thread);
        lane.last_us = lane.last_us.max(at_us);
        let at_us = lane.last_us;
        self.push("request", phase, at_us, POOL + thread, name, args);
    }

    fn lane(&mut self, thread: usize) -> &mut Lane {
        if !self.lanes.contains_key(&thread) {
            self.name_thread(POOL + thread, &format!("puma srv tp {thread:03}"));
        }
        self.lanes.entry(thread).or_default()
    }

    fn name_thread(&mut self, tid: usize, name: &str) {
        self.metadata(tid, "thread_name", json!({ "name": name }));
        self.metadata(tid, "thread_sort_index", json!({ "sort_index": tid }));
    }

    fn metadata(&mut self, tid: usize, name: &str, args: Value) {
        self.push("__metadata", Phase::Metadata, 0, tid, name.to_owned(), args);
    }

    fn push(&mut self, cat: &'static str, phase: Phase, ts: u64, tid: usize, name: String, args: Value) {
        let args = match args {
            Value::Object(args) => args,
            _ => Map::new(),
        };
        self.events.push(Event { name, cat, phase, ts, pid: self.pid, tid, args });
    }
}

fn waits(name: &str) -> String {
    format!("todo: {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NINTH: Subject = Subject { connection: 40_009, port: 0, request: 9 };

    fn asks(target: &str) -> What {
        What::accepted("GET", target)
    }

    fn peeked(target: &str) -> What {
        What::peeked("GET", target)
    }

    /// The events of these moments, a microsecond or more apart, but for names of processes and threads.
    fn events(moments: &[(Option<usize>, Option<Subject>, What)]) -> Vec<Event> {
        let mut process = Process::new(1, "a server");
        for (seq, (thread, subject, what)) in (1..).zip(moments.iter().cloned()) {
            process.take(&Moment { seq, at_us: seq * 10, thread, subject, what });
        }
        process.end(1_000);
        process.drain().into_iter().filter(|event| event.phase != Phase::Metadata).collect()
    }

    /// As `phase name at`.
    fn seen(moments: &[(Option<usize>, Option<Subject>, What)]) -> Vec<String> {
        let line = |event: Event| {
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
        // Puma's front: seen in todo, and read by the thread.
        let puma = [
            (None, of, What::Queued),
            (None, of, peeked("/?tab=9")),
            (on, of, What::Started),
            (on, of, asks("/?tab=9")),
        ];
        let wait = ["b todo: tab 9 10", "e todo: tab 9 30"];
        assert_eq!(seen(&[&puma[..], &rest].concat()), [&wait[..], &lines].concat());
        // tiny-http: read before it is queued.
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
            let line = |event: &Event| {
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
        let reads = "reads, and has no whole request 20 for 10 no HTTP";
        let waits = ["todo: request 9 10", "todo: request 9 20 a thread took it"];
        assert_eq!(unread, [&waits[..], &[reads, "refused 30"]].concat());
        let left = lines(&[(on, of, What::Started), (on, of, asks("/up")), (on, of, What::Left), finished]);
        assert_eq!(left, ["/up 10", "/up 30 its client had left", "left 30"]);
    }

    #[test]
    fn what_was_put_aside_is_no_request_yet() {
        let of = Some(NINTH);
        let moments = [
            (None, of, What::Queued),
            (Some(1), of, What::Started),
            (None, of, What::Queued),
            (Some(2), of, What::Started),
            // Later than the next one has begun.
            (Some(1), of, What::Finished),
            (Some(2), of, asks("/up")),
            (Some(2), of, What::Finished),
        ];
        let lines = [
            "b todo: request 9 10",
            "e todo: request 9 20",
            "X reads, and has no whole request 20",
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
            // The pool knows the work by its first request.
            (on, Some(NINTH), What::Finished),
        ];
        assert_eq!(seen(&moments), ["B /up 10", "i write 30", "E /up 30", "B / 40", "i write 50", "E / 60"]);
    }

    #[test]
    fn what_has_not_ended_gets_its_end_and_says_so() {
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
    fn a_ring_that_forgot_leaves_begins_and_ends_in_pairs() {
        let mut process = Process::new(1, "a server");
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
        assert!(process.todo.is_empty());
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
