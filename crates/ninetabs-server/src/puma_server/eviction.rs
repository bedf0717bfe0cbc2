//! Eviction: selects the connection that is closed when there are too many.
//!
//! A connection is never evicted if its request is complete, or while a pool thread or the app holds it.

use std::sync::atomic::Ordering;

use super::{LAST_READS, LOOKED_AT, PumaServer, counted};
use crate::client::{Client, ReadProgress};
use crate::reactor::Reactor;
use crate::refusal::Refusal;

/// The maximum number of connections that are examined to find one to evict.
const CANDIDATES: usize = 16;

impl PumaServer {
    /// Evicts a connection. Returns `false` if none can be evicted.
    pub(super) fn evict_one(&self) -> bool {
        self.evict(|client| self.linger(client))
    }

    /// Closes a connection before this function returns: the one that has lingered longest or, if none is lingering,
    /// one that can be evicted.
    pub fn close_one_at_once(&self) -> bool {
        let lingering = self.reactor.get().and_then(Reactor::take_longest_lingering);
        match lingering {
            Some(mut client) => {
                // Read the bytes that have arrived first, because closing a socket with unread bytes sends a reset.
                let _ = client.finish_within(LAST_READS);
                true
            }
            None => self.evict(drop),
        }
    }

    /// Evicts the connection that has waited longest in the reactor or, if none waits there, one from `todo` that has
    /// not sent a complete head. If it has to linger, it is passed to `linger`. Returns `false` if no connection can be
    /// evicted. Lingering connections do not count as being in use, so they are never evicted.
    fn evict(&self, linger: impl FnOnce(Box<Client>)) -> bool {
        let Some(reactor) = self.reactor.get() else { return false };
        for _ in 0..CANDIDATES {
            let watched = reactor.take_longest_waiting();
            let Some(mut client) = watched.or_else(|| self.take_from_todo()) else { return false };
            let progress = client.finish_within(LAST_READS);
            let ended = match counted(&mut client, progress) {
                // The rest of the request has arrived in the meantime.
                ReadProgress::Ready => {
                    self.push(client);
                    continue;
                }
                ReadProgress::Gone => None,
                ReadProgress::Refused(refusal) => self.refused_at_its_end(client, refusal),
                ReadProgress::ReadEmpty | ReadProgress::MoreToRead => {
                    self.evicted.fetch_add(1, Ordering::Relaxed);
                    self.dismiss(client, Refusal::TooManyConnections)
                }
            };
            if let Some(client) = ended {
                linger(client);
            }
            return true;
        }
        false
    }

    /// Finds the first client in `todo` that has not sent a complete head, and removes it.
    fn take_from_todo(&self) -> Option<Box<Client>> {
        let pool = self.pool()?;
        let seen = pool.look_at_todo(LOOKED_AT, |client| client.glance_if_silent());
        let silent = seen.into_iter().find_map(|mut it| it.request_line().is_none().then_some(it.subject))?;
        pool.take_from_todo(silent)
    }
}
