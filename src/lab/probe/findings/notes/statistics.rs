//! Notes about what the control server reports at the limit.

use super::super::super::measured::StatsMoment;
use super::super::evidence::{Evidence, count};
use super::super::facts::figures;
use super::super::remedies;
use super::super::{Finding, NoteKind};
use super::NoteFacts;

/// The statistics report free capacity while the next tab waits.
pub(super) fn disagree(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let figures = asked.facts.figures_at_limit()?;
    let capacity = asked.facts.idle_threads().filter(|capacity| *capacity > 0)?;
    asked.facts.the_next_tab_waits().then(|| {
        let evidence = Evidence::new()
            .with("capacity", capacity)
            .with("max_threads", figures.max_threads)
            .with("backlog", figures.backlog)
            .with("program", &*figures.program);
        let program = if figures.program.is_empty() { "the control server" } else { &*figures.program };
        let text = format!(
            "{program} reports {} while the next tab waits.",
            count(capacity as usize, "idle thread")
        );
        NoteKind::StatsDisagree.found(evidence, text, remedies::stats_disagree(&figures.program))
    })
}

/// The control server answered before the first tab, but not at the limit.
pub(super) fn silent(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let asks = &asked.measured.statistics;
    let at_limit = asks.iter().filter(|asked| asked.moment == StatsMoment::AtLimit);
    let unanswered = at_limit.clone().filter(|asked| asked.figures.is_none()).count();
    let is_silent = unanswered > 0 && unanswered == at_limit.count();
    let was_reachable = figures(asked.measured, StatsMoment::Before).is_some()
        || !asks.iter().any(|asked| asked.moment == StatsMoment::Before);
    (is_silent && was_reachable).then(|| {
        let evidence = Evidence::new().with("asked", unanswered).with("answered", 0);
        let text = "the control server answered before the first tab, but not at the limit.";
        let remedy = "Give the control server a thread and descriptors of its own: a monitor must not share the pool \
                      that it watches.";
        NoteKind::StatsSilent.found(evidence, text, remedy)
    })
}
