//! Limits at which waiting requests end after a timeout T: a pool of database connections, and a queue.

use super::super::super::measured::{PageOutcome, ProbedTab, TabOutcome};
use super::super::LimitKind;
use super::super::evidence::{Evidence, list, time};
use super::super::facts::{CommonEnd, Facts};
use super::super::products::Recognized;
use super::super::remedies;
use super::FoundLimit;

/// Tabs end after the same time T with an empty 200 or a 500, and a page fails after T as well. Pages that do not use
/// the database still answer.
pub(super) fn database_pool(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let end = facts.common_end()?;
    let by_the_application = end.tabs.iter().all(|tab| is_of_the_application(tab));
    if !by_the_application || !pages_fail_with(facts, &end) {
        return None;
    }
    let idle = facts.idle_threads();
    let program = facts.figures_at_limit().map(|figures| &*figures.program);
    let failing = failing_page(&end);
    let evidence = Evidence::new()
        .seconds("t_s", Some(end.t))
        .with("outcome", end.tabs.first().map(|tab| tab.outcome.name()))
        .with("status", end.tabs.first().and_then(|tab| tab.status))
        .with("tabs", end.tabs.len())
        .with("page", failing)
        .with("page_status", end.pages.first().and_then(|(_, ask)| status_of(ask.outcome)))
        .with("idle_threads", idle)
        .place(facts.place());
    let mut text = format!("The next tab waits {} and gets {}.", time(end.t), what_it_gets(&end));
    if let Some(page) = failing {
        text += &format!(" {page} fails after the same {}", time(end.t));
        let answering = facts.answering_paths();
        let mut others = Vec::new();
        if !answering.is_empty() {
            let verb = if answering.len() == 1 { "answers" } else { "answer" };
            others.push(format!("{} {verb}", list(&answering)));
        }
        if let (Some(idle @ 1..), Some(program)) = (idle, program) {
            others.push(format!("{program} has {idle} idle thread{}", if idle == 1 { "" } else { "s" }));
        }
        text += &match &others[..] {
            [] => ".".to_owned(),
            [one] => format!(", and {one}."),
            several => format!(", {}.", several.join(", and ")),
        };
    }
    text += " Each stream holds a database connection.";
    let limit = LimitKind::DatabasePool.found(evidence, text, remedies::database_pool(recognized));
    Some(FoundLimit::only(limit))
}

/// Tabs end after the same time T with 502, 503, 504 or a close without a response, and the pages end the same way. No
/// stream is cut off at that moment. A page whose end was not seen does not contradict the rule.
pub(super) fn queue_timeout(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let end = facts.common_end()?;
    let by_a_queue = end.tabs.iter().all(|tab| is_of_a_queue(tab));
    let alike = end.pages.iter().all(|(_, ask)| match ask.outcome {
        PageOutcome::Status(status) => is_a_proxys_status(status),
        PageOutcome::Closed | PageOutcome::Reset => true,
        _ => false,
    });
    (by_a_queue && alike && pages_fail_with(facts, &end)).then(|| {
        let status = end.tabs.first().and_then(|tab| tab.status);
        let evidence = Evidence::new()
            .seconds("t_s", Some(end.t))
            .with("outcome", end.tabs.first().map(|tab| tab.outcome.name()))
            .with("status", status)
            .with("sender", sender(&end))
            .with("tabs", end.tabs.len())
            .with("pages", end.pages.len())
            .place(facts.place());
        let mut text = format!("The next tab waits {} and gets {}.", time(end.t), what_it_gets(&end));
        if let Some((page, _)) = end.pages.first() {
            text += &format!(" {page} ends the same way after {}.", time(end.t));
        }
        let or = if status == Some(504) { Some(LimitKind::Workers) } else { None };
        let remedy = remedies::queue_timeout(recognized, status, end.t);
        FoundLimit::only(LimitKind::QueueTimeout.found(evidence, text, remedy)).or(or)
    })
}

/// The second readings of tabs that end after T while all pages answer.
pub(super) fn second_readings(facts: &Facts<'_>) -> Vec<LimitKind> {
    let Some(end) = facts.common_end() else { return Vec::new() };
    let mut or = Vec::new();
    if end.tabs.iter().all(|tab| is_of_the_application(tab)) {
        or.push(LimitKind::DatabasePool);
    }
    if end.tabs.iter().all(|tab| is_of_a_queue(tab)) {
        or.push(LimitKind::QueueTimeout);
    }
    or
}

/// Whether a page fails after T, or stops without having been watched for longer than T.
fn pages_fail_with(facts: &Facts<'_>, end: &CommonEnd<'_>) -> bool {
    !end.pages.is_empty() || (facts.a_page_stops() && !facts.a_page_outlasts(end.t))
}

/// The page that was seen to fail after T.
fn failing_page<'a>(end: &CommonEnd<'a>) -> Option<&'a str> {
    end.pages.first().map(|(path, _)| *path)
}

/// An empty 200, or a 500.
fn is_of_the_application(tab: &ProbedTab) -> bool {
    match tab.outcome {
        TabOutcome::Empty => true,
        TabOutcome::NoEvent => tab.status == Some(200),
        TabOutcome::Status => tab.status == Some(500),
        _ => false,
    }
}

/// 502, 503 or 504, or a close without a response.
fn is_of_a_queue(tab: &ProbedTab) -> bool {
    match tab.outcome {
        TabOutcome::Status => tab.status.is_some_and(is_a_proxys_status),
        TabOutcome::Closed | TabOutcome::Reset => true,
        _ => false,
    }
}

fn is_a_proxys_status(status: u16) -> bool {
    matches!(status, 502..=504)
}

fn status_of(outcome: PageOutcome) -> Option<u16> {
    if let PageOutcome::Status(status) = outcome { Some(status) } else { None }
}

/// The program that ended the tabs: the application that also serves the pages, or a proxy.
fn sender(end: &CommonEnd<'_>) -> &'static str {
    if end.tabs.iter().any(|tab| tab.is_from_another_sender) { "proxy" } else { "application" }
}

/// `an empty 200`, `a 503`, `a close without a response`.
fn what_it_gets(end: &CommonEnd<'_>) -> String {
    end.tabs.first().map_or_else(String::new, |tab| remedies::what_a_tab_gets(tab))
}
