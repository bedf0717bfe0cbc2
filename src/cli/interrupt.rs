//! INT, TERM and HUP: what they ask for.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, bounded};

/// Exit status of what a signal ended.
pub const INTERRUPTED: u8 = 130;

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

/// Receives at every signal, and never ends the process: for a command that has
/// children and files to clear away first. May be called once a process.
pub fn each() -> Result<Receiver<()>, ctrlc::Error> {
    let (tell, told) = bounded(1);
    ctrlc::set_handler(move || {
        // One that nobody has looked at yet says it all.
        let _ = tell.try_send(());
    })?;
    Ok(told)
}
