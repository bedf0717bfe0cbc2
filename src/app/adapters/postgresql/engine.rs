//! The state that all connections to one database share: its address, and the statistics for `/stats`.

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::super::{EngineStats, Failure, LockHolder};
use super::PgSettings;
use super::config::configs;
use super::connection::{CallLimit, PgConnection, in_ms};
use super::history::{CurrentHistory, History, HistoryNumber};
use super::hosts::DatabaseHosts;
use crate::app::table::Table;
use ninetabs_server::log_limit::limited;

/// Maximum number of events that wait to be sent to other servers. Further ones are dropped.
const EVENTS_WAITING: usize = 256;
/// The maximum payload of a notification, in bytes.
const MOST_PAYLOAD: usize = 7_999;

/// How long a new connection waits for the lock of the numbers to begin an epoch.
const EPOCH_WAIT: Duration = Duration::from_millis(500);

/// Reads the history of the database, whether it is known, the last number, and the table's word. The timeline is null on
/// a standby, which cannot be written to.
const GREET: &str = "SELECT
    here.cluster,
    here.timeline,
    EXISTS (SELECT FROM ninetabs_epochs AS e WHERE e.cluster = here.cluster AND e.timeline = here.timeline),
    CASE WHEN is_called THEN last_value ELSE 0 END,
    (SELECT word FROM ninetabs_epochs ORDER BY since LIMIT 1)
    FROM models_numbers, (SELECT system_identifier::text AS cluster, CASE WHEN NOT pg_is_in_recovery()
        THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer END AS timeline
        FROM pg_control_system()) AS here";

/// The session that has the lock of the numbers in this database.
const HOLDER: &str = "SELECT pid, usename::text, application_name, state, xact_start::text
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND classid = 963928418 AND objid = 0 AND objsubid = 2 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// The database.
#[derive(Debug)]
pub(super) struct PgEngine {
    hosts: DatabaseHosts,
    /// The hosts to listen at.
    cable: DatabaseHosts,
    history: CurrentHistory,
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

/// A connection that was checked, and may be used as long as its history is the current one.
#[derive(Debug)]
pub(super) struct Greeted {
    pub connection: PgConnection,
    pub history: HistoryNumber,
    /// The table's identity.
    pub table: Table,
}

/// The answer to [`GREET`].
struct HistoryAnswer {
    cluster: String,
    timeline: Option<i32>,
    is_known: bool,
    last: i64,
    word: Option<i32>,
}

impl HistoryAnswer {
    fn of(connection: &mut PgConnection, limit: &CallLimit<'_>) -> Result<HistoryAnswer, Failure> {
        let rows = connection.query(GREET, &[], limit)?;
        let row = only(&rows)?;
        Ok(HistoryAnswer {
            cluster: row.try_get(0)?,
            timeline: row.try_get(1)?,
            is_known: row.try_get(2)?,
            last: row.try_get(3)?,
            word: row.try_get(4)?,
        })
    }
}

impl PgEngine {
    pub fn new(settings: &PgSettings) -> Result<PgEngine, Failure> {
        let PgSettings { database, cable, query_timeout, application_name } = settings;
        let of = |url| configs(url, application_name, *query_timeout).map(DatabaseHosts::new);
        let (events, events_waiting) = channel(EVENTS_WAITING);
        Ok(PgEngine {
            hosts: of(database)?,
            cable: of(cable.as_ref().unwrap_or(database))?,
            history: CurrentHistory::default(),
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

    /// Opens the first connection of the process. `prepare` checks and creates the tables.
    pub fn connect_first(
        &self,
        limit: &CallLimit<'_>,
        prepare: impl Fn(&mut PgConnection, &CallLimit<'_>) -> Result<(), Failure>,
    ) -> Result<Greeted, Failure> {
        self.hosts.first_that_works(limit, |config, limit| {
            let mut connection = PgConnection::open(config, limit)?;
            prepare(&mut connection, limit)?;
            // Creating the tables may have taken longer than the limit.
            self.greet(connection, &CallLimit::new(self.query_timeout, None))
        })
    }

    /// Opens a connection for queries.
    pub fn connect(&self, limit: &CallLimit<'_>) -> Result<Greeted, Failure> {
        self.connect_to(&self.hosts, limit)
    }

    /// Opens a connection that can listen.
    pub fn connect_cable(&self, limit: &CallLimit<'_>) -> Result<Greeted, Failure> {
        self.connect_to(&self.cable, limit)
    }

    fn connect_to(&self, hosts: &DatabaseHosts, limit: &CallLimit<'_>) -> Result<Greeted, Failure> {
        hosts.first_that_works(limit, |config, limit| self.greet(PgConnection::open(config, limit)?, limit))
    }

    /// Whether only a host that accepts writes may be listened at.
    pub fn must_accept_writes(&self) -> bool {
        self.cable.must_accept_writes()
    }

    /// Whether the database is still the one to which a connection with this number leads.
    pub fn is_current(&self, history: HistoryNumber) -> bool {
        self.history.is_current(history)
    }

    /// Checks the history of the database over a new connection. Begins an epoch if the history is new, or if the
    /// database has lost numbers that this process has seen. Refuses a standby and a former primary.
    fn greet(&self, mut connection: PgConnection, limit: &CallLimit<'_>) -> Result<Greeted, Failure> {
        let greeting = HistoryAnswer::of(&mut connection, limit)?;
        let Some(timeline) = greeting.timeline else {
            return Err(Failure::Lost("it is a standby, which cannot be written to".into()));
        };
        let history = self.history.enter(History { cluster: greeting.cluster, timeline })?;
        let mut word = greeting.word;
        let has_lost_numbers = self.known() > greeting.last;
        if has_lost_numbers || !greeting.is_known {
            let wait = if has_lost_numbers { limit.lock_wait() } else { limit.lock_wait().min(EPOCH_WAIT) };
            match self.begin_epoch(&mut connection, wait, limit) {
                Ok(()) => word = HistoryAnswer::of(&mut connection, limit)?.word,
                // Another transaction has the lock. Models can be read meanwhile, and the trigger begins the epoch before
                // it assigns a number.
                Err(Failure::Busy(_)) if !has_lost_numbers => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(Greeted { connection, history, table: Table::from_bits(word.unwrap_or_default()) })
    }

    /// Begins an epoch: numbers continue beyond every number that was delivered and lost. Waits at most this long for the
    /// lock of the numbers.
    pub fn begin_epoch(
        &self,
        connection: &mut PgConnection,
        wait: Duration,
        limit: &CallLimit<'_>,
    ) -> Result<(), Failure> {
        let (known, wait_ms) = (self.known(), in_ms(wait));
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
