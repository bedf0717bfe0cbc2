//! The rules of the server without its threads, clock and sockets, for a program that simulates it (feature `rules`).
//!
//! A server never uses this module. It drives the same rules in a second way: [`thread_pool`](crate::thread_pool)
//! surrounds `pool_state` with a mutex, a condition variable and threads; [`PoolRules`] does not. Where a pool thread
//! would block, a method here returns [`PoolTurn::Waits`], and the caller decides when the thread wakes. A simulation
//! can therefore differ from the real pool only in the times of its decisions, not in the decisions.
//!
//! The module is behind a feature because its methods must be called in the order in which threads would call them. A
//! program that serves requests does not need it, and should not see it.

use std::ops::RangeInclusive;

pub use crate::configuration::SHORTEST_ROUND;
use crate::pool_state::PoolState;
pub use crate::pool_state::{BadSize, PoolRecord, PoolSize, PoolStats, Trim};
pub use crate::stream_rules::{is_due, retry_of, share_of_max_age};
use crate::timeline::Subject;

/// What a pool thread does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolTurn<W> {
    /// It has taken this work out of todo. Call [`PoolRules::end`] when the work ends.
    Runs(Subject, W),
    /// It waits to be notified. Call [`PoolRules::wake`] after that.
    Waits,
    /// It has left the pool.
    Leaves,
}

/// The effects of a push other than the longer todo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The number of the thread that was started, if one was. Call [`PoolRules::begin`] for it.
    pub spawned: Option<usize>,
    /// Whether one of the waiting threads is notified.
    pub wakes: bool,
}

/// The rules of a thread pool, as steps of its threads. `W` is the work, and `R` provides the clock and receives the
/// events.
pub struct PoolRules<W, R: PoolRecord> {
    state: PoolState<W, R>,
}

impl<W, R: PoolRecord> PoolRules<W, R> {
    /// Creates a pool with the minimum number of threads, all waiting, numbered from 1.
    pub fn new(size: PoolSize, max_io: usize, record: R) -> PoolRules<W, R> {
        // A shutdown uses the channel to wait for the last thread. The simulation does not shut down.
        let (threads_left, _) = crossbeam_channel::bounded(0);
        let mut state = PoolState::new(size, max_io, record, threads_left);
        for number in 1..=size.min() {
            state.admit(number);
            state.begin_waiting();
        }
        state.starting = false;
        PoolRules { state }
    }

    /// Appends work to todo, as [`ThreadPool::push`](crate::thread_pool::ThreadPool::push) does.
    pub fn push(&mut self, subject: Subject, work: W) -> Pushed {
        self.state.queue(subject, work);
        let spawned = self.state.needs_thread().then(|| {
            let number = self.state.lowest_free_number();
            self.state.admit(number);
            number
        });
        Pushed { spawned, wakes: self.state.wakes_one() }
    }

    /// Runs the first step of a thread that was started.
    pub fn begin(&mut self, number: usize) -> PoolTurn<W> {
        self.next(number)
    }

    /// Continues a waiting thread that was notified and holds the lock again.
    pub fn wake(&mut self, number: usize) -> PoolTurn<W> {
        self.state.end_waiting();
        self.next(number)
    }

    /// Ends the work that the thread has taken.
    pub fn end(&mut self, number: usize, taken: Subject) -> PoolTurn<W> {
        self.state.finish(number, taken, None);
        self.next(number)
    }

    fn next(&mut self, number: usize) -> PoolTurn<W> {
        if self.state.leaves_as_extra_io_thread(number) {
            return PoolTurn::Leaves;
        }
        match self.state.take(number) {
            Some((subject, work, _)) => PoolTurn::Runs(subject, work),
            None if self.state.leaves_when_idle(number) => PoolTurn::Leaves,
            None => {
                self.state.begin_waiting();
                PoolTurn::Waits
            }
        }
    }

    /// Asks one thread to leave if there are more threads than the minimum. Returns whether a waiting thread is
    /// notified.
    pub fn trim(&mut self, trim: Trim) -> bool {
        self.state.trim(trim) && self.state.wakes_one()
    }

    /// How much work is in todo.
    pub fn queued(&self) -> usize {
        self.state.todo.len()
    }

    /// The work in todo, oldest first.
    pub fn todo(&self) -> impl Iterator<Item = &W> {
        self.state.todo.iter().map(|(_, work)| work)
    }

    /// How many threads wait, including those that were notified and have not run yet.
    pub fn waiting(&self) -> usize {
        self.state.waiting
    }

    /// The current statistics.
    pub fn stats(&self) -> PoolStats {
        self.state.glance()
    }

    /// The clock and the record.
    pub fn record(&mut self) -> &mut R {
        &mut self.state.record
    }
}

impl<W, R: PoolRecord> std::fmt::Debug for PoolRules<W, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PoolRules").field(&self.state.glance()).finish()
    }
}

/// The size of a pool with these limits.
pub fn pool_size(threads: RangeInclusive<usize>) -> Result<PoolSize, BadSize> {
    PoolSize::new(*threads.start(), *threads.end())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::timeline::{Timeline, What};

    fn subject(request: u64) -> Subject {
        Subject { connection: request, port: 0, request }
    }

    #[test]
    fn the_steps_of_two_threads_are_those_of_the_pool() {
        let timeline = Arc::new(Timeline::simulated());
        let size = pool_size(0..=2).unwrap();
        let mut pool = PoolRules::new(size, 0, Arc::clone(&timeline));
        assert_eq!(pool.push(subject(1), 'a'), Pushed { spawned: Some(1), wakes: false });
        assert_eq!(pool.begin(1), PoolTurn::Runs(subject(1), 'a'));
        assert_eq!(pool.push(subject(2), 'b'), Pushed { spawned: Some(2), wakes: false });
        assert_eq!(pool.begin(2), PoolTurn::Runs(subject(2), 'b'));
        assert_eq!(pool.push(subject(3), 'c'), Pushed { spawned: None, wakes: false });
        assert_eq!(pool.stats().busy_threads, 3);
        assert_eq!(pool.end(2, subject(2)), PoolTurn::Runs(subject(3), 'c'));
        assert_eq!(pool.end(1, subject(1)), PoolTurn::Waits);
        assert_eq!((pool.waiting(), pool.queued()), (1, 0));
        assert_eq!(pool.push(subject(4), 'd'), Pushed { spawned: None, wakes: true });
        // One thread waits and was notified; the second request needs a thread that does not exist.
        assert_eq!(pool.push(subject(5), 'e'), Pushed { spawned: None, wakes: false });
        assert_eq!(pool.wake(1), PoolTurn::Runs(subject(4), 'd'));
        assert_eq!(pool.todo().copied().collect::<String>(), "e");
        assert_eq!(pool.end(1, subject(4)), PoolTurn::Runs(subject(5), 'e'));
        assert_eq!((pool.end(1, subject(5)), pool.end(2, subject(3))), (PoolTurn::Waits, PoolTurn::Waits));
        assert!(pool.trim(Trim::IfFree));
        assert_eq!(pool.wake(2), PoolTurn::Leaves);
        let what: Vec<What> = timeline.after(0).moments.into_iter().map(|moment| moment.what).collect();
        assert_eq!(what.iter().filter(|what| **what == What::Started).count(), 5);
        assert_eq!((what.first(), what.last()), (Some(&What::Queued), Some(&What::Exited)));
    }
}
