//! Finds commits of other programs to our table.
//!
//! The value of `PRAGMA data_version` changes whenever another connection has committed. Reading this
//! value only reads memory that all connections share; it does not query the table.

use std::time::Duration;

use ninetabs_server::threads::StopSignal;

use super::super::{Change, Failure, Follower, Known};
use super::session::Sqlite3Session;
use super::word;

/// The interval between two looks, and thus the maximum delay until a row of another program is found.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The follower, which compares data versions.
#[derive(Debug)]
pub(super) struct DataVersion {
    session: Sqlite3Session,
    /// `None` before the first look, which therefore always queries the table.
    known: Option<i64>,
}

impl DataVersion {
    pub fn of(session: Sqlite3Session) -> DataVersion {
        DataVersion { session, known: None }
    }
}

impl Follower for DataVersion {
    fn pause(&self) -> Duration {
        LOOK_EVERY
    }

    /// Queries the last id, and the table's number. The number differs if the whole database was replaced
    /// through SQLite (`.restore`), whatever ids the new one has.
    fn look(&mut self, Known { table, newest }: Known, _: &StopSignal) -> Result<Option<Change>, Failure> {
        let db = &mut self.session.db;
        let version = db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.known == Some(version) {
            return Ok(None);
        }
        let word = word::of(db)?;
        let last_id = self.session.last()?;
        let change = if word != table {
            Change::Replaced { table: word, last_id }
        } else if last_id < newest {
            Change::BeganAnew { table: word::draw(&mut self.session.db, table)?, last_id }
        } else {
            Change::Committed(last_id)
        };
        self.known = Some(version);
        Ok(Some(change))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::{Keep, open, theirs};
    use super::*;
    use crate::app::database::{Database, LeaseFor};
    use crate::app::outside_writers;
    use crate::app::table::Table;

    fn look(follower: &mut dyn Follower, database: &Database) -> Result<(), Failure> {
        outside_writers::look(follower, database, &|_, _| {}, &StopSignal::never())
    }

    fn database(path: &Path) -> Arc<Database> {
        let opened = open(path, Keep::Forever).unwrap();
        Database::open(opened, 1, Duration::from_secs(60), LeaseFor::Query).unwrap()
    }

    #[test]
    fn the_first_look_finds_what_was_written_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.sqlite3");
        let database = database(&path);
        let mut theirs = theirs::at(&path);
        theirs.add("theirs");
        assert_eq!(database.newest(), 0);
        let mut follower = database.follow().unwrap();
        look(&mut *follower, &database).unwrap();
        assert_eq!(database.newest(), 1);
        assert_eq!(
            follower.look(database.known(), &StopSignal::never()).unwrap(),
            None,
            "no program has written since"
        );
        theirs.add("theirs");
        look(&mut *follower, &database).unwrap();
        assert_eq!(database.newest(), 2);
        let table = database.table();
        theirs.execute("DELETE FROM models");
        look(&mut *follower, &database).unwrap();
        assert_eq!(
            (database.newest(), database.table()),
            (2, table),
            "deleted rows do not change the position"
        );
        theirs.execute("DELETE FROM sqlite_sequence");
        theirs.add("theirs");
        look(&mut *follower, &database).unwrap();
        assert_eq!(database.newest(), 1);
        assert_ne!(database.table(), table, "the ids restarted");
    }

    #[test]
    fn a_database_that_was_restored_over_ours_is_another_table_whatever_ids_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.sqlite3");
        let database = database(&path);
        let mut theirs = theirs::at(&path);
        let mut follower = database.follow().unwrap();
        let mut look = || look(&mut *follower, &database).unwrap();
        theirs.add("theirs");
        look();
        let first = database.table();
        // In the first round, the other database has a number and more ids. In the second, it has no
        // number, so one must be drawn.
        for word in [7, 0] {
            let before = database.table();
            theirs.execute(&format!("PRAGMA user_version = {word}"));
            theirs.add("of another database");
            look();
            assert_ne!(database.table(), before, "{word}");
            assert_ne!(database.table(), Table::default(), "{word}");
            let after = database.table();
            theirs.add("theirs");
            look();
            assert_eq!(database.table(), after, "{word}: the table changed again");
        }
        assert_eq!(database.newest(), 5);
        assert_ne!(database.table(), first);
    }
}
