//! The crate.
pub mod app;
pub mod cli;
pub mod control;
pub mod lab;
pub mod live;
pub mod puma;
pub mod timeline;
