//! The model: a row with a name, as `rails generate model Model name` makes it.
//!
//! All of it is plain SQL over one connection; where that connection comes from
//! is [`super::database`]'s matter. Ids only grow (AUTOINCREMENT), so that an id
//! can stand for "everything up to here".

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde::{Serialize, Serializer};

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
    pub name: String,
    #[serde(serialize_with = "as_iso8601")]
    pub created_at: SystemTime,
}

impl Model {
    /// `Model.all`, newest first.
    pub fn all(db: &Connection) -> rusqlite::Result<Vec<Model>> {
        select(db, "SELECT id, name, created_at_us FROM models ORDER BY id DESC", None)
    }

    /// All with a greater id, oldest first.
    pub fn since(db: &Connection, id: i64) -> rusqlite::Result<Vec<Model>> {
        select(db, "SELECT id, name, created_at_us FROM models WHERE id > ? ORDER BY id", Some(id))
    }

    /// The first `most` with a greater id, oldest first.
    pub fn next(db: &Connection, id: i64, most: u32) -> rusqlite::Result<Vec<Model>> {
        let mut statement =
            db.prepare_cached("SELECT id, name, created_at_us FROM models WHERE id > ? ORDER BY id LIMIT ?")?;
        statement.query_map(params![id, most], from_row)?.collect()
    }

    /// The newest `most`, oldest first.
    pub fn newest(db: &Connection, most: u32) -> rusqlite::Result<Vec<Model>> {
        let sql = "SELECT id, name, created_at_us FROM models ORDER BY id DESC LIMIT ?";
        let mut models = select(db, sql, Some(most.into()))?;
        models.reverse();
        Ok(models)
    }

    /// The seed's `Model.models_since(time)`: all created after that time.
    pub fn models_since(db: &Connection, time: SystemTime) -> rusqlite::Result<Vec<Model>> {
        let sql = "SELECT id, name, created_at_us FROM models WHERE created_at_us > ? ORDER BY id";
        select(db, sql, Some(micros(time)))
    }

    /// The newest id there is, 0 without models.
    pub fn newest_id(db: &Connection) -> rusqlite::Result<i64> {
        let newest: Option<i64> = db
            .prepare_cached("SELECT max(id) FROM models")?
            .query_row([], |row| row.get(0))
            .optional()?
            .flatten();
        Ok(newest.unwrap_or(0))
    }

    /// Creates a model, and forgets all but the newest `keep`. Both are committed
    /// when this returns. Blocks while another connection writes, at most for the
    /// busy timeout.
    pub fn create(db: &mut Connection, name: &str, keep: u64) -> rusqlite::Result<Model> {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Taken under the write lock, so that time and id grow together.
        let created_at = SystemTime::now();
        transaction
            .prepare_cached("INSERT INTO models (name, created_at_us) VALUES (?, ?)")?
            .execute(params![name, micros(created_at)])?;
        let id = transaction.last_insert_rowid();
        let last_forgotten = id.saturating_sub_unsigned(keep);
        transaction.prepare_cached("DELETE FROM models WHERE id <= ?")?.execute([last_forgotten])?;
        transaction.commit()?;
        Ok(Model { id, name: name.to_owned(), created_at })
    }

    /// When it was created, as Rails writes it in JSON.
    pub fn created_at_iso8601(&self) -> String {
        humantime::format_rfc3339_millis(self.created_at).to_string()
    }
}

fn select(db: &Connection, sql: &str, bound: Option<i64>) -> rusqlite::Result<Vec<Model>> {
    let mut statement = db.prepare_cached(sql)?;
    match bound {
        Some(bound) => statement.query_map([bound], from_row)?.collect(),
        None => statement.query_map([], from_row)?.collect(),
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Model> {
    let created_at_us: i64 = row.get(2)?;
    let since_epoch = Duration::from_micros(created_at_us.unsigned_abs());
    Ok(Model { id: row.get(0)?, name: row.get(1)?, created_at: UNIX_EPOCH + since_epoch })
}

fn micros(time: SystemTime) -> i64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

fn as_iso8601<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_rfc3339_millis(*time))
}

#[cfg(test)]
mod tests {
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
            assert_eq!(Model::create(&mut db, &format!("model {n}"), 3).unwrap().id, n);
        }
        let ids = |models: Vec<Model>| models.iter().map(|model| model.id).collect::<Vec<_>>();
        assert_eq!(ids(Model::all(&db).unwrap()), [5, 4, 3]);
        assert_eq!(ids(Model::since(&db, 4).unwrap()), [5]);
        assert_eq!(ids(Model::since(&db, 0).unwrap()), [3, 4, 5]);
        assert_eq!(ids(Model::next(&db, 0, 2).unwrap()), [3, 4]);
        assert_eq!(ids(Model::newest(&db, 2).unwrap()), [4, 5]);
        assert_eq!(Model::newest_id(&db).unwrap(), 5);
        db.execute("DELETE FROM models", []).unwrap();
        assert_eq!(Model::create(&mut db, "next", 3).unwrap().id, 6);
    }

    #[test]
    fn a_time_slice_has_what_came_after_it() {
        let mut db = database();
        let first = Model::create(&mut db, "first", 10).unwrap();
        let second = Model::create(&mut db, "second", 10).unwrap();
        let after = |time| Model::models_since(&db, time).unwrap().len();
        assert_eq!(after(first.created_at - Duration::from_micros(1)), 2);
        assert_eq!(after(second.created_at), 0);
    }

    #[test]
    fn json_as_rails_writes_it() {
        let model =
            Model { id: 1, name: "a\"b".into(), created_at: UNIX_EPOCH + Duration::from_millis(1_500) };
        let json = r#"{"id":1,"name":"a\"b","created_at":"1970-01-01T00:00:01.500Z"}"#;
        assert_eq!(serde_json::to_string(&model).unwrap(), json);
    }
}
