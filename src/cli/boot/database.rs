//! Opens the database that the user has given.

use crate::app::adapters::sqlite3;
use crate::app::adapters::{Failure, Opened};
#[cfg(feature = "postgresql")]
use crate::app::database_place::DatabasePlace;
use crate::app::database_place::DatabaseUrl;
#[cfg(not(feature = "postgresql"))]
use crate::cli::NO_POSTGRESQL;
use crate::cli::serve_args::ServeArgs;
use crate::cli::storage::Storage;

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
    Err(Failure::Setup(format!("{NO_POSTGRESQL}, or give a path")))
}
