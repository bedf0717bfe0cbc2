//! The listener, and the errors that can occur when a server is started.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::configuration::{LISTEN_BACKLOG, SEND_BUFFER_BYTES};
use crate::thread_pool::PoolStartError;
use crate::threads::SpawnError;

/// The kernel's limit: the number of milliseconds must fit into an `int`, which allows 24 days.
#[cfg(target_os = "linux")]
const MAX_TCP_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// The resolution of TCP_USER_TIMEOUT.
#[cfg(target_os = "linux")]
const MIN_TCP_USER_TIMEOUT: Duration = Duration::from_millis(1);

/// The resolution of SO_SNDTIMEO.
const MIN_WRITE_TIMEOUT: Duration = Duration::from_micros(1);

/// Why a server cannot be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address given to [`Server::bind`](crate::Server::bind) cannot be resolved.
    #[error("cannot resolve the address: {0}")]
    Address(io::Error),
    /// Another socket listens on this address.
    #[error("cannot listen on {0}: the address is in use")]
    AddressInUse(SocketAddr),
    /// The system could not listen on this address.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The error from the operating system.
        error: io::Error,
    },
    /// The system could not start a thread, or could not provide a resource that the thread needs.
    #[error(transparent)]
    Thread(#[from] SpawnError),
    /// The pool could not be started.
    #[error(transparent)]
    Pool(#[from] PoolStartError),
}

impl From<StartError> for io::Error {
    fn from(error: StartError) -> io::Error {
        let kind = match &error {
            StartError::AddressInUse(_) => io::ErrorKind::AddrInUse,
            StartError::Address(error) | StartError::Listen { error, .. } => error.kind(),
            StartError::Pool(PoolStartError::BadSize(_)) => io::ErrorKind::InvalidInput,
            StartError::Thread(error) | StartError::Pool(PoolStartError::Thread(error)) => {
                error.source.kind()
            }
        };
        io::Error::new(kind, error)
    }
}

/// Socket options that every accepted connection inherits from its listener.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListenOptions {
    /// How long written bytes may remain unacknowledged. With `None`, the kernel's default applies. Linux only.
    pub tcp_user_timeout: Option<Duration>,
    /// How long one blocking write may take (SO_SNDTIMEO). `None` means no limit.
    pub write_timeout: Option<Duration>,
}

/// Opens a listener on this address. With port 0, the system chooses a free port.
pub fn listen(address: SocketAddr, options: ListenOptions) -> Result<TcpListener, StartError> {
    let open = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        // To the kernel, 0 means no timeout, and a time below its resolution becomes 0.
        socket.set_write_timeout(options.write_timeout.map(|it| it.max(MIN_WRITE_TIMEOUT)))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(
            options.tcp_user_timeout.map(|it| it.clamp(MIN_TCP_USER_TIMEOUT, MAX_TCP_USER_TIMEOUT)),
        )?;
        socket.bind(&address.into())?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse(address),
        _ => StartError::Listen { address, error },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread_pool::BadSize;

    #[test]
    fn a_start_error_keeps_the_kind_of_the_system_error() {
        let kind = |error: StartError| io::Error::from(error).kind();
        let refused = || SpawnError::of("test")(io::ErrorKind::WouldBlock.into());
        assert_eq!(kind(StartError::Pool(refused().into())), io::ErrorKind::WouldBlock);
        assert_eq!(kind(StartError::Thread(refused())), io::ErrorKind::WouldBlock);
        let size = PoolStartError::BadSize(BadSize { min: 2, max: 1 });
        assert_eq!(kind(StartError::Pool(size)), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_timeout_below_the_resolution_of_the_system_does_not_become_none() {
        let least = Some(Duration::from_nanos(1));
        let options = ListenOptions { tcp_user_timeout: least, write_timeout: least };
        let listener = listen(([127, 0, 0, 1], 0).into(), options).unwrap();
        let socket = socket2::SockRef::from(&listener);
        assert_ne!(socket.write_timeout().unwrap(), None);
        #[cfg(target_os = "linux")]
        assert_ne!(socket.tcp_user_timeout().unwrap(), None);
    }
}
