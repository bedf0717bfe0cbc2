//! The record of events.
//!
//! Every view (the lanes of `reproduce`, the control server's `/timeline`, a picture) is drawn from this record, so all
//! views agree. The record is bounded: it keeps the newest [`CAPACITY`] moments, or fewer if their texts exceed
//! [`MAX_TEXT_BYTES`]. Each moment has a sequence number, so a reader that falls behind can tell how many it missed.
//!
//! Every thread of the server records several moments per request, some of them under the thread pool's own lock. If
//! they waited for each other, a thread that the system suspends while it records would stop all of them for a time
//! slice. [`Timeline::record`] therefore does not wait for the lock of the ring. While another thread has that lock,
//! moments are appended to a queue, and the next thread that gets the lock moves them to the ring before it does
//! anything else. Recording blocks only if the queue is full.
//!
//! The timeline uses no other module of this crate.

mod follow;
mod snapshot;
mod stretch;
mod what;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
pub use follow::{Past, TimelineNews};
pub(crate) use snapshot::SEEN_CLOSED;
pub use snapshot::{FailedWrite, Held, LiveAction, Reaped, Snapshot, Thread, is_seen_close};
pub use stretch::Stretch;
pub use what::{LONGEST_TEXT, What};

/// The number of moments that the ring keeps before it forgets the oldest.
pub const CAPACITY: usize = 16_384;
/// The maximum number of bytes of text in the ring. Ordinary targets stay far below it. Without this limit, a client
/// that sends only long targets could fill 32 MB.
pub const MAX_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// How many moments are copied per lock. Meanwhile, recorded moments wait in a queue.
pub const COPIED_AT_ONCE: usize = 512;
/// How many moments fit into the queue. A server that records 500,000 per second fills it in 2 ms. Texts in the queue, at
/// most 2 MB, do not count toward [`MAX_TEXT_BYTES`].
const QUEUED_AT_MOST: usize = 1_024;
/// How many moments are forgotten in one batch. They are adjacent in memory, so adding a batch to the snapshot is
/// faster than adding them one by one.
const FORGOTTEN_AT_ONCE: usize = 256;

/// The connection and the request to which a moment belongs.
///
/// The front door assigns both numbers and never reuses them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Subject {
    /// The number of the connection, counted from 1. tiny_http hides its connections, so with tiny_http every request
    /// counts as a separate connection.
    pub connection: u64,
    /// The client's port. Ports are reused, and clients on two hosts may have the same port at the same time, so the
    /// port identifies a connection only for the client itself.
    #[cfg_attr(feature = "serde", serde(default))]
    pub port: u16,
    /// The number of the request, counted from 1 by the server that reads it.
    pub request: u64,
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
    /// The request to which this moment belongs, if there is one.
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
    /// The current time, in microseconds on the timeline's own clock.
    pub now_us: u64,
    /// How many of the requested moments have been forgotten.
    pub forgotten: u64,
    /// The moments, oldest first.
    pub moments: Vec<Moment>,
    /// The state after the last of these moments. Present only if requested moments have been forgotten.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub snapshot: Option<Snapshot>,
}

/// The record itself. All writers and readers share it through an `Arc`.
#[derive(Debug)]
pub struct Timeline {
    clock: Clock,
    /// `None` if nothing is recorded.
    ring: Option<QueuedRing>,
}

#[derive(Debug)]
struct QueuedRing {
    ring: Mutex<Ring>,
    /// The moments that were recorded while another thread had the lock of the ring.
    queue: Sender<Unnumbered>,
    queued: Receiver<Unnumbered>,
}

/// A moment without a number.
#[derive(Debug)]
struct Unnumbered {
    at_us: u64,
    thread: Option<usize>,
    subject: Option<Subject>,
    what: What,
}

#[derive(Debug)]
enum Clock {
    Since(Instant),
    /// Stays at this many microseconds until [`Timeline::let_pass`] moves it.
    At(AtomicU64),
}

#[derive(Debug)]
struct Ring {
    last_seq: u64,
    /// The newest moments, oldest first, without gaps: up to [`CAPACITY`], plus those that will be forgotten next.
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
    /// Creates a timeline whose clock is moved only by [`Timeline::let_pass`], so that a test can record minutes
    /// without waiting.
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
        let (queue, queued) = crossbeam_channel::bounded(QUEUED_AT_MOST);
        Timeline { clock, ring: Some(QueuedRing { ring: Mutex::new(ring), queue, queued }) }
    }

    /// Moves the clock of a simulated timeline. Does nothing if the clock is real.
    pub fn let_pass(&self, time: Duration) {
        if let Clock::At(us) = &self.clock {
            us.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
        }
    }

    /// Records that `what` happened now. If a moment with a later time has been recorded by another thread meanwhile,
    /// that later time is used.
    pub fn record(&self, thread: Option<usize>, subject: Option<Subject>, what: What) {
        if let Some(ring) = &self.ring {
            ring.push(Unnumbered { at_us: self.now_us(), thread, subject, what });
        }
    }

    /// Records that `what` happened at this time, which the caller has just read from the clock. If a moment with a
    /// later time has been recorded since, that later time is used.
    pub fn record_at(&self, at: Instant, thread: Option<usize>, subject: Option<Subject>, what: What) {
        let at_us = match &self.clock {
            Clock::Since(began) => at.saturating_duration_since(*began).as_micros() as u64,
            Clock::At(us) => us.load(Ordering::Relaxed),
        };
        if let Some(ring) = &self.ring {
            ring.push(Unnumbered { at_us, thread, subject, what });
        }
    }

    /// Returns all moments after number `seq` that are still known, oldest first. They are copied in pieces of
    /// [`COPIED_AT_ONCE`], so recording waits for at most one piece. If moments were forgotten, recording also waits
    /// for the copy of a snapshot.
    pub fn after(&self, seq: u64) -> Excerpt {
        let last = self.last_seq();
        let excerpt = self.up_to(seq, last);
        // Moments that are forgotten between the two calls may be left out, because the snapshot includes them.
        if excerpt.forgotten == 0 { excerpt } else { self.with_snapshot(seq) }
    }

    /// Like [`after`](Self::after), with the snapshot after the last of these moments.
    fn with_snapshot(&self, seq: u64) -> Excerpt {
        let snapshot = self.snapshot();
        let excerpt = self.up_to(seq, snapshot.seq);
        Excerpt { snapshot: Some(snapshot), ..excerpt }
    }

    /// Returns the moments after `seq` and up to `last` that are still known.
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

    /// Returns the state after the newest moment. The ring stores the state before its oldest moment. This function
    /// adds the later moments in pieces, on the reader's thread. Readers call it when they begin, and after they have
    /// missed moments.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_up_to(self.last_seq())
    }

    /// The state after moment number `last`, or after a later one.
    fn snapshot_up_to(&self, last: u64) -> Snapshot {
        let mut snapshot = Snapshot::default();
        while let Some(ring) = self.ring().filter(|_| snapshot.seq < last) {
            // This is the case at the beginning, and when moments were forgotten before they could be added.
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
        // If `seq` is the last moment or beyond it, all moments are left out.
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

    /// Locks the ring, which then contains all moments that have been recorded before.
    fn ring(&self) -> Option<MutexGuard<'_, Ring>> {
        self.ring.as_ref().map(QueuedRing::ring)
    }
}

impl QueuedRing {
    fn push(&self, mut moment: Unnumbered) {
        moment.what.cut_texts();
        let locked = match self.ring.try_lock() {
            Ok(ring) => Some(ring),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        match locked {
            Some(ring) => self.with_queued(ring).push(moment),
            None => {
                if let Err(full) = self.queue.try_send(moment) {
                    self.ring().push(full.into_inner());
                }
            }
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Only a failed allocation can panic while the ring is locked, and it happens before the record is changed.
        self.with_queued(self.ring.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Moves the moments that are in the queue now. Those that arrive meanwhile may stay there, so that a flood of them
    /// cannot hold up a reader.
    fn with_queued<'a>(&self, mut ring: MutexGuard<'a, Ring>) -> MutexGuard<'a, Ring> {
        self.queued.try_iter().take(self.queued.len()).for_each(|moment| ring.push(moment));
        ring
    }
}

impl Ring {
    /// Adds a moment, and forgets the oldest ones if there are too many. Times never decrease, so they are in the order
    /// of sequence numbers.
    fn push(&mut self, Unnumbered { at_us, thread, subject, what }: Unnumbered) {
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
mod tests;
