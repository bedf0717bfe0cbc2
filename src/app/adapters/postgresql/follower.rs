//! Finds the commits of other programs, by notifications and by looking at the table.
//!
//! A notification is a hint. It may be lost, repeated, or sent by any role that can connect, so it never moves a
//! position: it only makes the follower look at the table immediately instead of within a second. The follower listens
//! first and looks afterwards, so that it misses nothing between a lost connection and the next one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ninetabs_server::threads::StopSignal;
use tokio::sync::mpsc::Receiver;
use tokio_postgres::types::Type;

use super::super::{Change, Failure, Known};
use super::connection::{CallLimit, Heard, PgConnection, PgNotification};
use super::engine::{ForwardedEvent, Greeted, PgEngine, only};
use super::history::HistoryNumber;
use crate::app::table::Table;

/// The channels. `notify_models` of the schema names the first one.
const MODELS: &str = "ninetabs_models";
const SAID: &str = "ninetabs_said";
/// How long a look waits at a time, so that the thread can be stopped.
const SLICE: Duration = Duration::from_millis(100);
/// After this time without a notification, the follower looks at the table, because a notification may have been lost.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// The same interval while no notifications arrive at all.
const CHECK_OFTEN: Duration = Duration::from_millis(100);
/// Maximum duration of a query of the follower.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long the follower waits for its own notification.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// The pauses between attempts to connect. Each actual pause is a random part of this, at least half.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];
/// Maximum length of an event's name.
const MOST_NAME: usize = 64;

/// Reads the last visible number, the last one assigned, the table's word, and whether writes are refused.
const CHECK: &str = "SELECT (SELECT coalesce(max(id), 0) FROM models),
    CASE WHEN is_called THEN last_value ELSE 0 END,
    (SELECT word FROM ninetabs_epochs ORDER BY since LIMIT 1),
    current_setting('transaction_read_only')::boolean
    FROM models_numbers";

/// The follower, with a connection of its own.
pub(super) struct PgFollower {
    engine: Arc<PgEngine>,
    events: Receiver<String>,
    /// The history of the connection.
    history: HistoryNumber,
    state: FollowerState,
    /// Events of other servers that have not been returned yet.
    heard: VecDeque<Change>,
    /// The next pause, if the next attempt to connect fails.
    pause: Duration,
    /// Whether a change has been returned since the start.
    has_looked: bool,
}

enum FollowerState {
    /// Connected, without a query so far.
    Connected(PgConnection),
    Following {
        connection: PgConnection,
        listens: bool,
        checked_at: Option<Instant>,
    },
    /// The connection was lost. The next attempt to connect is made at this time or later.
    Lost {
        until: Instant,
    },
}

impl PgFollower {
    /// Connects a follower. Fails if this is not the database of the sessions.
    pub fn connected(engine: &Arc<PgEngine>) -> Result<PgFollower, Failure> {
        let limit = CallLimit::new(engine.query_timeout, None);
        let Greeted { connection, history, table } = engine.connect_cable(&limit)?;
        if engine.table() != table {
            return Err(Failure::Setup("--cable-database and --database are different databases".to_owned()));
        }
        Ok(PgFollower {
            engine: Arc::clone(engine),
            events: engine.take_events(),
            history,
            state: FollowerState::Connected(connection),
            heard: VecDeque::new(),
            pause: PAUSES[0],
            has_looked: false,
        })
    }

    /// Records whether notifications arrive, and logs a change.
    fn listens(&self, listens: bool) {
        match (listens, self.engine.set_listening(listens)) {
            (true, Some(lasted)) if self.has_looked => {
                log::info!(
                    "listening for commits of other programs again, after {:.1} s",
                    lasted.as_secs_f64()
                );
            }
            (false, None) if !self.has_looked => log_not_listening(),
            (false, Some(_)) => log_not_listening(),
            _ => {}
        }
    }

    /// Listens, and waits for the follower's own notification, which arrives only if the connection can listen.
    fn begin(&mut self, mut connection: PgConnection, stop: &StopSignal) -> Result<(), Failure> {
        connection.execute(&format!("LISTEN {MODELS}; LISTEN {SAID}"), &answer_limit(stop))?;
        let test = format!("test {:x}", fastrand::u64(..));
        self.send_test(&mut connection, &test, stop)?;
        let began = Instant::now();
        let mut listens = false;
        while !listens && began.elapsed() < HEARD_WITHIN && !stop.has_come() {
            match connection.listen(SLICE, &mut self.events)? {
                Heard::Notification(it) => {
                    listens = it.channel == SAID && it.payload == test;
                    self.hear(it, i64::MAX);
                }
                Heard::Order(event) => notify(&mut connection, &event, &answer_limit(stop))?,
                Heard::Nothing => {}
            }
        }
        if listens {
            self.listens(true);
        } else if !stop.has_come() {
            self.listens(false);
        }
        self.state = FollowerState::Following { connection, listens, checked_at: None };
        Ok(())
    }

    /// Sends a notification to itself, on another connection. A pooler passes on what arrives with the answer to a
    /// query of the same connection, and nothing later. If no other connection is left, the
    /// test is weaker.
    fn send_test(&self, connection: &mut PgConnection, test: &str, stop: &StopSignal) -> Result<(), Failure> {
        match self.engine.connect(&self.connect_limit(stop)) {
            Ok(mut other) => notify(&mut other.connection, test, &answer_limit(stop)),
            Err(_) => notify(connection, test, &answer_limit(stop)),
        }
    }

    /// The limit of an attempt to connect. It leaves time for each of several hosts, the first of which may not answer.
    fn connect_limit<'a>(&self, stop: &'a StopSignal) -> CallLimit<'a> {
        CallLimit::new(self.engine.query_timeout.max(ANSWER_WITHIN), Some(stop.receiver()))
    }

    /// Takes a notification. Returns whether the table may have models after `newest`.
    fn hear(&mut self, notification: PgNotification, newest: i64) -> bool {
        self.engine.count_notification();
        let PgNotification { channel, payload } = notification;
        if channel == MODELS {
            return payload.parse().map_or(true, |id: i64| id > newest);
        }
        self.heard.extend(event(&payload, self.engine.nonce));
        false
    }

    /// Waits for a notification, or until the next look is due. Then looks at the table.
    fn follow(
        &mut self,
        connection: &mut PgConnection,
        listens: bool,
        checked_at: &mut Option<Instant>,
        known: Known,
        stop: &StopSignal,
    ) -> Result<Option<Change>, Failure> {
        let limit = answer_limit(stop);
        let every = if listens { CHECK_EVERY } else { CHECK_OFTEN };
        let rest = checked_at.map_or(Duration::ZERO, |at| every.saturating_sub(at.elapsed()));
        let mut must_check = rest.is_zero();
        if !must_check {
            match connection.listen(rest.min(SLICE), &mut self.events)? {
                Heard::Notification(it) => must_check |= self.hear(it, known.newest),
                Heard::Order(event) => notify(connection, &event, &limit)?,
                Heard::Nothing => {}
            }
        }
        // One look suffices for all notifications that have arrived.
        while let Some(it) = connection.take_notification() {
            must_check |= self.hear(it, known.newest);
        }
        if !must_check {
            return Ok(self.heard.pop_front());
        }
        let change = self.check(connection, known, &limit)?;
        *checked_at = Some(Instant::now());
        if self.engine.has_lock_holder() {
            self.engine.look_for_holder(connection, &limit)?;
        }
        self.has_looked = true;
        Ok(Some(change))
    }

    fn check(
        &self,
        connection: &mut PgConnection,
        known: Known,
        limit: &CallLimit<'_>,
    ) -> Result<Change, Failure> {
        let rows = connection.query(CHECK, &[], limit)?;
        let row = only(&rows)?;
        let (last_id, last_number): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let table = Table::from_bits(row.try_get::<_, Option<i32>>(2)?.unwrap_or_default());
        self.engine.count_check();
        if self.engine.must_accept_writes() && row.try_get(3)? {
            return Err(Failure::Lost("it accepts no more writes".into()));
        }
        if table != known.table {
            return Ok(Change::Replaced { table, last_id });
        }
        if last_number < known.newest {
            // The sequence was set back while this connection was open.
            self.engine.begin_epoch(connection, limit.lock_wait(), limit)?;
        }
        self.engine.saw(last_id);
        Ok(Change::Committed(last_id))
    }

    fn take_state(&mut self) -> FollowerState {
        std::mem::replace(&mut self.state, FollowerState::Lost { until: Instant::now() })
    }
}

impl super::super::Follower for PgFollower {
    /// No pause is needed between calls, because a look itself waits.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }

    fn look(&mut self, known: Known, stop: &StopSignal) -> Result<Option<Change>, Failure> {
        if let Some(event) = self.heard.pop_front() {
            return Ok(Some(event));
        }
        let outcome = match self.take_state() {
            FollowerState::Connected(_) | FollowerState::Following { .. }
                if !self.engine.is_current(self.history) =>
            {
                Err(Failure::Lost("it is a former primary".into()))
            }
            FollowerState::Connected(connection) => self.begin(connection, stop).map(|()| None),
            FollowerState::Following { mut connection, listens, mut checked_at } => {
                let change = self.follow(&mut connection, listens, &mut checked_at, known, stop);
                if change.is_ok() {
                    self.pause = PAUSES[0];
                    self.state = FollowerState::Following { connection, listens, checked_at };
                }
                change
            }
            FollowerState::Lost { until } => {
                // The whole pause is a part of this look. An earlier return would mean that the look has succeeded.
                if !stop.sleep(until.saturating_duration_since(Instant::now())) {
                    return Ok(None);
                }
                let connected = self.engine.connect_cable(&self.connect_limit(stop));
                connected.map(|Greeted { connection, history, .. }| {
                    self.engine.count_reconnect();
                    self.history = history;
                    self.state = FollowerState::Connected(connection);
                    None
                })
            }
        };
        outcome.inspect_err(|failure| {
            self.engine.count_failure(failure);
            let part = self.pause / 2 + self.pause.mul_f64(fastrand::f64() / 2.0);
            self.state = FollowerState::Lost { until: Instant::now() + part };
            self.pause = (self.pause * 2).min(PAUSES[1]);
            self.engine.set_listening(false);
        })
    }
}

/// The limit of a query that begins now.
fn answer_limit(stop: &StopSignal) -> CallLimit<'_> {
    CallLimit::new(ANSWER_WITHIN, Some(stop.receiver()))
}

fn notify(connection: &mut PgConnection, payload: &str, limit: &CallLimit<'_>) -> Result<(), Failure> {
    let bound: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&SAID, Type::TEXT), (&payload, Type::TEXT)];
    connection.query("SELECT pg_notify($1, $2)", &bound, limit).map(drop)
}

/// Reads the event from the payload of another server. Any role may send any payload, so only what a server would send
/// is accepted.
fn event(payload: &str, nonce: u64) -> Option<Change> {
    let ForwardedEvent { from, name, data } = serde_json::from_str(payload).ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let is_name = !name.is_empty() && name.len() <= MOST_NAME && name.bytes().all(is_plain);
    (from != nonce && is_name).then_some(Change::Event { name, data })
}

fn log_not_listening() {
    log::warn!(
        "notifications from PostgreSQL do not arrive (PgBouncer in transaction mode does not pass them on), so the table is checked every 100 ms; give the server's own address to --cable-database"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_event_of_another_server_is_accepted() {
        let heard = |payload: &str| event(payload, 7);
        let said = Change::Event { name: "said".to_owned(), data: "hi\n".to_owned() };
        assert_eq!(heard(r#"{"from":8,"name":"said","data":"hi\n"}"#), Some(said));
        for payload in [
            r#"{"from":7,"name":"said","data":"our own"}"#,
            r#"{"from":8,"name":"","data":"x"}"#,
            r#"{"from":8,"name":"a\ndata: forged","data":"x"}"#,
            r#"{"from":8,"name":"said"}"#,
            r#"{"from":-1,"name":"said","data":"x"}"#,
            "test 12ab",
            "999999999",
            "",
            "[",
        ] {
            assert_eq!(heard(payload), None, "{payload:?}");
        }
    }
}
