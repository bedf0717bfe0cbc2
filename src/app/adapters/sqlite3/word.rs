//! The number that identifies a table, in the file's header.

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::app::table::Table;

/// The pragma that stores it. SQLite itself does not use the value, which is 0 in a new file.
const PRAGMA: &str = "user_version";

/// The number of this connection's table. If the table has none, a number is drawn, which blocks while
/// another connection writes.
pub(super) fn of(db: &mut Connection) -> rusqlite::Result<Table> {
    let none = Table::default();
    match read(db)? {
        word if word != none => Ok(word),
        _ => match draw(db, none) {
            // A read-only table without a number can still be read.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) => Ok(none),
            drawn => drawn,
        },
    }
}

/// Replaces this number with another, and returns the new one. A number that another process has drawn
/// in the meantime is kept.
pub(super) fn draw(db: &mut Connection, known: Table) -> rusqlite::Result<Table> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut word = read(&transaction)?;
    if word == known {
        word = Table::draw();
        transaction.pragma_update(None, PRAGMA, word.to_bits())?;
    }
    transaction.commit()?;
    Ok(word)
}

fn read(db: &Connection) -> rusqlite::Result<Table> {
    db.pragma_query_value(None, PRAGMA, |row| row.get(0)).map(Table::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_number_is_drawn_once_and_kept_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| Connection::open(folder.path().join(name)).unwrap();
        let word = of(&mut open("a")).unwrap();
        assert_ne!(word, Table::default());
        assert_eq!(of(&mut open("a")).unwrap(), word);
        assert_ne!(of(&mut open("b")).unwrap(), word);
        let next = draw(&mut open("a"), word).unwrap();
        assert_ne!(next, word);
        // Another process that still knows the first number adopts the second.
        assert_eq!(draw(&mut open("a"), word).unwrap(), next);
    }
}
