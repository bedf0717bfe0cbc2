//! The client half: everything that a person, a browser or a program does to a
//! server, done again by threads that can be asked how they fare.
//!
//! - [`event_stream`]: the wire format, pure.
//! - [`http`]: one request at a time over one socket.
//! - [`tab`]: an EventSource.
//! - [`browser`]: tabs that share six connections a host ([`sockets`]).
//! - [`zombies`]: clients that stay and never read.
//! - [`visitors`]: the real `curl` and `ab`; [`chromium`]: the real browser; each a
//!   [`program`] that ends with its holder.
//!
//! On these stand the acts of `reproduce`: [`subject`] is the server that they look
//! at, [`follower`] asks it for its [`record`] (the [`story`] of each request, by the [`state`] of the server), [`stage`] the verbs that they are written
//! in, [`acts`] the acts; [`lanes`], [`narrator`], [`picture`] and [`claim`] show what was seen, [`report`] and
//! [`trace`] keep it.
//!
//! Nothing in here knows the server half. It speaks over sockets only, so that it
//! works in the same way against a server that someone else wrote.

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
pub mod pacing;
pub mod picture;
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
