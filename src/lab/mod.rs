//! The client half: everything that a person, a browser or a program does to a
//! server, done again by threads that can be asked how they fare.
//!
//! - [`event_stream`]: the wire format, pure.
//! - [`http`]: one request at a time over one socket.
//! - [`tab`]: an EventSource; [`sockets`]: the six connections a host that tabs of
//!   one browser share.
//!
//! Nothing in here knows the server half. It speaks over sockets only, so that it
//! works in the same way against a server that someone else wrote.

pub mod event_stream;
pub mod http;
pub mod sockets;
pub mod tab;
