//! The reactor's state and its rules. Each rule is one method that changes the state in one step. The methods neither
//! lock nor block.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

/// How many of the longest-waiting connections one search finds. A search examines all connections, so its results are
/// kept for later calls.
const LONGEST: usize = 64;

/// A connection that can be parked in the reactor.
pub(super) trait Parked {
    /// When its wait times out.
    fn deadline(&self) -> Instant;
    /// When it began to wait.
    fn since(&self) -> Instant;
    /// What it waits for.
    fn waits_for(&self) -> WaitsFor;
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitsFor {
    ARequest,
    /// The end of the connection, which is lingering after its last answer.
    ItsEnd,
}

/// Whether there may be bytes to read from a connection that is being parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    ReadEmpty,
    /// The connection wakes without a report from the kernel.
    MoreToRead,
}

/// How close the reactor is to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReactorPhase {
    Open,
    /// All watched connections are about to wake for `Wake::Shutdown`.
    Closing,
    /// All connections have been woken. Only lingering connections are watched.
    Closed,
    /// The thread has ended, or is about to.
    Ended,
}

pub(super) struct ReactorState<W> {
    /// The slots by token. Clients cannot choose tokens, so a fast hash is safe.
    pub slots: FxHashMap<usize, ReactorSlot<W>>,
    /// The deadlines of parked connections, soonest first.
    pub deadlines: BTreeSet<(Instant, usize)>,
    /// Parked connections that must be read without a report from the kernel.
    pub again: Vec<usize>,
    /// The time at which the thread wakes if nothing wakes it before. It may be too early, but never too late.
    alarm: Option<Instant>,
    pub next: usize,
    /// The maximum number of parked connections since this value was last read.
    pub most: usize,
    /// The longest-waiting connections that the last search found: when each began to wait, and its token.
    longest: VecDeque<(Instant, usize)>,
    /// The same for lingering connections.
    longest_lingering: VecDeque<(Instant, usize)>,
    pub phase: ReactorPhase,
    /// The deadline of the thread. It ends earlier if nothing is watched.
    pub ends: Option<Instant>,
}

/// The slot of a connection that is parked here or owned by a pool thread.
pub(super) struct ReactorSlot<W> {
    /// The connection and its deadline, or `None` while a pool thread owns it.
    pub here: Option<(W, Instant)>,
    /// The kernel has reported something since the connection was last taken out.
    pub has_news: bool,
    /// The peer has closed or half-closed. Never reset.
    pub has_closed: bool,
    /// Urgent data has arrived, so a short read no longer proves that nothing is left.
    has_urgent: bool,
}

/// A report from the kernel about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KernelReport {
    Readable,
    /// The peer has closed or half-closed. There may be unread bytes from before that.
    Closed,
}

impl<W> ReactorSlot<W> {
    pub fn new() -> ReactorSlot<W> {
        ReactorSlot { here: None, has_news: false, has_closed: false, has_urgent: false }
    }
}

impl<W: Parked> ReactorState<W> {
    pub fn new() -> Self {
        ReactorState {
            slots: FxHashMap::default(),
            deadlines: BTreeSet::new(),
            again: Vec::new(),
            alarm: None,
            next: 0,
            most: 0,
            longest: VecDeque::new(),
            longest_lingering: VecDeque::new(),
            phase: ReactorPhase::Open,
            ends: None,
        }
    }

    /// Parks a connection. Returns whether the thread must be woken.
    pub fn put(&mut self, token: usize, it: W, input: Input) -> bool {
        let deadline = it.deadline();
        let slot = self.slots.entry(token).or_insert_with(ReactorSlot::new);
        slot.here = Some((it, deadline));
        // A close that was reported before the last read is not a reason to read again, because the read would find
        // nothing new.
        let is_readable = input == Input::MoreToRead || slot.has_news;
        self.deadlines.insert((deadline, token));
        self.most = self.most.max(self.deadlines.len());
        if is_readable {
            self.again.push(token);
        }
        let is_sooner = self.alarm.is_none_or(|alarm| deadline < alarm);
        if is_sooner {
            self.alarm = Some(deadline);
        }
        is_readable || is_sooner
    }

    /// Whether the kernel has reported anything since the connection was taken out, or has ever reported a
    /// close or urgent data.
    pub fn has_been_told(&self, token: usize) -> bool {
        let told = |slot: &ReactorSlot<W>| slot.has_news || slot.has_closed || slot.has_urgent;
        self.slots.get(&token).is_none_or(told)
    }

    /// Takes out the connection if it is parked. The caller must read until nothing is left.
    pub fn take(&mut self, token: usize) -> Option<W> {
        let slot = self.slots.get_mut(&token)?;
        let (it, deadline) = slot.here.take()?;
        slot.has_news = false;
        self.deadlines.remove(&(deadline, token));
        Some(it)
    }

    /// Stores a report from the kernel, and takes out the connection if it is parked.
    pub fn tell(&mut self, token: usize, told: KernelReport) -> Option<W> {
        let slot = self.slots.get_mut(&token)?;
        slot.has_news = true;
        slot.has_closed |= told == KernelReport::Closed;
        self.take(token)
    }

    /// Notes that the kernel has reported urgent data. Ordinary data is reported separately.
    pub fn note_urgent(&mut self, token: usize) {
        if let Some(slot) = self.slots.get_mut(&token) {
            slot.has_urgent = true;
        }
    }

    /// How long the thread may sleep. While no connection is parked, the thread keeps the previous alarm and wakes once
    /// without need. Without an alarm, the next connection that is parked would have to wake the thread.
    pub fn sleep(&mut self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let soonest = self.deadlines.first().map(|(at, _)| *at);
        self.alarm = soonest.or(self.alarm.filter(|alarm| *alarm > now));
        let ends = self.ends.map(|at| if self.deadlines.is_empty() { now } else { at });
        let at = [self.alarm, ends].into_iter().flatten().min();
        at.map(|at| at.saturating_duration_since(now))
    }

    pub fn is_to_end(&self, now: Instant) -> bool {
        self.ends.is_some_and(|at| at <= now || self.deadlines.is_empty())
    }

    /// Takes out the connection that has waited longest, among those that wait for `what`.
    pub fn take_longest(&mut self, what: WaitsFor) -> Option<W> {
        self.take_next_longest(what).or_else(|| {
            self.find_longest(what);
            self.take_next_longest(what)
        })
    }

    /// Takes the next connection that the last search found and that has been parked ever since. Skips connections that
    /// have left in the meantime, even if they were parked again.
    fn take_next_longest(&mut self, what: WaitsFor) -> Option<W> {
        while let Some((since, token)) = self.longest(what).pop_front() {
            let here = self.slots.get(&token).and_then(|slot| slot.here.as_ref());
            if here.is_some_and(|(it, _)| it.since() == since && it.waits_for() == what) {
                return self.take(token);
            }
        }
        None
    }

    fn find_longest(&mut self, what: WaitsFor) {
        let mut all: Vec<_> = self
            .deadlines
            .iter()
            .filter_map(|(_, token)| {
                let (it, _) = self.slots.get(token)?.here.as_ref()?;
                (it.waits_for() == what).then(|| (it.since(), *token))
            })
            .collect();
        if all.len() > LONGEST {
            all.select_nth_unstable(LONGEST);
            all.truncate(LONGEST);
        }
        all.sort_unstable();
        *self.longest(what) = all.into();
    }

    fn longest(&mut self, what: WaitsFor) -> &mut VecDeque<(Instant, usize)> {
        match what {
            WaitsFor::ARequest => &mut self.longest,
            WaitsFor::ItsEnd => &mut self.longest_lingering,
        }
    }

    pub fn take_expired(&mut self, now: Instant) -> Option<W> {
        let (_, token) = self.deadlines.first().copied().filter(|(at, _)| *at <= now)?;
        self.take(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Idle(Instant, WaitsFor);

    impl Idle {
        fn since(since: Instant) -> Idle {
            Idle(since, WaitsFor::ARequest)
        }
    }

    impl Parked for Idle {
        fn deadline(&self) -> Instant {
            Instant::now() + Duration::from_secs(60)
        }

        fn since(&self) -> Instant {
            self.0
        }

        fn waits_for(&self) -> WaitsFor {
            self.1
        }
    }

    #[test]
    fn a_report_wakes_a_connection_once_and_a_close_is_remembered() {
        for told in [KernelReport::Readable, KernelReport::Closed] {
            let mut state = ReactorState::new();
            state.put(1, Idle::since(Instant::now()), Input::ReadEmpty);
            // A pool thread takes out the connection, and the kernel then reports something.
            assert!(state.take(1).is_some());
            assert!(!state.has_been_told(1));
            assert!(state.tell(1, told).is_none());
            assert!(state.has_been_told(1));
            state.put(1, Idle::since(Instant::now()), Input::ReadEmpty);
            assert_eq!(state.again, [1], "the connection must wake immediately: {told:?}");
            state.again.clear();
            assert!(state.take(1).is_some());
            assert_eq!(state.slots[&1].has_closed, told == KernelReport::Closed);
            assert_eq!(
                state.has_been_told(1),
                told == KernelReport::Closed,
                "only a close is remembered after the connection was taken out"
            );
            // It has been read and is parked again, so only its deadline or another report wakes it.
            state.put(1, Idle::since(Instant::now()), Input::ReadEmpty);
            assert!(state.again.is_empty(), "{told:?}");
        }
    }

    #[test]
    fn the_longest_wait_is_taken_first_and_a_wait_starts_over_once_served() {
        let mut state = ReactorState::new();
        let start = Instant::now();
        let at = |n: usize| start + Duration::from_secs(n as u64);
        for n in (1..=2 * LONGEST).rev() {
            state.put(n, Idle::since(at(n)), Input::ReadEmpty);
        }
        let mut taken = || state.take_longest(WaitsFor::ARequest).map(|it| it.0);
        assert_eq!(taken(), Some(at(1)));
        assert_eq!(taken(), Some(at(2)));
        // Connection 3 leaves. Connection 4 is served and then parked again.
        assert!(state.take(3).is_some());
        assert!(state.take(4).is_some());
        state.put(4, Idle::since(at(1_000)), Input::ReadEmpty);
        for n in 5..=2 * LONGEST {
            assert_eq!(state.take_longest(WaitsFor::ARequest).map(|it| it.0), Some(at(n)));
        }
        assert_eq!(state.take_longest(WaitsFor::ARequest).map(|it| it.0), Some(at(1_000)));
        assert!(state.take_longest(WaitsFor::ARequest).is_none());
    }

    #[test]
    fn a_lingering_connection_is_not_mistaken_for_a_waiting_one() {
        let mut state = ReactorState::new();
        let start = Instant::now();
        let at = |n: usize| start + Duration::from_secs(n as u64);
        for n in 1..=2 * LONGEST {
            let waits_for = if n % 2 == 0 { WaitsFor::ItsEnd } else { WaitsFor::ARequest };
            state.put(n, Idle(at(n), waits_for), Input::ReadEmpty);
        }
        for n in 1..=LONGEST {
            assert_eq!(state.take_longest(WaitsFor::ARequest).map(|it| it.0), Some(at(2 * n - 1)));
        }
        assert!(state.take_longest(WaitsFor::ARequest).is_none());
        for n in 1..=LONGEST {
            assert_eq!(state.take_longest(WaitsFor::ItsEnd).map(|it| it.0), Some(at(2 * n)));
        }
        assert!(state.take_longest(WaitsFor::ItsEnd).is_none());
    }
}
