//! The registry of open streams, through which they can be interrupted.
//!
//! A stream is entered before its action begins, and removed however the action ends. Another thread that interrupts a
//! stream writes the reason into its entry, which the stream checks before each write. It also drops the sender in the
//! entry, which wakes a stream that is sleeping or waiting for a database connection, and cuts the socket, which ends
//! a blocked write. An exception is never raised in a running action, and nothing in this module blocks.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::configuration::{MAX_AGE_JITTER, RETRY};
use crate::socket::Cutter;
use crate::stream_rules::{is_due, retry_of, share_of_max_age};
use crate::timeline::{Subject, Timeline, What};

/// Why a stream is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamInterrupt {
    /// The stream reached its maximum age.
    MaxAge,
    /// A request to the control server ended it.
    Asked,
    /// The limit on open streams has been reached.
    Full,
    /// The server is stopping.
    Stopping,
}

impl StreamInterrupt {
    /// Returns the reason as text, which the stream sends as its last comment.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamInterrupt::MaxAge => "this stream has reached its maximum age",
            StreamInterrupt::Asked => "this stream was asked to end",
            StreamInterrupt::Full => "the limit on open streams has been reached",
            StreamInterrupt::Stopping => "the server is stopping",
        }
    }
}

/// The settings of all streams of a server.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// How long a client waits before it reconnects after its stream has ended.
    pub retry: Duration,
    /// The maximum age of a stream. `None` means no limit.
    pub max_age: Option<Duration>,
    /// The maximum fraction, from 0 to 1, by which a stream's maximum age is randomly shortened. Tabs that were opened
    /// at the same time therefore do not all reconnect at the same time.
    pub max_age_jitter: f64,
    /// The maximum number of open streams. A further stream is ended immediately, which tells its client to reconnect.
    pub cap: Option<usize>,
    /// How a stream detects that its client has closed.
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

/// How a stream detects that its client has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeClose {
    /// By a failed write, which is the second one after the close.
    ByWrite,
    /// By watching the socket while the stream sleeps, if the server has access to the socket. A half-closed client is
    /// treated as closed.
    ByPoll,
}

/// Returns the reconnection delay for one of this many clients. The delay is random, so that the clients do not all
/// reconnect at the same moment.
pub fn drawn_retry(base: Duration, clients: usize) -> Duration {
    retry_of(base, clients, fastrand::f64)
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

/// The statistics that the control server shows under `streams`.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StreamStats {
    /// Streams that are open now.
    pub open: usize,
    /// Streams that have been opened since the start, including those that were refused.
    pub opened: u64,
    /// Streams that ended because a write failed or a close of the client was noticed.
    pub disconnected: u64,
    /// Streams that were interrupted, for any reason.
    pub reaped: u64,
    /// Streams that were refused because the server was stopping or the limit was reached.
    pub refused: u64,
    /// The age of the oldest open stream in seconds, or `None` if no stream is open.
    pub oldest_age_s: Option<f64>,
}

#[derive(Debug)]
struct OpenStreams {
    /// The streams by their number, oldest first.
    open: BTreeMap<u64, Entry>,
    max_age: Option<Duration>,
    stopping: bool,
    stats: StreamStats,
}

#[derive(Debug)]
struct Entry {
    subject: Subject,
    /// The pool thread. `None` if the answer has ended and the action continues.
    thread: Option<usize>,
    opened: Instant,
    /// The fraction of the maximum age that applies to this stream: from 1 - jitter to 1.
    share: f64,
    /// Dropped to interrupt the stream. `None` after that.
    interrupt: Option<Sender<Infallible>>,
    /// Ends the waits on the socket, which the channel cannot end.
    cutter: Cutter,
    why: Option<StreamInterrupt>,
}

impl Streams {
    /// Creates an empty registry.
    pub fn new(settings: &StreamSettings, timeline: Arc<Timeline>) -> Self {
        Streams {
            retry: settings.retry,
            notice_close: settings.notice_close,
            // NaN counts as 0.
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

    /// Returns the statistics, all from the same moment.
    pub fn stats(&self) -> StreamStats {
        let state = self.state();
        let oldest = state.open.values().map(|entry| entry.opened.elapsed()).max();
        StreamStats {
            open: state.open.len(),
            oldest_age_s: oldest.map(|age| age.as_secs_f64()),
            ..state.stats
        }
    }

    /// Returns the minimum time that a client waits before it reconnects. This exact time applies while few streams are
    /// open.
    pub fn retry(&self) -> Duration {
        self.retry
    }

    /// Returns the reconnection delay for the client of a stream that opens now.
    pub fn drawn_retry(&self) -> Duration {
        drawn_retry(self.retry, self.state().open.len())
    }

    /// Returns the maximum number of open streams.
    pub fn cap(&self) -> Option<usize> {
        self.cap
    }

    /// Returns whether the limit is reached. A stream that opens now is then refused.
    pub fn is_full(&self) -> bool {
        self.cap.is_some_and(|cap| self.state().going_on() >= cap)
    }

    /// Returns the current maximum age.
    pub fn max_age(&self) -> Option<Duration> {
        self.state().max_age
    }

    /// Sets the maximum age. It also applies to open streams, beginning with the reaper's next round.
    pub fn set_max_age(&self, max_age: Option<Duration>) {
        self.state().max_age = max_age;
    }

    /// Interrupts every stream of at least this age, and returns how many were interrupted. Sleeping streams end
    /// immediately, and blocked writes are cut off. With tiny_http, a blocked write is completed first.
    pub fn reap(&self, at_least: Duration) -> usize {
        self.interrupt(StreamInterrupt::Asked, |entry, _| entry.opened.elapsed() >= at_least)
    }

    /// One round of the stream reaper.
    pub(super) fn reap_aged(&self) -> usize {
        self.interrupt(StreamInterrupt::MaxAge, |entry, max_age| {
            max_age.is_some_and(|max| is_due(entry.opened.elapsed(), max, entry.share))
        })
    }

    /// Interrupts every stream, including those that open later.
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
                self.timeline.record(entry.thread, Some(entry.subject), what);
            }
        }
        stats.reaped += told as u64;
        told
    }

    /// Enters a stream. The entry is removed when the returned value is dropped.
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
            thread: Some(thread),
            opened: Instant::now(),
            share: share_of_max_age(self.jitter, fastrand::f64()),
            interrupt: why.is_none().then_some(sender),
            cutter,
            why,
        };
        // Streams get their own numbers, because several servers may share this registry and use the same request
        // numbers.
        state.stats.opened += 1;
        let number = state.stats.opened;
        state.open.insert(number, entry);
        state.stats.refused += u64::from(why.is_some());
        drop(state);
        self.timeline.record(Some(thread), Some(subject), What::Streaming);
        Membership { streams: Arc::clone(self), number, interrupted }
    }

    /// Notes that the answer of this stream has ended while its action continues. The pool thread and the connection
    /// may now serve other requests, so an interrupt must not affect either of them.
    pub(super) fn orphan(&self, number: u64) {
        if let Some(entry) = self.state().open.get_mut(&number) {
            entry.thread = None;
            entry.cutter = Cutter::default();
        }
    }

    pub(super) fn count_disconnected(&self) {
        self.state().stats.disconnected += 1;
    }

    fn state(&self) -> MutexGuard<'_, OpenStreams> {
        // Only a failed allocation can panic under this lock. A count may then be off, but no entry is half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenStreams {
    /// The number of streams that have not been interrupted.
    fn going_on(&self) -> usize {
        self.open.values().filter(|entry| entry.why.is_none()).count()
    }
}

/// A stream's entry in the registry.
#[derive(Debug)]
pub(super) struct Membership {
    streams: Arc<Streams>,
    /// The number of the stream, counted from 1.
    number: u64,
    /// Disconnected, and therefore ready, once the stream is interrupted.
    pub(super) interrupted: Receiver<Infallible>,
}

impl Membership {
    /// The number of the stream.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Why the stream was interrupted, if it was.
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
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::answer_writer::{AnswerWriter, Transport};
    use crate::live_queue::live_queue;
    use crate::stream::{Dialect, OwnThread, Stream};

    #[test]
    fn a_stream_on_its_own_thread_leaves_the_registry_before_its_answer_ends() {
        let timeline = Arc::<Timeline>::default();
        let streams = Arc::new(Streams::new(&StreamSettings::default(), Arc::clone(&timeline)));
        let subject = Subject { connection: 1, port: 1, request: 1 };
        let (queue, chunks) = live_queue(&Arc::<AtomicU64>::default());
        let membership = streams.enter(subject, 1, Cutter::default());
        let own = OwnThread { number: 1, queue, membership, last_event_id: None };
        let writer = Transport::Writer(Box::new(std::io::sink()));
        let mut connection =
            AnswerWriter::new(writer, subject, 1, timeline, Arc::default(), Duration::from_secs(60));
        let mut stream = Stream::open_on_own_thread(&streams, own, Dialect::Bare);
        stream.close();
        let (tell, told) = bounded(1);
        std::thread::scope(|scope| {
            // Holding the lock prevents the removal of the stream's entry.
            let held = streams.state();
            scope.spawn(|| drop(stream));
            scope.spawn(move || {
                chunks.drain(&mut connection, || ());
                tell.send(()).unwrap();
            });
            // Otherwise an interrupt of this stream could cut off the next answer on the connection.
            assert!(
                told.recv_timeout(Duration::from_millis(200)).is_err(),
                "the answer ended before the stream had left the registry"
            );
            drop(held);
            told.recv_timeout(Duration::from_secs(60)).unwrap();
        });
        assert_eq!(streams.stats().open, 0);
    }

    #[test]
    fn the_reaper_works_with_any_maximum_age_and_any_jitter() {
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
    fn streams_of_two_servers_with_equal_request_numbers_are_separate_entries() {
        let streams = Arc::new(Streams::new(&StreamSettings::default(), Arc::default()));
        let subject = Subject { connection: 1, port: 1, request: 1 };
        let one = streams.enter(subject, 1, Cutter::default());
        let other = streams.enter(subject, 1, Cutter::default());
        assert_eq!(streams.stats().open, 2);
        assert!(
            one.interrupted.try_recv().is_err_and(|error| error.is_empty()),
            "the first stream was interrupted by the second"
        );
        drop(other);
        assert_eq!(streams.reap(Duration::ZERO), 1);
        assert_eq!(one.why(), Some(StreamInterrupt::Asked));
    }

    #[test]
    fn many_clients_reconnect_spread_out_and_few_reconnect_together() {
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
            assert!(
                most < 400,
                "{most} of {clients} clients reconnect within a tenth of a second; about 200 are expected"
            );
        }
    }
}
