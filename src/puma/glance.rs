//! A look at a client in todo, without taking it out and without reading it.
//!
//! What is needed for it is copied under the pool's lock ([`Client::glance`]); the system call and
//! the parsing come afterwards, outside of it. Bytes that held an incomplete head are not parsed again.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::net::{self, RecvFlags};

use super::client::Client;
use super::head::{self, Head, Parsed};
use super::socket::Socket;
use crate::timeline::Subject;

/// How much of an unread request is looked at, in bytes.
const PEEK_BYTES: usize = 4 * 1024;

/// What is known of a connection's next request from such looks.
#[derive(Debug, Default)]
pub(super) struct Peeked {
    /// The number of bytes that held an incomplete head at the last look.
    no_head: AtomicUsize,
    /// The request whose head has been noted.
    noted: AtomicU64,
}

/// A client in todo, and the means to look at it.
pub(super) struct Glance {
    pub subject: Subject,
    /// What the reactor has read whole.
    ready: Option<Head>,
    socket: Arc<Socket>,
    max_head_bytes: usize,
}

impl Peeked {
    /// The next request begins.
    pub fn reset(&self) {
        self.no_head.store(0, Ordering::Relaxed);
    }
}

impl Client {
    /// None if its head has been noted already.
    pub fn glance(&self) -> Option<Glance> {
        let is_noted = self.socket.peeked.noted.load(Ordering::Relaxed) == self.subject.request;
        (!is_noted).then(|| Glance {
            subject: self.subject,
            ready: self.ready().cloned(),
            socket: Arc::clone(&self.socket),
            max_head_bytes: self.max_head_bytes(),
        })
    }
}

impl Glance {
    /// The head of its next request, or None if that has not come whole.
    pub fn head(&mut self) -> Option<Head> {
        self.ready.take().or_else(|| self.peek())
    }

    /// Takes note that its head is known. False: that was noted before.
    pub fn note(&self) -> bool {
        let request = self.subject.request;
        self.socket.peeked.noted.swap(request, Ordering::Relaxed) != request
    }

    fn peek(&self) -> Option<Head> {
        let mut scratch = [MaybeUninit::uninit(); PEEK_BYTES];
        let ((bytes, _), _) = net::recv(&self.socket.stream, &mut scratch[..], RecvFlags::PEEK).ok()?;
        let no_head = &self.socket.peeked.no_head;
        if bytes.len() == no_head.load(Ordering::Relaxed) {
            return None;
        }
        match head::parse(bytes, self.max_head_bytes) {
            Parsed::Whole(head, _) => Some(head),
            Parsed::NotYet | Parsed::Refused(_) => {
                no_head.store(bytes.len(), Ordering::Relaxed);
                None
            }
        }
    }
}
