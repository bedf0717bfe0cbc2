//! How many streams a server can hold, and what limits it.
//!
//! Models what a person does who opens tabs until one stays empty: [`run`] opens one stream after
//! another, asks for the pages beside each, and tries a few short experiments at the limit. It fills a
//! [`Measured`](measured::Measured). [`findings`] says what the figures mean, [`export`] prints them.

pub mod budget;
mod events;
pub mod export;
pub mod findings;
pub mod http2;
mod listeners;
pub mod measured;
mod place;
pub mod plan;
mod procedure;
pub mod progress;
mod requests;
mod statistics;
pub mod thresholds;

pub use procedure::run;
