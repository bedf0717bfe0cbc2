//! The locks and threads that the thread pool uses.
//!
//! The pool imports them from this module and never directly from `std`. A test can therefore substitute the locks of a
//! schedule explorer and run the unchanged pool under many schedules.

pub(super) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
pub(super) use std::thread;
