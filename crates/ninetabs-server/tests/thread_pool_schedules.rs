//! Runs the thread pool under a schedule explorer. At every lock, wait and wake-up, the explorer decides which thread
//! runs next, and it does so for thousands of schedules.
//!
//! The source of the pool is unchanged. It is compiled again with shuttle's locks and threads. The tests search for a
//! lost wake-up: a job that waits in `todo` although a thread could run it. Jobs that finish would hide it, because the
//! thread that finishes eventually takes the stranded job. The last jobs of a burst therefore *meet*: each waits until
//! all of them are running. If one is stranded, all tasks remain blocked, which the explorer reports as a deadlock. A
//! control test shows that the explorer finds the race in a pool that has it.

mod timeline {
    pub use ninetabs_server::timeline::*;
}

mod threads {
    pub use ninetabs_server::threads::*;
}

mod sync {
    pub use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
    pub use shuttle::thread;
}

#[path = "../src/log_limit.rs"]
mod log_limit;
#[allow(dead_code, reason = "the whole pool is compiled, but these tests use only a part of it")]
#[path = "../src/pool_state.rs"]
mod pool_state;
#[allow(dead_code, reason = "as above")]
#[path = "../src/thread_pool.rs"]
mod thread_pool;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::{Arc, Barrier, Condvar, Mutex};
use shuttle::{Config, FailurePersistence, Runner, thread};

use thread_pool::{PoolOptions, Processor, ShuttingDown, ThreadPool, Trim, Work};
use timeline::{Subject, Timeline};

/// One program to explore.
#[derive(Debug, Clone, Copy)]
struct Burst {
    min: usize,
    max: usize,
    max_io: usize,
    /// Jobs that end immediately. A second thread pushes them while the meeting jobs are pushed.
    quick: usize,
    /// Jobs that end once all of them are running.
    meeting: usize,
    /// Whether the jobs that meet mark their threads as IO-bound first.
    marked: bool,
    /// How many times a third thread trims, alternating between forced and not forced.
    trims: usize,
}

/// The number of schedules per program and scheduler: `NINETABS_SCHEDULES` [default: 1,000]. The schedules differ from
/// run to run.
fn schedules() -> usize {
    std::env::var("NINETABS_SCHEDULES").ok().map_or(1_000, |text| text.parse().unwrap())
}

const PLAIN: Burst = Burst { min: 0, max: 2, max_io: 0, quick: 2, meeting: 2, marked: false, trims: 0 };

enum Job {
    Quick(Arc<Count>),
    Meet { all: Arc<Barrier>, marked: bool, ended: Arc<Count> },
}

impl Work for Job {
    fn subject(&self) -> Subject {
        Subject { connection: 1, port: 0, request: 1 }
    }
}

fn process(job: Job, processor: &Processor<Job>) {
    match job {
        Job::Quick(ended) => ended.add(),
        Job::Meet { all, marked, ended } => {
            if marked {
                processor.mark_as_io_bound();
            }
            all.wait();
            ended.add();
        }
    }
}

/// A counter that threads can wait for.
#[derive(Default)]
struct Count(Mutex<usize>, Condvar);

impl Count {
    fn add(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn wait_for(&self, due: usize) {
        let mut count = self.0.lock().unwrap();
        while *count < due {
            count = self.1.wait(count).unwrap();
        }
        assert_eq!(*count, due);
    }
}

/// Counts when it is dropped.
struct Counted(Arc<Count>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// Pushes `quick` and `meeting` jobs with `push`, and waits until all have run.
fn burst(quick: usize, meeting: usize, marked: bool, push: impl Fn(Job) + Send + Sync + 'static) {
    let (push, ended, all) = (Arc::new(push), Arc::new(Count::default()), Arc::new(Barrier::new(meeting)));
    let quick_jobs = {
        let (push, ended) = (Arc::clone(&push), Arc::clone(&ended));
        thread::spawn(move || (0..quick).for_each(|_| push(Job::Quick(Arc::clone(&ended)))))
    };
    for _ in 0..meeting {
        push(Job::Meet { all: Arc::clone(&all), marked, ended: Arc::clone(&ended) });
    }
    quick_jobs.join().unwrap();
    ended.wait_for(quick + meeting);
}

/// Runs a pool from start to end: every job must run, and every thread must end when the pool is dropped.
fn explore(program: Burst) {
    let Burst { min, max, max_io, quick, meeting, marked, trims } = program;
    let options = PoolOptions { name: "puma srv".to_owned(), min, max, max_io };
    let threads_gone = Arc::new(Count::default());
    let process = {
        // The last thread to end drops the process function, and this counter with it.
        let counted = Counted(Arc::clone(&threads_gone));
        move |job: Job, processor: &Processor<Job>| {
            let _ = &counted;
            process(job, processor);
        }
    };
    let pool = Arc::new(ThreadPool::start(options, Arc::new(Timeline::default()), process).unwrap());
    let trimmer = {
        let pool = Arc::clone(&pool);
        thread::spawn(move || {
            (0..trims).for_each(|turn| pool.trim(if turn % 2 == 0 { Trim::Forced } else { Trim::IfFree }))
        })
    };
    let pushed = Arc::clone(&pool);
    burst(quick, meeting, marked, move |job| assert!(pushed.push(job).is_ok()));
    trimmer.join().unwrap();
    drop(pool);
    threads_gone.wait_for(1);
}

fn run(scheduler: impl Scheduler + 'static, program: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    Runner::new(scheduler, config).run(program);
}

/// Explores the program with both schedulers: one chooses randomly at every step, the other assigns
/// priorities and changes them a few times.
fn under_many_schedules(program: Burst) {
    run(RandomScheduler::new(schedules()), move || explore(program));
    run(PctScheduler::new(3, schedules()), move || explore(program));
}

#[test]
fn every_job_of_a_burst_gets_a_thread() {
    for (min, max) in [(0, 2), (1, 2), (2, 2), (0, 3), (3, 3), (4, 4)] {
        under_many_schedules(Burst { min, max, meeting: max, ..PLAIN });
    }
}

#[test]
fn a_trim_does_not_take_a_thread_from_a_job() {
    for (min, max) in [(0, 2), (1, 3)] {
        under_many_schedules(Burst { min, max, meeting: max, trims: 3, ..PLAIN });
    }
}

/// Trims all threads of an idle pool at once. Nothing else wakes a thread, so each has to be woken for its own trim.
fn trim_all_idle_threads() {
    const THREADS: usize = 4;
    let options = PoolOptions { name: "puma srv".to_owned(), min: THREADS, max: THREADS, max_io: 0 };
    let pool = ThreadPool::start(options, Arc::new(Timeline::default()), process).unwrap();
    pool.resize(0, THREADS).unwrap();
    (0..THREADS).for_each(|_| pool.trim(Trim::Forced));
    while pool.glance().running > 0 {
        thread::yield_now();
    }
}

#[test]
fn every_trim_of_an_idle_pool_ends_a_thread() {
    run(RandomScheduler::new(schedules()), trim_all_idle_threads);
}

#[test]
fn a_marked_thread_is_replaced_immediately() {
    // This many jobs must run at the same time: `max` that count, and `max_io` that do not.
    for (min, max, max_io, trims) in [(0, 1, 1, 0), (1, 1, 2, 2), (2, 2, 1, 0), (0, 2, 1, 2)] {
        let meeting = max + max_io;
        under_many_schedules(Burst { min, max, max_io, meeting, marked: true, trims, ..PLAIN });
    }
}

/// Work that is counted whether it is run, returned or dropped.
struct Fated(Counted);

impl Work for Fated {
    fn subject(&self) -> Subject {
        Subject { connection: 1, port: 0, request: 1 }
    }
}

/// Shuts down with a timeout of zero while jobs are pushed. No job may be lost, and every thread must end.
fn shut_down_during_pushes() {
    const JOBS: usize = 4;
    let (fates, threads_gone) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let counted = Counted(Arc::clone(&threads_gone));
    let process = move |work: Fated, processor: &Processor<Fated>| {
        let _ = &counted;
        processor.mark_as_io_bound();
        drop(work);
    };
    let options = PoolOptions { name: "puma srv".to_owned(), min: 1, max: 1, max_io: 1 };
    let pool = Arc::new(ThreadPool::start(options, Arc::new(Timeline::default()), process).unwrap());
    let shutdown = {
        let pool = Arc::clone(&pool);
        thread::spawn(move || pool.shutdown(Some(Duration::ZERO), Duration::ZERO))
    };
    for _ in 0..JOBS {
        let work = Fated(Counted(Arc::clone(&fates)));
        if let Err(ShuttingDown(work)) = pool.push(work) {
            drop(work.0);
        }
    }
    shutdown.join().unwrap();
    fates.wait_for(JOBS);
    drop(pool);
    threads_gone.wait_for(1);
}

#[test]
fn a_shutdown_loses_no_job_and_no_thread() {
    run(RandomScheduler::new(schedules()), shut_down_during_pushes);
    run(PctScheduler::new(3, schedules()), shut_down_during_pushes);
}

/// A pool with the race. It checks a count of idle threads that may still include a thread that was woken for one job
/// when the next job is pushed.
mod racy {
    use std::collections::VecDeque;

    use shuttle::sync::atomic::{AtomicUsize, Ordering};
    use shuttle::sync::{Arc, Condvar, Mutex};
    use shuttle::thread;

    use super::Job;

    #[derive(Default)]
    pub struct TaskPool {
        todo: Mutex<VecDeque<Job>>,
        not_empty: Condvar,
        waiting: AtomicUsize,
    }

    impl TaskPool {
        pub fn push(self: &Arc<Self>, job: Job) {
            if self.waiting.load(Ordering::SeqCst) == 0 {
                let pool = Arc::clone(self);
                thread::spawn(move || pool.work(job));
            } else {
                self.todo.lock().unwrap().push_back(job);
                self.not_empty.notify_one();
            }
        }

        fn work(&self, mut job: Job) {
            loop {
                match job {
                    Job::Quick(ended) => ended.add(),
                    Job::Meet { all, ended, .. } => {
                        all.wait();
                        ended.add();
                    }
                }
                job = self.next();
            }
        }

        fn next(&self) -> Job {
            let mut todo = self.todo.lock().unwrap();
            loop {
                if let Some(job) = todo.pop_front() {
                    return job;
                }
                self.waiting.fetch_add(1, Ordering::SeqCst);
                todo = self.not_empty.wait(todo).unwrap();
                self.waiting.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

#[test]
fn the_explorer_finds_a_stranded_job() {
    // The same burst as above. The real pool never strands a job in it.
    let program = || {
        let pool = Arc::new(racy::TaskPool::default());
        burst(PLAIN.quick, PLAIN.meeting, false, move |job| pool.push(job));
    };
    let by_chance = catch_unwind(AssertUnwindSafe(|| run(RandomScheduler::new(10_000), program)));
    let by_priority = catch_unwind(AssertUnwindSafe(|| run(PctScheduler::new(3, 10_000), program)));
    for found in [by_chance, by_priority] {
        let panic = found.expect_err("none of the schedules stranded a job");
        let message = panic.downcast_ref::<String>().map_or("", String::as_str);
        assert!(message.contains("deadlock"), "not a deadlock: {message}");
    }
}
