//! The reactor: one thread that watches idle connections for bytes and deadlines.
//!
//! Models Puma::Reactor. It knows descriptors and deadlines, not HTTP: what is to be
//! done with a connection that wakes is a function that is handed in. Deadlines are
//! kept in order, so that ten thousand idle connections cost no more to look through
//! than one (Puma sorts a list at every wake-up).
//!
//! A connection is registered with the kernel once, when it is first watched, and told
//! of by edges: once for what has come since it was last read empty. Puma registers and
//! deregisters at each visit, which is two system calls and a wake-up of this thread for
//! each request. A connection therefore keeps its slot while a pool thread owns it, and
//! readiness that arrives meanwhile is stored in the slot. Its pool thread puts it back
//! under a lock, and wakes this thread only for what it must not sleep through.

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

/// The waker's own token; connections are counted from 1.
const WAKER: Token = Token(0);
/// How many events are taken from the kernel at once.
const EVENTS: usize = 1_024;

/// Whether the kernel is asked to report urgent data. A read stops in front of it, although more may have
/// come behind it. So a short read shows only here that nothing is left, and only until such a report.
pub(super) const REPORTS_URGENT_DATA: bool = cfg!(target_os = "linux");

#[cfg(target_os = "linux")]
const INTEREST: Interest = Interest::READABLE.add(Interest::PRIORITY);
#[cfg(not(target_os = "linux"))]
const INTEREST: Interest = Interest::READABLE;

/// What can be watched.
pub(super) trait Watched: Parked + Sized + Send + 'static {
    fn fd(&self) -> RawFd;
    /// Where it keeps the handle of its slot, from the first time that it is watched to its end.
    fn slot(&mut self) -> &mut Option<SlotHandle<Self>>;
}

/// Why something wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    Readable,
    Expired,
    /// The reactor closes: it watches only what lingers from now on.
    Shutdown,
}

/// What is to become of what woke.
pub(super) enum After<W> {
    /// It has been read empty, and waits for more.
    Watch(W),
    /// There may be more to read now; others come first.
    Again(W),
    /// Somebody else has it, or it is gone.
    Done,
}

/// The thread. When it is dropped everything that is watched is dropped, and the thread is
/// joined.
pub(super) struct Reactor<W: Watched> {
    shared: Arc<SharedReactor<W>>,
    /// Ends by [`Reactor::end`], since it must be woken for that.
    thread: StoppableThread,
}

/// A connection's claim on its slot in the reactor, parked or not. The slot is removed when this is dropped.
pub(super) struct SlotHandle<W: Watched> {
    shared: Weak<SharedReactor<W>>,
    token: usize,
}

struct SharedReactor<W> {
    state: Mutex<ReactorState<W>>,
    registry: Registry,
    waker: Waker,
    /// Notified when the thread has closed, or has ended.
    closed: Condvar,
}

impl<W: Watched> Reactor<W> {
    /// Starts it. `on_wake` is given what wakes; it must not block.
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

    /// Watches it from now on; it has been read empty. Hands it back when the reactor closes, or
    /// the kernel refuses to watch it.
    pub fn watch(&self, it: W) -> Result<(), W> {
        self.shared.put(it, Input::ReadEmpty, ReactorPhase::Open)
    }

    /// Like [`watch`](Self::watch), for a connection that was read empty after it was taken out. If the kernel
    /// has reported anything since, or the connection was never watched, it is handed back and must be read.
    /// This saves the system call that would find nothing.
    pub fn watch_unless_told(&self, it: W) -> Result<(), W> {
        self.shared.put_unless_told(it)
    }

    /// Watches a lingering connection until the reactor ends. It wakes at once.
    pub fn linger(&self, it: W) -> Result<(), W> {
        self.shared.put(it, Input::MoreToRead, ReactorPhase::Closed)
    }

    /// Takes out the connection that has waited longest, of those that do not linger.
    pub fn take_longest_waiting(&self) -> Option<W> {
        self.shared.state().take_longest(WaitsFor::ARequest)
    }

    /// Takes out the connection that has lingered longest.
    pub fn take_longest_lingering(&self) -> Option<W> {
        self.shared.state().take_longest(WaitsFor::ItsEnd)
    }

    /// Lets go of it for good: from now on somebody else watches its descriptor.
    pub fn forget(&self, it: &mut W) {
        if it.slot().take().is_some()
            && let Err(error) = self.shared.registry.deregister(&mut SourceFd(&it.fd()))
        {
            log::debug!("a connection was not watched: {error}");
        }
    }

    /// Whether the kernel has told that its peer has closed, or stopped sending; None of what
    /// is not watched yet. It is known as soon as the thread has heard of it.
    pub fn has_closed(&self, it: &mut W) -> Option<bool> {
        let token = it.slot().as_ref()?.token;
        let state = self.shared.state();
        state.slots.get(&token).map(|slot| slot.has_closed)
    }

    /// The most that were watched since this was last asked (`reactor_max`).
    pub fn take_most(&self) -> usize {
        let mut state = self.shared.state();
        let here = state.deadlines.len();
        mem::replace(&mut state.most, here)
    }

    /// Wakes every watched connection for [`Wake::Shutdown`]. From then on only lingering ones are
    /// watched. Blocks until all have been woken.
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

    /// Ends the reactor as soon as nothing is watched, and at the latest after this time. Connections
    /// that are still watched then are dropped. Blocks until the thread has ended.
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
            // The connection is being dropped, so nothing but a stored report is lost here.
            let _away = shared.state().slots.remove(&self.token);
        }
    }
}

impl<W: Watched> SharedReactor<W> {
    /// Hands it back if the end has come further than to this phase.
    fn put(self: &Arc<Self>, mut it: W, input: Input, until: ReactorPhase) -> Result<(), W> {
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
                // The slot comes first: from here on the kernel may report the connection.
                state.slots.insert(token, ReactorSlot::new());
                *it.slot() = Some(SlotHandle { shared: Arc::downgrade(self), token });
                let registered = self.registry.register(&mut SourceFd(&it.fd()), Token(token), INTEREST);
                if let Err(error) = registered {
                    drop(state);
                    limited!(Error, "a connection cannot be watched: {error}");
                    return Err(it);
                }
                token
            }
        };
        let is_to_wake = state.put(token, it, input);
        drop(state);
        if is_to_wake {
            self.wake();
        }
        Ok(())
    }

    fn put_unless_told(&self, mut it: W) -> Result<(), W> {
        let Some(token) = it.slot().as_ref().map(|slot| slot.token) else { return Err(it) };
        let mut state = self.state();
        if state.phase > ReactorPhase::Open || state.has_been_told(token) {
            drop(state);
            return Err(it);
        }
        let is_to_wake = state.put(token, it, Input::ReadEmpty);
        drop(state);
        if is_to_wake {
            self.wake();
        }
        Ok(())
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("the reactor cannot be woken: {error}");
        }
    }

    fn state(&self) -> MutexGuard<'_, ReactorState<W>> {
        // Each holder leaves it whole, or has panicked for want of memory.
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
                    return Err(format!("it cannot poll: {error}"));
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

    /// Answers the phase in which it looked.
    fn who_wakes(&self, now: Instant, events: &Events, awake: &mut Vec<(W, Wake)>) -> ReactorPhase {
        let mut state = self.shared.state();
        // First, so that a connection which always has more to read is asked whether its time is over.
        while let Some(it) = state.take_expired(now) {
            awake.push((it, Wake::Expired));
        }
        let again = mem::take(&mut state.again);
        for token in again {
            awake.extend(state.take(token).map(|it| (it, Wake::Readable)));
        }
        for event in events {
            // The waker does not have a slot.
            let has_closed = event.is_read_closed() || event.is_error();
            let told = if has_closed { KernelReport::Closed } else { KernelReport::Readable };
            let token = event.token().0;
            if event.is_priority() {
                state.note_urgent(token);
            }
            awake.extend(state.tell(token, told).map(|it| (it, Wake::Readable)));
        }
        if state.phase == ReactorPhase::Closing {
            let here: Vec<usize> = state.deadlines.iter().map(|(_, token)| *token).collect();
            awake.extend(here.into_iter().filter_map(|token| Some((state.take(token)?, Wake::Shutdown))));
        }
        state.phase
    }

    fn wake(&mut self, it: W, why: Wake) {
        let not_taken = match (self.on_wake)(it, why) {
            After::Watch(it) => self.shared.put(it, Input::ReadEmpty, ReactorPhase::Closed).err(),
            After::Again(it) => self.shared.put(it, Input::MoreToRead, ReactorPhase::Closed).err(),
            After::Done => None,
        };
        // The kernel refuses to watch it.
        drop(not_taken);
    }
}

/// However the thread ends, nothing waits for it, and what is watched is dropped.
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
