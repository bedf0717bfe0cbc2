//! The place of the models: a file, or a database server.

use std::path::{Path, PathBuf};

use crate::app::adapters::sqlite3::Keep;
use crate::app::database_place::{DatabasePlace, DatabaseUrl};

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
