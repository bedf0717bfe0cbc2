//! The client half: what a user, a browser or a program does to a server, done by threads whose state can be read.
//!
//! - [`event_stream`]: the wire format, pure.
//! - [`http`]: one request at a time over one socket.
//! - [`tab`]: an EventSource.
//! - [`browser`]: tabs that share six connections per host ([`sockets`]).
//! - [`zombies`]: clients that stay connected and never read.
//! - [`visitors`]: the real `curl` and `ab`; [`chromium`]: the real browser; each a
//!   [`program`] that ends with its holder.
//!
//! The [`acts`] of `reproduce` use these. [`subject`] is the server under test; [`follower`] fetches its [`record`] (the
//! [`story`] of each request, by the [`state`] of the server); [`stage`] has the verbs that acts are written in.
//! [`claim`], [`lanes`], [`orders`], [`signs`], [`narrator`], [`picture`] and [`animation`] show the result; [`report`] and [`trace`]
//! keep it. [`compare`] measures all fixes. [`probe`] measures any server: how many streams it holds, and which limit
//! stops it.
//!
//! Nothing in here depends on the server half. It uses sockets only, so that it works in the same way against another
//! server.

pub mod actions;
pub mod acts;
pub mod animation;
pub mod browser;
pub mod chromium;
pub mod claim;
pub mod compare;
pub mod event_stream;
pub mod follower;
pub mod http;
pub mod interrupt;
pub mod lanes;
pub mod narrator;
pub mod orders;
pub mod pacing;
pub mod picture;
pub mod probe;
pub mod program;
pub mod record;
pub mod report;
pub mod scratch;
pub mod signs;
pub mod sockets;
pub mod stage;
pub mod state;
pub mod story;
pub mod subject;
pub mod tab;
pub mod trace;
pub mod visitors;
pub mod zombies;
