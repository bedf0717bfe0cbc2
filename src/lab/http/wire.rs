//! The bytes of a connection, plain or over TLS, with a deadline. Another thread can end it.
//!
//! The socket has one owner, the [`Wire`]. When it is dropped, the socket is closed, even if a [`Closer`] still
//! exists. Reading and writing block until the deadline, or forever without one, or until a closer is used.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ClientConnection, StreamOwned};
use socket2::Socket;

/// The shortest timeout that a socket can have.
const SHORTEST_WAIT: Duration = Duration::from_micros(1);

/// The socket, as its wire and the closers share it.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) socket: Socket,
    /// Whether a closer was used.
    is_over: AtomicBool,
    /// Whether the owner may be blocked in a write.
    is_writing: AtomicBool,
}

impl Line {
    pub(super) fn new(socket: Socket) -> Arc<Line> {
        let (is_over, is_writing) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Line { socket, is_over, is_writing })
    }
}

/// Ends a connection from another thread. Does not keep the socket open.
#[derive(Debug, Clone)]
pub struct Closer(Weak<Line>);

impl Closer {
    pub(super) fn new(line: &Arc<Line>) -> Closer {
        Closer(Arc::downgrade(line))
    }

    /// Sends FIN and wakes the thread that connects, reads or writes. Does nothing if the connection has already
    /// ended. Never blocks.
    pub fn close(&self) {
        if let Some(line) = self.0.upgrade() {
            line.is_over.store(true, Ordering::SeqCst);
            // This fails if the peer closed first. There is nothing to do in that case.
            let _ = line.socket.shutdown(Shutdown::Both);
        }
    }

    /// The local address, from the first attempt to connect until the connection is gone. `None` otherwise.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        let address = self.0.upgrade()?.socket.local_addr().ok()?.as_socket()?;
        (address.port() != 0).then_some(address)
    }

    /// Wakes the thread that connects, reads or writes. That thread must then drop the connection immediately, which
    /// sends RST instead of FIN. Until it does, a read returns the end of the connection, as if the server had closed
    /// it. Does nothing if the connection has already ended. Never blocks.
    pub fn reset(&self) {
        if let Some(line) = self.0.upgrade() {
            // Both fail if the peer closed first.
            let _ = line.socket.set_linger(Some(Duration::ZERO));
            line.is_over.store(true, Ordering::SeqCst);
            // Only `Both` wakes a blocked write. The FIN that it sends stays behind the bytes that block the write.
            let is_writing = line.is_writing.load(Ordering::SeqCst);
            let _ = line.socket.shutdown(if is_writing { Shutdown::Both } else { Shutdown::Read });
        }
    }
}

/// The socket with a deadline. Each read and write may take the time that is left.
#[derive(Debug)]
pub(super) struct PlainWire {
    line: Arc<Line>,
    deadline: Option<Instant>,
}

impl PlainWire {
    pub(super) fn new(line: Arc<Line>, deadline: Option<Instant>) -> PlainWire {
        PlainWire { line, deadline }
    }

    fn time_left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        // The kernel counts in microseconds, and treats 0 as no timeout.
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left.max(SHORTEST_WAIT))) }
    }

    fn is_over(&self) -> bool {
        self.line.is_over.load(Ordering::SeqCst)
    }
}

impl Read for PlainWire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.line.socket.set_read_timeout(self.time_left()?)?;
        // After a close, the kernel may still hold megabytes from a fast server, which are not read.
        if self.is_over() { Ok(0) } else { (&self.line.socket).read(buffer) }
    }
}

impl Write for PlainWire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.line.socket.set_write_timeout(self.time_left()?)?;
        self.line.is_writing.store(true, Ordering::SeqCst);
        let written = match self.is_over() {
            true => Err(ErrorKind::BrokenPipe.into()),
            false => (&self.line.socket).write(buffer),
        };
        self.line.is_writing.store(false, Ordering::SeqCst);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a connection reads from and writes to.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(PlainWire),
    Tls(Box<StreamOwned<ClientConnection, PlainWire>>),
}

impl Wire {
    fn plain(&self) -> &PlainWire {
        match self {
            Wire::Plain(wire) => wire,
            Wire::Tls(stream) => &stream.sock,
        }
    }

    /// Makes reading and writing fail once `deadline` has passed.
    pub(super) fn set_deadline(&mut self, deadline: Option<Instant>) {
        let plain = match self {
            Wire::Plain(wire) => wire,
            Wire::Tls(stream) => &mut stream.sock,
        };
        plain.deadline = deadline;
    }

    pub(super) fn closer(&self) -> Closer {
        Closer::new(&self.plain().line)
    }

    /// The local address, or `None` for a Unix socket and once the connection is gone.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.plain().line.socket.local_addr().ok()?.as_socket()
    }

    /// Whether the peer has neither closed nor reset the connection. Never blocks. On systems other than Linux, unread
    /// bytes hide the end of the connection.
    pub(super) fn is_open(&self) -> bool {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let socket = &self.plain().line.socket;
        #[cfg(target_os = "linux")]
        let watched = PollFlags::RDHUP;
        #[cfg(not(target_os = "linux"))]
        let watched = PollFlags::IN;
        let mut polled = [PollFd::new(socket, watched)];
        // If the poll fails, the connection counts as open.
        if !matches!(poll(&mut polled, Some(&NOW)), Ok(1..)) {
            return true;
        }
        let is_readable = polled[0].revents() == PollFlags::IN;
        is_readable && matches!(socket.peek(&mut [std::mem::MaybeUninit::uninit()]), Ok(1..))
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stream = match self {
            Wire::Plain(wire) => return wire.read(buffer),
            Wire::Tls(stream) => stream,
        };
        match stream.read(buffer) {
            // The server closed without TLS's close_notify. As in browsers, the framing decides whether the body is
            // complete.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            // A broken record or an alert ends the connection, and says nothing about the body.
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                Err(io::Error::new(ErrorKind::ConnectionAborted, error))
            }
            read => read,
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(wire) => wire.write(buffer),
            Wire::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(wire) => wire.flush(),
            Wire::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn a_deadline_that_is_less_than_a_microsecond_away_still_limits_the_wait() {
        let line = Line::new(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap());
        let mut wire = PlainWire::new(Arc::clone(&line), None);
        for _ in 0..200_000 {
            wire.deadline = Some(Instant::now() + Duration::from_nanos(900));
            // The socket is not connected, so the read does not wait.
            let read = wire.read(&mut [0]).unwrap_err();
            if read.kind() != ErrorKind::TimedOut {
                assert_ne!(line.socket.read_timeout().unwrap(), None);
            }
        }
    }
}
