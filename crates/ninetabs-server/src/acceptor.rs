//! The acceptor: the thread that accepts connections and hands them to the server.
//!
//! The server accepts a few connections beyond `max_connections`, so that it can refuse them with an answer. If too
//! many are open even for that, the acceptor first closes the one that has lingered longest. If it can close none, or
//! the process is out of descriptors, it pauses (logging once) and resumes later. A flood of refused clients therefore
//! cannot take the descriptors that other servers of this process need.
//!
//! Models Puma::Server#handle_servers.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use mio::{Events, Poll};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use thiserror::Error;

use super::puma_server::PumaServer;
use crate::log_limit::limited;

/// How long the acceptor pauses when it cannot accept a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// The listener died, so clients can no longer connect.
#[derive(Debug, Clone, Error)]
#[error("the listener on {address} died: {why}")]
pub struct ListenerDied {
    /// The address of the listener.
    pub address: SocketAddr,
    /// The error from the operating system.
    pub why: String,
}

pub(super) struct Acceptor {
    listener: TcpListener,
    poll: Poll,
    server: Arc<PumaServer>,
    is_pausing: bool,
}

impl Acceptor {
    pub fn new(listener: TcpListener, poll: Poll, server: Arc<PumaServer>) -> Acceptor {
        Acceptor { listener, poll, server, is_pausing: false }
    }

    /// Runs until the server stops. Blocks while no client connects.
    pub fn run(mut self, address: SocketAddr, tell: &Sender<ListenerDied>) {
        let mut events = Events::with_capacity(16);
        while !self.server.is_stopping() {
            let pause = self.is_pausing.then_some(PAUSE);
            if let Err(error) = self.poll.poll(&mut events, pause)
                && error.kind() != io::ErrorKind::Interrupted
            {
                let _ = tell.send(ListenerDied { address, why: error.to_string() });
                return;
            }
            self.accept_all();
        }
        // Clients that connected before the listener closes are served, or are refused because the server is stopping.
        self.accept_all();
    }

    /// Accepts connections until none is waiting, or until accepting fails.
    fn accept_all(&mut self) {
        loop {
            if !self.server.has_room() {
                // A connection is closed only if a client is waiting to be accepted.
                if !has_client(&self.listener) {
                    return self.go_on();
                }
                if !self.server.close_one_at_once() {
                    return self.pause(&"too many connections");
                }
            }
            match self.listener.accept() {
                Ok((stream, peer)) => self.server.let_in(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.go_on(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The client has already closed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return self.pause(&error),
            }
        }
    }

    fn pause(&mut self, why: &dyn Display) {
        if !self.is_pausing {
            self.is_pausing = true;
            limited!(Error, "accepting paused: {why}");
        }
    }

    /// Called when the last waiting client has been accepted. If this logged at the first accepted connection instead,
    /// the two messages would alternate for as long as the load lasts.
    fn go_on(&mut self) {
        if self.is_pausing {
            self.is_pausing = false;
            limited!(Info, "accepting resumed");
        }
    }
}

/// Whether a client is waiting to be accepted. True if the poll fails.
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
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_client_counts_as_waiting_until_it_is_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!has_client(&listener));
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(has_client(&listener));
        let _accepted = listener.accept().unwrap();
        assert!(!has_client(&listener));
    }
}
