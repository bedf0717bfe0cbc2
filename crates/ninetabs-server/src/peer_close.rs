//! Whether the peer of a socket has closed its side, asked of the kernel without reading.
//!
//! Models Puma's `closed_socket?`, which reads TCP_INFO. Linux reports the peer's FIN as
//! POLLRDHUP. Other systems have no such flag, so there the end of the stream is looked for with
//! `recv(MSG_PEEK)`, and found only once everything before it has been read.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Waits at most for `timeout` and returns whether the peer has closed, or stopped sending: the
/// two look the same. May return false early.
#[cfg(target_os = "linux")]
pub(super) fn wait(stream: &TcpStream, timeout: Duration) -> bool {
    // A failed poll leaves nothing to wait for.
    poll_for(stream, PollFlags::RDHUP, timeout).map_or(true, |seen| !seen.is_empty())
}

/// As on Linux, except that unread bytes hide the end of the stream.
#[cfg(not(target_os = "linux"))]
pub(super) fn wait(stream: &TcpStream, timeout: Duration) -> bool {
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
pub(super) fn poll_for(stream: &TcpStream, what: PollFlags, timeout: Duration) -> Result<PollFlags, Errno> {
    let mut polled = [PollFd::from_borrowed_fd(stream.as_fd(), what)];
    let timeout = Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) => Ok(polled[0].revents()),
        Err(Errno::INTR) => Ok(PollFlags::empty()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};

    use super::*;

    #[test]
    fn a_closed_peer_is_seen_at_once_and_an_open_one_is_not() -> std::io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let peer = TcpStream::connect(listener.local_addr()?)?;
        let (ours, _) = listener.accept()?;
        assert!(!wait(&ours, Duration::ZERO));
        (&peer).write_all(b"unread")?;
        assert!(!wait(&ours, Duration::from_millis(1)), "bytes are not an end");
        peer.shutdown(Shutdown::Write)?;
        if cfg!(target_os = "linux") {
            assert!(wait(&ours, Duration::from_secs(60)), "unread bytes do not hide the end");
        }
        Ok(())
    }
}
