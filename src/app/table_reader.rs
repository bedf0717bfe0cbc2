//! The thread that queries the database for all listeners.
//!
//! The loop that serves the listeners must not wait, and a query may wait for a lock or for the disk. The
//! loop therefore sends its questions to this thread, continues, and is woken when an answer has arrived.
//! Each query runs once, however many listeners need its answer.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::adapters::{Failure, Session};
use super::batch::PIECE;
use super::database::Database;
use super::model::Model;
use super::table::Table;
use ninetabs_server::services::Services;
use ninetabs_server::threads::{SpawnError, StoppableThread};

/// Maximum number of queued answers. The size of each answer is bounded, so this bounds their memory.
const ANSWERS: usize = 16;

/// A question to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    /// The next models after this id.
    After(i64),
    /// The last id of the table.
    Last,
}

/// The answer to a question; each question has one.
#[derive(Debug)]
pub(super) enum TableAnswer {
    /// All models of this table after the id `after`, up to `up_to`.
    Models { table: Table, after: i64, models: Vec<Model>, up_to: i64 },
    /// The [`Database`] has recorded the last id. The argument is the last number.
    Last { number: i64 },
    /// The database did not answer.
    Failed(Question),
}

impl TableAnswer {
    fn question(&self) -> Question {
        match self {
            TableAnswer::Models { after, .. } => Question::After(*after),
            TableAnswer::Last { .. } => Question::Last,
            TableAnswer::Failed(question) => *question,
        }
    }
}

/// The table of models, read on a separate connection.
pub(super) struct Models {
    pub session: Box<dyn Session>,
    pub database: Arc<Database>,
}

impl Models {
    fn ask(&mut self, question: Question) -> Result<TableAnswer, Failure> {
        self.database.count_query();
        match question {
            Question::After(after) => {
                // The table is read before the last id. The query runs after both, so it sees every model
                // up to that id.
                let (table, newest) = (self.database.table(), self.database.newest());
                let models = self.session.next(after, PIECE)?.models;
                let up_to = models.last().map_or(newest.max(after), |model| model.id);
                Ok(TableAnswer::Models { table, after, models, up_to })
            }
            Question::Last => {
                self.database.committed(self.session.last_id()?);
                Ok(TableAnswer::Last { number: self.session.last_number()? })
            }
        }
    }
}

/// The loop's handle of the thread. When this is dropped, the thread ends after its current question. The
/// drop does not wait for the thread, since a query may wait for the lock of another program.
pub(super) struct TableReader {
    thread: StoppableThread,
    questions: Sender<Question>,
    answers: Receiver<TableAnswer>,
    /// Questions whose answers have not been taken yet.
    ordered: BTreeSet<Question>,
}

impl TableReader {
    /// Starts the thread, which calls `notify` after each answer.
    pub fn start(
        mut models: Models,
        services: &Services,
        notify: impl Fn() + Send + 'static,
    ) -> Result<TableReader, SpawnError> {
        let (questions, asked) = unbounded();
        let (answer, answers) = bounded(ANSWERS);
        let thread = services.spawn("table reader", move |_| {
            let mut has_failed = false;
            for question in &asked {
                let outcome = models.ask(question);
                if let (Err(error), false) = (&outcome, has_failed) {
                    log::error!("cannot read committed models for listeners: {error}");
                }
                has_failed = outcome.is_err();
                // If one question times out, each queued question would wait just as long and fail as
                // well.
                let failed: Vec<Question> = if has_failed { asked.try_iter().collect() } else { Vec::new() };
                let outcome = outcome.unwrap_or(TableAnswer::Failed(question));
                for it in [outcome].into_iter().chain(failed.into_iter().map(TableAnswer::Failed)) {
                    if answer.send(it).is_err() {
                        return Ok(());
                    }
                    notify();
                }
            }
            drop(models);
            Ok(())
        })?;
        Ok(TableReader { thread, questions, answers, ordered: BTreeSet::new() })
    }

    /// A channel that is disconnected when the thread has ended and its connection is closed.
    pub fn ended(&self) -> Receiver<Infallible> {
        self.thread.ended().clone()
    }

    /// Sends a question, unless the same one is pending. Does not block.
    pub fn order(&mut self, question: Question) {
        if self.ordered.insert(question) {
            // An error means that the thread has panicked, which is reported elsewhere. No answer will
            // arrive.
            let _ = self.questions.send(question);
        }
    }

    pub fn is_ordered(&self, question: Question) -> bool {
        self.ordered.contains(&question)
    }

    /// Whether a question is not answered yet.
    #[cfg(test)]
    pub fn is_reading(&self) -> bool {
        !self.ordered.is_empty()
    }

    /// Whether the thread is answering a question, and the queue of answers is not full.
    #[cfg(test)]
    pub fn is_at_work(&self) -> bool {
        self.answers.len() < self.ordered.len().min(ANSWERS)
    }

    /// The next answer that has arrived.
    pub fn take(&mut self) -> Option<TableAnswer> {
        let answer = self.answers.try_recv().ok()?;
        self.ordered.remove(&answer.question());
        Some(answer)
    }
}

impl Drop for TableReader {
    fn drop(&mut self) {
        self.thread.leave();
    }
}
