//! SQLite, compiled in: one file in WAL mode, one writer at a time, any number of readers.
//!
//! Ids only grow (AUTOINCREMENT). They become visible in order, since a second writer waits until the first
//! has committed. `file` prepares and checks the file, `session` contains the SQL, `rows` turns stored rows into
//! models, `word` identifies the table, and `follower` finds the commits of other programs.

mod file;
mod follower;
mod rows;
mod session;
mod word;

use std::path::Path;
use std::time::Duration;

use rusqlite::ErrorCode;

use super::{Adapter, EngineStats, Failure, Gone, Opened, Session};
use file::Files;
use follower::DataVersion;

pub use file::Keep;
pub use session::SCHEMA;

/// A database file of SQLite, and the files beside it.
#[derive(Debug)]
struct Sqlite3 {
    files: Files,
}

/// How long a connection waits for the write of another one, by default.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a database, and creates its file if it does not exist. Blocks while another process prepares the
/// same file.
pub fn open(path: &Path, keep: Keep) -> Result<Opened, Failure> {
    open_with(path, keep, BUSY_TIMEOUT)
}

/// The same, with connections that wait at most this long for the write of another one.
pub fn open_with(path: &Path, keep: Keep, busy_timeout: Duration) -> Result<Opened, Failure> {
    let file::Prepared { mut session, last_id, table } = file::prepare(path, keep)?;
    session.set_timeout(busy_timeout)?;
    let files = Files::of(path, keep, busy_timeout)?;
    Ok(Opened { adapter: Box::new(Sqlite3 { files }), session: Box::new(session), table, last_id })
}

impl Adapter for Sqlite3 {
    fn connect(&self) -> Result<Box<dyn Session>, Failure> {
        Ok(Box::new(self.files.connect()?))
    }

    fn follow(&self) -> Result<Box<dyn super::Follower>, Failure> {
        Ok(Box::new(DataVersion::of(self.files.connect()?)))
    }

    fn check_files(&self) -> Result<(), Gone> {
        self.files.check()
    }

    fn engine(&self) -> EngineStats {
        EngineStats::of("sqlite3")
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Failure::Busy(error.into()),
            _ => Failure::Refused(error.into()),
        }
    }
}

/// Another program's access to a database, for tests.
#[cfg(test)]
pub(crate) mod theirs {
    use rusqlite::Connection;

    use super::super::Session;
    use super::*;

    pub(crate) use super::session::Sqlite3Session;

    /// Opens this file.
    pub(crate) fn at(path: &Path) -> Sqlite3Session {
        let db = Connection::open(path).unwrap();
        // No test simulates a power failure.
        db.pragma_update(None, "synchronous", "OFF").unwrap();
        Sqlite3Session::of(db)
    }

    /// Opens a new database in memory.
    pub(crate) fn in_memory() -> Sqlite3Session {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        Sqlite3Session::of(db)
    }

    impl Sqlite3Session {
        pub(crate) fn execute(&self, sql: &str) {
            self.db.execute_batch(sql).unwrap();
        }

        pub(crate) fn ask(&self, sql: &str) -> i64 {
            self.db.query_row(sql, [], |row| row.get(0)).unwrap()
        }

        /// Inserts a model whose name has these bytes, whether or not they are text.
        pub(crate) fn insert(&self, name: &[u8]) {
            let sql = "INSERT INTO models (name, created_at_us) VALUES (CAST(? AS TEXT), 0)";
            self.db.execute(sql, [name]).unwrap();
        }

        /// Creates a model and returns its id.
        pub(crate) fn add(&mut self, name: &str) -> i64 {
            self.create(name, None).unwrap().id
        }
    }
}
