//! Step 5: listens to the open streams, and finds out whether a late tab receives their earlier events.

use std::time::{Duration, Instant};

use super::Run;
use super::connection::{Carries, ProbedConnection};
use super::connections::Flow;
use super::kept_head::CACHE_FIELDS;
use super::staircase::Climbing;
use crate::lab::http::Head;
use crate::lab::probe::measured::{CloseBy, LateEvents, SharedStream};
use crate::lab::probe::progress::ProbeProgress;
use crate::lab::probe::requests::Variant;

/// How long to listen if no limit was found.
const WITHOUT_LIMIT: Duration = Duration::from_secs(12);

/// A late tab's first read is complete after this time.
const FIRST_READ: Duration = Duration::from_millis(150);

impl Run<'_> {
    /// Listens until the oldest stream is old enough or none is open.
    pub(super) fn listen(&mut self, has_limit: bool) -> Flow<()> {
        let began = Instant::now();
        let is_stream = |it: &ProbedConnection| matches!(it.kind, Carries::Stream(_)) && it.is_open();
        let oldest = self.net.iter().filter(|(_, it)| is_stream(it)).map(|(_, it)| it.opened).min();
        let Some(oldest) = oldest else { return Ok(()) };
        let until = if has_limit { oldest + self.plan.listening_patience() } else { began + WITHOUT_LIMIT };
        let until = until.max(began);
        let left = until.saturating_duration_since(began);
        let what = match has_limit {
            true => {
                let age = self.plan.listening_patience().as_secs();
                format!("listening until the oldest stream is {age} s old")
            }
            false => format!("listening for {} s", left.as_secs()),
        };
        (self.tell)(ProbeProgress::Doing { what: &what, up_to: left });
        self.wait(until, |net| (!net.iter().any(|(_, it)| is_stream(it))).then_some(()))?;
        // If the listening was shorter than a few events, gaps since the count are used as well.
        let since = if left >= self.usual_gap() * 4 { began } else { self.counted_at.unwrap_or(began) };
        let streams = self.net.flowing();
        let gaps = streams.iter().filter_map(|id| self.net.get(*id)).flat_map(|it| it.gaps_since(since));
        self.measured.crowded_gaps = gaps.collect();
        self.note_late_events();
        Ok(())
    }

    /// In blind mode, records the first stream that delivered an event after all.
    pub(super) fn note_late_events(&mut self) {
        if !self.measured.is_blind {
            return;
        }
        let first = self.net.iter().filter(|(_, it)| it.has_flowed()).find_map(|(_, it)| {
            let after = it.first_event?.saturating_duration_since(it.opened);
            Some(LateEvents { after, at_once: it.first_events })
        });
        self.measured.late_events = self.measured.late_events.or(first);
    }

    /// Opens one late tab, and checks whether it receives the events that the first tab has received.
    pub(super) fn try_late_tab(&mut self, climb: &Climbing) -> Flow<()> {
        let Some(first) = climb.steps.first().map(|step| step.id) else { return Ok(()) };
        if !self.net.has_room()
            && let Some(youngest) = self.net.flowing().last().copied()
        {
            self.net.close(youngest, CloseBy::Fin);
        }
        let events_of_the_first = self.net.get(first).map_or(0, |it| it.events);
        let (at_once, is_from_cache) = self.events_at_once(Variant::default())?;
        let mut shared = SharedStream {
            events_at_once: at_once,
            events_of_the_first: usize::try_from(events_of_the_first).unwrap_or(usize::MAX),
            a_new_address_begins_anew: None,
        };
        if at_once > 1 && at_once >= shared.events_of_the_first && is_from_cache {
            let (anew, _) = self.events_at_once(Variant { is_uncached: true, ..Variant::default() })?;
            shared.a_new_address_begins_anew = Some(anew < at_once);
        }
        self.measured.shared_stream = Some(shared);
        Ok(())
    }

    /// Opens one more stream. Returns the number of events in its first read, and whether its head names a cache.
    fn events_at_once(&mut self, variant: Variant) -> Flow<(usize, bool)> {
        if !self.net.has_room()
            && let Some(youngest) = self.net.flowing().last().copied()
        {
            self.net.close(youngest, CloseBy::Fin);
        }
        let id = self.open_stream(self.plan.tabs, "late tab", variant)?;
        self.judge(id, self.event_within())?;
        self.pause(FIRST_READ)?;
        let Some(connection) = self.net.get(id) else { return Ok((0, false)) };
        let names_a_cache = connection.head.as_ref().is_some_and(|(_, head)| names_a_cache(head));
        Ok((connection.first_events, names_a_cache))
    }
}

/// Whether the response passed through a cache, whether or not the cache answered it.
fn names_a_cache(head: &Head) -> bool {
    let via = head.header("via").unwrap_or_default().to_ascii_lowercase();
    CACHE_FIELDS.iter().any(|name| head.values(name).next().is_some())
        || via.contains("varnish")
        || via.contains("cache")
}

/// Whether the headers show that a cache answered.
pub(super) fn is_cache_hit(head: &Head) -> bool {
    let age = head.header("age").and_then(|age| age.trim().parse::<u64>().ok()).unwrap_or(0);
    let is_hit = |name: &&str| {
        let value = head.header(name).unwrap_or_default().to_ascii_lowercase();
        value.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "hit")
    };
    let hits = ["x-cache", "x-cache-status", "x-proxy-cache", "cf-cache-status", "cache-status"];
    let ids = head.header("x-varnish").unwrap_or_default();
    age > 0 || hits.iter().any(is_hit) || ids.split_ascii_whitespace().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(name: &str, value: &str) -> Head {
        Head { status: 200, headers: vec![(name.to_owned(), value.as_bytes().to_vec())], minor_version: 1 }
    }

    #[test]
    fn headers_show_a_cache_and_whether_it_answered() {
        for (name, value, is_hit, is_named) in [
            ("Age", "0", false, true),
            ("Age", "12", true, true),
            ("X-Cache", "MISS from proxy", false, true),
            ("X-Cache", "Hit from cloudfront", true, true),
            ("Cache-Status", "nginx; hit", true, true),
            ("X-Varnish", "32770", false, true),
            ("X-Varnish", "32771 32770", true, true),
            ("Via", "1.1 varnish", false, true),
            ("Via", "1.1 proxy", false, false),
            ("Cache-Control", "no-cache", false, false),
        ] {
            let head = head(name, value);
            assert_eq!((is_cache_hit(&head), names_a_cache(&head)), (is_hit, is_named), "{name}: {value}");
        }
    }
}
