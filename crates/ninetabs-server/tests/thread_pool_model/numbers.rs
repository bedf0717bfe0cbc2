//! Compares the pool with numbers that were observed in Puma itself.
//!
//! The columns are backlog, running, pool_capacity, busy_threads, io_threads, backlog_max, max_threads,
//! waiting.

use std::sync::Arc;

use ninetabs_server::thread_pool::{
    BadSize, PoolOptions, PoolSize, PoolStartError, PoolStats, ThreadPool, Trim, Work,
};

use crate::pair::{End, Job, Pair, lock, process, wait_until};

/// Returns the statistics. Reads them only once, because reading resets `backlog_max`.
pub fn columns(pair: &Pair) -> [usize; 8] {
    let PoolStats {
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

/// Pushes this many jobs, and waits until `running` jobs in total are running, without reading the statistics.
pub fn push(pair: &mut Pair, jobs: usize, running: usize) {
    for _ in 0..jobs {
        pair.try_push().unwrap();
    }
    wait_until(|| {
        pair.seen_running().len() == running && pair.seen_running().keys().all(|job| pair.has_begun(*job))
    });
}

/// Pushes this many jobs one by one, and marks each as soon as it runs.
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

#[test]
fn the_first_job_passes_through_todo() {
    let mut pair = Pair::new(8, 8, 0);
    push(&mut pair, 1, 1);
    assert_eq!(columns(&pair), [0, 8, 7, 1, 0, 1, 8, 7]);
    assert_eq!(columns(&pair), [0, 8, 7, 1, 0, 0, 8, 7], "reading must reset backlog_max");
}

#[test]
fn the_ninth_job_waits_for_one_of_eight_threads() {
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
fn marked_jobs_get_extra_threads_up_to_the_quota() {
    let mut pair = Pair::new(8, 8, 5);
    push_marked(&mut pair, 9);
    assert_eq!(columns(&pair), [0, 9, 0, 9, 9, 1, 8, 0], "the capacity must ignore marks");
    push(&mut pair, 1, 10);
    assert_eq!(columns(&pair)[..2], [0, 10], "a page must still get a thread");

    let mut pair = Pair::new(8, 8, 5);
    push_marked(&mut pair, 15);
    assert_eq!(columns(&pair), [2, 13, 0, 15, 13, 2, 8, 0]);
    end_all(&pair);
    assert_eq!(columns(&pair), [0, 8, 8, 0, 0, 0, 8, 8], "the extra threads must have ended");
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
fn a_trim_removes_one_thread() {
    let mut pair = Pair::new(1, 4, 0);
    push(&mut pair, 4, 4);
    end_all(&pair);
    for running in [4, 3, 2, 1, 1] {
        wait_until(|| pair.pool.processors().len() == running);
        pair.pool.trim(Trim::IfFree);
    }
    assert_eq!(columns(&pair)[1], 1);
}

#[test]
fn a_forced_trim_waits_for_an_empty_todo() {
    let mut pair = Pair::new(0, 1, 0);
    push(&mut pair, 2, 1);
    pair.pool.trim(Trim::IfFree);
    pair.pool.trim(Trim::Forced);
    pair.ends[&1].send(End::Return).unwrap();
    wait_until(|| pair.seen_running().contains_key(&2));
    pair.ends[&2].send(End::Return).unwrap();
    wait_until(|| pair.pool.processors().is_empty());
    push(&mut pair, 1, 1);
    pair.ends[&3].send(End::Return).unwrap();
    wait_until(|| pair.pool.stats().waiting == 1);
}

#[test]
fn a_pool_grows_at_the_next_push() {
    let mut pair = Pair::new(1, 1, 0);
    push(&mut pair, 1, 1);
    push(&mut pair, 1, 1);
    pair.pool.resize(1, 2).unwrap();
    assert_eq!(columns(&pair), [1, 1, 1, 2, 0, 1, 2, 0]);
    push(&mut pair, 1, 2);
    assert_eq!(columns(&pair), [1, 2, 0, 3, 0, 2, 2, 0]);
    assert!(
        pair.has_begun(2) && !pair.has_begun(3),
        "the new thread must take the job that has waited longest"
    );
}

#[test]
fn a_pool_that_shrinks_and_grows_again_keeps_its_threads() {
    let mut pair = Pair::new(8, 8, 0);
    push(&mut pair, 8, 8);
    pair.pool.resize(3, 3).unwrap();
    for _ in 0..5 {
        pair.pool.trim(Trim::Forced);
    }
    pair.pool.resize(6, 6).unwrap();
    end_all(&pair);
    wait_until(|| pair.pool.processors().len() == 6);
    assert_eq!(columns(&pair)[1], 6, "only two of the five trimmed threads must end");
    pair.pool.resize(8, 8).unwrap();
    assert_eq!(columns(&pair)[1], 6, "the pool must grow only at the next push");
    pair.pool.fill();
    assert_eq!(columns(&pair)[1], 8, "the pool must grow when it is filled");
}

#[test]
fn work_that_is_removed_from_todo_is_not_started() {
    let mut pair = Pair::new(1, 1, 0);
    push(&mut pair, 3, 1);
    let subjects = pair.pool.look_at_todo(9, |job| Some(job.subject()));
    assert_eq!(subjects.len(), 2);
    assert!(pair.pool.take_from_todo(subjects[0]).is_some());
    assert!(pair.pool.take_from_todo(subjects[0]).is_none(), "the same work was in todo twice");
    pair.ends[&1].send(End::Return).unwrap();
    wait_until(|| pair.seen_running().contains_key(&3));
    assert!(!pair.has_begun(2));
}

#[test]
fn invalid_sizes_are_refused() {
    let pair = Pair::new(1, 2, 0);
    for (min, max) in [(3, 2), (0, 0), (1, 0)] {
        assert_eq!(pair.pool.resize(min, max), Err(BadSize { min, max }));
        let options = PoolOptions { name: String::new(), min, max, max_io: 0 };
        let refused = ThreadPool::<Job>::start(options, Arc::default(), process).err();
        assert!(matches!(refused, Some(PoolStartError::BadSize(BadSize { .. }))), "{refused:?}");
    }
    assert_eq!(pair.pool.size(), PoolSize::new(1, 2).unwrap());
}
