//! Finds what other programs commit to our table, for which no hook of ours runs.
//!
//! ActiveRecord's `after_commit` knows of what went through it alone: a row that the
//! `sqlite3` shell writes, or another process on the same file, fires none. SQLite gives a
//! connection another `PRAGMA data_version` whenever somebody else has committed; that is a
//! look at memory which is shared among all of them, and no query of the table.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use rusqlite::Connection;
use thiserror::Error;

use super::database::Database;
use super::model::Model;
use super::table::Table;
use ninetabs_server::services::Services;

/// How often it looks: so late a row of somebody else's may be known.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why nobody watches.
#[derive(Debug, Error)]
pub enum WatchError {
    #[error("the database answered: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// The thread that looks. It ends when this is dropped, which waits for its look.
#[derive(Debug)]
pub struct OutsideWriters {
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl OutsideWriters {
    /// Watches on a connection outside the pool.
    pub fn watch(database: &Arc<Database>, services: &Services) -> Result<OutsideWriters, WatchError> {
        let mut db = database.connect()?;
        let database = Arc::clone(database);
        let (stop, stopped) = bounded(0);
        let thread = services.spawn("outside writers", move || {
            // The first look asks in any case: somebody may have written since the file was opened.
            let mut known = None;
            let mut has_failed = false;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK_EVERY) {
                // It says so itself if they are gone.
                let _ = database.check_files();
                let looked = look(&mut db, &mut known, &database);
                // Ten times a second the same would bury everything else.
                if let (Err(error), false) = (&looked, has_failed) {
                    log::error!("what other programs write is not seen: {error}");
                }
                has_failed = looked.is_err();
            }
            Ok(())
        })?;
        Ok(OutsideWriters { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for OutsideWriters {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported by the panic hook; a drop must not add one.
            let _ = thread.join();
        }
    }
}

/// Asks for the last id, and for the table's word, if another connection has committed since the last look.
/// The word is another one if the whole database was replaced through SQLite (`.restore`), whatever
/// ids it has.
fn look(db: &mut Connection, known: &mut Option<i64>, database: &Database) -> rusqlite::Result<()> {
    let version = db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
    if *known == Some(version) {
        return Ok(());
    }
    // In this order: what is known to be committed is seen by a question that comes later.
    let (newest, table) = (database.newest(), database.table());
    let (word, last) = (Table::of(db)?, Model::last_id(db)?);
    if word != table {
        database.began_anew(word, last);
        log::warn!(
            "another program put another table in the place of this one: its last id is {last}, and it was {newest}; every client gets all models"
        );
    } else if last < newest {
        let table = Table::draw(db, table)?;
        database.began_anew(table, last);
        log::warn!(
            "another program made the ids of the table begin anew: the last one is {last}, and it was {newest}; every client gets all models"
        );
    } else {
        database.committed(last);
    }
    *known = Some(version);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::database::{Keep, LeaseFor};
    use super::*;

    #[test]
    fn what_was_written_before_anybody_watched_is_found_at_the_first_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.sqlite3");
        let database =
            Database::open(&path, Keep::Forever, 1, Duration::from_secs(60), LeaseFor::Query).unwrap();
        let mut theirs = Connection::open(&path).unwrap();
        Model::create(&mut theirs, "theirs", Some(9)).unwrap();
        assert_eq!(database.newest(), 0);
        let mut db = database.connect().unwrap();
        let mut known = None;
        look(&mut db, &mut known, &database).unwrap();
        assert_eq!(database.newest(), 1);
        let first = known;
        look(&mut db, &mut known, &database).unwrap();
        assert_eq!(known, first, "nobody has written since");
        Model::create(&mut theirs, "theirs", Some(9)).unwrap();
        look(&mut db, &mut known, &database).unwrap();
        assert_eq!(database.newest(), 2);
        let table = database.table();
        theirs.execute_batch("DELETE FROM models").unwrap();
        look(&mut db, &mut known, &database).unwrap();
        assert_eq!((database.newest(), database.table()), (2, table), "deleted rows are known");
        theirs.execute_batch("DELETE FROM sqlite_sequence").unwrap();
        Model::create(&mut theirs, "theirs", Some(9)).unwrap();
        look(&mut db, &mut known, &database).unwrap();
        assert_eq!(database.newest(), 1);
        assert_ne!(database.table(), table, "its ids mean something else now");
    }

    #[test]
    fn a_database_that_was_restored_over_ours_is_another_table_whatever_ids_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.sqlite3");
        let database =
            Database::open(&path, Keep::Forever, 1, Duration::from_secs(60), LeaseFor::Query).unwrap();
        let mut theirs = Connection::open(&path).unwrap();
        let (mut db, mut known) = (database.connect().unwrap(), None);
        let mut look = || look(&mut db, &mut known, &database).unwrap();
        Model::create(&mut theirs, "theirs", None).unwrap();
        look();
        let first = database.table();
        // With more ids, and then with a word that no process has drawn yet.
        for word in [7, 0] {
            let before = database.table();
            theirs.pragma_update(None, "user_version", word).unwrap();
            Model::create(&mut theirs, "of another database", None).unwrap();
            look();
            assert_ne!(database.table(), before, "{word}");
            assert_ne!(database.table(), Table::default(), "{word}");
            let after = database.table();
            Model::create(&mut theirs, "theirs", None).unwrap();
            look();
            assert_eq!(database.table(), after, "{word}: it is the same from then on");
        }
        assert_eq!(database.newest(), 5);
        assert_ne!(database.table(), first);
    }
}
