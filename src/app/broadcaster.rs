//! The broadcaster: sends committed models and the app's events to all listeners.
//!
//! Models `SseRailsEngine.send_event` and render_sync's `after_commit`, with three additions. A listener
//! cannot delay other listeners or the sender. A listener that was cut off does not lose any models. A row
//! that another program writes arrives as well, since models are read from the table: the hook only wakes the
//! event loop ([`ninetabs_server::event_loop`]) that serves all listeners, from [`super::announcements`].
//!
//! An event of [`Broadcaster::send_event`] is not stored in a table, so a disconnected client misses it.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use thiserror::Error;

use super::adapters::Failure;
use super::announcements::{Announcements, Sent};
use super::database::Database;
use super::table_reader::{Models, TableReader};
use ninetabs_server::event_loop::{Bell, Counts, EventLoop, Peer};
use ninetabs_server::response::Detached;
use ninetabs_server::services::Services;
use ninetabs_server::threads::SpawnError;

/// Default maximum size of the kept announcements, in bytes.
pub const PUSH_BUFFER: usize = 1024 * 1024;
/// How long the table reader waits for a lock of another program; it retries later.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the broadcaster cannot start.
#[derive(Debug, Error)]
pub enum BroadcasterError {
    #[error("the database answered: {0}")]
    Database(#[from] Failure),
    #[error(transparent)]
    Thread(#[from] SpawnError),
}

/// The handle through which events are sent and listeners join.
pub struct Broadcaster {
    events: EventLoop<Announcements>,
    sent: Arc<Sent>,
    database: Arc<Database>,
    most_bytes: usize,
    /// Disconnected when the table reader has ended.
    reader_ended: Receiver<Infallible>,
}

impl Broadcaster {
    /// Starts the event loop, which each commit wakes. The loop keeps at most `most_bytes` of announcements,
    /// and cuts off a listener that reads nothing for `stopped_after`.
    pub fn start(
        database: &Arc<Database>,
        services: &Services,
        most_bytes: usize,
        stopped_after: Duration,
    ) -> Result<Broadcaster, BroadcasterError> {
        let mut session = database.connect()?;
        session.set_timeout(READ_TIMEOUT)?;
        let sent = Arc::<Sent>::default();
        // Set before the first listener joins, and therefore before the first question to the table reader.
        let bell = Arc::new(OnceLock::<Bell<Announcements>>::new());
        let notify = || {
            let bell = Arc::clone(&bell);
            move || {
                if let Some(bell) = bell.get() {
                    bell.ring();
                }
            }
        };
        let table = Models { session, database: Arc::clone(database) };
        let reader = TableReader::start(table, services, notify())?;
        let reader_ended = reader.ended();
        let make = {
            let (database, sent, notify) = (Arc::clone(database), Arc::clone(&sent), notify());
            move || Announcements::new(reader, notify, database, sent, most_bytes)
        };
        let events = EventLoop::start("broadcaster", services, stopped_after, make)?;
        bell.get_or_init(|| events.bell());
        let committed = notify();
        database.after_commit(move |_| committed());
        Ok(Broadcaster { events, sent, database: Arc::clone(database), most_bytes, reader_ended })
    }

    /// Sends an event to all listeners of this server and of the other servers on its database. Does not block. If the
    /// events that are sent before the loop runs exceed `most_bytes`, the oldest ones are dropped.
    pub fn send_event(&self, name: &str, data: &str) {
        self.hear(name, data);
        self.database.forward(name, data);
    }

    /// Sends an event to the listeners of this server.
    pub fn hear(&self, name: &str, data: &str) {
        self.sent.push(name, data, self.most_bytes);
        self.events.bell().ring();
    }

    /// Adds a connection as a listener. Does not block.
    pub fn join(&self, detached: Detached, peer: Box<dyn Peer<Announcements>>) {
        self.events.join(detached, peer);
    }

    pub fn counts(&self) -> Counts {
        self.events.counts()
    }

    /// Asks every client to reconnect, the last one before `deadline`, and then ends. Does not block.
    pub fn stop(&self, deadline: Instant) {
        self.events.stop(deadline);
    }

    /// A channel that is disconnected once every listener has been sent its last piece.
    pub fn ended(&self) -> &Receiver<Infallible> {
        self.events.ended()
    }

    /// Blocks until its database connection is closed, but for at most this time: a query that waits for
    /// another program's lock cannot be interrupted. Call this after the loop has ended.
    pub fn await_reader(&self, at_most: Duration) {
        // The channel is disconnected when the reader has ended.
        let _ = self.reader_ended.recv_timeout(at_most);
    }
}
