//! The signals INT, TERM and HUP, which end a command.

use std::process::{self, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use crate::lab::interrupt::Interrupt;
use ninetabs_server::threads::{self, StopSignal};

/// The exit status of a command that a signal ended.
pub const INTERRUPTED: u8 = 130;

/// The maximum time for a command to clean up after a signal.
pub const WITHIN: Duration = Duration::from_millis(600);

/// A signal that arrives this soon after the first one counts as a repetition of it: npm, foreman and nested `timeout`s
/// deliver one TERM twice within milliseconds.
pub const REPEATS_WITHIN: Duration = Duration::from_millis(100);

/// Distinguishes a second request to end from a repetition of the first.
#[derive(Debug, Clone, Default)]
struct StopRequests(Arc<Mutex<Option<Instant>>>);

#[derive(Debug, PartialEq, Eq)]
enum StopRequest {
    First,
    Repeated,
    Second,
}

impl StopRequests {
    /// Counts a request that arrived at this time.
    fn count(&self, now: Instant) -> StopRequest {
        let mut first_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *first_at {
            None => {
                *first_at = Some(now);
                StopRequest::First
            }
            Some(at) if now.saturating_duration_since(at) <= REPEATS_WITHIN => StopRequest::Repeated,
            Some(_) => StopRequest::Second,
        }
    }
}

/// The first signal asks the command to end. The second ends the process without waiting.
#[derive(Debug)]
pub struct FirstOfTwo {
    /// Receives a message at the first signal.
    pub first: Receiver<()>,
    /// Receives a message at the second signal. The command then has twice [`WITHIN`] to clean up and end.
    pub second: Receiver<()>,
    requests: StopRequests,
}

impl FirstOfTwo {
    /// Counts a stop request that was not a signal. The next signal counts as the second, unless it arrives so soon
    /// that it counts as a repetition.
    pub fn count_as_first(&self) {
        self.requests.count(Instant::now());
    }
}

/// Listens for two signals. The command also receives the second one, so that it can remove its files. If the command
/// is blocked, the process ends with 130 after twice [`WITHIN`].
///
/// May be called once per process.
pub fn first_of_two() -> Result<FirstOfTwo, ctrlc::Error> {
    let (tell_first, first) = bounded(1);
    let (tell_second, second) = bounded(1);
    let requests = StopRequests::default();
    let counted = requests.clone();
    ctrlc::set_handler(move || match counted.count(Instant::now()) {
        // One unread message is enough.
        StopRequest::First => drop(tell_first.try_send(())),
        StopRequest::Repeated => {}
        StopRequest::Second => {
            // Only the first of these messages starts the timer.
            if tell_second.try_send(()).is_ok() {
                end_after(WITHIN * 2, || {});
            }
        }
    })?;
    Ok(FirstOfTwo { first, second, requests })
}

/// For a command with child processes and folders to clean up. The first signal ends all of its waits. The process ends
/// after 600 ms, even if it is still waiting. A second signal ends the process immediately. Processes and folders that
/// are left are then cleaned up without this process ([`crate::lab::scratch`] and `serve --stop-with-stdin`). May be
/// called once per process.
pub fn ends_all() -> Result<Interrupt, ctrlc::Error> {
    let (asks, interrupt) = Interrupt::new();
    let mut asks = Some(asks);
    let requests = StopRequests::default();
    ctrlc::set_handler(move || match requests.count(Instant::now()) {
        StopRequest::First => {
            drop(asks.take());
            end_after(WITHIN, || {
                // Printed on a separate thread, since standard error may be blocked.
                let line = threads::spawn("interrupted", interrupted);
                thread::sleep(line.map_or(Duration::ZERO, |_| Duration::from_millis(50)));
            });
        }
        StopRequest::Repeated => {}
        StopRequest::Second => process::exit(INTERRUPTED.into()),
    })?;
    Ok(interrupt)
}

/// For a command that has connections to close. The first signal asks it to end. After 1.2 s, or at a second signal,
/// the process ends, and the kernel closes the remaining connections. May be called once per process.
pub fn stop_signal() -> Result<StopSignal, ctrlc::Error> {
    let (asks, stop) = StopSignal::new();
    let mut asks = Some(asks);
    let requests = StopRequests::default();
    ctrlc::set_handler(move || match requests.count(Instant::now()) {
        StopRequest::First => {
            drop(asks.take());
            end_after(WITHIN * 2, || {});
        }
        StopRequest::Repeated => {}
        StopRequest::Second => process::exit(INTERRUPTED.into()),
    })?;
    Ok(stop)
}

/// Ends the process with 130 after this time, or immediately if the thread that waits cannot be started.
fn end_after(time: Duration, last: impl FnOnce() + Send + 'static) {
    let watchdog = threads::spawn("end", move || {
        thread::sleep(time);
        last();
        process::exit(INTERRUPTED.into());
    });
    if watchdog.is_err() {
        process::exit(INTERRUPTED.into());
    }
}

/// Prints one line. Exit status 130.
pub fn interrupted() -> ExitCode {
    super::complain("interrupted; all programs that it started were stopped");
    ExitCode::from(INTERRUPTED)
}

/// Returns a channel that receives one message per signal. Signals do not end the process, so the command can restore
/// the terminal. May be called once per process.
pub fn each() -> Result<Receiver<()>, ctrlc::Error> {
    let (tell, told) = bounded(1);
    ctrlc::set_handler(move || {
        // One unread message is enough.
        let _ = tell.try_send(());
    })?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_soon_after_the_first_one_counts_as_a_repetition() {
        let (requests, first) = (StopRequests::default(), Instant::now());
        assert_eq!(requests.count(first), StopRequest::First);
        for repeated in [Duration::ZERO, Duration::from_millis(3), REPEATS_WITHIN] {
            assert_eq!(requests.count(first + repeated), StopRequest::Repeated, "{repeated:?}");
        }
        let second = REPEATS_WITHIN + Duration::from_millis(1);
        assert_eq!(requests.count(first + second), StopRequest::Second);
    }
}
