//! The state of `Puma::ThreadPool`, and its rules: one method each, which changes the state in one step or reads it,
//! and neither locks nor blocks.
//!
//! The thread pool keeps it under its one mutex, which prevents lost wake-ups. A push compares `waiting` with
//! `todo.len()`. A thread that was woken but has not run yet is still in `waiting`, but its job is still in `todo` as
//! well. A pool that counts idle threads apart from jobs takes that thread for a free one and assigns it a second job.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::sync::Arc;
use crate::timeline::{Subject, Timeline, What};

pub(super) struct PoolState<W> {
    pub(super) size: PoolSize,
    max_io: usize,
    pub(super) todo: VecDeque<(Subject, W)>,
    backlog_max: usize,
    /// Threads inside the wait for `not_empty`, those that were woken and have not got the lock yet included.
    pub(super) waiting: usize,
    /// Of those, how many have been woken at least and have not got the lock yet. To wake one more than wait
    /// costs a system call that reaches nobody, and a burst of pushes comes faster than a thread wakes.
    woken: usize,
    trim_requested: usize,
    /// By number. Puma numbers a thread by the count of threads at its birth, so after a trim two may share
    /// one; a lane of the timeline needs a number that is one thread's alone, so the lowest free one is taken.
    pub(super) processors: BTreeMap<usize, ProcessorThread>,
    /// Threads that a shutdown has given up on, and that are still at work.
    abandoned: usize,
    works_started: u64,
    pub(super) starting: bool,
    pub(super) shutdown: bool,
    /// Given up when the last thread leaves during a shutdown.
    somebody_here: Option<Sender<Infallible>>,
    timeline: Arc<Timeline>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessorThread {
    pub(super) io_bound: bool,
    pub(super) running: Option<Subject>,
    /// The serial of the work that it runs, or ran last.
    serial: u64,
    pub(super) since: Instant,
}

/// All the numbers, copied at one moment. Models `Puma::ThreadPool#stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStats {
    /// Work in todo, which no thread has taken.
    pub backlog: usize,
    /// Threads that exist.
    pub running: usize,
    /// `waiting + max - running`, at least 0: takes no account of IO-bound marks.
    pub pool_capacity: usize,
    /// `running - waiting + backlog`: what waits in todo counts as busy.
    pub busy_threads: usize,
    /// Threads marked IO-bound.
    pub io_threads: usize,
    /// The longest that todo has been since the last time the stats were read.
    pub backlog_max: usize,
    /// Threads beyond which none is started.
    pub max_threads: usize,
    /// Threads with nothing to do.
    pub waiting: usize,
}

/// When a thread is asked to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trim {
    /// Only if one is free now.
    IfFree,
    /// Whether or not one is free: the first that finds todo empty leaves.
    Forced,
}

/// These numbers make no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{min}:{max} makes no pool: the maximum is 1 or more, the minimum no higher than it")]
pub struct BadSize {
    /// The least that was asked for.
    pub min: usize,
    /// The most that was asked for.
    pub max: usize,
}

/// The least and the most number of threads of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    min: usize,
    max: usize,
}

impl PoolSize {
    /// At most `max` threads, of which trimming leaves `min`.
    pub const fn new(min: usize, max: usize) -> Result<PoolSize, BadSize> {
        if min > max || max < 1 { Err(BadSize { min, max }) } else { Ok(PoolSize { min, max }) }
    }

    /// Threads that trimming leaves.
    pub const fn min(self) -> usize {
        self.min
    }

    /// Threads beyond which none is started, those marked IO-bound left out.
    pub const fn max(self) -> usize {
        self.max
    }
}

/// As it is written for `--threads`.
impl fmt::Display for PoolSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.min, self.max)
    }
}

impl<W> PoolState<W> {
    pub(super) fn new(
        size: PoolSize,
        max_io: usize,
        timeline: Arc<Timeline>,
        somebody_here: Sender<Infallible>,
    ) -> Self {
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
            somebody_here: Some(somebody_here),
            timeline,
        }
    }

    /// Puma counts up and down beside its list; here the list is the count, so the two cannot differ.
    fn spawned(&self) -> usize {
        self.processors.len()
    }

    fn io_threads(&self) -> usize {
        self.processors.values().filter(|thread| thread.io_bound).count()
    }

    pub(super) fn queue(&mut self, subject: Subject, work: W) {
        self.timeline.record(None, Some(subject), What::Queued);
        self.todo.push_back((subject, work));
        self.backlog_max = self.backlog_max.max(self.todo.len());
    }

    /// Takes work out of todo; no thread will process it.
    pub(super) fn withdraw(&mut self, subject: Subject) -> Option<W> {
        let at = self.todo.iter().position(|(queued, _)| *queued == subject)?;
        let (_, work) = self.todo.remove(at)?;
        self.timeline.record(None, Some(subject), What::Withdrawn);
        Some(work)
    }

    pub(super) fn begin_waiting(&mut self) {
        self.waiting += 1;
    }

    /// A thread may wake by itself, in the place of one that was woken: then `woken` is too low for a moment, and
    /// one more is woken than need be.
    pub(super) fn end_waiting(&mut self) {
        self.waiting -= 1;
        self.woken = self.woken.saturating_sub(1);
    }

    /// Whether somebody is to be woken: nobody need be if all who wait have been.
    pub(super) fn wakes_one(&mut self) -> bool {
        let wakes = self.waiting > self.woken;
        self.woken += usize::from(wakes);
        wakes
    }

    pub(super) fn needs_thread(&self) -> bool {
        self.waiting < self.todo.len() && self.can_spawn_processor()
    }

    pub(super) fn is_below_min(&self) -> bool {
        self.spawned() < self.size.min
    }

    /// IO-bound threads do not count, but those beyond the quota do.
    fn can_spawn_processor(&self) -> bool {
        let io = self.io_threads();
        let extra_io = io.saturating_sub(self.max_io);
        self.spawned() - io + extra_io < self.size.max
    }

    pub(super) fn lowest_free_number(&self) -> usize {
        // The numbers are in order, so the first that is not where it would be without a gap is the gap.
        let taken = (1..).zip(self.processors.keys()).take_while(|(at, number)| at == *number).count();
        taken + 1
    }

    pub(super) fn admit(&mut self, number: usize) {
        self.timeline.record(Some(number), None, What::Spawned);
        let thread = ProcessorThread { io_bound: false, running: None, serial: 0, since: Instant::now() };
        self.processors.insert(number, thread);
    }

    pub(super) fn take(&mut self, number: usize) -> Option<(Subject, W, u64)> {
        let (subject, work) = self.todo.pop_front()?;
        self.works_started += 1;
        let now = Instant::now();
        if let Some(thread) = self.processors.get_mut(&number) {
            thread.running = Some(subject);
            thread.serial = self.works_started;
            thread.since = now;
        }
        self.timeline.record_at(now, Some(number), Some(subject), What::Started);
        Some((subject, work, self.works_started))
    }

    /// Whether a thread is free: it waits, and nothing in todo is meant for it.
    pub(super) fn is_anybody_waiting(&self) -> bool {
        self.waiting > self.todo.len()
    }

    /// Lets a thread go on with the next request of its connection if another thread is free. The mark and the
    /// end that follow are then those of this request. An abandoned thread goes on as well, and is not listed.
    pub(super) fn goes_on_with(&mut self, number: usize, subject: Subject) -> bool {
        let goes_on = self.is_anybody_waiting();
        if goes_on && let Some(thread) = self.processors.get_mut(&number) {
            thread.running = Some(subject);
        }
        goes_on
    }

    /// `taken` is what the thread took out of todo; it may have gone on with later requests of that connection.
    pub(super) fn finish(&mut self, number: usize, taken: Subject, panic: Option<String>) {
        let running = self.processors.get(&number).and_then(|thread| thread.running);
        let subject = running.unwrap_or(taken);
        if let Some(message) = panic {
            self.timeline.record(Some(number), Some(subject), What::Panicked { message });
        }
        let now = Instant::now();
        self.timeline.record_at(now, Some(number), Some(subject), What::Finished);
        if let Some(thread) = self.processors.get_mut(&number) {
            thread.running = None;
            thread.since = now;
        }
    }

    /// Whether the mark is new, on a work that still runs.
    pub(super) fn mark_as_io_bound(&mut self, number: usize, serial: u64) -> bool {
        let thread = self.processors.get_mut(&number).filter(|thread| thread.serial == serial);
        let Some(ProcessorThread { io_bound: io_bound @ false, running: Some(subject), .. }) = thread else {
            return false;
        };
        *io_bound = true;
        self.timeline.record(Some(number), Some(*subject), What::MarkedIoBound);
        true
    }

    /// A marked thread is a normal one again when its work has ended, unless `max` normal ones are there.
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

    /// Puma has the request to trim alone decide, and asks for as many as there are when a shutdown begins;
    /// a thread that a mark starts after that would never be asked. So the shutdown counts by itself.
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
        self.timeline.record(Some(number), None, What::Exited);
        self.tell_if_all_left();
    }

    /// Whether a thread is to go, so that one should be woken to look.
    pub(super) fn trim(&mut self, trim: Trim) -> bool {
        let asked = (trim == Trim::Forced || self.is_anybody_waiting())
            && self.spawned() > self.size.min.saturating_add(self.trim_requested);
        self.trim_requested += usize::from(asked);
        asked
    }

    pub(super) fn resize(&mut self, size: PoolSize) {
        self.size = size;
        // Threads that were asked to leave for a lower minimum, and are still at work, may stay now.
        self.trim_requested = self.trim_requested.min(self.spawned().saturating_sub(size.min));
    }

    /// As Puma's `stats`: begins a new `backlog_max`.
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
            // An abandoned thread may be in `waiting` for a moment, and no longer in `running`.
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

    /// Counts and shows no thread any more; how many are there all the same.
    pub(super) fn abandon(&mut self) -> usize {
        self.abandoned += self.spawned();
        self.processors.clear();
        self.abandoned
    }

    fn tell_if_all_left(&mut self) {
        if self.shutdown && self.processors.is_empty() && self.abandoned == 0 {
            self.somebody_here = None;
        }
    }
}
