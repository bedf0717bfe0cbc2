//! Readers that ask for new rows in different ways, while the same rows are written to a table for each way.

use crate::lab::cluster::postgres::PostgresError;
use crate::lab::cluster::psql::PsqlSession;
use crate::lab::interrupt::Interrupt;

/// The tables besides `models`. A sequence assigns the ids of both. Inserts into `locked` run one at a time, because a
/// trigger takes a lock at the beginning of the statement.
pub const TABLES: &str = "SET ROLE ninetabs;
CREATE TABLE naive (id bigserial PRIMARY KEY, name text NOT NULL, xid xid8 NOT NULL DEFAULT pg_current_xact_id());
CREATE TABLE locked (id bigserial PRIMARY KEY, name text NOT NULL);
CREATE FUNCTION lock_rows() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock(1, 1); RETURN NULL; END';
CREATE TRIGGER lock_rows BEFORE INSERT ON locked EXECUTE FUNCTION lock_rows()";

/// How many rows some of the readers do not read yet, because a transaction that began before them is still open.
pub const UNSETTLED: &str = "SELECT count(*) FROM naive WHERE xid >= pg_snapshot_xmin(pg_current_snapshot())";

/// How a reader asks for the rows after its last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMethod {
    /// By id.
    Greater,
    /// By id, without rows of transactions that are newer than the oldest open one.
    GreaterAndSettled,
    /// By transaction and id, without the same rows.
    Pair,
    /// By id, in a table whose trigger takes a lock once per statement.
    StatementLock,
    /// By id, in `models`, whose trigger assigns the id under a lock.
    Number,
}

pub const METHODS: [ReadMethod; 5] = [
    ReadMethod::Greater,
    ReadMethod::GreaterAndSettled,
    ReadMethod::Pair,
    ReadMethod::StatementLock,
    ReadMethod::Number,
];

impl ReadMethod {
    fn name(self) -> &'static str {
        match self {
            ReadMethod::Greater => "id > last",
            ReadMethod::GreaterAndSettled => "id > last AND xid < xmin",
            ReadMethod::Pair => "(xid, id) > last AND xid < xmin",
            ReadMethod::StatementLock => "lock per statement, id > last",
            ReadMethod::Number => "number: lock per row, id > last",
        }
    }

    fn remark(self) -> &'static str {
        match self {
            ReadMethod::Greater => "skips late commits",
            ReadMethod::GreaterAndSettled => "skips ids drawn early",
            ReadMethod::Pair => "waits for transactions",
            ReadMethod::StatementLock => "skips ids drawn early",
            ReadMethod::Number => "overrules given ids",
        }
    }

    /// The query for the rows after this transaction and this id. It returns both per row, in the order of delivery.
    fn query(self, (xid, id): (i64, i64)) -> String {
        let settled = "xid < pg_snapshot_xmin(pg_current_snapshot())";
        let (from, order) = match self {
            ReadMethod::Greater => (format!("xid::text::bigint AS xid, id FROM naive WHERE id > {id}"), "id"),
            ReadMethod::GreaterAndSettled => {
                (format!("xid::text::bigint AS xid, id FROM naive WHERE id > {id} AND {settled}"), "id")
            }
            ReadMethod::Pair => (
                format!(
                    "xid::text::bigint AS xid, id FROM naive WHERE (xid, id) > ('{xid}'::xid8, {id}) AND {settled}"
                ),
                "xid, id",
            ),
            ReadMethod::StatementLock => (format!("0 AS xid, id FROM locked WHERE id > {id}"), "id"),
            ReadMethod::Number => (format!("0 AS xid, id FROM models WHERE id > {id}"), "id"),
        };
        format!("SELECT unnest(ARRAY[xid, id]) FROM (SELECT {from}) AS rows ORDER BY {order}")
    }
}

/// A reader, and what it has received.
#[derive(Debug)]
pub struct MethodReader {
    pub method: ReadMethod,
    pub received: usize,
    is_ascending: bool,
    last: (i64, i64),
}

impl MethodReader {
    /// A reader of the rows after all rows so far. The last id of `models` is `first`, and the other tables are empty.
    pub fn after(method: ReadMethod, first: i64) -> MethodReader {
        let id = if method == ReadMethod::Number { first } else { 0 };
        MethodReader { method, received: 0, is_ascending: true, last: (0, id) }
    }

    /// Reads the next rows.
    pub fn read(&mut self, session: &mut PsqlSession, interrupt: &Interrupt) -> Result<(), PostgresError> {
        let numbers = session.numbers(&self.method.query(self.last), interrupt)?;
        self.take(&numbers);
        Ok(())
    }

    fn take(&mut self, numbers: &[i64]) {
        for row in numbers.chunks_exact(2) {
            let row = (row[0], row[1]);
            self.is_ascending &= row.1 > self.last.1;
            self.received += 1;
            self.last = row;
        }
    }
}

/// The lines of a table of the methods, with the rows that each has lost of `rows`.
pub fn table(readers: &[MethodReader], rows: usize) -> Vec<String> {
    let line = |[method, lost, order, remark]: [&str; 4]| {
        format!(" {method:<32} {lost:>11}  {order:<8}  {remark}").trim_end().to_owned()
    };
    let head = line(["method", "rows lost", "in order", "remark"]);
    let lines = readers.iter().map(|reader| {
        let lost = rows.saturating_sub(reader.received);
        let percent = (lost * 100).checked_div(rows).unwrap_or_default();
        let lost = if lost == 0 { "0".to_owned() } else { format!("{lost} ({percent}%)") };
        let order = if reader.is_ascending { "yes" } else { "no" };
        line([reader.method.name(), &lost, order, reader.method.remark()])
    });
    std::iter::once(head).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_counts_its_rows_and_notes_their_order() {
        let mut reader = MethodReader::after(ReadMethod::Pair, 7);
        reader.take(&[100, 5, 101, 3]);
        assert_eq!((reader.received, reader.is_ascending, reader.last), (2, false, (101, 3)));
        assert!(reader.method.query(reader.last).contains("(xid, id) > ('101'::xid8, 3)"));
        let number = MethodReader::after(ReadMethod::Number, 7);
        assert!(number.method.query(number.last).contains("FROM models WHERE id > 7"));
    }

    #[test]
    fn the_table_fits_into_80_columns() {
        let readers =
            METHODS.map(|method| MethodReader { is_ascending: false, ..MethodReader::after(method, 0) });
        let lines = table(&readers, 99_999);
        assert_eq!(lines.len(), METHODS.len() + 1);
        assert!(lines.iter().all(|line| line.len() <= 80), "{lines:?}");
        assert!(lines[1].contains("99999 (100%)"), "{lines:?}");
    }
}
