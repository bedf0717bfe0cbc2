//! Finds the commits of other programs, which run no hook of this process.
//!
//! ActiveRecord's `after_commit` knows of what went through it alone: a row that the
//! `sqlite3` shell writes, or another process on the same file, fires none. How an engine tells of
//! them is the matter of its adapter ([`Follower`]); this is the thread that asks it, on a connection of its own.

use std::sync::Arc;
use thiserror::Error;

use super::adapters::{Change, Failure, Follower};
use super::database::Database;
use ninetabs_server::services::Services;
use ninetabs_server::threads::{SpawnError, StoppableThread};

/// Why other programs cannot be watched.
#[derive(Debug, Error)]
pub enum WatchError {
    #[error("the database answered: {0}")]
    Database(#[from] Failure),
    #[error(transparent)]
    Thread(#[from] SpawnError),
}

/// The thread that looks. It ends when this is dropped, which waits for its look.
#[derive(Debug)]
pub struct OutsideWriters {
    _thread: StoppableThread,
}

impl OutsideWriters {
    /// Watches on a connection outside the pool.
    pub fn watch(database: &Arc<Database>, services: &Services) -> Result<OutsideWriters, WatchError> {
        let mut follower = database.follow()?;
        let database = Arc::clone(database);
        let thread = services.spawn("outside writers", move |stop| {
            let mut has_failed = false;
            while stop.sleep(follower.pause()) {
                // It says so itself if they are gone.
                let _ = database.check_files();
                let looked = look(&mut *follower, &database);
                // Ten times a second the same would bury everything else.
                if let (Err(error), false) = (&looked, has_failed) {
                    log::error!("what other programs write is not seen: {error}");
                }
                has_failed = looked.is_err();
            }
            Ok(())
        })?;
        Ok(OutsideWriters { _thread: thread })
    }
}

/// Takes in what other programs have done since the last look.
pub(super) fn look(follower: &mut dyn Follower, database: &Database) -> Result<(), Failure> {
    // Before the look: what is known to be committed is seen by a question that comes later.
    let known = database.known();
    match follower.look(known)? {
        None => {}
        Some(Change::Committed(last)) => database.committed(last),
        Some(Change::Replaced { table, last_id }) => {
            database.began_anew(table, last_id);
            log::warn!(
                "another program put another table in the place of this one: its last id is {last_id}, and it was {}; every client gets all models",
                known.newest
            );
        }
        Some(Change::BeganAnew { table, last_id }) => {
            database.began_anew(table, last_id);
            log::warn!(
                "another program made the ids of the table begin anew: the last one is {last_id}, and it was {}; every client gets all models",
                known.newest
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::unbounded;

    use super::super::adapters::scripted::{Numbers, Scripted};
    use super::super::database::LeaseFor;
    use super::*;

    #[test]
    fn a_notification_is_taken_in_once_however_often_it_comes_and_after_a_look_that_failed() {
        let scripted = Scripted::new(Numbers::AtCommit);
        let database = Database::open(scripted.open(), 1, Duration::from_secs(60), LeaseFor::Query).unwrap();
        let (tell, told) = unbounded();
        database.after_commit(move |id| tell.send(id).unwrap());
        let heard = || told.recv_timeout(Duration::from_secs(60));
        scripted.insert();
        let watched = OutsideWriters::watch(&database, &Services::default()).unwrap();
        assert_eq!(heard(), Ok(1), "it was there before the first look");
        for _ in 0..3 {
            scripted.insert();
        }
        scripted.fail_a_look();
        for id in [3, 2, 3, 1] {
            scripted.notify(id);
        }
        // No notification comes of the last one.
        scripted.look_at_the_table();
        assert_eq!([heard(), heard()], [Ok(3), Ok(4)]);
        drop(watched);
        assert_eq!((told.try_iter().count(), database.newest()), (0, 4));
    }
}
