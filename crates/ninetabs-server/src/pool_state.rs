//! The state of `Puma::ThreadPool` and its rules. Each rule is one method that reads or changes the state in one step.
//! The methods neither lock nor block.
//!
//! The thread pool keeps the state under its one mutex, which prevents lost wake-ups. A push compares `waiting` with
//! `todo.len()`. A thread that was notified but has not run yet still counts in `waiting`, but its job is still in
//! `todo` as well, so the comparison is right. A pool that counted idle threads without their jobs would treat that
//! thread as free and assign a second job to it.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;

use crossbeam_channel::Sender;

use super::sync::Arc;
use crate::timeline::{Subject, Timeline, What};

/// The recipient of the events of the rules. A server uses its timeline; a simulation has a clock of its own. Every
/// call is resolved at compile time, so it costs a server nothing.
pub trait PoolRecord {
    /// Records that `what` happened now.
    fn record(&mut self, thread: Option<usize>, subject: Option<Subject>, what: What);
}

impl PoolRecord for Arc<Timeline> {
    fn record(&mut self, thread: Option<usize>, subject: Option<Subject>, what: What) {
        Timeline::record(self, thread, subject, what);
    }
}

pub(super) struct PoolState<W, R: PoolRecord = Arc<Timeline>> {
    pub(super) size: PoolSize,
    max_io: usize,
    pub(super) todo: VecDeque<(Subject, W)>,
    backlog_max: usize,
    /// Threads that wait for `not_empty`, including those that were notified but have not reacquired the lock
    /// yet.
    pub(super) waiting: usize,
    /// How many of `waiting` have been notified but have not reacquired the lock yet (a lower bound). Because pushes
    /// can arrive faster than a thread wakes, notifying again would cost system calls without waking another thread.
    woken: usize,
    trim_requested: usize,
    /// The threads by number. Puma numbers a new thread by the count of threads at its start, so after a trim two
    /// threads may have the same number. Here a new thread gets the lowest free number, because each lane of the
    /// timeline needs a unique one.
    pub(super) processors: BTreeMap<usize, ProcessorThread>,
    /// Threads that are still busy although a shutdown has stopped waiting for them.
    abandoned: usize,
    works_started: u64,
    pub(super) starting: bool,
    pub(super) shutdown: bool,
    /// Dropped when the last thread ends during a shutdown, which disconnects the receiver.
    threads_left: Option<Sender<Infallible>>,
    pub(super) record: R,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessorThread {
    pub(super) io_bound: bool,
    pub(super) running: Option<Subject>,
    /// The serial number of the thread's current or last work.
    serial: u64,
}

/// The statistics of a pool, all from the same moment. Models `Puma::ThreadPool#stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// Work in `todo` that no thread has taken.
    pub backlog: usize,
    /// Threads that exist.
    pub running: usize,
    /// `waiting + max - running`, at least 0. Ignores IO-bound marks.
    pub pool_capacity: usize,
    /// `running - waiting + backlog`: work in `todo` counts as busy.
    pub busy_threads: usize,
    /// Threads marked IO-bound.
    pub io_threads: usize,
    /// The maximum length of `todo` since the stats were last read.
    pub backlog_max: usize,
    /// The maximum number of threads, not counting IO-bound ones.
    pub max_threads: usize,
    /// Threads that are waiting for work.
    pub waiting: usize,
}

/// When a trim asks a thread to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trim {
    /// Only if a thread is free now.
    IfFree,
    /// Even if no thread is free. The first thread that finds `todo` empty ends.
    Forced,
}

/// The error for an invalid pool size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{min}:{max} is not a valid pool size: the maximum must be at least 1, and the minimum at most the maximum"
)]
pub struct BadSize {
    /// The requested minimum.
    pub min: usize,
    /// The requested maximum.
    pub max: usize,
}

/// The minimum and maximum number of threads of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    min: usize,
    max: usize,
}

impl PoolSize {
    /// Creates a size with these limits, or returns an error if they are invalid.
    pub const fn new(min: usize, max: usize) -> Result<PoolSize, BadSize> {
        if min > max || max < 1 { Err(BadSize { min, max }) } else { Ok(PoolSize { min, max }) }
    }

    /// Returns the minimum, below which threads are not trimmed.
    pub const fn min(self) -> usize {
        self.min
    }

    /// Returns the maximum number of threads, not counting IO-bound ones.
    pub const fn max(self) -> usize {
        self.max
    }
}

/// Writes the size in the format of `--threads`.
impl fmt::Display for PoolSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.min, self.max)
    }
}

impl<W, R: PoolRecord> PoolState<W, R> {
    pub(super) fn new(size: PoolSize, max_io: usize, record: R, threads_left: Sender<Infallible>) -> Self {
        PoolState {
            size,
            max_io,
            todo: VecDeque::new(),
            backlog_max: 0,
            waiting: 0,
            woken: 0,
            trim_requested: 0,
            processors: BTreeMap::new(),
            abandoned: 0,
            works_started: 0,
            starting: true,
            shutdown: false,
            threads_left: Some(threads_left),
            record,
        }
    }

    /// The number of threads. Puma keeps a counter in addition to its list. Here the number is the length of the list,
    /// so the two cannot differ.
    fn spawned(&self) -> usize {
        self.processors.len()
    }

    fn io_threads(&self) -> usize {
        self.processors.values().filter(|thread| thread.io_bound).count()
    }

    pub(super) fn queue(&mut self, subject: Subject, work: W) {
        self.record.record(None, Some(subject), What::Queued);
        self.todo.push_back((subject, work));
        self.backlog_max = self.backlog_max.max(self.todo.len());
    }

    /// Removes work from `todo`. No thread will process it.
    pub(super) fn withdraw(&mut self, subject: Subject) -> Option<W> {
        let at = self.todo.iter().position(|(queued, _)| *queued == subject)?;
        let (_, work) = self.todo.remove(at)?;
        self.record.record(None, Some(subject), What::Withdrawn);
        Some(work)
    }

    pub(super) fn begin_waiting(&mut self) {
        self.waiting += 1;
    }

    /// Updates the counts when a thread wakes. If it woke spuriously before a notified thread, `woken` is too low for a
    /// moment, and one thread too many is notified.
    pub(super) fn end_waiting(&mut self) {
        self.waiting -= 1;
        self.woken = self.woken.saturating_sub(1);
    }

    /// Returns whether a thread must be notified, and if so, counts it as notified. False if all waiting threads have
    /// already been notified, or as many as there is something to do for. Puma notifies one thread per push. But a
    /// running thread may have taken the work of an earlier push, and the thread that was notified for that work can
    /// take this.
    pub(super) fn wakes_one(&mut self) -> bool {
        let to_do = self.todo.len().saturating_add(self.trim_requested);
        let wakes = self.woken < self.waiting.min(to_do);
        self.woken += usize::from(wakes);
        wakes
    }

    pub(super) fn needs_thread(&self) -> bool {
        self.waiting < self.todo.len() && self.can_spawn_processor()
    }

    pub(super) fn is_below_min(&self) -> bool {
        self.spawned() < self.size.min
    }

    /// Whether another thread may be started. IO-bound threads do not count toward the maximum, except those above the
    /// quota.
    fn can_spawn_processor(&self) -> bool {
        let io = self.io_threads();
        let extra_io = io.saturating_sub(self.max_io);
        self.spawned() - io + extra_io < self.size.max
    }

    pub(super) fn lowest_free_number(&self) -> usize {
        // The numbers are sorted, so the first gap is where a number differs from its position.
        let taken = (1..).zip(self.processors.keys()).take_while(|(at, number)| at == *number).count();
        taken + 1
    }

    pub(super) fn admit(&mut self, number: usize) {
        self.record.record(Some(number), None, What::Spawned);
        let thread = ProcessorThread { io_bound: false, running: None, serial: 0 };
        self.processors.insert(number, thread);
    }

    pub(super) fn take(&mut self, number: usize) -> Option<(Subject, W, u64)> {
        let (subject, work) = self.todo.pop_front()?;
        self.works_started += 1;
        if let Some(thread) = self.processors.get_mut(&number) {
            thread.running = Some(subject);
            thread.serial = self.works_started;
        }
        self.record.record(Some(number), Some(subject), What::Started);
        Some((subject, work, self.works_started))
    }

    /// Whether a thread is free: more threads are waiting than there is work in `todo`.
    pub(super) fn has_free_thread(&self) -> bool {
        self.waiting > self.todo.len()
    }

    /// Lets a thread continue with the next request of its connection if another thread is free. The IO-bound mark and
    /// the end of the work are then recorded for this request. An abandoned thread may continue as well, but is not
    /// listed.
    pub(super) fn goes_on_with(&mut self, number: usize, subject: Subject) -> bool {
        let goes_on = self.has_free_thread();
        if goes_on && let Some(thread) = self.processors.get_mut(&number) {
            thread.running = Some(subject);
        }
        goes_on
    }

    /// Records the end of a thread's work. `taken` is the work that the thread took out of `todo`; the thread may have
    /// continued with later requests of the same connection.
    pub(super) fn finish(&mut self, number: usize, taken: Subject, panic: Option<String>) {
        let running = self.processors.get(&number).and_then(|thread| thread.running);
        let subject = running.unwrap_or(taken);
        if let Some(message) = panic {
            self.record.record(Some(number), Some(subject), What::Panicked { message });
        }
        self.record.record(Some(number), Some(subject), What::Finished);
        if let Some(thread) = self.processors.get_mut(&number) {
            thread.running = None;
        }
    }

    /// Marks a thread as IO-bound. Returns `false` if it was marked before or the work has ended.
    pub(super) fn mark_as_io_bound(&mut self, number: usize, serial: u64) -> bool {
        let thread = self.processors.get_mut(&number).filter(|thread| thread.serial == serial);
        let Some(ProcessorThread { io_bound: io_bound @ false, running: Some(subject), .. }) = thread else {
            return false;
        };
        *io_bound = true;
        self.record.record(Some(number), Some(*subject), What::MarkedIoBound);
        true
    }

    /// Decides whether an IO-bound thread ends with its work. It becomes a normal thread again, unless there are
    /// already `max` normal threads.
    pub(super) fn leaves_as_extra_io_thread(&mut self, number: usize) -> bool {
        if !self.processors.get(&number).is_some_and(|thread| thread.io_bound) {
            return false;
        }
        let leaves = self.spawned() - self.io_threads() >= self.size.max;
        if leaves {
            self.leave(number);
        } else if let Some(thread) = self.processors.get_mut(&number) {
            thread.io_bound = false;
        }
        leaves
    }

    /// Decides whether an idle thread ends. In Puma only trim requests end a thread, and a shutdown makes one request
    /// for each existing thread. A thread that is started later, because another one was marked IO-bound, would never
    /// end. Here a shutdown alone is a reason to end.
    pub(super) fn leaves_when_idle(&mut self, number: usize) -> bool {
        let leaves = self.shutdown || self.trim_requested > 0;
        if leaves {
            self.trim_requested = self.trim_requested.saturating_sub(1);
            self.leave(number);
        }
        leaves
    }

    fn leave(&mut self, number: usize) {
        if self.processors.remove(&number).is_none() {
            self.abandoned -= 1;
        }
        self.record.record(Some(number), None, What::Exited);
        self.tell_if_all_left();
    }

    /// Requests a trim. Returns whether a thread must end. The caller then wakes one to check.
    pub(super) fn trim(&mut self, trim: Trim) -> bool {
        let asked = (trim == Trim::Forced || self.has_free_thread())
            && self.spawned() > self.size.min.saturating_add(self.trim_requested);
        self.trim_requested += usize::from(asked);
        asked
    }

    pub(super) fn resize(&mut self, size: PoolSize) {
        self.size = size;
        // Threads that were asked to end because of a lower minimum may stay if they have not ended yet.
        self.trim_requested = self.trim_requested.min(self.spawned().saturating_sub(size.min));
    }

    /// Returns the statistics and resets `backlog_max`, like Puma's `stats`.
    pub(super) fn stats(&mut self) -> PoolStats {
        let stats = self.glance();
        self.backlog_max = 0;
        stats
    }

    pub(super) fn glance(&self) -> PoolStats {
        let (backlog, running, waiting) = (self.todo.len(), self.spawned(), self.waiting);
        PoolStats {
            backlog,
            running,
            pool_capacity: waiting.saturating_add(self.size.max).saturating_sub(running),
            // An abandoned thread may count in `waiting` for a moment, but does not count in `running`.
            busy_threads: (running + backlog).saturating_sub(waiting),
            io_threads: self.io_threads(),
            backlog_max: self.backlog_max,
            max_threads: self.size.max,
            waiting,
        }
    }

    pub(super) fn begin_shutdown(&mut self) {
        self.shutdown = true;
        self.trim_requested = self.spawned();
        self.tell_if_all_left();
    }

    /// Removes all threads from the count and the list. Returns how many of them still exist.
    pub(super) fn abandon(&mut self) -> usize {
        self.abandoned += self.spawned();
        self.processors.clear();
        self.abandoned
    }

    fn tell_if_all_left(&mut self) {
        if self.shutdown && self.processors.is_empty() && self.abandoned == 0 {
            self.threads_left = None;
        }
    }
}
