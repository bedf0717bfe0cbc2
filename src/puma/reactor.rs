//! The reactor: one thread that watches idle connections for bytes and deadlines.
//!
//! Models Puma::Reactor. It knows descriptors and deadlines, not HTTP: what is to be
//! done with a connection that wakes is a function that is handed in. Deadlines are
//! kept in order, so that ten thousand idle connections cost no more to look through
//! than one (Puma sorts a list at every wake-up).

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

/// The waker's own token; connections are counted from 1.
const WAKER: Token = Token(0);
/// How many events are taken from the kernel at once.
const EVENTS: usize = 1_024;

/// What can be watched.
pub(super) trait Watched: Send + 'static {
    fn fd(&self) -> RawFd;
    /// When it has waited long enough.
    fn deadline(&self) -> Instant;
}

/// Why something wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    Readable,
    Expired,
    /// The reactor ends.
    Shutdown,
}

/// The thread. When it is dropped everything that is watched wakes for a last time,
/// and the thread is joined.
pub(super) struct Reactor<W: Watched> {
    // Dropped first: its end is the order to stop.
    inbox: Option<Sender<W>>,
    waker: Arc<Waker>,
    watched: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Watched> Reactor<W> {
    /// Starts it. `on_wake` gets back what wakes, and returns it if it is to be
    /// watched further; it must not block.
    pub fn start(
        name: String,
        on_wake: impl FnMut(W, Wake) -> Option<W> + Send + 'static,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (inbox, receiver) = unbounded();
        let (watched, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut run = Run {
            poll,
            inbox: receiver,
            on_wake,
            entries: HashMap::new(),
            deadlines: BTreeSet::new(),
            next: 1,
            watched: Arc::clone(&watched),
            most: Arc::clone(&most),
        };
        let thread = thread::Builder::new().name(name).spawn(move || run.run())?;
        Ok(Reactor { inbox: Some(inbox), waker, watched, most, thread: Some(thread) })
    }

    /// Watches it from now on; hands it back when the reactor has ended.
    pub fn add(&self, it: W) -> Result<(), W> {
        let Some(inbox) = &self.inbox else { return Err(it) };
        inbox.send(it).map_err(|error| error.0)?;
        if let Err(error) = self.waker.wake() {
            log::error!("the reactor cannot be woken: {error}");
        }
        Ok(())
    }

    /// How many are watched now.
    pub fn len(&self) -> usize {
        self.watched.load(Ordering::Relaxed)
    }

    /// The most that were watched since this was last asked (`reactor_max`).
    pub fn take_most(&self) -> usize {
        self.most.swap(self.len(), Ordering::Relaxed)
    }
}

impl<W: Watched> Drop for Reactor<W> {
    fn drop(&mut self) {
        self.inbox = None;
        // A reactor that cannot be woken sees the closed inbox at its next deadline.
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported by the panic hook; a drop must not add one.
            let _ = thread.join();
        }
    }
}

struct Run<W, F> {
    poll: Poll,
    inbox: Receiver<W>,
    on_wake: F,
    entries: HashMap<usize, (W, Instant)>,
    /// The same, soonest first.
    deadlines: BTreeSet<(Instant, usize)>,
    next: usize,
    watched: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl<W: Watched, F: FnMut(W, Wake) -> Option<W>> Run<W, F> {
    fn run(&mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self.deadlines.first().map(|(at, _)| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    log::error!("the reactor cannot poll, and ends: {error}");
                    break;
                }
                _ => {}
            }
            let ready: Vec<usize> =
                events.iter().map(|event| event.token().0).filter(|token| *token != 0).collect();
            for token in ready {
                self.wake(token, Wake::Readable);
            }
            self.wake_expired();
            if !self.take_in() {
                break;
            }
        }
        for token in self.entries.keys().copied().collect::<Vec<_>>() {
            self.wake(token, Wake::Shutdown);
        }
    }

    /// Takes in what was added. False: nothing will be added any more.
    fn take_in(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(it) => self.watch(it),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn watch(&mut self, it: W) {
        let (token, deadline, fd) = (self.next, it.deadline(), it.fd());
        self.next += 1;
        self.entries.insert(token, (it, deadline));
        self.deadlines.insert((deadline, token));
        self.count();
        // What is readable already wakes at once.
        if let Err(error) =
            self.poll.registry().register(&mut SourceFd(&fd), Token(token), Interest::READABLE)
        {
            log::error!("a connection cannot be watched: {error}");
            self.wake(token, Wake::Expired);
        }
    }

    fn wake(&mut self, token: usize, why: Wake) {
        let Some((it, deadline)) = self.entries.remove(&token) else { return };
        self.deadlines.remove(&(deadline, token));
        // It may be closed by whoever gets it, so the kernel must let go of it first.
        if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&it.fd())) {
            log::debug!("a connection was not watched: {error}");
        }
        match (self.on_wake)(it, why) {
            Some(it) if why != Wake::Shutdown => self.watch(it),
            _ => self.count(),
        }
    }

    fn wake_expired(&mut self) {
        let now = Instant::now();
        while let Some((_, token)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.wake(token, Wake::Expired);
        }
    }

    fn count(&self) {
        let watched = self.entries.len();
        self.watched.store(watched, Ordering::Relaxed);
        self.most.fetch_max(watched, Ordering::Relaxed);
    }
}
