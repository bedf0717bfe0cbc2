//! `io-threads`: streams are marked IO-bound, and do not count against the pool.
//!
//! This is the solution of Puma 8 itself. The server crate's `pool_state` implements the rules; this
//! file implements the page.

use super::{Fix, FixGroup, PLAIN, embedded};

pub(super) const FIX: Fix = Fix {
    name: "io-threads",
    does: "Streams are marked IO-bound, and their threads do not count against the pool.",
    group: FixGroup::MoveTheLimit,
    measured_as: "io-threads",
    view: embedded!("fixes/io-threads.html"),
    is_on: |fixes| fixes.server.max_io_threads > 0,
    ..PLAIN
};
