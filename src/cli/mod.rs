//! One file a command; `main.rs` makes one call in here.

pub mod duration;
pub mod tab;
