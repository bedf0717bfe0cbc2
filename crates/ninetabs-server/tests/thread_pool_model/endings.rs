//! Tests how work and pools end: panics, shutdowns, a dropped pool.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use ninetabs_server::thread_pool::{PoolOptions, Processor, Shutdown, ShuttingDown, ThreadPool, Work};
use ninetabs_server::timeline::{Subject, Timeline, What};

use crate::numbers::{columns, push};
use crate::pair::{End, LIMIT, Pair, check_lanes, lock, wait_until};

/// Collects the log lines about panics.
struct Logged(Mutex<Vec<String>>);

static LOGGED: Logged = Logged(Mutex::new(Vec::new()));

impl log::Log for Logged {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        // The property test logs thousands of other panics.
        if record.level() == log::Level::Error && record.args().to_string().contains("out of cheese") {
            lock(&self.0).push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

struct Nothing;

impl Work for Nothing {
    fn subject(&self) -> Subject {
        Subject { connection: 1, port: 0, request: 1 }
    }
}

#[test]
fn a_panic_does_not_end_its_thread() {
    log::set_logger(&LOGGED).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    let timeline = Arc::new(Timeline::default());
    let options = PoolOptions { name: "puma srv".to_owned(), min: 1, max: 1, max_io: 0 };
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

/// A panic payload that panics when it is dropped.
struct Again;

impl Drop for Again {
    fn drop(&mut self) {
        panic!("again");
    }
}

#[test]
fn a_panic_payload_that_panics_when_dropped_does_not_end_its_thread() {
    let options = PoolOptions { name: "puma srv".to_owned(), min: 1, max: 1, max_io: 0 };
    let process = |_: Nothing, _: &Processor<Nothing>| resume_unwind(Box::new(Again));
    let pool = ThreadPool::start(options, Arc::default(), process).unwrap();
    pool.push(Nothing).unwrap();
    pool.push(Nothing).unwrap();
    wait_until(|| pool.stats().busy_threads == 0);
    assert_eq!(pool.stats().running, 1);
    assert_eq!(pool.shutdown(None, Duration::ZERO), Shutdown::Drained);
}

#[test]
fn a_push_after_the_shutdown_returns_the_work() {
    let mut pair = Pair::new(1, 1, 0);
    assert_eq!(pair.pool.shutdown(None, Duration::ZERO), Shutdown::Drained);
    let ShuttingDown(job) = pair.try_push().unwrap_err();
    assert_eq!(job.id, 1);
    assert_eq!(pair.pool.stats().backlog, 0);
}

#[test]
fn a_forced_shutdown_drops_queued_work() {
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
        "the second shutdown forgot the abandoned threads"
    );

    lock(&pair.log.started)[0].1.mark_as_io_bound();
    pair.ends[&1].send(End::Return).unwrap();
    pair.ends[&2].send(End::Panic).unwrap();
    assert_eq!(pair.pool.shutdown(None, Duration::ZERO), Shutdown::Drained);
    assert_eq!(
        columns(&pair),
        [0, 0, 2, 0, 0, 0, 2, 0],
        "the late end of abandoned threads changed the statistics"
    );
    let moments = pair.timeline.after(0).moments;
    assert!(moments.iter().all(|moment| moment.what != What::MarkedIoBound));
    check_lanes(&moments);
}

#[test]
fn a_dropped_pool_processes_queued_work_and_ends() {
    let mut pair = Pair::new(1, 1, 0);
    push(&mut pair, 2, 1);
    let Pair { pool, timeline, log, ends, .. } = pair;
    drop(pool);
    ends.values().for_each(|end| end.send(End::Return).unwrap());
    // The handles of the work do not keep the pool alive.
    wait_until(|| timeline.after(0).moments.last().is_some_and(|moment| moment.what == What::Exited));
    assert_eq!(lock(&log.started).len(), 2);
}

/// Work that calls its pool when it is dropped.
struct Talker(Arc<Mutex<Option<Arc<ThreadPool<Talker>>>>>, Receiver<End>);

impl Work for Talker {
    fn subject(&self) -> Subject {
        Subject { connection: 1, port: 0, request: 1 }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let pool = lock(&self.0).clone();
        pool.unwrap().stats();
    }
}

#[test]
fn work_dropped_by_a_forced_shutdown_may_call_the_pool() {
    let options = PoolOptions { name: "puma srv".to_owned(), min: 0, max: 1, max_io: 0 };
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
