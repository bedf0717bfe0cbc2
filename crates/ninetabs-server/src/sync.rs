//! The locks and threads that the thread pool is built on.
//!
//! The pool names them through this file and never `std` itself, so that a test
//! can put a schedule explorer's locks in this place and run the very same pool
//! under every order of events that it can think of.

pub(super) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
pub(super) use std::thread;
