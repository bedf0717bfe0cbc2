//! Builds the measurements of a run in a few words.
//!
//! `staircase(4, &[("/page", Some(4))])` is a run with four streams in which the page stops beside the fourth. Tests
//! add waiting tabs and experiments by setting fields.

use std::time::Duration;

use crate::lab::probe::measured::{
    Baseline, Climb, Cut, CutHow, HeldConnections, ListeningProcess, Measured, PageAsk, PageAsks,
    PageOutcome, ProbeTarget, ProbedTab, SlotReturn, StatFigures, Statistics, StatsMoment, TabOutcome, Tries,
    Unit, WaitPlace,
};

/// The usual time of a page.
pub const BASELINE: Duration = Duration::from_millis(2);

/// The interval between two tabs.
pub const STEP: Duration = Duration::from_millis(500);

/// How long a tab waits without an event.
pub const WATCH: Duration = Duration::from_secs(12);

pub fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A climb that reached a limit after `streams` streams. Each path is paired with the number of the stream from which on
/// it is no longer answered, or with `None` if it always is. See [`without_limit`] for a climb without a limit.
pub fn staircase(streams: usize, paths: &[(&str, Option<usize>)]) -> Measured {
    let baseline = paths.iter().map(|(path, _)| baseline(path)).collect();
    let tabs = (1..=streams)
        .map(|number| ProbedTab { pages: pages_beside(number, paths), ..flows(number, 1) })
        .collect();
    let pages_until = paths.iter().filter_map(|(_, stop)| *stop).min().map_or(streams, |stop| stop - 1);
    let climb = Climb { streams, pages_until: pages_until.min(streams), tabs, met_a_limit: true };
    let target = ProbeTarget {
        url: "http://127.0.0.1:9292/stream".to_owned(),
        method: "GET".to_owned(),
        http: "1.1".to_owned(),
        unit: Some(Unit::Sse),
        tabs: 40,
        patience: WATCH,
        ..ProbeTarget::default()
    };
    Measured { target, baseline, climbs: vec![climb], watched: secs(33.0), ..Measured::default() }
}

/// A climb in which every tab streams.
pub fn without_limit(streams: usize, paths: &[(&str, Option<usize>)]) -> Measured {
    let mut measured = staircase(streams, paths);
    measured.climbs[0].met_a_limit = false;
    measured.target.tabs = streams;
    measured.watched = WATCH;
    measured
}

/// A climb in blind mode: no stream delivers an event. Each path stops beside the given stream, or never.
pub fn blind(held: usize, paths: &[(&str, Option<usize>)]) -> Measured {
    let mut measured = staircase(held, paths);
    measured.is_blind = true;
    let climb = &mut measured.climbs[0];
    climb.streams = 0;
    for tab in &mut climb.tabs {
        tab.outcome = TabOutcome::NoEvent;
        tab.first_event = None;
        tab.watched = WATCH;
    }
    measured
}

pub fn baseline(path: &str) -> Baseline {
    Baseline { path: path.to_owned(), status: 200, time: BASELINE }
}

fn pages_beside(number: usize, paths: &[(&str, Option<usize>)]) -> Vec<PageAsks> {
    // A path that was not answered at all is not requested again.
    let asked = paths.iter().filter(|(_, stop)| stop.is_none_or(|stop| number <= stop));
    asked
        .map(
            |(path, stop)| if *stop == Some(number) { dead(path, WaitPlace::Kernel) } else { answered(path) },
        )
        .collect()
}

/// Three requests for a path that were all answered.
pub fn answered(path: &str) -> PageAsks {
    page(path, [ask(PageOutcome::Answered, BASELINE); 3])
}

/// Three requests for a path that all went unanswered.
pub fn dead(path: &str, place: WaitPlace) -> PageAsks {
    page(path, [PageAsk { place: Some(place), ..ask(PageOutcome::Nothing, secs(3.0)) }; 3])
}

/// Three requests for a path that all ended the same way.
pub fn failed(path: &str, outcome: PageOutcome, time: Duration) -> PageAsks {
    page(path, [ask(outcome, time); 3])
}

/// Three requests for a path, one of which was answered.
pub fn partial(path: &str) -> PageAsks {
    page(
        path,
        [ask(PageOutcome::Answered, BASELINE), unanswered(WaitPlace::Kernel), unanswered(WaitPlace::Kernel)],
    )
}

pub fn page(path: &str, asks: [PageAsk; 3]) -> PageAsks {
    PageAsks { path: path.to_owned(), asks: asks.to_vec() }
}

pub fn ask(outcome: PageOutcome, time: Duration) -> PageAsk {
    PageAsk { outcome, time, place: None }
}

pub fn unanswered(place: WaitPlace) -> PageAsk {
    PageAsk { place: Some(place), ..ask(PageOutcome::Nothing, secs(3.0)) }
}

/// A tab that streams, with its first event after this many milliseconds.
pub fn flows(number: usize, first_event_ms: u64) -> ProbedTab {
    ProbedTab {
        number,
        opened_at: STEP * number as u32,
        outcome: TabOutcome::Flows,
        status: Some(200),
        first_byte: Some(ms(first_event_ms)),
        first_event: Some(ms(first_event_ms)),
        watched: secs(30.0),
        ..ProbedTab::default()
    }
}

/// A tab that waits until the end of the watch.
pub fn waits(number: usize, place: WaitPlace) -> ProbedTab {
    ProbedTab {
        number,
        opened_at: STEP * number as u32,
        watched: WATCH,
        place: Some(place),
        ..ProbedTab::default()
    }
}

/// A tab that the server ends without an event.
pub fn ends(number: usize, outcome: TabOutcome, status: Option<u16>, after: f64) -> ProbedTab {
    ProbedTab {
        number,
        opened_at: STEP * number as u32 * 10,
        outcome,
        status,
        first_byte: status.map(|_| secs(after)),
        ended: Some(secs(after)),
        ..ProbedTab::default()
    }
}

/// `n` held connections that all stay open. Each path is answered or not.
pub fn held(n: usize, pages: &[(&str, bool)]) -> HeldConnections {
    let outcome = |is_answered| match is_answered {
        true => ask(PageOutcome::Answered, BASELINE),
        false => unanswered(WaitPlace::Kernel),
    };
    HeldConnections {
        n,
        open_before: n,
        open_after: n,
        pages: pages.iter().map(|(path, is_answered)| ((*path).to_owned(), outcome(*is_answered))).collect(),
        place: None,
    }
}

/// `n` held connections that the server closed before the page was requested.
pub fn closed_first(n: usize) -> HeldConnections {
    HeldConnections { open_before: 0, open_after: 0, ..held(n, &[("/page", true)]) }
}

/// Adds experiments with `n` idle and `n` keep-alive connections, neither of which stops `/page`.
pub fn neither_stops(n: usize, measured: Measured) -> Measured {
    let free = held(n, &[("/page", true)]);
    Measured { idle: vec![free.clone()], kept: Some(free), ..measured }
}

/// Adds experiments with `n` idle and `n` keep-alive connections, both of which stop `/page`.
pub fn both_stop(n: usize, measured: Measured) -> Measured {
    let full = held(n, &[("/page", false)]);
    Measured { idle: vec![full.clone()], kept: Some(full), ..measured }
}

/// Slots that returned after these numbers of seconds.
pub fn slots(after: &[f64]) -> Vec<SlotReturn> {
    use crate::lab::probe::measured::CloseBy::{Fin, Rst};
    let by = [Fin, Fin, Rst];
    let slots = after.iter().zip(by);
    slots
        .map(|(after, by)| SlotReturn { by, after: Some(secs(*after)), ends_between: 0, is_void: false })
        .collect()
}

/// A stream that the server ended.
pub fn cut(tab: usize, at: f64, age: f64, how: CutHow) -> Cut {
    Cut { tab, at: secs(at), age: secs(age), how, is_polite: false }
}

pub fn tries(flowed: usize) -> Tries {
    Tries { flowed, of: 3 }
}

/// Puma's statistics: all threads free before the first tab, and this capacity at the limit.
pub fn puma(threads: u64, capacity_at_limit: u64) -> Vec<Statistics> {
    let figures = |capacity| StatFigures {
        program: "Puma".to_owned(),
        max_threads: Some(threads),
        running: Some(threads),
        busy_threads: None,
        backlog: Some(0),
        pool_capacity: Some(capacity),
    };
    vec![
        Statistics { moment: StatsMoment::Before, figures: Some(figures(threads)) },
        Statistics { moment: StatsMoment::AtLimit, figures: Some(figures(capacity_at_limit)) },
    ]
}

/// A listening process with this many open descriptors and this limit.
pub fn listener(name: &str, descriptors: usize, limit: u64) -> ListeningProcess {
    ListeningProcess { pid: 4242, name: name.to_owned(), threads: 9, descriptors, limit }
}
