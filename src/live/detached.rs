//! One event loop for all connections that have left the pool.
//!
//! Models what Rack's hijack is for: the connection is taken out of the server's hands, so it
//! holds no thread, and what a thread did for each is done by one loop for all. What such a
//! loop must not do is known from those that came before it: sse-rails-engine writes to one
//! listener after the other and waits for each, so that one sleeping laptop freezes the
//! whole app; Action Cable keeps whatever a client does not read, for ever, in memory. Here
//! no write waits, and what is kept for a connection is the one piece that is on its way out.
//!
//! Who lives at the end of a connection is a [`Peer`]: it is asked for its next piece when all
//! before has gone out, and what it says depends on a [`Feed`], which the loop owns and which
//! is refreshed before anybody is asked. So a piece that is meant for all is made once.
//!
//! The kernel is asked once for each connection and tells of edges from then on, of bytes and
//! of room alike.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use serde::Serialize;
use socket2::SockRef;

use crate::puma::response::Detached;

/// The waker's own token; connections are counted from 1.
const WAKER: Token = Token(0);
/// How many events are taken from the kernel at once.
const EVENTS: usize = 1_024;
/// How often everybody is asked, news or not: heartbeats and time limits are as exact as this.
const SWEEP: Duration = Duration::from_millis(250);
/// How many pieces one connection may send before others come.
const PIECES_A_TURN: usize = 8;
/// How many bytes are read from one connection before others come.
const READ_A_TURN: usize = 64 * 1024;
/// Bytes that the kernel keeps for a connection. By itself it would keep megabytes for
/// one that does not read.
const SEND_BUFFER: usize = 64 * 1024;

/// Why a peer is cut that is too slow.
pub const FELL_BEHIND: &str = "it has fallen too far behind";

/// What peers speak from. It lives on the loop's thread, and must not block.
pub trait Feed: 'static {
    /// Takes in what has happened, for so many as are there already. True: somebody may have
    /// something to say now.
    fn refresh(&mut self, peers: usize) -> bool;
}

/// What a peer wants to be done.
pub enum Next {
    /// Nothing at present.
    Wait,
    Send(Rc<[u8]>),
    /// This is all: the connection ends behind it.
    Last(Rc<[u8]>),
    /// It ends here and now.
    Cut(&'static str),
}

/// Who is at the other end of a connection.
pub trait Peer<F>: Send {
    /// What is to go out next. Asked when all before has gone out, whenever the feed has
    /// news, and at every sweep.
    fn next(&mut self, feed: &mut F, now: Instant) -> Next;

    /// Whether there is no use in waiting for it: what it is to be told next is gone already. Asked
    /// while it does not read.
    fn has_fallen_behind(&self, _feed: &F) -> bool {
        false
    }

    /// Takes bytes that came. False: it makes no sense of them, and the connection ends.
    fn receive(&mut self, _feed: &mut F, _bytes: &[u8]) -> bool {
        true
    }

    /// What is said when the server stops; it goes out as far as there is room.
    fn goodbye(&mut self, feed: &mut F) -> Rc<[u8]>;
}

/// The counts of `/stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Connections that are here now.
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

/// The loop's thread. It ends, and says goodbye to all, when this is stopped.
pub struct EventLoop<F> {
    shared: Arc<Shared<F>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared<F> {
    door: Mutex<Door<F>>,
    waker: Waker,
    counters: Counters,
}

struct Door<F> {
    /// Those whom the loop has not seen yet.
    arrived: Vec<(Detached, Box<dyn Peer<F>>)>,
    is_closed: bool,
}

/// Makes the loop look at its feed. Does not block.
pub struct Bell<F>(Arc<Shared<F>>);

impl<F> Bell<F> {
    pub fn ring(&self) {
        self.0.wake();
    }
}

impl<F: Feed> EventLoop<F> {
    /// Starts it with the feed that `make` makes there. A connection that takes nothing for
    /// `stopped_after` is cut.
    pub fn start(
        name: &str,
        stopped_after: Duration,
        make: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<EventLoop<F>> {
        let poll = Poll::new()?;
        let shared = Arc::new(Shared {
            door: Mutex::new(Door { arrived: Vec::new(), is_closed: false }),
            waker: Waker::new(poll.registry(), WAKER)?,
            counters: Counters::default(),
        });
        let run_shared = Arc::clone(&shared);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let feed = make();
            let (connections, again) = (BTreeMap::new(), BTreeSet::new());
            Run { poll, shared: run_shared, feed, connections, again, last: 0, stopped_after }.run();
        })?;
        Ok(EventLoop { shared, thread: Mutex::new(Some(thread)) })
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

    pub fn counts(&self) -> Counts {
        let Counters { open, joined, cut } = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { open: read(open), joined: read(joined), cut: read(cut) }
    }

    /// Ends it: everybody is told goodbye. Blocks until the thread has left.
    pub fn stop(&self) {
        self.shared.door().is_closed = true;
        self.shared.wake();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panic has been reported by the panic hook; a drop must not add one.
            let _ = thread.join();
        }
    }
}

impl<F> Shared<F> {
    fn door(&self) -> MutexGuard<'_, Door<F>> {
        // Every change under this lock is one step, whole even after a panic.
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            log::error!("the event loop cannot be woken: {error}");
        }
    }
}

/// One connection.
struct Connection<F> {
    detached: Detached,
    peer: Box<dyn Peer<F>>,
    /// What has not gone out yet, and how much of it has.
    out: Option<(Rc<[u8]>, usize)>,
    /// Nothing comes behind that.
    is_last: bool,
    /// When it last took something, or had nothing to take.
    moved: Instant,
}

/// What became of a connection's turn.
enum Turn {
    Over,
    /// There may be more to do; others come first.
    Again,
    Left,
    Cut(&'static str),
}

struct Run<F: Feed> {
    poll: Poll,
    shared: Arc<Shared<F>>,
    feed: F,
    connections: BTreeMap<usize, Connection<F>>,
    /// Those that have more to do without a word of the kernel: each once, however often it says so.
    again: BTreeSet<usize>,
    /// The newest token.
    last: usize,
    stopped_after: Duration,
}

impl<F: Feed> Run<F> {
    fn run(mut self) {
        let _ended = Ended(Arc::clone(&self.shared));
        let mut events = Events::with_capacity(EVENTS);
        let mut swept = Instant::now();
        loop {
            let timeout = match (self.again.is_empty(), self.connections.is_empty()) {
                (false, _) => Some(Duration::ZERO),
                (true, false) => Some(SWEEP.saturating_sub(swept.elapsed())),
                (true, true) => None,
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return log::error!("the event loop cannot poll, and ends: {error}");
                }
                _ => {}
            }
            let has_news = self.feed.refresh(self.connections.len());
            for token in mem::take(&mut self.again) {
                self.turn(token, true);
            }
            for event in &events {
                let may_read = event.is_readable() || event.is_read_closed() || event.is_error();
                self.turn(event.token().0, may_read);
            }
            let (arrived, is_closed) = {
                let mut door = self.shared.door();
                (mem::take(&mut door.arrived), door.is_closed)
            };
            for (detached, peer) in arrived {
                self.take_in(detached, peer);
            }
            if is_closed {
                return self.say_goodbye();
            }
            let is_due = swept.elapsed() >= SWEEP;
            if has_news || is_due {
                self.ask_all();
            }
            if is_due {
                swept = Instant::now();
            }
        }
    }

    fn take_in(&mut self, mut detached: Detached, peer: Box<dyn Peer<F>>) {
        self.shared.counters.joined.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = SockRef::from(detached.stream()).set_send_buffer_size(SEND_BUFFER) {
            log::debug!("a listener's buffer stays as it is: {error}");
        }
        let fd = detached.stream().as_raw_fd();
        let token = self.last + 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), Token(token), interest) {
            return log::error!("a connection cannot be watched: {error}");
        }
        self.last = token;
        let unread = mem::take(&mut detached.unread);
        let mut connection = Connection { detached, peer, out: None, is_last: false, moved: Instant::now() };
        let is_sense = unread.is_empty() || connection.peer.receive(&mut self.feed, &unread);
        self.connections.insert(token, connection);
        self.shared.counters.open.store(self.connections.len() as u64, Ordering::Relaxed);
        if !is_sense {
            return self.end(token, &Turn::Left);
        }
        self.turn(token, true);
    }

    /// One connection reads, if there may be something, and writes what there is room for.
    fn turn(&mut self, token: usize, may_read: bool) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let read = if may_read { connection.read(&mut self.feed) } else { Turn::Over };
        let turn = match read {
            Turn::Left | Turn::Cut(_) => read,
            Turn::Over | Turn::Again => match connection.speak(&mut self.feed, Instant::now()) {
                Turn::Over => read,
                turn => turn,
            },
        };
        match turn {
            Turn::Over => {}
            Turn::Again => {
                self.again.insert(token);
            }
            turn => self.end(token, &turn),
        }
    }

    /// Everybody says what is new, and whoever has taken nothing for too long goes.
    fn ask_all(&mut self) {
        let now = Instant::now();
        let mut over = Vec::new();
        for (token, connection) in &mut self.connections {
            match connection.speak(&mut self.feed, now) {
                Turn::Over if connection.out.is_none() => {}
                Turn::Over if connection.peer.has_fallen_behind(&self.feed) => {
                    over.push((*token, Turn::Cut(FELL_BEHIND)));
                }
                Turn::Over if now.saturating_duration_since(connection.moved) > self.stopped_after => {
                    over.push((*token, Turn::Cut("it reads nothing")));
                }
                Turn::Over => {}
                Turn::Again => {
                    self.again.insert(*token);
                }
                turn => over.push((*token, turn)),
            }
        }
        for (token, turn) in over {
            self.end(token, &turn);
        }
    }

    fn end(&mut self, token: usize, turn: &Turn) {
        let Some(connection) = self.connections.remove(&token) else { return };
        if let Turn::Cut(why) = turn {
            self.shared.counters.cut.fetch_add(1, Ordering::Relaxed);
            log::info!("a listener was cut: {why}");
        }
        connection.close(self.poll.registry());
        self.shared.counters.open.store(self.connections.len() as u64, Ordering::Relaxed);
    }

    fn say_goodbye(mut self) {
        let told = self.connections.len();
        for (_, mut connection) in mem::take(&mut self.connections) {
            // In the middle of a piece nothing else can be said.
            if connection.out.is_none() && !connection.is_last {
                connection.out = Some((connection.peer.goodbye(&mut self.feed), 0));
                // It is gone, or has no room: nobody can be told.
                let _ = connection.flush();
            }
            connection.close(self.poll.registry());
        }
        self.shared.counters.open.store(0, Ordering::Relaxed);
        if told > 0 {
            log::info!("{told} listeners were told to come back");
        }
    }
}

/// After its end, and after a panic, nobody is taken in who would wait for ever.
struct Ended<F>(Arc<Shared<F>>);

impl<F> Drop for Ended<F> {
    fn drop(&mut self) {
        let mut door = self.0.door();
        door.is_closed = true;
        let arrived = mem::take(&mut door.arrived);
        drop(door);
        drop(arrived);
        self.0.counters.open.store(0, Ordering::Relaxed);
    }
}

impl<F: Feed> Connection<F> {
    fn read(&mut self, feed: &mut F) -> Turn {
        let mut bytes = [0; 4 * 1024];
        let mut taken = 0;
        while taken < READ_A_TURN {
            match self.detached.stream().read(&mut bytes) {
                // Who has only stopped sending looks the same; an EventSource never does.
                Ok(0) => return Turn::Left,
                Ok(more) => {
                    taken += more;
                    if !self.peer.receive(feed, &bytes[..more]) {
                        return Turn::Left;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::Over,
                Err(_) => return Turn::Left,
            }
        }
        Turn::Again
    }

    /// Sends what there is, as far as there is room.
    fn speak(&mut self, feed: &mut F, now: Instant) -> Turn {
        for _ in 0..PIECES_A_TURN {
            match self.flush() {
                Ok(true) if self.is_last => return Turn::Left,
                Ok(true) => self.moved = now,
                Ok(false) => return Turn::Over,
                Err(_) => return Turn::Left,
            }
            match self.peer.next(feed, now) {
                Next::Wait => return Turn::Over,
                Next::Send(piece) => self.out = Some((piece, 0)),
                Next::Last(piece) => {
                    self.out = Some((piece, 0));
                    self.is_last = true;
                }
                Next::Cut(why) => return Turn::Cut(why),
            }
        }
        Turn::Again
    }

    /// Whether all has gone out.
    fn flush(&mut self) -> io::Result<bool> {
        while let Some((piece, taken)) = &mut self.out {
            if *taken == piece.len() {
                self.out = None;
                break;
            }
            match self.detached.stream().write(&piece[*taken..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => {
                    *taken += more;
                    self.moved = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn close(self, registry: &Registry) {
        let stream = self.detached.stream();
        // The kernel forgets it anyway once the socket is closed.
        let _ = registry.deregister(&mut SourceFd(&stream.as_raw_fd()));
        let _ = stream.shutdown(Shutdown::Write);
    }
}
