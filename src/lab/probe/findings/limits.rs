//! The rules of the limits, in order. Exactly one limit comes out.
//!
//! A rule is a function from the facts to a finding. [`RULES`] has them in the order in which they are tried; if
//! none holds as it is written, [`nearest`] gives the reading that the evidence contradicts least.

mod all_flow;
mod connections;
mod exclusive;
mod refusals;
mod timeouts;
mod workers;

use super::facts::{Facts, NextTab};
use super::products::Recognized;
use super::{Finding, LimitKind};

/// A limit, and the readings that fit as well.
pub(super) struct FoundLimit {
    pub limit: Finding<LimitKind>,
    pub or: Vec<LimitKind>,
}

impl FoundLimit {
    fn only(limit: Finding<LimitKind>) -> FoundLimit {
        FoundLimit { limit, or: Vec::new() }
    }

    /// With second readings.
    fn or(self, or: impl IntoIterator<Item = LimitKind>) -> FoundLimit {
        FoundLimit { or: or.into_iter().collect(), ..self }
    }
}

/// One rule: the finding if it holds.
type LimitRule = fn(&Facts<'_>, &Recognized) -> Option<FoundLimit>;

/// The rules in the order of [`LimitKind`], except that descriptors are the more exact reading of connections.
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

/// The reading of outcomes that no rule describes: a page that stops beside streams that all flow, tabs that end
/// after different times, a tab that is refused while idle connections alone stop the page.
fn nearest(facts: &Facts<'_>, recognized: &Recognized) -> FoundLimit {
    match (facts.next(), facts.a_page_stops()) {
        (_, true) | (NextTab::None, false) => workers::found(facts, recognized),
        (NextTab::Refused, false) => FoundLimit::only(refusals::found(facts, recognized)),
        (NextTab::Waits | NextTab::EndsLate, false) => workers::stream_cap_found(facts, recognized),
    }
}
