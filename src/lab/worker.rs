//! A named thread that can be ended, and is always joined.
//!
//! Its waits select on the stop channel it was given; what it blocks in besides (a
//! socket) is ended by a nudge. [`Worker::end`] nudges again until the thread has
//! ended, since a socket that is in the moment between being made and being
//! connected does not notice.

use std::convert::Infallible;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

const NUDGE_EVERY: Duration = Duration::from_millis(10);

/// A thread at work. Dropped without [`Worker::end`], it is told to stop but not joined.
#[derive(Debug)]
pub(super) struct Worker {
    stop: Sender<Infallible>,
    /// Disconnected when the thread has ended.
    ended: Receiver<Infallible>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts `work` on a thread of this name; its channel is disconnected when it
    /// should end.
    pub(super) fn start(
        name: String,
        work: impl FnOnce(Receiver<Infallible>) + Send + 'static,
    ) -> io::Result<Worker> {
        let (stop, stopped) = bounded(0);
        let (end, ended) = bounded::<Infallible>(0);
        let thread = thread::Builder::new().name(name).spawn(move || {
            // Dropped after the work, and also when it panics.
            let _end = end;
            work(stopped);
        })?;
        Ok(Worker { stop, ended, thread })
    }

    /// Tells the thread to end, nudges it, and blocks until it has ended.
    pub(super) fn end(self, nudge: impl Fn()) {
        drop(self.stop);
        loop {
            nudge();
            match self.ended.recv_timeout(NUDGE_EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let name = self.thread.thread().name().unwrap_or_default().to_owned();
        if self.thread.join().is_err() {
            log::error!("the thread {name:?} panicked");
        }
    }
}
