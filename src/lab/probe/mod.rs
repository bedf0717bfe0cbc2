//! Measures how many streams a server can hold, and finds out what limits it.
//!
//! Models a person who opens tabs until one stays empty. [`run`] opens one stream after another, requests the pages
//! beside each, and tries a few short experiments at the limit. It fills a [`Measured`](measured::Measured), from which
//! [`findings`] infers the limit. [`export`] prints both.

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
mod sockets;
mod statistics;
pub mod thresholds;

pub use procedure::run;
