//! `more-threads`: a pool of 64.
//!
//! The obvious answer, and a true one as long as one knows how many tabs there will be. The
//! pool itself is [`ninetabs_server::thread_pool`]; here is its page.

use super::{Fix, PLAIN};

pub(super) const FIX: Fix = Fix {
    name: "more-threads",
    does: "a pool of 64 threads, and few database connections for them",
    view: ("fixes/more-threads.html", include_str!("../../views/fixes/more-threads.html")),
    is_on: |fixes| fixes.server.threads >= 64,
    ..PLAIN
};
