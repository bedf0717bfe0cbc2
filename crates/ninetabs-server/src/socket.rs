//! A socket that one thread writes to and another thread can cut off.
//!
//! Models Puma's `fast_write_str`: write, and if the kernel's buffers are full, wait until the client has read. Here
//! the write timeout limits the sum of all these waits. Another thread can end a wait with a [`Cutter`], which the
//! stream reaper holds. A write that is blocked or about to block then fails immediately.

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::event::{self, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags};

/// The maximum number of bytes that one read returns. They are read onto the stack, so threads do not need read
/// buffers. Rendering a page needs at least as much stack anyway.
pub(super) const READ_BYTES: usize = 8 * 1024;

/// The pieces of one write, which are passed to the kernel together, in this order.
pub(super) type WritePieces<'a> = [&'a [u8]; 3];

/// A connection's socket, which is non-blocking.
#[derive(Debug)]
pub(super) struct Socket {
    pub stream: TcpStream,
    /// Whether a thread is waiting for the client to read.
    blocked: AtomicBool,
    /// Whether a thread is waiting for the client to close.
    listening: AtomicBool,
    cut: AtomicBool,
    /// Whether this side has shut down reading. The end of the stream then does not mean that the client has closed.
    deaf: AtomicBool,
    /// The results of earlier peeks at unread bytes.
    pub peeked: Peeked,
    /// Bytes written since the current request began.
    written: AtomicUsize,
    /// The number of open connections. Reduced by one when this is dropped.
    count: Arc<AtomicUsize>,
}

/// The results of peeks at the unread bytes of the connection's next request.
#[derive(Debug, Default)]
pub(super) struct Peeked {
    /// How many bytes the last peek returned, if they contained an incomplete head.
    pub no_head: AtomicU32,
    /// Whether a peek has found a complete head.
    pub has_head: AtomicBool,
    /// The request whose head has been recorded.
    pub noted: AtomicU64,
}

impl Peeked {
    /// Discards the results when the next request begins, and when the client is queued.
    pub fn reset(&self) {
        self.no_head.store(0, Ordering::Relaxed);
        self.has_head.store(false, Ordering::Relaxed);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a write waits for its client to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The limit for all waits together.
    pub total: Duration,
    /// The limit for a wait during which the client reads nothing.
    pub stall: Duration,
}

impl Patience {
    /// Creates limits with this value for both.
    pub fn of(total: Duration) -> Patience {
        Patience { total, stall: total }
    }

    /// Reduces each limit to at most the given one.
    pub fn at_most(self, total: Duration, stall: Duration) -> Patience {
        Patience { total: self.total.min(total), stall: self.stall.min(stall) }
    }
}

/// Ends the waits of a stream for its client to read or to close.
#[derive(Debug, Clone, Default)]
pub struct Cutter(pub(super) Weak<Socket>);

/// Why a wait for the client to close ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The timeout has passed.
    TimedOut,
    /// The client has closed or half-closed. The two look the same.
    Closed,
    /// A [`Cutter`] has ended the wait.
    Cut,
}

impl Socket {
    pub fn new(stream: TcpStream, count: &Arc<AtomicUsize>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Socket {
            stream,
            blocked: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            peeked: Peeked::default(),
            written: AtomicUsize::new(0),
            count: Arc::clone(count),
        })
    }

    /// Writes all pieces, and waits for the client no longer than `patience` allows. Returns how long it
    /// waited, even if the write failed.
    pub fn write_all(
        &self,
        pieces: WritePieces<'_>,
        patience: Patience,
        took: impl Fn(usize),
    ) -> (Duration, io::Result<()>) {
        let mut waited = Duration::ZERO;
        let written = self.write_and_wait(pieces, patience, took, &mut waited);
        (waited, written)
    }

    fn write_and_wait(
        &self,
        pieces: WritePieces<'_>,
        patience: Patience,
        took: impl Fn(usize),
        waited: &mut Duration,
    ) -> io::Result<()> {
        let mut slices = pieces.map(IoSlice::new);
        // Skip empty pieces at both ends.
        let filled = pieces.iter().rposition(|piece| !piece.is_empty()).map_or(0, |last| last + 1);
        let mut rest = &mut slices[..filled];
        IoSlice::advance_slices(&mut rest, 0);
        let mut stalled = Duration::ZERO;
        while !rest.is_empty() {
            let written = match &*rest {
                // A plain write of one piece is faster than a vectored one.
                [one] => (&self.stream).write(one),
                several => (&self.stream).write_vectored(several),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    took(taken);
                    self.written.fetch_add(taken, Ordering::Relaxed);
                    IoSlice::advance_slices(&mut rest, taken);
                    stalled = Duration::ZERO;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let began = Instant::now();
                    let left = patience.total.saturating_sub(*waited);
                    let room = self.wait_until_writable(left.min(patience.stall.saturating_sub(stalled)));
                    *waited += began.elapsed();
                    stalled += began.elapsed();
                    room?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes as much as the kernel accepts without blocking, and drops the rest.
    pub fn try_write(&self, bytes: &[u8]) {
        // If this fails, the client is gone or does not read. In both cases nothing else has to be done.
        let _ = (&self.stream).write(bytes);
    }

    /// Tells the client that nothing more will be sent.
    pub fn finish_writing(&self) {
        // This fails if the client closed first.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads once and hands the bytes to `took`. Zero means that the client will send nothing more. Does not block.
    pub fn read(&self, took: impl FnOnce(&[u8])) -> io::Result<usize> {
        let mut scratch = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            let ((bytes, _), read) = match net::recv(&self.stream, &mut scratch[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                received => received?,
            };
            // After this side has shut down reading, zero does not mean that the client has closed, so ask the kernel.
            if read == 0 && self.deaf.load(Ordering::SeqCst) && self.stream.peer_addr().is_ok() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            took(bytes);
            return Ok(read);
        }
    }

    /// Waits until the kernel accepts more bytes. Fails when the time is up or the stream is cut off.
    fn wait_until_writable(&self, left: Duration) -> io::Result<()> {
        if left.is_zero() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.blocked.store(true, Ordering::SeqCst);
        // Either the cutter sees `blocked`, or this thread sees `cut`.
        let outcome = if self.cut.load(Ordering::SeqCst) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            poll_for(&self.stream, PollFlags::OUT, left).map(drop).map_err(io::Error::from)
        };
        self.blocked.store(false, Ordering::SeqCst);
        // A socket that was cut off is reported as writable, and a write would fail with EPIPE as if the client had
        // gone.
        if self.cut.load(Ordering::SeqCst) { Err(io::ErrorKind::ConnectionAborted.into()) } else { outcome }
    }

    /// Whether a [`Cutter`] has ended the waits of this socket.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// Returns whether the last answer was cut off. Clears the mark, so that the next answer can be written.
    pub fn take_cut(&self) -> bool {
        self.cut.swap(false, Ordering::SeqCst)
    }

    /// Bytes written since the current request began.
    pub fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// Prepares for the next request.
    pub fn reset(&self) {
        self.peeked.reset();
        self.written.store(0, Ordering::Relaxed);
    }

    /// Whether this side has shut down reading.
    pub fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::SeqCst)
    }

    /// Whether the client has closed or half-closed. Does not block.
    pub fn is_closed(&self) -> bool {
        wait_for_peer_close(&self.stream, Duration::ZERO)
    }

    /// Waits for the client to close.
    pub fn wait_for_close(&self, timeout: Duration) -> Waited {
        self.listening.store(true, Ordering::SeqCst);
        // Either the cutter sees `listening`, or this thread sees `cut`.
        let waited = self.listen(timeout);
        self.listening.store(false, Ordering::SeqCst);
        waited
    }

    fn listen(&self, timeout: Duration) -> Waited {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if self.cut.load(Ordering::SeqCst) {
                return Waited::Cut;
            }
            let left = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            match wait_for_peer_close(&self.stream, left) {
                false if left.is_zero() => return Waited::TimedOut,
                false => {}
                true if self.cut.load(Ordering::SeqCst) => return Waited::Cut,
                true => return Waited::Closed,
            }
        }
    }
}

impl Cutter {
    /// Ends the current and all later waits of this stream, until its answer has ended. A blocked write fails. A write
    /// that does not have to wait still succeeds.
    pub fn cut(&self) {
        let Some(socket) = self.0.upgrade() else { return };
        socket.cut.store(true, Ordering::SeqCst);
        // These fail if the client closed first.
        if socket.blocked.load(Ordering::SeqCst) {
            let _ = socket.stream.shutdown(Shutdown::Write);
        }
        if socket.listening.load(Ordering::SeqCst) {
            socket.deaf.store(true, Ordering::SeqCst);
            let _ = socket.stream.shutdown(Shutdown::Read);
        }
    }
}

/// Waits for at most `timeout`, and returns whether the peer has closed or half-closed. (The two look the same.) May
/// return `false` before the timeout.
///
/// Models Puma's `closed_socket?`, which reads TCP_INFO. Linux reports the peer's FIN as POLLRDHUP. Other systems have
/// no such flag. On them, `recv(MSG_PEEK)` detects the end of the stream, but only after all bytes before it have been
/// read.
#[cfg(target_os = "linux")]
fn wait_for_peer_close(stream: &TcpStream, timeout: Duration) -> bool {
    // If the poll fails, waiting is pointless.
    poll_for(stream, PollFlags::RDHUP, timeout).map_or(true, |seen| !seen.is_empty())
}

/// Like the Linux version, except that unread bytes hide the end of the stream.
#[cfg(not(target_os = "linux"))]
fn wait_for_peer_close(stream: &TcpStream, timeout: Duration) -> bool {
    /// The polling interval while there are unread bytes. `poll` returns immediately because of them, so it cannot wait
    /// for the end of the stream.
    const ASK_EVERY: Duration = Duration::from_millis(50);

    match poll_for(stream, PollFlags::IN, timeout) {
        Ok(seen) if seen.is_empty() => false,
        Ok(seen) if seen.intersects(PollFlags::HUP | PollFlags::ERR) => true,
        Ok(_) => match stream.peek(&mut [0]) {
            Ok(0) => true,
            Ok(_) => {
                std::thread::sleep(timeout.min(ASK_EVERY));
                false
            }
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        },
        Err(_) => true,
    }
}

/// Waits for one of these flags. The result is empty after the timeout or a signal.
fn poll_for(stream: &TcpStream, what: PollFlags, timeout: Duration) -> Result<PollFlags, Errno> {
    let mut polled = [PollFd::from_borrowed_fd(stream.as_fd(), what)];
    let timeout = Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match event::poll(&mut polled, Some(&timeout)) {
        Ok(_) => Ok(polled[0].revents()),
        Err(Errno::INTR) => Ok(PollFlags::empty()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn the_pieces_of_one_write_arrive_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = Socket::new(listener.accept().unwrap().0, &Arc::default()).unwrap();
        // More than fits into the kernel's buffers.
        let body: Vec<u8> = (0..20_000_000_u32).map(|at| at as u8).collect();
        for pieces in
            [[&b"head"[..], &body, b"end"], [&body, b"", b"end"], [b"", &body, b""], [b"head", b"", b""]]
        {
            let expected = pieces.concat();
            let reader = thread::spawn({
                let (mut client, length) = (client.try_clone().unwrap(), expected.len());
                move || {
                    let mut read = vec![0; length];
                    client.read_exact(&mut read).map(|()| read).unwrap()
                }
            });
            let taken = Cell::new(0);
            let patience = Patience { total: Duration::from_secs(60), stall: Duration::from_secs(60) };
            let (_, written) = socket.write_all(pieces, patience, |bytes| taken.set(taken.get() + bytes));
            written.unwrap();
            assert_eq!(taken.get(), expected.len());
            assert!(reader.join().unwrap() == expected, "the bytes differ");
        }
        drop(socket);
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "more bytes were written than the pieces contain");
    }

    #[test]
    fn a_half_closed_peer_is_detected_immediately_and_an_open_one_is_not_reported() -> std::io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let peer = TcpStream::connect(listener.local_addr()?)?;
        let (ours, _) = listener.accept()?;
        assert!(!wait_for_peer_close(&ours, Duration::ZERO));
        (&peer).write_all(b"unread")?;
        assert!(
            !wait_for_peer_close(&ours, Duration::from_millis(1)),
            "unread bytes were mistaken for a close"
        );
        peer.shutdown(Shutdown::Write)?;
        if cfg!(target_os = "linux") {
            assert!(wait_for_peer_close(&ours, Duration::from_secs(60)), "unread bytes hid the close");
        }
        Ok(())
    }
}
