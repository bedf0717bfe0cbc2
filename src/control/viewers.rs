//! The viewers: EventSources of the control server's own pages.
//!
//! A viewer's connection is detached, so it holds no pool thread. All viewers are peers of one [event
//! loop](ninetabs_server::event_loop), which waits for none of them. It is separate from the loop of the app's
//! listeners, so that collecting the numbers does not delay an announcement.
//!
//! At every [`TICK`] a viewer gets the new moments of the timeline (`event: moments`, whose id names this run
//! and the last moment), and at every [`STATE_EVERY`] the current numbers (`event: state`), which are also
//! the heartbeat. Reading the numbers does not reset those that pumactl reads.
//!
//! A viewer's next event is made when the previous one was sent, so the memory per viewer is bounded by one
//! event. A viewer that reads nothing for [`STOPPED_AFTER`] is cut off.
//! [`ninetabs_server::timeline::Timeline::follow`] decides what a viewer gets next: new moments, or the past
//! and the state if it is new or has missed moments.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::Serialize;

use super::view::View;
use ninetabs_server::escape;
use ninetabs_server::event_loop::{EventLoop, Feed, NextPiece, Peer};
use ninetabs_server::log_limit::limited;
use ninetabs_server::threads::SpawnError;
use ninetabs_server::{Request, Response};

/// Maximum number of viewers; a further one is refused with 503.
const MAX_VIEWERS: usize = 16;
/// How often new moments are sent.
const TICK: Duration = Duration::from_millis(100);
/// How often the numbers are sent.
const STATE_EVERY: Duration = Duration::from_millis(250);
/// How long a viewer may read nothing.
const STOPPED_AFTER: Duration = Duration::from_secs(10);
/// Every stream begins with this: reconnect after a second if the connection is lost.
const RETRY: &str = "retry: 1000\n\n";

/// The viewers. When this is dropped, their connections close.
pub(super) struct Viewers {
    run: Arc<str>,
    taken: Arc<AtomicUsize>,
    events: Arc<EventLoop<ViewersFeed>>,
}

/// One of [`MAX_VIEWERS`] slots, released when dropped.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Viewers {
    /// Starts the loop, which sleeps until a viewer joins.
    pub fn start(view: View) -> Result<Self, SpawnError> {
        let (run, services) = (Arc::clone(&view.run), view.services.clone());
        let events = EventLoop::start("viewers", &services, STOPPED_AFTER, || ViewersFeed::new(view))?;
        Ok(Viewers { run, taken: Arc::default(), events: Arc::new(events) })
    }

    /// Answers a request for the events: the connection leaves the pool, or 503.
    pub fn admit(&self, request: &Request) -> Response {
        let Some(seat) = self.seat() else {
            let text = format!("{MAX_VIEWERS} viewers are already connected; close one of their pages");
            return Response::line(StatusCode::SERVICE_UNAVAILABLE, &text);
        };
        let seq = request.header("last-event-id").and_then(|id| self.seq_of(id));
        let viewer = Viewer { is_new: true, states: 0, seq, _seat: seat };
        let events = Arc::clone(&self.events);
        Response::detach(move |detached| events.join(detached, Box::new(viewer)))
            .with_header("content-type", "text/event-stream")
            .with_header("cache-control", "no-cache")
    }

    /// The current number of viewers.
    pub fn count(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    fn seat(&self) -> Option<Seat> {
        let one_more = |taken| (taken < MAX_VIEWERS).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        taken.ok().map(|_| Seat(Arc::clone(&self.taken)))
    }

    /// The number of the moment in an id. None if the id is from another server, whose moments have other numbers.
    fn seq_of(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&*self.run)?.strip_prefix('-')?.parse().ok()
    }
}

/// The current events, each encoded once for all viewers.
struct ViewersFeed {
    view: View,
    state_clock: ViewersClock,
    tick: ViewersClock,
    /// The newest numbers, and how often there were new ones.
    state: Rc<[u8]>,
    states: u64,
    /// The last moment on the timeline when this tick began. A viewer that has it waits for the next tick.
    tick_seq: u64,
    /// The encoded moments of this tick, by the last moment that a viewer has.
    made: HashMap<Option<u64>, Option<ViewersPiece>>,
}

#[derive(Clone)]
struct ViewersPiece {
    text: Rc<[u8]>,
    last: u64,
}

impl ViewersFeed {
    fn new(view: View) -> Self {
        ViewersFeed {
            view,
            state_clock: ViewersClock::new(STATE_EVERY),
            tick: ViewersClock::new(TICK),
            state: Rc::from([]),
            states: 0,
            tick_seq: 0,
            made: HashMap::new(),
        }
    }

    /// Begins a tick, with new numbers if `wants_state`.
    fn look(&mut self, wants_state: bool) {
        self.made.clear();
        self.view.server.look_at_todo();
        self.tick_seq = self.view.timeline.last_seq();
        if wants_state {
            self.state = event("state", None, &self.view.state());
            self.states += 1;
        }
    }

    /// The moments after `seq`, or nothing for a viewer that already has all moments of this tick. A busy timeline is
    /// sent in steps, which are encoded once for all viewers.
    fn moments_after(&mut self, seq: Option<u64>) -> Option<ViewersPiece> {
        let View { timeline, run, .. } = &self.view;
        // A number greater than the last one is from another server, and `follow` starts over.
        if seq.is_some_and(|seq| (self.tick_seq..=timeline.last_seq()).contains(&seq)) {
            return None;
        }
        let make = || {
            let news = timeline.follow(seq)?;
            let last = news.last_seq();
            let text = event("moments", Some(&format!("{run}-{last}")), &news);
            Some(ViewersPiece { text, last })
        };
        self.made.entry(seq).or_insert_with(make).clone()
    }
}

impl Feed for ViewersFeed {
    const SWEEP: Duration = TICK;
    const PEER: &'static str = "a viewer";

    fn refresh(&mut self, peers: usize) -> bool {
        let is_due = peers > 0 && self.tick.is_due();
        if is_due {
            let wants_state = self.state_clock.is_due();
            self.look(wants_state);
        }
        is_due
    }
}

struct Viewer {
    is_new: bool,
    /// The number of the state that it was sent last.
    states: u64,
    /// The newest moment that it was sent; None before the first.
    seq: Option<u64>,
    _seat: Seat,
}

impl Peer<ViewersFeed> for Viewer {
    fn next(&mut self, news: &mut ViewersFeed, _now: Instant) -> NextPiece {
        if self.is_new {
            news.look(true);
            (self.is_new, self.states) = (false, news.states);
            return NextPiece::Send([RETRY.as_bytes(), &news.state].concat().into());
        }
        if self.states != news.states {
            self.states = news.states;
            return NextPiece::Send(Rc::clone(&news.state));
        }
        let Some(piece) = news.moments_after(self.seq) else { return NextPiece::Wait };
        self.seq = Some(piece.last);
        NextPiece::Send(piece.text)
    }

    /// The loop is never stopped: a drop closes the connections, and the pages reconnect.
    fn goodbye(&mut self, _news: &mut ViewersFeed) -> Rc<[u8]> {
        Rc::from([])
    }
}

/// A clock that is due immediately, and then after each interval `every`.
struct ViewersClock {
    every: Duration,
    last: Option<Instant>,
}

impl ViewersClock {
    fn new(every: Duration) -> Self {
        ViewersClock { every, last: None }
    }

    fn is_due(&mut self) -> bool {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= self.every);
        if is_due {
            self.last = Some(Instant::now());
        }
        is_due
    }
}

fn event(name: &str, id: Option<&str>, data: &impl Serialize) -> Rc<[u8]> {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let text = match serde_json::to_string(data) {
        Ok(data) => format!("event: {name}\n{id}data: {}\n\n", escape::json(&data)),
        Err(error) => {
            limited!(Error, "viewers: {error}");
            String::new()
        }
    };
    text.into_bytes().into()
}
