//! Finds the commits of other programs, which do not run the hooks of this process.
//!
//! ActiveRecord's `after_commit` runs only for commits through ActiveRecord, and not for a row that the
//! `sqlite3` shell or another process writes. How to find such commits is up to the engine's adapter
//! ([`Follower`]). This module has the thread that calls the follower, on a separate connection.

use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;

use super::adapters::{Change, Failure, Follower};
use super::database::Database;
use ninetabs_server::services::Services;
use ninetabs_server::threads::{SpawnError, StopSignal, StoppableThread};

/// Why the thread cannot start.
#[derive(Debug, Error)]
pub enum WatchError {
    #[error("the database answered: {0}")]
    Database(#[from] Failure),
    #[error(transparent)]
    Thread(#[from] SpawnError),
}

/// The thread. It ends when this is dropped; the drop waits for a look that is in progress.
#[derive(Debug)]
pub struct OutsideWriters {
    _thread: StoppableThread,
}

impl OutsideWriters {
    /// Starts the thread, with a connection outside the pool. `hear` receives the events of other servers, and
    /// `note` the texts about the database for the record of events. Neither may block.
    pub fn watch(
        database: &Arc<Database>,
        services: &Services,
        hear: impl Fn(&str, &str) + Send + 'static,
        note: impl Fn(String) + Send + 'static,
    ) -> Result<OutsideWriters, WatchError> {
        let mut follower = database.follow()?;
        let database = Arc::clone(database);
        let thread = services.spawn("outside writers", move |stop| {
            let mut has_failed = false;
            let mut hearing = Hearing::default();
            while stop.sleep(follower.pause()) {
                // If the files are gone, the check itself logs it.
                let _ = database.check_files();
                let looked = look(&mut *follower, &database, &hear, stop);
                if stop.has_come() {
                    break;
                }
                // Logging the same line ten times per second would bury all other lines.
                if let (Err(error), false) = (&looked, has_failed) {
                    log::error!("cannot look for rows that other programs write: {error}");
                }
                has_failed = looked.is_err();
                if let Some(text) = hearing.change(database.engine().listening) {
                    note(text);
                }
            }
            Ok(())
        })?;
        Ok(OutsideWriters { _thread: thread })
    }
}

/// Tracks whether notifications of commits arrive. Waiting for the first one after a start does not count as a loss.
#[derive(Debug, Default)]
enum Hearing {
    #[default]
    NotYet,
    Hears,
    Lost {
        since: Instant,
    },
}

impl Hearing {
    /// Returns the text for the record if notifications have stopped arriving, or arrive again.
    fn change(&mut self, listening: Option<bool>) -> Option<String> {
        match (&*self, listening?) {
            (Hearing::NotYet, true) => {
                *self = Hearing::Hears;
                None
            }
            (Hearing::Hears, false) => {
                *self = Hearing::Lost { since: Instant::now() };
                Some("no longer listens for commits of other programs".to_owned())
            }
            (Hearing::Lost { since }, true) => {
                let lasted = since.elapsed().as_secs_f64();
                *self = Hearing::Hears;
                Some(format!("listens for commits of other programs again, after {lasted:.1} s"))
            }
            _ => None,
        }
    }
}

/// Records what other programs have committed since the last look.
pub(super) fn look(
    follower: &mut dyn Follower,
    database: &Database,
    hear: &dyn Fn(&str, &str),
    stop: &StopSignal,
) -> Result<(), Failure> {
    // Read before the look, so that the query sees every model that is known to be committed.
    let known = database.known();
    match follower.look(known, stop)? {
        None => {}
        Some(Change::Committed(last)) => database.committed(last),
        Some(Change::Event { name, data }) => hear(&name, &data),
        Some(Change::Replaced { table, last_id }) => {
            database.began_anew(table, last_id);
            log::warn!(
                "another program replaced the table: its last id was {} and is now {last_id}; every client is sent all models",
                known.newest
            );
        }
        Some(Change::BeganAnew { table, last_id }) => {
            database.began_anew(table, last_id);
            log::warn!(
                "another program restarted the ids of the table: the last id was {} and is now {last_id}; every client is sent all models",
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
    fn the_record_names_each_loss_of_listening_and_each_return_once() {
        let mut hearing = Hearing::default();
        let mut said =
            |listening| hearing.change(listening).map(|text| text.split(',').next().unwrap().to_owned());
        let (lost, again) = (
            Some("no longer listens for commits of other programs".to_owned()),
            Some("listens for commits of other programs again".to_owned()),
        );
        assert_eq!([None, Some(false), Some(true), Some(true)].map(&mut said), [None, None, None, None]);
        assert_eq!(
            [Some(false), Some(false), Some(true)].map(&mut said),
            [lost.clone(), None, again.clone()]
        );
        assert_eq!([Some(true), Some(false), Some(true)].map(&mut said), [None, lost, again]);
    }

    #[test]
    fn a_notification_counts_once_however_often_it_arrives_and_even_after_a_failed_look() {
        let scripted = Scripted::new(Numbers::AtCommit);
        let database = Database::open(scripted.open(), 1, Duration::from_secs(60), LeaseFor::Query).unwrap();
        let (tell, told) = unbounded();
        database.after_commit(move |id| tell.send(id).unwrap());
        let heard = || told.recv_timeout(Duration::from_secs(60));
        scripted.insert();
        let watched = OutsideWriters::watch(&database, &Services::default(), |_, _| {}, |_| {}).unwrap();
        assert_eq!(heard(), Ok(1), "written before the first look");
        for _ in 0..3 {
            scripted.insert();
        }
        scripted.fail_a_look();
        for id in [3, 2, 3, 1] {
            scripted.notify(id);
        }
        // The last commit is not notified.
        scripted.look_at_the_table();
        assert_eq!([heard(), heard()], [Ok(3), Ok(4)]);
        drop(watched);
        assert_eq!((told.try_iter().count(), database.newest()), (0, 4));
    }
}
