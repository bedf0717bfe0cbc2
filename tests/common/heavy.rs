//! Limits how many tests with an engine and servers of their own run simultaneously.
//!
//! Each of them starts up to fifty processes. The tests of one module begin together, so without a limit they would
//! take the processors away from each other's servers, which give up after a few seconds.

use std::sync::{Condvar, Mutex, PoisonError};

/// Maximum number of such tests at the same time.
const HEAVY: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run such a test. It ends when it is dropped. A test must take only one.
pub struct HeavyPlace(());

/// Waits for a place.
pub fn heavy_place() -> HeavyPlace {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut running =
        ENDED.wait_while(running, |running| *running >= HEAVY).unwrap_or_else(PoisonError::into_inner);
    *running += 1;
    HeavyPlace(())
}

impl Drop for HeavyPlace {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}
