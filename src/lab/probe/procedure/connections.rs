//! All connections of a run. They are opened one after another, watched together, and closed on every exit path.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use ninetabs_server::threads::{self, StopSignal};
use url::Url;

use super::connection::{Carries, ProbedConnection, SIGN_OF_LIFE_AFTER, median};
use super::exchange::{Exchange, LONGEST_WAIT, Purpose};
use super::observation::{End, Id, Observation};
use crate::lab::http::{ClientRequest, Options, Reading, Tls, Verification};
use crate::lab::probe::measured::{CloseBy, Cut, Stopped, WaitPlace};
use crate::lab::probe::place;
use crate::lab::probe::plan::ProbePlan;

/// Maximum number of observations that may be queued. If a server sends faster, its connections are read more slowly.
const MAX_UNREAD: usize = 16 * 1024;

/// How long the threads have to close their sockets at the end. The kernel closes any that remain.
const CLOSE_WITHIN: Duration = Duration::from_millis(150);

/// How often closing is retried for a connection that is still being made: its socket may not have existed before.
const CLOSE_AGAIN_EVERY: Duration = Duration::from_millis(10);

/// The result of a step. The error is the reason why the run ends early.
pub(super) type Flow<T> = Result<T, Stopped>;

/// A connection to open.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) kind: Carries,
    /// The name in the report.
    pub(super) name: String,
    pub(super) url: Url,
    pub(super) request: ClientRequest,
    pub(super) purpose: Purpose,
    /// The local address, if it matters.
    pub(super) from: Option<IpAddr>,
    pub(super) receive_buffer: Option<usize>,
}

/// The table of connections.
pub(super) struct Connections<'a> {
    plan: &'a ProbePlan,
    stop: &'a StopSignal,
    tls: Option<Tls>,
    all: BTreeMap<Id, ProbedConnection>,
    to: Sender<Observation>,
    from_threads: Receiver<Observation>,
    /// Each thread has a clone, so `ended` is disconnected once all threads have ended.
    running: Option<Sender<Infallible>>,
    ended: Receiver<Infallible>,
    /// Streams that the server ended, in order.
    cuts: Vec<Cut>,
    /// The connections of `cuts`, in the same order.
    cut_ids: Vec<Id>,
    began: Instant,
    /// Number of requests that were sent.
    pub(super) requests: usize,
    pub(super) abandoned_pages: usize,
    pub(super) abandoned_streams: usize,
}

impl<'a> Connections<'a> {
    pub(super) fn new(plan: &'a ProbePlan, stop: &'a StopSignal) -> Connections<'a> {
        let (to, from_threads) = bounded(MAX_UNREAD);
        let (running, ended) = bounded(0);
        let verification = if plan.is_insecure { Verification::Skipped } else { Verification::System };
        let is_https = [&plan.url].into_iter().chain(&plan.pages).any(|url| url.scheme() == "https");
        Connections {
            plan,
            stop,
            tls: is_https.then(|| Tls::new(verification)),
            all: BTreeMap::new(),
            to,
            from_threads,
            running: Some(running),
            ended,
            cuts: Vec::new(),
            cut_ids: Vec::new(),
            began: Instant::now(),
            requests: 0,
            abandoned_pages: 0,
            abandoned_streams: 0,
        }
    }

    /// When the run began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The time from the beginning of the run to this moment.
    pub(super) fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.began)
    }

    /// Number of open streams and held connections. Pages are not counted.
    pub(super) fn held(&self) -> usize {
        self.iter().filter(|(_, it)| !matches!(it.kind, Carries::Page(_)) && it.is_open()).count()
    }

    /// Whether another stream or held connection may be opened.
    pub(super) fn has_room(&self) -> bool {
        self.held() < self.plan.tabs
    }

    /// Begins a connection, and returns without waiting for it.
    ///
    /// Before it opens a stream or a held connection, the caller must check [`has_room`](Self::has_room).
    pub(super) fn open(&mut self, opening: Opening) -> Flow<Id> {
        debug_assert!(
            matches!(opening.kind, Carries::Page(_)) || self.has_room(),
            "more than --tabs connections"
        );
        let id = Id(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        if opening.purpose != Purpose::Silence {
            self.requests += 1;
        }
        let is_get = opening.request.method.is_empty() || opening.request.method == "GET";
        let exchange = Exchange {
            id,
            url: opening.url,
            request: opening.request,
            options: Options {
                reading: Reading::Browser,
                to: Some(self.plan.address),
                from: opening.from,
                receive_buffer: opening.receive_buffer,
                tls: self.tls.clone(),
                ..Options::within(LONGEST_WAIT)
            },
            purpose: opening.purpose,
        };
        let connection = ProbedConnection::new(opening.kind, opening.name, is_get, Instant::now());
        let (line, to, running) = (connection.line.clone(), self.to.clone(), self.running.clone());
        let held = self.held();
        self.all.insert(id, connection);
        let spawned = threads::spawn("probe", move || {
            let _running = running;
            exchange.run(&line, &to);
        });
        spawned.map(|_| id).map_err(|error| Stopped::OwnLimit { why: error.to_string(), held })
    }

    /// Closes a connection. It immediately counts as closed, and its thread ends soon after.
    pub(super) fn close(&mut self, id: Id, by: CloseBy) {
        let Some(connection) = self.all.get_mut(&id) else { return };
        if connection.closed.is_some() || connection.ended.is_some() {
            return;
        }
        match connection.kind {
            Carries::Page(_) if !connection.is_complete() => self.abandoned_pages += 1,
            Carries::Stream(_) if connection.first_event.is_none() => self.abandoned_streams += 1,
            _ => {}
        }
        connection.closed = Some((Instant::now(), by));
        connection.line.close(by);
        connection.parked = None;
    }

    /// Closes everything that is open.
    pub(super) fn close_all(&mut self, by: CloseBy) {
        for id in self.all.keys().copied().collect::<Vec<_>>() {
            self.close(id, by);
        }
    }

    /// Blocks until `look` returns something, but at most until `until`. `look` is called after each observation and at
    /// the end. `None` means that the time is up.
    pub(super) fn wait<T>(
        &mut self,
        until: Instant,
        mut look: impl FnMut(&Connections<'a>) -> Option<T>,
    ) -> Flow<Option<T>> {
        loop {
            if self.stop.has_come() {
                return Err(Stopped::Interrupted);
            }
            self.take_reported()?;
            let signs_due = self.heed_signs();
            if let Some(found) = look(self) {
                return Ok(Some(found));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            let next = signs_due.map_or(until, |due| due.min(until));
            let pause = next.saturating_duration_since(Instant::now());
            select! {
                recv(self.from_threads) -> observation => {
                    if let Ok(observation) = observation {
                        self.take(observation)?;
                    }
                }
                recv(self.stop.receiver()) -> _ => return Err(Stopped::Interrupted),
                default(pause) => {}
            }
        }
    }

    /// Processes the observations that are queued now. Those that arrive during this call are left in the queue:
    /// otherwise, a server that sends faster than they are processed would hide the deadline and a stop signal.
    fn take_reported(&mut self) -> Flow<()> {
        for _ in 0..self.from_threads.len() {
            let Ok(observation) = self.from_threads.try_recv() else { break };
            self.take(observation)?;
        }
        Ok(())
    }

    fn heed_signs(&mut self) -> Option<Instant> {
        let now = Instant::now();
        // If the first tab is watched for a shorter time, signs of life count at the end of that time.
        let age = SIGN_OF_LIFE_AFTER.min(self.plan.waiting_patience());
        self.all.values_mut().filter_map(|connection| connection.heed_signs(now, age)).min()
    }

    fn take(&mut self, observation: Observation) -> Flow<()> {
        let Observation { id, at, what } = observation;
        let Some(connection) = self.all.get_mut(&id) else { return Ok(()) };
        if connection.closed.is_some() && matches!(what, super::observation::Observed::Parked(_)) {
            // The connection was closed while it was being made. Dropping it closes the socket.
            return Ok(());
        }
        connection.fold(at, what);
        let Some((ended, end)) = connection.server_end() else { return Ok(()) };
        match end {
            End::OwnLimit(why) => {
                let why = why.clone();
                return Err(Stopped::OwnLimit { why, held: self.held() });
            }
            End::Certificate(why) => return Err(Stopped::Certificate { why: why.clone() }),
            _ => {}
        }
        if let (Some(how), Some(first), Carries::Stream(tab)) =
            (connection.cut_how(), connection.first_event, connection.kind)
        {
            let age = ended.saturating_duration_since(first);
            let is_polite = connection.ends_with_sign();
            let at = ended.saturating_duration_since(self.began);
            self.cuts.push(Cut { tab, at, age, how, is_polite });
            self.cut_ids.push(id);
        }
        Ok(())
    }

    /// The streams that the server has ended so far.
    pub(super) fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// The times at which the server ended streams other than this one.
    pub(super) fn cuts_of_others(&self, id: Id) -> impl Iterator<Item = Duration> {
        let others = self.cuts.iter().zip(&self.cut_ids).filter(move |(_, cut)| **cut != id);
        others.map(|(cut, _)| cut.at)
    }

    /// Whether the server ended a stream since that moment.
    pub(super) fn was_cut_since(&self, moment: Instant) -> bool {
        let since = self.at(moment);
        self.cuts.iter().any(|cut| cut.at >= since)
    }

    pub(super) fn get(&self, id: Id) -> Option<&ProbedConnection> {
        self.all.get(&id)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (Id, &ProbedConnection)> {
        self.all.iter().map(|(id, connection)| (*id, connection))
    }

    /// The open streams that have delivered an event, the oldest first.
    pub(super) fn flowing(&self) -> Vec<Id> {
        self.iter().filter(|(_, it)| it.flows()).map(|(id, _)| id).collect()
    }

    /// The open streams without an event, the oldest first.
    pub(super) fn waiting(&self) -> Vec<Id> {
        self.iter().filter(|(_, it)| it.waits()).map(|(id, _)| id).collect()
    }

    /// The median gap between events of the open streams. If there is none, that of the closed streams.
    pub(super) fn gap(&self) -> Option<Duration> {
        let gaps = |is_it: fn(&ProbedConnection) -> bool| {
            let streams = self.all.values().filter(|it| is_it(it));
            median(streams.flat_map(|it| it.gaps_since(self.began)).collect())
        };
        gaps(ProbedConnection::flows).or_else(|| gaps(ProbedConnection::has_flowed))
    }

    /// Looks up where the connection's request waits, and stores the place. Blocks for as long as
    /// [`place::of`].
    pub(super) fn look_up_place(&mut self, id: Id) -> Option<WaitPlace> {
        self.look_up_places(&[id]).pop().flatten()
    }

    /// Like [`look_up_place`](Self::look_up_place), for several connections at the same moment.
    pub(super) fn look_up_places(&mut self, ids: &[Id]) -> Vec<Option<WaitPlace>> {
        let address = |id: &Id| self.all.get(id).and_then(|it| it.local.or_else(|| it.line.local_addr()));
        let ours: Vec<_> = ids.iter().map(address).collect();
        let mut places = place::of(self.plan.address, &ours);
        if places.contains(&Some(WaitPlace::Refused)) {
            // A list of all sockets is not a snapshot: while it is read, sockets can move past the reader.
            places = place::of(self.plan.address, &ours);
        }
        for (id, place) in ids.iter().zip(&mut places) {
            let Some(connection) = self.all.get_mut(id) else { continue };
            // For a connection that has ended, the place where it waited before is kept.
            if *place == Some(WaitPlace::Refused) {
                *place = connection.place.or(*place);
            }
            connection.place = *place;
        }
        places
    }

    /// Waits until the threads of all connections have ended, for at most `within`.
    fn end_threads(&mut self, within: Duration) {
        self.running = None;
        // Drops the receiver. A thread whose report finds no receiver ends, even if it is waiting for space in the
        // channel.
        self.from_threads = crossbeam_channel::never();
        let deadline = Instant::now() + within;
        loop {
            for connection in self.all.values() {
                if let (Some((_, by)), None) = (connection.closed, &connection.ended) {
                    connection.line.close(by);
                }
            }
            match self.ended.recv_timeout(CLOSE_AGAIN_EVERY) {
                Err(crossbeam_channel::RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                _ => return,
            }
        }
    }
}

impl Drop for Connections<'_> {
    fn drop(&mut self) {
        let by = if self.stop.has_come() { CloseBy::Rst } else { CloseBy::Fin };
        self.close_all(by);
        self.end_threads(CLOSE_WITHIN);
    }
}
