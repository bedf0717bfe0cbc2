//! The thread pool against a model of Puma's rules.
//!
//! The model is written a second time here, in counters that change one after the
//! other; the pool has real threads. Random sequences of operations go to both.
//! Work blocks until it is told to end, so after every operation there is one state
//! that the pool must come to rest in, and the test waits for it, with a limit far
//! beyond what a slow machine needs. Below the property stand Puma's own observed
//! numbers as tables, and what only threads can show: panics and shutdowns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ninetabs::puma::thread_pool::{
    BadSize, Options, Processor, Shutdown, ShuttingDown, StartError, Stats, ThreadPool, Work,
};
use ninetabs::timeline::{Moment, Subject, Timeline, What};
use proptest::prelude::*;

/// Longer than any machine needs; only a failing test waits for it.
const LIMIT: Duration = Duration::from_secs(20);

/// Puma's rules, without threads.
#[derive(Debug, Clone, Default)]
struct Model {
    min: usize,
    max: usize,
    max_io: usize,
    spawned: usize,
    waiting: usize,
    trim_requested: usize,
    shutdown: bool,
    backlog_max: usize,
    todo: VecDeque<u64>,
    /// Work that a thread is at, and whether that thread is marked.
    running: BTreeMap<u64, bool>,
    started: Vec<u64>,
    /// Handed back or dropped.
    unserved: BTreeSet<u64>,
}

impl Model {
    fn new(min: usize, max: usize, max_io: usize) -> Model {
        Model { min, max, max_io, spawned: min, waiting: min, ..Model::default() }
    }

    fn marked(&self) -> usize {
        self.running.values().filter(|marked| **marked).count()
    }

    fn spawn_if_needed(&mut self) {
        let beyond_quota = self.marked().saturating_sub(self.max_io);
        let counted = self.spawned - self.marked();
        if self.waiting < self.todo.len() && counted + beyond_quota < self.max {
            self.spawned += 1;
            self.work_or_wait();
        }
    }

    /// A thread stands before todo: it takes the oldest, leaves, or waits.
    fn work_or_wait(&mut self) {
        if let Some(job) = self.todo.pop_front() {
            self.running.insert(job, false);
            self.started.push(job);
        } else if self.trim_requested > 0 || self.shutdown {
            self.trim_requested = self.trim_requested.saturating_sub(1);
            self.spawned -= 1;
        } else {
            self.waiting += 1;
        }
    }

    fn wake_one(&mut self) {
        if self.waiting > 0 {
            self.waiting -= 1;
            self.work_or_wait();
        }
    }

    fn push(&mut self, job: u64) {
        if self.shutdown {
            self.unserved.insert(job);
            return;
        }
        self.todo.push_back(job);
        self.backlog_max = self.backlog_max.max(self.todo.len());
        self.spawn_if_needed();
        self.wake_one();
    }

    fn end(&mut self, job: u64) {
        let unmarked = self.spawned - self.marked();
        if self.running.remove(&job) == Some(true) && unmarked >= self.max {
            self.spawned -= 1;
        } else {
            self.work_or_wait();
        }
    }

    fn mark(&mut self, job: u64) {
        if self.running.insert(job, true) == Some(false) {
            self.spawn_if_needed();
        }
    }

    fn trim(&mut self, force: bool) {
        let free = self.waiting as i64 - self.todo.len() as i64;
        if (force || free > 0) && self.spawned as i64 - self.trim_requested as i64 > self.min as i64 {
            self.trim_requested += 1;
            self.wake_one();
        }
    }

    fn resize(&mut self, min: usize, max: usize) -> Result<(), BadSize> {
        if max == 0 || min > max {
            return Err(BadSize { min, max });
        }
        self.min = min;
        self.max = max;
        Ok(())
    }

    fn shut_down(&mut self, force: bool) {
        self.shutdown = true;
        self.trim_requested = self.spawned;
        while self.waiting > 0 {
            self.wake_one();
        }
        if force {
            self.unserved.extend(self.todo.drain(..));
        }
    }

    /// The numbers at rest; a new `backlog_max` begins.
    fn stats(&mut self) -> Stats {
        let capacity = self.waiting as i64 + self.max as i64 - self.spawned as i64;
        Stats {
            backlog: self.todo.len(),
            running: self.spawned,
            pool_capacity: capacity.max(0) as usize,
            busy_threads: self.spawned - self.waiting + self.todo.len(),
            io_threads: self.marked(),
            backlog_max: std::mem::take(&mut self.backlog_max),
            max_threads: self.max,
            waiting: self.waiting,
        }
    }
}

/// Work that ends when it is told how.
struct Job {
    id: u64,
    end: Receiver<End>,
    served: bool,
    log: Arc<Log>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Return,
    Panic,
}

/// What the jobs themselves saw.
#[derive(Default)]
struct Log {
    started: Mutex<Vec<(u64, Processor<Job>)>>,
    unserved: Mutex<BTreeSet<u64>>,
}

impl Work for Job {
    fn subject(&self) -> Subject {
        Subject { connection: 1, request: self.id }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.served {
            lock(&self.log.unserved).insert(self.id);
        }
    }
}

fn process(mut job: Job, processor: &Processor<Job>) {
    job.served = true;
    lock(&job.log.started).push((job.id, processor.clone()));
    match job.end.recv() {
        // This way no line about a panic is printed, thousands of times.
        Ok(End::Panic) => resume_unwind(Box::new(format!("job {}", job.id))),
        Ok(End::Return) | Err(_) => {}
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pool and its model, side by side.
struct Pair {
    pool: Arc<ThreadPool<Job>>,
    timeline: Arc<Timeline>,
    model: Model,
    log: Arc<Log>,
    ends: BTreeMap<u64, Sender<End>>,
    pushed: u64,
    /// What the timeline has said was started, and how far it has been read.
    started: Vec<u64>,
    read: u64,
    shutdown: Option<(JoinHandle<Shutdown>, Vec<Shutdown>)>,
}

impl Pair {
    fn new(min: usize, max: usize, max_io: usize) -> Pair {
        let timeline = Arc::new(Timeline::default());
        let options = Options { name: "puma srv".to_owned(), min, max, max_io };
        let pool = Arc::new(ThreadPool::start(options, Arc::clone(&timeline), process).unwrap());
        // No waiting for rest here: a pool that has started is at rest.
        let model = Model::new(min, max, max_io);
        assert_eq!(pool.stats(), model.clone().stats());
        let (log, ends) = (Arc::default(), BTreeMap::new());
        Pair { pool, timeline, model, log, ends, pushed: 0, started: Vec::new(), read: 0, shutdown: None }
    }

    /// Pushes so many at once: the pool may still be waking threads for one when the next comes.
    fn push(&mut self, jobs: usize) {
        let backlog = self.model.todo.len();
        for _ in 0..jobs {
            let refused = self.try_push().is_err();
            assert_eq!(refused, self.model.shutdown);
            self.model.push(self.pushed);
        }
        self.rest_with(if self.model.shutdown { 0 } else { backlog + jobs });
    }

    fn end(&mut self, job: u64, end: End) {
        self.ends[&job].send(end).unwrap();
        self.model.end(job);
        self.rest();
    }

    /// Marks a job that runs; one that has ended takes no mark.
    fn mark(&mut self, job: u64) {
        let processor = lock(&self.log.started).iter().find(|(id, _)| *id == job).unwrap().1.clone();
        processor.mark_as_io_bound();
        if self.model.running.contains_key(&job) {
            self.model.mark(job);
        }
        self.rest();
    }

    fn trim(&mut self, force: bool) {
        self.pool.trim(force);
        self.model.trim(force);
        self.rest();
    }

    fn resize(&mut self, min: usize, max: usize) {
        assert_eq!(self.pool.resize(min, max), self.model.resize(min, max));
        assert_eq!(self.pool.size(), (self.model.min, self.model.max));
        self.rest();
    }

    /// Begins a shutdown on a thread of its own, since it blocks while jobs run.
    fn shut_down(&mut self, force: bool) {
        if self.shutdown.is_some() {
            return;
        }
        // A force that finds neither an idle thread nor a queued job would leave no trace to wait for.
        let force = force && (self.model.waiting > 0 || !self.model.todo.is_empty());
        let pool = Arc::clone(&self.pool);
        let timeout = force.then_some(Duration::ZERO);
        let (about_to, begun) = bounded(0);
        let shutdown = thread::spawn(move || {
            about_to.send(()).unwrap();
            pool.shutdown(timeout, LIMIT * 6)
        });
        begun.recv().unwrap();
        // A polite one without an idle thread shows only in a push that is refused.
        if !force && self.model.waiting == 0 {
            while self.try_push().is_ok() {
                self.model.push(self.pushed);
                self.rest();
            }
            self.model.unserved.insert(self.pushed);
        }
        let due = match (force, self.model.todo.len()) {
            (false, _) => vec![Shutdown::Drained],
            // That the queued jobs are dropped shows that the timeout is over.
            (true, 1..) => vec![Shutdown::Forced],
            // Threads that leave at once may be too late or not, where the timeout is no time at all.
            (true, 0) => vec![Shutdown::Drained, Shutdown::Forced],
        };
        self.shutdown = Some((shutdown, due));
        self.model.shut_down(force);
        self.rest();
    }

    fn try_push(&mut self) -> Result<(), ShuttingDown<Job>> {
        self.pushed += 1;
        let (id, log) = (self.pushed, Arc::clone(&self.log));
        let (sender, end) = bounded(1);
        self.ends.insert(id, sender);
        self.pool.push(Job { id, end, served: false, log })
    }

    /// Waits until the pool is where the model is.
    fn rest(&mut self) {
        self.rest_with(0);
    }

    /// The same, where todo may for a moment have been longer than the model's, whose threads are quicker.
    fn rest_with(&mut self, backlog_max_at_most: usize) {
        let due = self.model.stats();
        let mut backlog_max = 0;
        let began = Instant::now();
        loop {
            let stats = self.pool.stats();
            backlog_max = backlog_max.max(stats.backlog_max);
            let stats = Stats { backlog_max: due.backlog_max, ..stats };
            if stats == due && self.the_jobs_agree() {
                assert!((due.backlog_max..=backlog_max_at_most.max(due.backlog_max)).contains(&backlog_max));
                return;
            }
            assert!(
                began.elapsed() < LIMIT,
                "the pool stays at {stats:?}, running {:?}, started {:?}, unserved {:?}; due is {due:?} of {:?}",
                self.seen_running(),
                self.started,
                lock(&self.log.unserved),
                self.model,
            );
            thread::yield_now();
        }
    }

    fn the_jobs_agree(&mut self) -> bool {
        self.read_started();
        self.started == self.model.started
            && self.seen_running() == self.model.running
            && *lock(&self.log.unserved) == self.model.unserved
            // A job leaves its handle a moment after the pool has started it.
            && lock(&self.log.started).len() == self.started.len()
    }

    /// The order in which jobs left todo; the jobs themselves cannot say it.
    fn read_started(&mut self) {
        for moment in self.timeline.after(self.read).moments {
            self.read = moment.seq;
            self.started.extend(moment.subject.filter(|_| moment.what == What::Started).map(|it| it.request));
        }
    }

    fn seen_running(&self) -> BTreeMap<u64, bool> {
        let processors = self.pool.processors();
        assert!(processors.windows(2).all(|two| two[0].number < two[1].number));
        assert!(processors.iter().all(|one| one.name == format!("puma srv tp {:03}", one.number)));
        processors.iter().filter_map(|one| Some((one.running?.request, one.io_bound))).collect()
    }

    /// Whether the job itself has begun.
    fn has_begun(&self, job: u64) -> bool {
        lock(&self.log.started).iter().any(|(id, _)| *id == job)
    }

    /// One of the jobs that run, as many as there are, by any number.
    fn pick_running(&self, any: usize) -> Option<u64> {
        let running = &self.model.running;
        running.keys().nth(any.checked_rem(running.len())?).copied()
    }

    fn pick_ended(&self, any: usize) -> Option<u64> {
        let model = &self.model;
        let ended = || model.started.iter().filter(|job| !model.running.contains_key(job));
        ended().nth(any.checked_rem(ended().count())?).copied()
    }

    fn act(&mut self, op: &Op) {
        match *op {
            Op::Push(jobs) => self.push(jobs),
            Op::End(any, end) => self.pick_running(any).into_iter().for_each(|job| self.end(job, end)),
            Op::Mark(any) => self.pick_running(any).into_iter().for_each(|job| self.mark(job)),
            Op::MarkEnded(any) => self.pick_ended(any).into_iter().for_each(|job| self.mark(job)),
            Op::Trim { force } => self.trim(force),
            Op::Resize(min, max) => self.resize(min, max),
            Op::Stats => assert_eq!(self.pool.stats(), self.model.stats()),
            Op::Shutdown { force } => self.shut_down(force),
        }
    }

    /// Ends what runs and shuts down, then looks back over the whole life of the pool.
    fn close(mut self) {
        self.shut_down(false);
        while let Some(job) = self.pick_running(0) {
            self.end(job, End::Return);
        }
        let (shutdown, due) = self.shutdown.take().unwrap();
        let answer = shutdown.join().unwrap();
        assert!(due.contains(&answer), "{answer:?}, not one of {due:?}");
        assert_eq!(self.pool.shutdown(None, Duration::ZERO), Shutdown::Drained, "the second time");

        let started: BTreeSet<u64> = self.model.started.iter().copied().collect();
        assert_eq!(started.len(), self.model.started.len(), "a job ran twice");
        assert!(started.is_disjoint(&self.model.unserved));
        assert_eq!(started.len() + self.model.unserved.len(), self.pushed as usize, "a job was lost");
        check_lanes(&self.timeline.after(0).moments);
    }
}

/// The timeline must tell the same story: on each lane a thread is born, does one thing at a time, and ends.
fn check_lanes(moments: &[Moment]) {
    let mut lanes: BTreeMap<usize, Option<Subject>> = BTreeMap::new();
    for moment in moments {
        let Some(number) = moment.thread else {
            assert_eq!(moment.what, What::Queued);
            continue;
        };
        let lane = lanes.get(&number).copied();
        match moment.what {
            What::Spawned => {
                assert_eq!(lane, None);
                assert!((1..number).all(|lower| lanes.contains_key(&lower)), "a lower number was free");
                lanes.insert(number, None);
            }
            What::Started => assert_eq!(lanes.insert(number, moment.subject), Some(None)),
            What::MarkedIoBound | What::Panicked { .. } => assert_eq!(lane, Some(moment.subject)),
            What::Finished => assert_eq!(lanes.insert(number, None), Some(moment.subject)),
            What::Exited => assert_eq!(lanes.remove(&number), Some(None)),
            ref other => panic!("{other:?} is no business of the pool"),
        }
    }
    assert!(lanes.is_empty(), "threads that never ended: {lanes:?}");
}

#[derive(Debug, Clone)]
enum Op {
    Push(usize),
    End(usize, End),
    Mark(usize),
    MarkEnded(usize),
    Trim { force: bool },
    Resize(usize, usize),
    Stats,
    Shutdown { force: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let which = || 0_usize..60;
    prop_oneof![
        16 => Just(Op::Push(1)),
        6 => (2_usize..6).prop_map(Op::Push),
        20 => which().prop_map(|any| Op::End(any, End::Return)),
        4 => which().prop_map(|any| Op::End(any, End::Panic)),
        12 => which().prop_map(Op::Mark),
        2 => which().prop_map(Op::MarkEnded),
        10 => any::<bool>().prop_map(|force| Op::Trim { force }),
        5 => (0_usize..6, 0_usize..6).prop_map(|(min, max)| Op::Resize(min, max)),
        2 => Just(Op::Stats),
        1 => any::<bool>().prop_map(|force| Op::Shutdown { force }),
    ]
}

fn size() -> impl Strategy<Value = (usize, usize, usize)> {
    (1_usize..6).prop_flat_map(|max| (0..=max, Just(max), 0_usize..4))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 6_000,
        failure_persistence: None,
        max_shrink_time: 120_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_pool_goes_where_the_model_goes(
        (min, max, max_io) in size(),
        ops in prop::collection::vec(op(), 1..50),
    ) {
        let mut pair = Pair::new(min, max, max_io);
        for op in &ops {
            pair.act(op);
        }
        pair.close();
    }
}

// Puma's own numbers. A column each: backlog, running, pool_capacity, busy_threads, io_threads, backlog_max,
// max_threads, waiting.

/// Reads the stats once, since a second reading knows no `backlog_max`.
fn columns(pair: &Pair) -> [usize; 8] {
    let Stats {
        backlog,
        running,
        pool_capacity,
        busy_threads,
        io_threads,
        backlog_max,
        max_threads,
        waiting,
    } = pair.pool.stats();
    [backlog, running, pool_capacity, busy_threads, io_threads, backlog_max, max_threads, waiting]
}

/// Pushes `jobs`, and waits until `running` work at all, without reading stats.
fn push(pair: &mut Pair, jobs: usize, running: usize) {
    for _ in 0..jobs {
        pair.try_push().unwrap();
    }
    wait_until(|| {
        pair.seen_running().len() == running && pair.seen_running().keys().all(|job| pair.has_begun(*job))
    });
}

/// Pushes `jobs` one by one, each of which marks itself as soon as it runs.
fn push_marked(pair: &mut Pair, jobs: usize) {
    let room = pair.model.max + pair.model.max_io;
    for job in 1..=jobs {
        push(pair, 1, job.min(room));
        lock(&pair.log.started).last().unwrap().1.mark_as_io_bound();
    }
}

fn end_all(pair: &Pair) {
    pair.ends.values().for_each(|end| end.send(End::Return).unwrap());
    wait_until(|| pair.ends.keys().all(|job| pair.has_begun(*job)) && pair.seen_running().is_empty());
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "waited for {LIMIT:?}");
        thread::yield_now();
    }
}

#[test]
fn the_first_job_passes_through_todo() {
    let mut pair = Pair::new(8, 8, 0);
    push(&mut pair, 1, 1);
    assert_eq!(columns(&pair), [0, 8, 7, 1, 0, 1, 8, 7]);
    assert_eq!(columns(&pair), [0, 8, 7, 1, 0, 0, 8, 7], "backlog_max begins anew when it is read");
}

#[test]
fn nine_jobs_on_eight_threads() {
    let mut pair = Pair::new(8, 8, 0);
    push(&mut pair, 8, 8);
    pair.pool.stats();
    push(&mut pair, 1, 8);
    assert_eq!(columns(&pair), [1, 8, 0, 9, 0, 1, 8, 0]);
    pair.ends[&3].send(End::Return).unwrap();
    wait_until(|| pair.seen_running().contains_key(&9));
    assert_eq!(columns(&pair), [0, 8, 0, 8, 0, 0, 8, 0]);
}

#[test]
fn fifteen_marked_jobs_with_a_quota_of_five() {
    let mut pair = Pair::new(8, 8, 5);
    push_marked(&mut pair, 9);
    assert_eq!(columns(&pair), [0, 9, 0, 9, 9, 1, 8, 0], "the capacity takes no account of marks");
    push(&mut pair, 1, 10);
    assert_eq!(columns(&pair)[..2], [0, 10], "and a page is served all the same");

    let mut pair = Pair::new(8, 8, 5);
    push_marked(&mut pair, 15);
    assert_eq!(columns(&pair), [2, 13, 0, 15, 13, 2, 8, 0]);
    end_all(&pair);
    assert_eq!(columns(&pair), [0, 8, 8, 0, 0, 0, 8, 8], "the extra threads have gone");
}

#[test]
fn without_a_quota_a_mark_is_only_counted() {
    let mut pair = Pair::new(8, 8, 0);
    push_marked(&mut pair, 9);
    assert_eq!(columns(&pair), [1, 8, 0, 9, 8, 1, 8, 0]);
    end_all(&pair);
    assert_eq!(columns(&pair), [0, 8, 8, 0, 0, 0, 8, 8]);
}

#[test]
fn a_trim_takes_one_thread() {
    let mut pair = Pair::new(1, 4, 0);
    push(&mut pair, 4, 4);
    end_all(&pair);
    for running in [4, 3, 2, 1, 1] {
        wait_until(|| pair.pool.processors().len() == running);
        pair.pool.trim(false);
    }
    assert_eq!(columns(&pair)[1], 1);
}

#[test]
fn a_forced_trim_waits_for_an_empty_todo() {
    let mut pair = Pair::new(0, 1, 0);
    push(&mut pair, 2, 1);
    pair.pool.trim(false);
    pair.pool.trim(true);
    pair.ends[&1].send(End::Return).unwrap();
    wait_until(|| pair.seen_running().contains_key(&2));
    pair.ends[&2].send(End::Return).unwrap();
    wait_until(|| pair.pool.processors().is_empty());
    push(&mut pair, 1, 1);
    pair.ends[&3].send(End::Return).unwrap();
    wait_until(|| pair.pool.stats().waiting == 1);
}

#[test]
fn growth_helps_at_the_next_push() {
    let mut pair = Pair::new(1, 1, 0);
    push(&mut pair, 1, 1);
    push(&mut pair, 1, 1);
    pair.pool.resize(1, 2).unwrap();
    assert_eq!(columns(&pair), [1, 1, 1, 2, 0, 1, 2, 0]);
    push(&mut pair, 1, 2);
    assert_eq!(columns(&pair), [1, 2, 0, 3, 0, 2, 2, 0]);
    assert!(pair.has_begun(2) && !pair.has_begun(3), "the new thread takes what has waited longest");
}

#[test]
fn sizes_that_make_no_pool() {
    let pair = Pair::new(1, 2, 0);
    for (min, max) in [(3, 2), (0, 0), (1, 0)] {
        assert_eq!(pair.pool.resize(min, max), Err(BadSize { min, max }));
        let options = Options { name: String::new(), min, max, max_io: 0 };
        let refused = ThreadPool::<Job>::start(options, Arc::default(), process).err();
        assert!(matches!(refused, Some(StartError::BadSize(BadSize { .. }))), "{refused:?}");
    }
    assert_eq!(pair.pool.size(), (1, 2));
}

// Panics and shutdowns.

/// Keeps what is logged about panics.
struct Logged(Mutex<Vec<String>>);

static LOGGED: Logged = Logged(Mutex::new(Vec::new()));

impl log::Log for Logged {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        // The property logs thousands of panics of its own.
        if record.level() == log::Level::Error && record.args().to_string().contains("out of cheese") {
            lock(&self.0).push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

struct Nothing;

impl Work for Nothing {
    fn subject(&self) -> Subject {
        Subject { connection: 1, request: 1 }
    }
}

#[test]
fn a_panic_costs_no_thread() {
    log::set_logger(&LOGGED).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    let timeline = Arc::new(Timeline::default());
    let options = Options { name: "puma srv".to_owned(), min: 1, max: 1, max_io: 0 };
    let pool =
        ThreadPool::start(options, Arc::clone(&timeline), |_: Nothing, _| panic!("out of cheese")).unwrap();
    pool.push(Nothing).unwrap();
    pool.push(Nothing).unwrap();
    wait_until(|| pool.stats().busy_threads == 0);
    assert_eq!(pool.stats().running, 1);
    assert_eq!(*lock(&LOGGED.0), ["Error reached top of thread-pool: out of cheese (puma srv tp 001)"; 2]);
    let moments = timeline.after(0).moments;
    let panicked = What::Panicked { message: "out of cheese".to_owned() };
    assert_eq!(moments.iter().filter(|moment| moment.what == panicked).count(), 2);
}

#[test]
fn a_push_after_the_shutdown_hands_the_work_back() {
    let mut pair = Pair::new(1, 1, 0);
    assert_eq!(pair.pool.shutdown(None, Duration::ZERO), Shutdown::Drained);
    let ShuttingDown(job) = pair.try_push().unwrap_err();
    assert_eq!(job.id, 1);
    assert_eq!(pair.pool.stats().backlog, 0);
}

#[test]
fn a_forced_shutdown_drops_what_is_queued() {
    let mut pair = Pair::new(1, 1, 0);
    push(&mut pair, 2, 1);
    let pool = Arc::clone(&pair.pool);
    let shutdown = thread::spawn(move || pool.shutdown(Some(Duration::ZERO), LIMIT));
    wait_until(|| lock(&pair.log.unserved).contains(&2));
    pair.ends[&1].send(End::Return).unwrap();
    assert_eq!(shutdown.join().unwrap(), Shutdown::Forced);
    assert!(!pair.has_begun(2));
}

#[test]
fn a_thread_that_does_not_end_is_abandoned() {
    let mut pair = Pair::new(0, 2, 0);
    push(&mut pair, 2, 2);
    let abandoned = |threads| Shutdown::Abandoned { threads };
    assert_eq!(pair.pool.shutdown(Some(Duration::ZERO), Duration::ZERO), abandoned(2));
    assert_eq!((columns(&pair)[1], pair.pool.processors().len()), (0, 0));
    assert_eq!(
        pair.pool.shutdown(Some(Duration::ZERO), Duration::ZERO),
        abandoned(2),
        "they are still there"
    );

    lock(&pair.log.started)[0].1.mark_as_io_bound();
    pair.ends[&1].send(End::Return).unwrap();
    pair.ends[&2].send(End::Panic).unwrap();
    assert_eq!(pair.pool.shutdown(None, Duration::ZERO), Shutdown::Drained);
    assert_eq!(columns(&pair), [0, 0, 2, 0, 0, 0, 2, 0], "their late end takes nothing from the counts");
    let moments = pair.timeline.after(0).moments;
    assert!(moments.iter().all(|moment| moment.what != What::MarkedIoBound));
    check_lanes(&moments);
}

#[test]
fn a_dropped_pool_serves_what_is_queued_and_ends() {
    let mut pair = Pair::new(1, 1, 0);
    push(&mut pair, 2, 1);
    let Pair { pool, timeline, log, ends, .. } = pair;
    drop(pool);
    ends.values().for_each(|end| end.send(End::Return).unwrap());
    // The handles given to the work keep nothing alive that is still to run.
    wait_until(|| timeline.after(0).moments.last().is_some_and(|moment| moment.what == What::Exited));
    assert_eq!(lock(&log.started).len(), 2);
}

/// Work whose end calls the pool that it was queued in.
struct Talker(Arc<Mutex<Option<Arc<ThreadPool<Talker>>>>>, Receiver<End>);

impl Work for Talker {
    fn subject(&self) -> Subject {
        Subject { connection: 1, request: 1 }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let pool = lock(&self.0).clone();
        pool.unwrap().stats();
    }
}

#[test]
fn what_a_forced_shutdown_drops_may_call_the_pool() {
    let options = Options { name: "puma srv".to_owned(), min: 0, max: 1, max_io: 0 };
    let process = |talker: Talker, _: &Processor<Talker>| assert!(talker.1.recv().is_ok());
    let pool = Arc::new(ThreadPool::start(options, Arc::default(), process).unwrap());
    let shared = Arc::new(Mutex::new(Some(Arc::clone(&pool))));
    let (end, ended) = bounded(1);
    for _ in 0..2 {
        assert!(pool.push(Talker(Arc::clone(&shared), ended.clone())).is_ok());
    }
    wait_until(|| pool.stats().backlog == 1);
    assert_eq!(pool.shutdown(Some(Duration::ZERO), Duration::ZERO), Shutdown::Abandoned { threads: 1 });
    end.send(End::Return).unwrap();
    assert_eq!(pool.shutdown(None, Duration::ZERO), Shutdown::Drained);
    *lock(&shared) = None;
}
