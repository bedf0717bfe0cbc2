//! Puma's own front door: an acceptor, a reactor, and clients that are handed
//! between the reactor and the pool.
//!
//! The acceptor pushes each connection into todo unread, as Puma 8 does. A pool
//! thread reads what is there; a request that is not whole yet goes to the reactor,
//! which costs no thread, and comes back into todo when it is. After an answer on a
//! kept connection the thread goes on with the next request if it has come already
//! and some other thread is free, else the connection goes to the end of todo, so
//! that nobody keeps a thread that others wait for. Models Puma::Server's
//! `handle_servers`, `process_client` and `reactor_wakeup`.
//!
//! A connection ends in one place, `Shared::end`: it is closed at once only if nothing of its
//! client can be unread, and is read to its end by the reactor otherwise.
//!
//! Over `max_connections` the connection that has waited longest without a whole request is
//! closed to make room; if each of them has one, the new connection is answered 503. When more of
//! those that are being left linger than a few, or there is no descriptor left, the acceptor pauses,
//! says so once, and goes on. Refused clients therefore cannot take the descriptors that other
//! servers of this process need.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::client::{Client, Limits, Progress};
use super::configuration::Configuration;
use super::door::{Door, DoorDied, PendingBytes, StartError};
use super::pending::Pending;
use super::reactor::{After, Reactor, Wake};
use super::refusal::Refusal;
use super::request::Request;
use super::response::Detached;
use super::serving::{Served, Serving};
use super::socket::Socket;
use super::thread_pool::{Processor, ShuttingDown, ThreadPool};
use super::transport::Transport;
use crate::log_limit::limited;
use crate::timeline::{Subject, Timeline, What};

/// How long the acceptor pauses when it can let nobody in.
const PAUSE: Duration = Duration::from_millis(100);

/// How many there may be beyond `max_connections`: they have been refused or evicted, and have
/// not gone yet.
const MAX_REFUSED: usize = 32;

/// How many of the clients in todo are looked at when somebody asks.
const LOOKED_AT: usize = 64;

/// How often a connection is read before it is closed by a stop or to make room: what has come
/// counts, but one that sends without a pause must not hold up the others.
const LAST_READS: usize = 64;

/// How many connections are looked at for one that can make room.
const CANDIDATES: usize = 16;

/// What the acceptor, the reactor and the pool's threads share.
pub(super) struct Shared {
    serving: Arc<Serving>,
    timeline: Arc<Timeline>,
    limits: Arc<Limits>,
    pending: Arc<Pending>,
    /// Both are there before the first connection.
    pool: OnceLock<Weak<ThreadPool<Box<Client>>>>,
    reactor: OnceLock<Reactor<Box<Client>>>,
    requests: AtomicU64,
    connections: Arc<AtomicUsize>,
    max_connections: AtomicUsize,
    evicted: AtomicU64,
    stopping: AtomicBool,
}

impl Shared {
    pub fn new(configuration: &Configuration, serving: Arc<Serving>, timeline: Arc<Timeline>) -> Arc<Shared> {
        Arc::new(Shared {
            serving,
            timeline,
            limits: Arc::new(configuration.limits()),
            pending: Pending::new(configuration.max_pending_bytes),
            pool: OnceLock::new(),
            reactor: OnceLock::new(),
            requests: AtomicU64::new(0),
            connections: Arc::default(),
            max_connections: AtomicUsize::new(configuration.max_connections),
            evicted: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    /// What a pool thread does with a client: reads, serves, and passes it on.
    pub fn process(self: &Arc<Self>, mut client: Box<Client>, processor: &Processor<Box<Client>>) {
        let mut is_its_turn = true;
        loop {
            match client.eagerly_finish() {
                // While others are free there is no harm in going on with the next one.
                Progress::Ready if is_its_turn || processor.goes_on_with(client.subject) => {
                    let Some(kept) = self.serve(client, processor) else { return };
                    client = kept;
                    is_its_turn = false;
                }
                Progress::Ready => return self.push(client),
                Progress::NotYet if client.is_ending => return self.end(client, true),
                Progress::NotYet => return self.watch(client),
                Progress::Gone => return,
                Progress::Refused(refusal) => {
                    return self.refuse(client, refusal, Some(processor.number()));
                }
            }
        }
    }

    /// Serves the request that is whole. The client comes back if it is kept.
    fn serve(
        self: &Arc<Self>,
        mut client: Box<Client>,
        processor: &Processor<Box<Client>>,
    ) -> Option<Box<Client>> {
        let incoming = client.take()?;
        let subject = client.subject;
        let what = What::accepted(incoming.head.method, Arc::clone(&incoming.head.target));
        self.timeline.record(Some(processor.number()), Some(subject), what);
        // Who has closed before its turn is not served; who only stopped sending looks the
        // same, and is not served either, as in Puma.
        if self.has_closed(&mut client) {
            self.serving.count_request();
            self.timeline.record(Some(processor.number()), Some(subject), What::Left);
            self.end(client, false);
            return None;
        }
        let marker = processor.clone();
        let request = Request {
            subject,
            thread: processor.number(),
            method: incoming.head.method.into(),
            target: incoming.head.target,
            version: incoming.head.version,
            body: incoming.body,
            authority: incoming.head.authority,
            headers: incoming.head.fields,
            mark: Box::new(move || marker.mark_as_io_bound()),
        };
        let may_keep = incoming.may_be_followed
            && client.served + 1 < self.limits.max_keep_alive
            && !client.is_ending
            && !self.stopping.load(Ordering::Acquire);
        let transport = Transport::Socket(Arc::clone(&client.socket));
        match self.serving.serve(&request, transport, may_keep) {
            Served::Kept if !client.socket.is_deaf() => {
                // A stream that was told to end is the last answer, unless a request came behind it.
                client.is_ending = client.socket.take_cut();
                client.reset(self.next_request());
                Some(client)
            }
            Served::Kept | Served::Ended => {
                self.end(client, request.keeps_alive() || !incoming.may_be_followed);
                None
            }
            Served::Detached(take_over) => {
                if let Some(reactor) = self.reactor.get() {
                    reactor.forget(&mut client);
                }
                let socket = Arc::clone(&client.socket);
                let shared = Arc::downgrade(self);
                let take_back = move |socket| {
                    if let Some(shared) = shared.upgrade() {
                        shared.end(
                            Client::new(socket, subject, Arc::clone(&shared.limits), &shared.pending),
                            true,
                        );
                    }
                };
                take_over(Detached { socket, unread: client.into_unread(), take_back: Box::new(take_back) });
                None
            }
        }
    }

    /// The reactor is told of those that it has watched; only of the others must the kernel be asked.
    fn has_closed(&self, client: &mut Box<Client>) -> bool {
        let told = self.reactor.get().and_then(|reactor| reactor.has_closed(client));
        told.unwrap_or_else(|| client.socket.is_closed())
    }

    /// Answers with a refusal, on a pool thread or on none.
    fn refuse(&self, client: Box<Client>, refusal: Refusal, thread: Option<usize>) {
        self.end(self.refused(client, refusal, thread), true);
    }

    fn refused(&self, mut client: Box<Client>, refusal: Refusal, thread: Option<usize>) -> Box<Client> {
        let what = What::Rejected { status: refusal.status(), why: refusal.to_string() };
        self.timeline.record(thread, Some(client.subject), what);
        client.refuse(refusal);
        client
    }

    /// The end of every connection: it is closed, at once or when its client can have read what was
    /// said. `may_send_more`: the client does not know that it ends, so that what it sends now may be
    /// on its way.
    fn end(&self, mut client: Box<Client>, may_send_more: bool) {
        if client.may_close(may_send_more) {
            return;
        }
        if let Some(reactor) = self.reactor.get() {
            // It comes back only when the server has stopped, and is closed.
            let _ = reactor.linger(client);
        }
    }

    /// The same for a client that has been read empty and has no whole request: one in the middle of
    /// a request is told why. It comes back if it cannot be closed yet.
    fn dismiss(&self, mut client: Box<Client>, refusal: Refusal) -> Option<Box<Client>> {
        if client.is_in_request() {
            client = self.refused(client, refusal, None);
        }
        let may_close = client.may_close(false);
        (!may_close).then_some(client)
    }

    /// For a client in todo that the pool has given up on.
    pub fn give_up(&self, client: Box<Client>) {
        self.refuse(client, Refusal::Stopping, None);
    }

    fn push(&self, client: Box<Client>) {
        // What it asks for is noted anew each time that it is in todo.
        client.socket.peeked.reset();
        if let Some(pool) = self.pool()
            && let Err(ShuttingDown(client)) = pool.push(client)
        {
            self.give_up(client);
        }
    }

    /// For a client that has been read empty.
    fn watch(&self, mut client: Box<Client>) {
        client.settle();
        if let Some(reactor) = self.reactor.get()
            && let Err(client) = reactor.watch(client)
            && let Some(client) = self.dismiss(client, Refusal::Stopping)
        {
            // It comes back only when the server has stopped, and is closed.
            let _ = reactor.linger(client);
        }
    }

    /// What the reactor does with a client that wakes. Models Puma::Server#reactor_wakeup.
    fn on_wake(&self, mut client: Box<Client>, wake: Wake) -> After<Box<Client>> {
        // One read each, so that a client that sends a lot does not keep the others waiting. A deadline
        // says nothing about what has come: it counts only if nothing is there to be read.
        let (progress, may_read_on) = match wake {
            Wake::Shutdown => (client.finish_within(LAST_READS), false),
            Wake::Readable | Wake::Expired => client.try_to_finish(),
        };
        let ended = match (progress, wake) {
            (Progress::Ready, _) => {
                self.push(client);
                None
            }
            (Progress::NotYet, _) if may_read_on => return After::Again(client),
            (Progress::NotYet, Wake::Readable) => return After::Watch(client),
            (Progress::NotYet, Wake::Expired) => self.dismiss(client, Refusal::RequestTimeout),
            (Progress::NotYet, Wake::Shutdown) => self.dismiss(client, Refusal::Stopping),
            (Progress::Gone, _) => None,
            (Progress::Refused(refusal), _) => {
                let mut client = self.refused(client, refusal, None);
                let may_close = client.may_close(true);
                (!may_close).then_some(client)
            }
        };
        ended.map_or(After::Done, After::Again)
    }

    /// Closes the connection that has waited longest without a whole request. False: there is none.
    /// If it is to be left `at_once`, it is not waited for either.
    fn make_room(&self, at_once: bool) -> bool {
        let Some(reactor) = self.reactor.get() else { return false };
        for _ in 0..CANDIDATES {
            let watched = reactor.take_longest_waiting();
            let Some(mut client) = watched.or_else(|| self.take_from_todo()) else { return false };
            match client.finish_within(LAST_READS) {
                // It has one after all.
                Progress::Ready => {
                    self.push(client);
                    continue;
                }
                Progress::Gone => return true,
                Progress::Refused(refusal) => client = self.refused(client, refusal, None),
                Progress::NotYet => {}
            }
            self.evicted.fetch_add(1, Ordering::Relaxed);
            if let Some(client) = self.dismiss(client, Refusal::TooManyConnections)
                && !at_once
            {
                // It comes back only when the server has stopped, and is closed.
                let _ = reactor.linger(client);
            }
            return true;
        }
        false
    }

    /// Takes the first of todo that has sent no whole head, of those that are looked at.
    fn take_from_todo(&self) -> Option<Box<Client>> {
        let pool = self.pool()?;
        let seen = pool.look_at_todo(LOOKED_AT, |client| client.glance());
        let silent = seen.into_iter().find_map(|mut it| it.head().is_none().then_some(it.subject))?;
        pool.take_from_todo(silent)
    }

    /// Puts on the timeline what clients in todo ask for that no thread has read.
    fn look_at_todo(&self) {
        let Some(pool) = self.pool() else { return };
        let seen = pool.look_at_todo(LOOKED_AT, |client| client.glance());
        let heads: Vec<_> = seen.into_iter().filter_map(|mut it| Some((it.head()?, it))).collect();
        if heads.is_empty() {
            return;
        }
        // A thread may have taken one meanwhile: then what was seen may be something else.
        let waiting = pool.look_at_todo(LOOKED_AT, |client| Some(client.subject));
        for (head, glance) in heads {
            if waiting.contains(&glance.subject) && glance.note() {
                let what = What::peeked(head.method, head.target);
                self.timeline.record(None, Some(glance.subject), what);
            }
        }
    }

    fn max_connections(&self) -> usize {
        self.max_connections.load(Ordering::Relaxed)
    }

    fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn pool(&self) -> Option<Arc<ThreadPool<Box<Client>>>> {
        self.pool.get().and_then(Weak::upgrade)
    }
}

/// The acceptor's thread and the reactor's.
pub(super) struct PumaFront {
    address: SocketAddr,
    shared: Arc<Shared>,
    waker: Waker,
    died: Receiver<DoorDied>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

impl PumaFront {
    pub fn open(
        listener: TcpListener,
        configuration: &Configuration,
        shared: Arc<Shared>,
        pool: &Arc<ThreadPool<Box<Client>>>,
    ) -> Result<PumaFront, StartError> {
        let name = configuration.name;
        let listen = |error| StartError::Listen { address: configuration.bind, error };
        let address = listener.local_addr().map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let wakes = Arc::downgrade(&shared);
        let on_wake = move |client, wake| {
            wakes.upgrade().map_or(After::Done, |shared: Arc<Shared>| shared.on_wake(client, wake))
        };
        let reactor = Reactor::start(&format!("{name} reactor"), &configuration.services, on_wake)
            .map_err(StartError::Thread)?;
        shared.pool.get_or_init(|| Arc::downgrade(pool));
        shared.reactor.get_or_init(|| reactor);

        let poll = Poll::new().map_err(StartError::Thread)?;
        let waker = Waker::new(poll.registry(), Token(1)).map_err(StartError::Thread)?;
        let fd = listener.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)
            .map_err(StartError::Thread)?;
        let (tell, died) = bounded(1);
        let acceptor = Acceptor {
            listener,
            poll,
            shared: Arc::clone(&shared),
            has_been_full: false,
            let_in: 0,
            is_pausing: false,
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || acceptor.run(address, &tell))
            .map_err(StartError::Thread)?;
        Ok(PumaFront { address, shared, waker, died, acceptor: Mutex::new(Some(thread)) })
    }
}

impl Door for PumaFront {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn died(&self) -> &Receiver<DoorDied> {
        &self.died
    }

    /// Stops accepting, and closes what is idle. Blocks until that has happened; what lingers is
    /// watched until the end.
    fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        // It fails only if the acceptor has gone already.
        let _ = self.waker.wake();
        let acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(acceptor) = acceptor {
            // Its panic has been reported by the panic hook.
            let _ = acceptor.join();
        }
        if let Some(reactor) = self.shared.reactor.get() {
            reactor.close();
        }
    }

    fn end(&self, within: Duration) {
        self.stop();
        if let Some(reactor) = self.shared.reactor.get() {
            reactor.end(within);
        }
    }

    fn connections(&self) -> Option<usize> {
        Some(self.shared.connections.load(Ordering::Relaxed))
    }

    fn evicted(&self) -> u64 {
        self.shared.evicted.load(Ordering::Relaxed)
    }

    fn pending_bytes(&self) -> Option<PendingBytes> {
        let pending = &self.shared.pending;
        Some(PendingBytes { held: pending.held(), most: pending.most() })
    }

    fn max_connections(&self) -> Option<usize> {
        Some(self.shared.max_connections())
    }

    fn limit_connections(&self, most: usize) {
        self.shared.max_connections.store(most, Ordering::Relaxed);
    }

    fn look_at_todo(&self) {
        self.shared.look_at_todo();
    }

    fn take_reactor_max(&self) -> Option<usize> {
        self.shared.reactor.get().map(Reactor::take_most)
    }
}

impl Drop for PumaFront {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

struct Acceptor {
    listener: TcpListener,
    poll: Poll,
    shared: Arc<Shared>,
    /// All have been taken, and less than half have not been since.
    has_been_full: bool,
    /// Connections so far: the number of the newest.
    let_in: u64,
    is_pausing: bool,
}

impl Acceptor {
    fn run(mut self, address: SocketAddr, tell: &Sender<DoorDied>) {
        let mut events = Events::with_capacity(16);
        while !self.shared.stopping.load(Ordering::Acquire) {
            let pause = self.is_pausing.then_some(PAUSE);
            if let Err(error) = self.poll.poll(&mut events, pause)
                && error.kind() != io::ErrorKind::Interrupted
            {
                let _ = tell.send(DoorDied { address, why: error.to_string() });
                return;
            }
            self.accept_all();
        }
        // Those that connected before the listener closes are served, or told that the server stops.
        self.accept_all();
    }

    /// Accepts until nobody is there, or nobody can be let in.
    fn accept_all(&mut self) {
        loop {
            let most = self.shared.max_connections().saturating_add(MAX_REFUSED);
            if self.shared.connections.load(Ordering::Relaxed) >= most && !self.shared.make_room(true) {
                return self.pause(&"there are too many connections");
            }
            match self.listener.accept() {
                Ok((stream, peer)) => self.let_in(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.go_on(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever it was has gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return self.pause(&error),
            }
        }
    }

    fn pause(&mut self, why: &dyn Display) {
        if !self.is_pausing {
            self.is_pausing = true;
            limited!(Error, "accepting pauses: {why}");
        }
    }

    /// Nobody waits outside any more. To say so at the first one who is let in would
    /// be to say both by turns for as long as the crowd lasts.
    fn go_on(&mut self) {
        if self.is_pausing {
            self.is_pausing = false;
            limited!(Info, "accepting again");
        }
    }

    /// Whether there are more connections than there may be. Says so once, until half of them have gone.
    fn is_full(&mut self) -> bool {
        let (there, most) = (self.shared.connections.load(Ordering::Relaxed), self.shared.max_connections());
        if there <= most / 2 {
            self.has_been_full = false;
        } else if there > most && !self.has_been_full {
            self.has_been_full = true;
            limited!(
                Warn,
                "all {most} connections are taken: those that wait longest without a whole request make room"
            );
        }
        there > most
    }

    fn let_in(&mut self, stream: TcpStream, peer: SocketAddr) {
        let socket = match Socket::new(stream, &self.shared.connections) {
            Ok(socket) => socket,
            Err(error) => return log::debug!("{peer}: {error}"),
        };
        self.let_in += 1;
        let request = self.shared.next_request();
        let subject = Subject { connection: self.let_in, port: peer.port(), request };
        let client =
            Client::new(Arc::new(socket), subject, Arc::clone(&self.shared.limits), &self.shared.pending);
        if self.is_full() && !self.shared.make_room(false) {
            return self.shared.refuse(client, Refusal::TooManyConnections, None);
        }
        self.shared.push(client);
    }
}
