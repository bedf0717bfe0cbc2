//! Divides the file descriptors of the process among its parts.
//!
//! Each connection takes one, and the kernel limits their number. A process without free descriptors cannot accept
//! any connection, not even one with an order to stop. The app's connections therefore get only the descriptors that
//! the control server, the database and the process itself do not need.

use rustix::process::{Resource, getrlimit, setrlimit};
use thiserror::Error;

use ninetabs_server::configuration::SPARE_DESCRIPTORS;

/// Connections that are reserved for the control server.
pub const CONTROL_CONNECTIONS: usize = 64;

/// The limit of descriptors is too low for even one connection of the app.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the limit of descriptors is {limit}, and serving needs at least {needed}: {CONTROL_CONNECTIONS} for the control server, {database} for the database, {SPARE_DESCRIPTORS} for the process; raise it (ulimit -n), or give fewer threads or a smaller --db-pool"
)]
pub struct TooFew {
    limit: usize,
    needed: usize,
    database: usize,
}

/// The limit of descriptors is too low for the tabs of a cluster.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "--tabs {tabs}: the limit of descriptors is {limit}, and HAProxy needs two per tab and {SPARE_DESCRIPTORS} in addition; give at most {possible} tabs, or raise the limit (ulimit -n)"
)]
pub struct TooManyTabs {
    tabs: u16,
    limit: usize,
    possible: usize,
}

/// Raises the soft limit to the hard one and returns it. The usual soft limit of 1,024 is soon reached.
pub fn raise_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let before = limit.current;
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            log::warn!("cannot raise the limit of descriptors: {error}");
            limit.current = before;
        }
    }
    // None means unlimited.
    limit.current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// The maximum number of connections of the app: the requested number, but at most what the limit leaves, which is
/// also the default. `database` is the number of descriptors that the database connections need.
pub fn for_the_app(limit: usize, database: usize, asked: Option<u64>) -> Result<usize, TooFew> {
    let others = database.saturating_add(SPARE_DESCRIPTORS + CONTROL_CONNECTIONS);
    let left = limit.saturating_sub(others);
    if left == 0 {
        return Err(TooFew { limit, needed: others.saturating_add(1), database });
    }
    match asked.map(|asked| usize::try_from(asked).unwrap_or(usize::MAX)) {
        Some(asked) if asked > left => {
            log::warn!(
                "--max-connections {asked}: the limit of descriptors ({limit}) permits only {left}; raise it (ulimit -n)"
            );
            Ok(left)
        }
        Some(asked) => Ok(asked),
        None => Ok(left),
    }
}

/// Checks whether a HAProxy with this limit can serve the tabs. A tab takes one descriptor of the process that opens it.
pub fn for_tabs(limit: usize, tabs: u16) -> Result<(), TooManyTabs> {
    let possible = limit.saturating_sub(SPARE_DESCRIPTORS) / 2;
    if usize::from(tabs) > possible { Err(TooManyTabs { tabs, limit, possible }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_server_the_database_and_the_process_keep_their_share() {
        let others = SPARE_DESCRIPTORS + CONTROL_CONNECTIONS + 16;
        assert_eq!(for_the_app(1024, 16, None), Ok(1024 - others));
        assert_eq!(for_the_app(1024, 16, Some(100)), Ok(100));
        assert_eq!(for_the_app(1024, 16, Some(1024)), Ok(1024 - others));
        assert_eq!(for_the_app(1024, 16, Some(u64::MAX)), Ok(1024 - others));
        assert_eq!(for_the_app(usize::MAX, 16, Some(u64::MAX)), Ok(usize::MAX - others));
        assert_eq!(for_the_app(others + 1, 16, None), Ok(1));
        let needed = others + 1;
        assert_eq!(for_the_app(others, 16, Some(1)), Err(TooFew { limit: others, needed, database: 16 }));
        assert!(for_the_app(1024, usize::MAX, None).is_err());
    }

    #[test]
    fn each_tab_of_a_cluster_takes_two_descriptors_of_haproxy() {
        assert_eq!(for_tabs(SPARE_DESCRIPTORS + 18, 9), Ok(()));
        let (limit, possible) = (SPARE_DESCRIPTORS + 17, 8);
        assert_eq!(for_tabs(limit, 9), Err(TooManyTabs { tabs: 9, limit, possible }));
        assert_eq!(for_tabs(12, 0), Ok(()));
        assert_eq!(for_tabs(12, 1), Err(TooManyTabs { tabs: 1, limit: 12, possible: 0 }));
    }
}
