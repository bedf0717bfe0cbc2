//! Models `response.stream`: the handle that a live action uses to send events and to sleep.
//!
//! In the `Resumable` dialect, a stream sends `retry:` with its first event, in the same write as the head, and again
//! when it is interrupted. The `Bare` dialect sends exactly what the original controller sends.

use std::borrow::{Borrow, Cow};
use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use thiserror::Error;

use super::event::{self, Event};
use crate::answer_writer::{AnswerWriter, WriteError};
use crate::framing::AnswerEnd;
use crate::live_queue::ActionSide;
use crate::request::Request;
use crate::socket::Waited;
use crate::streams::{Membership, NoticeClose, StreamInterrupt, Streams};

/// The maximum number of bytes that are written between two checks for an interrupt.
const PIECE_BYTES: usize = 64 * 1024;

/// What a stream sends in addition to its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `retry:`, the delay after which the client should reconnect. It is sent at the beginning and when the stream is
    /// interrupted.
    Resumable {
        /// The delay. `None` uses the server's setting, plus a random delay if many clients are connected.
        retry: Option<Duration>,
        /// A comment on the first line.
        greeting: &'static str,
    },
    /// Only the events.
    Bare,
}

impl Default for Dialect {
    fn default() -> Dialect {
        Dialect::Resumable { retry: None, greeting: "a stream of events" }
    }
}

/// Why an action must end its stream.
#[derive(Debug, Error)]
pub enum StreamError {
    /// A write failed. Models ActionController::Live::ClientDisconnected.
    #[error("client disconnected: {0}")]
    ClientDisconnected(#[from] WriteError),
    /// The stream was interrupted. When it is closed, it sends its client the reason, except in [`Dialect::Bare`] and
    /// in the middle of an event.
    #[error("{}", .0.as_str())]
    Reaped(StreamInterrupt),
}

/// An open stream. It is closed when its action returns, or earlier.
pub struct Stream<'a> {
    // Dropped before the action's end of the queue, because the pool thread ends the answer when that end is dropped.
    // An interrupt can therefore affect neither the next answer on the connection nor the next request on the thread. A
    // client that reconnects as soon as it has read its answer is not counted twice.
    membership: Membership,
    writes_to: WritesTo<'a>,
    streams: &'a Arc<Streams>,
    last_event_id: Option<Cow<'a, str>>,
    /// The number of the action's own thread. `None` on a pool thread.
    own_thread: Option<usize>,
    /// `None` in the bare dialect.
    said: Option<Preamble>,
    state: StreamState,
}

/// The destination of a stream's writes.
enum WritesTo<'a> {
    /// Directly to the client, from the pool thread.
    Client(&'a mut AnswerWriter),
    /// Into the queue from which the pool thread writes to the client.
    Queue(ActionSide),
}

/// The parts of a stream whose action runs on its own thread.
pub(crate) struct OwnThread {
    /// The number of the thread.
    pub number: usize,
    pub queue: ActionSide,
    pub membership: Membership,
    pub last_event_id: Option<String>,
}

/// What a stream sends in addition to its events.
struct Preamble {
    greeting: &'static str,
    retry: Duration,
}

impl Preamble {
    fn of(dialect: Dialect, streams: &Streams) -> Option<Preamble> {
        match dialect {
            Dialect::Resumable { retry, greeting } => {
                Some(Preamble { greeting, retry: retry.unwrap_or_else(|| streams.drawn_retry()) })
            }
            Dialect::Bare => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamState {
    /// Nothing has been written, not even the head.
    New,
    /// Between two events.
    Whole,
    /// In the middle of an event.
    Torn,
    Closed(AnswerEnd),
}

impl<'a> Stream<'a> {
    pub(crate) fn open(
        streams: &'a Arc<Streams>,
        connection: &'a mut AnswerWriter,
        request: &'a Request,
        dialect: Dialect,
    ) -> Self {
        let membership = streams.enter(request.subject(), request.thread(), connection.cutter());
        let last_event_id = request.only_header("last-event-id").map(Cow::Borrowed);
        let said = Preamble::of(dialect, streams);
        let writes_to = WritesTo::Client(connection);
        Stream {
            writes_to,
            streams,
            last_event_id,
            own_thread: None,
            membership,
            said,
            state: StreamState::New,
        }
    }

    /// Opens a stream whose action runs on its own thread.
    pub(crate) fn open_on_own_thread(streams: &'a Arc<Streams>, own: OwnThread, dialect: Dialect) -> Self {
        let OwnThread { number, queue, membership, last_event_id } = own;
        let said = Preamble::of(dialect, streams);
        let (writes_to, last_event_id) = (WritesTo::Queue(queue), last_event_id.map(Cow::Owned));
        let own_thread = Some(number);
        Stream { writes_to, streams, last_event_id, own_thread, membership, said, state: StreamState::New }
    }

    /// Returns the `Last-Event-ID` of the request, if the client sent one that can be parsed as a `T`.
    pub fn last_event_id<T: FromStr>(&self) -> Option<T> {
        self.last_event_id.as_deref()?.parse().ok()
    }

    /// Returns the number of the action's own thread, or `None` if the action runs on a pool thread.
    pub fn own_thread(&self) -> Option<usize> {
        self.own_thread
    }

    /// Sends one event.
    ///
    /// Blocks while the client does not read and the socket buffers are full, for at most the write timeout per piece
    /// of 64 KiB. If the action runs on its own thread ([`ActionsOn::OwnThread`]), this blocks only while the queue of
    /// ten pieces is full, and the error of a failed write to the client is returned by the next call.
    ///
    /// # Errors
    ///
    /// Returns `ClientDisconnected` if a write fails, and `Reaped` if the stream has been interrupted. An interrupt is
    /// detected between pieces. If the server has access to the socket, an interrupt also ends a blocked write
    /// immediately. After an error, and once the stream is closed, every further call fails and sends nothing. If the
    /// answer to an HTTP/1.0 client has ended before its action, the action does not get an error: its calls succeed
    /// and send nothing.
    ///
    /// [`ActionsOn::OwnThread`]: crate::ActionsOn::OwnThread
    pub fn send(&mut self, event: impl Borrow<Event>) -> Result<(), StreamError> {
        self.look()?;
        self.expect_open()?;
        let mut text = String::new();
        if let (StreamState::New, Some(said)) = (self.state, &self.said) {
            // Not a separate block, because some clients treat a block that has only a `retry:` as an event.
            event::comment(&mut text, said.greeting);
            event::retry(&mut text, said.retry);
        }
        event.borrow().encode(&mut text);
        for piece in text.as_bytes().chunks(PIECE_BYTES) {
            self.look()?;
            self.write(piece)?;
            self.state = StreamState::Torn;
        }
        self.state = StreamState::Whole;
        Ok(())
    }

    /// Sleeps for this long.
    ///
    /// # Errors
    ///
    /// Returns `Reaped` as soon as the stream is interrupted. With [`NoticeClose::ByPoll`], returns
    /// `ClientDisconnected` as soon as the client closes.
    pub fn sleep(&mut self, duration: Duration) -> Result<(), StreamError> {
        self.expect_open()?;
        // A stream that was refused when it was opened has not been cut off, so a wait on its socket would not end
        // early.
        self.look()?;
        if self.streams.notice_close == NoticeClose::ByPoll
            && let WritesTo::Client(connection) = &mut self.writes_to
            && let Some(waited) = connection.wait_for_close(duration)
        {
            return match waited {
                Waited::TimedOut => Ok(()),
                Waited::Cut => self.look(),
                Waited::Closed => {
                    let error = connection.closed();
                    Err(self.lose(error))
                }
            };
        }
        match self.membership.interrupted.recv_timeout(duration) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => self.look(),
            Ok(never) => match never {},
        }
    }

    /// Returns a channel that is disconnected when the stream is interrupted. Use it for other waits that must end
    /// then, such as for a database connection.
    pub fn interrupted(&self) -> &Receiver<Infallible> {
        &self.membership.interrupted
    }

    /// Returns `Reaped` if the stream has been interrupted.
    pub fn look(&self) -> Result<(), StreamError> {
        self.membership.why().map_or(Ok(()), |why| Err(StreamError::Reaped(why)))
    }

    /// Ends the stream. A second call does nothing.
    ///
    /// In the `Resumable` dialect, an interrupted stream tells its client why it ended and when to reconnect. If it is
    /// in the middle of an event, it is cut off instead.
    pub(crate) fn close(&mut self) -> AnswerEnd {
        let ended = self.end();
        if let WritesTo::Queue(queue) = &mut self.writes_to {
            queue.end(ended);
        }
        ended
    }

    fn end(&mut self) -> AnswerEnd {
        let ended = match self.state {
            StreamState::Closed(ended) => return ended,
            StreamState::Torn => AnswerEnd::Cut,
            StreamState::New | StreamState::Whole => AnswerEnd::Clean,
        };
        self.state = StreamState::Closed(ended);
        if let (Some(said), Some(why)) = (&self.said, self.membership.why()) {
            let mut goodbye = String::new();
            event::comment(&mut goodbye, why.as_str());
            event::retry(&mut goodbye, said.retry);
            goodbye.push('\n');
            match &mut self.writes_to {
                WritesTo::Client(connection) => connection.say_last(goodbye.as_bytes()),
                WritesTo::Queue(queue) => queue.say_last(goodbye.as_bytes()),
            }
        }
        ended
    }

    fn expect_open(&self) -> Result<(), StreamError> {
        match self.state {
            StreamState::Closed(_) => {
                self.look()?;
                Err(StreamError::ClientDisconnected(match &self.writes_to {
                    WritesTo::Client(connection) => connection.over(),
                    WritesTo::Queue(queue) => queue.over(),
                }))
            }
            StreamState::New | StreamState::Whole | StreamState::Torn => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let written = match &mut self.writes_to {
            WritesTo::Client(connection) => connection.write(bytes),
            WritesTo::Queue(queue) => queue.write(bytes, &self.membership.interrupted),
        };
        written.map_err(|error| self.lose(error))
    }

    /// Handles a failed write: either the client is gone, or the stream was interrupted while the write was blocked.
    fn lose(&mut self, error: WriteError) -> StreamError {
        self.state = StreamState::Closed(AnswerEnd::Cut);
        match self.membership.why() {
            Some(why) => StreamError::Reaped(why),
            None => {
                self.streams.count_disconnected();
                StreamError::ClientDisconnected(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use crossbeam_channel::bounded;

    use super::*;
    use crate::{Response, Server};

    #[test]
    fn after_a_failed_write_nothing_more_is_sent_and_the_stream_is_cut_off() {
        let (tell, told) = bounded(1);
        let app = move |_: &Request| {
            let tell = tell.clone();
            Response::events_in(Dialect::Bare, move |stream| {
                // More than the kernel buffers on loopback.
                let large = Event::data("x".repeat(16 << 20));
                let first = stream.send(&large).is_err();
                let others = (0..3).filter(|_| stream.send(Event::data("behind it")).is_err()).count();
                let sleeps = stream.sleep(Duration::ZERO).is_err();
                let _ = tell.send((first, others, sleeps, stream.close()));
                Ok(())
            })
        };
        let server =
            Server::bind("127.0.0.1:0").write_timeout(Duration::from_millis(200)).start(app).unwrap();
        let mut client = TcpStream::connect(server.addr()).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let seen = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(seen, (true, 3, true, AnswerEnd::Cut));
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert!(!all.ends_with(b"0\r\n\r\n"), "the body that was cut off is framed as complete");
        assert!(!all.windows(9).any(|bytes| bytes == b"behind it"));
        assert_eq!(server.streams().stats().disconnected, 1);
    }

    #[test]
    fn a_refused_stream_does_not_sleep_however_closes_are_noticed() {
        for how in [NoticeClose::ByWrite, NoticeClose::ByPoll] {
            let app = |_: &Request| Response::events(|stream| stream.sleep(Duration::from_secs(600)));
            let server = Server::bind("127.0.0.1:0").stream_cap(0).notice_close(how).start(app).unwrap();
            let mut client = TcpStream::connect(server.addr()).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            let mut all = String::new();
            client.read_to_string(&mut all).unwrap();
            assert!(all.contains(StreamInterrupt::Full.as_str()), "{how:?}: {all}");
        }
    }

    #[test]
    fn a_client_that_closes_before_the_first_event_frees_its_thread() {
        let (tell, told) = bounded(1);
        let app = move |request: &Request| {
            if request.path() == "/page" {
                return Response::text("a page");
            }
            let tell = tell.clone();
            Response::events(move |stream| {
                let slept = stream.sleep(Duration::from_secs(60));
                let _ = tell.send(matches!(slept, Err(StreamError::ClientDisconnected(_))));
                slept
            })
        };
        let server =
            Server::bind("127.0.0.1:0").threads(1..=1).notice_close(NoticeClose::ByPoll).start(app).unwrap();
        let ask = |path: &str| {
            let mut client = TcpStream::connect(server.addr()).unwrap();
            write!(client, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            client
        };
        let client = ask("/events");
        while server.streams().stats().open == 0 {
            std::thread::yield_now();
        }
        drop(client);
        assert!(told.recv_timeout(Duration::from_secs(60)).unwrap());
        let mut page = String::new();
        ask("/page").read_to_string(&mut page).unwrap();
        assert!(page.ends_with("a page"), "{page}");
        assert_eq!(server.streams().stats().disconnected, 1);
    }
}
