//! Limits of runs in which every tab streamed.

use std::time::Duration;

use super::super::super::measured::{Http2Stop, PageOutcome};
use super::super::super::plan::DEFAULT_TABS;
use super::super::LimitKind;
use super::super::evidence::{Evidence, median, time};
use super::super::facts::Facts;
use super::super::products::Recognized;
use super::super::remedies;
use super::FoundLimit;

/// Minimum ratio of the crowded gap to the lone gap at which slots count as shared.
const CROWDED: f64 = 1.15;

/// A page counts as slower if it takes longer than this multiple of its baseline plus [`SLOWER_BY`].
const SLOWER_THAN: u32 = 3;

/// See [`SLOWER_THAN`].
const SLOWER_BY: Duration = Duration::from_millis(50);

/// All tabs stream, the median crowded gap is at least 1.15 times the median lone gap, and three quarters of the
/// crowded gaps are longer than every lone gap. A busy machine would lengthen the lone gaps as well.
pub(super) fn shared_slots(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let (crowded_gaps, lone_gaps) = (&facts.measured.crowded_gaps, &facts.measured.lone_gaps);
    let (crowded, lone) = (median(crowded_gaps)?, median(lone_gaps)?);
    let longest_alone = lone_gaps.iter().max()?;
    let is_longer = lone > Duration::ZERO && crowded.as_secs_f64() >= lone.as_secs_f64() * CROWDED;
    let is_apart = lower_quartile(crowded_gaps)? > *longest_alone;
    (facts.all_flow() && is_longer && is_apart).then(|| {
        let tabs = facts.n() as f64;
        let slots = (tabs * lone.as_secs_f64() / crowded.as_secs_f64()).round().max(1.0) as u64;
        let per_second = (tabs / crowded.as_secs_f64() * 10.0).round() / 10.0;
        let evidence = Evidence::new()
            .with("streams", facts.n())
            .milliseconds("crowded_gap_ms", Some(crowded))
            .milliseconds("lone_gap_ms", Some(lone))
            .with("events_per_s", per_second)
            .with("slots", slots);
        let text = format!(
            "Beside the other streams, a stream's events are {} apart; alone, {}. All streams together deliver \
             {per_second} events per second, as many as about {slots} slots would.",
            time(crowded),
            time(lone)
        );
        FoundLimit::only(LimitKind::SharedSlots.found(evidence, text, remedies::shared_slots(recognized)))
    })
}

/// One HTTP/2 connection carries no further stream, because of its settings or a refusal, but a second connection does.
/// An announced maximum that was not reached is only reported.
pub(super) fn http2_streams(facts: &Facts<'_>, recognized: &Recognized) -> Option<FoundLimit> {
    let http2 = facts.measured.http2.as_ref()?;
    let is_stopped = matches!(http2.stopped_by, Some(Http2Stop::Settings | Http2Stop::RefusedStream));
    let holds = is_stopped
        && http2.second_connection == Some(true)
        && http2.reached < facts.measured.target.tabs
        && facts.all_flow()
        && !facts.a_page_stops();
    holds.then(|| {
        let evidence = Evidence::new()
            .with("announced", http2.announced)
            .with("reached", http2.reached)
            .with("second_connection", true);
        let announced = http2.announced.map_or_else(String::new, |number| format!(" (announced: {number})"));
        let text = format!(
            "One HTTP/2 connection carries {} streams{announced}; a stream on a second connection delivers events.",
            http2.reached
        );
        FoundLimit::only(LimitKind::Http2Streams.found(evidence, text, remedies::http2_streams(recognized)))
    })
}

/// All tabs stream at the same time, and every page was answered.
pub(super) fn none_found(facts: &Facts<'_>, _: &Recognized) -> Option<FoundLimit> {
    (facts.all_flow() && !facts.a_page_stops()).then(|| {
        let slowest = slowest_page(facts);
        let evidence = Evidence::new()
            .with("streams", facts.streams().low)
            .with("pages_until", facts.pages_until().low)
            .milliseconds("slowest_page_ms", slowest.map(|page| page.1))
            .milliseconds("its_baseline_ms", slowest.map(|page| page.2))
            .with("slower", slowest.map(|(_, slow, usual)| is_slower(slow, usual)))
            .seconds("watched_s", Some(facts.measured.watched));
        let mut text = format!(
            "The streams were watched for {}. Every page was answered beside each of them",
            time(facts.measured.watched)
        );
        match slowest {
            Some((path, slow, usual)) if is_slower(slow, usual) => {
                text += &format!("; {path} took up to {} (alone: {}).", time(slow), time(usual));
            }
            _ => text += ".",
        }
        let overtaken = facts.measured.waiting.iter().filter(|tab| facts.was_overtaken(tab));
        for tab in overtaken {
            let gets = remedies::what_a_tab_gets(tab);
            text += &format!(" Tab {} got {gets}, and later tabs streamed.", tab.number);
        }
        let tabs = facts.measured.target.tabs;
        if tabs < DEFAULT_TABS {
            text += &format!(" A limit above --tabs {tabs} would not show.");
        }
        FoundLimit::only(LimitKind::NoneFound.found(evidence, text, remedies::none_found(facts.measured)))
    })
}

/// The page whose slowest answer exceeds its baseline by the most: its path, the time of that answer, and the baseline.
pub(super) fn slowest_page<'a>(facts: &Facts<'a>) -> Option<(&'a str, Duration, Duration)> {
    let pages = facts.measured.baseline.iter().filter_map(|page| {
        let asks = facts.climb.tabs.iter().flat_map(|tab| &tab.pages).filter(|asks| asks.path == page.path);
        let answered = asks.flat_map(|asks| &asks.asks).filter(|ask| ask.outcome == PageOutcome::Answered);
        Some((&*page.path, answered.map(|ask| ask.time).max()?, page.time))
    });
    pages.max_by_key(|(_, slow, usual)| slow.saturating_sub(*usual))
}

/// Whether a page took longer than three times its baseline plus 50 ms.
pub(super) fn is_slower(slow: Duration, usual: Duration) -> bool {
    slow > usual * SLOWER_THAN + SLOWER_BY
}

/// The gap below which a quarter of the gaps lie.
fn lower_quartile(gaps: &[Duration]) -> Option<Duration> {
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 4).copied()
}
