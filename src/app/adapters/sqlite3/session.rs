//! A connection to a SQLite file, with all of the SQL for pages and streams.
//!
//! Other programs write to the table as well, and may even have created it with columns of any type. Each row
//! is therefore converted as well as possible ([`super::rows`]), and no row can make a query fail.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

use super::super::{Failure, Session};
use super::rows::{select, select_models};
use crate::app::batch::{Batch, Limit};
use crate::app::model::Model;
use crate::timestamp;

/// The table, as the first migration creates it.
pub const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS models (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    created_at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS index_models_on_created_at ON models (created_at_us);";

/// What to do when the ids are used up.
const LOWER_THE_IDS: &str = "delete that row, and set the seq of models in sqlite_sequence to a lower id";

/// One connection.
#[derive(Debug)]
pub(crate) struct Sqlite3Session {
    pub(super) db: Connection,
}

impl Sqlite3Session {
    pub(super) fn of(db: Connection) -> Sqlite3Session {
        Sqlite3Session { db }
    }

    /// The greatest id, or 0 in an empty table. Models with ids below 1, which only another program inserts,
    /// are on the page but not in a stream: a position stands for all ids up to it, and the lowest position
    /// is 0.
    fn newest_id(&self) -> rusqlite::Result<i64> {
        let sql = "SELECT id FROM models WHERE typeof(id) = 'integer' ORDER BY id DESC LIMIT 1";
        let newest: Option<i64> = self.db.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
        Ok(newest.unwrap_or(0).max(0))
    }

    /// The last id that was assigned. Another program can change the recorded number, or insert an id beyond
    /// it.
    pub(super) fn last(&self) -> rusqlite::Result<i64> {
        // A single statement, because each statement is a separate transaction and a new stream waits for the
        // result.
        let sql = "SELECT max(0,
            ifnull((SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'models'), 0),
            ifnull((SELECT id FROM models WHERE typeof(id) = 'integer' ORDER BY id DESC LIMIT 1), 0))";
        match self.db.prepare_cached(sql) {
            Ok(mut statement) => statement.query_row([], |row| row.get(0)),
            // If another program made the table without AUTOINCREMENT, only the greatest id is known.
            Err(rusqlite::Error::SqlInputError { .. }) => self.newest_id(),
            Err(error) => Err(error),
        }
    }

    fn insert_model(&mut self, name: &str, keep: Option<u64>) -> rusqlite::Result<Model> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // The time is read under the write lock, so that times are in the order of ids.
        let created_at = SystemTime::now();
        transaction
            .prepare_cached("INSERT INTO models (name, created_at_us) VALUES (?, ?)")?
            .execute(params![name, timestamp::micros(created_at)])?;
        let id = transaction.last_insert_rowid();
        if let Some(keep) = keep {
            delete_beyond(&transaction, id, keep)?;
        }
        transaction.commit()?;
        Ok(Model { id, name: name.into(), created_at })
    }

    /// Whether the ids are used up, because the greatest possible one is or was in the table.
    fn is_out_of_ids(&self, error: &rusqlite::Error) -> bool {
        error.sqlite_error_code() == Some(ErrorCode::DiskFull)
            && self.last().is_ok_and(|last| last == i64::MAX)
    }
}

impl Session for Sqlite3Session {
    /// The limit applies to waiting for the lock of another writer. The wait for a disk that does not respond
    /// is unlimited.
    fn set_timeout(&mut self, at_most: Duration) -> Result<(), Failure> {
        Ok(self.db.busy_timeout(at_most)?)
    }

    fn before(&mut self, id: Option<i64>, limit: Limit) -> Result<Batch, Failure> {
        let last = id.map_or(i64::MAX, |id| id.saturating_sub(1));
        Ok(select(&self.db, select_models!("WHERE id <= ? ORDER BY id DESC"), [last], limit)?)
    }

    fn next(&mut self, id: i64, limit: Limit) -> Result<Batch, Failure> {
        Ok(select(&self.db, select_models!("WHERE id > ? ORDER BY id"), [id], limit)?)
    }

    /// Ordered by time first, as the index is, so that only the requested rows are read.
    fn models_since(&mut self, (time_us, id): (i64, i64), limit: Limit) -> Result<Batch, Failure> {
        let sql = select_models!("WHERE (created_at_us, id) > (?, ?) ORDER BY created_at_us, id");
        Ok(select(&self.db, sql, [time_us, id], limit)?)
    }

    fn last_id(&mut self) -> Result<i64, Failure> {
        Ok(self.last()?)
    }

    /// Blocks while another connection writes.
    fn create(&mut self, name: &str, keep: Option<u64>) -> Result<Model, Failure> {
        self.insert_model(name, keep).map_err(|error| match error {
            error if self.is_out_of_ids(&error) => Failure::OutOfIds { remedy: LOWER_THE_IDS },
            error => error.into(),
        })
    }
}

/// Deletes the oldest rows beyond the newest `keep`. `newest` is the id of the newest row. Counts rows rather
/// than ids, since ids have gaps where another program has deleted or inserted rows.
fn delete_beyond(db: &Connection, newest: i64, keep: u64) -> rusqlite::Result<()> {
    let oldest: i64 = db.prepare_cached("SELECT min(id) FROM models")?.query_row([], |row| row.get(0))?;
    // A range of fewer than `keep` ids cannot have more than `keep` rows.
    if newest.abs_diff(oldest) < keep {
        return Ok(());
    }
    let sql = "DELETE FROM models WHERE id <= (SELECT id FROM models ORDER BY id DESC LIMIT 1 OFFSET ?)";
    db.prepare_cached(sql)?.execute([i64::try_from(keep).unwrap_or(i64::MAX)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::theirs;
    use super::*;

    #[test]
    fn only_the_newest_models_are_kept_and_ids_only_grow() {
        let mut db = theirs::in_memory();
        assert_eq!(db.newest_id().unwrap(), 0);
        for n in 1..=5 {
            assert_eq!(db.create(&format!("model {n}"), Some(3)).unwrap().id, n);
        }
        let ids = |batch: Batch| batch.models.iter().map(|model| model.id).collect::<Vec<_>>();
        assert_eq!(ids(db.before(None, Limit::rows(9)).unwrap()), [5, 4, 3]);
        assert_eq!(ids(db.before(Some(5), Limit::rows(1)).unwrap()), [4]);
        assert_eq!(ids(db.next(4, Limit::rows(9)).unwrap()), [5]);
        assert_eq!(ids(db.next(0, Limit::rows(9)).unwrap()), [3, 4, 5]);
        assert_eq!(ids(db.next(0, Limit::rows(2)).unwrap()), [3, 4]);
        assert_eq!(ids(db.newest(Limit::rows(2)).unwrap()), [4, 5]);
        assert_eq!(db.newest_id().unwrap(), 5);
        db.execute("DELETE FROM models");
        assert_eq!((db.newest_id().unwrap(), db.last_id().unwrap()), (0, 5));
        assert_eq!(db.create("next", Some(3)).unwrap().id, 6);
    }

    #[test]
    fn the_requested_number_of_rows_is_kept_whatever_gaps_their_ids_have() {
        let mut db = theirs::in_memory();
        let ids = |db: &Sqlite3Session| -> String {
            db.db.query_row("SELECT group_concat(id) FROM models", [], |row| row.get(0)).unwrap()
        };
        db.execute("INSERT INTO models VALUES (1, 'a', 1), (2, 'b', 1), (40, 'c', 1)");
        db.create("d", Some(3)).unwrap();
        assert_eq!(ids(&db), "2,40,41");
        db.execute("INSERT INTO models VALUES (-5, 'a', 1), (60, 'b', 1), (70, 'c', 1)");
        db.create("e", Some(3)).unwrap();
        assert_eq!(ids(&db), "60,70,71");
        db.create("f", Some(u64::MAX)).unwrap();
        assert_eq!(ids(&db), "60,70,71,72");
    }

    #[test]
    fn while_another_writer_has_the_lock_a_create_fails_as_busy_and_reads_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.sqlite3");
        let mut ours = super::super::open(&path, super::super::Keep::Forever).unwrap().session;
        ours.set_timeout(Duration::ZERO).unwrap();
        let theirs = theirs::at(&path);
        theirs.execute("BEGIN IMMEDIATE");
        let failure = ours.create("ours", None).unwrap_err();
        assert!(matches!(failure, Failure::Busy(_)), "{failure:?}");
        assert_eq!(failure.to_string(), "database is locked");
        assert_eq!(ours.last_id().unwrap(), 0);
        theirs.execute("COMMIT");
        assert_eq!(ours.create("ours", None).unwrap().id, 1);
    }

    #[test]
    fn a_time_slice_has_the_models_after_it() {
        let mut db = theirs::in_memory();
        let first = db.create("first", Some(10)).unwrap();
        let second = db.create("second", Some(10)).unwrap();
        let mut after = |from| {
            let batch = db.models_since(from, Limit::rows(9)).unwrap();
            batch.models.iter().map(|model| model.id).collect::<Vec<_>>()
        };
        let (first, second) = (timestamp::micros(first.created_at), timestamp::micros(second.created_at));
        assert_eq!(after((first - 1, i64::MAX)), [1, 2]);
        assert_eq!(after((second, i64::MAX)), [0; 0]);
        assert_eq!(after((second, 1)), [2]);
        let slice = "EXPLAIN QUERY PLAN SELECT id FROM models WHERE (created_at_us, id) > (0, 0) ORDER BY created_at_us, id";
        let plan: String = db.db.query_row(slice, [], |row| row.get(3)).unwrap();
        assert!(plan.contains("index_models_on_created_at"), "{plan}");
    }

    /// For each kind of value that SQLite can store: a value as SQL, and the text of a name that has this value.
    const VALUES: [(&str, &str); 16] = [
        ("NULL", ""),
        ("0", "0"),
        ("-1", "-1"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775807", "9223372036854775807"),
        ("253402300800000000", "253402300800000000"),
        ("-62167219200000001", "-62167219200000001"),
        ("1.5", "1.5"),
        ("-1e300", ""),
        ("9e999", "inf"),
        ("''", ""),
        ("'1969'", "1969"),
        ("char(0) || 'x'", "\0x"),
        ("x''", ""),
        ("x'00ff80'", "\0\u{fffd}\u{fffd}"),
        ("CAST(x'61ff62' AS TEXT)", "a\u{fffd}b"),
    ];

    #[test]
    fn any_stored_value_is_read_and_no_row_hides_another() {
        // The table as this program creates it, and as another program may have created it.
        for schema in [
            SCHEMA,
            "CREATE TABLE models (id INTEGER PRIMARY KEY AUTOINCREMENT, name, created_at_us)",
            "CREATE TABLE models (id, name, created_at_us)",
        ] {
            let mut db = Sqlite3Session::of(Connection::open_in_memory().unwrap());
            db.execute(schema);
            let mut id = 0;
            let mut stored = Vec::new();
            for (value, text) in VALUES {
                for (name, created_at) in [(value, "7"), ("'plain'", value)] {
                    id += 1;
                    let sql = format!("INSERT INTO models VALUES ({id}, {name}, {created_at})");
                    // Our own table is strict, and accepts fewer values.
                    if db.db.execute(&sql, []).is_ok() {
                        stored.push((id, if name == value { text } else { "plain" }, value));
                    }
                }
            }
            assert!(stored.len() > 14, "{schema}: {stored:?}");
            let all = Limit::rows(1_000);
            let models = db.next(0, all).unwrap().models;
            let ids: Vec<i64> = models.iter().map(|model| model.id).collect();
            assert_eq!(ids, stored.iter().map(|it| it.0).collect::<Vec<_>>(), "{schema}");
            for (model, (_, text, value)) in models.iter().zip(&stored) {
                // SQLite and Rust format these numbers differently.
                let is_spelled = !matches!(*value, "-1e300" | "9e999");
                assert!(*model.name == **text || !is_spelled, "{value}: {model:?}");
                let json = serde_json::to_value(model).unwrap();
                let iso = json["created_at"].as_str().unwrap();
                assert!(iso.len() == 24 && iso.ends_with('Z'), "{value}: {iso}");
                assert_eq!(iso, model.created_at_iso8601());
            }
            assert_eq!(db.newest(all).unwrap().models.len(), stored.len());
            assert_eq!(db.newest_id().unwrap(), id.min(stored.last().unwrap().0));
            db.models_since((0, i64::MAX), all).unwrap();
        }
    }

    #[test]
    fn a_row_whose_id_is_not_an_integer_is_left_out_and_the_others_are_read() {
        let mut db = Sqlite3Session::of(Connection::open_in_memory().unwrap());
        db.execute("CREATE TABLE models (id, name, created_at_us)");
        for (id, _) in VALUES {
            db.execute(&format!("INSERT INTO models VALUES ({id}, 'x', 1)"));
        }
        let ids = |batch: Batch| batch.models.iter().map(|model| model.id).collect::<Vec<_>>();
        let positive = [253_402_300_800_000_000, i64::MAX];
        assert_eq!(ids(db.next(0, Limit::rows(1_000)).unwrap()), positive);
        let all = [i64::MAX, positive[0], 0, -1, -62_167_219_200_000_001, i64::MIN];
        assert_eq!(ids(db.before(None, Limit::rows(1_000)).unwrap()), all);
        assert_eq!(db.newest_id().unwrap(), i64::MAX);
        db.execute("DELETE FROM models WHERE id > 0");
        assert_eq!(db.newest_id().unwrap(), 0, "the lowest position");
    }

    #[test]
    fn a_time_before_1970_is_shown_correctly() {
        let mut db = theirs::in_memory();
        db.execute("INSERT INTO models VALUES (1, 'x', -1000)");
        assert_eq!(
            db.next(0, Limit::rows(1)).unwrap().models[0].created_at_iso8601(),
            "1969-12-31T23:59:59.999Z"
        );
    }
}
