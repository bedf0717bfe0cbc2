//! Models `response.stream`: what a live action writes on and sleeps beside.
//!
//! In the dialect of the standard every stream says `retry:` at its beginning,
//! with the headers and before the first event, and once more when it is ended
//! politely. The faithful dialect sends what the seed's controller sends and not
//! a byte more.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use thiserror::Error;

use super::event::{self, Event};
use super::registry::{Interrupt, Live, Membership, NoticeClose};
use crate::puma::{Connection, Ended, Waited, WriteError};
use crate::timeline::Subject;

/// The most that is written between two looks at whether the stream is to end, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// What a stream says besides its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Says `retry:` at the beginning and at a polite end: when the client is to come back.
    Resumable { retry: Duration },
    /// The seed's bytes only.
    Faithful,
}

/// Why an action has to leave its stream.
#[derive(Debug, Error)]
pub enum StreamError {
    /// Models ActionController::Live::ClientDisconnected: a write failed.
    #[error("client disconnected: {0}")]
    ClientDisconnected(#[from] WriteError),
    /// The stream was told to end; it says so to its client when it is closed.
    #[error("{}", .0.as_str())]
    Reaped(Interrupt),
}

/// An open stream. Closed at the latest when its action has returned.
pub struct Stream<'a> {
    connection: &'a mut Connection,
    live: &'a Arc<Live>,
    membership: Membership,
    dialect: Dialect,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was written: the head is still to go.
    New,
    /// Between two events.
    Whole,
    /// Told to end in the middle of an event.
    Torn,
    Closed(Ended),
}

impl<'a> Stream<'a> {
    pub(super) fn open(
        live: &'a Arc<Live>,
        connection: &'a mut Connection,
        subject: Subject,
        thread: usize,
        dialect: Dialect,
    ) -> Self {
        let membership = live.enter(subject, thread, connection.cutter());
        Stream { connection, live, membership, dialect, state: State::New }
    }

    /// Sends one event.
    ///
    /// Blocks while the client does not read and its buffers are full, at most for
    /// the write timeout a piece of 64 KiB. Fails with `ClientDisconnected` when a
    /// write fails, and with `Reaped` when the stream is told to end, which is
    /// looked at between the pieces, and where the front door has the socket ends a
    /// blocked one at once. After an error, and once the stream is closed, every further write fails and
    /// sends nothing.
    pub fn write(&mut self, event: &Event) -> Result<(), StreamError> {
        self.look()?;
        self.expect_open()?;
        let mut text = String::new();
        if let (State::New, Dialect::Resumable { retry }) = (self.state, self.dialect) {
            // No block of its own: some readers take one that has only a `retry:` for an event.
            event::comment(&mut text, "a stream of models");
            event::retry(&mut text, retry);
        }
        event.encode(&mut text);
        for piece in text.as_bytes().chunks(PIECE_BYTES) {
            self.look()?;
            self.send(piece)?;
            self.state = State::Torn;
        }
        self.state = State::Whole;
        Ok(())
    }

    /// Sleeps, or fails with `Reaped` as soon as the stream is told to end; where
    /// closes are noticed by poll, with `ClientDisconnected` as soon as one comes.
    pub fn sleep(&mut self, duration: Duration) -> Result<(), StreamError> {
        self.expect_open()?;
        if self.live.notice_close == NoticeClose::ByPoll
            && let Some(waited) = self.connection.wait_for_close(duration)
        {
            return match waited {
                Waited::TimedOut => Ok(()),
                Waited::Cut => self.look(),
                Waited::Closed => {
                    let error = self.connection.closed();
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

    /// What becomes ready once the stream is told to end, for a wait elsewhere
    /// (a database connection) that must end with it.
    pub fn interrupted(&self) -> &Receiver<Infallible> {
        &self.membership.interrupted
    }

    /// Fails with `Reaped` if the stream has been told to end.
    pub fn look(&self) -> Result<(), StreamError> {
        self.membership.why().map_or(Ok(()), |why| Err(StreamError::Reaped(why)))
    }

    /// Ends the stream; a second call does nothing.
    ///
    /// One that was told to end says why, and when to come back. In the middle of
    /// an event it cannot: such a stream is cut.
    pub fn close(&mut self) -> Ended {
        let ended = match self.state {
            State::Closed(ended) => return ended,
            State::Torn => Ended::Cut,
            State::New | State::Whole => Ended::Clean,
        };
        self.state = State::Closed(ended);
        if let (Dialect::Resumable { retry }, Some(why)) = (self.dialect, self.membership.why()) {
            let mut goodbye = String::new();
            event::comment(&mut goodbye, why.as_str());
            event::retry(&mut goodbye, retry);
            goodbye.push('\n');
            self.connection.say_last(goodbye.as_bytes());
        }
        ended
    }

    fn expect_open(&self) -> Result<(), StreamError> {
        match self.state {
            State::Closed(_) => {
                self.look()?;
                Err(StreamError::ClientDisconnected(self.connection.over()))
            }
            State::New | State::Whole | State::Torn => Ok(()),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        self.connection.write(bytes).map_err(|error| self.lose(error))
    }

    /// The client is gone, or this stream's blocked write was cut: then it was told
    /// to end before that.
    fn lose(&mut self, error: WriteError) -> StreamError {
        self.state = State::Closed(Ended::Cut);
        match self.membership.why() {
            Some(why) => StreamError::Reaped(why),
            None => {
                self.live.count_disconnected();
                StreamError::ClientDisconnected(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};

    use crossbeam_channel::bounded;

    use super::super::registry::Settings;
    use super::*;
    use crate::puma::{Configuration, Server};
    use crate::timeline::Timeline;

    #[test]
    fn after_a_write_that_failed_nothing_more_is_sent_and_the_stream_ends_as_cut() {
        let settings = Settings {
            retry: Duration::from_secs(3),
            max_age: None,
            max_age_jitter: 0.0,
            cap: None,
            notice_close: NoticeClose::ByWrite,
        };
        let timeline = Arc::new(Timeline::default());
        let live = Arc::new(Live::new(&settings, Arc::clone(&timeline)));
        let (tell, told) = bounded(1);
        let streams = Arc::clone(&live);
        let app = Arc::new(move |request: &crate::puma::Request| {
            let tell = tell.clone();
            streams.respond(request, Dialect::Faithful, move |stream| {
                let large = Event::data("x".repeat(64 << 20));
                let first = stream.write(&large).is_err();
                let others = (0..3).filter(|_| stream.write(&Event::data("behind it")).is_err()).count();
                let sleeps = stream.sleep(Duration::ZERO).is_err();
                let _ = tell.send((first, others, sleeps, stream.close()));
            })
        });
        let configuration = Configuration {
            write_timeout: Duration::from_millis(200),
            ..Configuration::new("test", (Ipv4Addr::LOCALHOST, 0).into())
        };
        let server = Server::start(configuration, timeline, app).unwrap();
        let mut client = TcpStream::connect(server.address()).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let seen = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(seen, (true, 3, true, Ended::Cut));
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert!(!all.ends_with(b"0\r\n\r\n"), "it looks whole");
        assert!(!all.windows(9).any(|bytes| bytes == b"behind it"));
        assert_eq!(live.stats().disconnected, 1);
    }
}
