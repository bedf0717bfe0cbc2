//! The rules of the notes. Any number of them may hold.

mod delivery;
mod queues;
mod recovery;
mod run;
mod statistics;
mod timing;

use super::super::measured::Measured;
use super::facts::Facts;
use super::products::Recognized;
use super::{Finding, LimitKind, NoteKind};

/// What the rule of a note may use.
pub(super) struct NoteFacts<'a> {
    pub facts: &'a Facts<'a>,
    pub measured: &'a Measured,
    pub limit: Option<LimitKind>,
    pub recognized: &'a Recognized,
}

/// One rule: returns the finding if the rule holds.
type NoteRule = fn(&NoteFacts<'_>) -> Option<Finding<NoteKind>>;

/// The rules of a run with at least one tab.
const RULES: [NoteRule; 18] = [
    delivery::buffered,
    delivery::quiet,
    delivery::compressed,
    delivery::lumps,
    timing::late_first_event,
    timing::grows,
    timing::cut,
    recovery::slot_return,
    recovery::leak,
    recovery::zombies_stay,
    recovery::zombies_freed,
    queues::several_queues,
    queues::queue_full,
    queues::accept_queue,
    delivery::cached,
    statistics::disagree,
    statistics::silent,
    run::browsers_six,
];

/// All notes whose rule holds, in the order of [`NoteKind`].
pub(super) fn of(
    measured: &Measured,
    facts: Option<&Facts<'_>>,
    limit: Option<LimitKind>,
    recognized: &Recognized,
) -> Vec<Finding<NoteKind>> {
    let mut notes = Vec::new();
    if let Some(facts) = facts {
        let asked = NoteFacts { facts, measured, limit, recognized };
        notes.extend(RULES.iter().filter_map(|rule| rule(&asked)));
    }
    notes.extend(run::of_an_early_end(measured));
    notes
}
