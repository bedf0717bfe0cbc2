//! Notes about when events arrive, and when streams end.

use std::time::Duration;

use super::super::super::measured::{Cut, CutHow, PageOutcome, ProbedTab};
use super::super::evidence::{Evidence, is_within, list, median, time, times};
use super::super::remedies;
use super::super::{Finding, LimitKind, NoteKind};
use super::NoteFacts;

/// A first event that arrives later than this is late.
const LATE: Duration = Duration::from_millis(30);

/// Number of tabs, from the first, whose first event has to be late.
const LATE_TABS: usize = 3;

/// Late first events, or ages of streams that were cut off, are alike within this fraction of the median.
const ALIKE: f64 = 0.15;

/// Minimum time that shows that a thread or process was started.
const STARTED: Duration = Duration::from_millis(200);

/// The time must also be at least this multiple of the first tab's time.
const STARTED_TIMES: u32 = 5;

/// Minimum number of cuts at the same age before they count.
const CUTS: usize = 2;

/// The first event takes at least 30 ms in each of the first three tabs, and all three times are within 15 % of their
/// median.
pub(super) fn late_first_event(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let tabs = asked.facts.climb.tabs.get(..LATE_TABS)?;
    let first: Vec<Duration> = tabs.iter().filter_map(|tab| tab.first_event).collect();
    let middle = median(&first)?;
    let alike = |time: &Duration| *time >= LATE && is_within(*time, middle, ALIKE);
    (first.len() == LATE_TABS && first.iter().all(alike)).then(|| {
        let every: Vec<Duration> = asked.facts.flowing_tabs().filter_map(|tab| tab.first_event).collect();
        let usual = every.iter().filter(|time| is_within(**time, middle, ALIKE));
        let low = usual.clone().min().copied().unwrap_or(middle);
        let high = usual.max().copied().unwrap_or(middle);
        let evidence = Evidence::new()
            .milliseconds("median_ms", Some(middle))
            .milliseconds("low_ms", Some(low))
            .milliseconds("high_ms", Some(high));
        let cause = if asked.recognized.is_puma_by_statistics() {
            "; Puma delays it by 200 ms (TCP_CORK)"
        } else {
            ""
        };
        let text = format!("{} in each tab{cause}.", times(low, high));
        NoteKind::LateFirstEvent.found(evidence, text, remedies::late_first_event(asked.recognized))
    })
}

/// Some tabs that streamed, or pages requested beside them, took at least 200 ms and five times as long as the first,
/// and later ones did not. Tabs that share slots wait for one of them, by chance for a longer or a shorter time.
pub(super) fn grows(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    if asked.limit == Some(LimitKind::SharedSlots) {
        return None;
    }
    let tabs: Vec<&ProbedTab> = asked.facts.flowing_tabs().collect();
    let events: Vec<(usize, Duration)> =
        tabs.iter().filter_map(|tab| Some((tab.number, tab.first_event?))).collect();
    let mut slow = slow_between(&events);
    let mut paths = Vec::new();
    for page in &asked.measured.baseline {
        let answers: Vec<(usize, Duration)> =
            tabs.iter().filter_map(|tab| Some((tab.number, first_answer(tab, &page.path)?))).collect();
        let slow_answers = slow_between(&answers);
        if !slow_answers.is_empty() {
            paths.push(&*page.path);
        }
        slow.extend(slow_answers);
    }
    let longest = slow.iter().map(|(_, time)| *time).max()?;
    let mut numbers: Vec<usize> = slow.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let evidence = Evidence::new()
        .with("tabs", numbers.clone())
        .milliseconds("longest_ms", Some(longest))
        .milliseconds("first_tab_ms", events.first().map(|(_, time)| *time));
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    let numbers: Vec<&str> = numbers.iter().map(|number| &**number).collect();
    let tabs = if numbers.len() == 1 { "tab" } else { "tabs" };
    let what =
        if paths.is_empty() { String::new() } else { format!(", or {} at the same time,", list(&paths)) };
    let text = format!("{tabs} {}{what} took up to {}; later ones did not.", list(&numbers), time(longest));
    Some(NoteKind::Grows.found(evidence, text, remedies::grows(asked.recognized)))
}

/// The slow entries that are followed by a fast one. "Slow" is relative to the first entry.
fn slow_between(times: &[(usize, Duration)]) -> Vec<(usize, Duration)> {
    let Some((_, first)) = times.first() else { return Vec::new() };
    let is_slow = |time: Duration| time >= STARTED && time >= *first * STARTED_TIMES;
    let last_fast = times.iter().rposition(|(_, time)| !is_slow(*time)).unwrap_or(0);
    times[..last_fast].iter().filter(|(_, time)| is_slow(*time)).copied().collect()
}

/// How long the first request for a path beside a tab took, if it was answered.
fn first_answer(tab: &ProbedTab, path: &str) -> Option<Duration> {
    let ask = tab.pages.iter().find(|page| page.path == path)?.asks.first()?;
    (ask.outcome == PageOutcome::Answered).then_some(ask.time)
}

/// The server ended two or more streams at the same age, give or take 15 %.
pub(super) fn cut(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let cuts = &asked.measured.cuts;
    let alike = |age: Duration| cuts.iter().filter(move |cut| is_within(cut.age, age, ALIKE));
    let age = cuts.iter().map(|cut| cut.age).max_by_key(|age| (alike(*age).count(), *age))?;
    let same: Vec<&Cut> = alike(age).collect();
    (same.len() >= CUTS).then(|| {
        let low = same.iter().map(|cut| cut.age).min().unwrap_or(age);
        let high = same.iter().map(|cut| cut.age).max().unwrap_or(age);
        let how = most_frequent(&same);
        let is_polite = same.iter().all(|cut| cut.is_polite);
        let evidence = Evidence::new()
            .with("cuts", same.len())
            .with("of", cuts.len())
            .seconds("low_s", Some(low))
            .seconds("high_s", Some(high))
            .with("how", how)
            .with("polite", is_polite);
        let polite = if is_polite { ", after a `retry:` or a comment" } else { "" };
        let text = format!("{} of {} at {}, {how}{polite}.", same.len(), cuts.len(), times(low, high));
        NoteKind::Cut.found(evidence, text, remedies::cut(asked.recognized, how, median_age(&same)))
    })
}

fn median_age(cuts: &[&Cut]) -> Option<Duration> {
    median(&cuts.iter().map(|cut| cut.age).collect::<Vec<_>>())
}

/// The name of the way in which most of these streams ended.
fn most_frequent(cuts: &[&Cut]) -> &'static str {
    let number_of = |how: CutHow| cuts.iter().filter(|cut| cut.how == how).count();
    let ways = [(CutHow::Finished, "finished"), (CutHow::Clean, "clean"), (CutHow::Abrupt, "abrupt")];
    ways.into_iter().max_by_key(|(how, _)| number_of(*how)).map_or("abrupt", |(_, name)| name)
}
