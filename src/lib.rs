//! Nine tabs, eight threads.
//!
//! A Rails controller that streams Server-Sent Events holds one thread of Puma's pool for each open tab. Open
//! nine tabs on eight threads, and the ninth waits; leave them open, and not even a page is served. This package
//! is that system in Rust, small enough to be read in an evening, and a laboratory around it.
//!
//! The server is a crate of its own, [`ninetabs_server`]: acceptor, reactor, thread pool, streams and their
//! reaper. Read its first page, then [`ninetabs_server::thread_pool`]. It knows no SQL, no template and no
//! route. This package serves one small app on it, in the way that Puma would, so that you can watch the pool
//! run dry, see why, and measure what helps.
//!
//! Read it in this order; a module knows only the modules above it in this list:
//!
//! - [`app`]: the Rails app of the article. [`app::models_controller`] is its controller, line by line;
//!   [`app::database`] is the pool behind the pool, and [`app::adapters`] has the SQL.
//! - [`fixes`]: the remedies, a file each, on the app that they change.
//! - [`front`]: the app's server, on the crate's own front door or on tiny_http.
//! - [`control`]: the second server, which answers while the first cannot, and its dashboard.
//!
//! Beside these, and speaking to them over sockets only:
//!
//! - [`lab`]: the client half. Tabs, browsers and zombies, and the acts of `ninetabs reproduce`, each of which
//!   says what it expects before it runs.
//!
//! [`timestamp`] writes times as text for all of them. [`cli`] puts the modules together.
//! `docs/architecture.md` has the map, and what must stay true of it.

pub mod app;
pub mod cli;
pub mod control;
pub mod fixes;
pub mod front;
pub mod lab;
#[cfg(test)]
mod test_request;
pub mod timestamp;
