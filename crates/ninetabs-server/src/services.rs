//! Service threads, on which everything else depends, and the detection of a service thread that ends unexpectedly.
//!
//! A server whose broadcaster or reactor is gone still looks healthy: it accepts connections, and its pages may still
//! answer. Every such thread is therefore started through [`Services`], except the acceptors, whose end is reported by
//! their servers. If a thread ends without being stopped, by an
//! error or a panic, the reason is logged, and the program can end the process when [`Services::ended`] receives the
//! report.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use thiserror::Error;

use crate::threads::{SpawnError, StopSignal, StoppableThread};

/// A service thread that ended unexpectedly.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the {name} thread ended unexpectedly: {why}")]
pub struct Ended {
    /// The name of the thread.
    pub name: Arc<str>,
    /// The error that it returned, or its panic message.
    pub why: String,
}

/// Starts service threads, and receives a report of each one that ends unexpectedly.
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
    /// Starts a thread. `run` must return `Ok` after its stop signal. If it returns an error or panics, this is
    /// reported.
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
                // Sending cannot fail, because this thread's `Services` also holds the receiver.
                let _ = tell.send(ended);
            }
        })
    }

    /// Receives a report of each service thread that ended unexpectedly.
    pub fn ended(&self) -> &Receiver<Ended> {
        &self.ended
    }
}

/// Runs one piece of a loop's work, so that a panic loses only this piece and the loop continues. Returns `None` after
/// a panic. The data that the piece modifies must be consistent after each step.
pub fn piece<T>(what: fmt::Arguments<'_>, run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run))
        // The panic hook has already written the message.
        .inspect_err(|_| log::debug!("{what} panicked and was skipped"))
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
    fn a_service_thread_is_reported_only_if_it_ends_with_an_error_or_a_panic() {
        let services = Services::default();
        for (name, outcome) in [("a", Ok(())), ("b", Err("no descriptors".to_owned()))] {
            services.spawn(name, move |_| outcome).unwrap().join();
        }
        services.spawn("c", |_| panic!("for {}", "a test")).unwrap().join();
        let reported: Vec<String> = services.ended().try_iter().map(|it| it.to_string()).collect();
        assert_eq!(
            reported,
            [
                "the b thread ended unexpectedly: no descriptors",
                "the c thread ended unexpectedly: it panicked: for a test"
            ]
        );
        assert!(services.ended().recv_timeout(Duration::from_millis(1)).is_err());
    }

    #[test]
    fn a_piece_that_panics_does_not_affect_other_pieces() {
        let done: Vec<_> =
            (0..3).map(|n| piece(format_args!("{n}"), || assert_ne!(n, 1)).is_some()).collect();
        assert_eq!(done, [true, false, true]);
    }
}
