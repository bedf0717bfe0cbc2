//! The app's server, on either front door: the model of Puma (`ninetabs_server`), or tiny_http.
//!
//! Both have the same pool and the same numbers. A number that tiny_http hides is `None`.

pub mod tiny_http;

use std::net::SocketAddr;
use std::time::Duration;

use crossbeam_channel::Receiver;
use ninetabs_server::Handle;
use ninetabs_server::handle::{ListenerDied, ServerStats, ThreadView};
use ninetabs_server::thread_pool::{BadSize, PoolSize, Shutdown};

pub use tiny_http::TinyHttpServer;

/// A running server.
pub enum AppServer {
    /// The model of Puma.
    Puma(Handle),
    /// A thread of tiny_http's per connection, in front of the same pool.
    TinyHttp(TinyHttpServer),
}

/// Calls the same method of either.
macro_rules! either {
    ($self:ident, $server:ident => $call:expr) => {
        match $self {
            AppServer::Puma($server) => $call,
            AppServer::TinyHttp($server) => $call,
        }
    };
}

impl AppServer {
    /// Where it listens, port 0 resolved.
    pub fn addr(&self) -> SocketAddr {
        either!(self, server => server.addr())
    }

    /// Receives once if the listener dies by itself.
    pub fn died(&self) -> &Receiver<ListenerDied> {
        either!(self, server => server.died())
    }

    /// The numbers of now. Reading resets `backlog_max`, as in Puma.
    pub fn stats(&self) -> ServerStats {
        either!(self, server => server.stats())
    }

    /// The numbers of now; nothing is reset.
    pub fn glance(&self) -> ServerStats {
        either!(self, server => server.glance())
    }

    /// Every pool thread, lowest number first.
    pub fn threads(&self) -> Vec<ThreadView> {
        either!(self, server => server.threads())
    }

    /// The size of the pool that is in force.
    pub fn size(&self) -> PoolSize {
        either!(self, server => server.size())
    }

    /// Sets the least and the most number of threads, and neither starts nor ends one.
    pub fn resize(&self, min: usize, max: usize) -> Result<(), BadSize> {
        either!(self, server => server.resize(min, max))
    }

    /// Asks one thread above the least to leave as soon as it is idle.
    pub fn trim(&self) {
        either!(self, server => server.trim());
    }

    /// Starts threads until the least are there.
    pub fn fill(&self) {
        either!(self, server => server.fill());
    }

    /// The maximum number of connections. None with tiny_http, which has no limit.
    pub fn max_connections(&self) -> Option<usize> {
        match self {
            AppServer::Puma(server) => Some(server.max_connections()),
            AppServer::TinyHttp(_) => None,
        }
    }

    /// Lets in no more than this many connections from now on, where there is a limit.
    pub fn limit_connections(&self, most: usize) {
        if let AppServer::Puma(server) = self {
            server.limit_connections(most);
        }
    }

    /// Records the heads of requests that wait in todo unread. On tiny_http they have been read.
    pub fn look_at_todo(&self) {
        if let AppServer::Puma(server) = self {
            server.look_at_todo();
        }
    }

    /// Stops accepting. What is queued will still be served.
    pub fn stop_accepting(&self) {
        either!(self, server => server.stop_accepting());
    }

    /// Stops the server; blocks for at most `timeout`.
    pub fn shutdown(&self, timeout: Duration) -> Shutdown {
        either!(self, server => server.shutdown(timeout))
    }
}
