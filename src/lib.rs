//! Nine tabs, eight threads.
//!
//! A Rails controller that streams Server-Sent Events holds one thread of Puma's
//! pool for each open tab. Open nine tabs on eight threads, and the ninth waits;
//! leave them open, and nobody gets as much as a page. This crate is that system
//! in Rust, small enough to be read in an evening, and a laboratory around it.
//!
//! It is no framework: it serves one little app, in the way that Puma would, so
//! that one can watch the pool run dry, see why, and measure what cures it.
//!
//! Read it in this order; a room knows only the rooms above it in this list:
//!
//! - [`escape`]: text from outside, made harmless to a terminal.
//! - [`timeline`]: the one record of what happened. Everything that is shown is
//!   drawn from it.
//! - [`puma`]: the model of Puma. Begin with [`puma::thread_pool`], the heart of it:
//!   one mutex, and each of Puma's rules a short function. Then [`puma::server`],
//!   which starts a pool with its front door, [`puma::serving`], which holds a thread for
//!   each request, and [`puma::connection`], where a write finds out that a client is gone.
//! - [`live`]: ActionController::Live. A [`live::Stream`] is written on and slept
//!   beside; [`live::registry`] knows all that are open, [`live::reaper`] ends those
//!   that are too old.
//! - [`app`]: the seed's Rails app. [`app::models_controller`] is its listing, line by
//!   line; [`app::database`] is the pool behind the pool.
//! - [`fixes`]: the ways out, a file each, on the app that they cure.
//! - [`control`]: the second server, that answers while the first cannot, and its
//!   dashboard.
//!
//! Beside these, and speaking to them over sockets only:
//!
//! - [`lab`]: the client half. Tabs, browsers and zombies, and the acts of
//!   `ninetabs reproduce`, each of which says what it expects before it runs.
//!
//! Every module may use these: [`timestamp`] writes times as text, [`log_limit`] bounds what a client
//! can write to the log, and [`service`] notices a thread that ends by itself.
//!
//! [`cli`] puts the rooms together. `docs/architecture.md` has the map, and what
//! must stay true of it.

pub mod app;
pub mod cli;
pub mod control;
pub mod escape;
pub mod fixes;
pub mod lab;
pub mod live;
pub mod log_limit;
pub mod puma;
pub mod service;
pub mod timeline;
pub mod timestamp;
