//! The record of events.
//!
//! Every view (the lanes of `reproduce`, the control server's `/timeline`, a picture) is drawn from this record, so all
//! of them show the same. It is bounded: it keeps the newest [`CAPACITY`] moments, or fewer if their texts exceed
//! [`MAX_TEXT_BYTES`]. Each moment has a sequence number, so a reader that falls behind learns how many it missed.
//!
//! The timeline uses no other module of this crate. [`Timeline::record`] holds a mutex for the length of a push, never
//! blocks on anything else, and may be called under the thread pool's own lock.

mod follow;
mod snapshot;
mod stretch;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::mem;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use follow::{Past, TimelineNews};
pub use snapshot::{FailedWrite, Held, LiveAction, Reaped, Snapshot, Thread};
pub use stretch::Stretch;

/// How many moments the ring holds before the oldest are forgotten.
pub const CAPACITY: usize = 16_384;
/// How many bytes of a request's target and of its method are kept. tiny_http does not limit them, and
/// the ring would hold thousands of them.
pub const LONGEST_TEXT: usize = 1_024;
/// The maximum number of bytes of text in the ring. Ordinary targets stay far below it. A client that sends
/// only long ones could otherwise fill 32 MB.
pub const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// How many moments are copied under the lock at a time. Recording waits for such a copy, and the thread pool
/// waits with it.
pub const COPIED_AT_ONCE: usize = 512;
/// How many moments are forgotten at a time. They are adjacent in memory, so adding them to the snapshot in
/// one batch is faster than one by one.
const FORGOTTEN_AT_ONCE: usize = 256;

/// The connection and the request that a moment is about.
///
/// The front door assigns both numbers, and never reuses them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Subject {
    /// The number of the connection, counted from 1. tiny_http hides its connections, so there every request
    /// counts as a separate connection.
    pub connection: u64,
    /// The client's port. Ports are reused, and clients on two hosts may have the same port at the same time,
    /// so it identifies a connection only for the client itself.
    #[cfg_attr(feature = "serde", serde(default))]
    pub port: u16,
    /// The number of the request, counted from 1 by the server that reads it.
    pub request: u64,
}

/// What happened. The variants are in the order of a request's life, and then those that are about something else.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "snake_case"))]
pub enum What {
    /// A pool thread was started.
    Spawned,
    /// A request was read. If `peeked`, only its head was seen, while it was queued and unread.
    Accepted {
        /// Its method.
        method: Cow<'static, str>,
        /// Its target.
        target: Arc<str>,
        /// Whether it was still queued and unread.
        #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "std::ops::Not::not"))]
        peeked: bool,
    },
    /// The request was put into todo.
    Queued,
    /// A pool thread took the request out of todo.
    Started,
    /// The front door took the request out of todo to evict its connection. The connection is closed or
    /// queued again.
    Withdrawn,
    /// The request's thread was marked IO-bound, and no longer counts against the pool.
    MarkedIoBound,
    /// The app registered the request as a live stream.
    Streaming,
    /// Bytes of the answer went to the kernel.
    Wrote {
        /// How many bytes, including the head.
        bytes: u64,
    },
    /// A write did not return at once, because the client was not reading.
    Blocked {
        /// How long it waited, in microseconds.
        us: u64,
    },
    /// A write failed.
    Disconnected {
        /// The number of the write, counted from 1.
        write: u64,
        /// The error that the system returned.
        error: String,
    },
    /// The stream reaper, a user or a shutdown interrupted the stream.
    Reaped {
        /// The stream's age, in milliseconds.
        age_ms: u64,
        /// Why it was interrupted.
        why: String,
    },
    /// The request was answered without reaching the app.
    Rejected {
        /// The status that was sent.
        status: u16,
        /// Why it was refused.
        why: String,
    },
    /// The client closed while the request was queued, so it was not served.
    Left,
    /// The work panicked. This costs one answer, not the thread.
    Panicked {
        /// The text of the panic.
        message: String,
    },
    /// The answer has ended, completely or cut off, or the connection has left the pool.
    Answered {
        /// The status that was sent.
        status: u16,
        /// How many bytes of the answer the kernel has taken, including the head.
        bytes: u64,
        /// How long the request held its thread, in microseconds.
        duration_us: u64,
    },
    /// The pool thread is done with the connection, and with the last request that it took from it. A request
    /// that has no answer by then was incomplete, and the reactor watches its connection.
    Finished,
    /// A pool thread ended, because of a trim or a shutdown.
    Exited,
    /// The client of the request has closed, as the client's owner says. The server itself notices that only
    /// when a write fails. The thread that the client holds is not named, because it does not know.
    ClientClosed,
    /// The action of a stream began to run on a thread of its own. The pool thread writes its answer. These four
    /// events have a request and no pool thread.
    ActionBegan {
        /// The number of the action's thread, counted separately from the pool's.
        worker: usize,
        /// The target of the request.
        target: Arc<str>,
    },
    /// The action has written for the first time, which commits its response.
    ActionCommitted {
        /// The number of the action's thread.
        worker: usize,
    },
    /// The answer has ended, and the action goes on without a pool thread and without a client.
    ActionOrphaned {
        /// The number of the action's thread.
        worker: usize,
    },
    /// The action has ended.
    ActionEnded {
        /// The number of the action's thread.
        worker: usize,
    },
    /// An order to the server was carried out. It is about no thread and no request.
    Ordered {
        /// The order, in a few words.
        text: String,
    },
    /// An event that this version does not know, received from a newer server.
    #[cfg_attr(feature = "serde", serde(other))]
    Unknown,
}

impl What {
    /// Creates the event of a request that was read. Texts longer than [`LONGEST_TEXT`] are truncated.
    pub fn accepted(method: impl Into<Cow<'static, str>>, target: impl Into<Arc<str>>) -> What {
        let (method, target) = (cut(method.into()), cut(target.into()));
        What::Accepted { method, target, peeked: false }
    }

    /// Creates the event of a request that was seen in todo, unread. Texts are truncated in the same way.
    pub fn peeked(method: impl Into<Cow<'static, str>>, target: impl Into<Arc<str>>) -> What {
        let (method, target) = (cut(method.into()), cut(target.into()));
        What::Accepted { method, target, peeked: true }
    }
}

impl What {
    /// Returns the number of the action's thread, if this is an event of an action.
    pub fn worker(&self) -> Option<usize> {
        match self {
            What::ActionBegan { worker, .. }
            | What::ActionCommitted { worker }
            | What::ActionOrphaned { worker }
            | What::ActionEnded { worker } => Some(*worker),
            _ => None,
        }
    }

    /// Truncates texts that are longer than [`LONGEST_TEXT`].
    fn cut_texts(&mut self) {
        if let What::Disconnected { error: text, .. }
        | What::Reaped { why: text, .. }
        | What::Rejected { why: text, .. }
        | What::Panicked { message: text }
        | What::Ordered { text } = self
            && text.len() > LONGEST_TEXT
        {
            *text = cut(mem::take(text));
        }
        if let What::ActionBegan { target, .. } = self
            && target.len() > LONGEST_TEXT
        {
            *target = cut(Arc::clone(target));
        }
    }

    /// The total length of its texts, in bytes.
    fn text_bytes(&self) -> usize {
        match self {
            What::Accepted { method: Cow::Owned(method), target, .. } => method.len() + target.len(),
            What::Accepted { target, .. } | What::ActionBegan { target, .. } => target.len(),
            What::Disconnected { error: text, .. }
            | What::Reaped { why: text, .. }
            | What::Rejected { why: text, .. }
            | What::Panicked { message: text }
            | What::Ordered { text } => text.len(),
            _ => 0,
        }
    }
}

fn cut<T: Deref<Target = str> + From<String>>(text: T) -> T {
    if text.len() <= LONGEST_TEXT {
        return text;
    }
    let end = (0..=LONGEST_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned().into()
}

/// One entry of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Moment {
    /// The sequence number, counted from 1 without gaps.
    pub seq: u64,
    /// Microseconds since the timeline began, on the monotonic clock.
    pub at_us: u64,
    /// The number of the pool thread, if one is involved.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub thread: Option<usize>,
    /// The request that this is about, if there is one.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub subject: Option<Subject>,
    /// What happened.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub what: What,
}

/// The result of [`Timeline::after`].
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Excerpt {
    /// Now, in microseconds on the timeline's own clock.
    pub now_us: u64,
    /// How many of the requested moments have been forgotten.
    pub forgotten: u64,
    /// The moments, oldest first.
    pub moments: Vec<Moment>,
    /// The state after the last of these moments. Present only if requested moments have been forgotten.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub snapshot: Option<Snapshot>,
}

/// The record itself, shared through an `Arc` by everything that records or reads.
#[derive(Debug)]
pub struct Timeline {
    clock: Clock,
    /// `None` if nothing is recorded.
    ring: Option<Mutex<Ring>>,
}

#[derive(Debug)]
enum Clock {
    Since(Instant),
    /// Stays at this many microseconds until it is moved.
    At(AtomicU64),
}

#[derive(Debug)]
struct Ring {
    last_seq: u64,
    /// The newest moments, oldest first, without gaps: up to [`CAPACITY`], and those that will be forgotten
    /// next.
    moments: VecDeque<Moment>,
    /// The total length of all texts, in bytes.
    text_bytes: usize,
    /// The state before the oldest moment.
    snapshot: Snapshot,
}

impl Default for Timeline {
    fn default() -> Self {
        Timeline::with_clock(Clock::Since(Instant::now()))
    }
}

impl Timeline {
    /// Creates a timeline whose clock moves only by [`Timeline::let_pass`], so that minutes can be recorded
    /// at once.
    pub fn simulated() -> Self {
        Timeline::with_clock(Clock::At(AtomicU64::new(0)))
    }

    /// Creates a timeline that records nothing and allocates nothing.
    pub fn disabled() -> Self {
        Timeline { clock: Clock::Since(Instant::now()), ring: None }
    }

    fn with_clock(clock: Clock) -> Self {
        let ring = Ring {
            last_seq: 0,
            moments: VecDeque::with_capacity(CAPACITY + FORGOTTEN_AT_ONCE),
            text_bytes: 0,
            snapshot: Snapshot::default(),
        };
        Timeline { clock, ring: Some(Mutex::new(ring)) }
    }

    /// Moves the clock of a simulated timeline. Does nothing on a real one.
    pub fn let_pass(&self, time: Duration) {
        if let Clock::At(us) = &self.clock {
            us.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
        }
    }

    /// Records that `what` happened now.
    pub fn record(&self, thread: Option<usize>, subject: Option<Subject>, what: What) {
        let Some(mut ring) = self.ring() else { return };
        // The clock is read under the lock, so the order by time is the order by number.
        ring.push(self.now_us(), thread, subject, what);
    }

    /// Records that `what` happened at this time, which the caller has just read from the clock. If a later
    /// moment has been recorded in the meantime, that moment's time is used.
    pub fn record_at(&self, at: Instant, thread: Option<usize>, subject: Option<Subject>, what: What) {
        let Some(mut ring) = self.ring() else { return };
        let at_us = match &self.clock {
            Clock::Since(began) => at.saturating_duration_since(*began).as_micros() as u64,
            Clock::At(us) => us.load(Ordering::Relaxed),
        };
        ring.push(at_us, thread, subject, what);
    }

    /// Returns everything after moment number `seq` that is still known, up to now, oldest first. It is
    /// copied in pieces of [`COPIED_AT_ONCE`], so recording waits for one piece at most. If moments were
    /// forgotten, recording also waits for the copy of a snapshot.
    pub fn after(&self, seq: u64) -> Excerpt {
        let last = self.last_seq();
        let excerpt = self.up_to(seq, last);
        // Moments that are forgotten between the two calls are left out as well: the snapshot includes them.
        if excerpt.forgotten == 0 { excerpt } else { self.with_snapshot(seq) }
    }

    /// Like [`after`](Self::after), with the snapshot after the last of these moments.
    fn with_snapshot(&self, seq: u64) -> Excerpt {
        let snapshot = self.snapshot();
        let excerpt = self.up_to(seq, snapshot.seq);
        Excerpt { snapshot: Some(snapshot), ..excerpt }
    }

    /// Returns the moments that are still known from after `seq` up to `last`.
    fn up_to(&self, seq: u64, last: u64) -> Excerpt {
        let mut whole = self.next_after(seq, COPIED_AT_ONCE);
        while let Some(newest) = whole.moments.last().filter(|moment| moment.seq < last) {
            let more = self.next_after(newest.seq, COPIED_AT_ONCE);
            whole.now_us = more.now_us;
            whole.forgotten += more.forgotten;
            whole.moments.extend(more.moments);
        }
        let known = whole.moments.partition_point(|moment| moment.seq <= last);
        whole.moments.truncate(known);
        whole
    }

    /// Returns the state after the newest moment. The ring stores the state before its oldest moment. This
    /// function adds the later moments in pieces, on the reader's thread. Readers call it when they begin or
    /// have missed moments.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_up_to(self.last_seq())
    }

    /// The state after moment number `last`, or after a later one.
    fn snapshot_up_to(&self, last: u64) -> Snapshot {
        let mut snapshot = Snapshot::default();
        while let Some(ring) = self.ring().filter(|_| snapshot.seq < last) {
            // True at the beginning, and if moments were forgotten before they could be added.
            if snapshot.seq < ring.snapshot.seq {
                snapshot = ring.snapshot.clone();
            }
            // The ring may have forgotten moment number `last` as well.
            let behind = last.saturating_sub(snapshot.seq).min(COPIED_AT_ONCE as u64) as usize;
            let first = ring.moments.len() - (ring.last_seq - snapshot.seq) as usize;
            let piece: Vec<_> = ring.moments.range(first..).take(behind).cloned().collect();
            drop(ring);
            snapshot.take_all(piece.iter());
        }
        snapshot
    }

    /// Returns the number of the newest moment, or 0 before the first one.
    pub fn last_seq(&self) -> u64 {
        self.ring().map_or(0, |ring| ring.last_seq)
    }

    /// Returns at most `most` moments after number `seq` that are still known, oldest first. They are copied
    /// under the lock.
    pub fn next_after(&self, seq: u64, most: usize) -> Excerpt {
        let Some(ring) = self.ring() else {
            return Excerpt { now_us: self.now_us(), forgotten: 0, moments: Vec::new(), snapshot: None };
        };
        let known = ring.moments.len().min(CAPACITY);
        let oldest = ring.last_seq - known as u64 + 1;
        let wanted = seq.saturating_add(1);
        // There is nothing after the last moment.
        let left_out = (wanted.max(oldest) - oldest).min(known as u64) as usize;
        let first = ring.moments.len() - known + left_out;
        Excerpt {
            now_us: self.now_us(),
            forgotten: oldest.saturating_sub(wanted),
            moments: ring.moments.range(first..).take(most).cloned().collect(),
            snapshot: None,
        }
    }

    /// Returns the current time in microseconds, on the timeline's clock.
    pub fn now_us(&self) -> u64 {
        match &self.clock {
            Clock::Since(began) => began.elapsed().as_micros() as u64,
            Clock::At(us) => us.load(Ordering::Relaxed),
        }
    }

    fn ring(&self) -> Option<MutexGuard<'_, Ring>> {
        // Only a failed allocation can panic while the ring is locked, and the record before it is
        // consistent.
        self.ring.as_ref().map(|ring| ring.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ring {
    /// Adds a moment, and forgets the oldest ones if there are too many. Times never decrease, so the order
    /// by time is the order by number.
    fn push(&mut self, at_us: u64, thread: Option<usize>, subject: Option<Subject>, mut what: What) {
        what.cut_texts();
        self.text_bytes += what.text_bytes();
        self.last_seq += 1;
        let newest_us = self.moments.back().map_or(0, |newest| newest.at_us);
        self.moments.push_back(Moment {
            seq: self.last_seq,
            at_us: at_us.max(newest_us),
            thread,
            subject,
            what,
        });
        if self.moments.len() == CAPACITY + FORGOTTEN_AT_ONCE {
            self.forget(FORGOTTEN_AT_ONCE);
        }
        while self.text_bytes > MAX_TEXT_BYTES && self.moments.len() > 1 {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.moments.pop_front() else { return };
        self.snapshot.take(&oldest);
        self.text_bytes -= oldest.what.text_bytes();
    }

    fn forget(&mut self, oldest: usize) {
        self.snapshot.take_all(self.moments.range(..oldest));
        self.text_bytes -= self.moments.range(..oldest).map(|moment| moment.what.text_bytes()).sum::<usize>();
        self.moments.drain(..oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_complete_even_if_the_requested_moment_is_forgotten() {
        let timeline = Timeline::simulated();
        timeline.record(Some(1), None, What::Spawned);
        let asked_for = timeline.last_seq();
        for _ in 0..2 * CAPACITY {
            timeline.record(Some(2), None, What::Spawned);
        }
        let snapshot = timeline.snapshot_up_to(asked_for);
        assert!(asked_for < snapshot.seq && snapshot.seq < timeline.last_seq());
        assert_eq!(snapshot.threads.keys().collect::<Vec<_>>(), [&1, &2]);
    }

    #[test]
    fn sequence_numbers_are_contiguous_and_a_slow_reader_learns_how_many_it_missed() {
        let timeline = Timeline::default();
        for _ in 0..CAPACITY + 10 {
            timeline.record(None, None, What::Spawned);
        }
        let all = timeline.after(0);
        assert_eq!(all.forgotten, 10);
        assert_eq!(all.moments.len(), CAPACITY);
        assert!(all.moments.windows(2).all(|w| w[0].seq + 1 == w[1].seq && w[0].at_us <= w[1].at_us));

        let newest = timeline.after(all.moments[CAPACITY - 3].seq);
        assert_eq!((newest.forgotten, newest.moments.len()), (0, 2));
        assert!(timeline.after(u64::MAX).moments.is_empty());

        let next = timeline.next_after(0, 3);
        assert_eq!((next.forgotten, next.moments.len(), next.moments[2].seq), (10, 3, 13));
        assert_eq!(timeline.last_seq(), CAPACITY as u64 + 10);
    }

    #[test]
    fn the_total_length_of_texts_is_bounded() {
        let timeline = Timeline::default();
        for n in 0..CAPACITY {
            let target = format!("/{n}?{}", "x".repeat(2 * LONGEST_TEXT));
            timeline.record(None, None, What::accepted("G".repeat(LONGEST_TEXT), target));
        }
        let all = timeline.after(0);
        assert_eq!(all.moments.len(), MAX_TEXT_BYTES / (2 * LONGEST_TEXT));
        assert_eq!(all.forgotten as usize + all.moments.len(), CAPACITY);
        timeline.record(None, None, What::Panicked { message: "é".repeat(MAX_TEXT_BYTES) });
        let What::Panicked { message } = &timeline.after(CAPACITY as u64).moments[0].what else {
            panic!("another moment")
        };
        assert_eq!(message.len(), LONGEST_TEXT);
        // For ordinary texts, the number of moments is the limit.
        for _ in 0..2 * CAPACITY {
            timeline.record(None, None, What::accepted("GET", "/models/live_stream?tab=1"));
        }
        assert_eq!(timeline.after(0).moments.len(), CAPACITY);
    }

    #[test]
    fn a_long_target_is_truncated_between_characters() {
        let What::Accepted { method, target, .. } =
            What::accepted("GET", format!("/{}", "é".repeat(LONGEST_TEXT)))
        else {
            panic!("another moment")
        };
        assert_eq!((&*method, target.len()), ("GET", LONGEST_TEXT - 1));
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_moment_is_serialized_as_one_flat_object() {
        let timeline = Timeline::default();
        let subject = Subject { connection: 7, port: 40_007, request: 1 };
        timeline.record(Some(3), Some(subject), What::Wrote { bytes: 12 });
        let moment = &timeline.after(0).moments[0];
        let json = serde_json::to_value(moment).unwrap();
        assert_eq!(json["kind"], "wrote");
        assert_eq!((&json["bytes"], &json["request"], &json["thread"]), (&12.into(), &1.into(), &3.into()));
        assert_eq!(&serde_json::from_value::<Moment>(json).unwrap(), moment);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn an_order_is_an_event_without_a_thread_and_a_request() {
        let timeline = Timeline::default();
        timeline.record(None, None, What::Ordered { text: "é".repeat(LONGEST_TEXT) });
        let moment = &timeline.after(0).moments[0];
        let json = serde_json::to_value(moment).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["at_us", "kind", "seq", "text"]);
        assert_eq!((&json["kind"], json["text"].as_str().unwrap().len()), (&"ordered".into(), LONGEST_TEXT));
        assert_eq!(&serde_json::from_value::<Moment>(json).unwrap(), moment);
        // No thread has done anything, and nothing waits.
        let snapshot = timeline.snapshot();
        assert!(snapshot.seq == 1 && snapshot.threads.is_empty() && snapshot.todo.is_empty());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn an_event_of_a_newer_server_is_read_as_unknown() {
        let json = r#"{"seq":1,"at_us":2,"connection":3,"request":4,"kind":"teleported","to":"elsewhere"}"#;
        let moment: Moment = serde_json::from_str(json).unwrap();
        assert_eq!(moment.what, What::Unknown);
        assert_eq!(moment.subject, Some(Subject { connection: 3, port: 0, request: 4 }));
    }
}
