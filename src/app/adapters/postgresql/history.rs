//! The history of the database that this process uses, so that it never returns to a former primary.
//!
//! A promotion begins a new timeline. The former primary may come back, or may have been stopped only for a while, and
//! then accepts writes that are lost later. Its timeline is older, which shows what it is.

use std::sync::{Mutex, PoisonError};

use super::super::Failure;

/// A history of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct History {
    /// The identifier of the cluster, which `initdb` chooses.
    pub cluster: String,
    /// The timeline of the cluster. Each promotion, and each recovery of a backup to a point in time, begins a new one.
    pub timeline: i32,
}

/// The number of a history in this process. A later history has a greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HistoryNumber(u64);

/// The history of the latest connection.
#[derive(Debug, Default)]
pub(super) struct CurrentHistory(Mutex<Option<(History, u64)>>);

impl CurrentHistory {
    /// Records the history of a new connection, and returns its number. If it is another one than before, the connections
    /// that have another number must not be used again. Refuses a former primary.
    pub fn enter(&self, history: History) -> Result<HistoryNumber, Failure> {
        // The value is replaced as a whole, so a panic cannot leave an inconsistent one.
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match &*current {
            None => 0,
            Some((known, number)) if *known == history => return Ok(HistoryNumber(*number)),
            Some((known, _)) if known.cluster == history.cluster && known.timeline > history.timeline => {
                let text = format!(
                    "it is a former primary: its timeline is {}, and this process has used timeline {}; stop it, or if it is a restored backup, restart this process",
                    history.timeline, known.timeline
                );
                return Err(Failure::Lost(text.into()));
            }
            Some((known, number)) => {
                log::info!(
                    "the database continues on timeline {} of cluster {} instead of timeline {} of cluster {}; all connections are replaced",
                    history.timeline,
                    history.cluster,
                    known.timeline,
                    known.cluster
                );
                number + 1
            }
        };
        *current = Some((history, number));
        Ok(HistoryNumber(number))
    }

    /// Whether a connection with this number may still be used.
    pub fn is_current(&self, of_connection: HistoryNumber) -> bool {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_some_and(|(_, number)| *number == of_connection.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_history_replaces_the_current_one_and_a_former_primary_is_refused() {
        let current = CurrentHistory::default();
        let enter =
            |cluster: &str, timeline| current.enter(History { cluster: cluster.to_owned(), timeline });
        let first = enter("a", 1).unwrap();
        assert_eq!(enter("a", 1).unwrap(), first);
        let promoted = enter("a", 3).unwrap();
        assert!(current.is_current(promoted) && !current.is_current(first));
        let refused = enter("a", 2).unwrap_err().to_string();
        assert!(refused.starts_with("it is a former primary: its timeline is 2, and "), "{refused}");
        assert!(current.is_current(promoted));
        // As after restoring a dump in a new cluster.
        let restored = enter("b", 1).unwrap();
        assert!(current.is_current(restored) && !current.is_current(promoted));
    }
}
