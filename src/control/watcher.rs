//! The history that the warnings need: the state of the threads, the streams of the last second, writes that do not
//! end, and the kernel's listen queue.
//!
//! All readers share one watcher. It processes new moments whenever a reader looks, so its times are as exact as the
//! interval between two looks.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::kernel_table::listen_queue;
use ninetabs_server::handle::ThreadView;
use ninetabs_server::timeline::{Moment, Snapshot, Timeline, What};

/// The time over which openings are counted.
const SECOND_US: u64 = 1_000_000;
/// Maximum number of moments that are examined at one time.
const MOST_MOMENTS: usize = 2_048;
/// How often the listen queue is read from the kernel. The kernel's table is long on a busy machine.
const LISTEN_QUEUE_EVERY: Duration = Duration::from_secs(1);
/// A value of the listen queue that is older than this is out of date.
const LISTEN_QUEUE_LASTS: Duration = Duration::from_secs(5);

/// How long a wall's report about its frames counts.
const FRAMES_LAST: Duration = Duration::from_secs(5);

/// See the documentation of the module.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    snapshot: Snapshot,
    /// Requests that were read and may become streams, by number.
    asked: HashMap<u64, (u64, Arc<str>)>,
    /// The opened streams: the time, the request, and its target.
    opened: VecDeque<(u64, u64, Arc<str>)>,
    /// The writes that were in progress at the last look, by thread.
    writing: BTreeMap<usize, WriteSeen>,
    listen_queue: Option<ListenQueueSeen>,
    /// The frames of a wall that wait in the browser, and when the wall reported them.
    frames: Option<(Instant, usize)>,
}

/// A write that its client delays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriteSeen {
    pub request: u64,
    /// How many writes of the request had ended before this one.
    writes: u64,
    /// When it was first seen, in microseconds.
    pub since_us: u64,
}

impl WriteSeen {
    /// A write to this request that was first seen at this time.
    #[cfg(test)]
    pub fn of(request: u64, since_us: u64) -> WriteSeen {
        WriteSeen { request, writes: 0, since_us }
    }
}

#[derive(Debug)]
struct ListenQueueSeen {
    at: Instant,
    now: Option<usize>,
    /// The length a second earlier, if it was read then.
    before: Option<usize>,
}

impl Watcher {
    /// Processes the new moments, and the current state of the threads.
    pub fn look(&mut self, timeline: &Timeline, threads: &[ThreadView]) {
        self.hear(timeline);
        let unsent = threads.iter().filter_map(|thread| Some((thread.number, thread.request.as_ref()?)));
        let unsent = unsent.filter(|(_, request)| request.unsent > 0);
        let unsent = unsent.map(|(number, request)| (number, request.subject.request));
        self.see_writes(unsent, timeline.now_us());
    }

    fn hear(&mut self, timeline: &Timeline) {
        let new = timeline.next_after(self.snapshot.seq, MOST_MOMENTS);
        for moment in &new.moments {
            self.notice(moment);
        }
        if new.forgotten > 0 || new.moments.len() == MOST_MOMENTS {
            self.snapshot = timeline.snapshot();
        } else {
            new.moments.iter().for_each(|moment| self.snapshot.take(moment));
        }
        let since = timeline.now_us().saturating_sub(SECOND_US);
        self.asked.retain(|_, (at_us, _)| *at_us >= since);
        self.opened.retain(|(at_us, ..)| *at_us >= since);
    }

    /// Processes the threads in the middle of a write, and the requests that they write to. A write is the same as
    /// before if no write of the request has ended in between.
    fn see_writes(&mut self, unsent: impl Iterator<Item = (usize, u64)>, now_us: u64) {
        let mut writing = BTreeMap::new();
        for (thread, request) in unsent {
            let held = self.snapshot.threads.get(&thread).and_then(|thread| thread.holds.as_deref());
            let Some(held) = held.filter(|held| held.subject.request == request) else { continue };
            let write = WriteSeen { request, writes: held.writes, since_us: now_us };
            let before = self.writing.get(&thread);
            let is_same = |it: &&WriteSeen| (it.request, it.writes) == (write.request, write.writes);
            writing.insert(thread, before.filter(is_same).copied().unwrap_or(write));
        }
        self.writing = writing;
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The writes that had not ended at the last look, the oldest first.
    pub fn writing(&self) -> Vec<WriteSeen> {
        let mut writing: Vec<_> = self.writing.values().copied().collect();
        writing.sort_by_key(|write| write.since_us);
        writing
    }

    /// How many streams were opened within the last second and have ended again, and by how many different tabs.
    pub fn openings(&self) -> (usize, usize) {
        let holds = self.snapshot.threads.values().filter_map(|thread| thread.holds.as_deref());
        let held: HashSet<_> = holds.map(|held| held.subject.request).collect();
        let over = || self.opened.iter().filter(|(_, request, _)| !held.contains(request));
        let tabs: HashSet<_> = over().map(|(.., target)| target).collect();
        (over().count(), tabs.len())
    }

    /// Stores how many frames of a wall wait in the browser. The wall repeats its report as long as some wait.
    pub fn frames_wait(&mut self, waiting: usize) {
        self.frames = Some((Instant::now(), waiting));
    }

    /// How many frames wait in the browser, as far as known.
    pub fn frames(&self) -> usize {
        let recent = self.frames.filter(|(at, _)| at.elapsed() < FRAMES_LAST);
        recent.map_or(0, |(_, waiting)| waiting)
    }

    /// The length of this address's listen queue, at most a second old; and the length that has lasted for a second.
    pub fn listen_queue(&mut self, address: SocketAddr) -> (Option<usize>, usize) {
        let is_due = |seen: &ListenQueueSeen| seen.at.elapsed() >= LISTEN_QUEUE_EVERY;
        if self.listen_queue.as_ref().is_none_or(is_due) {
            let last = self.listen_queue.take().filter(|seen| seen.at.elapsed() < LISTEN_QUEUE_LASTS);
            self.listen_queue = Some(ListenQueueSeen {
                at: Instant::now(),
                now: listen_queue(address),
                before: last.and_then(|seen| seen.now),
            });
        }
        let seen = self.listen_queue.as_ref();
        let lasting = seen.and_then(|seen| seen.before.min(seen.now)).unwrap_or_default();
        (seen.and_then(|seen| seen.now), lasting)
    }

    fn notice(&mut self, moment: &Moment) {
        let Some(subject) = moment.subject else { return };
        match &moment.what {
            What::Accepted { target, peeked: false, .. } => {
                self.asked.insert(subject.request, (moment.at_us, Arc::clone(target)));
            }
            What::Streaming => {
                if let Some((_, target)) = self.asked.remove(&subject.request) {
                    self.opened.push_back((moment.at_us, subject.request, target));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use ninetabs_server::timeline::Subject;

    use super::*;

    #[test]
    fn openings_count_the_ended_streams_of_the_last_second_and_their_tabs() {
        let timeline = Timeline::simulated();
        let mut watcher = Watcher::default();
        let mut open = |thread: usize, request: u64, tab: u64, lasts_ms: u64| {
            let subject = Subject { connection: request, port: 1, request };
            let target = format!("/models/live_stream?tab={tab}");
            if !watcher.snapshot().threads.contains_key(&thread) {
                timeline.record(Some(thread), None, What::Spawned);
            }
            timeline.record(Some(thread), Some(subject), What::Started);
            timeline.record(Some(thread), Some(subject), What::accepted("GET", target));
            timeline.record(Some(thread), Some(subject), What::Streaming);
            timeline.let_pass(Duration::from_millis(lasts_ms));
            watcher.look(&timeline, &[]);
            watcher.openings()
        };
        let counts: Vec<_> = (1..=8).map(|request| open(1, request, request % 2, 160)).collect();
        assert_eq!(counts[0], (0, 0), "the first stream is still open");
        assert_eq!(counts[7], (5, 2));
        // Several streams of one address that stay open, as `ab` opens them, are not a loop.
        let at_once: Vec<_> = (2..=9).map(|thread| open(thread, 10 + thread as u64, 1, 1)).collect();
        assert!(at_once.iter().all(|(opened, _)| *opened <= counts[7].0), "{at_once:?}");
    }

    #[test]
    fn a_write_is_the_same_until_one_of_its_request_ends_or_none_is_in_progress() {
        let timeline = Timeline::simulated();
        let subject = Subject { connection: 1, port: 1, request: 7 };
        timeline.record(Some(2), None, What::Spawned);
        timeline.record(Some(2), Some(subject), What::Started);
        let mut watcher = Watcher::default();
        let mut look = |unsent: &[(usize, u64)]| {
            timeline.let_pass(Duration::from_millis(500));
            watcher.hear(&timeline);
            watcher.see_writes(unsent.iter().copied(), timeline.now_us());
            watcher.writing().iter().map(|write| (write.request, write.since_us)).collect::<Vec<_>>()
        };
        assert_eq!(look(&[]), []);
        assert_eq!(look(&[(2, 7)]), [(7, 1_000_000)]);
        assert_eq!(look(&[(2, 8)]), [], "the record does not have this request yet");
        assert_eq!(look(&[(2, 7)]), [(7, 2_000_000)]);
        timeline.record(Some(2), Some(subject), What::Wrote { bytes: 1 });
        assert_eq!(look(&[(2, 7)]), [(7, 2_500_000)], "a write has ended in between");
    }
}
