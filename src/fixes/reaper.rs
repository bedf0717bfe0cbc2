//! `reaper`: streams have a maximum age.
//!
//! The reaper is [`ninetabs_server::Reaper`]; this file implements the page.

use super::{Fix, FixGroup, PLAIN, embedded};

pub(super) const FIX: Fix = Fix {
    name: "reaper",
    does: "Streams have a maximum age, so more tabs than threads take turns.",
    group: FixGroup::BoundTheStreams,
    measured_as: "reaper",
    view: embedded!("fixes/reaper.html"),
    is_on: |fixes| fixes.live.max_age().is_some(),
    ..PLAIN
};
