//! `more-threads`: a pool of 64.
//!
//! The obvious solution, which works as long as the number of tabs is known. The pool is
//! [`ninetabs_server::thread_pool`]; this file has the page.

use super::{Fix, PLAIN};

pub(super) const FIX: Fix = Fix {
    name: "more-threads",
    does: "a pool of 64 threads, and few database connections for them",
    view: ("fixes/more-threads.html", include_str!("../../views/fixes/more-threads.html")),
    is_on: |fixes| fixes.server.threads >= 64,
    ..PLAIN
};
