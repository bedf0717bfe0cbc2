//! Eviction: which connection is closed when a new one needs its place.
//!
//! A connection with a complete request is never evicted, nor one that a pool thread or the app holds.

use std::sync::atomic::Ordering;

use super::{LAST_READS, LOOKED_AT, PumaServer, counted};
use crate::client::{Client, ReadProgress};
use crate::reactor::Reactor;
use crate::refusal::Refusal;

/// How many connections are examined to find one that can be evicted.
const CANDIDATES: usize = 16;

impl PumaServer {
    /// Evicts a connection. Returns false if there is none that can be evicted.
    pub(super) fn evict_one(&self) -> bool {
        self.evict(|client| self.linger(client))
    }

    /// Closes a connection before this returns: the one that has lingered longest, or, if none lingers,
    /// an evicted one.
    pub fn close_one_at_once(&self) -> bool {
        let lingering = self.reactor.get().and_then(Reactor::take_longest_lingering);
        match lingering {
            Some(mut client) => {
                // Bytes that have arrived are read first, because the kernel answers unread ones with a
                // reset.
                let _ = client.finish_within(LAST_READS);
                true
            }
            None => self.evict(drop),
        }
    }

    /// Evicts the connection that has waited longest without a complete request. If it has to linger, it is
    /// passed to `linger`. Returns false if there is none. A lingering connection is not in use, so it is
    /// never evicted.
    fn evict(&self, linger: impl FnOnce(Box<Client>)) -> bool {
        let Some(reactor) = self.reactor.get() else { return false };
        for _ in 0..CANDIDATES {
            let watched = reactor.take_longest_waiting();
            let Some(mut client) = watched.or_else(|| self.take_from_todo()) else { return false };
            let progress = client.finish_within(LAST_READS);
            let ended = match counted(&mut client, progress) {
                // Its request has arrived in the meantime.
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

    /// Takes out of todo the first client that has not sent a complete head.
    fn take_from_todo(&self) -> Option<Box<Client>> {
        let pool = self.pool()?;
        let seen = pool.look_at_todo(LOOKED_AT, |client| client.glance_if_silent());
        let silent = seen.into_iter().find_map(|mut it| it.request_line().is_none().then_some(it.subject))?;
        pool.take_from_todo(silent)
    }
}
