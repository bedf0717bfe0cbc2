//! A second implementation of Puma's rules: plain counters, without threads.
//!
//! The model shares no code with the pool, so the two can agree only by following the same rules. The pool's threads
//! take time, but the model does not: after each call, it is in the state that the pool must reach.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ninetabs_server::thread_pool::{BadSize, PoolStats};

/// Puma's rules, without threads.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub min: usize,
    pub max: usize,
    pub max_io: usize,
    pub spawned: usize,
    pub waiting: usize,
    pub trim_requested: usize,
    pub shutdown: bool,
    pub backlog_max: usize,
    pub todo: VecDeque<u64>,
    /// Work in progress, and whether its thread is marked IO-bound.
    pub running: BTreeMap<u64, bool>,
    pub started: Vec<u64>,
    /// Work that was returned or dropped.
    pub unserved: BTreeSet<u64>,
}

impl Model {
    pub fn new(min: usize, max: usize, max_io: usize) -> Model {
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

    /// Lets a thread check `todo`: it takes the oldest job, ends, or waits.
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

    pub fn push(&mut self, job: u64) {
        if self.shutdown {
            self.unserved.insert(job);
            return;
        }
        self.todo.push_back(job);
        self.backlog_max = self.backlog_max.max(self.todo.len());
        self.spawn_if_needed();
        self.wake_one();
    }

    pub fn end(&mut self, job: u64) {
        let unmarked = self.spawned - self.marked();
        if self.running.remove(&job) == Some(true) && unmarked >= self.max {
            self.spawned -= 1;
        } else {
            self.work_or_wait();
        }
    }

    pub fn mark(&mut self, job: u64) {
        if self.running.insert(job, true) == Some(false) {
            self.spawn_if_needed();
        }
    }

    pub fn trim(&mut self, force: bool) {
        let free = self.waiting as i64 - self.todo.len() as i64;
        if (force || free > 0) && self.spawned as i64 - self.trim_requested as i64 > self.min as i64 {
            self.trim_requested += 1;
            self.wake_one();
        }
    }

    pub fn resize(&mut self, min: usize, max: usize) -> Result<(), BadSize> {
        if max == 0 || min > max {
            return Err(BadSize { min, max });
        }
        self.min = min;
        self.max = max;
        self.trim_requested = self.trim_requested.min(self.spawned.saturating_sub(min));
        Ok(())
    }

    pub fn shut_down(&mut self, force: bool) {
        self.shutdown = true;
        self.trim_requested = self.spawned;
        while self.waiting > 0 {
            self.wake_one();
        }
        if force {
            self.unserved.extend(self.todo.drain(..));
        }
    }

    /// Returns the statistics at rest, and resets `backlog_max`.
    pub fn stats(&mut self) -> PoolStats {
        let capacity = self.waiting as i64 + self.max as i64 - self.spawned as i64;
        PoolStats {
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
