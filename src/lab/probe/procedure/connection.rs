//! The state of one connection, folded from its observations.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::exchange::ConnectionLine;
use super::observation::{End, Observed, ParkedConnection};
use crate::lab::http::Head;
use crate::lab::probe::measured::{CloseBy, CutHow, MAX_TICKS, Unit, WaitPlace};

/// How long a stream has to stay open without an event before a comment counts as a sign of life.
pub(super) const SIGN_OF_LIFE_AFTER: Duration = Duration::from_secs(3);

/// Data that arrives within this time after earlier data counts as the same arrival.
const ONE_ARRIVAL: Duration = Duration::from_millis(100);

/// Maximum number of arrivals whose size is kept.
const MAX_ARRIVALS: usize = 64;

/// Maximum number of recent events whose time is kept.
const MAX_RECENT: usize = 512;

/// What a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    /// A stream, with its number in a staircase, or 0.
    Stream(usize),
    /// The page with this index.
    Page(usize),
    /// No request, or one that was answered on a keep-alive connection.
    Held,
}

/// One connection of the run.
#[derive(Debug)]
pub(super) struct ProbedConnection {
    pub(super) kind: Carries,
    pub(super) name: String,
    /// Whether the request was `GET`. Only then does a clean end of a stream count as a cut.
    pub(super) is_get: bool,
    pub(super) line: ConnectionLine,
    /// When the client began to connect, just before the first SYN.
    pub(super) opened: Instant,
    pub(super) local: Option<SocketAddr>,
    pub(super) is_connected: bool,
    pub(super) first_byte: Option<Instant>,
    pub(super) head: Option<(Instant, Box<Head>)>,
    pub(super) unit: Option<Unit>,
    pub(super) bytes: usize,
    pub(super) events: u64,
    /// When the first event arrived, or the first sign of life on a stream without events.
    pub(super) first_event: Option<Instant>,
    /// Number of events that arrived together, including the first one.
    pub(super) first_events: usize,
    /// The times of comments and `retry:` fields that do not count as signs of life yet.
    early_signs: Vec<Instant>,
    pub(super) is_alive_by_signs: bool,
    ends_with_sign: bool,
    is_done: bool,
    pub(super) ticks: Vec<Instant>,
    recent: VecDeque<Instant>,
    /// Sizes of arrivals, the last of which may still grow.
    pub(super) arrivals: Vec<usize>,
    last_bytes: Option<Instant>,
    /// Whether the size of the current arrival is kept.
    keeps_arrival: bool,
    pub(super) parked: Option<ParkedConnection>,
    pub(super) parked_at: Option<Instant>,
    pub(super) ended: Option<(Instant, End)>,
    pub(super) closed: Option<(Instant, CloseBy)>,
    /// Where its request waited, as last looked up.
    pub(super) place: Option<WaitPlace>,
}

impl ProbedConnection {
    pub(super) fn new(kind: Carries, name: String, is_get: bool, opened: Instant) -> ProbedConnection {
        ProbedConnection {
            kind,
            name,
            is_get,
            line: ConnectionLine::default(),
            opened,
            local: None,
            is_connected: false,
            first_byte: None,
            head: None,
            unit: None,
            bytes: 0,
            events: 0,
            first_event: None,
            first_events: 0,
            early_signs: Vec::new(),
            is_alive_by_signs: false,
            ends_with_sign: false,
            is_done: false,
            ticks: Vec::new(),
            recent: VecDeque::new(),
            arrivals: Vec::new(),
            last_bytes: None,
            keeps_arrival: false,
            parked: None,
            parked_at: None,
            ended: None,
            closed: None,
            place: None,
        }
    }

    /// Updates the state with an observation.
    pub(super) fn fold(&mut self, at: Instant, what: Observed) {
        match what {
            Observed::Connected(local) => {
                self.is_connected = true;
                self.local = local.or(self.local);
            }
            Observed::Sent => {}
            Observed::FirstByte => self.first_byte = Some(at),
            Observed::Head(head, unit) => {
                self.head = Some((at, head));
                self.unit = unit;
            }
            Observed::Arrived(arrival) => {
                self.count_arrival(at, arrival.bytes);
                // The chunks of a refusal's body are not events.
                if self.status() != Some(200) {
                    return;
                }
                self.events += arrival.events as u64;
                self.is_done |= arrival.is_done;
                if arrival.events > 0 || arrival.signs > 0 {
                    self.ends_with_sign = arrival.ends_with_sign;
                }
                let is_early = arrival.signs > 0 && self.first_event.is_none();
                if is_early && self.early_signs.len() < MAX_TICKS {
                    self.early_signs.push(at);
                }
                if arrival.events > 0 || (arrival.signs > 0 && self.is_alive_by_signs) {
                    self.tick(at, arrival.events);
                }
            }
            Observed::Parked(parked) => {
                self.parked = Some(parked);
                self.parked_at = Some(at);
            }
            Observed::Ended(end) => self.ended = Some((at, end)),
        }
    }

    fn tick(&mut self, at: Instant, events: usize) {
        let first = *self.first_event.get_or_insert(at);
        if at.saturating_duration_since(first) < ONE_ARRIVAL {
            self.first_events += events;
        }
        if self.ticks.len() < MAX_TICKS {
            self.ticks.push(at);
        }
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(at);
    }

    fn count_arrival(&mut self, at: Instant, bytes: usize) {
        self.bytes += bytes;
        let is_next = self.last_bytes.is_none_or(|last| at.saturating_duration_since(last) >= ONE_ARRIVAL);
        self.last_bytes = Some(at);
        if is_next {
            self.keeps_arrival = self.arrivals.len() < MAX_ARRIVALS;
            if self.keeps_arrival {
                self.arrivals.push(0);
            }
        }
        if self.keeps_arrival
            && let Some(last) = self.arrivals.last_mut()
        {
            *last += bytes;
        }
    }

    /// Lets signs of life count if no event has arrived by this age. If they may count later, returns when to check
    /// again.
    pub(super) fn heed_signs(&mut self, now: Instant, age: Duration) -> Option<Instant> {
        self.early_signs.first()?;
        if self.first_event.is_some() || !self.is_open() {
            return None;
        }
        let due = self.opened + age;
        if now < due {
            return Some(due);
        }
        self.is_alive_by_signs = true;
        self.unit = Some(Unit::SignOfLife);
        for sign in std::mem::take(&mut self.early_signs) {
            self.tick(sign, 1);
        }
        None
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.head.as_ref().map(|(_, head)| head.status)
    }

    /// Whether neither end has closed it, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.ended.is_none()
            && self.closed.is_none()
            && self.parked.as_ref().is_none_or(ParkedConnection::is_open)
    }

    /// Whether it is a stream that has delivered an event. It need not be open any more.
    pub(super) fn has_flowed(&self) -> bool {
        matches!(self.kind, Carries::Stream(_)) && self.status() == Some(200) && self.first_event.is_some()
    }

    /// Whether it is an open stream that has delivered an event.
    pub(super) fn flows(&self) -> bool {
        self.has_flowed() && self.is_open()
    }

    /// Whether it is an open stream without an event.
    pub(super) fn waits(&self) -> bool {
        matches!(self.kind, Carries::Stream(_)) && self.is_open() && self.first_event.is_none()
    }

    /// How the server ended it, unless the probe closed it first.
    pub(super) fn server_end(&self) -> Option<(Instant, &End)> {
        let (at, end) = self.ended.as_ref()?;
        match self.closed {
            Some((closed, _)) if closed <= *at => None,
            _ => Some((*at, end)),
        }
    }

    /// Whether its response is complete by its framing.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.server_end(), Some((_, End::Complete)))
            || matches!(self.parked, Some(ParkedConnection::Answered(_)))
    }

    /// How the server ended a stream that had delivered an event.
    pub(super) fn cut_how(&self) -> Option<CutHow> {
        let (_, end) = self.server_end().filter(|_| self.has_flowed())?;
        Some(match end {
            End::EventTooLarge(_) => return None,
            _ if self.is_done => CutHow::Finished,
            End::Complete if !self.is_get => CutHow::Finished,
            End::Complete => CutHow::Clean,
            _ => CutHow::Abrupt,
        })
    }

    /// Whether reading ended because an event was too large.
    pub(super) fn has_a_too_large_event(&self) -> bool {
        matches!(self.server_end(), Some((_, End::EventTooLarge(_))))
    }

    /// Whether a comment or a `retry:` was the last thing on the stream.
    pub(super) fn ends_with_sign(&self) -> bool {
        self.ends_with_sign
    }

    /// The gaps between its recent events after the given moment.
    pub(super) fn gaps_since(&self, since: Instant) -> Vec<Duration> {
        let times: Vec<Instant> = self.recent.iter().copied().filter(|at| *at >= since).collect();
        times.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0])).collect()
    }
}

/// The median. For an even number of durations, the lower of the two in the middle.
pub(super) fn median(mut durations: Vec<Duration>) -> Option<Duration> {
    durations.sort_unstable();
    durations.get(durations.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::probe::events::Arrival;

    fn stream() -> (ProbedConnection, Instant) {
        let opened = Instant::now();
        let mut stream = ProbedConnection::new(Carries::Stream(1), "tab 1".to_owned(), true, opened);
        let head = Head { status: 200, headers: Vec::new(), minor_version: 1 };
        stream.fold(opened, Observed::Head(Box::new(head), Some(Unit::Sse)));
        (stream, opened)
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn events(n: usize) -> Observed {
        Observed::Arrived(Arrival { bytes: 10 * n, events: n, ..Arrival::default() })
    }

    fn sign() -> Observed {
        Observed::Arrived(Arrival { bytes: 10, signs: 1, ends_with_sign: true, ..Arrival::default() })
    }

    #[test]
    fn gaps_are_measured_between_arrivals_and_the_median_is_one_of_them() {
        let (mut stream, t) = stream();
        for (at, n) in [(0, 1), (1000, 2), (1990, 1), (3000, 1)] {
            stream.fold(t + ms(at), events(n));
        }
        assert_eq!(stream.gaps_since(t), [ms(1000), ms(990), ms(1010)]);
        assert_eq!(median(stream.gaps_since(t)), Some(ms(1000)));
        assert_eq!(stream.gaps_since(t + ms(1500)), [ms(1010)]);
        assert_eq!((median(Vec::new()), stream.events), (None, 5));
    }

    #[test]
    fn a_sign_of_life_counts_after_three_seconds_on_an_open_stream() {
        let (mut stream, t) = stream();
        stream.fold(t + ms(5), sign());
        let age = SIGN_OF_LIFE_AFTER;
        assert_eq!(stream.heed_signs(t + ms(100), age), Some(t + age));
        assert!(stream.waits());
        assert_eq!(stream.heed_signs(t + ms(3000), age), None);
        assert!(stream.flows() && stream.first_event == Some(t + ms(5)));
        stream.fold(t + ms(4000), sign());
        assert_eq!(stream.gaps_since(t), [ms(3995)]);
    }

    #[test]
    fn a_refusal_with_retry_and_a_clean_end_is_not_a_stream() {
        let (mut stream, t) = stream();
        stream.fold(t + ms(5), sign());
        stream.fold(t + ms(6), Observed::Ended(End::Complete));
        assert_eq!(stream.heed_signs(t + ms(3000), SIGN_OF_LIFE_AFTER), None);
        assert!(!stream.has_flowed() && stream.cut_how().is_none());
    }

    #[test]
    fn chunks_of_a_refusal_are_not_events() {
        let opened = Instant::now();
        let mut refused = ProbedConnection::new(Carries::Stream(6), "tab 6".to_owned(), true, opened);
        let head = Head { status: 503, headers: Vec::new(), minor_version: 1 };
        refused.fold(opened + ms(1), Observed::Head(Box::new(head), Some(Unit::Chunk)));
        refused.fold(opened + ms(1), events(1));
        refused.fold(opened + ms(2), Observed::Ended(End::Complete));
        assert_eq!((refused.first_event, refused.events, refused.has_flowed()), (None, 0, false));
        assert_eq!(refused.bytes, 10);
    }

    #[test]
    fn the_end_of_a_stream_is_classified_unless_the_probe_closed_it() {
        for (end, is_get, how) in [
            (End::Complete, true, CutHow::Clean),
            (End::Complete, false, CutHow::Finished),
            (End::Early, true, CutHow::Abrupt),
            (End::Reset, true, CutHow::Abrupt),
        ] {
            let (mut stream, t) = stream();
            stream.is_get = is_get;
            stream.fold(t + ms(5), events(1));
            stream.fold(t + ms(900), Observed::Ended(end));
            assert_eq!(stream.cut_how(), Some(how));
        }
        let (mut stream, t) = stream();
        stream.fold(t + ms(5), events(1));
        stream.closed = Some((t + ms(10), CloseBy::Fin));
        stream.fold(t + ms(11), Observed::Ended(End::Early));
        assert_eq!(stream.cut_how(), None);
    }

    #[test]
    fn an_event_that_is_too_large_is_not_a_cut() {
        let (mut stream, t) = stream();
        stream.fold(t + ms(5), events(1));
        stream.fold(t + ms(900), Observed::Ended(End::EventTooLarge("too large".to_owned())));
        assert_eq!((stream.cut_how(), stream.has_a_too_large_event()), (None, true));
    }

    #[test]
    fn arrivals_close_together_are_merged_and_only_the_first_ones_are_kept() {
        let (mut stream, t) = stream();
        for at in [0, 50, 99, 300] {
            stream.fold(t + ms(at), events(1));
        }
        assert_eq!((stream.arrivals.as_slice(), stream.first_events), (&[30, 10][..], 3));
        for n in 1..200 {
            stream.fold(t + ms(300 + 200 * n), events(1));
        }
        assert_eq!(stream.arrivals.len(), MAX_ARRIVALS);
        assert!(stream.arrivals[2..].iter().all(|bytes| *bytes == 10));
    }
}
