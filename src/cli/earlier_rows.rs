//! The number of rows that the database had before this start, for the start-up message.

use std::fmt;

use crate::app::adapters::Session;
use crate::app::batch::Limit;

/// The number above which rows are not counted, so that a large table does not delay the start. It exceeds
/// the default of `--keep-models`.
const MOST_COUNTED: usize = 2_000;

/// The rows of earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierRows {
    Exactly(usize),
    MoreThan(usize),
    /// The rows could not be read. The first request reports the reason.
    Unknown,
}

impl EarlierRows {
    /// Counts the rows, in batches.
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

/// The note about a database file in the start-up message.
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
    fn the_note_says_that_the_database_is_kept_and_how_many_rows_it_has() {
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
