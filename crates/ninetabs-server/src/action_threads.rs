//! The threads on which actions run if each action has its own thread ([`ActionsOn::OwnThread`]).
//!
//! Models the pool `action_controller.live` of Rails 8, a `Concurrent::CachedThreadPool`. Its size is unlimited. An
//! idle thread is reused before a new one is started, and a thread that has been idle for 60 seconds ends. This module
//! does not limit how many actions run at once. The size of the server's own pool limits the actions that still have a
//! client. An action that outlives its answer is *orphaned*: it continues to run without a pool thread and without a
//! client.
//!
//! [`ActionsOn::OwnThread`]: crate::ActionsOn::OwnThread

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::configuration::KEEP_IDLE_ACTION_THREADS;
use crate::threads::{self, SpawnError};
use crate::timeline::{Subject, Timeline, What};

/// The name of the pool in Rails 8. Thread names follow concurrent-ruby.
const NAME: &str = "action_controller.live";

/// An action. Its argument is the number of its thread.
type ActionJob = Box<dyn FnOnce(usize) + Send>;

/// The statistics that the control server shows under `live_threads`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ActionThreadStats {
    /// Actions that run on their own threads: `attached` plus `orphaned`.
    pub running: usize,
    /// Actions whose answers are being written by a pool thread.
    pub attached: usize,
    /// Actions that continue to run without a pool thread and without a client.
    pub orphaned: usize,
}

/// A snapshot of one action thread.
#[derive(Debug, Clone)]
pub struct ActionThreadView {
    /// Its number, counted from 1. A new thread gets the lowest free number.
    pub number: usize,
    /// Its name. Linux shows only the first 15 bytes.
    pub name: String,
    /// The action that it runs, or `None` while it is idle.
    pub action: Option<ActionView>,
}

/// A snapshot of an action that runs on its own thread.
#[derive(Debug, Clone)]
pub struct ActionView {
    /// The numbers of its request and connection.
    pub subject: Subject,
    /// The target of its request.
    pub target: Arc<str>,
    /// How long it has been running.
    pub age: Duration,
    /// The number of its writes, whether or not a client received them.
    pub writes: u64,
    /// The pool thread that writes its answer. `None` if it is orphaned.
    pub pool_thread: Option<usize>,
}

/// The request whose action is to run.
pub(crate) struct ActionRequest {
    pub subject: Subject,
    pub target: Arc<str>,
    pub pool_thread: usize,
    /// Counts the writes of the action.
    pub writes: Arc<AtomicU64>,
}

/// The pool of action threads. When it is dropped, idle threads end, and busy threads end with their actions.
pub(crate) struct ActionThreads {
    shared: Arc<SharedActionThreads>,
}

struct SharedActionThreads {
    timeline: Arc<Timeline>,
    keep_idle: Duration,
    state: Mutex<ActionThreadsState>,
    /// Notified when an action has ended.
    ended: Condvar,
}

#[derive(Default)]
struct ActionThreadsState {
    workers: BTreeMap<usize, ActionWorker>,
    /// The numbers of the idle threads. The thread that became idle last is at the end, and is reused first.
    idle: Vec<usize>,
    /// Whether the owner has been dropped. No thread may become idle after that.
    is_closed: bool,
}

struct ActionWorker {
    jobs: Sender<ActionJob>,
    action: Option<RunningAction>,
}

struct RunningAction {
    request: ActionRequest,
    began: Instant,
    is_orphaned: bool,
}

impl ActionThreads {
    pub fn new(timeline: Arc<Timeline>) -> ActionThreads {
        ActionThreads::keeping(KEEP_IDLE_ACTION_THREADS, timeline)
    }

    fn keeping(keep_idle: Duration, timeline: Arc<Timeline>) -> ActionThreads {
        let (state, ended) = (Mutex::default(), Condvar::new());
        ActionThreads { shared: Arc::new(SharedActionThreads { timeline, keep_idle, state, ended }) }
    }

    /// Runs an action on an idle thread or a new one, and returns the thread's number. Does not wait for the
    /// action.
    pub fn run(
        &self,
        request: ActionRequest,
        action: impl FnOnce(usize) + Send + 'static,
    ) -> Result<usize, SpawnError> {
        // Declared before the lock guard, so that an action that cannot be started is dropped after the lock is
        // released. Dropping it may call the server.
        let job: ActionJob = Box::new(action);
        let mut state = self.shared.state();
        let idle =
            state.idle.pop().and_then(|number| Some((number, state.workers.get(&number)?.jobs.clone())));
        let (number, jobs) = match idle {
            Some(idle) => idle,
            None => {
                let number = lowest_free(&state.workers);
                let (jobs, handed) = bounded(1);
                // Reserves the number. The lock is released while the system starts the thread, so that other actions
                // can begin and end.
                state.workers.insert(number, ActionWorker { jobs: jobs.clone(), action: None });
                drop(state);
                let shared = Arc::clone(&self.shared);
                let started = threads::spawn(&name(number), move || shared.work(number, &handed));
                state = self.shared.state();
                if let Err(error) = started {
                    state.workers.remove(&number);
                    return Err(error);
                }
                (number, jobs)
            }
        };
        // The thread needs the lock to end its action, so the beginning is recorded before the end.
        let began = What::ActionBegan { worker: number, target: Arc::clone(&request.target) };
        self.shared.timeline.record(None, Some(request.subject), began);
        // The channel is empty, because the thread is idle or new, and the thread stops receiving only under this
        // lock. The send therefore neither blocks nor fails.
        let _ = jobs.send(job);
        let action = RunningAction { request, began: Instant::now(), is_orphaned: false };
        state.workers.insert(number, ActionWorker { jobs, action: Some(action) });
        Ok(number)
    }

    /// Notes that the pool thread of this action has ended the answer. If the action is still running, it becomes
    /// orphaned.
    pub fn orphan(&self, number: usize, subject: Subject) {
        let mut state = self.shared.state();
        let action = state.workers.get_mut(&number).and_then(|worker| worker.action.as_mut());
        if let Some(action) = action.filter(|action| action.request.subject == subject) {
            action.is_orphaned = true;
            self.shared.timeline.record(None, Some(subject), What::ActionOrphaned { worker: number });
        }
    }

    /// Returns the counts, all from the same moment.
    pub fn stats(&self) -> ActionThreadStats {
        let state = self.shared.state();
        let actions = || state.workers.values().filter_map(|worker| worker.action.as_ref());
        let (running, orphaned) = (actions().count(), actions().filter(|it| it.is_orphaned).count());
        ActionThreadStats { running, attached: running - orphaned, orphaned }
    }

    /// Returns the threads, lowest number first.
    pub fn views(&self) -> Vec<ActionThreadView> {
        let state = self.shared.state();
        let view = |(number, worker): (&usize, &ActionWorker)| ActionThreadView {
            number: *number,
            name: name(*number),
            action: worker.action.as_ref().map(RunningAction::view),
        };
        state.workers.iter().map(view).collect()
    }

    /// Blocks until no action is running, for at most this time. Returns the number of actions still running.
    pub fn await_end(&self, at_most: Duration) -> usize {
        let runs = |state: &mut ActionThreadsState| state.running() > 0;
        let state = self.shared.state();
        let waited = self.shared.ended.wait_timeout_while(state, at_most, runs);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.running()
    }
}

impl Drop for ActionThreads {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_closed = true;
        for number in std::mem::take(&mut state.idle) {
            // Dropping the sender ends the thread.
            state.workers.remove(&number);
        }
    }
}

impl SharedActionThreads {
    /// Runs jobs on one thread until the thread ends.
    fn work(&self, number: usize, jobs: &Receiver<ActionJob>) {
        loop {
            let job = match jobs.recv_timeout(self.keep_idle) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) if self.leave_idle(number) => return,
                // An action was assigned to this thread just as the timeout expired.
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // The job itself catches and reports a panic of its action. This `catch_unwind` only keeps the thread
            // alive.
            let _ = catch_unwind(AssertUnwindSafe(|| job(number)));
            if !self.end_action(number) {
                return;
            }
        }
    }

    /// Removes a thread that has been idle for too long. Returns whether it was idle.
    fn leave_idle(&self, number: usize) -> bool {
        let mut state = self.state();
        let place = state.idle.iter().position(|idle| *idle == number);
        if let Some(place) = place {
            state.idle.remove(place);
            state.workers.remove(&number);
        }
        place.is_some()
    }

    /// Notes that the action of this thread has ended. Returns whether the thread should stay alive.
    fn end_action(&self, number: usize) -> bool {
        let mut state = self.state();
        let stays = !state.is_closed;
        if let Some(action) = state.workers.get_mut(&number).and_then(|worker| worker.action.take()) {
            self.timeline.record(None, Some(action.request.subject), What::ActionEnded { worker: number });
        }
        if stays {
            state.idle.push(number);
        } else {
            state.workers.remove(&number);
        }
        drop(state);
        self.ended.notify_all();
        stays
    }

    fn state(&self) -> MutexGuard<'_, ActionThreadsState> {
        // No action runs under this lock. Only a failed allocation can panic while it is held, before anything is
        // changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActionThreadsState {
    fn running(&self) -> usize {
        self.workers.values().filter(|worker| worker.action.is_some()).count()
    }
}

impl RunningAction {
    fn view(&self) -> ActionView {
        ActionView {
            subject: self.request.subject,
            target: Arc::clone(&self.request.target),
            age: self.began.elapsed(),
            writes: self.request.writes.load(Ordering::Relaxed),
            pool_thread: (!self.is_orphaned).then_some(self.request.pool_thread),
        }
    }
}

/// The name of the thread with this number.
pub fn name(number: usize) -> String {
    format!("{NAME}-worker-{number}")
}

fn lowest_free(workers: &BTreeMap<usize, ActionWorker>) -> usize {
    let gap = workers.keys().zip(1..).find(|(number, expected)| *number != expected);
    gap.map_or(workers.len() + 1, |(_, expected)| expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn request(number: u64) -> ActionRequest {
        let subject = Subject { connection: number, port: 1, request: number };
        ActionRequest { subject, target: "/".into(), pool_thread: 1, writes: Arc::default() }
    }

    #[test]
    fn each_action_gets_a_thread_and_idle_threads_are_reused() {
        let threads = ActionThreads::new(Arc::default());
        let (end, ends) = bounded::<()>(0);
        let start = |number| {
            let ends = ends.clone();
            threads.run(request(number), move |_| assert!(ends.recv().is_err())).unwrap()
        };
        // More actions than any pool of this server has threads.
        let numbers: Vec<usize> = (1..=50).map(start).collect();
        assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
        assert_eq!(threads.stats(), ActionThreadStats { running: 50, attached: 50, orphaned: 0 });
        assert_eq!(threads.views()[49].name, "action_controller.live-worker-50");
        drop(end);
        assert_eq!(threads.await_end(LONG), 0);
        let (_end, ends) = bounded::<()>(0);
        assert!(threads.run(request(51), move |_| assert!(ends.recv().is_err())).unwrap() <= 50);
        assert_eq!(threads.views().len(), 50, "a thread was started although others were idle");
    }

    #[test]
    fn actions_that_begin_at_the_same_time_have_threads_with_different_numbers() {
        let threads = ActionThreads::new(Arc::default());
        let (end, ends) = bounded::<()>(0);
        let start = |number| {
            let ends = ends.clone();
            threads.run(request(number), move |_| assert!(ends.recv().is_err())).unwrap()
        };
        let mut numbers: Vec<usize> = std::thread::scope(|scope| {
            let starters: Vec<_> = (0..8)
                .map(|starter| {
                    scope.spawn(move || (1..=20).map(|n| start(100 * starter + n)).collect::<Vec<_>>())
                })
                .collect();
            starters.into_iter().flat_map(|starter| starter.join().unwrap()).collect()
        });
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=160).collect::<Vec<_>>());
        assert_eq!(threads.stats().running, 160);
        drop(end);
        assert_eq!(threads.await_end(LONG), 0);
    }

    #[test]
    fn an_idle_thread_ends_after_the_idle_timeout() {
        let threads = ActionThreads::keeping(Duration::from_millis(1), Arc::default());
        threads.run(request(1), |_| ()).unwrap();
        while !threads.views().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(threads.run(request(2), |_| ()).unwrap(), 1);
        assert_eq!(threads.await_end(LONG), 0);
    }

    #[test]
    fn an_action_is_orphaned_only_while_it_is_running() {
        let timeline = Arc::<Timeline>::default();
        let threads = ActionThreads::new(Arc::clone(&timeline));
        let (end, ends) = bounded::<()>(0);
        let number = threads.run(request(1), move |_| assert!(ends.recv().is_err())).unwrap();
        threads.orphan(number, request(2).subject);
        assert_eq!(threads.stats().orphaned, 0, "another request's action was orphaned");
        threads.orphan(number, request(1).subject);
        assert_eq!(threads.stats(), ActionThreadStats { running: 1, attached: 0, orphaned: 1 });
        assert_eq!(threads.views()[0].action.as_ref().unwrap().pool_thread, None);
        drop(end);
        assert_eq!(threads.await_end(LONG), 0);
        threads.orphan(number, request(1).subject);
        assert_eq!(threads.stats(), ActionThreadStats::default());
        let kinds = timeline.after(0).moments.into_iter().map(|moment| moment.what);
        let began = What::ActionBegan { worker: 1, target: "/".into() };
        let ended = [What::ActionOrphaned { worker: 1 }, What::ActionEnded { worker: 1 }];
        assert_eq!(kinds.collect::<Vec<_>>(), [&[began][..], &ended].concat());
    }

    #[test]
    fn a_panic_ends_the_action_but_not_its_thread() {
        let threads = ActionThreads::new(Arc::default());
        let number = threads.run(request(1), |_| panic!("for a test")).unwrap();
        assert_eq!(threads.await_end(LONG), 0);
        assert_eq!(threads.run(request(2), |_| ()).unwrap(), number);
        assert_eq!(threads.await_end(LONG), 0);
    }

    #[test]
    fn dropping_the_pool_ends_idle_threads_without_waiting_for_actions() {
        let threads = ActionThreads::new(Arc::default());
        let shared = Arc::downgrade(&threads.shared);
        let (end, ends) = bounded::<()>(0);
        threads.run(request(1), |_| ()).unwrap();
        assert_eq!(threads.await_end(LONG), 0);
        threads.run(request(2), move |_| assert!(ends.recv().is_err())).unwrap();
        drop(threads);
        assert!(shared.strong_count() > 0, "the threads ended although an action still runs");
        drop(end);
        while shared.strong_count() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
