//! Measurements as literals, and what the rules make of them.
//!
//! [`literals`] builds a run in a few words; other tests of the probe can use it.

pub mod literals;

mod exclusive;
mod limits;
mod not_measured;
mod notes;
mod properties;
mod ten_cases;
