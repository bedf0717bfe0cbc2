//! The locks and threads that the pool is built on, under one name.
//!
//! They are the standard library's. They stand in a module of their own so that
//! `tests/thread_pool_schedules.rs` can compile the very same `thread_pool.rs`
//! against a scheduler that tries interleavings, without a feature flag.

pub use std::sync::{Arc, Condvar, Mutex, MutexGuard};
pub use std::thread;
