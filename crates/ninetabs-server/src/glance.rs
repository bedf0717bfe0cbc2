//! Reads the request line of a client in `todo` without removing the client or consuming its bytes.
//!
//! The necessary data is copied under the pool's lock ([`Client::glance`]). The system call and the parsing happen
//! without the lock. If no bytes have arrived since an incomplete head was parsed, it is not parsed again.

use std::borrow::Cow;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::net::{self, RecvFlags};

use super::client::Client;
use super::head::{self, Parsed, RequestHead};
use super::socket::{Peeked, Socket};
use crate::timeline::Subject;

/// The maximum number of bytes that are peeked from the socket.
const PEEK_BYTES: usize = 4 * 1024;

/// The data that is needed to read the request line of a client in `todo`.
pub(super) struct Glance {
    pub subject: Subject,
    /// The request line, if the reactor has already read the complete request.
    ready: Option<RequestLine>,
    socket: Arc<Socket>,
    max_head_bytes: usize,
}

/// The method and target of a request. Cheap to copy, however long the head is.
pub(super) struct RequestLine {
    pub method: Cow<'static, str>,
    pub target: Arc<str>,
}

impl Client {
    /// Returns the data that is needed to read the request line, or `None` if the head has already been recorded.
    pub fn glance(&self) -> Option<Glance> {
        let is_noted = self.socket.peeked.noted.load(Ordering::Relaxed) == self.subject.request;
        (!is_noted).then(|| Glance {
            subject: self.subject,
            ready: self.ready().map(RequestLine::of),
            socket: Arc::clone(&self.socket),
            max_head_bytes: self.max_head_bytes(),
        })
    }

    /// Like [`glance`](Self::glance), but returns `None` if the head is known to be complete. Never copies a head.
    pub fn glance_if_silent(&self) -> Option<Glance> {
        let has_head = self.ready().is_some() || self.socket.peeked.has_head.load(Ordering::Relaxed);
        if has_head { None } else { self.glance() }
    }
}

impl RequestLine {
    fn of(head: &RequestHead) -> RequestLine {
        RequestLine { method: head::method_name(&head.method), target: Arc::clone(&head.target) }
    }
}

impl Glance {
    /// Returns the line of the client's next request, or `None` if the head is incomplete.
    pub fn request_line(&mut self) -> Option<RequestLine> {
        self.ready.take().or_else(|| self.peek())
    }

    /// Marks the head as recorded. Returns `false` if it already was.
    pub fn note(&self) -> bool {
        let request = self.subject.request;
        self.socket.peeked.noted.swap(request, Ordering::Relaxed) != request
    }

    fn peek(&self) -> Option<RequestLine> {
        let mut scratch = [MaybeUninit::uninit(); PEEK_BYTES];
        let ((bytes, _), _) = net::recv(&self.socket.stream, &mut scratch[..], RecvFlags::PEEK).ok()?;
        let Peeked { no_head, has_head, .. } = &self.socket.peeked;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if length == no_head.load(Ordering::Relaxed) {
            return None;
        }
        match head::parse(bytes, self.max_head_bytes) {
            Parsed::Whole(head, _) => {
                has_head.store(true, Ordering::Relaxed);
                Some(RequestLine::of(&head))
            }
            Parsed::NotYet | Parsed::Refused(_) => {
                no_head.store(length, Ordering::Relaxed);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::super::client::ReadProgress;
    use super::super::configuration::ClientLimits;
    use super::super::pending::PendingBudget;
    use super::*;

    fn client() -> (TcpStream, Box<Client>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = Socket::new(listener.accept().unwrap().0, &Arc::default()).unwrap();
        let hour = Duration::from_secs(3_600);
        let limits = ClientLimits {
            max_head_bytes: 114_688,
            max_body_bytes: 1_000,
            first_data_timeout: hour,
            head_timeout: hour,
            persistent_timeout: hour,
            max_keep_alive: 10,
        };
        let subject = Subject { connection: 1, port: 1, request: 1 };
        (peer, Client::new(Arc::new(socket), subject, Arc::new(limits), &PendingBudget::new(1_000_000)))
    }

    fn line(glance: Option<Glance>) -> Option<String> {
        glance?.request_line().map(|line| format!("{} {}", line.method, line.target))
    }

    #[test]
    fn a_complete_head_is_not_searched_for_again() {
        let (mut peer, mut client) = client();
        peer.write_all(b"GET /up HTTP/1.1\r\nHost: a\r\n").unwrap();
        assert_eq!(line(client.glance_if_silent()), None);
        peer.write_all(b"\r\n").unwrap();
        assert_eq!(line(client.glance_if_silent()).as_deref(), Some("GET /up"));
        assert!(
            client.glance_if_silent().is_none(),
            "the head is known to be complete, and was searched for again"
        );
        assert_eq!(line(client.glance()).as_deref(), Some("GET /up"));
        client.socket.peeked.reset();
        assert!(client.glance_if_silent().is_some(), "the head of the next request was not searched for");
        // A request that has been read is known without a peek.
        assert!(matches!(client.eagerly_finish(), ReadProgress::Ready));
        assert!(client.glance_if_silent().is_none());
        assert_eq!(line(client.glance()).as_deref(), Some("GET /up"));
    }
}
