//! A bounded, synchronous HTTP/1.1 server in the manner of Puma 8 (single mode).
//!
//! One pool of threads serves both pages and streams. An acceptor puts each connection into a queue, `todo`. A pool
//! thread takes it, reads the request, calls the app, and is held until the answer has ended. A connection with an
//! incomplete request waits in a reactor and does not hold a thread. The number of threads is therefore the limit for
//! both: with eight open streams on eight threads, the next page waits. The crate adds what a Rails app on Puma lacks:
//! a registry of open streams, a cap on them, and a reaper that interrupts streams that are too old. A stream above the
//! cap is answered with 200 and ends immediately, so that its client reconnects later.
//!
//! ```no_run
//! use std::time::Duration;
//! use ninetabs_server::{Event, Response, Server};
//!
//! fn main() -> std::io::Result<()> {
//!     Server::bind("127.0.0.1:3000")
//!         .threads(0..=8)
//!         .max_stream_age(Duration::from_secs(60))
//!         .serve(|request| match request.path() {
//!             "/" => Response::text("hello"),
//!             "/ticks" => Response::events(|stream| {
//!                 for n in stream.last_event_id::<u64>().unwrap_or(0).. {
//!                     stream.send(Event::data(n).id(n))?;
//!                     stream.sleep(Duration::from_secs(1))?;
//!                 }
//!                 Ok(())
//!             }),
//!             _ => Response::not_found(),
//!         })
//! }
//! ```
//!
//! # Where to begin
//!
//! - [`Server`] is the builder, in which every limit has a name and a default. By default, the number of connections,
//!   the number of streams and the age of a stream are not limited. [`Handle`] is a running server, with its statistics
//!   and the methods that control it.
//! - An [`App`] takes a [`Request`] and returns a [`Response`]. [`Request::builder`] creates requests for tests,
//!   without a socket.
//! - The action passed to [`Response::events`] writes to a [`Stream`]. [`Streams`] is the registry of open streams.
//! - [`thread_pool`] models `Puma::ThreadPool`: one mutex, and a short function for each of Puma's rules. It is generic
//!   over its work, and independent of HTTP.
//! - [`event_loop`] serves any number of connections on one thread, after [`Response::detach`] has taken them out of
//!   the pool.
//! - [`threads`] has the type of a thread that an owner can stop, and the error if the system cannot start a thread.
//! - [`timeline`] is the record of events, for programs that need one ([`Server::record`]).
//!
//! # The path of a request
//!
//! 1. The acceptor accepts a connection. `PumaServer::let_in` pushes it into `todo` without reading from it. If there
//!    are already [`Server::max_connections`], it first evicts the connection that has waited longest in the reactor
//!    or, if none waits there, one in `todo` that has not sent a complete head. If it finds none, it answers
//!    the new one with 503. Both may linger, as in step 6. If too many do, the acceptor closes the one that has
//!    lingered longest.
//! 2. A pool thread takes the connection and runs `PumaServer::process`, which reads until a request is complete or no
//!    more bytes are available. If the request is incomplete, the connection moves to the reactor. When bytes arrive,
//!    the reactor calls `PumaServer::on_wake`, which reads them and pushes the connection back into `todo` once the
//!    request is complete. When a deadline passes, it ends the connection.
//! 3. [`serving::Serving`] calls the app. The app returns a [`Response`]; nothing has been sent yet.
//! 4. A page is written immediately. For a stream, `Serving` opens a [`Stream`] and runs the action on the same thread,
//!    until the action returns. An interrupt ends a sleep or a blocked write of the action, and makes its next write
//!    fail. A write also fails if it is blocked for too long, or if the client has gone; by default, the action learns
//!    of that in no other way. With [`ActionsOn::OwnThread`], the action runs on one of the [`action_threads`] instead
//!    and puts its writes into a queue, from which the pool thread writes them to the client. (If the client speaks
//!    HTTP/1.0, the answer ends after the first writes, and the action continues alone.) An answer that was created by
//!    [`Response::detach`] gives the connection to the app, and its thread is free. The connection still counts toward
//!    the maximum, and cannot be evicted. If the app drops the connection, step 6 follows.
//! 5. A keep-alive connection stays with its thread if its next request has arrived and another thread is free.
//!    Otherwise it moves to the end of `todo` or, if its next request is not complete, to the reactor. After an
//!    interrupted stream, a connection without a next request ends.
//! 6. A connection that is neither kept alive nor detached ends. `Client::may_close` decides whether it is closed
//!    immediately or lingers in the reactor until its client has closed or a short time is up. A connection whose
//!    client has gone is dropped.
//!
//! After it has been accepted, a connection is in `todo`, on a pool thread, in the reactor (idle, incomplete or
//! lingering), or detached.
//!
//! [`Handle::shutdown`] stops the acceptor, closes idle connections, interrupts the streams, and serves the requests in
//! `todo`. Those that are left after the timeout are refused with 503, and threads that are still busy are abandoned.
//!
//! # Threads
//!
//! A server has one acceptor, one reactor, the threads of the pool, one stream reaper (unless
//! [`Server::without_reaper`] is set), and, if the pool's minimum and maximum differ at the start, one thread that
//! trims it. The pool starts with its minimum of threads, and a push starts another one if none is free and the maximum
//! is not reached. Threads that are marked IO-bound do not count toward the maximum, up to [`Server::max_io_threads`].
//! With [`ActionsOn::OwnThread`], each action has a thread as well, which may outlive the answer. Each [`event_loop`]
//! that the program starts has one thread. While a message is logged too often, one more thread waits to report how
//! many were left out.
//!
//! # Features
//!
//! - `rules`: the module `rules`, with which a program simulates the pool and the ages of streams. A server does not
//!   need it.
//! - `serde`: implements `Serialize` and `Deserialize` for the record, and `Serialize` for the statistics of streams,
//!   action threads and event loops.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod acceptor;
pub mod action_threads;
mod answer_writer;
mod app;
pub mod authority;
pub mod body;
pub mod chunks;
mod client;
pub mod configuration;
pub mod escape;
pub mod event;
pub mod event_loop;
pub mod fields;
mod first_line;
pub mod framing;
mod glance;
pub mod handle;
pub mod head;
mod lingering;
pub mod listen;
mod live_queue;
pub mod log_limit;
mod pending;
mod pool_state;
mod puma_server;
mod reactor;
mod reactor_state;
mod reaper;
pub mod refusal;
pub mod request;
pub mod request_reader;
pub mod response;
#[cfg(feature = "rules")]
pub mod rules;
mod server;
pub mod services;
pub mod serving;
mod socket;
pub mod stream;
mod stream_rules;
pub mod streams;
mod sync;
pub mod thread_pool;
pub mod threads;
pub mod timeline;

pub use answer_writer::{WriteError, WriteFailure};
pub use app::App;
pub use authority::{Authority, Host};
pub use body::RequestBody;
pub use configuration::ActionsOn;
pub use event::Event;
pub use handle::Handle;
pub use listen::StartError;
pub use reaper::Reaper;
pub use request::{Request, RequestBuilder};
pub use response::{Detached, Response};
pub use server::Server;
pub use socket::Cutter;
pub use stream::{Dialect, Stream, StreamError};
pub use streams::Streams;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
