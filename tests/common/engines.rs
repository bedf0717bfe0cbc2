//! Tests about models, which run on each database engine.
//!
//! Such a test is a function with an [`EngineKind`] as its parameter, by which it starts servers. Its name stands in
//! the list of `on_each_engine!` at the beginning of its module.

use std::ffi::OsString;
use std::process::Command;

#[cfg(feature = "postgresql")]
use crate::common::postgres::{Engine, Sql};
use ninetabs::app::adapters::Opened;
#[cfg(feature = "postgresql")]
use ninetabs::app::adapters::postgresql;
use ninetabs::app::adapters::sqlite3::{self, Keep};
use tempfile::TempDir;

use crate::common::{FRONTS, PATIENCE, Server};

/// How many connections a server opens to PostgreSQL for requests, unless its flags say something else. Each connection
/// is a process of the engine, which is slow to start.
#[cfg(feature = "postgresql")]
const DB_POOL: &str = "3";
/// Maximum time of a query, in seconds. The default is too short for a connection to be accepted on a busy machine.
#[cfg(feature = "postgresql")]
const DB_QUERY_TIMEOUT: &str = "60";

/// Turns each function into two tests, `NAME::sqlite3` and `NAME::postgresql`. The second one prints a message and
/// passes if PostgreSQL is not installed. With `CI` set, it fails instead.
macro_rules! on_each_engine {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            #[test]
            fn sqlite3() {
                super::$test($crate::common::engines::EngineKind::Sqlite3);
            }

            #[cfg(feature = "postgresql")]
            #[test]
            fn postgresql() {
                let Some(engine) = $crate::common::postgres::engine() else { return };
                super::$test($crate::common::engines::EngineKind::Postgresql(engine));
            }
        }
    )+};
}
pub(crate) use on_each_engine;

/// The engine of a test's databases.
#[derive(Clone, Copy)]
pub enum EngineKind {
    Sqlite3,
    #[cfg(feature = "postgresql")]
    Postgresql(&'static Engine),
}

impl EngineKind {
    /// Starts a server on a new database, like `Server::start`.
    pub fn server(self, flags: &[&str]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Server::command(folder.path());
        command.args(flags);
        #[cfg(feature = "postgresql")]
        if let EngineKind::Postgresql(engine) = self {
            DatabasePlace(engine.database().url().into()).use_in(&mut command);
        }
        Server::spawn(command, folder)
    }

    /// The same with the flags in one string, separated by spaces.
    pub fn server_with(self, flags: &str) -> Server {
        self.server(&flags.split_whitespace().collect::<Vec<_>>())
    }

    /// The same with this front door.
    pub fn server_on(self, front: &str, flags: &[&str]) -> Server {
        self.server(&[&["--front", front], flags].concat())
    }

    /// Opens a new database in this process, and as another program. The folder may contain the database.
    pub fn open(self) -> (Opened, OtherProgram, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let (opened, place) = match self {
            EngineKind::Sqlite3 => {
                let path = folder.path().join("models.sqlite3");
                (sqlite3::open(&path, Keep::WhileOpen).unwrap(), DatabasePlace(path.into()))
            }
            #[cfg(feature = "postgresql")]
            EngineKind::Postgresql(engine) => {
                let database = engine.database();
                let opened = postgresql::open(&database.settings()).unwrap();
                (opened, DatabasePlace(database.url().into()))
            }
        };
        (opened, place.other_program(), folder)
    }

    pub fn is_sqlite3(self) -> bool {
        matches!(self, EngineKind::Sqlite3)
    }

    /// The front doors for a test that tries each of them. No front door knows the engine, so with PostgreSQL one is
    /// enough.
    pub fn fronts(self) -> &'static [&'static str] {
        if self.is_sqlite3() { &FRONTS } else { &FRONTS[..1] }
    }

    /// How often a test repeats something. The repetitions depend little on the engine, and PostgreSQL is slower.
    pub fn times(self, sqlite3: usize, postgresql: usize) -> usize {
        if self.is_sqlite3() { sqlite3 } else { postgresql }
    }
}

/// The path or the URL of a server's database.
#[derive(Clone)]
pub struct DatabasePlace(OsString);

impl DatabasePlace {
    /// The database that a command's environment names.
    pub(super) fn of(command: &Command) -> DatabasePlace {
        let named = command.get_envs().find(|(key, _)| *key == "NINETABS_DATABASE");
        DatabasePlace(named.and_then(|(_, place)| place).unwrap_or_default().to_owned())
    }

    /// Makes a server that this command starts use the database.
    pub(super) fn use_in(&self, command: &mut Command) {
        command.env("NINETABS_DATABASE", &self.0);
        #[cfg(feature = "postgresql")]
        if self.url().is_some() {
            command.env("NINETABS_DB_POOL", DB_POOL).env("NINETABS_DB_QUERY_TIMEOUT", DB_QUERY_TIMEOUT);
        }
    }

    #[cfg(feature = "postgresql")]
    fn url(&self) -> Option<&str> {
        self.0.to_str().filter(|place| place.starts_with("postgresql://"))
    }

    /// Another program's connection.
    pub(super) fn other_program(&self) -> OtherProgram {
        #[cfg(feature = "postgresql")]
        if let Some(url) = self.url() {
            return OtherProgram::Postgresql(Sql::connect(url).unwrap());
        }
        let db = rusqlite::Connection::open(&self.0).unwrap();
        db.busy_timeout(PATIENCE).unwrap();
        OtherProgram::Sqlite3(db)
    }
}

/// A connection of another program, which knows the table `models`.
pub enum OtherProgram {
    Sqlite3(rusqlite::Connection),
    #[cfg(feature = "postgresql")]
    Postgresql(Sql),
}

impl OtherProgram {
    /// Runs statements that mean the same to both engines.
    pub fn execute(&self, sql: &str) {
        match self {
            OtherProgram::Sqlite3(db) => db.execute_batch(sql).unwrap(),
            #[cfg(feature = "postgresql")]
            OtherProgram::Postgresql(db) => db.execute(sql),
        }
    }

    /// Inserts this many models with the same name in one statement.
    pub fn insert(&self, count: usize, name: &str) {
        match self {
            OtherProgram::Sqlite3(db) => {
                let sql = "WITH RECURSIVE n(i) AS (SELECT 1 WHERE ?1 > 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                    INSERT INTO models (name, created_at_us) SELECT ?2, 1 FROM n";
                assert_eq!(db.execute(sql, (count as i64, name)).unwrap(), count);
            }
            #[cfg(feature = "postgresql")]
            OtherProgram::Postgresql(db) => {
                let name = name.replace('\'', "''");
                db.execute(&format!(
                    "INSERT INTO models (name) SELECT '{name}' FROM generate_series(1, {count})"
                ));
            }
        }
    }

    /// Begins a transaction that keeps other writers waiting.
    pub fn begin_to_write(&self) {
        match self {
            OtherProgram::Sqlite3(_) => self.execute("BEGIN IMMEDIATE"),
            #[cfg(feature = "postgresql")]
            OtherProgram::Postgresql(_) => {
                self.execute("BEGIN; INSERT INTO models (name) VALUES ('theirs')");
            }
        }
    }
}
