//! The acceptor: a thread that lets connections in, and pushes each into todo unread.
//!
//! Over `max_connections` an idle connection is evicted for the new one, or the new one is refused. If
//! too many of those linger, or the process is out of descriptors, the acceptor pauses (logging once)
//! and resumes later. Refused clients therefore cannot take the descriptors that other servers of this process
//! need. Models Puma::Server#handle_servers.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Sender;
use mio::{Events, Poll};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use thiserror::Error;

use super::client::Client;
use super::puma_server::PumaServer;
use super::refusal::Refusal;
use super::socket::Socket;
use crate::log_limit::limited;
use crate::timeline::Subject;

/// How long the acceptor pauses when it can let nobody in.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections may linger beyond `max_connections`: they have been refused or evicted, and
/// have not gone yet.
const MAX_REFUSED: usize = 32;

/// The listener is gone: no client can connect any more.
#[derive(Debug, Clone, Error)]
#[error("the front door on {address} died: {why}")]
pub struct ListenerDied {
    /// Where it listened.
    pub address: SocketAddr,
    /// What the system answered.
    pub why: String,
}

pub(super) struct Acceptor {
    listener: TcpListener,
    poll: Poll,
    server: Arc<PumaServer>,
    /// All have been taken, and less than half have not been since.
    has_been_full: bool,
    /// Connections so far: the number of the newest.
    let_in: u64,
    is_pausing: bool,
}

impl Acceptor {
    pub fn new(listener: TcpListener, poll: Poll, server: Arc<PumaServer>) -> Acceptor {
        Acceptor { listener, poll, server, has_been_full: false, let_in: 0, is_pausing: false }
    }

    /// Runs until the server stops. Blocks until a connection comes.
    pub fn run(mut self, address: SocketAddr, tell: &Sender<ListenerDied>) {
        let mut events = Events::with_capacity(16);
        while !self.server.stopping.load(Ordering::Acquire) {
            let pause = self.is_pausing.then_some(PAUSE);
            if let Err(error) = self.poll.poll(&mut events, pause)
                && error.kind() != io::ErrorKind::Interrupted
            {
                let _ = tell.send(ListenerDied { address, why: error.to_string() });
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
            let most = self.server.max_connections().saturating_add(MAX_REFUSED);
            if self.server.connections.load(Ordering::Relaxed) >= most {
                // No connection is closed unless a client waits for its place.
                if !has_client(&self.listener) {
                    return self.go_on();
                }
                if !self.server.make_room_at_once() {
                    return self.pause(&"there are too many connections");
                }
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

    /// Whether more connections are in use than there may be. Logged once, until half of them have gone.
    fn is_full(&mut self) -> bool {
        let (there, most) = (self.server.in_use(), self.server.max_connections());
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
        let socket = match Socket::new(stream, &self.server.connections) {
            Ok(socket) => socket,
            Err(error) => return log::debug!("{peer}: {error}"),
        };
        self.let_in += 1;
        let request = self.server.next_request();
        let subject = Subject { connection: self.let_in, port: peer.port(), request };
        let client =
            Client::new(Arc::new(socket), subject, Arc::clone(&self.server.limits), &self.server.pending);
        if self.is_full() && !self.server.make_room() {
            return self.server.refuse(client, Refusal::TooManyConnections, None);
        }
        self.server.push(client);
    }
}

/// Whether a client waits to be accepted. True if that cannot be found out.
fn has_client(listener: &TcpListener) -> bool {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut polled, Some(&Timespec::default())) {
            Err(Errno::INTR) => {}
            seen => return seen != Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_seen_before_it_is_accepted_and_not_afterwards() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!has_client(&listener));
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(has_client(&listener));
        let _accepted = listener.accept().unwrap();
        assert!(!has_client(&listener));
    }
}
