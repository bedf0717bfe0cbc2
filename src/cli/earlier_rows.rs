//! The number of rows that the database had before this start, for the start-up message.

use std::fmt;

use crate::app::adapters::Session;
use crate::app::batch::Limit;

/// The number of rows above which they are not counted: a large table must not delay the start. It exceeds
/// what `--keep-models` keeps by default.
const MOST_COUNTED: usize = 2_000;

/// The rows of earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierRows {
    Exactly(usize),
    MoreThan(usize),
    /// They could not be read. The first request shows the reason.
    Unknown,
}

impl EarlierRows {
    /// Counts them, in batches.
    pub fn of(db: &mut dyn Session) -> EarlierRows {
        let (mut rows, mut last_id) = (0, 0);
        loop {
            let Ok(batch) = db.next(last_id, Limit::rows(500)) else { return EarlierRows::Unknown };
            rows += batch.models.len();
            match batch.last_id() {
                _ if rows > MOST_COUNTED => return EarlierRows::MoreThan(MOST_COUNTED),
                Some(id) if !batch.is_all => last_id = id,
                _ => return EarlierRows::Exactly(rows),
            }
        }
    }
}

/// The note of the start-up message on a database file.
impl fmt::Display for EarlierRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EarlierRows::Exactly(0) => f.write_str("kept; no rows yet"),
            EarlierRows::Exactly(1) => f.write_str("kept; 1 row from earlier runs"),
            EarlierRows::Exactly(rows) => write!(f, "kept; {rows} rows from earlier runs"),
            EarlierRows::MoreThan(rows) => write!(f, "kept; over {rows} rows from earlier runs"),
            EarlierRows::Unknown => f.write_str("kept"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::adapters::sqlite3::{self, Keep};

    #[test]
    fn rows_are_counted_up_to_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = sqlite3::open(&folder.path().join("rows.sqlite3"), Keep::Forever).unwrap();
        let db = opened.session.as_mut();
        let mut created = 0;
        for rows in [0, 1, 700, MOST_COUNTED] {
            (created..rows).for_each(|_| drop(db.create("a row", None).unwrap()));
            created = rows;
            assert_eq!(EarlierRows::of(db), EarlierRows::Exactly(rows));
        }
        db.create("one more", None).unwrap();
        assert_eq!(EarlierRows::of(db), EarlierRows::MoreThan(MOST_COUNTED));
    }

    #[test]
    fn the_note_says_what_becomes_of_the_database() {
        for (rows, note) in [
            (EarlierRows::Exactly(0), "kept; no rows yet"),
            (EarlierRows::Exactly(1), "kept; 1 row from earlier runs"),
            (EarlierRows::Exactly(412), "kept; 412 rows from earlier runs"),
            (EarlierRows::MoreThan(2_000), "kept; over 2000 rows from earlier runs"),
        ] {
            assert_eq!(rows.to_string(), note);
        }
    }
}
