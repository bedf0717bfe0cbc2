//! The reasons why `serve` cannot start.

use std::net::SocketAddr;
use std::path::PathBuf;

use ninetabs_server::StartError;
use thiserror::Error;

use crate::app::adapters::Failure;
use crate::app::broadcaster::BroadcasterError;
use crate::app::database::OpenError;
use crate::app::database_place::{DatabasePlace, DatabaseUrl, MEMORY};
use crate::app::outside_writers::WatchError;
use crate::app::producer::ProducerError;
use crate::app::templates::ViewsError;
use crate::cli::descriptors;
use crate::cli::files::FileError;
use crate::cli::files::whole::unwritable;

/// Why `serve` cannot start. Each message names the flag and its value, and says what to do.
#[derive(Debug, Error)]
pub enum BootError {
    #[error("--views {}: {error}; give a folder with a copy of views/", .folder.display())]
    Views { folder: PathBuf, error: ViewsError },
    #[error(
        "--db-pool {size}: cannot open more than {opened} connections: {error}; give a smaller number (auto is one per thread), or raise the limit of descriptors (ulimit -n)"
    )]
    DatabasePool { size: usize, opened: usize, error: Failure },
    #[error(
        "--db-pool {size}: PostgreSQL accepted only {opened} connections: {error}; give fewer (auto means one per thread), put a pooler such as PgBouncer in front of it, or raise its max_connections"
    )]
    ServerPool { size: usize, opened: usize, error: Failure },
    #[error(
        "--db-pool {size}: PostgreSQL accepted only {opened} of the {needed} connections of this server: {error}; give fewer (auto means one per thread), put a pooler such as PgBouncer in front of it, or raise its max_connections"
    )]
    ServerConnections { size: usize, opened: usize, needed: usize, error: Failure },
    #[error("--database {}: {error}; the file is unchanged, give another path", .path.display())]
    Database { path: PathBuf, error: OpenError },
    #[error("--database {url}: {error}")]
    DatabaseServer { url: DatabaseUrl, error: OpenError },
    #[error("--database {}: {error}; the file is unchanged, give another path", .path.display())]
    NoDatabase { path: PathBuf, error: FileError },
    #[error(
        "{flag} tcp://{address} is in use; stop the program that listens there, or give another port (0 picks a free one)"
    )]
    AddressInUse { flag: &'static str, address: SocketAddr },
    #[error("{flag}: {error}")]
    Server { flag: &'static str, error: StartError },
    #[error(transparent)]
    Descriptors(#[from] descriptors::TooFew),
    #[error("cannot read random bytes for the token of the dashboard: {0}")]
    Token(#[from] getrandom::Error),
    #[error("--produce-every: {0}")]
    Producer(#[from] ProducerError),
    #[error("cannot start the broadcaster: {0}")]
    Broadcaster(#[from] BroadcasterError),
    #[error("cannot watch for rows of other programs: {0}")]
    OutsideWriters(#[from] WatchError),
    #[error("cannot write --trace {}: {}; give a path that can be written", .path.display(), unwritable(error))]
    Trace { path: PathBuf, error: FileError },
    #[error("cannot write --state {}: {}; give a path that can be written", .path.display(), unwritable(error))]
    State { path: PathBuf, error: FileError },
}

impl BootError {
    /// A server that did not start on the address of this flag.
    pub(super) fn of_server(flag: &'static str, error: StartError) -> BootError {
        match error {
            StartError::AddressInUse(address) => BootError::AddressInUse { flag, address },
            error => BootError::Server { flag, error },
        }
    }

    /// A database that was not opened with a pool of this size.
    pub(super) fn of_database(database: &DatabasePlace, size: usize, error: OpenError) -> BootError {
        match (database, error) {
            (DatabasePlace::Server(_), OpenError::Failure(error @ Failure::Full(_))) => {
                BootError::ServerPool { size, opened: 0, error }
            }
            (DatabasePlace::Server(_), OpenError::Pool { size, opened, error }) => {
                BootError::ServerPool { size, opened, error }
            }
            (DatabasePlace::Server(url), error) => BootError::DatabaseServer { url: url.clone(), error },
            (_, OpenError::Pool { size, opened, error }) => BootError::DatabasePool { size, opened, error },
            (DatabasePlace::File(path), error) => BootError::Database { path: path.clone(), error },
            (DatabasePlace::Memory, error) => BootError::Database { path: MEMORY.into(), error },
        }
    }

    /// The same error, with these numbers if PostgreSQL refused a connection besides those of the pool.
    pub(super) fn with_connections(self, size: usize, opened: usize, needed: usize) -> BootError {
        match self {
            BootError::Broadcaster(BroadcasterError::Database(error @ Failure::Full(_)))
            | BootError::OutsideWriters(WatchError::Database(error @ Failure::Full(_)))
            | BootError::Producer(ProducerError::Database(error @ Failure::Full(_))) => {
                BootError::ServerConnections { size, opened, needed, error }
            }
            other => other,
        }
    }
}
