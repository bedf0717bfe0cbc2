//! Remedies for live warnings: `top` and the dashboard give the advice that a probe of that server gives.

use super::products::{Product, Recognized};
use super::remedies;

/// A server that states what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchedServer {
    /// By its `/stats`.
    Puma,
    /// This program.
    Ninetabs,
}

/// A state of a server for which a probe has a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveState {
    /// All threads are taken, and the next request waits: `workers`.
    ThreadsTaken,
    /// All database connections are in use, and a thread waits for one: `database-pool`.
    DatabasePoolEmpty,
    /// New connections are not accepted: `connections`.
    ConnectionsFull,
    /// A write to a client that does not read blocks: `zombies-stay`.
    WriteBlocked,
}

/// What to do about this state, in the words of the server's configuration.
pub fn live_remedy(server: WatchedServer, state: LiveState) -> String {
    let recognized = Recognized::by_name(match server {
        WatchedServer::Puma => Product::Puma,
        WatchedServer::Ninetabs => Product::Ninetabs,
    });
    match state {
        LiveState::ThreadsTaken => remedies::workers(&recognized, false),
        LiveState::DatabasePoolEmpty => remedies::database_pool(&recognized),
        LiveState::ConnectionsFull => remedies::connections(&recognized),
        LiveState::WriteBlocked => remedies::zombies(&recognized),
    }
}
