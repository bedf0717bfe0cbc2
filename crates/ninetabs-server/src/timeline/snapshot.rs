//! The state at one moment: the threads, the request that holds each of them, and `todo`.
//!
//! A snapshot is computed only from moments. Moments that the ring forgets are added to a snapshot, so a reader that
//! started late or missed some moments gets the same state as a reader that received all of them. The pages apply the
//! same rules (`views/control/record.js`), and a test compares the two implementations.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{Moment, Subject, What};

/// The state after moment number `seq`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Snapshot {
    /// The number of the last moment that is included.
    pub seq: u64,
    /// The threads by their number.
    pub threads: BTreeMap<usize, Thread>,
    /// Requests that wait for a thread, oldest first.
    pub todo: VecDeque<Box<Held>>,
    /// The actions that run on their own threads, by the number of the thread.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "BTreeMap::is_empty"))]
    pub actions: BTreeMap<usize, LiveAction>,
    /// A request that has been read but not queued yet, which happens in tiny_http's front door.
    #[cfg_attr(feature = "serde", serde(skip))]
    arriving: Option<Box<Held>>,
}

/// A pool thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Thread {
    /// When it was started, in microseconds.
    pub from_us: u64,
    /// Whether the thread is marked IO-bound.
    pub io_bound: bool,
    /// The request that the thread reads or answers. `None` between the end of an answer and the next request of the
    /// connection.
    pub holds: Option<Box<Held>>,
}

/// An action that runs on its own thread. It may outlive its answer, so it is not part of the request that a pool
/// thread serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LiveAction {
    /// The numbers of its request and connection.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub subject: Subject,
    /// The target of its request.
    pub target: Arc<str>,
    /// When it began, in microseconds.
    pub began_us: u64,
    /// When its first write committed the response, in microseconds.
    pub committed_us: Option<u64>,
    /// When its answer ended while it was still running, in microseconds.
    pub orphaned_us: Option<u64>,
}

/// A request that is in `todo` or holds a thread. It is boxed because every request is moved from `todo` to a thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Held {
    /// The numbers of the request and its connection.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub subject: Subject,
    /// The method, or `None` until the request has been read.
    pub method: Option<Cow<'static, str>>,
    /// The target, if it is known.
    pub target: Option<Arc<str>>,
    /// The number of the moment that recorded its target.
    pub named_seq: Option<u64>,
    /// Whether the head was only peeked at in `todo` and has not been read.
    pub peeked: bool,
    /// When it was queued, in microseconds. `None` once it has left `todo`.
    pub queued_us: Option<u64>,
    /// How long it was in `todo`, in microseconds.
    pub waited_us: Option<u64>,
    /// When a thread took it, in microseconds.
    pub started_us: Option<u64>,
    /// Whether it is a stream.
    pub is_stream: bool,
    /// The number of writes so far.
    pub writes: u64,
    /// The time of the last write, in microseconds.
    pub last_write_us: Option<u64>,
    /// When its client closed, in microseconds, if the owner of the client reported it.
    #[cfg_attr(feature = "serde", serde(default))]
    pub closed_us: Option<u64>,
    /// The write that failed, if one did.
    pub gone: Option<FailedWrite>,
    /// The interrupt, if the stream was interrupted.
    pub reaped: Option<Reaped>,
}

/// A failed write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FailedWrite {
    /// When, in microseconds.
    pub at_us: u64,
    /// The number of the write.
    pub write: u64,
    /// The error from the operating system.
    pub error: String,
}

/// The error that stands for a close noticed on the socket.
pub(crate) const SEEN_CLOSED: &str = "POLLRDHUP";

/// Whether a stream with this error ended without a failed write, because it noticed on its socket that its client had
/// closed ([`NoticeClose::ByPoll`](crate::streams::NoticeClose::ByPoll)).
pub fn is_seen_close(error: &str) -> bool {
    error == SEEN_CLOSED
}

/// An interrupted stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Reaped {
    /// When, in microseconds.
    pub at_us: u64,
    /// The stream's age, in milliseconds.
    pub age_ms: u64,
    /// Why it was interrupted.
    pub why: String,
}

impl Held {
    fn new(subject: Subject) -> Box<Held> {
        Box::new(Held { subject, ..Held::default() })
    }

    fn name(&mut self, moment: &Moment) {
        if let What::Accepted { method, target, peeked } = &moment.what {
            self.method = Some(method.clone());
            self.target = Some(Arc::clone(target));
            self.named_seq = Some(moment.seq);
            self.peeked = *peeked;
        }
    }

    fn is(&self, subject: Subject) -> bool {
        self.subject.request == subject.request
    }
}

impl Snapshot {
    /// Adds moments, with the same result as adding them one by one. This skips the moments of each thread before it
    /// last finished, because they no longer affect the state. Most requests begin and end within one batch, so this
    /// skips most of their moments.
    pub(super) fn take_all<'a>(&mut self, moments: impl DoubleEndedIterator<Item = &'a Moment> + Clone) {
        let mut counting = Counting::with_capacity(moments.size_hint().0);
        moments.clone().rev().for_each(|moment| counting.look_at(moment));
        for moment in moments {
            if counting.counts.pop() != Some(false) {
                self.take(moment);
            } else if matches!(moment.what, What::Queued) {
                self.arriving = None;
            }
            self.seq = moment.seq;
        }
    }

    /// Adds the next moment, which has number `seq` + 1. Moments of an unknown thread are ignored.
    pub fn take(&mut self, moment: &Moment) {
        self.seq = moment.seq;
        match (moment.thread, moment.subject) {
            (Some(thread), None) => self.of_thread(thread, moment),
            (Some(thread), Some(subject)) => self.on_thread(thread, subject, moment),
            (None, Some(subject)) => self.at_the_door(subject, moment),
            (None, None) => {}
        }
    }

    fn of_thread(&mut self, thread: usize, moment: &Moment) {
        match moment.what {
            What::Spawned => {
                let spawned = Thread { from_us: moment.at_us, ..Thread::default() };
                self.threads.insert(thread, spawned);
            }
            What::Exited => {
                self.threads.remove(&thread);
            }
            _ => {}
        }
    }

    /// Returns the position of this request in `todo`.
    pub fn place_in_todo(&self, request: u64) -> Option<usize> {
        place(&self.todo, request)
    }

    /// Adds an event of an action. Events of an unknown action are ignored.
    fn of_action(&mut self, subject: Subject, moment: &Moment) {
        let at_us = moment.at_us;
        let actions = &mut self.actions;
        match &moment.what {
            What::ActionBegan { worker, target } => {
                let target = Arc::clone(target);
                let began = LiveAction { subject, target, began_us: at_us, ..LiveAction::default() };
                actions.insert(*worker, began);
            }
            What::ActionCommitted { worker } => {
                // The pool thread records the commit, and the action may have ended by then.
                let is_it = |action: &&mut LiveAction| action.subject == subject;
                if let Some(action) = actions.get_mut(worker).filter(is_it) {
                    action.committed_us = Some(at_us);
                }
            }
            What::ActionOrphaned { worker } => {
                if let Some(action) = actions.get_mut(worker) {
                    action.orphaned_us = Some(at_us);
                }
            }
            What::ActionEnded { worker } => {
                actions.remove(worker);
            }
            _ => {}
        }
    }

    fn at_the_door(&mut self, subject: Subject, moment: &Moment) {
        let place = || self.place_in_todo(subject.request);
        match moment.what {
            What::Accepted { peeked: true, .. } => {
                // If the request has left `todo` in the meantime, the thread that reads it records its target.
                if let Some(held) = place().and_then(|at| self.todo.get_mut(at)) {
                    held.name(moment);
                }
            }
            What::Accepted { peeked: false, .. } => {
                let mut held = Held::new(subject);
                held.name(moment);
                self.arriving = Some(held);
            }
            // A request that was incomplete is queued again by the reactor. The thread that took it first may not have
            // recorded its `finished` yet.
            What::Queued => {
                let arriving = self.arriving.take().filter(|held| held.is(subject));
                let mut held = arriving.unwrap_or_else(|| Held::new(subject));
                held.queued_us = Some(moment.at_us);
                self.todo.push_back(held);
            }
            What::Withdrawn | What::Rejected { .. } => {
                if let Some(at) = place() {
                    self.todo.remove(at);
                }
            }
            What::ClientClosed => {
                // A request that is queued again may still be recorded on the thread that took it first.
                let queued = place().and_then(|at| self.todo.get_mut(at));
                let on_threads = self.threads.values_mut().filter_map(|thread| thread.holds.as_mut());
                for held in on_threads.filter(|held| held.is(subject)).chain(queued) {
                    held.closed_us.get_or_insert(moment.at_us);
                }
            }
            _ => self.of_action(subject, moment),
        }
    }

    fn on_thread(&mut self, number: usize, subject: Subject, moment: &Moment) {
        let at_us = moment.at_us;
        // Moments of an unknown thread are ignored.
        let Some(thread) = self.threads.get_mut(&number) else { return };
        if matches!(moment.what, What::Started) {
            let at = place(&self.todo, subject.request);
            let mut held = at.and_then(|at| self.todo.remove(at)).unwrap_or_else(|| Held::new(subject));
            held.waited_us = held.queued_us.take().map(|queued_us| at_us.saturating_sub(queued_us));
            held.started_us = Some(at_us);
            thread.holds = Some(held);
            return;
        }
        let holds = thread.holds.as_mut().filter(|held| held.is(subject));
        match (&moment.what, holds) {
            (What::Accepted { peeked: false, .. }, Some(held)) => held.name(moment),
            (What::Accepted { peeked: false, .. }, None) => {
                // The next request of the connection, which was not in `todo`.
                let mut held = Held::new(subject);
                held.started_us = Some(at_us);
                held.name(moment);
                thread.holds = Some(held);
            }
            (What::MarkedIoBound, _) => thread.io_bound = true,
            (What::Streaming, Some(held)) => held.is_stream = true,
            (What::Wrote { .. }, Some(held)) => {
                held.writes += 1;
                held.last_write_us = Some(at_us);
            }
            (What::Disconnected { write, error }, Some(held)) => {
                held.gone = Some(FailedWrite { at_us, write: *write, error: error.clone() });
            }
            (What::Reaped { age_ms, why }, Some(held)) => {
                held.reaped = Some(Reaped { at_us, age_ms: *age_ms, why: why.clone() });
            }
            (What::Answered { .. } | What::Rejected { .. } | What::Left, Some(_)) => thread.holds = None,
            (What::Finished, _) => {
                thread.holds = None;
                thread.io_bound = false;
            }
            _ => {}
        }
    }
}

/// Finds the moments of a batch that still affect the state, from the newest to the oldest.
struct Counting {
    /// Whether each moment affects the state, newest first.
    counts: Vec<bool>,
    /// Threads that finish in one of the moments examined so far.
    finished: FxHashSet<usize>,
    /// Requests that such a thread started, and their positions in `counts`. A start can be skipped only if the request
    /// was queued within this batch as well. Otherwise the request must still be removed from `todo`.
    started: Vec<(u64, usize)>,
}

impl Counting {
    fn with_capacity(moments: usize) -> Counting {
        Counting { counts: Vec::with_capacity(moments), finished: FxHashSet::default(), started: Vec::new() }
    }

    fn look_at(&mut self, moment: &Moment) {
        let counts = match (moment.thread, moment.subject, &moment.what) {
            (Some(thread), Some(subject), what) if self.finished.contains(&thread) => {
                let is_start = matches!(what, What::Started);
                if is_start {
                    self.started.push((subject.request, self.counts.len()));
                }
                is_start
            }
            (Some(thread), Some(_), What::Finished) => {
                self.finished.insert(thread);
                true
            }
            (None, Some(subject), What::Queued) => {
                let started = self.started.iter().rposition(|(request, _)| *request == subject.request);
                if let Some(started) = started {
                    let (_, at) = self.started.swap_remove(started);
                    self.counts[at] = false;
                }
                started.is_none()
            }
            _ => true,
        };
        self.counts.push(counts);
    }
}

/// The position of this request. Numbers normally increase along `todo`, so a binary search finds it. They are out of
/// order if a keep-alive connection or an incomplete request was queued again after newer requests. In that case, the
/// search is linear.
fn place(todo: &VecDeque<Box<Held>>, request: u64) -> Option<usize> {
    let found = todo.binary_search_by_key(&request, |held| held.subject.request);
    found.ok().or_else(|| todo.iter().position(|held| held.subject.request == request))
}

#[cfg(test)]
mod tests;
