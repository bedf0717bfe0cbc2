//! The model: a row with a name, as `rails generate model Model name` makes it.
//!
//! All of it is plain SQL over one connection; where that connection comes from
//! is [`super::database`]'s matter. Ids only grow (AUTOINCREMENT), so that an id
//! can stand for "everything up to here".
//!
//! Other programs write to the table too, and may even have made it with columns that take any
//! value. So a row is read as well as possible ([`super::batch`]), and none makes a query fail.

use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::{Serialize, Serializer};

use super::batch::{Batch, Limit, select_models};
use crate::timestamp;

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 16 * 1024;

/// The table, as the first migration leaves it.
pub const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS models (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    created_at_us INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS index_models_on_created_at ON models (created_at_us);";

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Model {
    pub id: i64,
    pub name: Arc<str>,
    #[serde(serialize_with = "as_iso8601")]
    pub created_at: SystemTime,
}

impl Model {
    /// The newest with a smaller id, or of all, newest first.
    pub fn before(db: &Connection, id: Option<i64>, limit: Limit) -> rusqlite::Result<Batch> {
        let last = id.map_or(i64::MAX, |id| id.saturating_sub(1));
        let sql = select_models!("WHERE id <= ? ORDER BY id DESC");
        Batch::select(db, sql, [last], limit)
    }

    /// The first with a greater id, oldest first.
    pub fn next(db: &Connection, id: i64, limit: Limit) -> rusqlite::Result<Batch> {
        let sql = select_models!("WHERE id > ? ORDER BY id");
        Batch::select(db, sql, [id], limit)
    }

    /// The newest, oldest first.
    pub fn newest(db: &Connection, limit: Limit) -> rusqlite::Result<Batch> {
        let mut batch = Model::before(db, None, limit)?;
        batch.models.reverse();
        Ok(batch)
    }

    /// The original's `Model.models_since(time)`: those created after that time, or at it with a
    /// greater id. Oldest first by time, so that the index gives them in order and none but the
    /// wanted rows are read.
    pub fn models_since(db: &Connection, (time_us, id): (i64, i64), limit: Limit) -> rusqlite::Result<Batch> {
        let sql = select_models!("WHERE (created_at_us, id) > (?, ?) ORDER BY created_at_us, id");
        Batch::select(db, sql, [time_us, id], limit)
    }

    /// The newest id there is, 0 without models. Ids below 1, which only another program gives, are
    /// on the page and in no stream: a position stands for all ids up to it, and the first is 0.
    pub fn newest_id(db: &Connection) -> rusqlite::Result<i64> {
        let sql = "SELECT id FROM models WHERE typeof(id) = 'integer' ORDER BY id DESC LIMIT 1";
        let newest: Option<i64> = db.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
        Ok(newest.unwrap_or(0).max(0))
    }

    /// The last id that the table has given, whether or not its row is still there; 0 before the first.
    /// Another program can set the number that the table has given, or insert an id beyond it.
    pub fn last_id(db: &Connection) -> rusqlite::Result<i64> {
        // One statement, since each is a transaction of its own, and a new stream waits for it.
        let sql = "SELECT max(0,
            ifnull((SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'models'), 0),
            ifnull((SELECT id FROM models WHERE typeof(id) = 'integer' ORDER BY id DESC LIMIT 1), 0))";
        match db.prepare_cached(sql) {
            Ok(mut statement) => statement.query_row([], |row| row.get(0)),
            // No more than the newest id is known of a table that another program made without AUTOINCREMENT.
            Err(rusqlite::Error::SqlInputError { .. }) => Model::newest_id(db),
            Err(error) => Err(error),
        }
    }

    /// Creates a model, and deletes the oldest beyond the newest `keep`, if a number is given. Both are
    /// committed when this returns. Blocks while another connection writes, at most for the busy timeout.
    pub fn create(db: &mut Connection, name: &str, keep: Option<u64>) -> rusqlite::Result<Model> {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Taken under the write lock, so that time and id grow together.
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

    /// When it was created, as Rails writes it in JSON.
    pub fn created_at_iso8601(&self) -> String {
        timestamp::millis(self.created_at).to_string()
    }
}

/// Deletes the oldest rows beyond the newest `keep`, the newest of which has this id. Ids have gaps,
/// where another program has deleted or inserted rows: rows are counted.
fn delete_beyond(db: &Connection, newest: i64, keep: u64) -> rusqlite::Result<()> {
    let oldest: i64 = db.prepare_cached("SELECT min(id) FROM models")?.query_row([], |row| row.get(0))?;
    // Fewer ids than that are fewer rows.
    if newest.abs_diff(oldest) < keep {
        return Ok(());
    }
    let sql = "DELETE FROM models WHERE id <= (SELECT id FROM models ORDER BY id DESC LIMIT 1 OFFSET ?)";
    db.prepare_cached(sql)?.execute([i64::try_from(keep).unwrap_or(i64::MAX)])?;
    Ok(())
}

fn as_iso8601<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&timestamp::millis(*time))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn database() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        db
    }

    #[test]
    fn only_the_newest_are_kept_and_ids_only_grow() {
        let mut db = database();
        assert_eq!(Model::newest_id(&db).unwrap(), 0);
        for n in 1..=5 {
            assert_eq!(Model::create(&mut db, &format!("model {n}"), Some(3)).unwrap().id, n);
        }
        let ids = |batch: Batch| batch.models.iter().map(|model| model.id).collect::<Vec<_>>();
        assert_eq!(ids(Model::before(&db, None, Limit::rows(9)).unwrap()), [5, 4, 3]);
        assert_eq!(ids(Model::before(&db, Some(5), Limit::rows(1)).unwrap()), [4]);
        assert_eq!(ids(Model::next(&db, 4, Limit::rows(9)).unwrap()), [5]);
        assert_eq!(ids(Model::next(&db, 0, Limit::rows(9)).unwrap()), [3, 4, 5]);
        assert_eq!(ids(Model::next(&db, 0, Limit::rows(2)).unwrap()), [3, 4]);
        assert_eq!(ids(Model::newest(&db, Limit::rows(2)).unwrap()), [4, 5]);
        assert_eq!(Model::newest_id(&db).unwrap(), 5);
        db.execute("DELETE FROM models", []).unwrap();
        assert_eq!((Model::newest_id(&db).unwrap(), Model::last_id(&db).unwrap()), (0, 5));
        assert_eq!(Model::create(&mut db, "next", Some(3)).unwrap().id, 6);
    }

    #[test]
    fn as_many_rows_are_kept_as_were_asked_for_whatever_gaps_their_ids_have() {
        let mut db = database();
        let ids = |db: &Connection| -> String {
            db.query_row("SELECT group_concat(id) FROM models", [], |row| row.get(0)).unwrap()
        };
        db.execute("INSERT INTO models VALUES (1, 'a', 1), (2, 'b', 1), (40, 'c', 1)", []).unwrap();
        Model::create(&mut db, "d", Some(3)).unwrap();
        assert_eq!(ids(&db), "2,40,41");
        db.execute("INSERT INTO models VALUES (-5, 'a', 1), (60, 'b', 1), (70, 'c', 1)", []).unwrap();
        Model::create(&mut db, "e", Some(3)).unwrap();
        assert_eq!(ids(&db), "60,70,71");
        Model::create(&mut db, "f", Some(u64::MAX)).unwrap();
        assert_eq!(ids(&db), "60,70,71,72");
    }

    #[test]
    fn a_time_slice_has_what_came_after_it() {
        let mut db = database();
        let first = Model::create(&mut db, "first", Some(10)).unwrap();
        let second = Model::create(&mut db, "second", Some(10)).unwrap();
        let after = |from| {
            let batch = Model::models_since(&db, from, Limit::rows(9)).unwrap();
            batch.models.iter().map(|model| model.id).collect::<Vec<_>>()
        };
        let (first, second) = (timestamp::micros(first.created_at), timestamp::micros(second.created_at));
        assert_eq!(after((first - 1, i64::MAX)), [1, 2]);
        assert_eq!(after((second, i64::MAX)), [0; 0]);
        assert_eq!(after((second, 1)), [2]);
        let slice = "EXPLAIN QUERY PLAN SELECT id FROM models WHERE (created_at_us, id) > (0, 0) ORDER BY created_at_us, id";
        let plan: String = db.query_row(slice, [], |row| row.get(3)).unwrap();
        assert!(plan.contains("index_models_on_created_at"), "{plan}");
    }

    #[test]
    fn json_as_rails_writes_it() {
        let model =
            Model { id: 1, name: "a\"b".into(), created_at: UNIX_EPOCH + Duration::from_millis(1_500) };
        let json = r#"{"id":1,"name":"a\"b","created_at":"1970-01-01T00:00:01.500Z"}"#;
        assert_eq!(serde_json::to_string(&model).unwrap(), json);
    }

    /// All that SQLite can store, by its own spelling, and the text that a name of it has.
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
    fn whatever_is_stored_is_read_and_no_row_hides_another() {
        // As our own program makes the table, and as another may have made it.
        for schema in [
            SCHEMA,
            "CREATE TABLE models (id INTEGER PRIMARY KEY AUTOINCREMENT, name, created_at_us)",
            "CREATE TABLE models (id, name, created_at_us)",
        ] {
            let db = Connection::open_in_memory().unwrap();
            db.execute_batch(schema).unwrap();
            let mut id = 0;
            let mut stored = Vec::new();
            for (value, text) in VALUES {
                for (name, created_at) in [(value, "7"), ("'plain'", value)] {
                    id += 1;
                    let sql = format!("INSERT INTO models VALUES ({id}, {name}, {created_at})");
                    // Our own table is strict, and takes less.
                    if db.execute(&sql, []).is_ok() {
                        stored.push((id, if name == value { text } else { "plain" }, value));
                    }
                }
            }
            assert!(stored.len() > 14, "{schema}: {stored:?}");
            let all = Limit::rows(1_000);
            let models = Model::next(&db, 0, all).unwrap().models;
            let ids: Vec<i64> = models.iter().map(|model| model.id).collect();
            assert_eq!(ids, stored.iter().map(|it| it.0).collect::<Vec<_>>(), "{schema}");
            for (model, (_, text, value)) in models.iter().zip(&stored) {
                // SQLite and Rust spell such numbers differently.
                let is_spelled = !matches!(*value, "-1e300" | "9e999");
                assert!(*model.name == **text || !is_spelled, "{value}: {model:?}");
                let json = serde_json::to_value(model).unwrap();
                let iso = json["created_at"].as_str().unwrap();
                assert!(iso.len() == 24 && iso.ends_with('Z'), "{value}: {iso}");
                assert_eq!(iso, model.created_at_iso8601());
            }
            assert_eq!(Model::newest(&db, all).unwrap().models.len(), stored.len());
            assert_eq!(Model::newest_id(&db).unwrap(), id.min(stored.last().unwrap().0));
            Model::models_since(&db, (0, i64::MAX), all).unwrap();
        }
    }

    #[test]
    fn a_row_whose_id_is_not_an_integer_is_left_out_and_the_others_are_read() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE models (id, name, created_at_us)").unwrap();
        for (id, _) in VALUES {
            db.execute(&format!("INSERT INTO models VALUES ({id}, 'x', 1)"), []).unwrap();
        }
        let ids = |batch: Batch| batch.models.iter().map(|model| model.id).collect::<Vec<_>>();
        let positive = [253_402_300_800_000_000, i64::MAX];
        assert_eq!(ids(Model::next(&db, 0, Limit::rows(1_000)).unwrap()), positive);
        let all = [i64::MAX, positive[0], 0, -1, -62_167_219_200_000_001, i64::MIN];
        assert_eq!(ids(Model::before(&db, None, Limit::rows(1_000)).unwrap()), all);
        assert_eq!(Model::newest_id(&db).unwrap(), i64::MAX);
        db.execute("DELETE FROM models WHERE id > 0", []).unwrap();
        assert_eq!(Model::newest_id(&db).unwrap(), 0, "the least position");
    }

    #[test]
    fn a_time_before_1970_is_shown_as_one_before_1970() {
        let db = database();
        db.execute("INSERT INTO models VALUES (1, 'x', -1000)", []).unwrap();
        assert_eq!(
            Model::next(&db, 0, Limit::rows(1)).unwrap().models[0].created_at_iso8601(),
            "1969-12-31T23:59:59.999Z"
        );
    }
}
