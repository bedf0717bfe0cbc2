//! The limit on one query: a number of rows, and a number of bytes of names.
//!
//! Other programs may write to the table, so a count of rows does not bound memory: ten rows can
//! be 200 MB. Every query for models therefore ends at a [`Limit`], and a name longer than
//! [`MAX_NAME_BYTES`] is cut where it is read: SQLite tells its length without loading it, and of
//! a long one only the beginning is read. Names are counted as they are sent, since JSON and HTML
//! make up to seven bytes of one.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row};

use super::model::{MAX_NAME_BYTES, Model};
use crate::timestamp;
use ninetabs_server::log_limit::limited;

/// The most bytes of names, as they are sent, that one query brings.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Where a query ends. It brings at least one row if there is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub rows: u32,
    /// Bytes of names as they are sent.
    pub bytes: usize,
}

impl Limit {
    /// At most so many rows, and [`MAX_BATCH_BYTES`].
    pub const fn rows(rows: u32) -> Limit {
        Limit { rows, bytes: MAX_BATCH_BYTES }
    }
}

/// The models that one query brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub models: Vec<Model>,
    /// Whether the query ended by itself and not at its limit.
    pub is_all: bool,
    /// When the last one was created, in microseconds as stored: a model's own time is kept within the
    /// years that have a text form.
    pub last_us: i64,
}

impl Batch {
    /// Reads the rows of a query made by `select_models!`, up to the limit. Its order must be that of
    /// an index: SQLite then looks for the next row when it is asked for it, and for no other.
    pub(super) fn select(
        db: &Connection,
        query: &str,
        params: impl Params,
        limit: Limit,
    ) -> rusqlite::Result<Batch> {
        let mut statement = db.prepare_cached(query)?;
        let mut rows = statement.query(params)?;
        let mut batch = Batch { models: Vec::new(), is_all: false, last_us: 0 };
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            if !batch.models.is_empty() && batch.models.len() >= limit.rows as usize {
                return Ok(batch);
            }
            let model = from_row(db, row)?;
            bytes += model.as_ref().map_or(0, |model| sent_bytes(&model.name));
            if !batch.models.is_empty() && bytes > limit.bytes {
                return Ok(batch);
            }
            batch.models.extend(model);
            batch.last_us = as_micros(row.get_ref(2)?);
        }
        Ok(Batch { is_all: true, ..batch })
    }

    /// The last model's id.
    pub fn last_id(&self) -> Option<i64> {
        self.models.last().map(|model| model.id)
    }
}

/// What every query for models selects: a name only if it is short enough to be read whole. The
/// length of one is known without its bytes (`octet_length`).
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

const _: () = assert!(MAX_NAME_BYTES == 16_384, "select_models! names it as well");

/// Whether the row's name is to be cut.
fn is_long(row: &Row<'_>) -> rusqlite::Result<bool> {
    Ok(row.get::<_, Option<u32>>(3)?.unwrap_or(0) as usize > MAX_NAME_BYTES)
}

/// How many bytes a name takes at most where it is sent: as JSON, or as HTML in the lines of an event.
fn sent_bytes(name: &str) -> usize {
    let sent = |byte| match byte {
        // HTML leaves them, and an event begins its next line with `data: `.
        b'\n' | b'\r' => 7,
        // \u0000, &quot;, &#x27; and &#x2f;
        0..0x20 | b'"' | b'\'' | b'/' => 6,
        b'&' => 5,
        b'<' | b'>' => 4,
        b'\\' => 2,
        _ => 1,
    };
    name.bytes().map(sent).sum()
}

/// The one place where a stored row becomes a model, whatever another program has stored in it.
///
/// A name becomes text, with U+FFFD for what is not UTF-8. A time becomes the nearest one that
/// has a text form. Only a row whose id is not an integer is no model, since nothing could
/// say that a client has it: it is left out, and a log line names it. An error is SQLite's own.
fn from_row(db: &Connection, row: &Row<'_>) -> rusqlite::Result<Option<Model>> {
    let id = match row.get_ref(0)? {
        ValueRef::Integer(id) => id,
        other => {
            limited!(
                Error,
                "cannot read the row with id {:?} of models: its id is not an integer; it is left out",
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

/// Text that is not a number counts as 1970. A conversion from a float keeps within the range by itself.
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

/// The first [`MAX_NAME_BYTES`] of a name that is longer, cut between characters.
fn beginning_of_name(db: &Connection, rowid: i64) -> rusqlite::Result<Arc<str>> {
    let name = db.blob_open("main", "models", "name", rowid, true)?;
    // One more tells whether the cut would fall inside a character.
    let mut bytes = vec![0; MAX_NAME_BYTES + 1];
    let read = name.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let is_inside = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (MAX_NAME_BYTES - 3..=MAX_NAME_BYTES).rev().find(|at| !is_inside(at));
    bytes.truncate(end.unwrap_or(MAX_NAME_BYTES));
    Ok(cut(&String::from_utf8_lossy(&bytes)))
}

/// A text of at most [`MAX_NAME_BYTES`]: U+FFFD is longer than the byte that it stands for.
fn cut(text: &str) -> Arc<str> {
    let end = (0..=text.len().min(MAX_NAME_BYTES)).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::model::SCHEMA;

    fn database() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        db
    }

    fn insert(db: &Connection, name: &str) {
        db.execute("INSERT INTO models (name, created_at_us) VALUES (?, 0)", [name]).unwrap();
    }

    #[test]
    fn a_batch_ends_at_its_rows_or_bytes_and_has_at_least_one_row() {
        let db = database();
        let of = |rows, bytes| {
            let batch = Model::next(&db, 0, Limit { rows, bytes }).unwrap();
            (batch.models.len(), batch.is_all)
        };
        assert_eq!(of(5, 100), (0, true));
        for _ in 0..4 {
            insert(&db, &"x".repeat(10));
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
        let db = database();
        for (name, bytes) in
            [("\0", 6), ("\n", 7), ("\"", 6), ("'", 6), ("/", 6), ("&", 5), ("<", 4), ("\\", 2)]
        {
            db.execute("DELETE FROM models", []).unwrap();
            for _ in 0..4 {
                insert(&db, &name.repeat(10));
            }
            let of = |bytes| Model::next(&db, 0, Limit { rows: 9, bytes }).unwrap().models.len();
            assert_eq!((of(bytes * 40), of(bytes * 40 - 1)), (4, 3), "{name:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let db = database();
        for (name, wanted) in [
            ("x".repeat(MAX_NAME_BYTES), MAX_NAME_BYTES),
            ("x".repeat(MAX_NAME_BYTES + 1), MAX_NAME_BYTES),
            ("x".repeat(3_000_000), MAX_NAME_BYTES),
            ("é".repeat(MAX_NAME_BYTES), MAX_NAME_BYTES),
            (format!("x{}", "é".repeat(MAX_NAME_BYTES)), MAX_NAME_BYTES - 1),
            (format!("x{}", "🙂".repeat(MAX_NAME_BYTES)), MAX_NAME_BYTES - 3),
        ] {
            db.execute("DELETE FROM models", []).unwrap();
            insert(&db, &name);
            let models = Model::next(&db, 0, Limit::rows(1)).unwrap().models;
            assert_eq!(models[0].name.len(), wanted);
            assert!(name.starts_with(&*models[0].name));
        }
    }

    #[test]
    fn a_name_of_any_bytes_is_text_of_bounded_length() {
        let db = database();
        let insert = |bytes: Vec<u8>| {
            let sql = "INSERT INTO models (name, created_at_us) VALUES (CAST(? AS TEXT), 0)";
            db.execute(sql, [bytes]).unwrap();
        };
        insert(vec![0xff; 10]);
        insert(vec![0xff; MAX_NAME_BYTES]);
        insert(vec![0x80; 1_000_000]);
        let models = Model::next(&db, 0, Limit::rows(9)).unwrap().models;
        assert_eq!(&*models[0].name, "\u{fffd}".repeat(10));
        for model in &models[1..] {
            assert_eq!(model.name.len(), MAX_NAME_BYTES - MAX_NAME_BYTES % 3);
        }
    }
}
