//! The server itself, shared by the acceptor, the reactor and the pool threads. It decides where each connection goes
//! next. ([`super::server`] is the builder, and [`super::handle`] is the running server as the program controls it.)
//!
//! A new connection is pushed into `todo` before anything is read from it, as in Puma 8. If there are already
//! `max_connections`, one without a complete request is evicted first or, if there is none, the new one is refused. A
//! pool thread reads the bytes that have arrived. A connection with an incomplete request moves to the reactor, where
//! it does not need a thread, and returns to `todo` once the request is complete. After an answer on a keep-alive
//! connection, the thread continues with the next request if it has arrived and another thread is free. Otherwise the
//! connection moves to the end of `todo`, so that no connection keeps a thread while others are queued. Models
//! Puma::Server's `handle_servers`, `process_client` and `reactor_wakeup`.
//!
//! `Client::may_close` decides whether an open connection is closed immediately or lingers in the reactor: it is closed
//! only if all bytes from its client have been read and its last answer has been sent. A connection whose client has
//! gone is dropped.

mod eviction;

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use super::answer_writer::Transport;
use super::client::{Client, Expected, ReadProgress};
use super::configuration::{ClientLimits, Configuration};
use super::framing::AfterAnswer;
use super::head;
use super::pending::PendingBudget;
use super::reactor::{After, Reactor, Wake};
use super::refusal::Refusal;
use super::request::{Mark, Request};
use super::response::{Detached, TakeBack};
use super::serving::{Served, Serving};
use super::socket::Socket;
use super::thread_pool::{Processor, ShuttingDown, ThreadPool};
use crate::log_limit::limited;
use crate::timeline::{Subject, Timeline, What};

/// How many clients in `todo` are examined per call.
const LOOKED_AT: usize = 64;

/// How many reads a connection gets before a shutdown or an eviction closes it. Bytes that have already arrived should
/// be read, but a client that sends without a pause must not delay the other clients.
const LAST_READS: usize = 64;

/// How many more connections than `max_connections` may exist, so that those that were refused or evicted can linger.
const ROOM_TO_LINGER: usize = 32;

/// The state that the acceptor, the reactor and the pool threads share. Models Puma::Server.
pub(super) struct PumaServer {
    serving: Arc<Serving>,
    timeline: Arc<Timeline>,
    limits: Arc<ClientLimits>,
    pending: Arc<PendingBudget>,
    /// The pool and the reactor are set before the first connection.
    pool: OnceLock<Weak<ThreadPool<Box<Client>>>>,
    reactor: OnceLock<Reactor<Box<Client>>>,
    /// The numbers of the newest connection and the newest request.
    let_in: AtomicU64,
    requests: AtomicU64,
    /// How many connections are open.
    connections: Arc<AtomicUsize>,
    /// How many of the open connections are lingering.
    lingering: Arc<AtomicUsize>,
    max_connections: AtomicUsize,
    /// Whether the limit on connections was reached and more than half of them are still in use.
    has_been_full: AtomicBool,
    evicted: AtomicU64,
    stopping: AtomicBool,
}

impl PumaServer {
    pub fn new(
        configuration: &Configuration,
        serving: Arc<Serving>,
        timeline: Arc<Timeline>,
    ) -> Arc<PumaServer> {
        Arc::new(PumaServer {
            serving,
            timeline,
            limits: Arc::new(configuration.limits()),
            pending: PendingBudget::new(configuration.max_pending_bytes),
            pool: OnceLock::new(),
            reactor: OnceLock::new(),
            let_in: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            connections: Arc::default(),
            lingering: Arc::default(),
            max_connections: AtomicUsize::new(configuration.max_connections),
            has_been_full: AtomicBool::new(false),
            evicted: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    /// Sets the pool and the reactor, before the first connection.
    pub fn join(&self, pool: &Arc<ThreadPool<Box<Client>>>, reactor: Reactor<Box<Client>>) {
        self.pool.get_or_init(|| Arc::downgrade(pool));
        self.reactor.get_or_init(|| reactor);
    }

    pub fn reactor(&self) -> Option<&Reactor<Box<Client>>> {
        self.reactor.get()
    }

    /// The maximum number of clients in the reactor since this was last called.
    pub fn take_reactor_max(&self) -> Option<usize> {
        self.reactor().map(Reactor::take_most)
    }

    /// How many connections without a complete request have been closed since the start because there were too many.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// How many connections are open, including lingering ones.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The memory of pending requests of all connections.
    pub fn pending(&self) -> &PendingBudget {
        &self.pending
    }

    /// Begins to stop: no connection is kept open for another request, and the acceptor's loop ends.
    pub fn begin_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub fn limit_connections(&self, most: usize) {
        self.max_connections.store(most, Ordering::Relaxed);
    }

    /// Whether one more connection may be accepted, even if only to be refused. If not, another one must be closed
    /// first.
    pub fn has_room(&self) -> bool {
        self.connections() < self.max_connections().saturating_add(ROOM_TO_LINGER)
    }

    /// Assigns a number to a connection. Then pushes it into `todo` without reading from it, or refuses it.
    pub fn let_in(&self, stream: TcpStream, peer: SocketAddr) {
        let socket = match Socket::new(stream, &self.connections) {
            Ok(socket) => socket,
            Err(error) => return log::debug!("cannot use the connection of {peer}: {error}"),
        };
        let connection = self.let_in.fetch_add(1, Ordering::Relaxed) + 1;
        let subject = Subject { connection, port: peer.port(), request: self.next_request() };
        let client = Client::new(Arc::new(socket), subject, Arc::clone(&self.limits), &self.pending);
        if self.is_full() && !self.evict_one() {
            return self.refuse(client, Refusal::TooManyConnections, None);
        }
        self.push(client);
    }

    /// Whether more connections are in use than allowed. This is logged once, and again only after the number has
    /// fallen to half of the maximum.
    fn is_full(&self) -> bool {
        let (there, most) = (self.in_use(), self.max_connections());
        if there <= most / 2 {
            self.has_been_full.store(false, Ordering::Relaxed);
        } else if there > most && !self.has_been_full.swap(true, Ordering::Relaxed) {
            limited!(
                Warn,
                "all {most} connections are in use: evicting those that have waited longest without a complete request"
            );
        }
        there > most
    }

    /// The function that the pool threads run.
    pub fn processing(self: &Arc<Self>) -> impl Fn(Box<Client>, &Processor<Box<Client>>) + use<> {
        let server = Arc::clone(self);
        move |client, processor: &Processor<_>| server.process(client, processor)
    }

    /// The function that the reactor runs. It does not keep the server alive, because the server owns the
    /// reactor.
    pub fn waking(self: &Arc<Self>) -> impl FnMut(Box<Client>, Wake) -> After<Box<Client>> + use<> {
        let server = Arc::downgrade(self);
        move |client, wake| server.upgrade().map_or(After::Done, |server| server.on_wake(client, wake))
    }

    /// Processes a client on a pool thread: reads its request, serves it, and passes the connection on.
    fn process(self: &Arc<Self>, mut client: Box<Client>, processor: &Processor<Box<Client>>) {
        let mut is_its_turn = true;
        loop {
            match client.eagerly_finish() {
                // If another thread is free, continuing with the next request does not delay any other client.
                ReadProgress::Ready if is_its_turn || processor.goes_on_with(client.subject) => {
                    let Some(kept) = self.serve(client, processor) else { return };
                    let Some(told) = self.watch_unless_told(kept) else { return };
                    client = told;
                    is_its_turn = false;
                }
                ReadProgress::Ready => {
                    return match client.count_whole() {
                        Ok(()) => self.push(client),
                        Err(refusal) => self.refuse(client, refusal, Some(processor.number())),
                    };
                }
                ReadProgress::ReadEmpty | ReadProgress::MoreToRead if client.is_ending => {
                    return self.end(client, Expected::More);
                }
                ReadProgress::ReadEmpty | ReadProgress::MoreToRead => return self.watch(client),
                ReadProgress::Gone => return,
                ReadProgress::Refused(refusal) => {
                    return self.refuse(client, refusal, Some(processor.number()));
                }
            }
        }
    }

    /// Serves the complete request. Returns the client if the connection is kept alive.
    fn serve(
        self: &Arc<Self>,
        mut client: Box<Client>,
        processor: &Processor<Box<Client>>,
    ) -> Option<Box<Client>> {
        let incoming = client.take()?;
        let subject = client.subject;
        let method = head::method_name(&incoming.head.method);
        let what = What::accepted(method, Arc::clone(&incoming.head.target));
        let at = Instant::now();
        self.timeline.record_at(at, Some(processor.number()), Some(subject), what);
        // A client that closed while it was queued is not served. A half-closed client looks the same and is not served
        // either, as in Puma.
        if self.has_closed(&mut client) {
            self.serving.count_request();
            self.timeline.record(Some(processor.number()), Some(subject), What::Left);
            self.end(client, Expected::Nothing);
            return None;
        }
        let mark = Mark::Thread(processor.io_bound_mark());
        let request = Request::of(incoming.head, incoming.body, subject, processor.number(), Some(mark));
        let after = AfterAnswer::kept_if(
            incoming.may_be_followed
                && client.served + 1 < self.limits.max_keep_alive
                && !client.is_ending
                && !self.is_stopping(),
        );
        let transport = Transport::Socket(Arc::clone(&client.socket));
        match self.serving.serve(&request, transport, at, after) {
            Served::Kept if !client.socket.is_deaf() => {
                // After an interrupted stream, the connection ends unless another request has already arrived.
                client.is_ending = client.socket.take_cut();
                client.reset(self.next_request());
                Some(client)
            }
            Served::Kept | Served::Ended => {
                // A client that sent `Connection: close` announced its last request.
                let has_announced = !request.keeps_alive() && incoming.may_be_followed;
                self.end(client, if has_announced { Expected::Nothing } else { Expected::More });
                None
            }
            Served::Detached(take_over) => {
                if let Some(reactor) = self.reactor.get() {
                    reactor.forget(&mut client);
                }
                let socket = Arc::clone(&client.socket);
                let server: Weak<PumaServer> = Arc::downgrade(self);
                take_over(Detached {
                    socket,
                    unread: client.into_unread().into_boxed_slice(),
                    take_back: Some((server, subject)),
                });
                None
            }
        }
    }

    /// Whether the client has closed. For clients that the reactor has watched, the reactor has the information. For
    /// all others, this asks the kernel.
    fn has_closed(&self, client: &mut Box<Client>) -> bool {
        let told = self.reactor.get().and_then(|reactor| reactor.has_closed(client));
        told.unwrap_or_else(|| client.socket.is_closed())
    }

    /// Answers with a refusal. `thread` is the pool thread, if this runs on one.
    fn refuse(&self, client: Box<Client>, refusal: Refusal, thread: Option<usize>) {
        self.end(self.refused(client, refusal, thread), Expected::More);
    }

    fn refused(&self, mut client: Box<Client>, refusal: Refusal, thread: Option<usize>) -> Box<Client> {
        let what = What::Rejected { status: refusal.status().as_u16(), why: refusal.to_string() };
        self.timeline.record(thread, Some(client.subject), what);
        client.refuse(refusal);
        client
    }

    /// Ends a connection: closes it now, or after its client has had time to read the last answer.
    fn end(&self, mut client: Box<Client>, expected: Expected) {
        if !client.may_close(expected) {
            self.linger(client);
        }
    }

    /// Hands a connection to the reactor, which lets it linger.
    fn linger(&self, mut client: Box<Client>) {
        client.count_lingering(&self.lingering);
        if let Some(reactor) = self.reactor.get() {
            // The client is returned if the reactor has ended or the kernel cannot watch it. Dropping it closes the
            // connection.
            let _ = reactor.linger(client);
        }
    }

    /// Ends a connection whose bytes have all been read and do not form a complete request. A partial request is
    /// answered with the refusal. Returns the client if it has to linger.
    fn dismiss(&self, mut client: Box<Client>, refusal: Refusal) -> Option<Box<Client>> {
        if client.is_in_request() {
            client = self.refused(client, refusal, None);
        }
        let may_close = client.may_close(Expected::Nothing);
        (!may_close).then_some(client)
    }

    /// Refuses a client that was left in `todo` when the pool shut down.
    pub fn give_up(&self, client: Box<Client>) {
        self.refuse(client, Refusal::Stopping, None);
    }

    fn push(&self, client: Box<Client>) {
        // Earlier peeks no longer apply, because bytes may have been read from the socket since.
        client.socket.peeked.reset();
        if let Some(pool) = self.pool()
            && let Err(ShuttingDown(client)) = pool.push(client)
        {
            self.give_up(client);
        }
    }

    /// Hands a served client to the reactor. If the kernel has reported anything about the client since it was last
    /// read, the client is returned and must be read. Bytes that arrive later will wake the reactor.
    fn watch_unless_told(&self, mut client: Box<Client>) -> Option<Box<Client>> {
        if !client.is_idle() || client.is_ending {
            return Some(client);
        }
        client.settle();
        match self.reactor.get() {
            Some(reactor) => reactor.watch_unless_told(client).err(),
            None => Some(client),
        }
    }

    /// Hands a client whose bytes have all been read to the reactor.
    fn watch(&self, mut client: Box<Client>) {
        client.settle();
        if let Some(reactor) = self.reactor.get()
            && let Err(client) = reactor.watch(client)
        {
            // Unless the server is stopping, the reason is that the kernel cannot watch another connection.
            let refusal = if self.is_stopping() { Refusal::Stopping } else { Refusal::TooManyConnections };
            if let Some(client) = self.dismiss(client, refusal) {
                self.linger(client);
            }
        }
    }

    /// Processes a client that woke in the reactor. Models Puma::Server#reactor_wakeup.
    fn on_wake(&self, mut client: Box<Client>, wake: Wake) -> After<Box<Client>> {
        // Reads once per wake-up, so that a client that sends a lot does not delay other clients. An expired deadline
        // counts only if there is nothing to read, because bytes may have arrived in the meantime.
        let progress = match wake {
            Wake::Shutdown => client.finish_within(LAST_READS),
            Wake::Readable | Wake::Expired => client.try_to_finish(),
        };
        let ended = match (counted(&mut client, progress), wake) {
            (ReadProgress::Ready, _) => {
                self.push(client);
                None
            }
            (ReadProgress::ReadEmpty | ReadProgress::MoreToRead, Wake::Shutdown) => {
                self.dismiss(client, Refusal::Stopping)
            }
            (ReadProgress::MoreToRead, _) if client.has_read_all() => return After::WatchUnlessTold(client),
            (ReadProgress::MoreToRead, _) => return After::Again(client),
            (ReadProgress::ReadEmpty, Wake::Readable) => return After::Watch(client),
            (ReadProgress::ReadEmpty, Wake::Expired) => self.dismiss(client, Refusal::RequestTimeout),
            (ReadProgress::Gone, _) => None,
            (ReadProgress::Refused(refusal), _) => self.refused_at_its_end(client, refusal),
        };
        let Some(mut client) = ended else { return After::Done };
        client.count_lingering(&self.lingering);
        After::Again(client)
    }

    /// Refuses a request. Returns the client if it has to linger.
    fn refused_at_its_end(&self, client: Box<Client>, refusal: Refusal) -> Option<Box<Client>> {
        let mut client = self.refused(client, refusal, None);
        let may_close = client.may_close(Expected::More);
        (!may_close).then_some(client)
    }

    /// Records the heads of unread requests in `todo`.
    pub fn look_at_todo(&self) {
        let Some(pool) = self.pool() else { return };
        let seen = pool.look_at_todo(LOOKED_AT, |client| client.glance());
        let lines: Vec<_> = seen.into_iter().filter_map(|mut it| Some((it.request_line()?, it))).collect();
        if lines.is_empty() {
            return;
        }
        // If a thread has taken a client in the meantime, the peeked bytes may belong to a body or a later request.
        let waiting = pool.look_at_todo(LOOKED_AT, |client| Some(client.subject));
        for (line, glance) in lines {
            if waiting.contains(&glance.subject) && glance.note() {
                let what = What::peeked(line.method, line.target);
                self.timeline.record(None, Some(glance.subject), what);
            }
        }
    }

    /// The number of connections, not counting lingering ones.
    fn in_use(&self) -> usize {
        self.connections().saturating_sub(self.lingering.load(Ordering::Relaxed))
    }

    pub fn max_connections(&self) -> usize {
        self.max_connections.load(Ordering::Relaxed)
    }

    fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn pool(&self) -> Option<Arc<ThreadPool<Box<Client>>>> {
        self.pool.get().and_then(Weak::upgrade)
    }
}

impl TakeBack for PumaServer {
    fn take_back(&self, socket: Arc<Socket>, subject: Subject) {
        let client = Client::new(socket, subject, Arc::clone(&self.limits), &self.pending);
        self.end(client, Expected::More);
    }
}

/// Counts a complete request against the budget before it is queued. The request is refused if it does not fit.
fn counted(client: &mut Client, progress: ReadProgress) -> ReadProgress {
    match progress {
        ReadProgress::Ready => {
            client.count_whole().map_or_else(ReadProgress::Refused, |()| ReadProgress::Ready)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
