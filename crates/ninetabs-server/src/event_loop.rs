//! One event loop for all connections that have left the pool.
//!
//! Models what Rack's hijack is for: the connection is taken out of the server's hands, so it
//! holds no thread, and what a thread did for each is done by one loop for all. What such a
//! loop must not do is known from those that came before it: sse-rails-engine writes to one
//! listener after the other and waits for each, so that one sleeping laptop freezes the
//! whole app; Action Cable keeps whatever a client does not read, forever, in memory. Here
//! no write waits, and what is kept for a connection is the one piece that is on its way out.
//!
//! The other end of a connection is a [`Peer`]: it is asked for its next piece when all
//! before has gone out, and what it says depends on a [`Feed`], which the loop owns and which
//! is refreshed before any peer is asked. So a piece that is meant for all is made once.
//!
//! Neither may block. A panic in one of them costs one piece: the loop goes on, and so does
//! the connection, unless its peer panics again and again (`connection`).

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

/// The waker's own token; connections are counted from 1.
const WAKER: Token = Token(0);

/// Why a peer is cut.
pub const FELL_BEHIND: &str = "it has fallen too far behind";
/// It took nothing for too long.
pub const READS_NOTHING: &str = "it reads nothing";
/// Its peer panicked again and again.
pub const PANICKED: &str = "its peer panicked";

/// What peers speak from. It lives on the loop's thread, and must not block.
pub trait Feed: 'static {
    /// How often every peer is asked, whether or not there is news: heartbeats and time limits are as exact as
    /// this.
    const SWEEP: Duration = Duration::from_millis(250);

    /// A peer's name in the log, with its article.
    const PEER: &'static str = "a listener";

    /// Takes in what has happened, for this many peers. True: some of them may have
    /// something to say now.
    fn refresh(&mut self, peers: usize) -> bool;
}

/// What a peer wants to be done.
pub enum NextPiece {
    /// Nothing at present.
    Wait,
    /// These bytes go out next.
    Send(Rc<[u8]>),
    /// This is all: the connection ends behind it.
    Last(Rc<[u8]>),
    /// It ends at once.
    Cut(&'static str),
}

/// The other end of a connection.
pub trait Peer<F>: Send {
    /// What is to go out next. Asked when all before has gone out, whenever the feed has
    /// news, and at every sweep.
    fn next(&mut self, feed: &mut F, now: Instant) -> NextPiece;

    /// Whether it is useless to wait for it, since what it is to be sent next is gone already.
    /// Asked while it does not read.
    fn has_fallen_behind(&self, _feed: &F) -> bool {
        false
    }

    /// Takes bytes that came. What it has to answer is asked for by [`Peer::next`].
    fn receive(&mut self, _feed: &mut F, _bytes: &[u8]) {}

    /// The last piece before it is cut, which goes out if no other is under way. Empty: none.
    fn cut(&mut self, _why: &'static str) -> Rc<[u8]> {
        Rc::from([])
    }

    /// The last piece when the server stops.
    fn goodbye(&mut self, feed: &mut F) -> Rc<[u8]>;
}

/// The counts of `/stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Counts {
    /// Connections that are open now.
    pub open: u64,
    /// All that ever were.
    pub joined: u64,
    /// Those that were cut, since they did not read or fell behind.
    pub cut: u64,
}

#[derive(Default)]
struct Counters {
    open: AtomicU64,
    joined: AtomicU64,
    cut: AtomicU64,
}

/// The loop's thread. It ends, after a goodbye to every peer, when this is stopped. When this is dropped it
/// ends at once, and all connections close.
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
    /// Those that the loop has not seen yet.
    arrived: Vec<(Detached, Box<dyn Peer<F>>)>,
    /// When the last goodbye has to be out; None while the loop is not to stop.
    stop_by: Option<Instant>,
    is_closed: bool,
}

/// Makes the loop look at its feed. Does not block.
pub struct Bell<F>(Arc<SharedLoop<F>>);

impl<F> Bell<F> {
    /// Wakes the loop. Does not block.
    pub fn ring(&self) {
        self.0.wake();
    }
}

impl<F: Feed> EventLoop<F> {
    /// Starts it with the feed that `make` makes on its thread. A connection that takes nothing for
    /// `stopped_after` is cut.
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

    /// Takes a connection in; it closes at once if the loop has ended. Does not block.
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

    /// What rings for it.
    pub fn bell(&self) -> Bell<F> {
        Bell(Arc::clone(&self.shared))
    }

    /// The counts of now.
    pub fn counts(&self) -> Counts {
        let Counters { open, joined, cut } = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { open: read(open), joined: read(joined), cut: read(cut) }
    }

    /// Tells it to say goodbye to every peer, the last one before `deadline`, and to end. Does not
    /// block; [`EventLoop::ended`] is disconnected when that is done.
    pub fn stop(&self, deadline: Instant) {
        self.shared.door().stop_by = Some(deadline);
        self.shared.wake();
    }

    /// Disconnected when its thread has ended.
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
        // Every change under this lock is one step, whole even after a panic.
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the event loop: {error}");
        }
    }
}

/// After the loop's end, and after a panic, no connection is taken in, since it would wait forever.
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
