//! Starts, stops and joins threads.
//!
//! Threads are started with [`spawn`], and [`SpawnError`] is the error if the system cannot start one. A thread that
//! belongs to a value is a [`StoppableThread`]: its owner stops it, and dropping the owner waits until the thread has
//! ended.
//!
//! Five kinds of threads work differently:
//!
//! - The threads of the pool. They end in any order while the pool is resized, and the pool counts them under its own
//!   lock. A shutdown waits for all of them together and must be able to abandon some, so they are not joined. A
//!   schedule explorer replaces their locks in a test, so [`thread_pool`](crate::thread_pool) starts them itself and
//!   shares only the error.
//! - Threads that run actions. An action may outlive its answer and the server, so they are not joined either.
//!   [`action_threads`](crate::action_threads) counts them and waits for them, for a limited time.
//! - Threads that block in a call that this process cannot end: reading standard input or a terminal, waiting for a
//!   signal, or writing to a client or a pipe that is not read. They are started with [`spawn`]. They end when their
//!   pipe closes, when the other end of their channel is dropped, or with the process. A thread that sleeps for a moment
//!   and then logs is started in the same way.
//! - Threads whose result is needed, such as the output of a child process. [`spawn`] returns their handle.
//! - Threads that end within one function. `std::thread::scope` joins them.

use std::convert::Infallible;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, never};
use thiserror::Error;

/// The interval at which a thread that has not ended yet is nudged.
const NUDGE_EVERY: Duration = Duration::from_millis(10);

/// The system could not start a thread, or could not provide a resource that the thread needs.
#[derive(Debug, Error)]
#[error("cannot start the {name} thread: {source}")]
pub struct SpawnError {
    /// The name of the thread.
    pub name: String,
    /// The error from the operating system.
    pub source: io::Error,
}

impl SpawnError {
    /// Returns a function that turns a system error into the error of this thread.
    pub fn of(name: &str) -> impl Fn(io::Error) -> SpawnError + '_ {
        move |source| SpawnError { name: name.to_owned(), source }
    }
}

impl From<SpawnError> for io::Error {
    fn from(error: SpawnError) -> io::Error {
        io::Error::new(error.source.kind(), error)
    }
}

/// Starts a thread with this name. Dropping the handle detaches the thread.
pub fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, SpawnError> {
    // Boxed, so that the code that starts a thread is compiled once for each type of result, not once for each
    // closure.
    let run: Box<dyn FnOnce() -> T + Send> = Box::new(run);
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(SpawnError::of(name))
}

/// The receiving end of a request to stop a thread.
#[derive(Debug, Clone)]
pub struct StopSignal(Receiver<Infallible>);

impl StopSignal {
    /// Creates a signal that is sent by dropping the sender.
    pub fn new() -> (Sender<Infallible>, StopSignal) {
        let (stop, stopped) = bounded(0);
        (stop, StopSignal(stopped))
    }

    /// Creates a signal that is never sent.
    pub fn never() -> StopSignal {
        StopSignal(never())
    }

    /// Returns whether the thread has been asked to stop.
    pub fn has_come(&self) -> bool {
        self.0.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Blocks for this time, or until the thread is asked to stop. Returns `false` if it was asked to stop.
    pub fn sleep(&self, time: Duration) -> bool {
        self.0.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }

    /// Returns a channel that is disconnected once the thread is asked to stop, for use in `select!`.
    pub fn receiver(&self) -> &Receiver<Infallible> {
        &self.0
    }
}

/// A thread with an owner. Dropping this asks the thread to stop, and blocks until it has ended.
///
/// A thread that waits for something other than its [`StopSignal`], such as a socket or kernel events, must
/// also be woken: the owner wakes it before the drop, or calls [`StoppableThread::end_with`].
#[derive(Debug)]
pub struct StoppableThread {
    /// Dropped to ask the thread to stop.
    stop: Mutex<Option<Sender<Infallible>>>,
    /// Disconnected when the thread's work has ended.
    ended: Receiver<Infallible>,
    /// `None` once the thread has been joined or detached.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl StoppableThread {
    /// Starts a thread with this name.
    pub fn start(
        name: &str,
        run: impl FnOnce(&StopSignal) + Send + 'static,
    ) -> Result<StoppableThread, SpawnError> {
        StoppableThread::start_boxed(name, Box::new(run))
    }

    fn start_boxed(
        name: &str,
        run: Box<dyn FnOnce(&StopSignal) + Send>,
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

    /// Asks the thread to stop. Does not block.
    pub fn stop(&self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Blocks until the thread has ended. Does nothing when called on the thread itself, which would wait for
    /// its own end.
    pub fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // If the thread panicked, the panic hook has already reported it. A drop must not panic again.
            let _ = thread.join();
        }
    }

    /// Asks the thread to stop, and blocks until it has ended.
    pub fn end(&self) {
        self.stop();
        self.join();
    }

    /// Asks the thread to stop, and calls `nudge` repeatedly until it has ended. For a socket, one call is not enough:
    /// a shutdown does nothing between the creation of a socket and its connection. When called on the thread itself,
    /// this only asks it to stop.
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

    /// Whether the caller is this thread. `false` once the thread has been joined or detached.
    fn is_current(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id())
    }

    /// Asks the thread to stop, and blocks until it has ended, but for at most this time. If it is still busy, detaches
    /// it and returns `false`.
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

    /// Asks the thread to stop, and detaches it: nothing waits for the thread, not even the drop of this value.
    pub fn leave(&self) {
        self.stop();
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns a channel that is disconnected when the thread's work has ended.
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
    fn a_thread_that_panicked_is_joined_as_well() {
        let thread = StoppableThread::start("test", |_| panic!("for a test")).unwrap();
        assert!(thread.ended().recv().is_err());
        thread.end();
        thread.end();
    }

    #[test]
    fn a_thread_that_does_not_wait_for_the_signal_is_nudged_until_it_ends() {
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
    fn a_thread_that_does_not_end_in_time_is_detached() {
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
    fn the_error_of_a_thread_that_cannot_be_started_contains_its_name() {
        let error = SpawnError::of("stream reaper")(io::ErrorKind::WouldBlock.into());
        let text = format!("cannot start the stream reaper thread: {}", error.source);
        assert_eq!(error.to_string(), text);
        let error = io::Error::from(error);
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::WouldBlock, text));
    }
}
