//! The state that all connections to one database share: its address, and the statistics for `/stats`.

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_postgres::types::Type;
use tokio_postgres::{Config, Row};

use super::super::{EngineStats, Failure, LockHolder};
use super::PgSettings;
use super::config::config;
use super::connection::{CallLimit, PgConnection};
use crate::app::table::Table;
use ninetabs_server::log_limit::limited;

/// Maximum number of events that wait to be sent to other servers. Further ones are dropped.
const EVENTS_WAITING: usize = 256;
/// The maximum payload of a notification, in bytes.
const MOST_PAYLOAD: usize = 7_999;

/// Reads whether this history of the database is known, the last number, and the table's word. The first is null on
/// a standby, which cannot be written to.
const GREET: &str = "SELECT
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE EXISTS (
        SELECT FROM ninetabs_epochs, pg_control_system() WHERE cluster = system_identifier::text
        AND timeline = ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer
    ) END,
    CASE WHEN is_called THEN last_value ELSE 0 END,
    (SELECT word FROM ninetabs_epochs ORDER BY since LIMIT 1)
    FROM models_numbers";

/// The session that has the lock of the numbers in this database.
const HOLDER: &str = "SELECT pid, usename::text, application_name, state, xact_start::text
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND classid = 963928418 AND objid = 0 AND objsubid = 2 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// The database.
#[derive(Debug)]
pub(super) struct PgEngine {
    config: Config,
    cable: Config,
    pub query_timeout: Duration,
    /// The table's identity at the start.
    table: AtomicI32,
    /// The newest number that this process has seen.
    known: AtomicI64,
    listening: Mutex<ListeningState>,
    reconnects: AtomicU64,
    checks: AtomicU64,
    notifications: AtomicU64,
    lock_waits: AtomicU64,
    timeouts: AtomicU64,
    lock_holder: Mutex<Option<LockHolder>>,
    /// Identifies this process in its notifications.
    pub nonce: u64,
    events: Sender<String>,
    /// The receiving end, until the follower takes it.
    events_waiting: Mutex<Option<Receiver<String>>>,
}

#[derive(Debug)]
struct ListeningState {
    listens: bool,
    since: Instant,
}

/// An event that a server sends to the others.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ForwardedEvent {
    pub from: u64,
    pub name: String,
    pub data: String,
}

impl PgEngine {
    pub fn new(settings: &PgSettings) -> Result<PgEngine, Failure> {
        let PgSettings { database, cable, query_timeout, application_name } = settings;
        let of = |url| config(url, application_name, *query_timeout);
        let (events, events_waiting) = channel(EVENTS_WAITING);
        Ok(PgEngine {
            config: of(database)?,
            cable: of(cable.as_ref().unwrap_or(database))?,
            query_timeout: *query_timeout,
            table: AtomicI32::default(),
            known: AtomicI64::new(0),
            listening: Mutex::new(ListeningState { listens: false, since: Instant::now() }),
            reconnects: AtomicU64::new(0),
            checks: AtomicU64::new(0),
            notifications: AtomicU64::new(0),
            lock_waits: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            lock_holder: Mutex::default(),
            nonce: fastrand::u64(..),
            events,
            events_waiting: Mutex::new(Some(events_waiting)),
        })
    }

    /// Opens a connection that must not be used before [`PgEngine::greet`].
    pub fn open(&self, limit: &CallLimit<'_>) -> Result<PgConnection, Failure> {
        PgConnection::open(&self.config, limit)
    }

    /// Opens a connection for queries.
    pub fn connect(&self, limit: &CallLimit<'_>) -> Result<PgConnection, Failure> {
        let mut connection = self.open(limit)?;
        self.greet(&mut connection, limit)?;
        Ok(connection)
    }

    /// Opens a connection that can listen. Returns the table's identity as well.
    pub fn connect_cable(&self, limit: &CallLimit<'_>) -> Result<(PgConnection, Table), Failure> {
        let mut connection = PgConnection::open(&self.cable, limit)?;
        let table = self.greet(&mut connection, limit)?;
        Ok((connection, table))
    }

    /// Checks the history of the database over a new connection. Begins an epoch if the history is new, or if the
    /// database has lost numbers that this process has seen. Returns the table's identity.
    pub fn greet(&self, connection: &mut PgConnection, limit: &CallLimit<'_>) -> Result<Table, Failure> {
        let greeted = |connection: &mut PgConnection| {
            let rows = connection.query(GREET, &[], limit)?;
            let row = only(&rows)?;
            Ok::<_, Failure>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        };
        let (is_known, last, mut word): (Option<bool>, i64, Option<i32>) = greeted(connection)?;
        let Some(is_known) = is_known else {
            return Err(Failure::Lost("it is a standby, which cannot be written to".into()));
        };
        if !is_known || self.known() > last {
            self.begin_epoch(connection, limit)?;
            word = greeted(connection)?.2;
        }
        Ok(Table::from_bits(word.unwrap_or_default()))
    }

    /// Begins an epoch: numbers continue beyond every number that was delivered and lost.
    pub fn begin_epoch(&self, connection: &mut PgConnection, limit: &CallLimit<'_>) -> Result<(), Failure> {
        let (known, wait_ms) = (self.known(), limit.lock_wait_ms());
        let bound: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&known, Type::INT8), (&wait_ms, Type::INT4)];
        let rows = connection.query("SELECT begin_epoch($1, $2)", &bound, limit)?;
        if only(&rows)?.try_get(0)? {
            log::warn!(
                "the database has another history than before, or has lost its newest models: numbers continue one million higher"
            );
        }
        Ok(())
    }

    /// The table's identity when the database was opened.
    pub fn table(&self) -> Table {
        Table::from_bits(self.table.load(Ordering::Acquire))
    }

    pub fn opened(&self, table: Table) {
        self.table.store(table.to_bits(), Ordering::Release);
    }

    pub fn known(&self) -> i64 {
        self.known.load(Ordering::Acquire)
    }

    /// Records that this number is visible.
    pub fn saw(&self, id: i64) {
        self.known.fetch_max(id, Ordering::AcqRel);
    }

    pub fn count_reconnect(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_check(&self) {
        self.checks.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_notification(&self) {
        self.notifications.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failed call.
    pub fn count_failure(&self, failure: &Failure) {
        if let Failure::TimedOut(_) = failure {
            self.timeouts.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a create that did not get the lock in time, and asks which session holds the lock.
    pub fn lock_waited(
        &self,
        connection: &mut PgConnection,
        limit: &CallLimit<'_>,
    ) -> Result<Option<String>, Failure> {
        self.lock_waits.fetch_add(1, Ordering::Relaxed);
        self.look_for_holder(connection, limit)
    }

    /// Whether a create did not get the lock in time, and a session still held it at the last look.
    pub fn has_lock_holder(&self) -> bool {
        lock(&self.lock_holder).is_some()
    }

    /// Asks which session holds the lock.
    pub fn look_for_holder(
        &self,
        connection: &mut PgConnection,
        limit: &CallLimit<'_>,
    ) -> Result<Option<String>, Failure> {
        let rows = connection.query(HOLDER, &[], limit)?;
        let holder = rows.first().map(holder_of).transpose()?;
        let text = holder.as_ref().map(|it| {
            let of = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
            format!(
                "process {}, user {}, application {:?}, state {}, in its transaction since {}",
                it.pid,
                of(&it.user),
                of(&it.application_name),
                of(&it.state),
                of(&it.since)
            )
        });
        *lock(&self.lock_holder) = holder;
        Ok(text)
    }

    /// Records whether notifications arrive. Returns how long the previous state lasted, if it has changed.
    pub fn set_listening(&self, listens: bool) -> Option<Duration> {
        let mut state = lock(&self.listening);
        (state.listens != listens).then(|| {
            let lasted = state.since.elapsed();
            *state = ListeningState { listens, since: Instant::now() };
            lasted
        })
    }

    /// Queues an event for the other servers. Does not block.
    pub fn forward(&self, name: &str, data: &str) {
        let event = ForwardedEvent { from: self.nonce, name: name.to_owned(), data: data.to_owned() };
        let payload = serde_json::to_string(&event).unwrap_or_default();
        if payload.len() > MOST_PAYLOAD {
            limited!(Warn, "an event of {} bytes is not sent to other servers: it is too long", data.len());
        } else if self.events.try_send(payload).is_err() {
            limited!(Warn, "an event is not sent to other servers: too many wait");
        }
    }

    /// Takes the queue of [`PgEngine::forward`], or an empty one if another follower has taken it.
    pub fn take_events(&self) -> Receiver<String> {
        lock(&self.events_waiting).take().unwrap_or_else(|| channel(1).1)
    }

    pub fn stats(&self) -> EngineStats {
        let (listens, since) = {
            let state = lock(&self.listening);
            (state.listens, state.since)
        };
        let count = |of: &AtomicU64| Some(of.load(Ordering::Relaxed));
        EngineStats {
            kind: "postgresql",
            listening: Some(listens),
            not_listening_for_s: (!listens).then(|| since.elapsed().as_secs_f64()),
            reconnects: count(&self.reconnects),
            checks: count(&self.checks),
            notifications: count(&self.notifications),
            lock_waits: count(&self.lock_waits),
            timeouts: count(&self.timeouts),
            lock_holder: lock(&self.lock_holder).clone(),
        }
    }
}

fn holder_of(row: &Row) -> Result<LockHolder, Failure> {
    Ok(LockHolder {
        pid: row.try_get(0)?,
        user: row.try_get(1)?,
        application_name: row.try_get(2)?,
        state: row.try_get(3)?,
        since: row.try_get(4)?,
    })
}

/// The row of a query that returns exactly one.
pub(super) fn only(rows: &[Row]) -> Result<&Row, Failure> {
    rows.first().ok_or_else(|| Failure::Refused("it returned no row".into()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each value is replaced as a whole, so a panic cannot leave an inconsistent value.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
