//! Opens the database that the user has given.

use std::path::{Path, PathBuf};

use crate::app::adapters::sqlite3::{self, Keep};
use crate::app::adapters::{Failure, Opened};
use crate::app::database_place::{DatabasePlace, DatabaseUrl};
use crate::cli::serve_args::ServeArgs;

/// Where the models are stored: in a file, which is a temporary one for `:memory:`, or on a database server.
#[derive(Debug, Clone)]
pub enum Storage {
    File { path: PathBuf, keep: Keep },
    Server(DatabaseUrl),
}

impl Storage {
    /// The storage of this database. `temporary` is the path for `:memory:`.
    pub fn of(database: &DatabasePlace, temporary: impl FnOnce() -> PathBuf) -> Storage {
        match database {
            DatabasePlace::File(path) => Storage::File { path: path.clone(), keep: Keep::Forever },
            DatabasePlace::Memory => Storage::File { path: temporary(), keep: Keep::WhileOpen },
            DatabasePlace::Server(url) => Storage::Server(url.clone()),
        }
    }

    pub fn file(&self) -> Option<&Path> {
        match self {
            Storage::File { path, .. } => Some(path),
            Storage::Server(_) => None,
        }
    }

    /// The database, in a form that another process can use.
    pub fn place(&self) -> DatabasePlace {
        match self {
            Storage::File { path, .. } => {
                DatabasePlace::File(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
            }
            Storage::Server(url) => DatabasePlace::Server(url.clone()),
        }
    }

    /// How many descriptors a connection needs: a file and its write-ahead log, or a socket and the polling of its
    /// runtime.
    pub fn descriptors(&self) -> usize {
        match self {
            Storage::File { .. } => 2,
            Storage::Server(_) => 4,
        }
    }
}

/// Opens the database.
pub fn open(args: &ServeArgs, storage: &Storage) -> Result<Opened, Failure> {
    match storage {
        Storage::File { path, keep } => sqlite3::open_with(path, *keep, args.db_query_timeout),
        Storage::Server(url) => of_server(args, url),
    }
}

#[cfg(feature = "postgresql")]
fn of_server(args: &ServeArgs, url: &DatabaseUrl) -> Result<Opened, Failure> {
    use crate::app::adapters::postgresql::{self, PgSettings};

    postgresql::open(&PgSettings {
        database: url.clone(),
        cable: match &args.cable_database {
            Some(DatabasePlace::Server(cable)) => Some(cable.clone()),
            _ => None,
        },
        query_timeout: args.db_query_timeout,
        application_name: format!("ninetabs {}", args.bind),
    })
}

#[cfg(not(feature = "postgresql"))]
fn of_server(_: &ServeArgs, _: &DatabaseUrl) -> Result<Opened, Failure> {
    Err(Failure::Setup(
        "this build does not support PostgreSQL; build it with the feature postgresql (cargo build --features postgresql), or give a path".to_owned(),
    ))
}
