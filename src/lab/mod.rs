//! The client half: acts on a server as users, browsers and programs do, with threads whose state can be read.
//!
//! - [`event_stream`]: the wire format, pure.
//! - [`http`]: one request at a time over one socket.
//! - [`tab`]: an EventSource.
//! - [`browser`]: tabs that share six connections per host ([`sockets`]).
//! - [`zombies`]: clients that stay connected and never read.
//! - [`visitors`]: the real `curl` and `ab`; [`chromium`]: the real browser. Each is a [`program`] that is killed when
//!   its owner is dropped.
//!
//! The [`acts`] of `reproduce` use these. [`subject`] is the server under test. [`follower`] fetches its [`record`],
//! which keeps the [`story`] of each request and follows the server's [`state`]. [`stage`] provides the verbs in which
//! acts are written. [`claim`], [`lanes`], [`orders`], [`signs`], [`narrator`], [`picture`] and [`animation`] show the
//! result. [`report`] and [`trace`] save it. [`wording`] has the counts and titles that they share. [`model_ids`] reads
//! ids from answers. [`cluster`] runs several servers with their tabs. [`compare`] measures all fixes, with the
//! database and the balancer of [`cluster`] on several servers. [`probe`] measures any server: how many streams it
//! holds, and which limit stops it. [`simulate`] computes loads that are too large for a test machine.
//!
//! The lab shares types with the server half, but reaches a server only through sockets. It therefore works in the same
//! way with any other server. Only [`simulate`] is not a client: it uses the server crate's rules for the pool and for
//! streams.

pub mod actions;
pub mod acts;
pub mod animation;
pub mod browser;
pub mod chromium;
pub mod claim;
pub mod cluster;
pub mod compare;
pub mod event_stream;
pub mod follower;
pub mod http;
pub mod interrupt;
pub mod lanes;
pub mod model_ids;
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
pub mod simulate;
pub mod sockets;
pub mod stage;
pub mod state;
pub mod story;
pub mod subject;
pub mod tab;
pub mod trace;
pub mod visitors;
pub mod wording;
pub mod zombies;
