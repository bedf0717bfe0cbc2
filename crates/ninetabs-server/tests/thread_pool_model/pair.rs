//! A pool and its model side by side, and the work that both receive.
//!
//! Work blocks until the test ends it, so after every operation there is exactly one state that the pool must reach.
//! [`Pair`] waits for that state, with a limit far above the time that a slow machine needs.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use ninetabs_server::thread_pool::{
    PoolOptions, PoolSize, PoolStats, Processor, Shutdown, ShuttingDown, ThreadPool, Trim, Work,
};
use ninetabs_server::timeline::{Moment, Subject, Timeline, What};

use crate::model::Model;

/// Longer than any machine needs. Only a failing test waits this long.
pub const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub enum Op {
    Push(usize),
    End(usize, End),
    Mark(usize),
    MarkEnded(usize),
    Trim { force: bool },
    Resize(usize, usize),
    PoolStats,
    Shutdown { force: bool },
}

/// Work that ends when and how the test decides.
pub struct Job {
    pub id: u64,
    pub end: Receiver<End>,
    pub served: bool,
    pub log: Arc<Log>,
}

#[derive(Debug, Clone, Copy)]
pub enum End {
    Return,
    Panic,
}

/// Records that the jobs themselves make.
#[derive(Default)]
pub struct Log {
    pub started: Mutex<Vec<(u64, Processor<Job>)>>,
    pub unserved: Mutex<BTreeSet<u64>>,
}

impl Work for Job {
    fn subject(&self) -> Subject {
        Subject { connection: 1, port: 0, request: self.id }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.served {
            lock(&self.log.unserved).insert(self.id);
        }
    }
}

pub fn process(mut job: Job, processor: &Processor<Job>) {
    job.served = true;
    lock(&job.log.started).push((job.id, processor.clone()));
    match job.end.recv() {
        // Unlike `panic!`, `resume_unwind` does not print a message, and there would be thousands.
        Ok(End::Panic) => resume_unwind(Box::new(format!("job {}", job.id))),
        Ok(End::Return) | Err(_) => {}
    }
}

/// A pool and its model side by side.
pub struct Pair {
    pub pool: Arc<ThreadPool<Job>>,
    pub timeline: Arc<Timeline>,
    pub model: Model,
    pub log: Arc<Log>,
    pub ends: BTreeMap<u64, Sender<End>>,
    pub pushed: u64,
    /// The jobs that were started according to the timeline. `read` is how far the timeline has been read.
    pub started: Vec<u64>,
    pub read: u64,
    pub shutdown: Option<(JoinHandle<Shutdown>, Vec<Shutdown>)>,
}

impl Pair {
    pub fn new(min: usize, max: usize, max_io: usize) -> Pair {
        let timeline = Arc::new(Timeline::default());
        let options = PoolOptions { name: "puma srv".to_owned(), min, max, max_io };
        let pool = Arc::new(ThreadPool::start(options, Arc::clone(&timeline), process).unwrap());
        // A pool that has just started is at rest, so waiting is not necessary.
        let model = Model::new(min, max, max_io);
        assert_eq!(pool.stats(), model.clone().stats());
        let (log, ends) = (Arc::default(), BTreeMap::new());
        Pair { pool, timeline, model, log, ends, pushed: 0, started: Vec::new(), read: 0, shutdown: None }
    }

    /// Pushes several jobs without a pause: the pool may still be waking a thread for one when the next is pushed.
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

    /// Marks a running job. A job that has ended ignores the mark.
    fn mark(&mut self, job: u64) {
        let processor = lock(&self.log.started).iter().find(|(id, _)| *id == job).unwrap().1.clone();
        processor.mark_as_io_bound();
        if self.model.running.contains_key(&job) {
            self.model.mark(job);
        }
        self.rest();
    }

    fn trim(&mut self, force: bool) {
        self.pool.trim(if force { Trim::Forced } else { Trim::IfFree });
        self.model.trim(force);
        self.rest();
    }

    fn resize(&mut self, min: usize, max: usize) {
        assert_eq!(self.pool.resize(min, max), self.model.resize(min, max));
        assert_eq!(self.pool.size(), PoolSize::new(self.model.min, self.model.max).unwrap());
        self.rest();
    }

    /// Starts a shutdown on another thread, because it blocks while jobs run.
    fn shut_down(&mut self, force: bool) {
        if self.shutdown.is_some() {
            return;
        }
        // Without an idle thread or a queued job, a forced shutdown would not change anything that the test can wait
        // for.
        let force = force && (self.model.waiting > 0 || !self.model.todo.is_empty());
        let pool = Arc::clone(&self.pool);
        let timeout = force.then_some(Duration::ZERO);
        let (about_to, begun) = bounded(0);
        let shutdown = thread::spawn(move || {
            about_to.send(()).unwrap();
            pool.shutdown(timeout, LIMIT * 6)
        });
        begun.recv().unwrap();
        // If a shutdown is not forced and finds no idle thread, only a refused push shows that it has begun.
        if !force && self.model.waiting == 0 {
            while self.try_push().is_ok() {
                self.model.push(self.pushed);
                self.rest();
            }
            self.model.unserved.insert(self.pushed);
        }
        let due = match (force, self.model.todo.len()) {
            (false, _) => vec![Shutdown::Drained],
            // Once the queued jobs have been dropped, the timeout must have expired.
            (true, 1..) => vec![Shutdown::Forced],
            // With a timeout of zero, threads that end immediately may or may not be in time.
            (true, 0) => vec![Shutdown::Drained, Shutdown::Forced],
        };
        self.shutdown = Some((shutdown, due));
        self.model.shut_down(force);
        self.rest();
    }

    pub fn try_push(&mut self) -> Result<(), ShuttingDown<Job>> {
        self.pushed += 1;
        let (id, log) = (self.pushed, Arc::clone(&self.log));
        let (sender, end) = bounded(1);
        self.ends.insert(id, sender);
        self.pool.push(Job { id, end, served: false, log })
    }

    /// Waits until the pool has the same state as the model.
    fn rest(&mut self) {
        self.rest_with(0);
    }

    /// Like [`rest`](Self::rest), but the pool's `todo` may have been longer than the model's for a moment, because
    /// threads do not take any time in the model.
    fn rest_with(&mut self, backlog_max_at_most: usize) {
        let due = self.model.stats();
        let mut backlog_max = 0;
        let began = Instant::now();
        loop {
            let stats = self.pool.stats();
            backlog_max = backlog_max.max(stats.backlog_max);
            let stats = PoolStats { backlog_max: due.backlog_max, ..stats };
            if stats == due && self.the_jobs_agree() {
                assert!((due.backlog_max..=backlog_max_at_most.max(due.backlog_max)).contains(&backlog_max));
                return;
            }
            assert!(
                began.elapsed() < LIMIT,
                "the pool has {stats:?}, running {:?}, started {:?}, unserved {:?}; expected {due:?} of {:?}",
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
            // A job adds its handle shortly after the pool has started it.
            && lock(&self.log.started).len() == self.started.len()
    }

    /// Reads from the timeline the order in which jobs left `todo`. The jobs themselves cannot observe it.
    fn read_started(&mut self) {
        for moment in self.timeline.after(self.read).moments {
            self.read = moment.seq;
            self.started.extend(moment.subject.filter(|_| moment.what == What::Started).map(|it| it.request));
        }
    }

    pub fn seen_running(&self) -> BTreeMap<u64, bool> {
        let processors = self.pool.processors();
        assert!(processors.windows(2).all(|two| two[0].number < two[1].number));
        assert!(processors.iter().all(|one| one.name == format!("puma srv tp {:03}", one.number)));
        processors.iter().filter_map(|one| Some((one.running?.request, one.io_bound))).collect()
    }

    /// Whether the job itself has begun.
    pub fn has_begun(&self, job: u64) -> bool {
        lock(&self.log.started).iter().any(|(id, _)| *id == job)
    }

    /// Returns one of the running jobs, selected by an arbitrary number.
    fn pick_running(&self, any: usize) -> Option<u64> {
        let running = &self.model.running;
        running.keys().nth(any.checked_rem(running.len())?).copied()
    }

    fn pick_ended(&self, any: usize) -> Option<u64> {
        let model = &self.model;
        let ended = || model.started.iter().filter(|job| !model.running.contains_key(job));
        ended().nth(any.checked_rem(ended().count())?).copied()
    }

    pub fn act(&mut self, op: &Op) {
        match *op {
            Op::Push(jobs) => self.push(jobs),
            Op::End(any, end) => self.pick_running(any).into_iter().for_each(|job| self.end(job, end)),
            Op::Mark(any) => self.pick_running(any).into_iter().for_each(|job| self.mark(job)),
            Op::MarkEnded(any) => self.pick_ended(any).into_iter().for_each(|job| self.mark(job)),
            Op::Trim { force } => self.trim(force),
            Op::Resize(min, max) => self.resize(min, max),
            Op::PoolStats => assert_eq!(self.pool.stats(), self.model.stats()),
            Op::Shutdown { force } => self.shut_down(force),
        }
    }

    /// Ends all running jobs, shuts down the pool, and then checks everything that happened.
    pub fn close(mut self) {
        self.shut_down(false);
        while let Some(job) = self.pick_running(0) {
            self.end(job, End::Return);
        }
        let (shutdown, due) = self.shutdown.take().unwrap();
        let answer = shutdown.join().unwrap();
        assert!(due.contains(&answer), "the shutdown returned {answer:?}, expected one of {due:?}");
        assert_eq!(
            self.pool.shutdown(None, Duration::ZERO),
            Shutdown::Drained,
            "the second shutdown was not drained"
        );

        let started: BTreeSet<u64> = self.model.started.iter().copied().collect();
        assert_eq!(started.len(), self.model.started.len(), "a job ran twice");
        assert!(started.is_disjoint(&self.model.unserved));
        assert_eq!(started.len() + self.model.unserved.len(), self.pushed as usize, "a job was lost");
        check_lanes(&self.timeline.after(0).moments);
    }
}

/// Checks that the timeline is consistent: on each lane, a thread starts, processes one job at a time, and ends.
pub fn check_lanes(moments: &[Moment]) {
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
                assert!(
                    (1..number).all(|lower| lanes.contains_key(&lower)),
                    "thread {number} was started although a lower number was free"
                );
                lanes.insert(number, None);
            }
            What::Started => assert_eq!(lanes.insert(number, moment.subject), Some(None)),
            What::MarkedIoBound | What::Panicked { .. } => assert_eq!(lane, Some(moment.subject)),
            What::Finished => assert_eq!(lanes.insert(number, None), Some(moment.subject)),
            What::Exited => assert_eq!(lanes.remove(&number), Some(None)),
            ref other => panic!("the pool does not record {other:?}"),
        }
    }
    assert!(lanes.is_empty(), "some threads never ended: {lanes:?}");
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn wait_until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "the condition did not become true within {LIMIT:?}");
        thread::yield_now();
    }
}
