//! An interrupt by a signal, which ends the waits of the acts.
//!
//! It arrives once and stays in effect: every copy sees it, and every later wait ends immediately.

use std::convert::Infallible;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use ninetabs_server::threads::StopSignal;

/// Shows whether the interrupt has arrived. Copies share it.
#[derive(Debug, Clone)]
pub struct Interrupt(StopSignal);

/// The interrupt ended a wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Interrupted;

impl Interrupt {
    /// Creates an interrupt that arrives when the sender is dropped.
    pub fn new() -> (Sender<Infallible>, Interrupt) {
        let (asks, asked) = StopSignal::new();
        (asks, Interrupt(asked))
    }

    /// Creates an interrupt that never arrives.
    pub fn never() -> Interrupt {
        Interrupt(StopSignal::never())
    }

    pub fn has_come(&self) -> bool {
        self.0.has_come()
    }

    /// Waits for this long, or until the interrupt arrives.
    pub fn sleep(&self, time: Duration) -> Result<(), Interrupted> {
        if self.0.sleep(time) { Ok(()) } else { Err(Interrupted) }
    }

    /// Returns a channel that is ready once the interrupt has arrived, for use in `select!`.
    pub fn receiver(&self) -> &Receiver<Infallible> {
        self.0.receiver()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_copy_sees_the_interrupt_and_it_stays_in_effect() {
        let (asks, interrupt) = Interrupt::new();
        let copy = interrupt.clone();
        assert_eq!((copy.has_come(), copy.sleep(Duration::from_millis(1))), (false, Ok(())));
        drop(asks);
        for interrupt in [&interrupt, &copy, &interrupt] {
            assert_eq!(interrupt.sleep(Duration::from_secs(600)), Err(Interrupted));
            assert!(interrupt.has_come());
        }
        assert!(!Interrupt::never().has_come());
    }
}
