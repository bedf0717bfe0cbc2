//! A session, which replaces its connection if it is lost.
//!
//! The slots of the pool, and threads with a session of their own, therefore survive any restart of the engine. A lost
//! connection costs at most the query that was in progress. No query is sent twice, because it is unknown whether a
//! lost create was committed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::super::{Failure, Session};
use super::boot;
use super::connection::{CallLimit, PgConnection, in_ms};
use super::engine::{Greeted, PgEngine, only};
use super::history::HistoryNumber;
use super::rows::{PgMicros, batch_of, one_more, select_models};
use crate::app::batch::{Batch, Limit};
use crate::app::model::Model;
use crate::app::table::Table;
use crate::timestamp;

/// A connection that was idle for longer than this may have been closed in the meantime.
const IDLE: Duration = Duration::from_secs(1);
/// How long that check takes.
const TURN: Duration = Duration::from_millis(1);
/// Maximum duration of the query for the session that holds the lock.
const HOLDER_WITHIN: Duration = Duration::from_millis(500);

type Bound<'a> = (&'a (dyn ToSql + Sync), Type);

/// A session of the app.
#[derive(Debug)]
pub(super) struct PgSession {
    engine: Arc<PgEngine>,
    at_most: Duration,
    interrupted: Option<Receiver<Infallible>>,
    /// `None` if the connection was lost, or abandoned with a query in progress.
    held: Option<HeldConnection>,
}

#[derive(Debug)]
struct HeldConnection {
    connection: PgConnection,
    history: HistoryNumber,
    used_at: Instant,
}

impl HeldConnection {
    fn of(Greeted { connection, history, .. }: Greeted) -> HeldConnection {
        HeldConnection { connection, history, used_at: Instant::now() }
    }

    fn is_usable(&self, engine: &PgEngine) -> bool {
        engine.is_current(self.history)
            && !self.connection.is_closed()
            && (self.used_at.elapsed() < IDLE || !self.connection.was_closed_while_idle(TURN))
    }
}

impl PgSession {
    /// Opens the first session of a process, which prepares the database. Also returns the table's identity and the
    /// last visible number.
    pub fn first(engine: &Arc<PgEngine>) -> Result<(PgSession, Table, i64), Failure> {
        let limit = CallLimit::new(engine.query_timeout, None);
        let greeted = engine.connect_first(&limit, boot::prepare)?;
        let table = greeted.table;
        engine.opened(table);
        let mut session = PgSession::with(engine, greeted);
        let last_id = session.last_id()?;
        Ok((session, table, last_id))
    }

    /// Opens a session that is connected.
    pub fn connected(engine: &Arc<PgEngine>) -> Result<PgSession, Failure> {
        let greeted = engine.connect(&CallLimit::new(engine.query_timeout, None))?;
        Ok(PgSession::with(engine, greeted))
    }

    fn with(engine: &Arc<PgEngine>, greeted: Greeted) -> PgSession {
        PgSession {
            engine: Arc::clone(engine),
            at_most: engine.query_timeout,
            interrupted: None,
            held: Some(HeldConnection::of(greeted)),
        }
    }

    /// Runs a call on a connection that is not known to be broken. Drops the connection if the call leaves it in an
    /// unknown state.
    fn call<T>(
        &mut self,
        run: impl FnOnce(&PgEngine, &mut PgConnection, &CallLimit<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let PgSession { engine, at_most, interrupted, held } = self;
        // A short limit is meant for one answer. Connecting takes several round trips.
        let whole = CallLimit::new((*at_most).max(engine.query_timeout), interrupted.as_ref());
        let mut used = match held.take().filter(|held| held.is_usable(engine)) {
            Some(held) => held,
            None => {
                let greeted = engine.connect(&whole).inspect_err(|failure| engine.count_failure(failure))?;
                engine.count_reconnect();
                HeldConnection::of(greeted)
            }
        };
        let answered = run(engine, &mut used.connection, &whole.part(*at_most));
        match &answered {
            Err(failure) if failure.ends_the_connection() => engine.count_failure(failure),
            _ => *held = Some(HeldConnection { used_at: Instant::now(), ..used }),
        }
        answered
    }

    fn query(&mut self, sql: &str, bound: &[Bound<'_>]) -> Result<Vec<Row>, Failure> {
        self.call(|_, connection, limit| connection.query(sql, bound, limit))
    }

    fn models(&mut self, sql: &str, bound: &[Bound<'_>], limit: Limit) -> Result<Batch, Failure> {
        let batch = batch_of(&self.query(sql, bound)?, limit)?;
        if let Some(newest) = batch.models.iter().map(|model| model.id).max() {
            self.engine.saw(newest);
        }
        Ok(batch)
    }

    fn number(&mut self, sql: &str) -> Result<i64, Failure> {
        let rows = self.query(sql, &[])?;
        Ok(only(&rows)?.try_get::<_, i64>(0)?.max(0))
    }
}

impl Session for PgSession {
    fn set_timeout(&mut self, at_most: Duration) -> Result<(), Failure> {
        self.at_most = at_most;
        Ok(())
    }

    fn set_interrupt(&mut self, ended: Option<&Receiver<Infallible>>) {
        self.interrupted = ended.cloned();
    }

    fn before(&mut self, id: Option<i64>, limit: Limit) -> Result<Batch, Failure> {
        let last = id.map_or(i64::MAX, |id| id.saturating_sub(1));
        let bound: [Bound<'_>; 2] = [(&last, Type::INT8), (&one_more(limit), Type::INT8)];
        self.models(select_models!("WHERE id <= $1 ORDER BY id DESC LIMIT $2"), &bound, limit)
    }

    fn next(&mut self, id: i64, limit: Limit) -> Result<Batch, Failure> {
        let bound: [Bound<'_>; 2] = [(&id, Type::INT8), (&one_more(limit), Type::INT8)];
        self.models(select_models!("WHERE id > $1 ORDER BY id LIMIT $2"), &bound, limit)
    }

    fn models_since(&mut self, (time_us, id): (i64, i64), limit: Limit) -> Result<Batch, Failure> {
        let time = PgMicros(time_us);
        let bound: [Bound<'_>; 3] =
            [(&time, Type::TIMESTAMPTZ), (&id, Type::INT8), (&one_more(limit), Type::INT8)];
        let sql = select_models!("WHERE (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3");
        self.models(sql, &bound, limit)
    }

    fn last_id(&mut self) -> Result<i64, Failure> {
        let last = self.number("SELECT coalesce(max(id), 0) FROM models")?;
        self.engine.saw(last);
        Ok(last)
    }

    /// The last number of the sequence, which includes numbers of open transactions and of those that were rolled back.
    fn last_number(&mut self) -> Result<i64, Failure> {
        self.number("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM models_numbers")
    }

    /// Blocks while another transaction that has inserted is open. The server gives up before this method does.
    fn create(&mut self, name: &str, keep: Option<u64>) -> Result<Model, Failure> {
        let keep = keep.map(|keep| i64::try_from(keep).unwrap_or(i64::MAX));
        let model = self.call(|engine, connection, limit| {
            let wait_ms = in_ms(limit.lock_wait());
            let bound: [Bound<'_>; 3] = [(&name, Type::TEXT), (&keep, Type::INT8), (&wait_ms, Type::INT4)];
            let created =
                connection.query("SELECT id, created_at FROM create_model($1, $2, $3)", &bound, limit);
            let rows = match created {
                Err(Failure::Busy(cause)) => {
                    let asked = CallLimit::new(HOLDER_WITHIN, None);
                    return Err(match engine.lock_waited(connection, &asked) {
                        Ok(Some(holder)) => Failure::Busy(
                            format!("{cause}; the lock of the numbers is held by {holder}").into(),
                        ),
                        // Its answer may still arrive.
                        Err(failure) if failure.ends_the_connection() => failure,
                        Ok(None) | Err(_) => Failure::Busy(cause),
                    });
                }
                created => created?,
            };
            if let Some(warning) = connection.take_warning() {
                return Err(Failure::Unconfirmed(warning));
            }
            let row = only(&rows)?;
            let PgMicros(time_us) = row.try_get(1)?;
            Ok(Model { id: row.try_get(0)?, name: name.into(), created_at: timestamp::from_micros(time_us) })
        })?;
        self.engine.saw(model.id);
        Ok(model)
    }
}
