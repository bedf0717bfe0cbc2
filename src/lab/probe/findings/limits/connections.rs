//! Limits on the number of connections, regardless of what they carry.

use super::super::super::measured::{PageAsk, PageOutcome};
use super::super::LimitKind;
use super::super::evidence::{Evidence, count};
use super::super::facts::{Facts, NextTab, REFUSED_WITHIN};
use super::super::products::Recognized;
use super::super::remedies::{self, where_it_waits};
use super::FoundLimit;

/// The server limits connections, and its process has used up its descriptors, give or take two. Used-up descriptors
/// explain a limit on their own, unless neither idle nor keep-alive connections stop a page.
pub(super) fn descriptors(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let listener = facts.full_listener()?;
    let contradicted = facts.idle_stops() == Some(false) && facts.kept_stops() == Some(false);
    let holds = counts_connections(facts) || (has_a_limit(facts) && !contradicted);
    holds.then(|| {
        let evidence = held_evidence(facts)
            .with("descriptors", listener.descriptors)
            .with("limit", listener.limit)
            .with("process", &*listener.name)
            .with("pid", listener.pid);
        let text = format!(
            "{} (process {}) has {} of {} descriptors open. {}",
            listener.name,
            listener.pid,
            listener.descriptors,
            listener.limit,
            next_text(facts)
        );
        FoundLimit::only(LimitKind::Descriptors.found(evidence, text, remedies::descriptors(recognized)))
    })
}

/// Idle and keep-alive connections stop the page, or every page is closed immediately without a response, or the server
/// closes idle connections to accept a page. If the listening process is unknown, its descriptors may be the limit.
pub(super) fn connections(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    (has_a_limit(facts) && counts_connections(facts)).then(|| {
        let text = format!("{} {}", held_text(facts), next_text(facts));
        let limit =
            LimitKind::Connections.found(held_evidence(facts), text, remedies::connections(recognized));
        let is_unknown = facts.measured.listeners_at_limit.is_empty();
        FoundLimit::only(limit).or(is_unknown.then_some(LimitKind::Descriptors))
    })
}

/// Whether anything stopped: a tab or a page.
fn has_a_limit(facts: &Facts<'_>) -> bool {
    facts.next() != NextTab::None || facts.a_page_stops()
}

/// Whether the evidence shows that the server limits connections.
fn counts_connections(facts: &Facts<'_>) -> bool {
    let both_stop = facts.idle_stops() == Some(true) && facts.kept_stops() == Some(true);
    let closes_idle = facts.closes_idle_ones_for_a_page() && facts.kept_stops() != Some(false);
    both_stop || closes_idle || idle_ones_are_refused(facts) || every_page_is_closed_at_once(facts)
}

/// Whether idle connections cause a refusal as streams do. If keep-alive connections do not stop a page, the server
/// does not limit connections.
fn idle_ones_are_refused(facts: &Facts<'_>) -> bool {
    let refused = |ask: &PageAsk| {
        let ended = !matches!(ask.outcome, PageOutcome::Answered | PageOutcome::Nothing);
        ended && ask.time < REFUSED_WITHIN
    };
    let mut idle = facts.measured.idle.iter().filter(|held| !held.is_untestable());
    facts.next() == NextTab::Refused
        && facts.kept_stops() != Some(false)
        && idle.any(|held| held.pages.iter().any(|(_, ask)| refused(ask)))
}

/// Whether every request for every path at the limit was closed, reset or not connected within a second.
fn every_page_is_closed_at_once(facts: &Facts<'_>) -> bool {
    let closed = |ask: &PageAsk| {
        let without_response =
            matches!(ask.outcome, PageOutcome::Closed | PageOutcome::Reset | PageOutcome::NotConnected);
        without_response && ask.time < REFUSED_WITHIN
    };
    let mut paths = facts.last_asks().peekable();
    paths.peek().is_some() && paths.all(|(_, asks)| !asks.is_empty() && asks.iter().all(closed))
}

/// The figures of the experiments with idle and keep-alive connections, and where the next tab waits.
pub(super) fn held_evidence(facts: &Facts<'_>) -> Evidence {
    let idle = facts.measured.idle.last().map(|held| held.n);
    let kept = facts.measured.kept.as_ref().map(|held| held.n);
    Evidence::new()
        .with("streams", facts.n())
        .with("outcome", facts.next_tab().map(|tab| tab.outcome.name()))
        .with("idle", idle)
        .with("idle_stop", facts.idle_stops())
        .with("kept", kept)
        .with("kept_stop", facts.kept_stops())
        .place(facts.place())
}

/// `26 idle connections stop the page, and so do 26 keep-alive ones.`
fn held_text(facts: &Facts<'_>) -> String {
    let idle = facts.measured.idle.last().map_or(0, |held| held.n);
    let kept = facts.measured.kept.as_ref().map_or(0, |held| held.n);
    match (facts.idle_stops(), facts.kept_stops()) {
        (Some(true), Some(true)) => {
            format!("{} stop the page, and so do {kept} keep-alive ones.", count(idle, "idle connection"))
        }
        (Some(true), _) => format!("{} stop the page.", count(idle, "idle connection")),
        _ => "Every page is closed immediately without a response.".to_owned(),
    }
}

/// What the next tab gets.
fn next_text(facts: &Facts<'_>) -> String {
    match (facts.next(), facts.next_tab()) {
        (NextTab::None, _) | (_, None) => "Every tab streams.".to_owned(),
        (NextTab::Waits, Some(_)) => format!("The next tab waits{}.", where_it_waits(facts.place())),
        (NextTab::EndsLate | NextTab::Refused, Some(tab)) => {
            format!("The next tab gets {}.", remedies::what_a_tab_gets(tab))
        }
    }
}
