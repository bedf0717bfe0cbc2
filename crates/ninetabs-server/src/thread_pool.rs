//! Models `Puma::ThreadPool` (Puma 8): a queue of work called `todo`, and between `min` and `max` threads that take
//! work from it, oldest first.
//!
//! As in Puma, one mutex protects the whole state. The state and its rules are in `pool_state.rs`. This file contains
//! the lock, the threads and the waits. Waits inside the pool are not limited in time. Only [`ThreadPool::shutdown`]
//! measures time, outside the lock.
//!
//! The pool is independent of HTTP. It does not model the reaping of dead threads (a panic in the work is caught, so
//! threads do not die), out-of-band hooks, or `wait_until_not_full`.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

pub use super::pool_state::{BadSize, PoolSize, PoolStats, Trim};
use super::pool_state::{PoolState, ProcessorThread};
use super::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, thread};
use crate::log_limit::limited;
use crate::threads::SpawnError;
use crate::timeline::{Subject, Timeline};

/// A piece of work for a pool.
pub trait Work: Send + 'static {
    /// Returns the subject under which the timeline records this work. Called once, when the work is pushed.
    fn subject(&self) -> Subject;
}

/// The size of a pool and the name of its threads.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// The prefix of the thread names. In Puma it is `puma srv`, so the third thread is `puma srv tp 003`.
    pub name: String,
    /// The minimum number of threads. [`ThreadPool::start`] starts this many, and [`ThreadPool::trim`] does not end
    /// them.
    pub min: usize,
    /// The maximum number of threads, not counting IO-bound ones.
    pub max: usize,
    /// The maximum number of IO-bound threads that do not count toward `max`.
    pub max_io: usize,
}

/// The pool. When it is dropped, the threads process the work left in `todo` and then end. The drop does not wait for
/// them.
pub struct ThreadPool<W: Work> {
    shared: Arc<SharedPool<W>>,
    /// Carries no values. Disconnected when the last thread has ended during a shutdown.
    all_left: Receiver<Infallible>,
}

/// A handle to the pool thread that runs a piece of work. It is passed to that work.
pub struct Processor<W: Work> {
    shared: Arc<SharedPool<W>>,
    number: usize,
    /// The serial number of the work that received this handle. Unlike a thread number, it is never reused.
    serial: u64,
}

/// A snapshot of one pool thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessorView {
    /// The thread's number, counted from 1. A new thread gets the lowest free number.
    pub number: usize,
    /// The name of the thread, as shown by the operating system.
    pub name: String,
    /// Whether the thread is marked IO-bound.
    pub io_bound: bool,
    /// The request that the thread is working on, if any.
    pub running: Option<Subject>,
}

/// How a shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// All work in `todo` was done, and all threads ended within the timeout.
    Drained,
    /// The work left in `todo` was not done, because the timeout expired or the system could not start a thread. All
    /// threads then ended within the grace period.
    Forced,
    /// Some threads were still busy after the grace period, and were abandoned.
    Abandoned {
        /// The number of these threads.
        threads: usize,
    },
}

/// The error if work is pushed during a shutdown. It contains the work.
#[derive(thiserror::Error)]
#[error("the thread pool does not accept work while it is shutting down")]
pub struct ShuttingDown<W>(pub W);

/// Why a pool could not be started.
#[derive(Debug, thiserror::Error)]
pub enum PoolStartError {
    /// The size is invalid.
    #[error(transparent)]
    BadSize(#[from] BadSize),
    /// The system could not start a thread.
    #[error(transparent)]
    Thread(#[from] SpawnError),
}

type ProcessWork<W> = dyn Fn(W, &Processor<W>) + Send + Sync;

/// The state that the pool, its threads and the handles share.
struct SharedPool<W: Work> {
    name: String,
    process: Box<ProcessWork<W>>,
    state: Mutex<PoolState<W>>,
    /// Notified when there may be work in `todo`, or when a thread has to end.
    not_empty: Condvar,
    /// Notified during `start` when a thread has begun to wait. In Puma the acceptor waits for this as well.
    not_full: Condvar,
}

impl<W: Work> ThreadPool<W> {
    /// Starts `min` threads, which call `process` for each piece of work. Models `#initialize`.
    ///
    /// Blocks until all of them are idle. If the system cannot start one, the threads that have started end again.
    pub fn start(
        options: PoolOptions,
        timeline: Arc<Timeline>,
        process: impl Fn(W, &Processor<W>) + Send + Sync + 'static,
    ) -> Result<Self, PoolStartError> {
        let PoolOptions { name, min, max, max_io } = options;
        let (threads_left, all_left) = crossbeam_channel::bounded(0);
        let state = PoolState::new(PoolSize::new(min, max)?, max_io, timeline, threads_left);
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

    /// Appends `work` to `todo`, and starts a thread if none is free for it. Models `#<<`.
    ///
    /// Does not block. If the system cannot start the thread, the error is logged, and the work stays in `todo` for the
    /// next thread that is free or started.
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

    /// Asks one thread to end if there are more than `min`. Models `#trim`. Does not wait for the thread.
    pub fn trim(&self, trim: Trim) {
        let mut state = self.shared.lock();
        if state.trim(trim) {
            self.shared.wake_one(state);
        }
    }

    /// Starts threads until the minimum is reached. Puma starts them at the next pushes instead.
    ///
    /// If the system cannot start one, the error is logged, and the next pushes start the missing threads.
    pub fn fill(&self) {
        let mut state = self.shared.lock();
        while !state.shutdown && state.is_below_min() {
            if let Err(error) = self.shared.spawn_thread(&mut state) {
                drop(state);
                return log::error!("{error}");
            }
        }
    }

    /// Sets the minimum and maximum number of threads. Models `update_thread_pool_min_max`: this neither starts nor
    /// ends a thread. Pushes, marks and [`fill`](Self::fill) start threads, and [`trim`](Self::trim) ends them.
    pub fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        let size = PoolSize::new(min, max)?;
        self.shared.lock().resize(size);
        Ok(())
    }

    /// Returns the current size limits.
    pub fn size(&self) -> PoolSize {
        self.shared.lock().size
    }

    /// Calls `look` with each of the first `most` pieces of work in `todo`, and returns the results. `look` is called
    /// under the pool's lock, so it must not make system calls.
    pub fn look_at_todo<T>(&self, most: usize, look: impl FnMut(&W) -> Option<T>) -> Vec<T> {
        self.shared.lock().todo.iter().take(most).map(|(_, work)| work).filter_map(look).collect()
    }

    /// Removes a piece of work from `todo`, if no thread has taken it yet.
    pub fn take_from_todo(&self, subject: Subject) -> Option<W> {
        self.shared.lock().withdraw(subject)
    }

    /// Returns the statistics, all from the same moment, and resets `backlog_max`.
    pub fn stats(&self) -> PoolStats {
        self.shared.lock().stats()
    }

    /// Like [`stats`](Self::stats), without resetting `backlog_max`.
    pub fn glance(&self) -> PoolStats {
        self.shared.lock().glance()
    }

    /// Returns the threads, ordered by number.
    pub fn processors(&self) -> Vec<ProcessorView> {
        let processors = self.shared.lock().processors.clone();
        let view = |(number, thread): (usize, ProcessorThread)| {
            let ProcessorThread { io_bound, running, .. } = thread;
            ProcessorView { number, name: self.shared.thread_name(number), io_bound, running }
        };
        processors.into_iter().map(view).collect()
    }

    /// Shuts the pool down. Models `#shutdown`.
    ///
    /// Blocks until the last thread has ended, but for at most `timeout` (`None`: no limit). Meanwhile the threads
    /// process the work in `todo`. After that, the work left in `todo` is passed to `unserved` on the calling
    /// thread, and busy threads get the grace period `grace` to finish. Puma then kills the remaining threads. Here a
    /// thread cannot be killed, so it is abandoned: it is no longer counted or listed, but exists until its work ends.
    ///
    /// A second call waits for the remaining threads, including abandoned ones, and its result describes only these.
    pub fn shutdown_with(
        &self,
        timeout: Option<Duration>,
        grace: Duration,
        unserved: impl Fn(W),
    ) -> Shutdown {
        self.shared.begin_shutdown();
        let all_left = self.wait_until_all_left(timeout);
        // Dropping work may block or call the pool, so it must not happen under the lock.
        let left = mem::take(&mut self.shared.lock().todo);
        if all_left && left.is_empty() {
            return Shutdown::Drained;
        }
        left.into_iter().for_each(|(_, work)| unserved(work));
        if self.wait_until_all_left(Some(grace)) {
            return Shutdown::Forced;
        }
        match self.shared.lock().abandon() {
            0 => Shutdown::Forced,
            threads => Shutdown::Abandoned { threads },
        }
    }

    /// Like [`shutdown_with`](Self::shutdown_with), but drops the work left in `todo`.
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
    /// Returns the thread's number, as shown by [`ThreadPool::processors`] and the timeline.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns whether this thread may continue with the next request of its connection, because another thread is free
    /// for new work. If so, the timeline and [`ThreadPool::processors`] then show that request.
    pub fn goes_on_with(&self, next: Subject) -> bool {
        self.shared.lock().goes_on_with(self.number, next)
    }

    /// Returns a handle that marks this thread as IO-bound, whatever the kind of work. Does not allocate.
    pub(crate) fn io_bound_mark(&self) -> IoBoundMark {
        IoBoundMark {
            pool: Arc::clone(&self.shared) as Arc<dyn MarksIoBound>,
            number: self.number,
            serial: self.serial,
        }
    }

    /// Marks this work as IO-bound: until it ends, its thread does not count toward `max`, provided that at most
    /// `max_io` threads are marked. Immediately starts a thread if there is work for it in `todo`. Does nothing if the
    /// work is already marked or has ended. Does not block. Models `mark_as_io_thread!`.
    pub fn mark_as_io_bound(&self) {
        self.shared.mark_as_io_bound(self.number, self.serial);
    }
}

/// Marks the thread of one piece of work as IO-bound, whatever the kind of work.
pub(crate) struct IoBoundMark {
    pool: Arc<dyn MarksIoBound>,
    number: usize,
    serial: u64,
}

impl IoBoundMark {
    /// Like [`Processor::mark_as_io_bound`].
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
    /// Processes work on one pool thread until the thread ends. Models the block in `#spawn_thread`.
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

    /// Records the end of the previous work. Then blocks until there is work for the thread, or until it has to end.
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

    /// Starts a thread if one is needed, releases the lock, and wakes a thread if one is waiting. A thread that wakes
    /// because of a mark may find nothing to do, and then waits again.
    fn spawn_thread_if_needed(self: &Arc<Self>, mut state: MutexGuard<'_, PoolState<W>>) {
        let spawned = if state.needs_thread() { self.spawn_thread(&mut state) } else { Ok(()) };
        self.wake_one(state);
        if let Err(error) = spawned {
            limited!(Error, "{error}; work stays queued");
        }
    }

    /// Starts a thread. It is counted only after the system has started it, so a failure leaves nothing to undo. It
    /// cannot run before it is counted, because it first needs the lock that the caller holds.
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

    /// Releases the lock, and notifies a waiting thread if there is one that has not been notified.
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
        // No work runs under the lock, and each rule changes the state only after its last step that can fail. The
        // state is therefore consistent even if a thread panics here, for example because memory runs out.
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

/// The message of a panic, if its payload is text.
fn message(payload: Box<dyn Any + Send>) -> String {
    let payload = match payload.downcast::<String>() {
        Ok(text) => return *text,
        Err(payload) => payload,
    };
    match payload.downcast::<&str>() {
        Ok(text) => (*text).to_owned(),
        Err(payload) => {
            // Dropping a payload of an unknown type may panic as well, which would end the thread.
            mem::forget(payload);
            "(no message)".to_owned()
        }
    }
}
