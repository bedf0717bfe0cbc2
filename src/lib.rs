//! Nine tabs, eight threads.
//!
//! A Rails controller that streams Server-Sent Events holds one thread of Puma's pool for each open tab. Open
//! nine tabs on eight threads, and the ninth waits; leave them open, and not even a page is served. This package
//! models that system in Rust, with a laboratory that opens tabs, shows the pool run dry, and measures what helps.
//!
//! The HTTP server is a crate of its own, [`ninetabs_server`]. It contains nothing about SQL, templates or routes. Its
//! acceptor puts each connection into a queue, `todo`. If there are too many connections, it first closes one without a
//! complete request, or refuses the new one if it finds none. A thread of the pool takes a connection from `todo`,
//! reads the request, calls the app, and is held until the answer has ended. A reactor watches connections that need no
//! thread at the moment: those whose next request is incomplete or has not begun, and those that linger before they are
//! closed. An answer can also detach its connection from the pool; one event loop then writes to all of the app's
//! detached connections. With `--live rails`, the code that writes a stream runs on a thread of its own, and the pool
//! thread passes on what it writes. A reaper interrupts streams that are too old. Read the crate's front page, then
//! [`ninetabs_server::thread_pool`].
//!
//! [`cli::boot`] starts the parts of `ninetabs serve` one after another, so it shows how they are connected.
//!
//! Read the modules in this order. All of them except `timestamp` and `words` use the server crate; the last column
//! lists what else they use.
//!
//! | module | contents | uses |
//! |---|---|---|
//! | [`app`] | the Rails app of the article. [`app::models_controller`] is its controller, line by line; [`app::database`] is the pool of database connections, and [`app::adapters`] has the engines, SQLite and PostgreSQL. Its threads outside the pool create models ([`app::producer`]), notice rows of other programs ([`app::outside_writers`]), and send new rows to detached connections ([`app::broadcaster`]: an event loop, and a thread that reads the table) | [`timestamp`], [`words`] |
//! | [`fixes`] | the remedies: one file for each, with its page, and with its code if it is part of the app. The others are flags of `serve`, and most of their code is in the server crate. [`fixes::Fixes`] wraps the app: it serves the paths of the remedies and passes every other request on | [`app`] |
//! | [`front`] | one type for the app's running server, which is the crate's or, as a contrast, a second one: tiny_http, with its own threads for connections, in front of a pool of the same type. tiny_http cannot detach a connection, and does not limit their number. [`cli::boot`] starts it | none |
//! | [`lab`] | the client half: tabs, browsers, zombies, and the acts of `ninetabs reproduce`, each of which states its expectation before it runs. [`lab::probe`] measures any server, [`lab::compare`] all fixes, and [`lab::cluster`] runs several servers on one database. It starts servers as child processes of the same program ([`lab::subject`]), and talks to every server over sockets. From the server crate it uses only the timeline, the escaping of text, and threads. [`lab::simulate`] is the exception: it opens no connection, and computes with the crate's rules for the pool and for streams | [`timestamp`], [`words`] |
//! | [`control`] | the app of a second server, which answers while the first cannot, and its dashboard. That server is the crate's as well. Its buttons open clients of the lab, and start one more server, a child process, for comparison. Its viewers are on an event loop of its own | [`app`], [`front`], [`lab`], [`timestamp`] |
//! | [`cli`] | one file per command. Parses the command line, and connects the modules | all |
//! | [`timestamp`] | writes times as text | none |
//! | [`words`] | the words for states and events on every screen | none |
//!
//! `docs/architecture.md` describes the path of a request through the files, and lists the invariants.

pub mod app;
pub mod cli;
pub mod control;
pub mod fixes;
pub mod front;
pub mod lab;
#[cfg(test)]
mod test_request;
pub mod timestamp;
pub mod words;
