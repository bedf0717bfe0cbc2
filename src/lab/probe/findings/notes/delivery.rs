//! Notes about what happens to events between the application and the client.

use super::super::super::measured::PageOutcome;
use super::super::evidence::{Evidence, count, list, time};
use super::super::facts::NextTab;
use super::super::measurable::cached_stream;
use super::super::remedies;
use super::super::{Finding, NoteKind};
use super::NoteFacts;

/// Minimum number of arrivals of one size before they count as lumps.
const LUMPS: usize = 3;

/// The unit of buffers, in bytes.
const BUFFER_UNIT: usize = 4096;

/// Bytes by which an arrival may differ from a multiple of [`BUFFER_UNIT`].
const BUFFER_TOLERANCE: usize = 16;

/// Minimum number of events in one arrival that shows that they were held back.
const SEVERAL: usize = 2;

/// No event arrived in time, and later several arrived together. Or a page stops although no stream delivered an event,
/// so the server holds streams that deliver nothing.
pub(super) fn buffered(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let facts = asked.facts;
    if !facts.nothing_flows() {
        return None;
    }
    let late = asked.measured.late_events;
    let at_once = late.is_some_and(|late| late.at_once >= SEVERAL);
    let holds_silent_streams = late.is_none() && facts.a_page_stops() && facts.next() == NextTab::Waits;
    (at_once || holds_silent_streams).then(|| {
        let evidence = Evidence::new()
            .with("held", facts.a_page_stops().then(|| facts.held()))
            .seconds("late_events_after_s", late.map(|late| late.after))
            .with("late_events_at_once", late.map(|late| late.at_once));
        let text = match late {
            Some(late) => format!(
                "no event for {}, then {} together: the application runs the stream, and its events are held back.",
                time(late.after),
                count(late.at_once, "event")
            ),
            None => "the application runs the streams, and nothing reaches the client.".to_owned(),
        };
        NoteKind::Buffered.found(evidence, text, remedies::buffered(asked.recognized))
    })
}

/// No event arrived in time, and later one arrived alone.
pub(super) fn quiet(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let late = asked.measured.late_events?;
    (asked.facts.nothing_flows() && late.at_once == 1).then(|| {
        let evidence =
            Evidence::new().seconds("first_event_s", Some(late.after)).with("events_at_once", late.at_once);
        let text = format!("the first event arrives alone after {}.", time(late.after));
        let remedy = "Write a comment (`: keep-alive`) every 15 s: without a write, the server does not notice that a \
                      client has left.";
        NoteKind::Quiet.found(evidence, text, remedy)
    })
}

/// An uncompressed stream delivers events, but one that accepts compression does not.
pub(super) fn compressed(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let tried = asked.measured.compression.as_ref()?;
    let accepts = !tried.accepted.trim().eq_ignore_ascii_case("identity");
    (tried.identity_flows && accepts && tried.first_event.is_none()).then(|| {
        let evidence = Evidence::new()
            .with("accept_encoding", &*tried.accepted)
            .with("content_encoding", tried.coding.as_deref())
            .with("bytes", tried.bytes);
        let within = time(tried.within);
        let comes = match tried.bytes {
            0 => format!("no part of the body arrives within {within}"),
            bytes => format!("no event arrives within {within}, only {} of the body", count(bytes, "byte")),
        };
        let text = format!("with Accept-Encoding: {}, {comes}; identity delivers events.", tried.accepted);
        NoteKind::Compressed.found(evidence, text, remedies::compressed(asked.recognized))
    })
}

/// Three or more arrivals have the size of the same buffer.
pub(super) fn lumps(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let units: Vec<usize> = asked.measured.arrivals.iter().filter_map(|bytes| units_of(*bytes)).collect();
    let number_of = |unit: usize| units.iter().filter(|it| **it == unit).count();
    let unit = units.iter().copied().max_by_key(|unit| (number_of(*unit), *unit))?;
    (number_of(unit) >= LUMPS).then(|| {
        let bytes = unit * BUFFER_UNIT;
        let evidence = Evidence::new()
            .with("bytes", bytes)
            .with("arrivals", number_of(unit))
            .with("of", asked.measured.arrivals.len());
        let text = format!(
            "{} of {} have {bytes} bytes, the size of a buffer.",
            number_of(unit),
            count(asked.measured.arrivals.len(), "arrival")
        );
        NoteKind::Lumps.found(evidence, text, remedies::buffered(asked.recognized))
    })
}

/// The size of an arrival in units of [`BUFFER_UNIT`], if it is close to a multiple of that unit.
fn units_of(bytes: usize) -> Option<usize> {
    let units = (bytes + BUFFER_UNIT / 2) / BUFFER_UNIT;
    (units > 0 && bytes.abs_diff(units * BUFFER_UNIT) <= BUFFER_TOLERANCE).then_some(units)
}

/// A cache answered the streams, or it answered a page: a random query parameter changes the result, or a header names
/// a cache.
pub(super) fn cached(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    if let Some(shared) = cached_stream(asked.measured) {
        let evidence = Evidence::new()
            .with("what", "stream")
            .with("events_at_once", shared.events_at_once)
            .with("events_of_the_first", shared.events_of_the_first);
        let text = format!(
            "a late tab began with all {} of the first tab: this run measured the cache, not the application.",
            count(shared.events_of_the_first, "event")
        );
        let remedy =
            "Send Cache-Control: no-cache on the stream. To measure the application, put {tab} into the URL.";
        return Some(NoteKind::Cached.found(evidence, text, remedy));
    }
    let pages = asked.measured.uncached_pages.iter().map(|page| &*page.path);
    let changed: Vec<&str> = pages.filter(|path| asked.facts.is_answered_by_a_cache_only(path)).collect();
    let by_a_header = asked.measured.target.names_a_cache;
    (!changed.is_empty() || by_a_header).then(|| {
        let evidence = Evidence::new()
            .with("what", "page")
            .with("pages", changed.clone())
            .with("header", by_a_header)
            .with("status", unanswered_status(asked));
        let text = if changed.is_empty() {
            "a header shows that a cache answered.".to_owned()
        } else {
            let verb = if changed.len() == 1 { "answers" } else { "answer" };
            format!("{} {verb} from a cache only, and not with a random query parameter.", list(&changed))
        };
        let remedy = "Send Cache-Control: no-cache on the stream, and probe with a page that is not cached.";
        NoteKind::Cached.found(evidence, text, remedy)
    })
}

/// The status with which a page failed at the limit, if it had one.
fn unanswered_status(asked: &NoteFacts<'_>) -> Option<u16> {
    let mut asks = asked.facts.last_asks().flat_map(|(_, asks)| asks);
    asks.find_map(|ask| if let PageOutcome::Status(status) = ask.outcome { Some(status) } else { None })
}
