//! `reaper`: streams have a maximum age.
//!
//! The reaper is [`ninetabs_server::Reaper`]; this file has the page.

use super::{Fix, PLAIN};

pub(super) const FIX: Fix = Fix {
    name: "reaper",
    does: "a maximum age: more tabs than threads take turns",
    view: ("fixes/reaper.html", include_str!("../../views/fixes/reaper.html")),
    is_on: |fixes| fixes.live.max_age().is_some(),
    ..PLAIN
};
