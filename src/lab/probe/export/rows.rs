//! The facts of a run as lines, one function per fact.

use std::time::Duration;

use super::super::measured::{
    Baseline, Climb, CloseBy, Cut, CutHow, Free, HeldConnections, LatePage, Measured, PageOutcome, ProbedTab,
    SlotReturn, TabOutcome, Unit,
};
use super::layout::{FactRow, TabSign};
use super::steps::{TabGroup, cells, groups};
use super::words::{after, clean, count, page_end, short, statistics_at_limit, tabs, time, times};

/// How long the probe waits for a slot to return.
const WATCHED_SLOT: &str = "15 s";
/// How long the probe waits for the page and a stream after everything has been closed.
const WATCHED_FREE: &str = "30 s";
/// Maximum length of a path in a sentence, in columns.
const LONGEST_PATH: usize = 30;

/// The pages before the first tab, and the server's name.
pub fn baseline(pages: &[Baseline], server: Option<String>) -> FactRow {
    let page = |page: &Baseline| {
        format!("{} {} in {}", short(&page.path, LONGEST_PATH), page.status, time(page.time))
    };
    let text = pages.iter().map(page).collect::<Vec<_>>().join("    ");
    FactRow { right: server.unwrap_or_default(), ..FactRow::fact("baseline", text) }
}

/// Tabs of the staircase.
pub fn group<T: AsRef<ProbedTab>>(group: &TabGroup<T>, pages: &[Baseline]) -> FactRow {
    let signs = group.tabs().map(TabSign::of).collect();
    let right = cells(pages.iter().map(|page| page.path.as_str()), group.pages());
    FactRow { right, ..FactRow::of_tabs(group.label(), signs, group.text()) }
}

/// A tab that has just been opened.
pub fn opened(tab: &ProbedTab) -> FactRow {
    FactRow::of_tabs(tabs(&[tab.number]), vec![TabSign::Nothing], "opened")
}

/// The tabs beyond the last one that streamed. A tab that ended was replaced by another, so tabs that ended the same
/// way share a line that counts them.
pub fn waiting(all: &[ProbedTab], pages: &[Baseline]) -> Vec<FactRow> {
    let has_ended = |tab: &&ProbedTab| {
        tab.ended.is_some()
            && !matches!(tab.outcome, TabOutcome::Waits | TabOutcome::NoEvent | TabOutcome::Flows)
    };
    let of = all.iter().filter(has_ended).count();
    let (mut rows, mut replaced): (Vec<FactRow>, Vec<(&ProbedTab, usize)>) = (Vec::new(), Vec::new());
    let same =
        |one: &ProbedTab, other: &ProbedTab| (one.outcome, one.status) == (other.outcome, other.status);
    for tab in all.iter().filter(has_ended) {
        match replaced.iter_mut().find(|(first, _)| same(first, tab)) {
            Some((_, number)) => *number += 1,
            None => replaced.push((tab, 1)),
        }
    }
    for (tab, number) in replaced {
        let mut row = group(&TabGroup::of(tab), pages);
        if of > 1 {
            row.text += &format!(", {number} of {of}");
        }
        rows.push(row);
    }
    let still = all.iter().filter(|tab| !has_ended(tab));
    rows.extend(groups(still).iter().map(|it| group(it, pages)));
    rows
}

/// The outcome of the late page, and what the statistics report at the limit. `None` if there is neither.
pub fn at_limit(measured: &Measured) -> Option<FactRow> {
    let page = measured.late_page.as_ref().and_then(late_page);
    let right = statistics_at_limit(measured);
    (page.is_some() || right.is_some()).then(|| FactRow {
        right: right.unwrap_or_default(),
        ..FactRow::of_tabs("", Vec::new(), page.unwrap_or_default())
    })
}

/// How the late page ended: the page request that was left open at the limit.
pub fn late_page(page: &LatePage) -> Option<String> {
    Some(format!("{}: {}", short(&page.path, LONGEST_PATH), page_end(&page.ask)?))
}

/// Streams that the server ended at about the same moment, and the tabs that took their slots.
pub fn cuts(cuts: &[Cut], took: &[usize]) -> Vec<FactRow> {
    let Some(last) = cuts.last() else { return Vec::new() };
    let mut numbers: Vec<usize> = cuts.iter().map(|cut| cut.tab).filter(|tab| *tab > 0).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let which = if numbers.is_empty() { count(cuts.len(), "stream") } else { tabs(&numbers) };
    let what =
        if cuts.iter().all(|cut| cut.how == CutHow::Finished) { "finished" } else { "ended by the server" };
    let ages = times(cuts.iter().map(|cut| cut.age)).unwrap_or_default();
    let label = format!("at {}", time(last.at));
    let mut rows =
        vec![FactRow::of_tabs(label, vec![TabSign::Cut; cuts.len()], format!("{which} {what}, {ages} old"))];
    if !took.is_empty() {
        let slots = if took.len() == 1 { "a slot" } else { "their slots" };
        let text = format!("{} took {slots}", tabs(took));
        rows.push(FactRow::of_tabs("", vec![TabSign::Flows; took.len()], text));
    }
    rows
}

/// How long slots take to return. `end` names how tabs ended in between, if any did.
pub fn slots(returns: &[SlotReturn], end: Option<&str>) -> FactRow {
    let valid = || returns.iter().filter(|it| !it.is_void);
    let number = valid().count();
    if number == 0 {
        return FactRow::fact("a slot", "not measured: something else freed a slot in the meantime");
    }
    let after_close = |by: CloseBy| times(valid().filter(move |it| it.by == by).filter_map(|it| it.after));
    let all = times(valid().filter_map(|it| it.after));
    let spread = |words: &str| words.contains(['-', 't']);
    let mut parts = Vec::new();
    match (all, after_close(CloseBy::Fin), after_close(CloseBy::Rst)) {
        (Some(all), _, _) if !spread(&all) => parts.push(format!("{all} after its tab closed")),
        (_, Some(fin), Some(rst)) => {
            parts.push(format!("{fin} after its tab closed, {rst} after a reset"));
        }
        (Some(all), _, _) => parts.push(format!("{all} after its tab closed")),
        (None, ..) => {}
    }
    let lost = valid().filter(|it| it.after.is_none()).count();
    if lost > 0 {
        parts.push(format!("{lost} of {number} not back within {WATCHED_SLOT}"));
    }
    let ends = valid().map(|it| it.ends_between).max().unwrap_or_default();
    if ends > 0 {
        parts.push(match (ends, end) {
            (1, end) => format!("one {} in between", end.unwrap_or("ended tab")),
            (ends, Some(end)) => format!("up to {ends} × {end} in between"),
            (ends, None) => format!("up to {ends} ended tabs in between"),
        });
    }
    let of = if lost == 0 { format!(" ({number} of {})", returns.len()) } else { String::new() };
    FactRow::fact("a slot", parts.join(", ") + &of)
}

/// How tabs ended instead of waiting, as a noun: `empty 200`.
pub fn end_of_tabs(waiting: &[ProbedTab]) -> Option<String> {
    let ended = waiting.iter().find(|tab| tab.ended.is_some())?;
    match (ended.outcome, ended.status) {
        (TabOutcome::Empty, status) => Some(format!("empty {}", status.unwrap_or(200))),
        (TabOutcome::Status, Some(status)) => Some(status.to_string()),
        _ => None,
    }
}

/// How long the page and a stream took after everything was closed.
pub fn free(free: &Free, page: Option<&str>, flows: bool) -> FactRow {
    let page = page.map_or_else(|| "a page".to_owned(), |path| short(path, LONGEST_PATH));
    let mut text = format!("{page} {}", after(free.page, WATCHED_FREE));
    if flows || free.stream.is_some() {
        text += &format!(", a stream {}", after(free.stream, WATCHED_FREE));
    }
    FactRow::fact("all closed", text)
}

/// The experiments with idle and with keep-alive connections, on one line if it is short. `stopped` are the paths
/// that are not answered beside streams.
pub fn held(
    idle: Option<&HeldConnections>,
    kept: Option<&HeldConnections>,
    stopped: &[&str],
) -> Vec<FactRow> {
    /// Columns of the text about idle connections, if a text about keep-alive ones follows.
    const IDLE: usize = 21;
    let beside = |held: &HeldConnections| beside_held(held, stopped);
    let row = |held: &HeldConnections, what| FactRow::fact(format!("{} {what}", held.n), beside(held));
    if let (Some(idle), Some(kept)) = (idle, kept)
        && beside(idle).chars().count() < IDLE
    {
        let text = format!("{:<IDLE$}{} kept   {}", beside(idle), kept.n, beside(kept));
        return vec![FactRow::fact(format!("{} idle", idle.n), text)];
    }
    idle.map(|held| row(held, "idle")).into_iter().chain(kept.map(|held| row(held, "kept"))).collect()
}

/// The result of requesting a page beside held connections: `/page answers`.
pub fn beside_held(held: &HeldConnections, stopped: &[&str]) -> String {
    if held.is_untestable() {
        return "not testable: server closed them".to_owned();
    }
    let fails = |(_, ask): &&(String, _)| {
        let ask: &super::super::measured::PageAsk = ask;
        ask.outcome != PageOutcome::Answered
    };
    let is_of_interest = |(path, _): &&(String, _)| stopped.is_empty() || stopped.contains(&path.as_str());
    let path = |page: &(String, _)| short(&page.0, LONGEST_PATH);
    if let Some(page) = held.pages.iter().find(fails) {
        return format!("{} stops", path(page));
    }
    let Some(page) = held.pages.iter().find(is_of_interest).or(held.pages.first()) else {
        return "no page was requested".to_owned();
    };
    if held.were_closed_for_the_page() {
        let closed = held.open_before - held.open_after;
        let were = if closed == 1 { "was" } else { "were" };
        return format!("{} after {}, once {closed} {were} closed", path(page), time(page.1.time));
    }
    format!("{} answers", path(page))
}

/// A further climb.
pub fn climb(climb: &Climb) -> FactRow {
    let streams = count(climb.streams, "stream");
    FactRow::fact("once more", format!("{streams}, every page answers beside {}", climb.pages_until))
}

/// The requests that were sent.
pub fn sent(measured: &Measured) -> FactRow {
    let mut text = count(measured.requests, "request");
    let abandoned = match (measured.abandoned_pages, measured.abandoned_streams) {
        (0, 0) => "none abandoned".to_owned(),
        (pages, 0) => format!("{} abandoned", count(pages, "page")),
        (0, streams) => format!("{} abandoned", count(streams, "stream")),
        (pages, streams) => format!("{} and {} abandoned", count(pages, "page"), count(streams, "stream")),
    };
    text += &format!(", {abandoned}");
    if measured.watched > Duration::ZERO {
        text += &format!("; watched for {}", time(measured.watched));
    }
    if let Some(counted) = measured.target.unit.and_then(other_than_an_event) {
        text += &format!("; counted: {counted}");
    }
    FactRow::fact("sent", text)
}

/// The unit that was counted, if it is not an event of `text/event-stream`.
fn other_than_an_event(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Sse => None,
        Unit::SignOfLife => Some("comments and `retry:`, because no event came in 3 s"),
        Unit::Line => Some("lines"),
        Unit::Chunk => Some("chunks of a body that is not text/event-stream"),
    }
}

/// The current step, on a terminal.
pub fn doing(what: &str, up_to: Duration) -> FactRow {
    let limit =
        if up_to.is_zero() { String::new() } else { format!(" (up to {:.0} s)", up_to.as_secs_f64().ceil()) };
    FactRow::fact("now", format!("{}{limit}", clean(what)))
}

/// A page that ended after the count.
pub fn late(text: String) -> FactRow {
    FactRow::fact("late page", text)
}
