//! Remedies for live warnings: `top` and the dashboard give the same advice as a probe of the server.

use super::products::{Product, Recognized};
use super::remedies;

/// The program of a server that reports its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchedServer {
    /// Puma, recognized by its `/stats`.
    Puma,
    /// ninetabs itself.
    Ninetabs,
}

/// A state of a server for which a probe has a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveState {
    /// All threads are held, and the next request waits: `workers`.
    ThreadsTaken,
    /// All database connections are in use, and a thread waits for one: `database-pool`.
    DatabasePoolEmpty,
    /// New connections are not accepted: `connections`.
    ConnectionsFull,
    /// A write to a client that does not read blocks: `zombies-stay`.
    WriteBlocked,
}

/// The remedy for this state, in terms of the server's own settings.
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
