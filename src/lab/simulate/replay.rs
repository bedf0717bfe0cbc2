//! Replays a real record on the simulated pool, with the same arrivals and the same durations.
//!
//! The decisions of the pool (the order in which requests start, and the thread of each) must then be the same as in
//! the record. Two events within [`TIE_US`] of each other may occur in either order, because the lock decided their
//! order, and not a rule.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ninetabs_server::rules::PoolSize;
use ninetabs_server::timeline::{Moment, Subject, What};

use super::agenda::Agenda;
use super::pool::{Kept, Roused, SimulatedPool, ThreadStep};

/// Events closer than this are a tie, in microseconds.
pub const TIE_US: u64 = 1_000;
/// From a notification to the moment when the thread has the lock, if the record does not show it, in microseconds.
const WAKE_US: u64 = 50;
/// A thread that has finished takes its next request within this time, in microseconds.
const AT_ONCE_US: u64 = 20;

/// The arrival of a request in the queue, or its start or end on a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueEvent {
    pub at_us: u64,
    /// `None` for an arrival.
    pub thread: Option<usize>,
    pub request: u64,
    pub kind: QueueEventKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueEventKind {
    Queued,
    Started,
    Finished,
}

/// The events of a record that concern the queue. Requests that were withdrawn from the queue are omitted.
pub fn queue_events(moments: &[Moment]) -> Vec<QueueEvent> {
    let kind = |what: &What| match what {
        What::Queued => Some(QueueEventKind::Queued),
        What::Started => Some(QueueEventKind::Started),
        What::Finished => Some(QueueEventKind::Finished),
        _ => None,
    };
    let event = |moment: &Moment| {
        let (kind, subject) = (kind(&moment.what)?, moment.subject?);
        Some(QueueEvent { at_us: moment.at_us, thread: moment.thread, request: subject.request, kind })
    };
    moments.iter().filter_map(event).collect()
}

/// The index of a start in a record, from 0.
type TurnNumber = usize;

#[derive(Debug, Clone, Copy)]
enum Replayed {
    Arrives(TurnNumber),
    Runs { thread: usize, is_new: bool },
    Ends { thread: usize, turn: TurnNumber },
}

/// Replays the arrivals and durations of a record on a pool of this size, and returns the events of that pool.
pub fn replay(size: PoolSize, real: &[QueueEvent]) -> Vec<QueueEvent> {
    let arrivals: Vec<&QueueEvent> =
        real.iter().filter(|event| event.kind == QueueEventKind::Queued).collect();
    let Durations { on_thread: durations, wakes } = Durations::of(real);
    let mut pool: SimulatedPool<TurnNumber> = SimulatedPool::new(size, 0, Kept::All, None);
    let mut agenda = Agenda::default();
    for (turn, arrival) in arrivals.iter().enumerate() {
        agenda.at(arrival.at_us, Replayed::Arrives(turn));
    }
    let subject = |turn: TurnNumber| Subject { connection: 0, port: 0, request: arrivals[turn].request };
    while let Some(event) = agenda.next_until(u64::MAX) {
        let now_us = agenda.now_us();
        let (thread, step) = match event {
            Replayed::Arrives(turn) => {
                let Roused { started, notified } = pool.push(now_us, subject(turn), turn);
                for (thread, is_new) in [(started, true), (notified, false)] {
                    if let Some(thread) = thread {
                        agenda.after(wakes[turn].unwrap_or(WAKE_US), Replayed::Runs { thread, is_new });
                    }
                }
                continue;
            }
            Replayed::Runs { thread, is_new: true } => (thread, pool.begin(now_us, thread)),
            Replayed::Runs { thread, is_new: false } => (thread, pool.wake(now_us, thread)),
            Replayed::Ends { thread, turn } => (thread, pool.end(now_us, thread, subject(turn))),
        };
        if let ThreadStep::Runs { work: turn, .. } = step
            && let Some(duration_us) = durations.get(turn).copied().flatten()
        {
            agenda.after(duration_us, Replayed::Ends { thread, turn });
        }
    }
    queue_events(&pool.moments().0)
}

/// The durations of a record, in the order of arrivals, in microseconds.
#[derive(Debug, Default)]
struct Durations {
    /// How long each request held its thread. `None` if it had not started or not finished when the record ended.
    on_thread: Vec<Option<u64>>,
    /// How long a thread took to wake for each request. `None` if a thread that had just finished took it.
    wakes: Vec<Option<u64>>,
}

impl Durations {
    fn of(real: &[QueueEvent]) -> Durations {
        let mut durations = Durations::default();
        let mut queued: BTreeMap<u64, VecDeque<(TurnNumber, u64)>> = BTreeMap::new();
        let mut running: BTreeMap<usize, (TurnNumber, u64)> = BTreeMap::new();
        let mut finished_us: BTreeMap<usize, u64> = BTreeMap::new();
        for event in real {
            match (event.kind, event.thread) {
                (QueueEventKind::Queued, _) => {
                    let turn = durations.on_thread.len();
                    queued.entry(event.request).or_default().push_back((turn, event.at_us));
                    durations.on_thread.push(None);
                    durations.wakes.push(None);
                }
                (QueueEventKind::Started, Some(thread)) => {
                    let turn = queued.get_mut(&event.request).and_then(VecDeque::pop_front);
                    let Some((turn, queued_us)) = turn else { continue };
                    running.insert(thread, (turn, event.at_us));
                    let free_us = finished_us.get(&thread).copied();
                    if free_us.is_none_or(|free_us| event.at_us - free_us > AT_ONCE_US) {
                        durations.wakes[turn] = Some(event.at_us - queued_us);
                    }
                }
                (QueueEventKind::Finished, Some(thread)) => {
                    finished_us.insert(thread, event.at_us);
                    if let Some((turn, started_us)) = running.remove(&thread) {
                        durations.on_thread[turn] = Some(event.at_us - started_us);
                    }
                }
                _ => {}
            }
        }
        durations
    }
}

/// How a replay compares with its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Likeness {
    /// Events that were compared.
    pub compared: usize,
    /// Events at another position or on another thread because of a tie.
    pub ties: usize,
    /// Starts on another idle thread.
    pub exchanged: usize,
    /// Differences that no tie explains, as text.
    pub differences: Vec<String>,
    /// The maximum difference between two times, in microseconds.
    pub greatest_us: u64,
}

/// Compares a replay with its record, event by event. An event may be at another position if every event between the
/// two positions is a tie with it. A start may be on another thread if that thread became free within a tie of the
/// right one, or if both were idle, because the kernel decides which idle thread a notification wakes. From then on,
/// the two threads have exchanged names.
pub fn compare(real: &[QueueEvent], replayed: &[QueueEvent]) -> Likeness {
    let mut likeness = Likeness::default();
    // For each real thread, the thread of the replay that has its name.
    let mut names: BTreeMap<usize, usize> = BTreeMap::new();
    let frees: BTreeSet<(usize, u64)> = real
        .iter()
        .filter(|event| event.kind == QueueEventKind::Finished)
        .filter_map(|event| Some((event.thread?, event.at_us)))
        .collect();
    let is_freed_around = |thread: usize, at_us: u64| {
        let (from, to) = ((thread, at_us.saturating_sub(TIE_US)), (thread, at_us + TIE_US));
        frees.range(from..=to).next().is_some()
    };
    let mut held: BTreeSet<usize> = BTreeSet::new();
    let mut seen: BTreeMap<(u64, QueueEventKind), VecDeque<(usize, &QueueEvent)>> = BTreeMap::new();
    for (place, event) in replayed.iter().enumerate() {
        seen.entry((event.request, event.kind)).or_default().push_back((place, event));
    }
    for (place, event) in real.iter().enumerate() {
        likeness.compared += 1;
        let twin = seen.get_mut(&(event.request, event.kind)).and_then(VecDeque::pop_front);
        let Some((twin_place, twin)) = twin else {
            likeness.differences.push(format!("{event:?} did not happen"));
            continue;
        };
        likeness.greatest_us = likeness.greatest_us.max(event.at_us.abs_diff(twin.at_us));
        let mut is_tie = twin_place != place;
        if is_tie {
            let (from, to) = (place.min(twin_place), place.max(twin_place));
            let between = real.get(from..=to).unwrap_or_default();
            if between.iter().any(|other| other.at_us.abs_diff(event.at_us) > TIE_US) {
                let text = format!("{event:?} is event {} instead of {}", twin_place + 1, place + 1);
                likeness.differences.push(text);
            }
        }
        if let (Some(thread), Some(other)) = (event.thread, twin.thread) {
            let name = *names.get(&thread).unwrap_or(&thread);
            if event.kind == QueueEventKind::Started && name != other {
                let real_name = |of: usize| names.iter().find(|(_, it)| **it == of).map_or(of, |(it, _)| *it);
                let instead = real_name(other);
                if !held.contains(&instead) {
                    likeness.exchanged += 1;
                } else if is_freed_around(instead, event.at_us) {
                    is_tie = true;
                } else {
                    likeness.differences.push(format!("{event:?} is on thread {other}"));
                }
                names.insert(thread, other);
                names.insert(instead, name);
            }
            if event.kind == QueueEventKind::Started {
                held.insert(thread);
            } else {
                held.remove(&thread);
            }
        }
        likeness.ties += usize::from(is_tie);
    }
    likeness
}
