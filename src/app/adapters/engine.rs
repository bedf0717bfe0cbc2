//! The statistics of an engine, which the control server shows under `engine`.

use serde::Serialize;

/// The known state of the engine, without a query. A field that does not apply to an engine is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EngineStats {
    pub kind: &'static str,
    /// Whether notifications of commits arrive.
    pub listening: Option<bool>,
    pub not_listening_for_s: Option<f64>,
    /// Connections that were opened because an earlier one was lost, since the start.
    pub reconnects: Option<u64>,
    /// How often the table was checked for commits, since the start.
    pub checks: Option<u64>,
    pub notifications: Option<u64>,
    /// Creates that gave up waiting for the lock of another transaction, since the start.
    pub lock_waits: Option<u64>,
    /// Queries that were abandoned at their timeout, since the start.
    pub timeouts: Option<u64>,
    /// The session that holds the lock that a create did not get in time, for as long as it holds the lock.
    pub lock_holder: Option<LockHolder>,
}

impl EngineStats {
    /// The statistics of an engine that has none of these.
    pub const fn of(kind: &'static str) -> EngineStats {
        EngineStats {
            kind,
            listening: None,
            not_listening_for_s: None,
            reconnects: None,
            checks: None,
            notifications: None,
            lock_waits: None,
            timeouts: None,
            lock_holder: None,
        }
    }
}

/// A session of the engine. An ordinary role does not see the state of another role's session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockHolder {
    pub pid: i32,
    pub user: Option<String>,
    pub application_name: Option<String>,
    pub state: Option<String>,
    /// When its transaction began.
    pub since: Option<String>,
}
