//! PostgreSQL: one database for any number of servers.
//!
//! A trigger assigns the numbers under a lock that a transaction holds until it is visible (`schema.sql`), so
//! numbers become visible in order, whichever program writes. A notification of a commit is only a hint: new
//! models are always read from the table. `connection` bounds every wait, `config` reads the URL, `hosts` selects one of
//! its hosts, `history` recognizes a former primary, `boot` checks and creates the tables, `session` has the SQL, and
//! `follower` finds the commits of other programs.

mod boot;
mod config;
mod connection;
mod engine;
mod errors;
mod follower;
mod history;
mod hosts;
mod rows;
mod session;

use std::sync::Arc;
use std::time::Duration;

use super::{Adapter, EngineStats, Failure, Opened, Session};
use crate::app::database_place::DatabaseUrl;
use engine::PgEngine;
use follower::PgFollower;
use session::PgSession;

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct PgSettings {
    pub database: DatabaseUrl,
    /// The address to listen at, if it differs: a pooler in transaction mode does not pass on notifications.
    pub cable: Option<DatabaseUrl>,
    /// The maximum duration of a query, including the time to connect if it needs a new connection.
    pub query_timeout: Duration,
    /// The name of this server in `pg_stat_activity`.
    pub application_name: String,
}

/// A PostgreSQL database.
#[derive(Debug)]
struct PostgreSql(Arc<PgEngine>);

/// Opens a database, and creates its tables if they do not exist.
pub fn open(settings: &PgSettings) -> Result<Opened, Failure> {
    let engine = Arc::new(PgEngine::new(settings)?);
    let (session, table, last_id) = PgSession::first(&engine)?;
    Ok(Opened { adapter: Box::new(PostgreSql(engine)), session: Box::new(session), table, last_id })
}

impl Adapter for PostgreSql {
    fn connect(&self) -> Result<Box<dyn Session>, Failure> {
        Ok(Box::new(PgSession::connected(&self.0)?))
    }

    fn follow(&self) -> Result<Box<dyn super::Follower>, Failure> {
        Ok(Box::new(PgFollower::connected(&self.0)?))
    }

    fn engine(&self) -> EngineStats {
        self.0.stats()
    }

    fn forward(&self, name: &str, data: &str) {
        self.0.forward(name, data);
    }
}
