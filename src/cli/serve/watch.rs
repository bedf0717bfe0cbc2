//! Makes a start interruptible.

use std::convert::Infallible;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at, bounded, never, select_biased};

use super::FailedEnd;
use crate::cli::outlet::Outlet;
use crate::cli::{interrupt, logging};
use crate::control::Stop;
use ninetabs_server::threads;

/// The time that an interrupted start gets to complete.
const START_GRACE: Duration = Duration::from_millis(500);
/// The same time after the end of standard input, which may have ended before the start began. A slow start that fails
/// must still be able to print the reason.
const START_GRACE_WITHOUT_STDIN: Duration = Duration::from_secs(2);

/// Watches for orders to end while a start waits for a locked database or a slow disk.
pub struct Watch {
    pub signal: Receiver<()>,
    pub orders: Receiver<Stop>,
    pub stdin: Receiver<()>,
    /// The folder that this process removes when it ends.
    pub temporary: Option<PathBuf>,
    /// The queues that are written out before the process ends.
    pub last_words: [Outlet; 2],
}

impl Watch {
    /// Runs `start` on this thread, and watches on another one. Returns the order that arrived in the meantime, if
    /// any. If the start then takes longer than its grace time, the process ends with 130.
    pub fn over<T>(self, start: impl FnOnce() -> T) -> Result<(T, Option<Stop>), FailedEnd> {
        let (started, ends) = bounded::<Infallible>(0);
        let watcher = threads::spawn("start", move || self.until(&ends)).map_err(FailedEnd::failed)?;
        // The panic is in the log, which is written before this process ends.
        let result = catch_unwind(AssertUnwindSafe(start));
        drop(started);
        let asked = watcher
            .join()
            .map_err(|_| FailedEnd::failed("the thread that watches the start panicked; see the log"))?;
        let result = result.map_err(|_| FailedEnd::failed("the start panicked; see the log"))?;
        Ok((result, asked))
    }

    fn until(mut self, started: &Receiver<Infallible>) -> Option<Stop> {
        let mut asked: Option<(Stop, Instant)> = None;
        loop {
            let too_late = asked.map_or(never(), |(_, end)| at(end));
            // A completed start is never abandoned, even after its grace time, since its files would remain.
            let (stop, grace) = select_biased! {
                recv(started) -> _ => return asked.map(|(stop, _)| stop),
                recv(too_late) -> _ => self.leave(),
                recv(self.signal) -> _ => (Stop::Gracefully, START_GRACE),
                recv(self.orders) -> order => (order.unwrap_or(Stop::Gracefully), START_GRACE),
                recv(self.stdin) -> _ => {
                    // The channel is now disconnected, and would always be ready.
                    self.stdin = never();
                    (Stop::Gracefully, START_GRACE_WITHOUT_STDIN)
                }
            };
            let end = Instant::now() + grace;
            asked = Some(match asked {
                // A later order to stop does not replace a halt.
                Some((Stop::AtOnce, earlier)) => (Stop::AtOnce, earlier.min(end)),
                Some((Stop::Gracefully, earlier)) => (stop, earlier.min(end)),
                None => (stop, end),
            });
        }
    }

    /// Ends the process, because nothing else can end the start's wait.
    fn leave(&self) -> ! {
        if let Some(folder) = &self.temporary {
            // A later start removes the remaining files.
            let _ = fs::remove_dir_all(folder);
        }
        for words in &self.last_words {
            words.flush(logging::LAST_WORDS);
        }
        process::exit(interrupt::INTERRUPTED.into())
    }
}
