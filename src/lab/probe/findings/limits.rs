//! The rules of the limits, in order. Every measured run gets exactly one limit.
//!
//! A rule is a function from the facts to a finding. [`RULES`] lists the rules in the order in which they are tried. If
//! none of them holds, [`nearest`] returns the limit that the evidence contradicts least.

mod all_flow;
mod connections;
mod exclusive;
mod refusals;
mod timeouts;
mod workers;

use super::facts::{Facts, NextTab};
use super::products::Recognized;
use super::{Finding, LimitKind};

/// A limit, and other kinds of limit that fit the evidence as well.
pub(super) struct FoundLimit {
    pub limit: Finding<LimitKind>,
    pub or: Vec<LimitKind>,
}

impl FoundLimit {
    fn only(limit: Finding<LimitKind>) -> FoundLimit {
        FoundLimit { limit, or: Vec::new() }
    }

    /// Sets the second readings.
    fn or(self, or: impl IntoIterator<Item = LimitKind>) -> FoundLimit {
        FoundLimit { or: or.into_iter().collect(), ..self }
    }
}

/// One rule: returns the finding if the rule holds.
type LimitRule = fn(&Facts<'_>, &Recognized) -> Option<FoundLimit>;

/// The rules in the order of [`LimitKind`], except that descriptors come before connections, because they are the more
/// specific reading.
const RULES: [LimitRule; 14] = [
    exclusive::session_lock,
    exclusive::blocked_loop,
    exclusive::one_at_a_time,
    timeouts::database_pool,
    timeouts::queue_timeout,
    refusals::refused_per_client,
    connections::descriptors,
    connections::connections,
    refusals::refused,
    workers::workers,
    workers::stream_cap_waits,
    all_flow::shared_slots,
    all_flow::http2_streams,
    all_flow::none_found,
];

/// The first limit whose rule holds.
pub(super) fn of(facts: &Facts<'_>, recognized: &Recognized) -> FoundLimit {
    let mut found = RULES.iter().filter_map(|rule| rule(facts, recognized));
    found.next().unwrap_or_else(|| nearest(facts, recognized))
}

/// The limit for outcomes that no rule describes. Examples: all tabs stream and yet a page stops, tabs end after
/// different times, or a tab is refused while idle connections alone stop the page.
fn nearest(facts: &Facts<'_>, recognized: &Recognized) -> FoundLimit {
    match (facts.next(), facts.a_page_stops()) {
        (_, true) | (NextTab::None, false) => workers::found(facts, recognized),
        (NextTab::Refused, false) => FoundLimit::only(refusals::found(facts, recognized)),
        (NextTab::Waits | NextTab::EndsLate, false) => workers::stream_cap_found(facts, recognized),
    }
}
