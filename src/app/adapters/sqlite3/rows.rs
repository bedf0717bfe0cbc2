//! Converts rows of the table to models, whatever another program has stored in them.
//!
//! A name longer than [`MAX_NAME_BYTES`] is truncated when it is read. SQLite reports its length without
//! loading it, so only the beginning of a long name is read.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row};

use crate::app::batch::{Batch, Filling, Limit, cut};
use crate::app::model::{MAX_NAME_BYTES, Model};
use crate::timestamp;
use ninetabs_server::log_limit::limited;

/// Reads the rows of a query made by `select_models!`, up to the limit. The query's order must be that of an
/// index, so that SQLite reads a row only when it is requested.
pub(super) fn select(
    db: &Connection,
    query: &str,
    params: impl Params,
    limit: Limit,
) -> rusqlite::Result<Batch> {
    let mut statement = db.prepare_cached(query)?;
    let mut rows = statement.query(params)?;
    let mut batch = Filling::up_to(limit);
    while let Some(row) = rows.next()? {
        if batch.is_full() || !batch.add(from_row(db, row)?, as_micros(row.get_ref(2)?)) {
            return Ok(batch.partial());
        }
    }
    Ok(batch.whole())
}

/// The columns of every query for models. The name is selected only if it is short enough; its length is
/// available without loading its bytes (`octet_length`).
macro_rules! select_models {
    ($rest:literal) => {
        concat!(
            "SELECT id, CASE WHEN octet_length(name) <= 16384 THEN name END, created_at_us, ",
            "octet_length(name), rowid FROM models ",
            $rest
        )
    };
}
pub(super) use select_models;

const _: () = assert!(MAX_NAME_BYTES == 16_384, "select_models! repeats this number");

/// Whether the row's name must be truncated.
fn is_long(row: &Row<'_>) -> rusqlite::Result<bool> {
    Ok(row.get::<_, Option<u32>>(3)?.unwrap_or(0) as usize > MAX_NAME_BYTES)
}

/// The only conversion of a stored row to a model, whatever another program has stored in it.
///
/// A name becomes text, with U+FFFD for invalid UTF-8. A time becomes the nearest one that has a text form. A
/// row whose id is not an integer is left out and logged, since a position cannot include it. Only errors of
/// SQLite itself are returned.
fn from_row(db: &Connection, row: &Row<'_>) -> rusqlite::Result<Option<Model>> {
    let id = match row.get_ref(0)? {
        ValueRef::Integer(id) => id,
        other => {
            limited!(
                Error,
                "cannot read the row of models with id {:?}: its id is not an integer; the row is left out",
                as_text(other)
            );
            return Ok(None);
        }
    };
    let name =
        if is_long(row)? { beginning_of_name(db, row.get(4)?)? } else { cut(&as_text(row.get_ref(1)?)) };
    let created_at = timestamp::from_micros(as_micros(row.get_ref(2)?));
    Ok(Some(Model { id, name, created_at }))
}

fn as_text(value: ValueRef<'_>) -> Cow<'_, str> {
    match value {
        ValueRef::Null => Cow::Borrowed(""),
        ValueRef::Integer(number) => number.to_string().into(),
        ValueRef::Real(number) => number.to_string().into(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes),
    }
}

/// Text that is not a number counts as 0, which is 1970. A conversion from a float saturates at the limits of
/// `i64`.
fn as_micros(value: ValueRef<'_>) -> i64 {
    match value {
        ValueRef::Null => 0,
        ValueRef::Integer(us) => us,
        ValueRef::Real(us) => us as i64,
        ValueRef::Text(_) | ValueRef::Blob(_) => {
            let text = as_text(value);
            let text = text.trim();
            text.parse().or_else(|_| text.parse().map(|us: f64| us as i64)).unwrap_or(0)
        }
    }
}

/// The first [`MAX_NAME_BYTES`] of a longer name, truncated between characters.
fn beginning_of_name(db: &Connection, rowid: i64) -> rusqlite::Result<Arc<str>> {
    let name = db.blob_open("main", "models", "name", rowid, true)?;
    // One additional byte shows whether the cut would be inside a character.
    let mut bytes = vec![0; MAX_NAME_BYTES + 1];
    let read = name.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let is_inside = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (MAX_NAME_BYTES - 3..=MAX_NAME_BYTES).rev().find(|at| !is_inside(at));
    bytes.truncate(end.unwrap_or(MAX_NAME_BYTES));
    Ok(cut(&String::from_utf8_lossy(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::super::theirs::{self, Sqlite3Session};
    use super::*;

    fn all(db: &Sqlite3Session, limit: Limit) -> Batch {
        select(&db.db, select_models!("WHERE id > ? ORDER BY id"), [0], limit).unwrap()
    }

    #[test]
    fn a_batch_ends_at_its_rows_or_bytes_and_has_at_least_one_row() {
        let db = theirs::in_memory();
        let of = |rows, bytes| {
            let batch = all(&db, Limit { rows, bytes });
            (batch.models.len(), batch.is_all)
        };
        assert_eq!(of(5, 100), (0, true));
        for _ in 0..4 {
            db.insert("x".repeat(10).as_bytes());
        }
        for (rows, bytes, wanted) in [
            (5, 100, (4, true)),
            (4, 100, (4, true)),
            (3, 100, (3, false)),
            (5, 40, (4, true)),
            (5, 39, (3, false)),
            (5, 10, (1, false)),
            (5, 0, (1, false)),
            (0, 0, (1, false)),
            (u32::MAX, usize::MAX, (4, true)),
        ] {
            assert_eq!(of(rows, bytes), wanted, "{rows} rows, {bytes} bytes");
        }
    }

    #[test]
    fn a_batch_counts_a_name_as_it_is_sent() {
        let db = theirs::in_memory();
        for (name, bytes) in
            [("\0", 6), ("\n", 7), ("\"", 6), ("'", 6), ("/", 6), ("&", 5), ("<", 4), ("\\", 2)]
        {
            db.execute("DELETE FROM models");
            for _ in 0..4 {
                db.insert(name.repeat(10).as_bytes());
            }
            let of = |bytes| all(&db, Limit { rows: 9, bytes }).models.len();
            assert_eq!((of(bytes * 40), of(bytes * 40 - 1)), (4, 3), "{name:?}");
        }
    }

    #[test]
    fn a_long_name_is_truncated_between_characters() {
        let db = theirs::in_memory();
        for (name, wanted) in [
            ("x".repeat(MAX_NAME_BYTES), MAX_NAME_BYTES),
            ("x".repeat(MAX_NAME_BYTES + 1), MAX_NAME_BYTES),
            ("x".repeat(3_000_000), MAX_NAME_BYTES),
            ("é".repeat(MAX_NAME_BYTES), MAX_NAME_BYTES),
            (format!("x{}", "é".repeat(MAX_NAME_BYTES)), MAX_NAME_BYTES - 1),
            (format!("x{}", "🙂".repeat(MAX_NAME_BYTES)), MAX_NAME_BYTES - 3),
        ] {
            db.execute("DELETE FROM models");
            db.insert(name.as_bytes());
            let models = all(&db, Limit::rows(1)).models;
            assert_eq!(models[0].name.len(), wanted);
            assert!(name.starts_with(&*models[0].name));
        }
    }

    #[test]
    fn a_name_of_any_bytes_becomes_text_of_bounded_length() {
        let db = theirs::in_memory();
        db.insert(&[0xff; 10]);
        db.insert(&[0xff; MAX_NAME_BYTES]);
        db.insert(&vec![0x80; 1_000_000]);
        let models = all(&db, Limit::rows(9)).models;
        assert_eq!(&*models[0].name, "\u{fffd}".repeat(10));
        for model in &models[1..] {
            assert_eq!(model.name.len(), MAX_NAME_BYTES - MAX_NAME_BYTES % 3);
        }
    }
}
