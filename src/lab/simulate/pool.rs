//! A simulated pool: the rules of the real pool, threads that wait in a queue, and the laws of queues.
//!
//! [`PoolRules`] decides. This module adds the part of threads and a mutex: which waiting thread a notification wakes.
//! Linux wakes the one that has waited longest. This module also checks three laws at every step, independently of the
//! statistics of the rules.

use std::collections::VecDeque;

use ninetabs_server::rules::{PoolRecord, PoolRules, PoolSize, PoolStats, PoolTurn, Trim};
use ninetabs_server::timeline::{Moment, Subject, What};

/// A rule that is broken on purpose, to show that a law detects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The newest request is served first.
    Lifo,
    /// One notification in fifty wakes no thread.
    LostWakeUp,
    /// Every stream gets the whole maximum age.
    NoJitter,
}

/// With [`Flaw::LostWakeUp`], one of this many notifications is lost.
const LOST_ONE_IN: u64 = 50;

/// Maximum number of events that are recorded with [`Kept::First`].
const MOST_MOMENTS: usize = 20_000;

/// Which events are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    None,
    All,
    /// The events of the first requests, until a thread takes a later request.
    First(u64),
}

/// The clock and the record of a simulated pool.
#[derive(Debug)]
pub struct PoolLog {
    now_us: u64,
    watched: Kept,
    moments: Vec<Moment>,
    /// When the record ended, if it has ended.
    until_us: Option<u64>,
}

impl PoolRecord for PoolLog {
    fn record(&mut self, thread: Option<usize>, subject: Option<Subject>, what: What) {
        let at_us = self.now_us;
        match self.watched {
            Kept::None => return,
            Kept::All => {}
            Kept::First(requests) => {
                let is_later = subject.is_some_and(|subject| subject.request > requests);
                let is_full = self.moments.len() >= MOST_MOMENTS;
                if is_full || (is_later && what == What::Started) {
                    self.until_us.get_or_insert(at_us);
                }
                if is_later || self.until_us.is_some() {
                    return;
                }
            }
        }
        let seq = self.moments.len() as u64 + 1;
        self.moments.push(Moment { seq, at_us, thread, subject, what });
    }
}

/// Work in the queue.
#[derive(Debug, Clone, Copy)]
struct QueueEntry<W> {
    work: W,
    number: u64,
    queued_us: u64,
}

/// What a thread does next, with the time for which its work was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadStep<W> {
    Runs { subject: Subject, work: W, waited_us: u64 },
    Waits,
    Leaves,
}

/// Threads that will run because of a push: a started one, and a notified one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Roused {
    pub started: Option<usize>,
    pub notified: Option<usize>,
}

/// The results of the laws of queues. Times are in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueLaws {
    /// The length of the queue, integrated over time.
    pub area_us: u128,
    /// The sum of the times for which requests were queued.
    pub waited_us: u128,
    /// Requests that were taken while an older one was queued.
    pub overtaken: u64,
    /// How long a thread was idle, without a notification, while a request was queued.
    pub stranded_us: u64,
    /// Requests that threads have taken.
    pub taken: u64,
    pub longest_queue: usize,
}

impl QueueLaws {
    /// Adds the results of another queue.
    pub fn add(&mut self, other: &QueueLaws) {
        self.area_us += other.area_us;
        self.waited_us += other.waited_us;
        self.overtaken += other.overtaken;
        self.stranded_us += other.stranded_us;
        self.taken += other.taken;
        self.longest_queue = self.longest_queue.max(other.longest_queue);
    }
}

/// The pool of one server, from its start to its end.
#[derive(Debug)]
pub struct SimulatedPool<W: Copy> {
    rules: PoolRules<QueueEntry<W>, PoolLog>,
    /// The threads that wait without a notification, the longest waiting one first.
    idle: VecDeque<usize>,
    /// Threads that were started or notified, but have not run yet.
    on_their_way: usize,
    pushed: u64,
    last_taken: u64,
    notifications: u64,
    checked_us: u64,
    laws: QueueLaws,
    flaw: Option<Flaw>,
    /// The content of the queue, for [`Flaw::Lifo`].
    stack: Vec<QueueEntry<W>>,
}

impl<W: Copy> SimulatedPool<W> {
    /// Creates a pool with the minimum number of threads, all idle.
    pub fn new(size: PoolSize, now_us: u64, watched: Kept, flaw: Option<Flaw>) -> SimulatedPool<W> {
        let log = PoolLog { now_us, watched, moments: Vec::new(), until_us: None };
        SimulatedPool {
            rules: PoolRules::new(size, 0, log),
            idle: (1..=size.min()).collect(),
            on_their_way: 0,
            pushed: 0,
            last_taken: 0,
            notifications: 0,
            checked_us: now_us,
            laws: QueueLaws::default(),
            flaw,
            stack: Vec::new(),
        }
    }

    /// Appends work to the queue.
    pub fn push(&mut self, now_us: u64, subject: Subject, work: W) -> Roused {
        self.pass(now_us);
        self.pushed += 1;
        let entry = QueueEntry { work, number: self.pushed, queued_us: now_us };
        if self.flaw == Some(Flaw::Lifo) {
            self.stack.push(entry);
        }
        let pushed = self.rules.push(subject, entry);
        self.on_their_way += usize::from(pushed.spawned.is_some());
        self.laws.longest_queue = self.laws.longest_queue.max(self.rules.queued());
        Roused { started: pushed.spawned, notified: if pushed.wakes { self.notify() } else { None } }
    }

    /// Runs a started thread for the first time.
    pub fn begin(&mut self, now_us: u64, number: usize) -> ThreadStep<W> {
        self.pass(now_us);
        self.on_their_way -= 1;
        let turn = self.rules.begin(number);
        self.step(now_us, number, turn)
    }

    /// Runs a notified thread.
    pub fn wake(&mut self, now_us: u64, number: usize) -> ThreadStep<W> {
        self.pass(now_us);
        self.on_their_way -= 1;
        let turn = self.rules.wake(number);
        self.step(now_us, number, turn)
    }

    /// Finishes the work of a thread.
    pub fn end(&mut self, now_us: u64, number: usize, subject: Subject) -> ThreadStep<W> {
        self.pass(now_us);
        let turn = self.rules.end(number, subject);
        self.step(now_us, number, turn)
    }

    /// Asks one thread above the minimum to leave. Returns the thread that is notified.
    pub fn trim(&mut self, now_us: u64) -> Option<usize> {
        self.pass(now_us);
        if self.rules.trim(Trim::IfFree) { self.notify() } else { None }
    }

    /// Records an event that does not come from the pool.
    pub fn note(
        &mut self,
        now_us: u64,
        thread: Option<usize>,
        subject: Subject,
        what: impl FnOnce() -> What,
    ) {
        let log = self.rules.record();
        if log.watched != Kept::None {
            log.now_us = now_us;
            log.record(thread, Some(subject), what());
        }
    }

    /// The statistics of the pool.
    pub fn stats(&self) -> PoolStats {
        self.rules.stats()
    }

    /// The work in the queue.
    pub fn queued(&self) -> impl Iterator<Item = W> {
        self.entries().map(|entry| entry.work)
    }

    /// With [`Flaw::Lifo`], threads take from the stack instead.
    fn entries(&self) -> impl Iterator<Item = &QueueEntry<W>> {
        let is_queue = self.flaw != Some(Flaw::Lifo);
        self.rules.todo().filter(move |_| is_queue).chain(&self.stack)
    }

    /// Ends the run or the server, and returns the results of the laws.
    pub fn close(&mut self, now_us: u64) -> QueueLaws {
        self.pass(now_us);
        let waits = self.entries().map(|entry| u128::from(now_us - entry.queued_us)).sum::<u128>();
        self.laws.waited_us += waits;
        self.laws
    }

    /// The recorded events, and when the recording ended.
    pub fn moments(&mut self) -> (Vec<Moment>, Option<u64>) {
        let log = self.rules.record();
        (std::mem::take(&mut log.moments), log.until_us)
    }

    /// Accounts for the time since the last step, in which the queue did not change.
    fn pass(&mut self, now_us: u64) {
        let passed_us = now_us - self.checked_us;
        let queued = self.rules.queued();
        self.laws.area_us += u128::from(passed_us) * queued as u128;
        if !self.idle.is_empty() && queued > self.on_their_way {
            self.laws.stranded_us += passed_us;
        }
        self.checked_us = now_us;
        self.rules.record().now_us = now_us;
    }

    fn notify(&mut self) -> Option<usize> {
        self.notifications += 1;
        if self.flaw == Some(Flaw::LostWakeUp) && self.notifications.is_multiple_of(LOST_ONE_IN) {
            return None;
        }
        let number = self.idle.pop_front()?;
        self.on_their_way += 1;
        Some(number)
    }

    fn step(&mut self, now_us: u64, number: usize, turn: PoolTurn<QueueEntry<W>>) -> ThreadStep<W> {
        match turn {
            PoolTurn::Runs(subject, entry) => {
                let entry = self.stack.pop().unwrap_or(entry);
                let waited_us = now_us - entry.queued_us;
                self.laws.waited_us += u128::from(waited_us);
                self.laws.taken += 1;
                self.laws.overtaken += u64::from(entry.number != self.last_taken + 1);
                self.last_taken = entry.number;
                ThreadStep::Runs { subject, work: entry.work, waited_us }
            }
            PoolTurn::Waits => {
                self.idle.push_back(number);
                ThreadStep::Waits
            }
            PoolTurn::Leaves => ThreadStep::Leaves,
        }
    }
}
