//! The thread of one connection: it connects, sends, reads, and reports each event with its time.
//!
//! The thread blocks in the kernel until data arrives or its [`ConnectionLine`] is closed, so no connection delays
//! another. Only counts are reported about the body, not its contents.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use url::Url;

use super::kept_head::kept;
use super::observation::{End, Id, Observation, Observed, ParkedConnection};
use crate::lab::http::{Body, ClientRequest, Closer, Connection, Content, Head, HttpError, Options};
use crate::lab::probe::events::{Arrival, UnitReader};
use crate::lab::probe::measured::CloseBy;

/// The limit of every wait of a connection. A run ends long before it, even with the longest `--patience`.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);

const READ_BYTES: usize = 16 * 1024;

/// Maximum length of the reason why a response cannot be read, in characters.
const MAX_REASON: usize = 200;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Reads a response until its end.
    Read,
    /// Reads a response until its end, and keeps the connection open.
    Keep,
    /// Sends nothing.
    Silence,
    /// Stops reading after the first event.
    Stall,
}

/// One exchange, before it begins.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) id: Id,
    pub(super) url: Url,
    pub(super) request: ClientRequest,
    pub(super) options: Options,
    pub(super) purpose: Purpose,
}

/// A handle to a connection for other threads than its own.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionLine {
    state: Arc<Mutex<LineState>>,
    received: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct LineState {
    closer: Option<Closer>,
    order: Option<CloseBy>,
}

impl ConnectionLine {
    /// Closes the connection, either now or as soon as it is established. Never blocks.
    pub(super) fn close(&self, by: CloseBy) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.order = Some(by);
        if let Some(closer) = &state.closer {
            match by {
                CloseBy::Fin => closer.close(),
                CloseBy::Rst => closer.reset(),
            }
        }
    }

    /// The local address, from the first attempt to connect.
    pub(super) fn local_addr(&self) -> Option<std::net::SocketAddr> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closer.as_ref()?.local_addr()
    }

    /// Number of body bytes received so far, before decoding.
    pub(super) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    /// Stores the closer of the next attempt to connect. Returns whether the attempt may be made.
    fn begin(&self, closer: Closer) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closer = Some(closer);
        state.order.is_none()
    }
}

impl Exchange {
    /// Runs until the connection has ended, is closed through its line, or is parked.
    pub(super) fn run(self, line: &ConnectionLine, to: &Sender<Observation>) {
        let teller = Teller { id: self.id, to };
        match self.exchange(line, &teller) {
            Ok(Some(parked)) => teller.tell(Observed::Parked(parked)),
            Ok(None) => teller.tell(Observed::Ended(End::Complete)),
            Err(end) => teller.tell(Observed::Ended(end)),
        };
    }

    fn exchange(&self, line: &ConnectionLine, teller: &Teller<'_>) -> Result<Option<ParkedConnection>, End> {
        let connection = Connection::open_with(&self.url, &self.options, |closer| line.begin(closer));
        let mut connection = connection.map_err(connect_end)?;
        connection.set_deadline(Instant::now().checked_add(LONGEST_WAIT));
        teller.tell(Observed::Connected(connection.local_addr()));
        if self.purpose == Purpose::Silence {
            return Ok(Some(ParkedConnection::Silent(connection)));
        }
        connection.send(&self.url, &self.request).map_err(end_of)?;
        teller.tell(Observed::Sent);
        connection.wait_for_first_byte().map_err(end_of)?;
        teller.tell(Observed::FirstByte);
        let (head, mut body) = connection.response().map_err(end_of)?;
        body.count_into(line.received.clone());
        let reader = UnitReader::of(&head, is_open_ended(&head, &body));
        teller.tell(Observed::Head(Box::new(kept(&head)), reader.unit()));
        if self.purpose == Purpose::Keep {
            drop(head);
            return keep(body, teller).map(|body| Some(ParkedConnection::Answered(body)));
        }
        let content = Content::of(&head, body).map_err(end_of)?;
        // The head may be large, and the body may last as long as the run.
        drop(head);
        self.read(content, reader, self.purpose, teller)
    }

    fn read(
        &self,
        mut content: Content,
        mut reader: UnitReader,
        purpose: Purpose,
        teller: &Teller<'_>,
    ) -> Result<Option<ParkedConnection>, End> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(end_of(HttpError::from_body(error))),
            };
            let arrival =
                reader.feed(&buffer[..read]).map_err(|error| End::EventTooLarge(error.to_string()))?;
            if !teller.tell(Observed::Arrived(arrival)) {
                return Ok(None);
            }
            if purpose == Purpose::Stall && arrival.events > 0 {
                return Ok(Some(ParkedConnection::Stalled(content)));
            }
        }
    }
}

/// Whether the body is sent without a length, so that it may be a stream.
fn is_open_ended(head: &Head, body: &Body) -> bool {
    body.ends_with_connection() || head.values("transfer-encoding").next().is_some()
}

/// Reads a page to its end. The connection stays open unless the body ends with it.
fn keep(mut body: Body, teller: &Teller<'_>) -> Result<Body, End> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok(body),
            Ok(bytes) => {
                let arrival = Arrival { bytes, ..Default::default() };
                if !teller.tell(Observed::Arrived(arrival)) {
                    return Ok(body);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(end_of(HttpError::from_body(error))),
        }
    }
}

struct Teller<'a> {
    id: Id,
    to: &'a Sender<Observation>,
}

impl Teller<'_> {
    /// Reports an observation. Returns whether the run still receives reports. Blocks while the channel is full, that
    /// is, while the server sends faster than the run can count.
    fn tell(&self, what: Observed) -> bool {
        self.to.send(Observation { id: self.id, at: Instant::now(), what }).is_ok()
    }
}

/// How an attempt to connect ended.
fn connect_end(error: HttpError) -> End {
    match &error {
        // Only the reason is kept, because the message of the run names the server and the flag itself.
        HttpError::Certificate { why, .. } => End::Certificate(why.clone()),
        HttpError::Connect { source, .. } if is_own_limit(source) => End::OwnLimit(source.to_string()),
        HttpError::Reset { .. } => End::Reset,
        HttpError::NoAnswer => End::Closed,
        HttpError::GivenUp => End::Closed,
        _ => End::NotConnected(error.to_string()),
    }
}

/// How an established connection ended.
fn end_of(error: HttpError) -> End {
    match &error {
        HttpError::NoAnswer => End::Closed,
        HttpError::Reset { .. } => End::Reset,
        HttpError::EndedEarly | HttpError::TimedOut | HttpError::NoFirstByte => End::Early,
        HttpError::Failed { source } if is_own_limit(source) => End::OwnLimit(source.to_string()),
        HttpError::Failed { .. } => End::Early,
        // The message may quote what the server sent.
        _ => End::Unusable(super::plain(&error.to_string(), MAX_REASON)),
    }
}

/// Whether this process ran out of descriptors or ports.
fn is_own_limit(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let own = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| own.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn running_out_of_descriptors_or_ports_is_not_a_finding_about_the_server() {
        let failed = |code| {
            let source = io::Error::from_raw_os_error(code);
            connect_end(HttpError::Connect { to: "x".to_owned(), source })
        };
        use rustix::io::Errno;
        for errno in [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL] {
            assert!(matches!(failed(errno.raw_os_error()), End::OwnLimit(_)), "{errno}");
        }
        assert!(matches!(failed(Errno::NETUNREACH.raw_os_error()), End::NotConnected(_)));
    }

    #[test]
    fn a_refused_certificate_is_reported_without_a_second_explanation() {
        let (to, why) = ("x".to_owned(), "it has expired".to_owned());
        assert_eq!(
            connect_end(HttpError::Certificate { to, why }),
            End::Certificate("it has expired".to_owned())
        );
    }
}
