//! The state of a server, folded from its moments: the request of each thread, and the requests in the queue.
//!
//! It wraps the server's own [`Snapshot`], so it follows the same rules. The lab and `top` detect all starts and ends
//! by comparing the state before a moment with the state after it.

use ninetabs_server::timeline::{Held, LiveAction, Moment, Snapshot};

/// The state after the moments that were taken in.
#[derive(Debug, Clone, Default)]
pub struct RecordState(Snapshot);

impl From<Snapshot> for RecordState {
    fn from(snapshot: Snapshot) -> RecordState {
        RecordState(snapshot)
    }
}

impl RecordState {
    /// Takes in the next moment. Returns the request that its thread had before.
    pub fn take(&mut self, moment: &Moment) -> Option<Box<Held>> {
        let before = moment.thread.and_then(|thread| self.0.threads.get(&thread)?.holds.clone());
        if let (Some(thread), Some(_)) = (moment.thread, moment.subject) {
            // The moment at which the thread started may have been dropped.
            self.0.threads.entry(thread).or_default();
        }
        self.0.take(moment);
        before
    }

    /// Notes that the thread has had this request since before the known moments. Returns the request that is replaced.
    pub fn hold(&mut self, thread: usize, held: Held) -> Option<Box<Held>> {
        self.0.threads.entry(thread).or_default().holds.replace(Box::new(held))
    }

    /// Empties the queue and returns its requests, ordered by number. After a gap, it is unknown which of them are
    /// still waiting.
    pub fn clear_todo(&mut self) -> Vec<Box<Held>> {
        let mut todo: Vec<_> = self.0.todo.drain(..).collect();
        todo.sort_unstable_by_key(|held| held.subject.request);
        todo
    }

    /// The number of the last moment.
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// The numbers of the live threads.
    pub fn threads(&self) -> impl ExactSizeIterator<Item = usize> {
        self.0.threads.keys().copied()
    }

    /// The request of a thread.
    pub fn held_by(&self, thread: usize) -> Option<&Held> {
        self.0.threads.get(&thread)?.holds.as_deref()
    }

    /// Whether the thread has this request.
    pub fn is_held_by(&self, thread: usize, request: u64) -> bool {
        self.held_by(thread).is_some_and(|held| held.subject.request == request)
    }

    /// Requests that hold a thread, with its number.
    pub fn held(&self) -> impl Iterator<Item = (usize, &Held)> {
        self.0.threads.iter().filter_map(|(number, thread)| Some((*number, thread.holds.as_deref()?)))
    }

    /// The actions that run on their own threads, by the number of the thread.
    pub fn actions(&self) -> impl Iterator<Item = (usize, &LiveAction)> {
        self.0.actions.iter().map(|(worker, action)| (*worker, action))
    }

    /// Requests in the queue, the oldest first.
    pub fn todo(&self) -> impl Iterator<Item = &Held> {
        self.0.todo.iter().map(Box::as_ref)
    }

    /// The request with this number, if it is in the queue.
    pub fn waiting(&self, request: u64) -> Option<&Held> {
        self.0.place_in_todo(request).map(|at| &*self.0.todo[at])
    }
}
