//! Limits that refuse further streams immediately.

use std::time::Duration;

use super::super::evidence::{Evidence, list, time};
use super::super::facts::{Facts, NextTab, end_of};
use super::super::products::Recognized;
use super::super::remedies;
use super::super::{Finding, LimitKind};
use super::FoundLimit;

/// Minimum number of streams from the other address, all of which have to deliver events.
const OTHER_ADDRESS_ASKS: usize = 3;

/// The next tab is refused. At the same time, three streams from another address run, and none from this address does.
/// If a stream ended during the experiment, the result may be due to chance.
pub(super) fn refused_per_client(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let asks = facts.measured.other_address?;
    let other_flows = asks.other.of >= OTHER_ADDRESS_ASKS && asks.other.flowed == asks.other.of;
    let own_does_not = asks.own.of > 0 && asks.own.flowed == 0;
    let holds = facts.next() == NextTab::Refused && other_flows && own_does_not && !asks.a_stream_ended;
    holds.then(|| {
        let evidence = refusal(facts).of("other_address", "flowed", asks.other.flowed, asks.other.of).of(
            "own_address",
            "flowed",
            asks.own.flowed,
            asks.own.of,
        );
        let text = format!(
            "{} From another address, {} of {} streams run; from this one, {} of {}.",
            refusal_text(facts),
            asks.other.flowed,
            asks.other.of,
            asks.own.flowed,
            asks.own.of
        );
        let remedy = remedies::refused_per_client(recognized);
        FoundLimit::only(LimitKind::RefusedPerClient.found(evidence, text, remedy))
    })
}

/// The next tab is refused while neither a tab nor a page waits, and neither idle nor keep-alive connections stop a
/// page.
pub(super) fn refused(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let is_at_once = facts.next() == NextTab::Refused && !facts.a_page_waited() && !a_tab_waited(facts);
    let by_connections = facts.idle_stops() == Some(true) || facts.kept_stops() == Some(true);
    (is_at_once && !by_connections).then(|| FoundLimit::only(found(facts, recognized)))
}

/// The finding, from the tab that was refused.
pub(super) fn found(facts: &Facts<'_>, recognized: &Recognized) -> Finding<LimitKind> {
    let evidence = refusal(facts).with("idle_stop", facts.idle_stops()).with("kept_stop", facts.kept_stops());
    let status = facts.next_tab().and_then(|tab| tab.status);
    LimitKind::Refused.found(evidence, refusal_text(facts), remedies::refused(recognized, status))
}

/// Whether a tab was waiting when the first tab was refused.
fn a_tab_waited(facts: &Facts<'_>) -> bool {
    let waiting = &facts.measured.waiting;
    let before = waiting.iter().take_while(|tab| facts.fate(tab) != NextTab::Refused);
    before.count() > 0
}

/// The status, time and sender of the refusal.
fn refusal(facts: &Facts<'_>) -> Evidence {
    let tab = facts.next_tab();
    let sender = tab.map(|tab| if tab.is_from_another_sender { "proxy" } else { "application" });
    Evidence::new()
        .with("outcome", tab.map(|tab| tab.outcome.name()))
        .with("status", tab.and_then(|tab| tab.status))
        .milliseconds("time_ms", tab.and_then(end_of))
        .with("sender", sender)
}

/// `The next tab gets a 503 after 2 ms, and /page is not answered either; /static still answers.`
fn refusal_text(facts: &Facts<'_>) -> String {
    let tab = facts.next_tab();
    let gets = tab.map_or_else(|| "no answer".to_owned(), remedies::what_a_tab_gets);
    let after = tab.and_then(end_of).filter(|end| *end > Duration::ZERO);
    let after = after.map_or_else(String::new, |end| format!(" after {}", time(end)));
    let stopped = facts.stopped_paths();
    let answering = facts.answering_paths();
    let pages = match (&stopped[..], &answering[..]) {
        ([], _) => "every page answers".to_owned(),
        (_, []) => format!("{} not answered either", is_or_are(&stopped)),
        _ => format!(
            "{} not answered either; {} still {}",
            is_or_are(&stopped),
            list(&answering),
            answer(&answering)
        ),
    };
    format!("The next tab gets {gets}{after}, and {pages}.")
}

/// `/a is`, `/a and /b are`.
fn is_or_are(paths: &[&str]) -> String {
    format!("{} {}", list(paths), if paths.len() == 1 { "is" } else { "are" })
}

fn answer(paths: &[&str]) -> &'static str {
    if paths.len() == 1 { "answers" } else { "answer" }
}
