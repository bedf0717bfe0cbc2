//! `leave`: the page closes its EventSource when the user leaves it.
//!
//! This is the article's listener, extended to every way of leaving a page. When Turbolinks or Turbo swaps a
//! page, the page is not unloaded, and its stream stays open behind the next one. The libraries announce a
//! swap with different events, some of which do not fire on the way back. Also, the browser may keep a page
//! that was left, with its stream, in the back/forward cache.
//!
//! All of the code is in the view. There are several pages, so that users can go from one page to another.
//! `?listener=off` removes the listener, to show its effect.

use super::{Fix, FixGroup, PLAIN, embedded};

pub(super) const FIX: Fix = Fix {
    name: "leave",
    does: "The page closes its stream however the user leaves it.",
    group: FixGroup::OpenFewerStreams,
    measured_as: "leave",
    has_beside: false,
    view: embedded!("fixes/leave.html"),
    pages: &["1", "2", "3"],
    is_swapped: true,
    ..PLAIN
};
