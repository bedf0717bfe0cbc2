//! INT, TERM and HUP: what they ask for.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, bounded};

/// Exit status of what a signal ended.
pub const INTERRUPTED: u8 = 130;

/// Receives at the first signal; the second ends the process with 130.
///
/// May be called once a process.
pub fn first_of_two() -> Result<Receiver<()>, ctrlc::Error> {
    let (tell, told) = bounded(1);
    let asked = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::AcqRel) {
            process::exit(INTERRUPTED.into());
        }
        // There is room: it is sent once.
        let _ = tell.try_send(());
    })?;
    Ok(told)
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
