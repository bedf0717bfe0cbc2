//! The threads that serve everything else, and the one place that notices when one ends by itself.
//!
//! A server whose broadcaster or reactor is gone looks healthy: it accepts, and its pages may still
//! answer. So each such thread is started through [`Services`]. If it ends without being told to,
//! by an error or by a panic, the log says why, and whoever waits on [`Services::ended`] ends the
//! process.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use thiserror::Error;

use crate::threads::{SpawnError, StopSignal, StoppableThread};

/// A service thread that ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the {name} thread ended by itself: {why}")]
pub struct Ended {
    /// The thread's name.
    pub name: Arc<str>,
    /// The error that it returned, or its panic.
    pub why: String,
}

/// Starts service threads, and hears of those that end by themselves.
#[derive(Debug, Clone)]
pub struct Services {
    tell: Sender<Ended>,
    ended: Receiver<Ended>,
}

impl Default for Services {
    fn default() -> Self {
        let (tell, ended) = unbounded();
        Services { tell, ended }
    }
}

impl Services {
    /// Starts a thread that runs until its stop signal comes, and returns Ok then. Any other end is reported,
    /// a panic as well.
    pub fn spawn(
        &self,
        name: &str,
        run: impl FnOnce(&StopSignal) -> Result<(), String> + Send + 'static,
    ) -> Result<StoppableThread, SpawnError> {
        let tell = self.tell.clone();
        let ended: Arc<str> = name.into();
        StoppableThread::start(name, move |stop| {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(stop)));
            let outcome = outcome.unwrap_or_else(|panic| Err(format!("it panicked: {}", message(&*panic))));
            if let Err(why) = outcome {
                let ended = Ended { name: ended, why };
                log::error!("{ended}");
                // This holds the receiving end as well, so it cannot fail.
                let _ = tell.send(ended);
            }
        })
    }

    /// Receives each service thread that ended by itself.
    pub fn ended(&self) -> &Receiver<Ended> {
        &self.ended
    }
}

/// Runs one piece of a loop's work, so that a panic costs this piece and not the loop. None: it
/// panicked. What the piece has touched must be whole after any of its steps.
pub fn piece<T>(what: fmt::Arguments<'_>, run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run))
        // The panic hook has written the message already.
        .inspect_err(|_| log::debug!("{what} panicked, and is left out"))
        .ok()
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_service_thread_that_ends_by_itself_is_reported_and_one_that_was_told_is_not() {
        let services = Services::default();
        for (name, outcome) in [("a", Ok(())), ("b", Err("no descriptors".to_owned()))] {
            services.spawn(name, move |_| outcome).unwrap().join();
        }
        services.spawn("c", |_| panic!("for {}", "a test")).unwrap().join();
        let reported: Vec<String> = services.ended().try_iter().map(|it| it.to_string()).collect();
        assert_eq!(
            reported,
            [
                "the b thread ended by itself: no descriptors",
                "the c thread ended by itself: it panicked: for a test"
            ]
        );
        assert!(services.ended().recv_timeout(Duration::from_millis(1)).is_err());
    }

    #[test]
    fn a_piece_that_panics_costs_itself_only() {
        let done: Vec<_> =
            (0..3).map(|n| piece(format_args!("{n}"), || assert_ne!(n, 1)).is_some()).collect();
        assert_eq!(done, [true, false, true]);
    }
}
