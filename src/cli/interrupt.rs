//! INT, TERM and HUP: what they ask for.

use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::lab::interrupt::Interrupt;

/// Exit status of what a signal ended.
pub const INTERRUPTED: u8 = 130;

/// How long a command may take to clear away after the first signal.
const WITHIN: Duration = Duration::from_millis(600);

/// The first signal asks for the end, the second does not wait for it.
#[derive(Debug)]
pub struct FirstOfTwo {
    /// Receives at the first signal.
    pub first: Receiver<()>,
    asked: Arc<AtomicBool>,
}

impl FirstOfTwo {
    /// The end has been asked for in another way: the next signal is the second one.
    pub fn count_as_first(&self) {
        self.asked.store(true, Ordering::Release);
    }
}

/// Listens for two signals, the second of which ends the process with 130.
///
/// May be called once a process.
pub fn first_of_two() -> Result<FirstOfTwo, ctrlc::Error> {
    let (tell, first) = bounded(1);
    let asked = Arc::new(AtomicBool::new(false));
    let has_been_asked = Arc::clone(&asked);
    ctrlc::set_handler(move || {
        if has_been_asked.swap(true, Ordering::AcqRel) {
            process::exit(INTERRUPTED.into());
        }
        // There is room: it is sent once.
        let _ = tell.try_send(());
    })?;
    Ok(FirstOfTwo { first, asked })
}

/// For a command with children and folders to clear away: the first signal ends all of its waits,
/// and after 600 ms the process, whatever it waits for then; a second one ends it at once. What
/// is not cleared away by then goes without this process ([`crate::lab::scratch`], and
/// `serve --stop-with-stdin`). May be called once per process.
pub fn ends_all() -> Result<Interrupt, ctrlc::Error> {
    let (asks, interrupt) = Interrupt::new();
    let asks = Mutex::new(Some(asks));
    ctrlc::set_handler(move || {
        if asks.lock().unwrap_or_else(PoisonError::into_inner).take().is_none() {
            process::exit(INTERRUPTED.into());
        }
        let watchdog = thread::Builder::new().name("end".into()).spawn(|| {
            thread::sleep(WITHIN);
            // On a thread of its own, since standard error may be blocked.
            let line = thread::Builder::new().spawn(interrupted);
            thread::sleep(line.map_or(Duration::ZERO, |_| Duration::from_millis(50)));
            process::exit(INTERRUPTED.into());
        });
        if watchdog.is_err() {
            process::exit(INTERRUPTED.into());
        }
    })?;
    Ok(interrupt)
}

/// One line, and the status of what a signal ended.
pub fn interrupted() -> ExitCode {
    super::complain("interrupted; servers and browser are ended");
    ExitCode::from(INTERRUPTED)
}

/// Receives at every signal, and never ends the process: for a command that has the terminal
/// to put back. May be called once per process.
pub fn each() -> Result<Receiver<()>, ctrlc::Error> {
    let (tell, told) = bounded(1);
    ctrlc::set_handler(move || {
        // One that nobody has looked at yet says it all.
        let _ = tell.try_send(());
    })?;
    Ok(told)
}
