//! How the process's descriptors are shared out.
//!
//! A connection is one, and the kernel gives a process only so many. Whoever has
//! used them up cannot accept, not even an order to stop; so the app's connections
//! get what the control server, the database and the process itself leave.

use rustix::process::{Resource, getrlimit, setrlimit};
use thiserror::Error;

use ninetabs_server::configuration::SPARE_DESCRIPTORS;

/// Connections that the control server may have, whatever the app's clients take.
pub const CONTROL_CONNECTIONS: usize = 64;
/// A database connection's file and its write-ahead log.
const PER_DATABASE_CONNECTION: usize = 2;

/// Not one connection of the app fits in.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the limit of descriptors is {limit}, and it takes {needed} to serve anybody: {CONTROL_CONNECTIONS} for the control server, {database} for the database, {SPARE_DESCRIPTORS} for the process; raise it (ulimit -n), or give fewer threads or a smaller --db-pool"
)]
pub struct TooFew {
    limit: usize,
    needed: usize,
    database: usize,
}

/// The soft limit, once it is as high as the hard one: the usual soft limit of 1,024
/// is soon reached.
pub fn raise_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let before = limit.current;
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            log::warn!("the limit of descriptors stays as it is: {error}");
            limit.current = before;
        }
    }
    // None is no limit at all.
    limit.current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// The most connections that the app may have: what was asked for, else all that the
/// limit leaves, and never more than that.
pub fn for_the_app(limit: usize, database_connections: usize, asked: Option<u64>) -> Result<usize, TooFew> {
    let database = database_connections.saturating_mul(PER_DATABASE_CONNECTION);
    let others = database.saturating_add(SPARE_DESCRIPTORS + CONTROL_CONNECTIONS);
    let left = limit.saturating_sub(others);
    if left == 0 {
        return Err(TooFew { limit, needed: others.saturating_add(1), database });
    }
    match asked.map(|asked| usize::try_from(asked).unwrap_or(usize::MAX)) {
        Some(asked) if asked > left => {
            log::warn!(
                "--max-connections {asked}: the limit of descriptors ({limit}) leaves room for {left}, and no more are let in; raise it (ulimit -n) to have more"
            );
            Ok(left)
        }
        Some(asked) => Ok(asked),
        None => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_keep_their_share() {
        let others = SPARE_DESCRIPTORS + CONTROL_CONNECTIONS + 16;
        assert_eq!(for_the_app(1024, 8, None), Ok(1024 - others));
        assert_eq!(for_the_app(1024, 8, Some(100)), Ok(100));
        assert_eq!(for_the_app(1024, 8, Some(1024)), Ok(1024 - others));
        assert_eq!(for_the_app(1024, 8, Some(u64::MAX)), Ok(1024 - others));
        assert_eq!(for_the_app(usize::MAX, 8, Some(u64::MAX)), Ok(usize::MAX - others));
        assert_eq!(for_the_app(others + 1, 8, None), Ok(1));
        let needed = others + 1;
        assert_eq!(for_the_app(others, 8, Some(1)), Err(TooFew { limit: others, needed, database: 16 }));
        assert!(for_the_app(1024, usize::MAX, None).is_err());
    }
}
