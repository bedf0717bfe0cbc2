//! Threads: how one is started, told to stop, and joined.
//!
//! [`spawn`] is the one place where this program asks the system for a thread, and [`SpawnError`] the one
//! error if it refuses. A thread that belongs to a value is a [`StoppableThread`]: its owner stops it, and
//! dropping the owner waits until it has ended.
//!
//! Four kinds of threads need another form:
//!
//! - The threads of the pool. They leave in any order while the pool is resized, and the pool counts them under
//!   its own lock. A shutdown waits for all of them at once and must be able to abandon some, so none is
//!   joined. A schedule explorer also replaces their locks, so [`thread_pool`](crate::thread_pool) starts them
//!   itself and shares only the error.
//! - Threads that are blocked in a call which nothing in this process can end: reading standard input or a
//!   terminal, waiting for a signal, a write to a client or a pipe without a reader. They are started by
//!   [`spawn`] and end with their pipe, with the other end of their channel, or with the process.
//! - Threads whose result is wanted, such as the output of a child process: [`spawn`] returns their handle.
//! - Threads that end within one function: `std::thread::scope` joins them.

use std::convert::Infallible;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, never};
use thiserror::Error;

/// How often a thread is nudged that has not ended yet.
const NUDGE_EVERY: Duration = Duration::from_millis(10);

/// The system refused a thread, or what the thread needs to wait for its work.
#[derive(Debug, Error)]
#[error("cannot start the {name} thread: {source}")]
pub struct SpawnError {
    /// The thread's name.
    pub name: String,
    /// The system's answer.
    pub source: io::Error,
}

impl SpawnError {
    /// Returns a function that makes the system's answer the error of this thread.
    pub fn of(name: &str) -> impl Fn(io::Error) -> SpawnError + '_ {
        move |source| SpawnError { name: name.to_owned(), source }
    }
}

impl From<SpawnError> for io::Error {
    fn from(error: SpawnError) -> io::Error {
        io::Error::new(error.source.kind(), error)
    }
}

/// Starts a thread of this name. It ends by itself: dropping the handle detaches it.
pub fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, SpawnError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(SpawnError::of(name))
}

/// Whether a thread has been told to stop, as the thread sees it.
#[derive(Debug, Clone)]
pub struct StopSignal(Receiver<Infallible>);

impl StopSignal {
    /// A signal that comes when the sender is dropped.
    pub fn new() -> (Sender<Infallible>, StopSignal) {
        let (stop, stopped) = bounded(0);
        (stop, StopSignal(stopped))
    }

    /// A signal that never comes.
    pub fn never() -> StopSignal {
        StopSignal(never())
    }

    /// Whether it has come.
    pub fn has_come(&self) -> bool {
        self.0.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Blocks for this time, or until the signal comes. False: it has come.
    pub fn sleep(&self, time: Duration) -> bool {
        self.0.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }

    /// Disconnected once the signal has come: for a `select!`.
    pub fn receiver(&self) -> &Receiver<Infallible> {
        &self.0
    }
}

/// A thread with an owner. Dropping this tells the thread to stop, and blocks until it has ended.
///
/// A thread that waits for something else than its [`StopSignal`], such as a socket or the kernel's events,
/// must also be woken: the owner wakes it before the drop, or calls [`StoppableThread::end_with`].
#[derive(Debug)]
pub struct StoppableThread {
    /// Dropping it is the order to stop.
    stop: Mutex<Option<Sender<Infallible>>>,
    /// Disconnected when the thread's work has ended.
    ended: Receiver<Infallible>,
    /// None once it was joined or left.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl StoppableThread {
    /// Starts a thread of this name.
    pub fn start(
        name: &str,
        run: impl FnOnce(&StopSignal) + Send + 'static,
    ) -> Result<StoppableThread, SpawnError> {
        let (stop, signal) = StopSignal::new();
        let (end, ended) = bounded::<Infallible>(0);
        let thread = spawn(name, move || {
            // Dropped after the work, even if that panics.
            let _end = end;
            run(&signal);
        })?;
        Ok(StoppableThread { stop: Mutex::new(Some(stop)), ended, thread: Mutex::new(Some(thread)) })
    }

    /// Tells the thread to stop. Does not block.
    pub fn stop(&self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Blocks until the thread has ended, by itself or because it was told to. Does nothing on the thread
    /// itself, which would wait for its own end.
    pub fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // The panic hook has reported its panic; a drop must not add one.
            let _ = thread.join();
        }
    }

    /// Tells the thread to stop, and blocks until it has ended.
    pub fn end(&self) {
        self.stop();
        self.join();
    }

    /// Tells the thread to stop, and calls `nudge` again and again until it has ended. Once is not enough for
    /// a socket: between being made and being connected it does not notice that it is shut down. On the thread
    /// itself this only tells it to stop.
    pub fn end_with(&self, nudge: impl Fn()) {
        self.stop();
        if self.is_current() {
            return;
        }
        loop {
            nudge();
            if self.ended.recv_timeout(NUDGE_EVERY) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        self.join();
    }

    /// Whether the caller is this thread. False once the thread was joined or left.
    fn is_current(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id())
    }

    /// Tells the thread to stop, and blocks until it has ended, for at most this time. False: it is still at
    /// work, and is left to itself.
    pub fn end_within(&self, at_most: Duration) -> bool {
        self.stop();
        let has_ended = self.ended.recv_timeout(at_most) == Err(RecvTimeoutError::Disconnected);
        if has_ended {
            self.join();
        } else {
            self.leave();
        }
        has_ended
    }

    /// Tells the thread to stop, and waits for it neither now nor when this is dropped.
    pub fn leave(&self) {
        self.stop();
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Disconnected when the thread's work has ended.
    pub fn ended(&self) -> &Receiver<Infallible> {
        &self.ended
    }
}

impl Drop for StoppableThread {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_drop_stops_the_thread_and_waits_for_its_end() {
        let has_ended = Arc::new(AtomicBool::new(false));
        let sets = Arc::clone(&has_ended);
        let thread = StoppableThread::start("test", move |stop| {
            assert!(!stop.sleep(LONG) && stop.has_come());
            thread::sleep(Duration::from_millis(20));
            sets.store(true, Ordering::Release);
        });
        drop(thread.unwrap());
        assert!(has_ended.load(Ordering::Acquire));
    }

    #[test]
    fn a_thread_that_panicked_is_joined_all_the_same() {
        let thread = StoppableThread::start("test", |_| panic!("for a test")).unwrap();
        assert!(thread.ended().recv().is_err());
        thread.end();
        thread.end();
    }

    #[test]
    fn a_thread_that_does_not_hear_the_signal_is_nudged_until_it_has_ended() {
        let nudges = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&nudges);
        let thread = StoppableThread::start("test", move |_| {
            while seen.load(Ordering::Acquire) < 3 {
                thread::sleep(Duration::from_millis(1));
            }
        });
        thread.unwrap().end_with(|| {
            nudges.fetch_add(1, Ordering::Release);
        });
        assert!(nudges.load(Ordering::Acquire) >= 3);
    }

    #[test]
    fn a_thread_that_is_late_is_left_to_itself() {
        let (go, goes) = bounded::<Infallible>(0);
        let thread = StoppableThread::start("test", move |_| assert!(goes.recv().is_err())).unwrap();
        assert!(!thread.end_within(Duration::from_millis(1)));
        let ended = thread.ended().clone();
        // This would block if the thread were joined.
        drop(thread);
        drop(go);
        assert!(ended.recv().is_err());

        let thread = StoppableThread::start("test", |stop| assert!(!stop.sleep(LONG))).unwrap();
        assert!(thread.end_within(LONG));
    }

    #[test]
    fn a_thread_may_drop_its_own_handle() {
        let (hand, handed) = bounded::<StoppableThread>(1);
        let thread = StoppableThread::start("test", move |_| drop(handed.recv())).unwrap();
        let ended = thread.ended().clone();
        hand.send(thread).unwrap();
        assert!(ended.recv().is_err());
    }

    #[test]
    fn a_refused_thread_is_named() {
        let error = SpawnError::of("stream reaper")(io::ErrorKind::WouldBlock.into());
        let text = format!("cannot start the stream reaper thread: {}", error.source);
        assert_eq!(error.to_string(), text);
        let error = io::Error::from(error);
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::WouldBlock, text));
    }
}
