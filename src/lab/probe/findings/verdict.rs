//! The verdict: one or two sentences that an operator understands without reading the details.

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::measured::Measured;
use super::evidence::{count, list, median, time};
use super::facts::{Extent, Facts, NextTab};
use super::measurable::is_measured;
use super::{Findings, LimitKind, NoteKind};

/// The first sentence of the result. It states what was counted, never what may be configured, because the two numbers
/// often differ.
pub fn verdict(measured: &Measured, findings: &Findings) -> String {
    let facts = Facts::of(measured);
    let (Some(limit), Some(facts)) = (&findings.limit, facts) else {
        let why = is_measured(measured, findings).err().map(|why| why.to_string()).unwrap_or_default();
        return format!("Nothing was measured: {why}.");
    };
    let mut text = match limit.kind {
        LimitKind::NoneFound => none_found(&facts, limit.evidence.get("slower") == Some(&true.into())),
        LimitKind::SharedSlots => shared_slots(&facts, &limit.evidence),
        LimitKind::Http2Streams => http2_streams(&facts, measured),
        LimitKind::SessionLock => session_lock(&facts),
        LimitKind::BlockedLoop => "The first stream delivers no event and stops every page.".to_owned(),
        _ if facts.nothing_flows() => nothing_flows(&facts),
        kind => counted(&facts, kind, findings),
    };
    if let Some(cut) = cut_ages(findings) {
        text += &cut;
    }
    if findings.note(NoteKind::Leak).is_some() {
        text += " The server has not recovered: restart it.";
    }
    text
}

fn none_found(facts: &Facts<'_>, is_slower: bool) -> String {
    let slower = if is_slower { ", though more slowly" } else { "" };
    format!("{} run at the same time, and every page answers{slower}.", streams(facts.streams()))
}

fn shared_slots(facts: &Facts<'_>, evidence: &Map<String, Value>) -> String {
    let gap = |gaps| median(gaps).map_or_else(|| "?".to_owned(), time);
    let slots = evidence.get("slots").map(ToString::to_string).unwrap_or_default();
    format!(
        "{} run at the same time, but they share about {slots} slots: each gets an event every {}, a lone one \
         every {}.",
        streams(facts.streams()),
        gap(&facts.measured.crowded_gaps),
        gap(&facts.measured.lone_gaps)
    )
}

fn http2_streams(facts: &Facts<'_>, measured: &Measured) -> String {
    let reached = measured.http2.as_ref().map_or(0, |http2| http2.reached);
    format!(
        "{} run on separate connections; one HTTP/2 connection carries {reached}.",
        streams(facts.streams())
    )
}

fn session_lock(facts: &Facts<'_>) -> String {
    let pages = if facts.a_page_stops() { ", and that session's pages wait as well" } else { "" };
    format!("1 stream at a time per session{pages}. Other sessions are served.")
}

fn nothing_flows(facts: &Facts<'_>) -> String {
    match facts.held() {
        1 => "No stream delivers an event, yet the first of them stops the pages.".to_owned(),
        held => format!("No stream delivers an event, yet {held} of them stop the pages."),
    }
}

/// How many streams run, and how many can be open while the pages still answer.
fn counted(facts: &Facts<'_>, kind: LimitKind, findings: &Findings) -> String {
    let is_cut = findings.note(NoteKind::Cut).is_some();
    let when = if is_cut || facts.streams().high == 1 { "at a time" } else { "at the same time" };
    format!("{} {when}; {}.", streams(facts.streams()), pages(facts, kind, is_cut))
}

/// `pages answer beside 4 of them`, or which of the pages do.
fn pages(facts: &Facts<'_>, kind: LimitKind, is_cut: bool) -> String {
    let until = facts.pages_until();
    if !facts.a_page_stops() {
        return match facts.next() {
            NextTab::Refused => "a further one is refused, and every page answers".to_owned(),
            _ => "every page answers beside them".to_owned(),
        };
    }
    let answering = facts.answering_paths();
    let subject = match (kind, &answering[..]) {
        (LimitKind::DatabasePool, [_, ..]) => "pages that use the database".to_owned(),
        (_, []) => "pages".to_owned(),
        _ => list(&facts.stopped_paths()),
    };
    let is_plural = subject.starts_with("pages") || facts.stopped_paths().len() > 1;
    let beside = match (until.high, facts.streams().high) {
        (0, 1) if subject == "pages" => "no page answers beside it".to_owned(),
        (0, 1) => format!("{subject} {} not answer beside it", does(is_plural)),
        (0, _) => format!("{subject} {} not answer beside the first", does(is_plural)),
        _ if is_from_a_cache_only(facts) => {
            format!("{subject} {} beside them from a cache only", verb(is_plural))
        }
        _ if is_cut => format!("{subject} {} beside {}", verb(is_plural), until.words()),
        _ => format!("{subject} {} beside {} of them", verb(is_plural), until.words()),
    };
    match (kind, &answering[..]) {
        (LimitKind::DatabasePool, _) | (_, []) => beside,
        (_, paths) => format!("{beside}, and {} always {}", list(paths), verb(paths.len() > 1)),
    }
}

/// Whether each page that stops was answered at the limit, and only by a cache.
fn is_from_a_cache_only(facts: &Facts<'_>) -> bool {
    facts.stopped_paths().iter().all(|path| facts.is_answered_by_a_cache_only(path))
}

fn verb(is_plural: bool) -> &'static str {
    if is_plural { "answer" } else { "answers" }
}

fn does(is_plural: bool) -> &'static str {
    if is_plural { "do" } else { "does" }
}

fn streams(extent: Extent) -> String {
    if extent.low == extent.high {
        count(extent.low, "stream")
    } else {
        format!("{} streams", extent.words())
    }
}

/// ` Each is cut off after 8 to 10 s.`, or how many of the streams that the server ended were cut off at that age.
fn cut_ages(findings: &Findings) -> Option<String> {
    let cut = findings.note(NoteKind::Cut)?;
    if cut.evidence.get("how") == Some(&"finished".into()) {
        return None;
    }
    let low = cut.evidence.get("low_s")?.as_f64()?;
    let high = cut.evidence.get("high_s")?.as_f64()?;
    let middle = (low + high) / 2.0;
    let ages = if high < 1.0 {
        format!("about {}", time(Duration::from_secs_f64(middle.max(0.0))))
    } else if high - low < 1.0 {
        format!("about {middle:.0} s")
    } else {
        format!("{:.0} to {:.0} s", low.floor(), high.ceil())
    };
    let number = |name: &str| cut.evidence.get(name).and_then(Value::as_u64);
    Some(match number("cuts").zip(number("of")) {
        Some((cuts, of)) if cuts < of => {
            format!(" Of {of} streams that the server ended, {cuts} were cut off after {ages}.")
        }
        _ => format!(" Each is cut off after {ages}."),
    })
}
