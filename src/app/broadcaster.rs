//! The broadcaster: what is committed, and what the app has to say, told to all who listen.
//!
//! Models `SseRailsEngine.send_event` and render_sync's `after_commit`, and does what they
//! do not: no listener can hold up the others or who sends, nothing is lost on the way to one
//! that was cut, and a row that another program writes arrives as well, since what is told
//! is read from the table and not from the hook. The hook only rings, for one event loop
//! ([`ninetabs_server::event_loop`]) that has all listeners; what it tells them from is
//! [`super::announcements`].
//!
//! What is sent by [`Broadcaster::send_event`] is in no table: whoever is away misses it.

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

/// The most bytes of news that are kept, where nobody says otherwise.
pub const PUSH_BUFFER: usize = 1024 * 1024;
/// How long the table reader waits for a lock of another program; it asks again later.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no broadcaster.
#[derive(Debug, Error)]
pub enum BroadcasterError {
    #[error("the database answered: {0}")]
    Database(#[from] Failure),
    #[error(transparent)]
    Thread(#[from] SpawnError),
}

/// Whoever has something to tell, and whoever wants to listen, comes here.
pub struct Broadcaster {
    events: EventLoop<Announcements>,
    sent: Arc<Sent>,
    most_bytes: usize,
    /// Disconnected when the table reader has ended.
    reader_ended: Receiver<Infallible>,
}

impl Broadcaster {
    /// Starts its loop, which is rung for by each commit. It keeps announcements of at most
    /// `most_bytes`, and cuts whoever takes nothing for `stopped_after`.
    pub fn start(
        database: &Arc<Database>,
        services: &Services,
        most_bytes: usize,
        stopped_after: Duration,
    ) -> Result<Broadcaster, BroadcasterError> {
        let mut session = database.connect()?;
        session.set_timeout(READ_TIMEOUT)?;
        let sent = Arc::<Sent>::default();
        // There before the first listener, so before anything is ordered.
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
        Ok(Broadcaster { events, sent, most_bytes, reader_ended })
    }

    /// Tells all who listen. It waits for nobody; if more is sent than is kept before the loop
    /// has come to it, the oldest is forgotten.
    pub fn send_event(&self, name: &str, data: &str) {
        self.sent.push(name, data, self.most_bytes);
        self.events.bell().ring();
    }

    /// Takes a connection in. Does not block.
    pub fn join(&self, detached: Detached, peer: Box<dyn Peer<Announcements>>) {
        self.events.join(detached, peer);
    }

    pub fn counts(&self) -> Counts {
        self.events.counts()
    }

    /// Tells every listener to come back, the last one before `deadline`, and ends. Does not block.
    pub fn stop(&self, deadline: Instant) {
        self.events.stop(deadline);
    }

    /// Disconnected when all have been told.
    pub fn ended(&self) -> &Receiver<Infallible> {
        self.events.ended()
    }

    /// Blocks until its database connection is closed, at most for this time: a query that waits
    /// for another program's lock cannot be cut short. For after the end.
    pub fn await_reader(&self, at_most: Duration) {
        // The end is a disconnection.
        let _ = self.reader_ended.recv_timeout(at_most);
    }
}
