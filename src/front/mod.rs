//! The server of the app, with one of two front doors: the model of Puma (`ninetabs_server`) or tiny_http.
//!
//! Both have the same pool and report the same statistics. A value that tiny_http hides is `None`.

pub mod tiny_http;

use std::net::SocketAddr;
use std::time::Duration;

use crossbeam_channel::Receiver;
use ninetabs_server::Handle;
use ninetabs_server::action_threads::ActionThreadView;
use ninetabs_server::handle::{ListenerDied, ServerStats, ThreadView};
use ninetabs_server::thread_pool::{BadSize, PoolSize, Shutdown};

pub use tiny_http::TinyHttpServer;

/// A running server.
pub enum AppServer {
    /// The model of Puma.
    Puma(Handle),
    /// tiny_http, with one of its own threads per connection, in front of the same pool.
    TinyHttp(TinyHttpServer),
}

/// Calls the same method on whichever server is running.
macro_rules! either {
    ($self:ident, $server:ident => $call:expr) => {
        match $self {
            AppServer::Puma($server) => $call,
            AppServer::TinyHttp($server) => $call,
        }
    };
}

impl AppServer {
    /// Returns the address that the server listens on. If port 0 was requested, this contains the actual
    /// port.
    pub fn addr(&self) -> SocketAddr {
        either!(self, server => server.addr())
    }

    /// Receives one message if the listener dies unexpectedly.
    pub fn died(&self) -> &Receiver<ListenerDied> {
        either!(self, server => server.died())
    }

    /// Returns the current statistics, and resets `backlog_max`, as in Puma.
    pub fn stats(&self) -> ServerStats {
        either!(self, server => server.stats())
    }

    /// Returns the current statistics without resetting anything.
    pub fn glance(&self) -> ServerStats {
        either!(self, server => server.glance())
    }

    /// Returns every pool thread, lowest number first.
    pub fn threads(&self) -> Vec<ThreadView> {
        either!(self, server => server.threads())
    }

    /// Returns the threads of actions, lowest number first. Empty if actions run on pool threads.
    pub fn action_threads(&self) -> Vec<ActionThreadView> {
        either!(self, server => server.action_threads())
    }

    /// Returns the current size limits of the pool.
    pub fn size(&self) -> PoolSize {
        either!(self, server => server.size())
    }

    /// Sets the minimum and maximum number of threads. Neither starts nor ends a thread.
    pub fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        either!(self, server => server.resize(min, max))
    }

    /// Asks one thread above the minimum to end as soon as it is idle.
    pub fn trim(&self) {
        either!(self, server => server.trim());
    }

    /// Starts threads until the minimum is reached.
    pub fn fill(&self) {
        either!(self, server => server.fill());
    }

    /// Returns the maximum number of connections, or `None` with tiny_http, which does not limit them.
    pub fn max_connections(&self) -> Option<usize> {
        match self {
            AppServer::Puma(server) => Some(server.max_connections()),
            AppServer::TinyHttp(_) => None,
        }
    }

    /// Sets the maximum number of open connections. Does nothing with tiny_http.
    pub fn limit_connections(&self, most: usize) {
        if let AppServer::Puma(server) = self {
            server.limit_connections(most);
        }
    }

    /// Records the heads of unread requests in `todo`. With tiny_http, all heads in `todo` have been read.
    pub fn look_at_todo(&self) {
        if let AppServer::Puma(server) = self {
            server.look_at_todo();
        }
    }

    /// Stops accepting connections. Queued requests are still served.
    pub fn stop_accepting(&self) {
        either!(self, server => server.stop_accepting());
    }

    /// Stops the server. Blocks for at most `timeout`.
    pub fn shutdown(&self, timeout: Duration) -> Shutdown {
        either!(self, server => server.shutdown(timeout))
    }
}
