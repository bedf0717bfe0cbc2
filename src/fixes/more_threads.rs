//! `more-threads`: a pool of 64.
//!
//! The obvious solution, which works as long as the number of tabs is known. The pool is
//! [`ninetabs_server::thread_pool`]; this file implements the page.

use super::{Fix, FixGroup, PLAIN, embedded};

pub(super) const FIX: Fix = Fix {
    name: "more-threads",
    does: "The pool has 64 threads, which share eight database connections.",
    group: FixGroup::MoveTheLimit,
    measured_as: "more-threads",
    view: embedded!("fixes/more-threads.html"),
    is_on: |fixes| fixes.server.threads >= 64,
    ..PLAIN
};
