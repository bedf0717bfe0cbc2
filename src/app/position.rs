//! A client's position: the last model that it has.
//!
//! A stream resumes from `Last-Event-ID` or from a parameter of its address. Lists and polls use the
//! parameter `since`. In each case, the id means "I have all models of this table up to this id". Every route
//! that takes a position uses [`resolve`] to decide what an id means:
//!
//! - If the id is at most the last one that the table has ever assigned, the client has that model or its row
//!   was deleted. The client is sent newer models.
//! - A greater id came from another table. The client has none of this table's models, and is sent all of
//!   them.
//!
//! Text that is not an id counts as no position. Without a position, a stream begins after the newest model,
//! and a list at the oldest.

use std::fmt;

use super::adapters::{Failure, Session};
use super::batch::{Batch, Limit};
use super::database::Database;
use super::model::Model;
use ninetabs_server::Request;
use ninetabs_server::log_limit::limited;

/// The parameters that can carry a stream's position in an address: ours, and that of the EventSource
/// polyfills, which cannot set the header. A polyfill adds its parameter to an address that already has ours,
/// so both may be present.
const PARAMETERS: [&str; 2] = ["last_event_id", "lastEventId"];

/// The first and last id of a gap between a client's position and the next model. Either models with these
/// ids were deleted, or another program skipped the ids; the table does not show which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    pub first: i64,
    pub last: i64,
}

impl Lost {
    /// The ids between a client's position and the first model after it.
    pub fn between(position: i64, models: &[Model]) -> Option<Lost> {
        let first = position.checked_add(1)?;
        let last = models.first()?.id.checked_sub(1)?;
        (first <= last).then_some(Lost { first, last })
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the table has no models with ids from {} to {}", self.first, self.last)
    }
}

/// The position of a request for a stream. The header takes precedence: when a browser reconnects, its header
/// is newer than its address. If the address has two ids, the greater one is newer.
pub fn of_stream(request: &Request) -> Option<i64> {
    match request.header("last-event-id") {
        Some(id) => parse(id),
        None => PARAMETERS.iter().filter_map(|name| parse(&request.param(name)?)).max(),
    }
}

/// The position of a request for a list or a poll.
pub fn since(request: &Request) -> Option<i64> {
    parse(&request.param("since")?)
}

/// Parses a position. `None` if the text is not an id, which is logged unless the text is empty.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let id = text.parse().ok().filter(|id| *id >= 0);
    if id.is_none() && !text.is_empty() {
        limited!(Warn, "{text:?} is not the id of a model; the request is answered as if it had no position");
    }
    id
}

/// The position from which a client with position `id` continues, in a table whose last id is `last_id`.
pub fn resolve(id: i64, last_id: i64) -> i64 {
    if id <= last_id {
        return id;
    }
    limited!(
        Warn,
        "a client requested the models after {id}, but {last_id} is the last id of this table: it is sent all models"
    );
    0
}

/// The models after a position, and the position itself, which becomes 0 if it came from another table. The
/// last id is queried only if the table ends at the position.
pub fn after(db: &mut dyn Session, id: i64, limit: Limit) -> Result<(i64, Batch), Failure> {
    let batch = db.next(id, limit)?;
    if id <= 0 || !batch.models.is_empty() {
        return Ok((id, batch));
    }
    match resolve(id, db.last_number()?) {
        0 => Ok((0, db.next(0, limit)?)),
        id => Ok((id, batch)),
    }
}

/// The position at which a stream begins, and its first models. Without a position there are none: the stream
/// waits for models after the last id.
pub fn begin(db: &mut dyn Session, id: Option<i64>, limit: Limit) -> Result<(i64, Batch), Failure> {
    match id {
        Some(id) => after(db, id, limit),
        None => Ok((db.last_id()?, Batch { is_all: true, ..Batch::default() })),
    }
}

/// The ids that are missing after the position at which a client continues, if the client sent that position.
/// Counts the gap.
pub fn lost(database: &Database, asked: Option<i64>, begins: i64, batch: &Batch) -> Option<Lost> {
    // A position that was not used came from another table.
    let lost = asked.filter(|id| *id == begins).and_then(|id| Lost::between(id, &batch.models));
    if lost.is_some() {
        database.count_gap();
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::super::adapters::sqlite3::theirs::{self, Sqlite3Session};
    use super::*;

    #[test]
    fn only_an_id_beyond_the_last_one_is_from_another_table() {
        for (id, last, wanted) in [(0, 0, 0), (1, 0, 0), (5, 5, 5), (4, 5, 4), (6, 5, 0), (i64::MAX, 5, 0)] {
            assert_eq!(resolve(id, last), wanted, "{id} of {last}");
        }
    }

    #[test]
    fn a_position_is_an_integer_of_at_least_0() {
        for (text, wanted) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-1", None),
            ("5.0", None),
            ("abc", None),
            ("", None),
        ] {
            assert_eq!(parse(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn the_header_takes_precedence_and_otherwise_the_greater_id_in_the_address() {
        for (address, header, wanted) in [
            ("/?last_event_id=3&lastEventId=7", None, Some(7)),
            ("/?lastEventId=3&last_event_id=7", None, Some(7)),
            ("/?last_event_id=&lastEventId=7", None, Some(7)),
            ("/?last_event_id=3&lastEventId=", None, Some(3)),
            ("/?last_event_id=abc&lastEventId=7", None, Some(7)),
            ("/?last_event_id=3&lastEventId=-1", None, Some(3)),
            ("/?last_event_id=abc&lastEventId=", None, None),
            ("/?last_event_id=3&lastEventId=7", Some("5"), Some(5)),
            ("/?last_event_id=3&lastEventId=7", Some("abc"), None),
        ] {
            let header = header.map(|id| ("Last-Event-ID", id));
            let request = crate::test_request::with_fields(address, header.as_slice());
            assert_eq!(of_stream(&request), wanted, "{address}, {header:?}");
        }
    }

    #[test]
    fn a_position_in_a_deleted_tail_is_kept_and_one_of_another_table_becomes_0() {
        let mut db = theirs::in_memory();
        for n in 1..=5 {
            db.create(&format!("model {n}"), Some(9)).unwrap();
        }
        let begins = |db: &mut Sqlite3Session, id| {
            let (at, batch) = begin(db, id, Limit::rows(9)).unwrap();
            (at, batch.models.iter().map(|model| model.id).collect::<Vec<_>>())
        };
        db.execute("DELETE FROM models WHERE id > 3");
        assert_eq!(begins(&mut db, None), (5, vec![]));
        assert_eq!(begins(&mut db, Some(0)), (0, vec![1, 2, 3]));
        assert_eq!(begins(&mut db, Some(2)), (2, vec![3]));
        assert_eq!(begins(&mut db, Some(5)), (5, vec![]));
        assert_eq!(begins(&mut db, Some(6)), (0, vec![1, 2, 3]));
        db.execute("DELETE FROM models");
        assert_eq!(begins(&mut db, Some(5)), (5, vec![]));
        // Another program can also restart the table's ids.
        db.execute("DELETE FROM sqlite_sequence");
        assert_eq!(begins(&mut db, Some(5)), (0, vec![]));
        assert_eq!(begins(&mut db, None), (0, vec![]));
    }
}
