//! Models `Puma::ThreadPool` (Puma 8): a list of work called todo, and between
//! `min` and `max` threads that take from it, oldest first.
//!
//! It is Puma's own shape, one mutex around all that is known, with one method
//! of [`State`] per rule. That is what keeps a job from waiting behind nobody: a push
//! compares `waiting` with `todo.len()` under the mutex, and a thread that was
//! woken but has not run yet is still in `waiting`, but so is its job in `todo`.
//! A pool that counts its idle threads outside the lock takes that thread for a
//! free one and hands it a second job.
//!
//! No wait inside has a time limit; [`ThreadPool::shutdown`] alone measures
//! time, from outside. The pool knows no HTTP. Not modelled: reaping dead threads (a
//! panic in the work is caught, so a thread here cannot die), out-of-band hooks,
//! and `wait_until_not_full`.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, thread};
use crate::timeline::{Subject, Timeline, What};

/// What the pool is given to do.
pub trait Work: Send + 'static {
    /// Which request this is, for the timeline. Asked once, at the push.
    fn subject(&self) -> Subject;
}

/// How many threads, and what they are called.
#[derive(Debug, Clone)]
pub struct Options {
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
    shared: Arc<Shared<W>>,
    /// Never carries anything; disconnected when the last thread has left during a shutdown.
    all_left: Receiver<Infallible>,
}

/// The pool thread that a piece of work runs on, seen from that work.
pub struct Processor<W: Work> {
    shared: Arc<Shared<W>>,
    number: usize,
    /// Which work this handle was given to: a number is used again, a serial is not.
    serial: u64,
}

/// All the numbers, copied at one moment. Models `Puma::ThreadPool#stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
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
    pub max_threads: usize,
    /// Threads with nothing to do.
    pub waiting: usize,
}

/// One pool thread, as [`ThreadPool::processors`] saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessorView {
    /// Counts from 1; the lowest free number goes to the next thread.
    pub number: usize,
    /// The name of the thread, as the operating system shows it.
    pub name: String,
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
    Abandoned { threads: usize },
}

/// The pool is shutting down; here is the work back.
#[derive(thiserror::Error)]
#[error("the thread pool takes no work while it is shutting down")]
pub struct ShuttingDown<W>(pub W);

/// These numbers make no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pool of {min} to {max} threads cannot be: it takes 1 or more at most, and no more at least than at most"
)]
pub struct BadSize {
    pub min: usize,
    pub max: usize,
}

/// Why a pool did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    BadSize(#[from] BadSize),
    #[error("the system refused thread {number} of the {min} to start with: {source}")]
    Thread { number: usize, min: usize, source: io::Error },
}

type Process<W> = dyn Fn(W, &Processor<W>) + Send + Sync;

/// What the pool, its threads and the handles given to the work have in common.
struct Shared<W: Work> {
    name: String,
    process: Box<Process<W>>,
    state: Mutex<State<W>>,
    /// A thread may find work in todo, or should leave.
    not_empty: Condvar,
    /// A thread has begun to wait. Puma's acceptor listens here too; ours does only at the start.
    not_full: Condvar,
}

struct State<W> {
    min: usize,
    max: usize,
    max_io: usize,
    todo: VecDeque<(Subject, W)>,
    backlog_max: usize,
    /// Threads inside the wait for `not_empty`, those that were woken and have not got the lock yet included.
    waiting: usize,
    trim_requested: usize,
    /// By number. Puma numbers a thread by the count of threads at its birth, so after a trim two may share
    /// one; a lane of the timeline needs a number that is one thread's alone, so the lowest free one is taken.
    processors: BTreeMap<usize, ProcessorThread>,
    /// Threads that a shutdown has given up on, and that are still at work.
    abandoned: usize,
    works_started: u64,
    starting: bool,
    shutdown: bool,
    /// Given up when the last thread leaves during a shutdown.
    somebody_here: Option<Sender<Infallible>>,
    timeline: Arc<Timeline>,
}

#[derive(Debug, Clone, Copy)]
struct ProcessorThread {
    io_bound: bool,
    running: Option<Subject>,
    /// The serial of the work that it runs, or ran last.
    serial: u64,
    since: Instant,
}

impl<W: Work> ThreadPool<W> {
    /// Starts `min` threads that will call `process` for every work. Models `#initialize`.
    ///
    /// Blocks until all of them are idle. If the system refuses one, those already there leave again.
    pub fn start(
        options: Options,
        timeline: Arc<Timeline>,
        process: impl Fn(W, &Processor<W>) + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        let Options { name, min, max, max_io } = options;
        let (somebody_here, all_left) = crossbeam_channel::bounded(0);
        let mut state = State::new(max_io, timeline, somebody_here);
        state.resize(min, max)?;
        let (not_empty, not_full) = (Condvar::new(), Condvar::new());
        let process: Box<Process<W>> = Box::new(process);
        let shared = Arc::new(Shared { name, process, state: Mutex::new(state), not_empty, not_full });
        let pool = ThreadPool { shared, all_left };

        let mut state = pool.shared.lock();
        for number in 1..=min {
            if let Err(source) = pool.shared.spawn_thread(&mut state) {
                drop(state);
                return Err(StartError::Thread { number, min, source });
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
        let spawned = self.shared.spawn_thread_if_needed(&mut state);
        self.shared.wake_one(state);
        self.shared.log_refused(spawned);
        Ok(())
    }

    /// Asks one thread to leave if more than `min` are there and one is free, or if `force`, whether or not
    /// one is free: then the first that finds todo empty goes. Models `#trim`; does not wait for the thread.
    pub fn trim(&self, force: bool) {
        let mut state = self.shared.lock();
        if state.trim(force) {
            self.shared.wake_one(state);
        }
    }

    /// Sets the least and the most number of threads, and nothing else: growth shows at the next push,
    /// shrinking needs [`trim`](Self::trim). Models `update_thread_pool_min_max`.
    pub fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        self.shared.lock().resize(min, max)
    }

    /// The least and the most number of threads in force.
    pub fn size(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.min, state.max)
    }

    /// All the numbers of one moment; begins a new `backlog_max`.
    pub fn stats(&self) -> Stats {
        self.shared.lock().stats()
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
    /// served. Then what is left in todo is dropped, here on the calling thread, and the threads at work have
    /// `grace` to finish. Puma kills who is left then; a thread of ours cannot be killed, so it is abandoned:
    /// no longer counted or shown, but there until its work ends.
    ///
    /// A second call waits for those still there, the abandoned included, and answers for them alone.
    pub fn shutdown(&self, timeout: Option<Duration>, grace: Duration) -> Shutdown {
        self.shared.begin_shutdown();
        if self.wait_until_all_left(timeout) {
            return Shutdown::Drained;
        }
        // The end of a work may block or call the pool, so it must not happen under the lock.
        let unserved = mem::take(&mut self.shared.lock().todo);
        drop(unserved);
        if self.wait_until_all_left(Some(grace)) {
            return Shutdown::Forced;
        }
        self.shared.lock().abandon()
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

    /// Says that this work mostly waits, so its thread does not count against `max` until the work ends, as
    /// long as no more than `max_io` are so marked; starts a thread at once if todo has something for it.
    /// Marking twice, or after the work has ended, does nothing. Models `mark_as_io_thread!`; does not block.
    pub fn mark_as_io_bound(&self) {
        let mut state = self.shared.lock();
        if state.mark_as_io_bound(self.number, self.serial) {
            let spawned = self.shared.spawn_thread_if_needed(&mut state);
            drop(state);
            self.shared.log_refused(spawned);
        }
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

impl<W: Work> Shared<W> {
    /// What a pool thread does from its birth to its end. Models the block in `#spawn_thread`.
    fn run(self: Arc<Self>, number: usize) {
        let mut ended = None;
        while let Some((subject, work, serial)) = self.next(number, ended) {
            let processor = Processor { shared: Arc::clone(&self), number, serial };
            let panic = catch_unwind(AssertUnwindSafe(|| (self.process)(work, &processor))).err();
            let panic = panic.map(|payload| message(&*payload));
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
            state.waiting += 1;
            if state.starting {
                self.not_full.notify_one();
            }
            state = self.wait(&self.not_empty, state);
            state.waiting -= 1;
        }
        state.take(number)
    }

    fn spawn_thread_if_needed(self: &Arc<Self>, state: &mut State<W>) -> io::Result<()> {
        if state.needs_thread() { self.spawn_thread(state) } else { Ok(()) }
    }

    /// The thread is counted when it is there, not before, so that a refused one leaves nothing to undo. It
    /// cannot be early either: the first thing it wants is the lock that the caller holds.
    fn spawn_thread(self: &Arc<Self>, state: &mut State<W>) -> io::Result<()> {
        let number = state.lowest_free_number();
        let shared = Arc::clone(self);
        thread::Builder::new().name(self.thread_name(number)).spawn(move || shared.run(number))?;
        state.admit(number);
        Ok(())
    }

    fn begin_shutdown(&self) {
        self.lock().begin_shutdown();
        self.not_empty.notify_all();
    }

    /// Gives up the lock, and wakes a waiting thread if there is one: waking nobody costs a system call too.
    fn wake_one(&self, state: MutexGuard<'_, State<W>>) {
        let somebody_waits = state.waiting > 0;
        drop(state);
        if somebody_waits {
            self.not_empty.notify_one();
        }
    }

    fn log_refused(&self, spawned: io::Result<()>) {
        if let Err(error) = spawned {
            log::error!("{}: the system refused one more thread, work waits in todo: {error}", self.name);
        }
    }

    fn thread_name(&self, number: usize) -> String {
        format!("{} tp {number:03}", self.name)
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        // No work runs under the lock and each rule changes the state where it can no longer fail, so the
        // state is whole even if a thread panicked here (out of memory, say).
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, condvar: &Condvar, state: MutexGuard<'a, State<W>>) -> MutexGuard<'a, State<W>> {
        condvar.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rules.
impl<W> State<W> {
    fn new(max_io: usize, timeline: Arc<Timeline>, somebody_here: Sender<Infallible>) -> Self {
        State {
            min: 0,
            max: 0,
            max_io,
            todo: VecDeque::new(),
            backlog_max: 0,
            waiting: 0,
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

    fn queue(&mut self, subject: Subject, work: W) {
        self.timeline.record(None, Some(subject), What::Queued);
        self.todo.push_back((subject, work));
        self.backlog_max = self.backlog_max.max(self.todo.len());
    }

    fn needs_thread(&self) -> bool {
        self.waiting < self.todo.len() && self.can_spawn_processor()
    }

    /// IO-bound threads do not count, but those beyond the quota do.
    fn can_spawn_processor(&self) -> bool {
        let io = self.io_threads();
        let extra_io = io.saturating_sub(self.max_io);
        self.spawned() - io + extra_io < self.max
    }

    fn lowest_free_number(&self) -> usize {
        // The numbers are in order, so the first that is not where it would be without a gap is the gap.
        let taken = (1..).zip(self.processors.keys()).take_while(|(at, number)| at == *number).count();
        taken + 1
    }

    fn admit(&mut self, number: usize) {
        self.timeline.record(Some(number), None, What::Spawned);
        let thread = ProcessorThread { io_bound: false, running: None, serial: 0, since: Instant::now() };
        self.processors.insert(number, thread);
    }

    fn take(&mut self, number: usize) -> Option<(Subject, W, u64)> {
        let (subject, work) = self.todo.pop_front()?;
        self.works_started += 1;
        if let Some(thread) = self.processors.get_mut(&number) {
            thread.running = Some(subject);
            thread.serial = self.works_started;
            thread.since = Instant::now();
        }
        self.timeline.record(Some(number), Some(subject), What::Started);
        Some((subject, work, self.works_started))
    }

    fn finish(&mut self, number: usize, subject: Subject, panic: Option<String>) {
        if let Some(message) = panic {
            self.timeline.record(Some(number), Some(subject), What::Panicked { message });
        }
        self.timeline.record(Some(number), Some(subject), What::Finished);
        if let Some(thread) = self.processors.get_mut(&number) {
            thread.running = None;
            thread.since = Instant::now();
        }
    }

    /// Whether the mark is new, on a work that still runs.
    fn mark_as_io_bound(&mut self, number: usize, serial: u64) -> bool {
        let thread = self.processors.get_mut(&number).filter(|thread| thread.serial == serial);
        let Some(ProcessorThread { io_bound: io_bound @ false, running: Some(subject), .. }) = thread else {
            return false;
        };
        *io_bound = true;
        self.timeline.record(Some(number), Some(*subject), What::MarkedIoBound);
        true
    }

    /// A marked thread is a normal one again when its work has ended, unless `max` normal ones are there.
    fn leaves_as_extra_io_thread(&mut self, number: usize) -> bool {
        let normal = self.spawned() - self.io_threads();
        match self.processors.get_mut(&number) {
            Some(thread) if thread.io_bound && normal >= self.max => {
                self.leave(number);
                true
            }
            Some(thread) => {
                thread.io_bound = false;
                false
            }
            None => false,
        }
    }

    /// Puma has the request to trim alone decide, and asks for as many as there are when a shutdown begins;
    /// a thread that a mark starts after that would never be asked. So the shutdown counts by itself.
    fn leaves_when_idle(&mut self, number: usize) -> bool {
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
    fn trim(&mut self, force: bool) -> bool {
        let one_is_free = self.waiting > self.todo.len();
        let asked = (force || one_is_free) && self.spawned() > self.min + self.trim_requested;
        self.trim_requested += usize::from(asked);
        asked
    }

    fn resize(&mut self, min: usize, max: usize) -> Result<(), BadSize> {
        if min > max || max < 1 {
            return Err(BadSize { min, max });
        }
        (self.min, self.max) = (min, max);
        Ok(())
    }

    fn stats(&mut self) -> Stats {
        let (backlog, running, waiting) = (self.todo.len(), self.spawned(), self.waiting);
        Stats {
            backlog,
            running,
            pool_capacity: (waiting + self.max).saturating_sub(running),
            // An abandoned thread may be in `waiting` for a moment, and no longer in `running`.
            busy_threads: (running + backlog).saturating_sub(waiting),
            io_threads: self.io_threads(),
            backlog_max: mem::take(&mut self.backlog_max),
            max_threads: self.max,
            waiting,
        }
    }

    fn begin_shutdown(&mut self) {
        self.shutdown = true;
        self.trim_requested = self.spawned();
        self.tell_if_all_left();
    }

    fn abandon(&mut self) -> Shutdown {
        self.abandoned += self.spawned();
        self.processors.clear();
        match self.abandoned {
            0 => Shutdown::Forced,
            threads => Shutdown::Abandoned { threads },
        }
    }

    fn tell_if_all_left(&mut self) {
        if self.shutdown && self.processors.is_empty() && self.abandoned == 0 {
            self.somebody_here = None;
        }
    }
}

/// What a panic said, if it said it in words.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)").to_owned()
}
