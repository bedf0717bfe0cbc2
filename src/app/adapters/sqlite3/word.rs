//! Where a table's word is kept: in the file's header.

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::app::table::Table;

/// The pragma that holds it; SQLite itself gives it no meaning, and a new file has 0.
const PRAGMA: &str = "user_version";

/// The word of the table behind this connection; draws it if it has none. Blocks while another
/// connection writes, and only for that.
pub(super) fn of(db: &mut Connection) -> rusqlite::Result<Table> {
    let none = Table::default();
    match read(db)? {
        word if word != none => Ok(word),
        _ => match draw(db, none) {
            // Without a word it can be read all the same.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) => Ok(none),
            drawn => drawn,
        },
    }
}

/// Another word in the place of this one. A word that another process has drawn meanwhile stays.
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
    fn a_word_is_drawn_once_and_kept_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| Connection::open(folder.path().join(name)).unwrap();
        let word = of(&mut open("a")).unwrap();
        assert_ne!(word, Table::default());
        assert_eq!(of(&mut open("a")).unwrap(), word);
        assert_ne!(of(&mut open("b")).unwrap(), word);
        let next = draw(&mut open("a"), word).unwrap();
        assert_ne!(next, word);
        // Another process that still knows the first word adopts the second.
        assert_eq!(draw(&mut open("a"), word).unwrap(), next);
    }
}
