//! A socket that is written to by one thread and can be cut by another.
//!
//! Models the writing of Puma's `fast_write_str`: write, and where the kernel's
//! buffers are full wait until the client has read, at most for the write timeout,
//! which here is a sum over all waits. A wait can be ended from outside: the stream
//! reaper holds a [`Cutter`], by which a write that is blocked, or is about to be,
//! fails at once.

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

/// The most that is read at once, in bytes. It is read onto the stack, which is as deep
/// for every page, so that a thread has no buffer of its own.
pub(super) const READ_BYTES: usize = 8 * 1024;

/// What one write hands to the kernel: pieces that lie in different places, in their order.
pub(super) type WritePieces<'a> = [&'a [u8]; 3];

/// A connection's socket, set not to block.
#[derive(Debug)]
pub(super) struct Socket {
    pub stream: TcpStream,
    /// A thread waits until the client reads.
    blocked: AtomicBool,
    /// A thread waits until the client closes.
    listening: AtomicBool,
    cut: AtomicBool,
    /// Reading was ended on our side, so that the end of the stream says nothing about the client.
    deaf: AtomicBool,
    /// The results of earlier looks at its unread bytes.
    pub peeked: Peeked,
    /// Bytes written since its last request began.
    written: AtomicUsize,
    /// How many there are; one less when this one goes.
    count: Arc<AtomicUsize>,
}

/// What is known of a connection's next request from looks at its unread bytes.
#[derive(Debug, Default)]
pub(super) struct Peeked {
    /// The number of bytes that held an incomplete head at the last look.
    pub no_head: AtomicU32,
    /// Whether a look has found a whole head.
    pub has_head: AtomicBool,
    /// The request whose head has been noted.
    pub noted: AtomicU64,
}

impl Peeked {
    /// The next request begins.
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
    /// In total.
    pub total: Duration,
    /// While the client takes nothing.
    pub stall: Duration,
}

impl Patience {
    /// As long as this in total, however little the client takes.
    pub fn of(total: Duration) -> Patience {
        Patience { total, stall: total }
    }

    /// No longer than these.
    pub fn at_most(self, total: Duration, stall: Duration) -> Patience {
        Patience { total: self.total.min(total), stall: self.stall.min(stall) }
    }
}

/// Ends a stream's waits: for its client to read, and for its client to close.
#[derive(Debug, Clone, Default)]
pub struct Cutter(pub(super) Weak<Socket>);

/// What ended a wait for the client to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The time is over.
    TimedOut,
    /// The client has closed, or has stopped sending: the two look the same.
    Closed,
    /// Somebody asked for the end of the stream.
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

    /// Writes all of it, waiting for the client no longer than its patience.
    /// Answers how long it waited, also where it waited in vain.
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
        // Empty pieces at either end are left out.
        let filled = pieces.iter().rposition(|piece| !piece.is_empty()).map_or(0, |last| last + 1);
        let mut rest = &mut slices[..filled];
        IoSlice::advance_slices(&mut rest, 0);
        let mut stalled = Duration::ZERO;
        while !rest.is_empty() {
            let written = match &*rest {
                // The kernel takes one piece faster by a plain write.
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
                    let room = self.wait_for_room(left.min(patience.stall.saturating_sub(stalled)));
                    *waited += began.elapsed();
                    stalled += began.elapsed();
                    room?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what there is room for, and lets the rest go.
    pub fn try_write(&self, bytes: &[u8]) {
        // Its client is gone, or does not read: nobody can be told.
        let _ = (&self.stream).write(bytes);
    }

    /// Tells the client that nothing more will come.
    pub fn finish_writing(&self) {
        // It fails when the client was the first to close.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads once and hands the bytes to `took`. Zero means that nothing more will come. Does not block.
    pub fn read(&self, took: impl FnOnce(&[u8])) -> io::Result<usize> {
        let mut scratch = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            let ((bytes, _), read) = match net::recv(&self.stream, &mut scratch[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                received => received?,
            };
            // After reading was ended on our side, only the kernel knows whether the client has closed.
            if read == 0 && self.deaf.load(Ordering::SeqCst) && self.stream.peer_addr().is_ok() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            took(bytes);
            return Ok(read);
        }
    }

    /// Waits until there is room. Fails when the time is over, or the stream is cut.
    fn wait_for_room(&self, left: Duration) -> io::Result<()> {
        if left.is_zero() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.blocked.store(true, Ordering::SeqCst);
        // Either this is seen by who cuts, or the cut is seen here.
        let outcome = if self.cut.load(Ordering::SeqCst) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            poll_for(&self.stream, PollFlags::OUT, left).map(drop).map_err(io::Error::from)
        };
        self.blocked.store(false, Ordering::SeqCst);
        // The socket that was cut is writable, and would say EPIPE as if its client had gone.
        if self.cut.load(Ordering::SeqCst) { Err(io::ErrorKind::ConnectionAborted.into()) } else { outcome }
    }

    /// Whether a [`Cutter`] has ended its waits.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// Whether the last answer was cut; clears the mark, so that the next one can be written.
    pub fn take_cut(&self) -> bool {
        self.cut.swap(false, Ordering::SeqCst)
    }

    /// Bytes written since its last request began.
    pub fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// The next request begins.
    pub fn reset(&self) {
        self.peeked.reset();
        self.written.store(0, Ordering::Relaxed);
    }

    /// Whether reading was ended on our side.
    pub fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::SeqCst)
    }

    /// Whether the client has closed, or stopped sending. Does not block.
    pub fn is_closed(&self) -> bool {
        wait_for_peer_close(&self.stream, Duration::ZERO)
    }

    /// Waits for the client to close.
    pub fn wait_for_close(&self, timeout: Duration) -> Waited {
        self.listening.store(true, Ordering::SeqCst);
        // Either this is seen by who cuts, or the cut is seen here.
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
    /// Ends the waits of this stream until its answer has ended. A write that is blocked fails;
    /// what is written without waiting still goes out.
    pub fn cut(&self) {
        let Some(socket) = self.0.upgrade() else { return };
        socket.cut.store(true, Ordering::SeqCst);
        // These fail when the client was the first to close.
        if socket.blocked.load(Ordering::SeqCst) {
            let _ = socket.stream.shutdown(Shutdown::Write);
        }
        if socket.listening.load(Ordering::SeqCst) {
            socket.deaf.store(true, Ordering::SeqCst);
            let _ = socket.stream.shutdown(Shutdown::Read);
        }
    }
}

/// Waits at most for `timeout` and returns whether the peer has closed, or stopped sending: the
/// two look the same. May return false early.
///
/// Models Puma's `closed_socket?`, which reads TCP_INFO. Linux reports the peer's FIN as POLLRDHUP. Other
/// systems have no such flag, so there the end of the stream is looked for with `recv(MSG_PEEK)`, and found
/// only once everything before it has been read.
#[cfg(target_os = "linux")]
fn wait_for_peer_close(stream: &TcpStream, timeout: Duration) -> bool {
    // A failed poll leaves nothing to wait for.
    poll_for(stream, PollFlags::RDHUP, timeout).map_or(true, |seen| !seen.is_empty())
}

/// As on Linux, except that unread bytes hide the end of the stream.
#[cfg(not(target_os = "linux"))]
fn wait_for_peer_close(stream: &TcpStream, timeout: Duration) -> bool {
    /// How often the socket is asked while unread bytes lie before the end of the stream:
    /// poll reports them at once, so it cannot be waited on.
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

/// Waits for one of these to be so. Empty when the time is over, or a signal came.
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
    fn pieces_of_one_write_arrive_in_order_however_the_kernel_takes_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = Socket::new(listener.accept().unwrap().0, &Arc::default()).unwrap();
        // More than the kernel's buffers take at once.
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
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "nothing else was written");
    }

    #[test]
    fn a_closed_peer_is_seen_at_once_and_an_open_one_is_not() -> std::io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let peer = TcpStream::connect(listener.local_addr()?)?;
        let (ours, _) = listener.accept()?;
        assert!(!wait_for_peer_close(&ours, Duration::ZERO));
        (&peer).write_all(b"unread")?;
        assert!(!wait_for_peer_close(&ours, Duration::from_millis(1)), "bytes are not an end");
        peer.shutdown(Shutdown::Write)?;
        if cfg!(target_os = "linux") {
            assert!(wait_for_peer_close(&ours, Duration::from_secs(60)), "unread bytes do not hide the end");
        }
        Ok(())
    }
}
