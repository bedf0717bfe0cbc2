//! A limited number of identical resources, each held by one request at a time: threads, pooled connections, or
//! queue entries.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Slots are handed out in the order in which they were requested. Clones share the same slots.
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

/// One slot, which is returned when dropped.
pub struct Slot(Arc<Shared>);

impl Slots {
    pub fn new(count: usize) -> Slots {
        let state = State { free: count, next: 0, queue: VecDeque::new() };
        Slots(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Blocks until a slot is free.
    pub fn take(&self) -> Slot {
        self.wait(None).expect("no deadline")
    }

    /// Blocks until a slot is free, but for at most this long.
    pub fn take_within(&self, patience: Duration) -> Option<Slot> {
        self.wait(Some(Instant::now() + patience))
    }

    /// Takes a slot if one is free and nothing is waiting for one.
    pub fn try_take(&self) -> Option<Slot> {
        let mut state = self.0.state.lock().unwrap();
        if state.free == 0 || !state.queue.is_empty() {
            return None;
        }
        state.free -= 1;
        Some(Slot(Arc::clone(&self.0)))
    }

    /// Blocks until a slot is free, and does not take it.
    pub fn until_free(&self) {
        let state = self.0.state.lock().unwrap();
        drop(self.0.changed.wait_while(state, |state| state.free == 0).unwrap());
    }

    pub fn free(&self) -> usize {
        self.0.state.lock().unwrap().free
    }

    /// How many requests are waiting for a slot.
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
    /// Never returns the slot.
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
