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
//! Over `max_connections` the acceptor answers 503. When more of those linger than a
//! few, or there is no descriptor left, it pauses, says so once, and goes on: so that
//! what other servers of this process need is never taken by who is sent away.

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
use super::door::{Door, DoorDied, StartError};
use super::reactor::{After, Reactor, Wake};
use super::refusal::Refusal;
use super::request::Request;
use super::response::Detached;
use super::serving::{Served, Serving};
use super::socket::Socket;
use super::thread_pool::{Processor, ThreadPool};
use super::transport::Transport;
use crate::timeline::{Subject, Timeline, What};

/// How long the acceptor pauses when it can let nobody in.
const PAUSE: Duration = Duration::from_millis(100);

/// How many there may be beyond `max_connections`: they have been refused, and have
/// not gone yet.
const MAX_REFUSED: usize = 32;

/// How many of the clients in todo are looked at when somebody asks.
const LOOKED_AT: usize = 64;

/// What the acceptor, the reactor and the pool's threads share.
pub(super) struct Shared {
    serving: Arc<Serving>,
    timeline: Arc<Timeline>,
    limits: Arc<Limits>,
    /// Both are there before the first connection.
    pool: OnceLock<Weak<ThreadPool<Box<Client>>>>,
    reactor: OnceLock<Reactor<Box<Client>>>,
    requests: AtomicU64,
    connections: Arc<AtomicUsize>,
    stopping: AtomicBool,
}

impl Shared {
    pub fn new(configuration: &Configuration, serving: Arc<Serving>, timeline: Arc<Timeline>) -> Arc<Shared> {
        Arc::new(Shared {
            serving,
            timeline,
            limits: Arc::new(configuration.limits()),
            pool: OnceLock::new(),
            reactor: OnceLock::new(),
            requests: AtomicU64::new(0),
            connections: Arc::default(),
            stopping: AtomicBool::new(false),
        })
    }

    /// What a pool thread does with a client: reads, serves, and passes it on.
    pub fn process(&self, mut client: Box<Client>, processor: &Processor<Box<Client>>) {
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
                Progress::NotYet => return self.watch(client),
                Progress::Gone => return,
                Progress::Refused(refusal) => return self.refuse(client, refusal),
            }
        }
    }

    /// Serves the request that is whole. The client comes back if it is kept.
    fn serve(&self, mut client: Box<Client>, processor: &Processor<Box<Client>>) -> Option<Box<Client>> {
        let incoming = client.take()?;
        let subject = client.subject;
        let what = What::accepted(incoming.head.method, Arc::clone(&incoming.head.target));
        self.timeline.record(Some(processor.number()), Some(subject), what);
        // Who has closed before its turn is not served; who only stopped sending looks the
        // same, and is not served either, as in Puma.
        if self.has_closed(&mut client) {
            self.serving.count_request();
            self.timeline.record(Some(processor.number()), Some(subject), What::Left);
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
            headers: incoming.head.fields,
            mark: Box::new(move || marker.mark_as_io_bound()),
        };
        let may_keep = incoming.may_be_followed
            && client.served + 1 < self.limits.max_keep_alive
            && !self.stopping.load(Ordering::Acquire);
        let transport = Transport::Socket(Arc::clone(&client.socket));
        match self.serving.serve(&request, transport, may_keep) {
            Served::Kept => {
                client.reset(self.next_request());
                Some(client)
            }
            Served::Ended => None,
            Served::Detached(take_over) => {
                if let Some(reactor) = self.reactor.get() {
                    reactor.forget(&mut client);
                }
                let socket = Arc::clone(&client.socket);
                take_over(Detached { socket, unread: client.into_unread() });
                None
            }
        }
    }

    /// The reactor is told of those that it has watched; only of the others must the kernel be asked.
    fn has_closed(&self, client: &mut Box<Client>) -> bool {
        let told = self.reactor.get().and_then(|reactor| reactor.has_closed(client));
        told.unwrap_or_else(|| client.socket.is_closed())
    }

    /// Answers with a refusal; the reactor reads on until the client has gone.
    fn refuse(&self, client: Box<Client>, refusal: Refusal) {
        let client = self.refused(client, refusal);
        if let Some(reactor) = self.reactor.get() {
            // It comes back only while the server stops, and is closed.
            let _ = reactor.revisit(client);
        }
    }

    fn refused(&self, mut client: Box<Client>, refusal: Refusal) -> Box<Client> {
        let what = What::Rejected { status: refusal.status(), why: refusal.to_string() };
        self.timeline.record(None, Some(client.subject), what);
        client.refuse(refusal);
        client
    }

    fn push(&self, client: Box<Client>) {
        if let Some(pool) = self.pool() {
            // It comes back only while the server stops, and is closed.
            let _ = pool.push(client);
        }
    }

    /// For a client that has been read empty.
    fn watch(&self, mut client: Box<Client>) {
        client.settle();
        if let Some(reactor) = self.reactor.get() {
            // It comes back only while the server stops, and is closed.
            let _ = reactor.watch(client);
        }
    }

    /// What the reactor does with a client that wakes. Models Puma::Server#reactor_wakeup.
    fn on_wake(&self, mut client: Box<Client>, wake: Wake) -> After<Box<Client>> {
        match wake {
            Wake::Shutdown => After::Done,
            Wake::Expired => match client.timed_out() {
                Some(refusal) => After::Watch(self.refused(client, refusal)),
                None => After::Done,
            },
            // One read each, so that who sends a lot does not keep the others waiting.
            Wake::Readable => match client.try_to_finish() {
                (Progress::Ready, _) => {
                    self.push(client);
                    After::Done
                }
                (Progress::NotYet, true) => After::Again(client),
                (Progress::NotYet, false) => After::Watch(client),
                (Progress::Gone, _) => After::Done,
                (Progress::Refused(refusal), _) => After::Again(self.refused(client, refusal)),
            },
        }
    }

    /// Puts on the timeline what a client in todo asks for, which nobody has read.
    fn note_peeked(&self, client: &Client) {
        if let Some(head) = client.peek() {
            let what = What::peeked(head.method, head.target);
            self.timeline.record(None, Some(client.subject), what);
        }
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
        let reactor = Reactor::start(format!("{name} reactor"), on_wake).map_err(StartError::Thread)?;
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
            max_connections: configuration.max_connections,
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

    /// Stops accepting, and closes what is idle. Blocks until both threads have ended.
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
            reactor.stop();
        }
    }

    fn connections(&self) -> Option<usize> {
        Some(self.shared.connections.load(Ordering::Relaxed))
    }

    fn look_at_todo(&self) {
        if let Some(pool) = self.shared.pool() {
            pool.look_at_todo(LOOKED_AT, |client| self.shared.note_peeked(client));
        }
    }

    fn take_reactor_max(&self) -> Option<usize> {
        self.shared.reactor.get().map(Reactor::take_most)
    }
}

impl Drop for PumaFront {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Acceptor {
    listener: TcpListener,
    poll: Poll,
    shared: Arc<Shared>,
    max_connections: usize,
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
    }

    /// Accepts until nobody is there, or nobody can be let in.
    fn accept_all(&mut self) {
        loop {
            let most = self.max_connections.saturating_add(MAX_REFUSED);
            if self.shared.connections.load(Ordering::Relaxed) >= most {
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
            log::error!("accepting pauses: {why}");
        }
    }

    /// Nobody waits outside any more. To say so at the first one who is let in would
    /// be to say both by turns for as long as the crowd lasts.
    fn go_on(&mut self) {
        if self.is_pausing {
            self.is_pausing = false;
            log::info!("accepting again");
        }
    }

    fn let_in(&mut self, stream: TcpStream, peer: SocketAddr) {
        let socket = match Socket::new(stream, &self.shared.connections) {
            Ok(socket) => socket,
            Err(error) => return log::debug!("{peer}: {error}"),
        };
        self.let_in += 1;
        let request = self.shared.next_request();
        let subject = Subject { connection: self.let_in, port: peer.port(), request };
        let client = Client::new(socket, subject, Arc::clone(&self.shared.limits));
        if self.shared.connections.load(Ordering::Relaxed) > self.max_connections {
            return self.shared.refuse(client, Refusal::TooManyConnections);
        }
        self.shared.push(client);
    }
}
