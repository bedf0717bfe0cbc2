//! The reactor: one thread that watches connections without a complete request for bytes and deadlines.
//!
//! Models Puma::Reactor. It deals with descriptors and deadlines, not with HTTP: connections that wake are passed to a
//! callback. Deadlines are kept sorted, so that a wake-up with ten thousand idle connections costs about as much as
//! with one. (Puma sorts a list at every wake-up.)
//!
//! A connection is registered with the kernel once, when it is first watched, and edge-triggered: after a read has
//! found nothing more, the kernel reports new bytes once. Puma registers and deregisters a connection each time it
//! enters and leaves the reactor, which costs two system calls and a wake-up of the reactor's thread per request. Here
//! a connection keeps its slot while a pool thread owns it, and readiness reported in that time is stored in the slot.
//! The pool thread parks the connection again under a lock, and wakes the reactor's thread only if the reactor would
//! otherwise sleep for too long.

use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::reactor_state::{Input, KernelReport, Parked, ReactorPhase, ReactorSlot, ReactorState, WaitsFor};
use crate::log_limit::limited;
use crate::services::Services;
use crate::threads::{SpawnError, StoppableThread};

/// The waker's token. The tokens of connections start at 1.
const WAKER: Token = Token(0);
/// The maximum number of events per poll.
const EVENTS: usize = 1_024;

/// Whether the kernel reports urgent data. A read stops before urgent data even if more bytes have arrived after it. A
/// short read therefore proves that nothing is left only if the kernel reports urgent data, and has not reported any on
/// this connection.
pub(super) const REPORTS_URGENT_DATA: bool = cfg!(target_os = "linux");

#[cfg(target_os = "linux")]
const INTEREST: Interest = Interest::READABLE.add(Interest::PRIORITY);
#[cfg(not(target_os = "linux"))]
const INTEREST: Interest = Interest::READABLE;

/// A connection that the reactor can watch.
pub(super) trait Watched: Parked + Sized + Send + 'static {
    fn fd(&self) -> RawFd;
    /// The handle of the connection's slot. It is set when the connection is first watched.
    fn slot(&mut self) -> &mut Option<SlotHandle<Self>>;
}

/// Why a connection wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    Readable,
    Expired,
    /// The reactor is closing, and will watch only lingering connections.
    Shutdown,
}

/// What to do with a connection that woke.
pub(super) enum After<W> {
    /// Watch it: everything has been read, and it waits for more.
    Watch(W),
    /// Watch it, or wake it again if the kernel has reported anything about it that a short read does not cover.
    WatchUnlessTold(W),
    /// Wake it again, after other connections: there may be more to read now.
    Again(W),
    /// Nothing: it has a new owner or has been closed.
    Done,
}

/// The reactor's thread. When this is dropped, all watched connections are dropped and the thread is joined.
pub(super) struct Reactor<W: Watched> {
    shared: Arc<SharedReactor<W>>,
    /// Ended by [`Reactor::end`], which also wakes it.
    thread: StoppableThread,
}

/// A connection's slot in the reactor, whether the connection is parked or not. The slot is removed when this
/// is dropped.
pub(super) struct SlotHandle<W: Watched> {
    shared: Weak<SharedReactor<W>>,
    token: usize,
}

struct SharedReactor<W> {
    state: Mutex<ReactorState<W>>,
    registry: Registry,
    waker: Waker,
    /// Notified when the reactor has closed, and when the thread has ended.
    closed: Condvar,
}

impl<W: Watched> Reactor<W> {
    /// Starts the thread. `on_wake` is called with each connection that wakes. It must not block,
    /// except to write a large body to its temporary file.
    pub fn start(
        name: &str,
        services: &Services,
        on_wake: impl FnMut(W, Wake) -> After<W> + Send + 'static,
    ) -> Result<Self, SpawnError> {
        let refused = SpawnError::of(name);
        let poll = Poll::new().map_err(&refused)?;
        let shared = Arc::new(SharedReactor {
            state: Mutex::new(ReactorState::new()),
            registry: poll.registry().try_clone().map_err(&refused)?,
            waker: Waker::new(poll.registry(), WAKER).map_err(&refused)?,
            closed: Condvar::new(),
        });
        let mut run = ReactorThread { poll, shared: Arc::clone(&shared), on_wake };
        let thread = services.spawn(name, move |_| run.run())?;
        Ok(Reactor { shared, thread })
    }

    /// Watches a connection from which everything has been read. Returns the connection if the reactor has closed, or
    /// if the kernel cannot watch it.
    pub fn watch(&self, it: W) -> Result<(), W> {
        self.shared.put(it, Input::ReadEmpty, ReactorPhase::Open)
    }

    /// Like [`watch`](Self::watch), for a connection from which everything has been read since it was taken out. If the
    /// kernel has reported anything in that time, or the connection was never watched, it is returned and must be read.
    /// Otherwise this saves a read that would find nothing.
    pub fn watch_unless_told(&self, it: W) -> Result<(), W> {
        self.shared.put_unless_told(it)
    }

    /// Watches a lingering connection until the reactor ends. The connection wakes immediately.
    pub fn linger(&self, it: W) -> Result<(), W> {
        self.shared.put(it, Input::MoreToRead, ReactorPhase::Closed)
    }

    /// Removes the connection that has waited longest. Lingering connections do not count.
    pub fn take_longest_waiting(&self) -> Option<W> {
        self.shared.state().take_longest(WaitsFor::ARequest)
    }

    /// Removes the connection that has lingered longest.
    pub fn take_longest_lingering(&self) -> Option<W> {
        self.shared.state().take_longest(WaitsFor::ItsEnd)
    }

    /// Removes a connection for good, because its descriptor will be watched elsewhere.
    pub fn forget(&self, it: &mut W) {
        if it.slot().take().is_some()
            && let Err(error) = self.shared.registry.deregister(&mut SourceFd(&it.fd()))
        {
            log::debug!("cannot stop watching a connection: {error}");
        }
    }

    /// Whether the kernel has reported that the peer has closed or half-closed the connection. `None` if the
    /// connection has not been watched yet. The report is known as soon as the thread has received it.
    pub fn has_closed(&self, it: &mut W) -> Option<bool> {
        let token = it.slot().as_ref()?.token;
        let state = self.shared.state();
        state.slots.get(&token).map(|slot| slot.has_closed)
    }

    /// The maximum number of watched connections since this was last called (`reactor_max`).
    pub fn take_most(&self) -> usize {
        let mut state = self.shared.state();
        let here = state.deadlines.len();
        mem::replace(&mut state.most, here)
    }

    /// Wakes every watched connection with [`Wake::Shutdown`]. After that, only lingering connections are watched.
    /// Blocks until all connections have been woken.
    pub fn close(&self) {
        let mut state = self.shared.state();
        if state.phase == ReactorPhase::Open {
            state.phase = ReactorPhase::Closing;
            self.shared.wake();
        }
        while state.phase < ReactorPhase::Closed {
            state = self.shared.closed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the reactor as soon as nothing is watched, and no later than after this time. Connections that are still
    /// watched at that time are dropped. Blocks until the thread has ended.
    pub fn end(&self, within: Duration) {
        self.close();
        self.shared.state().ends = Some(Instant::now() + within);
        self.shared.wake();
        self.thread.join();
    }
}

impl<W: Watched> Drop for Reactor<W> {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl<W: Watched> Drop for SlotHandle<W> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            // The connection is being dropped, so its slot contains at most a stored report.
            let _away = shared.state().slots.remove(&self.token);
        }
    }
}

impl<W: Watched> SharedReactor<W> {
    /// Parks a connection, and wakes the thread if necessary. Returns the connection if the reactor is past the phase
    /// `until`, or if the kernel cannot watch it.
    fn put(self: &Arc<Self>, it: W, input: Input, until: ReactorPhase) -> Result<(), W> {
        let is_to_wake = self.park(it, input, until)?;
        if is_to_wake {
            self.wake();
        }
        Ok(())
    }

    /// Like [`put`](Self::put), but returns whether the thread must be woken instead of waking it. The thread itself
    /// looks at everything that is parked before it sleeps, so it does not have to wake itself.
    fn park(self: &Arc<Self>, mut it: W, input: Input, until: ReactorPhase) -> Result<bool, W> {
        let mut state = self.state();
        if state.phase > until {
            drop(state);
            return Err(it);
        }
        let token = match it.slot() {
            Some(slot) => slot.token,
            None => {
                state.next += 1;
                let token = state.next;
                // The slot is created first, because the kernel may report the connection as soon as it is
                // registered.
                state.slots.insert(token, ReactorSlot::new());
                *it.slot() = Some(SlotHandle { shared: Arc::downgrade(self), token });
                let registered = self.registry.register(&mut SourceFd(&it.fd()), Token(token), INTEREST);
                if let Err(error) = registered {
                    drop(state);
                    limited!(Error, "cannot watch a connection: {error}");
                    return Err(it);
                }
                token
            }
        };
        Ok(state.put(token, it, input))
    }

    fn put_unless_told(&self, it: W) -> Result<(), W> {
        let is_to_wake = self.park_unless_told(it)?;
        if is_to_wake {
            self.wake();
        }
        Ok(())
    }

    fn park_unless_told(&self, mut it: W) -> Result<bool, W> {
        let Some(token) = it.slot().as_ref().map(|slot| slot.token) else { return Err(it) };
        let mut state = self.state();
        if state.phase > ReactorPhase::Open || state.has_been_told(token) {
            drop(state);
            return Err(it);
        }
        Ok(state.put(token, it, Input::ReadEmpty))
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("cannot wake the reactor: {error}");
        }
    }

    fn state(&self) -> MutexGuard<'_, ReactorState<W>> {
        // Changes under this lock cannot panic halfway, except when memory runs out.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct ReactorThread<W: Watched, F> {
    poll: Poll,
    shared: Arc<SharedReactor<W>>,
    on_wake: F,
}

impl<W: Watched, F: FnMut(W, Wake) -> After<W>> ReactorThread<W, F> {
    fn run(&mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(EVENTS);
        let mut awake = Vec::new();
        loop {
            let timeout = self.shared.state().sleep();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(format!("cannot poll for events: {error}"));
                }
                _ => {}
            }
            let now = Instant::now();
            let phase = self.who_wakes(now, &events, &mut awake);
            for (it, why) in awake.drain(..) {
                self.wake(it, why);
            }
            let mut state = self.shared.state();
            if phase == ReactorPhase::Closing {
                state.phase = ReactorPhase::Closed;
                self.shared.closed.notify_all();
            }
            if state.is_to_end(now) {
                return Ok(());
            }
        }
    }

    /// Collects the connections that wake. Returns the current phase.
    fn who_wakes(&self, now: Instant, events: &Events, awake: &mut Vec<(W, Wake)>) -> ReactorPhase {
        let mut state = self.shared.state();
        // Expired connections come first, so that a connection that always has more to read can time out.
        while let Some(it) = state.take_expired(now) {
            awake.push((it, Wake::Expired));
        }
        let again = mem::take(&mut state.again);
        for token in again {
            awake.extend(state.take(token).map(|it| (it, Wake::Readable)));
        }
        for event in events {
            // The waker's token does not belong to a slot, so its events are ignored.
            let has_closed = event.is_read_closed() || event.is_error();
            let told = if has_closed { KernelReport::Closed } else { KernelReport::Readable };
            let token = event.token().0;
            if event.is_priority() {
                state.note_urgent(token);
            }
            awake.extend(state.tell(token, told).map(|it| (it, Wake::Readable)));
        }
        if state.phase == ReactorPhase::Closing {
            // No connection waits for a request after this, whatever else it woke for.
            awake.iter_mut().for_each(|(_, why)| *why = Wake::Shutdown);
            let here: Vec<usize> = state.deadlines.iter().map(|(_, token)| *token).collect();
            awake.extend(here.into_iter().filter_map(|token| Some((state.take(token)?, Wake::Shutdown))));
        }
        state.phase
    }

    fn wake(&mut self, it: W, why: Wake) {
        let (it, input) = match (self.on_wake)(it, why) {
            After::Watch(it) => (it, Input::ReadEmpty),
            After::WatchUnlessTold(it) => match self.shared.park_unless_told(it) {
                Ok(_) => return,
                Err(it) => (it, Input::MoreToRead),
            },
            After::Again(it) => (it, Input::MoreToRead),
            After::Done => return,
        };
        // The thread itself need not be woken. The connection is returned only if the kernel cannot watch it, and is
        // then dropped.
        drop(self.shared.park(it, input, ReactorPhase::Closed));
    }
}

/// However the thread ends, its callers stop waiting, and watched connections are dropped.
impl<W: Watched, F> Drop for ReactorThread<W, F> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.phase = ReactorPhase::Ended;
        let here: Vec<usize> = state.deadlines.iter().map(|(_, token)| *token).collect();
        let all: Vec<W> = here.into_iter().filter_map(|token| state.take(token)).collect();
        drop(state);
        self.shared.closed.notify_all();
        drop(all);
    }
}

#[cfg(test)]
mod tests;
