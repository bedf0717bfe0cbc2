//! Limits of at most one stream: one per session, one per server, or none at all.

use super::super::super::measured::WaitPlace;
use super::super::LimitKind;
use super::super::evidence::{Evidence, list};
use super::super::facts::{Facts, NextTab};
use super::super::products::Recognized;
use super::super::remedies::{self, where_it_waits};
use super::FoundLimit;

/// Minimum number of streams with the other cookie, all of which have to deliver events.
const OTHER_COOKIE_ASKS: usize = 3;

/// Exactly one stream runs, the next tab waits, and at the same time three streams with another cookie run.
pub(super) fn session_lock(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let tries = facts.measured.other_cookie?;
    let flows = tries.of >= OTHER_COOKIE_ASKS && tries.flowed == tries.of;
    (facts.n() == 1 && facts.the_next_tab_waits() && flows).then(|| {
        let waited = facts.next_tab().map(|tab| tab.ended.unwrap_or(tab.watched));
        let evidence = Evidence::new()
            .seconds("same_cookie_waited_s", waited)
            .of("other_cookie", "flowed", tries.flowed, tries.of)
            .place(facts.place());
        let text = format!(
            "With the same cookie, the next tab waits{}; with the other cookie, {} of {} streams run at the same time.",
            where_it_waits(facts.place()),
            tries.flowed,
            tries.of
        );
        let remedy = remedies::session_lock(recognized);
        FoundLimit::only(LimitKind::SessionLock.found(evidence, text, remedy))
    })
}

/// The first stream delivers no event until the end of the watch, and every path stops with it. The server accepts no
/// connection, so the page waits in the kernel. If the page's request was read, or its place is unknown, a quiet or
/// buffered stream on a single worker would look the same.
pub(super) fn blocked_loop(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let stops_with_the_first = facts.paths().all(|path| path.stops_at == Some(1));
    let is_silent = facts.nothing_flows() && facts.measured.late_events.is_none();
    let waits = facts.next() == NextTab::Waits;
    (is_silent && waits && facts.every_page_stops() && stops_with_the_first).then(|| {
        let place = facts.page_place();
        let watched = facts.climb.tabs.first().map(|tab| tab.watched);
        let evidence = Evidence::new()
            .seconds("watched_s", watched)
            .with("page_waits", place.map(WaitPlace::name))
            .place(facts.place());
        let pages = list(&facts.stopped_paths());
        let verb = if facts.stopped_paths().len() == 1 { "waits" } else { "wait" };
        let text = format!(
            "The first stream delivers no event, and beside it {pages} {verb}{}.",
            where_it_waits(place)
        );
        let is_unaccepted = matches!(place, Some(WaitPlace::Kernel | WaitPlace::AcceptQueueFull));
        let or = if is_unaccepted { None } else { Some(LimitKind::OneAtATime) };
        let limit = LimitKind::BlockedLoop.found(evidence, text, remedies::blocked_loop(recognized));
        FoundLimit::only(limit).or(or)
    })
}

/// A single stream delivers events, or delivers one late. A page stops beside it, and the next tab waits.
pub(super) fn one_at_a_time(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let is_one = facts.n() == 1 || (facts.nothing_flows() && facts.measured.late_events.is_some());
    let stops_at_one = facts.paths().any(|path| path.stops_at == Some(1));
    (is_one && stops_at_one && facts.next() == NextTab::Waits).then(|| {
        let place = facts.place();
        let evidence = Evidence::new()
            .with("streams", facts.n())
            .with("page_stops_at", 1)
            .with("page_waits", facts.page_place().map(WaitPlace::name))
            .place(place);
        let pages = list(&facts.stopped_paths());
        let text =
            format!("The second tab and {pages} wait{} until the first stream ends.", where_it_waits(place));
        let remedy = remedies::one_at_a_time(recognized, place);
        FoundLimit::only(LimitKind::OneAtATime.found(evidence, text, remedy))
    })
}
