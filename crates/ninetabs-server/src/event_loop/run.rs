//! The loop itself.
//!
//! Each connection is registered with the kernel once, edge-triggered: the kernel reports when bytes arrive and when
//! buffer space becomes free.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::connection::{IoTurn, PeerConnection, Turn, log_cut};
use super::goodbyes::{self, Goodbyes};
use super::{Feed, Peer, SharedLoop};
use crate::log_limit::limited;
use crate::response::Detached;
use crate::services;
use crate::threads::StopSignal;

/// The maximum number of events per poll.
const EVENTS: usize = 1_024;
/// How long a peer may take to read its goodbye and close.
const GOODBYE_GRACE: Duration = Duration::from_millis(500);

pub(super) struct LoopThread<F: Feed> {
    poll: Poll,
    shared: Arc<SharedLoop<F>>,
    feed: F,
    /// Boxed to keep the nodes small: in a tree whose keys only grow, the nodes stay half empty.
    connections: BTreeMap<usize, Box<PeerConnection<F>>>,
    /// Connections that have more to do without an event from the kernel. This is a set, so that each gets one turn.
    again: BTreeSet<usize>,
    /// The newest token.
    last: usize,
    stopped_after: Duration,
    stop: Option<Farewell>,
}

/// The goodbyes of a loop that is stopping.
struct Farewell {
    goodbyes: Goodbyes,
    deadline: Instant,
    /// Every connection up to this token has been sent its goodbye.
    told_up_to: usize,
    told: usize,
    /// When the last goodbyes were sent.
    last_told: Instant,
}

impl<F: Feed> LoopThread<F> {
    pub fn new(poll: Poll, shared: Arc<SharedLoop<F>>, feed: F, stopped_after: Duration) -> Self {
        let (connections, again) = (BTreeMap::new(), BTreeSet::new());
        LoopThread { poll, shared, feed, connections, again, last: 0, stopped_after, stop: None }
    }

    /// Runs the loop. Returns `Ok` after it has been asked to stop.
    pub fn run(mut self, stop: &StopSignal) -> Result<(), String> {
        let mut events = Events::with_capacity(EVENTS);
        let mut swept = Instant::now();
        loop {
            match self.poll.poll(&mut events, self.timeout(swept)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(format!("cannot poll for events: {error}"));
                }
                _ => {}
            }
            if stop.has_come() {
                self.end_all();
                return Ok(());
            }
            let has_news = self.refresh();
            for token in mem::take(&mut self.again) {
                self.turn(token, IoTurn::ReadAndWrite);
            }
            for event in &events {
                let may_read = event.is_readable() || event.is_read_closed() || event.is_error();
                self.turn(event.token().0, if may_read { IoTurn::ReadAndWrite } else { IoTurn::Write });
            }
            let (arrived, stop_by) = {
                let mut door = self.shared.door();
                (mem::take(&mut door.arrived), door.stop_by)
            };
            for (detached, peer) in arrived {
                self.take_in(detached, peer);
            }
            if let Some(deadline) = stop_by
                && self.say_goodbyes(deadline)
            {
                return Ok(());
            }
            let is_due = swept.elapsed() >= F::SWEEP;
            if has_news || is_due {
                self.ask_all();
            }
            if is_due {
                swept = Instant::now();
            }
        }
    }

    fn timeout(&self, swept: Instant) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let sweep = F::SWEEP.saturating_sub(swept.elapsed());
        match &self.stop {
            Some(_) => Some(sweep.min(goodbyes::TICK)),
            None => (!self.connections.is_empty()).then_some(sweep),
        }
    }

    fn refresh(&mut self) -> bool {
        let (feed, peers) = (&mut self.feed, self.connections.len());
        // Even if the feed panicked, some peers may have something to send.
        services::piece(format_args!("the feed"), || feed.refresh(peers)).unwrap_or(true)
    }

    fn take_in(&mut self, detached: Detached, peer: Box<dyn Peer<F>>) {
        self.shared.counters.joined.fetch_add(1, Ordering::Relaxed);
        let mut connection = Box::new(PeerConnection::new(detached, peer));
        let token = self.last + 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered =
            self.poll.registry().register(&mut SourceFd(&connection.fd()), Token(token), interest);
        if let Err(error) = registered {
            return limited!(Error, "cannot watch the connection of {}: {error}", F::PEER);
        }
        self.last = token;
        let turn = connection.receive_unread(&mut self.feed);
        self.connections.insert(token, connection);
        self.count_open();
        match turn {
            Turn::Left | Turn::Cut(_) => self.end(token, &turn),
            Turn::Over | Turn::Again => self.turn(token, IoTurn::ReadAndWrite),
        }
    }

    fn turn(&mut self, token: usize, doing: IoTurn) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let turn = connection.turn(&mut self.feed, doing, Instant::now());
        self.after(token, &turn);
    }

    /// Asks every peer for its next piece, and ends connections whose clients have read nothing for too long.
    fn ask_all(&mut self) {
        let now = Instant::now();
        let mut turns = Vec::new();
        for (token, connection) in &mut self.connections {
            match connection.ask(&mut self.feed, now, self.stopped_after) {
                Turn::Over => {}
                turn => turns.push((*token, turn)),
            }
        }
        for (token, turn) in turns {
            self.after(token, &turn);
        }
    }

    fn after(&mut self, token: usize, turn: &Turn) {
        match turn {
            Turn::Over => {}
            Turn::Again => {
                self.again.insert(token);
            }
            Turn::Left | Turn::Cut(_) => self.end(token, turn),
        }
    }

    fn end(&mut self, token: usize, turn: &Turn) {
        let Some(mut connection) = self.connections.remove(&token) else { return };
        if let Turn::Cut(why) = turn {
            self.shared.counters.cut.fetch_add(1, Ordering::Relaxed);
            log_cut(F::PEER, why);
            if connection.cut(why) {
                self.connections.insert(token, connection);
                return self.turn(token, IoTurn::Write);
            }
        }
        let registry = self.poll.registry();
        // This also drops the peer, which might panic.
        services::piece(format_args!("the end of {}", F::PEER), || connection.close(registry));
        self.count_open();
    }

    /// Ends all connections, one at a time. If they were dropped together, two panicking peers would abort the process.
    fn end_all(&mut self) {
        for token in self.connections.keys().copied().collect::<Vec<_>>() {
            self.end(token, &Turn::Left);
        }
    }

    fn count_open(&self) {
        self.shared.counters.open.store(self.connections.len() as u64, Ordering::Relaxed);
    }

    /// Sends the goodbyes that are due. Returns `true` once all have been sent and the peers have had time to
    /// read them.
    fn say_goodbyes(&mut self, deadline: Instant) -> bool {
        let now = Instant::now();
        let peers = self.connections.len();
        let stop = self.stop.get_or_insert_with(|| Farewell {
            goodbyes: Goodbyes::new(peers, now, deadline),
            deadline,
            told_up_to: 0,
            told: 0,
            last_told: now,
        });
        let mut due = stop.goodbyes.due(now);
        if stop.goodbyes.are_over() {
            // Peers that have joined since the stop get their goodbye immediately.
            due = usize::MAX;
        }
        let next = stop.told_up_to + 1..;
        let tokens: Vec<usize> = self.connections.range(next).take(due).map(|(token, _)| *token).collect();
        if let Some(last) = tokens.last() {
            (stop.told_up_to, stop.last_told) = (*last, now);
            stop.told += tokens.len();
        }
        let is_over = stop.goodbyes.are_over();
        let is_late = now >= stop.deadline || now.saturating_duration_since(stop.last_told) >= GOODBYE_GRACE;
        for token in tokens {
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.leave();
            }
            self.turn(token, IoTurn::ReadAndWrite);
        }
        let has_ended = is_over && (self.connections.is_empty() || is_late);
        if has_ended {
            self.end_all();
            let told = self.stop.as_ref().map_or(0, |stop| stop.told);
            if told > 0 {
                log::info!("told {told} listeners to reconnect");
            }
        }
        has_ended
    }
}
