//! `leave`: the page closes its EventSource when it is left.
//!
//! The seed's own listener, for every way of leaving. A page that is swapped by Turbolinks or
//! Turbo is not unloaded, so that its stream goes on behind the next one; and each of them
//! tells of it by other events, not all of which fire on the way back. A page that is left
//! for good may wait in the browser's back/forward cache, with its stream.
//!
//! All of it is in the view. There are several of these pages, so that there is somewhere to go;
//! `?listener=off` takes the listener out, to see what it is good for.

use super::{Fix, PLAIN};

pub(super) const FIX: Fix = Fix {
    name: "leave",
    does: "the page closes its stream when it is left, in whatever way",
    view: ("fixes/leave.html", include_str!("../../views/fixes/leave.html")),
    pages: &["1", "2", "3"],
    is_swapped: true,
    ..PLAIN
};
