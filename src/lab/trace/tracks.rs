//! The events of one process, each on its track: a pool thread, the front door or the stream reaper.

use std::collections::BTreeMap;
use std::mem;

use serde_json::{Map, Value, json};

use super::called;
use super::format::{OfItsProcess, Phase, TraceEvent};
use ninetabs_server::timeline::{Held, Subject};

/// The track for events before a thread has the request.
pub(super) const FRONT_DOOR: usize = 1;
/// The track for events that end streams.
pub(super) const STREAM_REAPER: usize = 2;
/// Added to the numbers of pool threads. A thread with the same number as its process would be shown as the
/// main thread.
pub(super) const POOL: usize = 100;

/// The events that were written, and the time of each thread's last event.
#[derive(Debug)]
pub(super) struct Tracks {
    pid: u32,
    last_us: BTreeMap<usize, u64>,
    /// Events are never earlier than this time.
    floor_us: u64,
    events: Vec<TraceEvent>,
}

impl Tracks {
    pub fn new(pid: u32, name: &str) -> Tracks {
        let mut tracks = Tracks { pid, last_us: BTreeMap::new(), floor_us: 0, events: Vec::new() };
        tracks.metadata(FRONT_DOOR, "process_name", json!({ "name": name }));
        tracks.name_thread(FRONT_DOOR, "front door");
        tracks.name_thread(STREAM_REAPER, "stream reaper");
        tracks
    }

    pub fn drain(&mut self) -> Vec<TraceEvent> {
        mem::take(&mut self.events)
    }

    /// Drops all events so far. An interval that began before this time and is written later begins at this time.
    pub fn skip_to(&mut self, at_us: u64) {
        self.events.retain(|event| event.phase == Phase::Metadata);
        self.floor_us = at_us;
    }

    /// Shows a line of text next to the process's name.
    pub fn label(&mut self, text: &str) {
        self.metadata(FRONT_DOOR, "process_labels", json!({ "labels": text }));
    }

    /// Gives a pool thread its track.
    pub fn add(&mut self, thread: usize) {
        if self.last_us.insert(thread, self.last_us(thread)).is_none() {
            self.name_thread(POOL + thread, &format!("puma srv tp {thread:03}"));
        }
    }

    /// Writes an event of a pool thread, never at an earlier time than the thread's last one.
    pub fn on_thread(&mut self, thread: usize, at_us: u64, phase: Phase, name: String, args: Value) {
        self.add(thread);
        let at_us = at_us.max(self.last_us(thread));
        self.go_on(thread, at_us);
        self.push("request", phase, at_us, POOL + thread, name, args);
    }

    /// The time of this thread's last event.
    pub fn last_us(&self, thread: usize) -> u64 {
        self.last_us.get(&thread).copied().unwrap_or_default().max(self.floor_us)
    }

    /// Makes sure that the thread's next event is not before this time.
    pub fn go_on(&mut self, thread: usize, at_us: u64) {
        let last_us = self.last_us.entry(thread).or_default();
        *last_us = at_us.max(*last_us);
    }

    pub fn instant(&mut self, thread: usize, at_us: u64, name: &str, args: Value) {
        self.on_thread(thread, at_us, Phase::Instant { s: "t" }, name.to_owned(), args);
    }

    /// Writes an interval on the thread between these times.
    pub fn lasted(&mut self, thread: usize, since_us: u64, until_us: u64, name: &str, args: Value) {
        let since_us = since_us.max(self.floor_us);
        let dur = until_us.saturating_sub(since_us);
        self.on_thread(thread, since_us, Phase::Complete { dur }, name.to_owned(), args);
        self.go_on(thread, since_us + dur);
    }

    /// Writes that a write waited for this long.
    pub fn blocked(&mut self, thread: usize, at_us: u64, us: u64) {
        let from_us = at_us.saturating_sub(us).max(self.last_us(thread));
        self.lasted(thread, from_us, at_us, "blocked: the client does not read", json!({ "waited_us": us }));
    }

    pub fn at_the_front_door(&mut self, name: &str, at_us: u64, args: Value) {
        self.push("request", Phase::Instant { s: "t" }, at_us, FRONT_DOOR, name.to_owned(), args);
    }

    /// Writes an order that was sent to the server. It appears as a line across all of the server's tracks.
    pub fn ordered(&mut self, order: &str, at_us: u64) {
        self.push("order", Phase::Instant { s: "p" }, at_us, FRONT_DOOR, order.to_owned(), json!({}));
    }

    pub fn by_the_reaper(&mut self, name: &str, at_us: u64, args: Value) {
        self.push("stream", Phase::Instant { s: "t" }, at_us, STREAM_REAPER, name.to_owned(), args);
    }

    /// Writes the begin event of a wait in todo, with the name of the request.
    pub fn wait_begins(&mut self, held: &Held, name: &str) {
        let Subject { request, .. } = held.subject;
        let phase = Phase::WaitBegins { id2: OfItsProcess { local: request.to_string() } };
        let args = json!({ "request": request });
        self.push("todo", phase, queued_us(held), FRONT_DOOR, format!("todo: {name}"), args);
    }

    /// Writes the end event of a wait, and its begin event unless that was written when the request was peeked at
    /// in todo. `name` is the request's name, if it has been read by now.
    pub fn wait(&mut self, held: &Held, name: Option<&str>, until_us: u64, how: &str) {
        let Subject { request, .. } = held.subject;
        let name = name.filter(|_| !held.peeked).map_or_else(|| called(held), str::to_owned);
        if !held.peeked {
            self.wait_begins(held, &name);
        }
        let phase = Phase::WaitEnds { id2: OfItsProcess { local: request.to_string() } };
        let until_us = until_us.max(queued_us(held));
        self.push("todo", phase, until_us, FRONT_DOOR, format!("todo: {name}"), json!({ "ended": how }));
    }

    /// Writes that this many moments are missing here.
    pub fn forgotten(&mut self, count: u64, at_us: u64) {
        self.metadata(FRONT_DOOR, "forgotten", json!({ "moments": count }));
        let name = format!("{count} moments were dropped before they could be written");
        self.push("ninetabs", Phase::Instant { s: "p" }, at_us, FRONT_DOOR, name, json!({}));
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
        let ts = if phase == Phase::Metadata { ts } else { ts.max(self.floor_us) };
        self.events.push(TraceEvent { name, cat, phase, ts, pid: self.pid, tid, args });
    }
}

/// When the request was queued.
fn queued_us(held: &Held) -> u64 {
    let left_us = held.started_us.unwrap_or_default();
    held.queued_us.unwrap_or(left_us.saturating_sub(held.waited_us.unwrap_or_default()))
}
