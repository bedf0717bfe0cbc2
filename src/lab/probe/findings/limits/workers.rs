//! Limits on threads or processes: those that serve all requests, and a separate pool for streams.

use std::iter;

use super::super::super::measured::WaitPlace;
use super::super::LimitKind;
use super::super::evidence::{Evidence, list, ordinal, time};
use super::super::facts::{Facts, NextTab, end_of};
use super::super::products::Recognized;
use super::super::remedies::{self, where_it_waits};
use super::connections::held_evidence;
use super::{FoundLimit, timeouts};

/// A page stops, and the next tab waits, or the queue is full, or no stream delivers an event. The rules for
/// connections are tried earlier, so at most one of the two experiments with idle and keep-alive connections stops
/// the page.
pub(super) fn workers(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let waits = facts.next() == NextTab::Waits || facts.nothing_flows() || is_queue_full(facts);
    (waits && facts.a_page_stops()).then(|| found(facts, recognized))
}

/// The next tab waits while all pages answer, even when a cache is bypassed.
pub(super) fn stream_cap_waits(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let waits = facts.next() == NextTab::Waits;
    (waits && !facts.nothing_flows() && !facts.a_page_stops()).then(|| stream_cap_found(facts, recognized))
}

/// Whether the next tab was refused after other requests had waited.
fn is_queue_full(facts: &Facts<'_>) -> bool {
    facts.next() == NextTab::Refused && facts.a_page_waited()
}

/// The finding for workers.
pub(super) fn found(facts: &Facts<'_>, recognized: &Recognized) -> FoundLimit {
    let listener = facts.measured.listeners_at_limit.first();
    let evidence = held_evidence(facts)
        .with("held", facts.held())
        .with("page_waits", facts.page_place().map(WaitPlace::name))
        .with("behind", facts.is_behind())
        .with("listener", listener.map(|listener| &*listener.name))
        .with("listener_threads", listener.map(|listener| listener.threads));
    let remedy = remedies::workers(recognized, facts.is_behind());
    FoundLimit::only(LimitKind::Workers.found(evidence, workers_text(facts), remedy))
        .or(other_readings(facts))
}

/// The second readings. Connections fit as well if one of the two experiments stopped the page and the other was not
/// measured, or if neither was measured. One stream at a time fits as well if no stream delivered an event and the
/// first one stopped the page.
fn other_readings(facts: &Facts<'_>) -> Vec<LimitKind> {
    let connections = match (facts.idle_stops(), facts.kept_stops()) {
        (Some(true), None) | (None, Some(true)) | (None, None) => Some(LimitKind::Connections),
        _ => None,
    };
    let is_one = facts.nothing_flows() && facts.held() == 1;
    is_one.then_some(LimitKind::OneAtATime).into_iter().chain(connections).collect()
}

/// `The fourth tab and /page wait in the kernel until a stream ends.`
fn workers_text(facts: &Facts<'_>) -> String {
    let stopped = list(&facts.stopped_paths());
    let answering = facts.answering_paths();
    let is_one = facts.stopped_paths().len() == 1;
    let never = match &answering[..] {
        [] => String::new(),
        [one] => format!("; {one} never does"),
        several => format!("; {} never do", list(several)),
    };
    let stops = format!(
        "{stopped} {} at the {} stream{never}.",
        if is_one { "stops" } else { "stop" },
        ordinal(facts.held())
    );
    if facts.nothing_flows() {
        return stops;
    }
    match facts.next() {
        NextTab::None => format!("All tabs stream, and yet {stops}"),
        NextTab::Waits => {
            let next = ordinal(facts.n() + 1);
            let waits = where_it_waits(facts.place());
            if answering.is_empty() {
                let tab = format!("{next} tab");
                let waiting: Vec<&str> = iter::once(&*tab).chain(facts.stopped_paths()).collect();
                format!("The {} wait{waits} until a stream ends.", list(&waiting))
            } else {
                format!("The {next} tab waits{waits} until a stream ends. {stops}")
            }
        }
        NextTab::EndsLate | NextTab::Refused => {
            let tab = facts.next_tab();
            let gets = tab.map_or_else(|| "no answer".to_owned(), remedies::what_a_tab_gets);
            let after = tab.and_then(end_of).map_or_else(String::new, |end| format!(" after {}", time(end)));
            format!("The next tab gets {gets}{after}. {stops}")
        }
    }
}

/// The finding for a limit that applies to streams only.
pub(super) fn stream_cap_found(facts: &Facts<'_>, recognized: &Recognized) -> FoundLimit {
    let evidence = Evidence::new()
        .with("streams", facts.n())
        .with("outcome", facts.next_tab().map(|tab| tab.outcome.name()))
        .seconds("ended_s", facts.next_tab().and_then(end_of))
        .with("pages_past_a_cache", facts.measured.uncached_pages.iter().filter(|page| page.uncached).count())
        .place(facts.place());
    let next = ordinal(facts.n() + 1);
    let text = match facts.next_tab().and_then(|tab| Some((tab, end_of(tab)?))) {
        Some((tab, end)) if facts.next() == NextTab::EndsLate => format!(
            "The {next} tab waits {} and gets {}, and every page answers.",
            time(end),
            remedies::what_a_tab_gets(tab)
        ),
        _ => format!("The {next} tab waits{}, and every page answers.", where_it_waits(facts.place())),
    };
    let limit = LimitKind::StreamCapWaits.found(evidence, text, remedies::stream_cap(recognized));
    FoundLimit::only(limit).or(timeouts::second_readings(facts))
}
