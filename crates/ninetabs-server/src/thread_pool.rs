//! Models `Puma::ThreadPool` (Puma 8): a list of work called todo, and between
//! `min` and `max` threads that take from it, oldest first.
//!
//! It is Puma's own shape: one mutex around all that is known, which is
//! `pool_state.rs`, where the rules are. Here are the lock, the
//! threads and the waits. No wait inside has a time limit; only
//! [`ThreadPool::shutdown`] measures time, from outside.
//!
//! The pool knows no HTTP. Not modelled: reaping dead threads (a panic in the
//! work is caught, so a thread here cannot die), out-of-band hooks, and
//! `wait_until_not_full`.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

pub use super::pool_state::{BadSize, PoolSize, PoolStats, Trim};
use super::pool_state::{PoolState, ProcessorThread};
use super::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, thread};
use crate::log_limit::limited;
use crate::threads::SpawnError;
use crate::timeline::{Subject, Timeline};

/// What the pool is given to do.
pub trait Work: Send + 'static {
    /// Which request this is, for the timeline. Asked once, at the push.
    fn subject(&self) -> Subject;
}

/// How many threads, and what they are called.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Puma's is `puma srv`, and its third thread `puma srv tp 003`.
    pub name: String,
    /// Threads that [`ThreadPool::start`] starts and [`ThreadPool::trim`] leaves.
    pub min: usize,
    /// Threads beyond which none is started, those marked IO-bound left out.
    pub max: usize,
    /// How many threads marked IO-bound do not count against `max`.
    pub max_io: usize,
}

/// The pool. Dropping it lets the threads go once todo is empty, without waiting for them.
pub struct ThreadPool<W: Work> {
    shared: Arc<SharedPool<W>>,
    /// Never carries anything; disconnected when the last thread has left during a shutdown.
    all_left: Receiver<Infallible>,
}

/// The pool thread that a piece of work runs on, seen from that work.
pub struct Processor<W: Work> {
    shared: Arc<SharedPool<W>>,
    number: usize,
    /// Which work this handle was given to: a number is used again, a serial is not.
    serial: u64,
}

/// One pool thread, as [`ThreadPool::processors`] saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessorView {
    /// Counts from 1; the lowest free number goes to the next thread.
    pub number: usize,
    /// The name of the thread, as the operating system shows it.
    pub name: String,
    /// Whether it is marked IO-bound.
    pub io_bound: bool,
    /// What it works on, if anything.
    pub running: Option<Subject>,
    /// Since when it has done so, or has had nothing to do.
    pub since: Instant,
}

/// How a shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// All threads left within the timeout, and everything in todo was served.
    Drained,
    /// The timeout passed, what was left in todo was dropped, then all left within the grace.
    Forced,
    /// So many threads were still at work after the grace. They were left behind.
    Abandoned {
        /// How many.
        threads: usize,
    },
}

/// The pool is shutting down; here is the work back.
#[derive(thiserror::Error)]
#[error("the thread pool takes no work while it is shutting down")]
pub struct ShuttingDown<W>(pub W);

/// Why a pool did not start.
#[derive(Debug, thiserror::Error)]
pub enum PoolStartError {
    /// The sizes make no pool.
    #[error(transparent)]
    BadSize(#[from] BadSize),
    /// The system refused a thread.
    #[error(transparent)]
    Thread(#[from] SpawnError),
}

type ProcessWork<W> = dyn Fn(W, &Processor<W>) + Send + Sync;

/// What the pool, its threads and the handles given to the work have in common.
struct SharedPool<W: Work> {
    name: String,
    process: Box<ProcessWork<W>>,
    state: Mutex<PoolState<W>>,
    /// A thread may find work in todo, or should leave.
    not_empty: Condvar,
    /// A thread has begun to wait. Puma's acceptor listens here too; ours does only at the start.
    not_full: Condvar,
}

impl<W: Work> ThreadPool<W> {
    /// Starts `min` threads that will call `process` for every work. Models `#initialize`.
    ///
    /// Blocks until all of them are idle. If the system refuses one, those already there leave again.
    pub fn start(
        options: PoolOptions,
        timeline: Arc<Timeline>,
        process: impl Fn(W, &Processor<W>) + Send + Sync + 'static,
    ) -> Result<Self, PoolStartError> {
        let PoolOptions { name, min, max, max_io } = options;
        let (somebody_here, all_left) = crossbeam_channel::bounded(0);
        let state = PoolState::new(PoolSize::new(min, max)?, max_io, timeline, somebody_here);
        let (not_empty, not_full) = (Condvar::new(), Condvar::new());
        let process: Box<ProcessWork<W>> = Box::new(process);
        let shared = Arc::new(SharedPool { name, process, state: Mutex::new(state), not_empty, not_full });
        let pool = ThreadPool { shared, all_left };

        let mut state = pool.shared.lock();
        for _ in 0..min {
            if let Err(error) = pool.shared.spawn_thread(&mut state) {
                drop(state);
                return Err(error.into());
            }
        }
        while state.waiting < min {
            state = pool.shared.wait(&pool.shared.not_full, state);
        }
        state.starting = false;
        drop(state);
        Ok(pool)
    }

    /// Puts `work` at the end of todo, and starts one thread if nobody is free for it. Models `#<<`.
    ///
    /// Does not block. If the system refuses the thread, that is logged and the work stays in todo, for
    /// whichever thread comes free or is started next.
    pub fn push(&self, work: W) -> Result<(), ShuttingDown<W>> {
        let subject = work.subject();
        let mut state = self.shared.lock();
        if state.shutdown {
            drop(state);
            return Err(ShuttingDown(work));
        }
        state.queue(subject, work);
        self.shared.spawn_thread_if_needed(state);
        Ok(())
    }

    /// Asks one thread to leave if more than `min` are there. Models `#trim`; does not wait for the thread.
    pub fn trim(&self, trim: Trim) {
        let mut state = self.shared.lock();
        if state.trim(trim) {
            self.shared.wake_one(state);
        }
    }

    /// Starts threads until the least are there. A pool of Puma's starts them at the next pushes.
    ///
    /// If the system refuses one, that is logged, and the rest is started at the next pushes.
    pub fn fill(&self) {
        let mut state = self.shared.lock();
        while !state.shutdown && state.is_below_min() {
            if let Err(error) = self.shared.spawn_thread(&mut state) {
                drop(state);
                return log::error!("{error}");
            }
        }
    }

    /// Sets the least and the most number of threads, and nothing else: growth shows at the next push,
    /// shrinking needs [`trim`](Self::trim). Models `update_thread_pool_min_max`.
    pub fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        let size = PoolSize::new(min, max)?;
        self.shared.lock().resize(size);
        Ok(())
    }

    /// The size in force.
    pub fn size(&self) -> PoolSize {
        self.shared.lock().size
    }

    /// What `look` copies from the first of todo, at most so many. It is called under the pool's lock, so
    /// it must not ask the system for anything.
    pub fn look_at_todo<T>(&self, most: usize, look: impl FnMut(&W) -> Option<T>) -> Vec<T> {
        self.shared.lock().todo.iter().take(most).map(|(_, work)| work).filter_map(look).collect()
    }

    /// Takes work out of todo that no thread has taken yet.
    pub fn take_from_todo(&self, subject: Subject) -> Option<W> {
        self.shared.lock().withdraw(subject)
    }

    /// All the numbers of one moment; begins a new `backlog_max`.
    pub fn stats(&self) -> PoolStats {
        self.shared.lock().stats()
    }

    /// The same, and leaves `backlog_max` to whoever asks for the stats.
    pub fn glance(&self) -> PoolStats {
        self.shared.lock().glance()
    }

    /// The threads, by number, as they are now.
    pub fn processors(&self) -> Vec<ProcessorView> {
        let processors = self.shared.lock().processors.clone();
        let view = |(number, thread): (usize, ProcessorThread)| {
            let ProcessorThread { io_bound, running, since, .. } = thread;
            ProcessorView { number, name: self.shared.thread_name(number), io_bound, running, since }
        };
        processors.into_iter().map(view).collect()
    }

    /// Lets the threads go. Models `#shutdown`.
    ///
    /// Blocks until the last has left, at most for `timeout` (`None`: for ever); meanwhile what is in todo is
    /// served. Then what is left in todo is given to `unserved`, here on the calling thread, and the threads
    /// at work have `grace` to finish. Puma kills who is left then; a thread of ours cannot be killed, so it
    /// is abandoned: no longer counted or shown, but there until its work ends.
    ///
    /// A second call waits for those still there, the abandoned included, and answers for them alone.
    pub fn shutdown_with(
        &self,
        timeout: Option<Duration>,
        grace: Duration,
        unserved: impl Fn(W),
    ) -> Shutdown {
        self.shared.begin_shutdown();
        if self.wait_until_all_left(timeout) {
            return Shutdown::Drained;
        }
        // The end of a work may block or call the pool, so it must not happen under the lock.
        let left = mem::take(&mut self.shared.lock().todo);
        left.into_iter().for_each(|(_, work)| unserved(work));
        if self.wait_until_all_left(Some(grace)) {
            return Shutdown::Forced;
        }
        match self.shared.lock().abandon() {
            0 => Shutdown::Forced,
            threads => Shutdown::Abandoned { threads },
        }
    }

    /// The same, where what is left in todo is dropped.
    pub fn shutdown(&self, timeout: Option<Duration>, grace: Duration) -> Shutdown {
        self.shutdown_with(timeout, grace, drop)
    }

    fn wait_until_all_left(&self, at_most: Option<Duration>) -> bool {
        match at_most {
            Some(limit) => self.all_left.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected),
            None => self.all_left.recv().is_err(),
        }
    }
}

impl<W: Work> Drop for ThreadPool<W> {
    fn drop(&mut self) {
        self.shared.begin_shutdown();
    }
}

impl<W: Work> Processor<W> {
    /// The thread's number, as [`ThreadPool::processors`] and the timeline show it.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether this thread may go on with the next request of its work: another thread is free for what comes
    /// meanwhile. From then on the timeline and [`ThreadPool::processors`] name this request.
    pub fn goes_on_with(&self, next: Subject) -> bool {
        self.shared.lock().goes_on_with(self.number, next)
    }

    /// A handle that marks this thread as IO-bound, whatever kind of work it does. Allocates nothing.
    pub(crate) fn io_bound_mark(&self) -> IoBoundMark {
        IoBoundMark {
            pool: Arc::clone(&self.shared) as Arc<dyn MarksIoBound>,
            number: self.number,
            serial: self.serial,
        }
    }

    /// Says that this work mostly waits, so its thread does not count against `max` until the work ends, as
    /// long as no more than `max_io` are so marked; starts a thread at once if todo has something for it.
    /// Marking twice, or after the work has ended, does nothing. Models `mark_as_io_thread!`; does not block.
    pub fn mark_as_io_bound(&self) {
        self.shared.mark_as_io_bound(self.number, self.serial);
    }
}

/// Marks the thread of one piece of work as IO-bound, in a pool of any kind of work.
pub(crate) struct IoBoundMark {
    pool: Arc<dyn MarksIoBound>,
    number: usize,
    serial: u64,
}

impl IoBoundMark {
    /// As [`Processor::mark_as_io_bound`].
    pub(crate) fn set(&self) {
        Arc::clone(&self.pool).mark(self.number, self.serial);
    }
}

trait MarksIoBound: Send + Sync {
    fn mark(self: Arc<Self>, number: usize, serial: u64);
}

impl<W: Work> MarksIoBound for SharedPool<W> {
    fn mark(self: Arc<Self>, number: usize, serial: u64) {
        self.mark_as_io_bound(number, serial);
    }
}

impl<W: Work> Clone for Processor<W> {
    fn clone(&self) -> Self {
        Processor { shared: Arc::clone(&self.shared), number: self.number, serial: self.serial }
    }
}

impl<W> fmt::Debug for ShuttingDown<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShuttingDown(..)")
    }
}

impl<W: Work> SharedPool<W> {
    /// What a pool thread does from its birth to its end. Models the block in `#spawn_thread`.
    fn run(self: Arc<Self>, number: usize) {
        let mut ended = None;
        while let Some((subject, work, serial)) = self.next(number, ended) {
            let processor = Processor { shared: Arc::clone(&self), number, serial };
            let panic = catch_unwind(AssertUnwindSafe(|| (self.process)(work, &processor))).err();
            let panic = panic.map(message);
            if let Some(message) = &panic {
                log::error!("Error reached top of thread-pool: {message} ({})", self.thread_name(number));
            }
            ended = Some((subject, panic));
        }
    }

    /// Puts away what the thread did before, then blocks until there is work for it, or it is to leave.
    fn next(&self, number: usize, ended: Option<(Subject, Option<String>)>) -> Option<(Subject, W, u64)> {
        let mut state = self.lock();
        if let Some((subject, panic)) = ended {
            state.finish(number, subject, panic);
        }
        if state.leaves_as_extra_io_thread(number) {
            return None;
        }
        while state.todo.is_empty() {
            if state.leaves_when_idle(number) {
                return None;
            }
            state.begin_waiting();
            if state.starting {
                self.not_full.notify_one();
            }
            state = self.wait(&self.not_empty, state);
            state.end_waiting();
        }
        state.take(number)
    }

    fn mark_as_io_bound(self: &Arc<Self>, number: usize, serial: u64) {
        let mut state = self.lock();
        if state.mark_as_io_bound(number, serial) {
            self.spawn_thread_if_needed(state);
        }
    }

    /// Gives up the lock, and wakes one thread for what was pushed. One that is woken after a mark may find
    /// nothing, and waits again.
    fn spawn_thread_if_needed(self: &Arc<Self>, mut state: MutexGuard<'_, PoolState<W>>) {
        let spawned = if state.needs_thread() { self.spawn_thread(&mut state) } else { Ok(()) };
        self.wake_one(state);
        if let Err(error) = spawned {
            limited!(Error, "{error}; work waits in todo");
        }
    }

    /// The thread is counted when it is there, not before, so that a refused one leaves nothing to undo. It
    /// cannot be early either: the first thing it wants is the lock that the caller holds.
    fn spawn_thread(self: &Arc<Self>, state: &mut PoolState<W>) -> Result<(), SpawnError> {
        let number = state.lowest_free_number();
        let (shared, name) = (Arc::clone(self), self.thread_name(number));
        let spawned = thread::Builder::new().name(name.clone()).spawn(move || shared.run(number));
        spawned.map_err(|source| SpawnError { name, source })?;
        state.admit(number);
        Ok(())
    }

    fn begin_shutdown(&self) {
        self.lock().begin_shutdown();
        self.not_empty.notify_all();
    }

    /// Gives up the lock, and wakes a waiting thread if there is one that has not been woken.
    fn wake_one(&self, mut state: MutexGuard<'_, PoolState<W>>) {
        let wakes = state.wakes_one();
        drop(state);
        if wakes {
            self.not_empty.notify_one();
        }
    }

    fn thread_name(&self, number: usize) -> String {
        format!("{} tp {number:03}", self.name)
    }

    fn lock(&self) -> MutexGuard<'_, PoolState<W>> {
        // No work runs under the lock and each rule changes the state where it can no longer fail, so the
        // state is whole even if a thread panicked here (out of memory, say).
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        condvar: &Condvar,
        state: MutexGuard<'a, PoolState<W>>,
    ) -> MutexGuard<'a, PoolState<W>> {
        condvar.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a panic said, if it said it in words.
fn message(payload: Box<dyn Any + Send>) -> String {
    let payload = match payload.downcast::<String>() {
        Ok(text) => return *text,
        Err(payload) => payload,
    };
    match payload.downcast::<&str>() {
        Ok(text) => (*text).to_owned(),
        Err(payload) => {
            // The end of a value of whatever type may panic in turn, and would take the thread along.
            mem::forget(payload);
            "(no message)".to_owned()
        }
    }
}
