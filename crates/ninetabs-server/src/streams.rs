//! The open streams, and how to end each of them.
//!
//! A stream is entered when its action begins, and leaves when the action ends in any way. Other threads can only ask
//! a stream to end: they drop the sender of its entry. That wakes the stream if it sleeps or waits for a database
//! connection, and it is checked before each write. Nothing here interrupts a running action, and nothing blocks.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::configuration::{MAX_AGE_JITTER, RETRY};
use crate::socket::Cutter;
use crate::timeline::{Subject, Timeline, What};

/// Why a stream is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamInterrupt {
    /// It reached its maximum age.
    MaxAge,
    /// Somebody asked the control server for it.
    Asked,
    /// There are as many streams as there may be.
    Full,
    /// The server stops.
    Stopping,
}

impl StreamInterrupt {
    /// In words, as the stream's last comment says it.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamInterrupt::MaxAge => "this stream has reached its maximum age",
            StreamInterrupt::Asked => "this stream was asked to end",
            StreamInterrupt::Full => "there are as many streams as there may be",
            StreamInterrupt::Stopping => "the server is stopping",
        }
    }
}

/// What all streams of a server have in common.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// When a client is to come back after its stream ended.
    pub retry: Duration,
    /// The oldest that a stream may become; None is as old as it likes.
    pub max_age: Option<Duration>,
    /// The largest part, from 0 to 1, by which a stream's own limit is shortened,
    /// so that tabs which came together do not all come back together.
    pub max_age_jitter: f64,
    /// How many there may be at once. Whoever comes then is told at once to come back.
    pub cap: Option<usize>,
    /// How a stream notices that its client has closed.
    pub notice_close: NoticeClose,
}

impl Default for StreamSettings {
    fn default() -> StreamSettings {
        StreamSettings {
            retry: RETRY,
            max_age: None,
            max_age_jitter: MAX_AGE_JITTER,
            cap: None,
            notice_close: NoticeClose::ByWrite,
        }
    }
}

/// How a stream finds out that its client has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeClose {
    /// By a write that fails: the second after the close.
    ByWrite,
    /// By listening to the socket while it sleeps, where the front door has it. A
    /// client that only stopped sending is taken for one that has closed.
    ByPoll,
}

/// How many clients may come back in a second, once the server has started again.
const COME_BACK_PER_SECOND: u32 = 2_000;
/// Below this number of clients all may come back in the same moment.
const FEW: usize = 100;

/// When one of so many clients is to come back: drawn for each, so that all of them do not come
/// back in the same moment.
pub fn drawn_retry(base: Duration, clients: usize) -> Duration {
    if clients < FEW {
        return base;
    }
    let spread = Duration::from_secs(clients as u64) / COME_BACK_PER_SECOND;
    base.saturating_add(spread.mul_f64(fastrand::f64()))
}

/// The open streams of a server.
#[derive(Debug)]
pub struct Streams {
    pub(super) retry: Duration,
    pub(super) notice_close: NoticeClose,
    jitter: f64,
    cap: Option<usize>,
    timeline: Arc<Timeline>,
    state: Mutex<OpenStreams>,
}

/// What the control server shows under `streams`.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StreamStats {
    /// Those that are open now.
    pub open: usize,
    /// All that were ever opened.
    pub opened: u64,
    /// Those whose client was found gone by a failed write.
    pub disconnected: u64,
    /// Those that were told to end, for whatever reason.
    pub reaped: u64,
    /// Those that came while the server stopped, or when there were as many as there may be,
    /// and were sent away at once.
    pub refused: u64,
    /// Seconds; null without streams.
    pub oldest_age_s: Option<f64>,
}

#[derive(Debug)]
struct OpenStreams {
    /// By the number of each, the oldest first.
    open: BTreeMap<u64, Entry>,
    max_age: Option<Duration>,
    stopping: bool,
    stats: StreamStats,
}

#[derive(Debug)]
struct Entry {
    subject: Subject,
    thread: usize,
    opened: Instant,
    /// What its share of the maximum age is: 1 down to 1 - jitter.
    share: f64,
    /// Dropped to interrupt; None once that has happened.
    interrupt: Option<Sender<Infallible>>,
    /// Ends the waits that the channel does not reach: those on the socket.
    cutter: Cutter,
    why: Option<StreamInterrupt>,
}

impl Streams {
    /// No stream is open.
    pub fn new(settings: &StreamSettings, timeline: Arc<Timeline>) -> Self {
        Streams {
            retry: settings.retry,
            notice_close: settings.notice_close,
            // What is no number is taken for 0.
            jitter: settings.max_age_jitter.clamp(0.0, 1.0).max(0.0),
            cap: settings.cap,
            timeline,
            state: Mutex::new(OpenStreams {
                open: BTreeMap::new(),
                max_age: settings.max_age,
                stopping: false,
                stats: StreamStats::default(),
            }),
        }
    }

    /// The numbers of this moment, all read under one lock.
    pub fn stats(&self) -> StreamStats {
        let state = self.state();
        let oldest = state.open.values().map(|entry| entry.opened.elapsed()).max();
        StreamStats {
            open: state.open.len(),
            oldest_age_s: oldest.map(|age| age.as_secs_f64()),
            ..state.stats
        }
    }

    /// When a client is to come back at the earliest: what streams say as long as there are few.
    pub fn retry(&self) -> Duration {
        self.retry
    }

    /// When the client of a stream that opens now is to come back.
    pub fn drawn_retry(&self) -> Duration {
        drawn_retry(self.retry, self.state().open.len())
    }

    /// How many streams there may be at once.
    pub fn cap(&self) -> Option<usize> {
        self.cap
    }

    /// Whether a stream that came now would be sent away.
    pub fn is_full(&self) -> bool {
        self.cap.is_some_and(|cap| self.state().going_on() >= cap)
    }

    /// The maximum age in force.
    pub fn max_age(&self) -> Option<Duration> {
        self.state().max_age
    }

    /// Holds for the streams that are open, too, from the reaper's next look.
    pub fn set_max_age(&self, max_age: Option<Duration>) {
        self.state().max_age = max_age;
    }

    /// Tells every stream of at least this age to end; answers how many were
    /// told now. They end when they sleep, and a write that is blocked is cut; on
    /// tiny-http it ends first.
    pub fn reap(&self, at_least: Duration) -> usize {
        self.interrupt(StreamInterrupt::Asked, |entry, _| entry.opened.elapsed() >= at_least)
    }

    /// What the stream reaper does at each round.
    pub(super) fn reap_aged(&self) -> usize {
        self.interrupt(StreamInterrupt::MaxAge, |entry, max_age| {
            // In seconds: a product of the largest duration may be none.
            let age = entry.opened.elapsed().as_secs_f64();
            max_age.is_some_and(|max| age >= max.as_secs_f64() * entry.share)
        })
    }

    /// Tells every stream to end, those still to be opened included.
    pub fn stop(&self) -> usize {
        self.state().stopping = true;
        self.interrupt(StreamInterrupt::Stopping, |_, _| true)
    }

    fn interrupt(&self, why: StreamInterrupt, is_due: impl Fn(&Entry, Option<Duration>) -> bool) -> usize {
        let mut state = self.state();
        let OpenStreams { open, max_age, stats, .. } = &mut *state;
        let mut told = 0;
        for entry in open.values_mut().filter(|entry| entry.interrupt.is_some()) {
            if is_due(entry, *max_age) {
                entry.interrupt = None;
                entry.why = Some(why);
                entry.cutter.cut();
                told += 1;
                let age_ms = entry.opened.elapsed().as_millis() as u64;
                let what = What::Reaped { age_ms, why: why.as_str().to_owned() };
                self.timeline.record(Some(entry.thread), Some(entry.subject), what);
            }
        }
        stats.reaped += told as u64;
        told
    }

    /// Enters a stream. The entry leaves when what is returned is dropped.
    pub(super) fn enter(self: &Arc<Self>, subject: Subject, thread: usize, cutter: Cutter) -> Membership {
        let (sender, interrupted) = bounded(0);
        let mut state = self.state();
        let why = match self.cap {
            _ if state.stopping => Some(StreamInterrupt::Stopping),
            Some(cap) if state.going_on() >= cap => Some(StreamInterrupt::Full),
            _ => None,
        };
        let entry = Entry {
            subject,
            thread,
            opened: Instant::now(),
            share: 1.0 - self.jitter * fastrand::f64(),
            interrupt: why.is_none().then_some(sender),
            cutter,
            why,
        };
        // Several servers may share these streams, and each counts its requests by itself.
        state.stats.opened += 1;
        let number = state.stats.opened;
        state.open.insert(number, entry);
        state.stats.refused += u64::from(why.is_some());
        drop(state);
        self.timeline.record(Some(thread), Some(subject), What::Streaming);
        Membership { streams: Arc::clone(self), number, interrupted }
    }

    pub(super) fn count_disconnected(&self) {
        self.state().stats.disconnected += 1;
    }

    fn state(&self) -> MutexGuard<'_, OpenStreams> {
        // Every change under this lock is one assignment, whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenStreams {
    /// Streams that were not told to end.
    fn going_on(&self) -> usize {
        self.open.values().filter(|entry| entry.why.is_none()).count()
    }
}

/// A stream's place among the open ones.
#[derive(Debug)]
pub(super) struct Membership {
    streams: Arc<Streams>,
    /// Its own, counted from 1.
    number: u64,
    /// Disconnected once the stream is to end, and ready for ever after.
    pub(super) interrupted: Receiver<Infallible>,
}

impl Membership {
    /// Why the stream was told to end, if it was.
    pub(super) fn why(&self) -> Option<StreamInterrupt> {
        self.streams.state().open.get(&self.number).and_then(|entry| entry.why)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.streams.state().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_maximum_age_and_no_jitter_stops_the_reaper() {
        for (max_age, max_age_jitter, is_told) in [
            (Duration::MAX, 0.0, false),
            (Duration::MAX, 7.0, false),
            (Duration::from_secs(3_600), f64::NAN, false),
            (Duration::ZERO, f64::NAN, true),
            (Duration::ZERO, -1.0, true),
        ] {
            let settings =
                StreamSettings { max_age: Some(max_age), max_age_jitter, ..StreamSettings::default() };
            let streams = Arc::new(Streams::new(&settings, Arc::default()));
            let subject = Subject { connection: 1, port: 1, request: 1 };
            let _open = streams.enter(subject, 1, Cutter::default());
            assert_eq!(streams.reap_aged(), usize::from(is_told), "{max_age:?}, {max_age_jitter}");
        }
    }

    #[test]
    fn streams_of_two_servers_with_the_same_request_number_stay_apart() {
        let streams = Arc::new(Streams::new(&StreamSettings::default(), Arc::default()));
        let subject = Subject { connection: 1, port: 1, request: 1 };
        let one = streams.enter(subject, 1, Cutter::default());
        let other = streams.enter(subject, 1, Cutter::default());
        assert_eq!(streams.stats().open, 2);
        assert!(one.interrupted.try_recv().is_err_and(|error| error.is_empty()), "it goes on");
        drop(other);
        assert_eq!(streams.reap(Duration::ZERO), 1);
        assert_eq!(one.why(), Some(StreamInterrupt::Asked));
    }

    #[test]
    fn the_clients_of_a_large_server_come_back_over_a_time_and_those_of_a_small_one_at_once() {
        let base = Duration::from_secs(3);
        assert!((0..99).all(|clients| drawn_retry(base, clients) == base));
        for (clients, seconds) in [(2_000, 1), (25_000, 12)] {
            let mut drawn: Vec<Duration> = (0..clients).map(|_| drawn_retry(base, clients)).collect();
            drawn.sort_unstable();
            assert!(drawn[0] >= base && drawn[clients - 1] <= base + Duration::from_secs(seconds + 1));
            let most = drawn.iter().map(|from| {
                let to = *from + Duration::from_millis(100);
                drawn.partition_point(|it| *it < to) - drawn.partition_point(|it| it < from)
            });
            let most = most.max().unwrap();
            assert!(most < 400, "{most} of {clients} within a tenth of a second, where 200 are expected");
        }
    }
}
