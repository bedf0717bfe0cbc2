//! Notes about the queues in which requests wait: several of them, or a full one.

use super::super::super::measured::{PageOutcome, TabOutcome, WaitPlace};
use super::super::evidence::{Evidence, count, list};
use super::super::facts::NextTab;
use super::super::remedies;
use super::super::{Finding, LimitKind, NoteKind};
use super::NoteFacts;
use super::recovery::a_tab_waited;

/// Limits at whose edge a further request may get through by chance, which looks like several queues.
const EDGES_LIKE_SEVERAL_QUEUES: [LimitKind; 4] =
    [LimitKind::Connections, LimitKind::Descriptors, LimitKind::Refused, LimitKind::RefusedPerClient];

/// A page was answered only once or twice in three requests, climbs differ, or a slot returned to a fresh tab while an
/// older one waited. A page that was requested during a cut does not count, and neither do differing climbs if slots
/// are lost.
pub(super) fn several_queues(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    if asked.limit.is_none_or(|limit| EDGES_LIKE_SEVERAL_QUEUES.contains(&limit)) {
        return None;
    }
    let facts = asked.facts;
    let tabs =
        facts.climb.tabs.iter().chain(&asked.measured.waiting).filter(|tab| !facts.was_cut_beside(tab));
    let mut partial: Vec<&str> =
        tabs.flat_map(|tab| &tab.pages).filter(|page| page.is_partial()).map(|page| &*page.path).collect();
    partial.sort_unstable();
    partial.dedup();
    let (streams, pages) = (facts.streams(), facts.pages_until());
    let differ = streams.low != streams.high || pages.low != pages.high;
    let is_losing = asked.measured.slot_returns.iter().any(|slot| !slot.is_void && slot.after.is_none());
    let to_a_fresh_tab = asked.measured.slot_went_to_a_fresh_tab;
    (!partial.is_empty() || (differ && !is_losing) || to_a_fresh_tab).then(|| {
        let evidence = Evidence::new()
            .with("partial_pages", partial.clone())
            .with("climbs", asked.measured.climbs.len())
            .with("streams_low", streams.low)
            .with("streams_high", streams.high)
            .with("slot_went_to_a_fresh_tab", to_a_fresh_tab);
        let mut seen = Vec::new();
        if !partial.is_empty() {
            let verb = if partial.len() == 1 { "was" } else { "were" };
            seen.push(format!("{} {verb} answered only once or twice in three requests", list(&partial)));
        }
        if differ {
            seen.push(format!(
                "{} found {} streams",
                count(asked.measured.climbs.len(), "climb"),
                streams.words()
            ));
        }
        if to_a_fresh_tab {
            seen.push("a slot returned to a fresh tab while an older one waited".to_owned());
        }
        let seen: Vec<&str> = seen.iter().map(|it| &**it).collect();
        let text = format!("{}.", list(&seen));
        NoteKind::SeveralQueues.found(evidence, text, remedies::several_queues(asked.recognized))
    })
}

/// A tab was refused after other requests, including abandoned pages, had been left waiting.
pub(super) fn queue_full(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let refused =
        asked.facts.tabs_that(NextTab::Refused).find(|tab| tab.outcome != TabOutcome::NotConnected)?;
    let waiting = waiting_requests(asked, refused.number);
    (waiting > 0 && after_a_wait(asked, refused.number)).then(|| {
        let evidence = Evidence::new()
            .with("waiting", waiting)
            .with("outcome", refused.outcome.name())
            .with("status", refused.status);
        let text = format!(
            "with {} waiting, tab {} gets {}.",
            count(waiting, "request"),
            refused.number,
            remedies::what_a_tab_gets(refused)
        );
        let remedy = "The queue is not the limit: a longer one makes requests wait longer. See the limit.";
        NoteKind::QueueFull.found(evidence, text, remedy)
    })
}

/// A connection attempt does not complete, or is refused while other requests wait: the kernel's queue is full.
pub(super) fn accept_queue(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let waiting = &asked.measured.waiting;
    let unfinished = waiting.iter().any(|tab| tab.place == Some(WaitPlace::AcceptQueueFull))
        || asked.facts.page_place() == Some(WaitPlace::AcceptQueueFull);
    let refused = waiting.iter().find(|tab| {
        tab.outcome == TabOutcome::NotConnected
            && asked.facts.fate(tab) == NextTab::Refused
            && after_a_wait(asked, tab.number)
    });
    (unfinished || refused.is_some()).then(|| {
        let held = waiting_requests(asked, refused.map_or(usize::MAX, |tab| tab.number));
        let evidence = Evidence::new().with("waiting", held).with("refused", refused.is_some());
        let what = if unfinished {
            "a further connection does not complete"
        } else {
            "a further connection is refused"
        };
        let text = format!("with {} waiting, {what}.", count(held, "request"));
        let remedy =
            "The listen backlog is not the limit: a longer one makes requests wait longer. See the limit.";
        NoteKind::AcceptQueue.found(evidence, text, remedy)
    })
}

/// Whether a page, or a tab before the one with this number, was waiting when that tab was refused.
fn after_a_wait(asked: &NoteFacts<'_>, number: usize) -> bool {
    let tab_before = asked.facts.tabs_that(NextTab::Waits).any(|tab| tab.number < number);
    asked.facts.a_page_waited() || (tab_before && a_tab_waited(asked))
}

/// How many requests wait at the limit: tabs before the one with this number, and pages that got nothing.
fn waiting_requests(asked: &NoteFacts<'_>, number: usize) -> usize {
    let tabs = asked.facts.tabs_that(NextTab::Waits).filter(|tab| tab.number < number).count();
    let asks = asked.facts.last_asks().flat_map(|(_, asks)| asks);
    tabs + asks.filter(|ask| ask.outcome == PageOutcome::Nothing).count()
}
