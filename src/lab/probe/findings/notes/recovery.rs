//! Notes about slots that return or do not: after one tab was closed, after all were closed, and after clients stopped
//! reading.

use std::time::Duration;

use super::super::super::measured::{SlotReturn, Stopped};
use super::super::evidence::{Evidence, count, time};
use super::super::facts::NextTab;
use super::super::remedies;
use super::super::{Finding, NoteKind};
use super::NoteFacts;

/// A slot that returns within this time was freed immediately.
const AT_ONCE: Duration = Duration::from_millis(50);

/// A slot that returns within this number of gaps between events was freed at a write.
const GAPS_OF_A_WRITE: u32 = 4;

/// When a slot returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotClass {
    AtOnce,
    AtAWrite,
    Slow,
    Lost,
}

impl SlotClass {
    fn of(after: Option<Duration>, gap: Option<Duration>) -> SlotClass {
        match after {
            None => SlotClass::Lost,
            Some(after) if after < AT_ONCE => SlotClass::AtOnce,
            Some(after) if gap.is_some_and(|gap| after <= gap * GAPS_OF_A_WRITE) => SlotClass::AtAWrite,
            Some(_) => SlotClass::Slow,
        }
    }

    fn name(self) -> &'static str {
        match self {
            SlotClass::AtOnce => "at-once",
            SlotClass::AtAWrite => "at-a-write",
            SlotClass::Slow => "slow",
            SlotClass::Lost => "lost",
        }
    }
}

/// A note for every run in which the return of a slot was measured: the class of the median (or lost, if a slot was),
/// the median, the worst time, and how many tabs ended in between.
pub(super) fn slot_return(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let valid: Vec<&SlotReturn> = asked.measured.slot_returns.iter().filter(|slot| !slot.is_void).collect();
    let mut times: Vec<Option<Duration>> = valid.iter().map(|slot| slot.after).collect();
    times.sort_by_key(|after| after.unwrap_or(Duration::MAX));
    let median = *times.get(times.len().checked_sub(1)? / 2)?;
    let worst = *times.last()?;
    let class = if worst.is_none() { SlotClass::Lost } else { SlotClass::of(median, asked.facts.gap()) };
    let ends = valid.iter().map(|slot| slot.ends_between).max().unwrap_or(0);
    let free = asked.measured.free;
    let evidence = Evidence::new()
        .with("class", class.name())
        .seconds("median_s", median)
        .seconds("worst_s", worst)
        .with("measured", valid.len())
        .with("lost", times.iter().filter(|after| after.is_none()).count())
        .with("ends_between", ends)
        .seconds("gap_s", asked.facts.gap())
        .seconds("free_page_s", free.and_then(|free| free.page))
        .seconds("free_stream_s", free.and_then(|free| free.stream));
    let between = match ends {
        0 => String::new(),
        ends => format!(", {} in between", count(ends, "ended tab")),
    };
    let of = valid.len();
    let text = match (class, median, worst) {
        (SlotClass::Lost, ..) => {
            let lost = times.iter().filter(|after| after.is_none()).count();
            format!("{lost} of {of} slots did not return within 15 s{between}.")
        }
        (class, Some(median), Some(worst)) => {
            let when = match class {
                SlotClass::AtOnce => "immediately",
                SlotClass::AtAWrite => "at a write",
                SlotClass::Slow | SlotClass::Lost => "later than four gaps",
            };
            format!("{when}, after {} (worst of {of}: {}){between}.", time(median), time(worst))
        }
        _ => return None,
    };
    let is_good = matches!(class, SlotClass::AtOnce | SlotClass::AtAWrite);
    let remedy = if is_good { String::new() } else { remedies::slot_return() };
    Some(NoteKind::SlotReturn.found(evidence, text, remedy))
}

/// The page or a fresh stream was not served within 30 s after everything was closed, or fewer streams run after an
/// HTTP/1.0 request than before. If no stream ever delivered an event, a fresh stream without one proves nothing.
pub(super) fn leak(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let measured = asked.measured;
    let free = measured.free;
    let no_page = free.is_some_and(|free| free.page.is_none());
    let no_stream = free.is_some_and(|free| free.stream.is_none()) && !asked.facts.nothing_flows();
    let has_stopped = measured.stopped == Some(Stopped::Leak);
    let streams = asked.facts.streams();
    let after = measured.http10.as_ref().and_then(|http10| http10.streams_after);
    let fewer = after.filter(|after| *after < streams.low);
    (no_page || no_stream || has_stopped || fewer.is_some()).then(|| {
        let evidence = Evidence::new()
            .seconds("free_page_s", free.and_then(|free| free.page))
            .seconds("free_stream_s", free.and_then(|free| free.stream))
            .with("streams_before", streams.low)
            .with("streams_after_http10", after);
        let text = match fewer {
            Some(after) => format!(
                "{} run after one HTTP/1.0 request; before it, {} did.",
                count(after, "stream"),
                streams.low
            ),
            None => {
                let missing = match (no_page, no_stream) {
                    // If the page is not answered, no stream is requested.
                    (true, _) => "no page was answered",
                    (false, true) => "no fresh stream delivered an event",
                    // Both were served after the first climb. The leak showed after a later experiment.
                    (false, false) => "a page was not answered, or a fresh stream delivered no event",
                };
                format!("30 s after all clients had left, {missing}.")
            }
        };
        NoteKind::Leak.found(evidence, text, remedies::leak(asked.recognized))
    })
}

/// Beside clients that stopped reading, the next tab or the page was not served until the end of the watch.
pub(super) fn zombies_stay(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let zombies = asked.measured.zombies.as_ref()?;
    let is_freed = zombies.tab.is_some() && zombies.page.is_some();
    (zombies.n > 0 && !is_freed).then(|| {
        let seen = match zombies.unsent {
            Some(unsent) => {
                format!("the server has not noticed yet, with {} unsent", count(unsent as usize, "byte"))
            }
            None => "the server has not noticed yet".to_owned(),
        };
        // The server may have refused the tab or the page instead of letting it wait.
        let unserved = match (zombies.tab, zombies.page) {
            (None, None) => "neither the next tab nor the page was served",
            (None, Some(_)) => "the next tab was not served",
            (Some(_), _) => "the page was not served",
        };
        let text = format!(
            "{} stopped reading; after {} {unserved}: {seen}.",
            count(zombies.n, "client"),
            time(zombies.watched)
        );
        NoteKind::ZombiesStay.found(zombie_evidence(asked), text, remedies::zombies(asked.recognized))
    })
}

/// The next tab and the page were served eventually, although enough clients had stopped reading to hold every slot.
pub(super) fn zombies_freed(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let zombies = asked.measured.zombies.as_ref()?;
    if zombies.n == 0 || asked.facts.all_flow() || zombies.n < asked.facts.held() {
        return None;
    }
    let (tab, page) = (zombies.tab?, zombies.page?);
    let text = format!(
        "beside {} that stopped reading, the next tab got its event after {} and the page its answer after {}.",
        count(zombies.n, "client"),
        time(tab),
        time(page)
    );
    Some(NoteKind::ZombiesFreed.found(zombie_evidence(asked), text, String::new()))
}

fn zombie_evidence(asked: &NoteFacts<'_>) -> Evidence {
    let zombies = asked.measured.zombies.as_ref();
    Evidence::new()
        .with("n", zombies.map(|zombies| zombies.n))
        .seconds("watched_s", zombies.map(|zombies| zombies.watched))
        .seconds("tab_s", zombies.and_then(|zombies| zombies.tab))
        .seconds("page_s", zombies.and_then(|zombies| zombies.page))
        .with("unsent_bytes", zombies.and_then(|zombies| zombies.unsent))
}

/// Whether a tab waited beyond the last one that streamed.
pub(super) fn a_tab_waited(asked: &NoteFacts<'_>) -> bool {
    asked.facts.tabs_that(NextTab::Waits).next().is_some()
}
