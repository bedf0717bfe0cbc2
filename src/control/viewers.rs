//! Those who watch: EventSources of the control server's own pages.
//!
//! A viewer's connection is detached, so it holds no pool thread; one loop, which
//! is there only while there are viewers, writes to all of them and waits for none.
//! Every [`TICK`] it sends what is new on the timeline (`event: moments`, whose id is
//! a word of this run and the number of the last), and every [`STATE_EVERY`] the numbers of that moment
//! (`event: state`), which are also the heartbeat. They are a look: nothing that
//! pumactl asks for is reset by it.
//!
//! The next event is made for a viewer when the one before has gone out, so what is
//! kept for each is bounded by one event. Who takes nothing for [`STOPPED_AFTER`] is
//! dropped. [`ninetabs_server::timeline::Timeline::follow`] decides what a viewer gets next: new moments, or the past
//! and the state if it is new or has missed moments.

use std::collections::HashMap;
use std::io::{self, Write};
use std::mem;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::Serialize;
use socket2::SockRef;

use super::stats;
use super::view::View;
use ninetabs_server::escape;
use ninetabs_server::log_limit::limited;
use ninetabs_server::response::Detached;
use ninetabs_server::services;
use ninetabs_server::{Request, Response};

/// The most that watch at a time; the next is told 503.
const MAX_VIEWERS: usize = 16;
/// How often the loop writes.
const TICK: Duration = Duration::from_millis(100);
/// How often the numbers are sent.
const STATE_EVERY: Duration = Duration::from_millis(250);
/// How often the kernel is asked for the listen queue: its table is long on a busy machine.
const LISTEN_QUEUE_EVERY: Duration = Duration::from_secs(1);
/// How long a viewer may take nothing.
const STOPPED_AFTER: Duration = Duration::from_secs(10);
/// How many events of moments a viewer is sent in one tick.
const PIECES_A_TICK: usize = 8;
/// Bytes that the kernel keeps for a viewer.
const SEND_BUFFER: usize = 128 * 1024;
/// What every stream begins with: where the connection is lost, come back after a second.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// The viewers. When this is dropped they are all let go.
pub(super) struct Viewers {
    shared: Arc<SharedViewers>,
}

struct SharedViewers {
    view: View,
    room: Mutex<Room>,
    changed: Condvar,
}

#[derive(Default)]
struct Room {
    taken: usize,
    /// Those whom the loop has not seen yet.
    arrived: Vec<Viewer>,
    is_running: bool,
    is_closing: bool,
}

/// One of [`MAX_VIEWERS`] places; given back when dropped.
struct Seat(Arc<SharedViewers>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.room().taken -= 1;
    }
}

impl Viewers {
    pub fn new(view: View) -> Self {
        Viewers { shared: Arc::new(SharedViewers { view, room: Mutex::default(), changed: Condvar::new() }) }
    }

    /// Answers a request for the events: the connection leaves the pool, or 503.
    pub fn admit(&self, request: &Request) -> Response {
        let Some(seat) = self.seat() else {
            let text = format!("{MAX_VIEWERS} viewers watch already; close one of their pages");
            return Response::line(StatusCode::SERVICE_UNAVAILABLE, &text);
        };
        let last_event_id = request.header("last-event-id").and_then(|id| self.shared.seq_of(id));
        let take_over = move |detached| SharedViewers::join(seat, detached, last_event_id);
        Response::detach(take_over)
            .with_header("content-type", "text/event-stream")
            .with_header("cache-control", "no-cache")
    }

    fn seat(&self) -> Option<Seat> {
        let mut room = self.shared.room();
        if room.taken == MAX_VIEWERS {
            return None;
        }
        room.taken += 1;
        Some(Seat(Arc::clone(&self.shared)))
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        let mut room = self.shared.room();
        room.is_closing = true;
        let arrived = mem::take(&mut room.arrived);
        drop(room);
        drop(arrived);
        self.shared.changed.notify_all();
    }
}

impl SharedViewers {
    fn room(&self) -> MutexGuard<'_, Room> {
        // Every change under this lock is one assignment, whole even after a panic.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the events up to this moment.
    fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.view.run)
    }

    /// The moment of an id. None if another server gave it, whose moments have other numbers.
    fn seq_of(&self, id: &str) -> Option<u64> {
        id.strip_prefix(&*self.view.run)?.strip_prefix('-')?.parse().ok()
    }

    /// Takes a viewer in, and starts the loop for the first one.
    fn join(seat: Seat, detached: Detached, last_event_id: Option<u64>) {
        let shared = Arc::clone(&seat.0);
        if let Err(error) = SockRef::from(detached.stream()).set_send_buffer_size(SEND_BUFFER) {
            log::debug!("a viewer's buffer stays as it is: {error}");
        }
        let viewer = Viewer::new(seat, detached, last_event_id);
        let mut room = shared.room();
        if room.is_closing {
            // Its seat is given back under the same lock.
            drop(room);
            return drop(viewer);
        }
        room.arrived.push(viewer);
        if !room.is_running {
            let run = Arc::clone(&shared);
            let started = shared.view.services.spawn("viewers", move |_| run.run());
            match started {
                Ok(thread) => {
                    thread.leave();
                    room.is_running = true;
                }
                Err(error) => {
                    let arrived = mem::take(&mut room.arrived);
                    drop(room);
                    drop(arrived);
                    return limited!(Error, "cannot start the viewers thread: {error}");
                }
            }
        }
        drop(room);
        shared.changed.notify_all();
    }

    /// The loop, until nobody watches.
    fn run(self: Arc<Self>) -> Result<(), String> {
        let mut viewers: Vec<Viewer> = Vec::new();
        let mut state = ViewersClock::new(STATE_EVERY);
        let mut listen_queue = ViewersClock::new(LISTEN_QUEUE_EVERY);
        let mut waiting_outside = None;
        loop {
            let is_new = {
                let mut room = self.room();
                if room.is_closing || (viewers.is_empty() && room.arrived.is_empty()) {
                    room.is_running = false;
                    return Ok(());
                }
                viewers.append(&mut room.arrived);
                viewers.iter().any(|viewer| viewer.is_new)
            };
            // A panic costs one state, or one viewer that would be sent the same again.
            let look = || {
                self.view.server.look_at_todo();
                if listen_queue.is_due() {
                    waiting_outside = stats::listen_queue(self.view.server.addr());
                }
                let is_due = state.is_due() || is_new;
                is_due.then(|| event("state", None, &self.view.state(waiting_outside)))
            };
            let state = services::piece(format_args!("a look for the viewers"), look).flatten();
            let mut pieces = Pieces { shared: &self, made: HashMap::new() };
            viewers.retain_mut(|viewer| {
                let serve = || viewer.serve(state.as_deref(), &mut pieces);
                match services::piece(format_args!("a viewer"), serve) {
                    Some(Ok(())) => true,
                    Some(Err(error)) => {
                        log::debug!("a viewer left: {error}");
                        false
                    }
                    None => false,
                }
            });
            let room = self.room();
            // Whoever comes is served at once.
            let idle = |room: &mut Room| room.arrived.is_empty() && !room.is_closing;
            drop(self.changed.wait_timeout_while(room, TICK, idle));
        }
    }
}

/// Says once in a while that it is time.
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

/// The pieces of this tick, by the last moment that a viewer has: encoded once for all of them.
struct Pieces<'a> {
    shared: &'a SharedViewers,
    made: HashMap<Option<u64>, Option<Piece>>,
}

#[derive(Clone)]
struct Piece {
    text: Rc<str>,
    last: u64,
}

impl Pieces<'_> {
    fn after(&mut self, seq: Option<u64>) -> Option<Piece> {
        let make = || {
            let news = self.shared.view.timeline.follow(seq)?;
            let last = news.last_seq();
            let text = event("moments", Some(&self.shared.id(last)), &news).into();
            Some(Piece { text, last })
        };
        self.made.entry(seq).or_insert_with(make).clone()
    }
}

struct Viewer {
    detached: Detached,
    /// What has not gone out yet: one event, or what comes first.
    left: Vec<u8>,
    /// The newest moment that was put in there; None before the first.
    seq: Option<u64>,
    is_new: bool,
    /// When it last took something, or had nothing to take.
    moved: Instant,
    _seat: Seat,
}

impl Viewer {
    fn new(seat: Seat, detached: Detached, last_event_id: Option<u64>) -> Self {
        let left = RETRY.to_vec();
        Viewer { detached, left, seq: last_event_id, is_new: true, moved: Instant::now(), _seat: seat }
    }

    /// Writes what there is room for. An error is its end.
    fn serve(&mut self, state: Option<&str>, pieces: &mut Pieces) -> io::Result<()> {
        let is_new = mem::take(&mut self.is_new);
        if let Some(state) = state
            && (is_new || self.left.is_empty())
        {
            self.left.extend_from_slice(state.as_bytes());
        }
        for _ in 0..PIECES_A_TICK {
            self.flush()?;
            if !self.left.is_empty() {
                break;
            }
            let Some(piece) = pieces.after(self.seq) else { break };
            self.left.extend_from_slice(piece.text.as_bytes());
            self.seq = Some(piece.last);
        }
        if self.moved.elapsed() > STOPPED_AFTER {
            return Err(io::Error::other(format!("it read nothing for {STOPPED_AFTER:?}")));
        }
        Ok(())
    }

    /// Writes the rest of the current event as far as the kernel takes it. Without a rest there is no call.
    fn flush(&mut self) -> io::Result<()> {
        let mut taken = 0;
        let written = loop {
            if taken == self.left.len() {
                break Ok(());
            }
            match self.detached.stream().write(&self.left[taken..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => taken += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.left.drain(..taken);
        if taken > 0 || self.left.is_empty() {
            self.moved = Instant::now();
        }
        written
    }
}

fn event(name: &str, id: Option<&str>, data: &impl Serialize) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    match serde_json::to_string(data) {
        Ok(data) => format!("event: {name}\n{id}data: {}\n\n", escape::json(&data)),
        Err(error) => {
            limited!(Error, "viewers: {error}");
            String::new()
        }
    }
}
