//! The broadcaster: what is committed, and what the app has to say, told to all who listen.
//!
//! Models `SseRailsEngine.send_event` and render_sync's `after_commit`, and does what they
//! do not: no listener can hold up the others or who sends, nothing is lost on the way to one
//! that was cut, and a row that another program writes arrives as well, since what is told
//! is read from the table and not from the hook. The hook only rings, for one event loop
//! ([`crate::live::detached`]) that has all listeners; what it tells them from is
//! [`super::announcements`].
//!
//! What is sent by [`Broadcaster::send_event`] is in no table: whoever is away misses it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::announcements::{Announcements, Sent};
use super::database::Database;
use crate::live::detached::{Counts, EventLoop, Peer};
use crate::puma::response::Detached;

/// The most bytes of news that are kept, where nobody says otherwise.
pub const PUSH_BUFFER: usize = 1024 * 1024;
/// How long the loop waits for a database that somebody has locked; it asks again later.
const BUSY_TIMEOUT: Duration = Duration::from_millis(20);

/// Why there is no broadcaster.
#[derive(Debug, Error)]
pub enum BroadcasterError {
    #[error("the database answered: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("cannot start its event loop: {0}")]
    Loop(#[from] io::Error),
}

/// Whoever has something to tell, and whoever wants to listen, comes here.
pub struct Broadcaster {
    events: EventLoop<Announcements>,
    sent: Arc<Sent>,
    most_bytes: usize,
}

impl Broadcaster {
    /// Starts its loop, which is rung for by each commit. It keeps announcements of at most
    /// `most_bytes`, and cuts whoever takes nothing for `stopped_after`.
    pub fn start(
        database: &Arc<Database>,
        most_bytes: usize,
        stopped_after: Duration,
    ) -> Result<Broadcaster, BroadcasterError> {
        let db = database.connect()?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        let sent = Arc::<Sent>::default();
        let make = {
            let (database, sent) = (Arc::clone(database), Arc::clone(&sent));
            move || Announcements::new(db, database, sent, most_bytes)
        };
        let events = EventLoop::start("broadcaster", stopped_after, make)?;
        let bell = events.bell();
        database.after_commit(move |_| bell.ring());
        Ok(Broadcaster { events, sent, most_bytes })
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

    /// Tells everybody to come back, and ends. Blocks until that is done.
    pub fn stop(&self) {
        self.events.stop();
    }
}
