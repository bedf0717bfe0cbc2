//! Which table it is: a word drawn at random when it was made, and kept in the file's header.
//!
//! An id alone does not say of which table it is. Two databases that were made one after the other
//! at the same path give the same ids, so a tag or a cursor that outlives one has to name it.

use std::fmt;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

/// The pragma that holds it; SQLite itself gives it no meaning, and a new file has 0.
const PRAGMA: &str = "user_version";

/// A table's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table(i32);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Table {
    /// The word of the table behind this connection; draws it if it has none. Blocks while another
    /// connection writes, and only for that.
    pub(super) fn of(db: &mut Connection) -> rusqlite::Result<Table> {
        match read(db)? {
            Table(0) => match Table::draw(db, Table(0)) {
                // Without a word it can be read all the same.
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) => Ok(Table(0)),
                drawn => drawn,
            },
            word => Ok(word),
        }
    }

    /// Another word in the place of this one. A word that another process has drawn meanwhile stays.
    pub(super) fn draw(db: &mut Connection, known: Table) -> rusqlite::Result<Table> {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut word = read(&transaction)?;
        if word == known {
            word = Table(fastrand::i32(1..));
            transaction.pragma_update(None, PRAGMA, word.0)?;
        }
        transaction.commit()?;
        Ok(word)
    }

    /// For an atomic.
    pub(super) fn to_bits(self) -> i32 {
        self.0
    }

    pub(super) fn from_bits(bits: i32) -> Table {
        Table(bits)
    }
}

fn read(db: &Connection) -> rusqlite::Result<Table> {
    db.pragma_query_value(None, PRAGMA, |row| row.get(0)).map(Table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_drawn_once_and_kept_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| Connection::open(folder.path().join(name)).unwrap();
        let word = Table::of(&mut open("a")).unwrap();
        assert_ne!(word, Table::default());
        assert_eq!(Table::of(&mut open("a")).unwrap(), word);
        assert_ne!(Table::of(&mut open("b")).unwrap(), word);
        let next = Table::draw(&mut open("a"), word).unwrap();
        assert_ne!(next, word);
        // Another process that still knows the first word adopts the second.
        assert_eq!(Table::draw(&mut open("a"), word).unwrap(), next);
    }
}
