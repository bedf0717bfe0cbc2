//! Tests of the rules, with measurements written as literals.
//!
//! [`literals`] builds the measurements of a run in a few words. Other tests of the probe use it as well.

pub mod literals;

mod exclusive;
mod limits;
mod not_measured;
mod notes;
mod properties;
mod ten_cases;
