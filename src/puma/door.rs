//! A front door: where connections come in, and become work for the pool.
//!
//! There are two, Puma's own and tiny_http's; what a server needs of either stands
//! here, and how a listener is opened for both.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crossbeam_channel::Receiver;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::configuration::{Configuration, FrontDoor, LISTEN_BACKLOG, SEND_BUFFER_BYTES};
use super::thread_pool::StartError as PoolError;

/// The kernel takes no more milliseconds than an int has: 24 days.
#[cfg(target_os = "linux")]
const MAX_TCP_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// What a server needs of its front door. Dropping it stops it.
pub(super) trait Door: Send + Sync {
    /// Where it listens, port 0 resolved.
    fn address(&self) -> SocketAddr;

    /// Receives once if it dies of itself.
    fn died(&self) -> &Receiver<DoorDied>;

    /// Stops accepting: who connects from now on is refused. A second call does nothing.
    fn stop(&self);

    /// Ends what is left once the pool has: connections that are read to their end. Blocks for at most
    /// this time.
    fn end(&self, _within: Duration) {}

    /// How many connections it has; None where that is hidden.
    fn connections(&self) -> Option<usize> {
        None
    }

    /// The most connections that it lets in; None where it cannot be told.
    fn max_connections(&self) -> Option<usize> {
        None
    }

    /// Lets in no more than so many from now on; those that are open stay.
    fn limit_connections(&self, _most: usize) {}

    /// Connections without a whole request that were closed to make room for others, ever.
    fn evicted(&self) -> u64 {
        0
    }

    /// What its connections hold of requests that no thread has taken; None where that is hidden.
    fn pending_bytes(&self) -> Option<PendingBytes> {
        None
    }

    /// Puts on the timeline what the requests in todo are that nobody has read.
    fn look_at_todo(&self) {}

    /// The most that the reactor has watched since this was last asked; None without one.
    fn take_reactor_max(&self) -> Option<usize> {
        None
    }
}

/// Bytes of unfinished requests in memory, of all connections.
#[derive(Debug, Clone, Copy)]
pub struct PendingBytes {
    pub held: usize,
    /// How many there may be.
    pub most: usize,
}

/// Why a server could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("{0} is in use")]
    AddressInUse(SocketAddr),
    #[error("{0} is not a loopback address, and the tiny-http front has no limit on what a client sends")]
    NotLoopback(SocketAddr),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// The front door's listener is gone: nobody can connect any more.
#[derive(Debug, Clone, Error)]
#[error("the front door on {address} died: {why}")]
pub struct DoorDied {
    pub address: SocketAddr,
    pub why: String,
}

/// A listener whose options every accepted socket inherits.
pub(super) fn listen(configuration: &Configuration) -> Result<TcpListener, StartError> {
    let address = configuration.bind;
    if configuration.front == FrontDoor::TinyHttp && !address.ip().is_loopback() {
        return Err(StartError::NotLoopback(address));
    }
    let open = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        if configuration.front == FrontDoor::TinyHttp {
            // The only bound that there is on a write to a hidden socket.
            socket.set_write_timeout(Some(configuration.write_timeout))?;
        }
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(configuration.tcp_user_timeout.map(|it| it.min(MAX_TCP_USER_TIMEOUT)))?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse(address),
        _ => StartError::Listen { address, error },
    })
}
