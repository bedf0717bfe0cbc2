//! An event loop: one thread for any number of connections that have left the pool.
//!
//! The purpose is that of Rack's hijack: a connection leaves the server and no longer holds a thread, and a single loop
//! serves many such connections. Earlier designs show what to avoid. sse-rails-engine writes to its listeners one after
//! another and blocks on each, so one sleeping laptop freezes the whole app. Action Cable keeps everything that a
//! client has not read yet in memory, without a limit. In this loop, writes never block, and at most one piece is
//! stored per connection: the piece that is being sent.
//!
//! The other end of a connection is a [`Peer`]. When one piece has been sent completely, the loop asks the peer for the
//! next one. The peer takes the content from a [`Feed`], which the loop owns and refreshes before it asks any peer. A
//! piece for all peers is therefore built only once.
//!
//! Neither a peer nor a feed may block. If one of them panics, the loop continues. A peer is cut off if it panics while
//! it receives bytes, because it may be unable to interpret later ones, or repeatedly while it sends. Otherwise only
//! the piece is lost (see `connection`).

mod connection;
mod goodbyes;
mod run;

use std::convert::Infallible;
use std::mem;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mio::{Poll, Token, Waker};

use crate::response::Detached;
use crate::services::Services;
use crate::threads::{SpawnError, StoppableThread};

/// The waker's token. The tokens of connections start at 1.
const WAKER: Token = Token(0);

/// A reason to cut off a peer: the data that it needs next has been discarded.
pub const FELL_BEHIND: &str = "it has fallen too far behind";
/// A reason to cut off a peer: it has read nothing for too long.
pub const READS_NOTHING: &str = "it has stopped reading";
/// A reason to cut off a peer: it has panicked while it received, or repeatedly while it sent.
pub const PANICKED: &str = "its handler panicked";

/// The source from which peers take their content. It lives on the loop's thread and must not block.
pub trait Feed: 'static {
    /// The interval at which every peer is asked even without news from the feed. Heartbeats and time limits are as
    /// precise as this interval.
    const SWEEP: Duration = Duration::from_millis(250);

    /// The name of a peer in the log, with its article.
    const PEER: &'static str = "a listener";

    /// Collects everything that has happened since the last call, for this many peers. Returns `true` if some of the
    /// peers may now have something to send.
    fn refresh(&mut self, peers: usize) -> bool;
}

/// What a peer returns when it is asked for its next piece.
pub enum NextPiece {
    /// There is nothing to send at present.
    Wait,
    /// Send these bytes next.
    Send(Rc<[u8]>),
    /// Send these bytes, then end the connection.
    Last(Rc<[u8]>),
    /// End the connection immediately, for this reason.
    Cut(&'static str),
}

/// The other end of a connection.
pub trait Peer<F>: Send {
    /// Returns what to send next. Called when the previous piece has been sent completely. Until there is a next piece,
    /// it is called again whenever the feed has news, the kernel reports something about the connection, and at every
    /// sweep.
    fn next(&mut self, feed: &mut F, now: Instant) -> NextPiece;

    /// Returns whether the data that this peer needs next has been discarded, so that waiting for the peer is
    /// pointless. Called while the peer does not read.
    fn has_fallen_behind(&self, _feed: &F) -> bool {
        false
    }

    /// Handles received bytes. To answer them, return a piece from [`Peer::next`].
    fn receive(&mut self, _feed: &mut F, _bytes: &[u8]) {}

    /// Returns the last piece to send before the connection is cut off. It is not sent if it is empty, or if another
    /// piece has been sent only in part.
    fn cut(&mut self, _why: &'static str) -> Rc<[u8]> {
        Rc::from([])
    }

    /// Returns the last piece when the server stops.
    fn goodbye(&mut self, feed: &mut F) -> Rc<[u8]>;
}

/// The statistics of a loop, for `/stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Counts {
    /// Connections that are open now.
    pub open: u64,
    /// Connections that have joined since the start.
    pub joined: u64,
    /// Connections that were cut off because their peers did not read, fell behind, or panicked.
    pub cut: u64,
}

#[derive(Default)]
struct Counters {
    open: AtomicU64,
    joined: AtomicU64,
    cut: AtomicU64,
}

/// The loop's thread. When it is stopped, it says goodbye to every peer and then ends. When it is dropped, it ends
/// immediately, and all connections close.
pub struct EventLoop<F> {
    shared: Arc<SharedLoop<F>>,
    thread: StoppableThread,
}

struct SharedLoop<F> {
    door: Mutex<Door<F>>,
    waker: Waker,
    counters: Counters,
}

struct Door<F> {
    /// Connections that the loop has not picked up yet.
    arrived: Vec<(Detached, Box<dyn Peer<F>>)>,
    /// The deadline for sending the last goodbye. `None` until the loop is stopped.
    stop_by: Option<Instant>,
    is_closed: bool,
}

/// Wakes the loop from another thread, so that it refreshes its feed.
pub struct Bell<F>(Arc<SharedLoop<F>>);

impl<F> Bell<F> {
    /// Wakes the loop. Does not block.
    pub fn ring(&self) {
        self.0.wake();
    }
}

impl<F: Feed> EventLoop<F> {
    /// Starts the loop's thread. `make` creates the feed on that thread. A connection that reads nothing for
    /// `stopped_after` is cut off.
    pub fn start(
        name: &str,
        services: &Services,
        stopped_after: Duration,
        make: impl FnOnce() -> F + Send + 'static,
    ) -> Result<EventLoop<F>, SpawnError> {
        let refused = SpawnError::of(name);
        let poll = Poll::new().map_err(&refused)?;
        let shared = Arc::new(SharedLoop {
            door: Mutex::new(Door { arrived: Vec::new(), stop_by: None, is_closed: false }),
            waker: Waker::new(poll.registry(), WAKER).map_err(&refused)?,
            counters: Counters::default(),
        });
        let run_shared = Arc::clone(&shared);
        let thread = services.spawn(name, move |stop| {
            let _closed = Closed(Arc::clone(&run_shared));
            run::LoopThread::new(poll, run_shared, make(), stopped_after).run(stop)
        })?;
        Ok(EventLoop { shared, thread })
    }

    /// Adds a connection, or drops it if the loop has ended. Does not block.
    pub fn join(&self, detached: Detached, peer: Box<dyn Peer<F>>) {
        let mut door = self.shared.door();
        if door.is_closed {
            drop(door);
            return drop(detached);
        }
        door.arrived.push((detached, peer));
        drop(door);
        self.shared.wake();
    }

    /// Returns a handle that wakes the loop.
    pub fn bell(&self) -> Bell<F> {
        Bell(Arc::clone(&self.shared))
    }

    /// Returns the current statistics.
    pub fn counts(&self) -> Counts {
        let Counters { open, joined, cut } = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { open: read(open), joined: read(joined), cut: read(cut) }
    }

    /// Asks the loop to say goodbye to every peer before `deadline`, and then to end. Does not block: wait on
    /// [`EventLoop::ended`], which is disconnected when the thread has ended.
    pub fn stop(&self, deadline: Instant) {
        self.shared.door().stop_by = Some(deadline);
        self.shared.wake();
    }

    /// Disconnected when the loop's thread has ended.
    pub fn ended(&self) -> &Receiver<Infallible> {
        self.thread.ended()
    }
}

impl<F> Drop for EventLoop<F> {
    fn drop(&mut self) {
        self.thread.stop();
        self.shared.wake();
        self.thread.join();
    }
}

impl<F> SharedLoop<F> {
    fn door(&self) -> MutexGuard<'_, Door<F>> {
        // Every change under this lock is a single step, so the data is consistent even after a panic.
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the event loop: {error}");
        }
    }
}

/// Makes the loop refuse connections once it has ended or panicked. Otherwise a connection that joined later would wait
/// forever.
struct Closed<F>(Arc<SharedLoop<F>>);

impl<F> Drop for Closed<F> {
    fn drop(&mut self) {
        let mut door = self.0.door();
        door.is_closed = true;
        let arrived = mem::take(&mut door.arrived);
        drop(door);
        drop(arrived);
        self.0.counters.open.store(0, Ordering::Relaxed);
    }
}
