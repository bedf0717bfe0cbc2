//! A number of equal things, each of which one request has at a time: threads, connections of a pool, places
//! in a queue.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// They are handed out in the order in which they were asked for. Clones share them.
#[derive(Clone)]
pub struct Slots(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    free: usize,
    next: u64,
    queue: VecDeque<u64>,
}

/// One of them, returned when it is dropped.
pub struct Slot(Arc<Shared>);

impl Slots {
    pub fn new(count: usize) -> Slots {
        let state = State { free: count, next: 0, queue: VecDeque::new() };
        Slots(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Blocks until one is free.
    pub fn take(&self) -> Slot {
        self.wait(None).expect("no deadline")
    }

    /// Blocks until one is free, at most this long.
    pub fn take_within(&self, patience: Duration) -> Option<Slot> {
        self.wait(Some(Instant::now() + patience))
    }

    /// Takes one if one is free and none is waited for.
    pub fn try_take(&self) -> Option<Slot> {
        let mut state = self.0.state.lock().unwrap();
        if state.free == 0 || !state.queue.is_empty() {
            return None;
        }
        state.free -= 1;
        Some(Slot(Arc::clone(&self.0)))
    }

    /// Blocks until one is free, and does not take it.
    pub fn until_free(&self) {
        let state = self.0.state.lock().unwrap();
        drop(self.0.changed.wait_while(state, |state| state.free == 0).unwrap());
    }

    pub fn free(&self) -> usize {
        self.0.state.lock().unwrap().free
    }

    /// How many are being waited for.
    pub fn waiting(&self) -> usize {
        self.0.state.lock().unwrap().queue.len()
    }

    fn wait(&self, deadline: Option<Instant>) -> Option<Slot> {
        let mut state = self.0.state.lock().unwrap();
        let number = state.next;
        state.next += 1;
        state.queue.push_back(number);
        while state.free == 0 || state.queue.front() != Some(&number) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => {
                    state.queue.retain(|waiting| *waiting != number);
                    self.0.changed.notify_all();
                    return None;
                }
                Some(left) => self.0.changed.wait_timeout(state, left).unwrap().0,
                None => self.0.changed.wait(state).unwrap(),
            };
        }
        state.queue.pop_front();
        state.free -= 1;
        self.0.changed.notify_all();
        Some(Slot(Arc::clone(&self.0)))
    }
}

impl Slot {
    /// Never returns it.
    pub fn lose(self) {
        std::mem::forget(self);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().free += 1;
        self.0.changed.notify_all();
    }
}
