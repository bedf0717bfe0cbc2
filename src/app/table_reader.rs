//! The thread that asks the database for all listeners.
//!
//! The loop that serves them must not wait, and a database can keep a reader waiting: for a lock,
//! or for its disk. So the loop orders what it needs, goes on, and is woken when the answer is
//! there. Each question is asked once, however many listeners want its answer.

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

/// How many answers may wait to be taken. Each is bounded, so this bounds what they hold.
const ANSWERS: usize = 16;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    /// The next models after this id.
    After(i64),
    /// Which is the last id that was given.
    Last,
}

/// What is answered, after every question.
#[derive(Debug)]
pub(super) enum TableAnswer {
    /// All models of this table after the id `after`, up to `up_to`.
    Models { table: Table, after: i64, models: Vec<Model>, up_to: i64 },
    /// The last id that was given is known to the [`Database`] now.
    Last,
    /// The database did not answer.
    Failed(Question),
}

impl TableAnswer {
    fn question(&self) -> Question {
        match self {
            TableAnswer::Models { after, .. } => Question::After(*after),
            TableAnswer::Last => Question::Last,
            TableAnswer::Failed(question) => *question,
        }
    }
}

/// The table of models, on a connection of its own.
pub(super) struct Models {
    pub session: Box<dyn Session>,
    pub database: Arc<Database>,
}

impl Models {
    fn ask(&mut self, question: Question) -> Result<TableAnswer, Failure> {
        self.database.count_query();
        match question {
            Question::After(after) => {
                // In this order, and before the query: it sees whatever is committed by now.
                let (table, newest) = (self.database.table(), self.database.newest());
                let models = self.session.next(after, PIECE)?.models;
                let up_to = models.last().map_or(newest.max(after), |model| model.id);
                Ok(TableAnswer::Models { table, after, models, up_to })
            }
            Question::Last => {
                self.database.committed(self.session.last_id()?);
                Ok(TableAnswer::Last)
            }
        }
    }
}

/// The loop's end of it. The thread ends when this is dropped, after the question that it is at. The drop does
/// not wait for that: a query may wait for the lock of another program.
pub(super) struct TableReader {
    thread: StoppableThread,
    questions: Sender<Question>,
    answers: Receiver<TableAnswer>,
    /// Asked, and not taken yet.
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
                    log::error!("cannot read for listeners what is committed: {error}");
                }
                has_failed = outcome.is_err();
                // Where one question fails, those behind it would each wait as long in vain.
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

    /// Disconnected when the thread has ended, and its connection is closed.
    pub fn ended(&self) -> Receiver<Infallible> {
        self.thread.ended().clone()
    }

    /// Asks, unless the same is asked already. Does not block.
    pub fn order(&mut self, question: Question) {
        if self.ordered.insert(question) {
            // The thread has panicked, and that is reported: no answer comes.
            let _ = self.questions.send(question);
        }
    }

    pub fn is_ordered(&self, question: Question) -> bool {
        self.ordered.contains(&question)
    }

    /// Whether anything is asked that is not answered yet.
    #[cfg(test)]
    pub fn is_reading(&self) -> bool {
        !self.ordered.is_empty()
    }

    /// Whether the thread is at a question, and has room for its answer.
    #[cfg(test)]
    pub fn is_at_work(&self) -> bool {
        self.answers.len() < self.ordered.len().min(ANSWERS)
    }

    /// The next answer that is there.
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
