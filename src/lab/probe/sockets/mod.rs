//! The TCP sockets of this machine, as the kernel shows them to every user.
//!
//! The server's end of a loopback connection is a socket of this machine, so its state shows where a request waits. On
//! Linux, the kernel can be asked for one socket by its two addresses ([`exact`]). If it cannot, or if it knows neither
//! the socket nor one that listens for it, the list of all sockets is read instead ([`table`]), which takes a hundred
//! times as long. On other systems, no socket is found.

#[cfg(target_os = "linux")]
mod exact;
mod table;

use std::net::SocketAddr;

#[cfg(target_os = "linux")]
use exact::KernelAnswer;

/// A socket of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TcpSocket {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// One of the constants below, or another TCP state.
    pub(super) state: u8,
    /// Bytes that the other end has not acknowledged.
    pub(super) unsent: u64,
    /// Bytes that the program has not read. For a listening socket, the connections that it has not accepted.
    pub(super) unread: u64,
    /// The inode of the socket, or 0 for a connection that no program has accepted.
    pub(super) inode: u64,
}

/// TCP states, as the kernel numbers them.
pub(super) const ESTABLISHED: u8 = 0x01;
pub(super) const SYN_SENT: u8 = 0x02;
pub(super) const SYN_RECV: u8 = 0x03;
pub(super) const CLOSE_WAIT: u8 = 0x08;
pub(super) const LISTEN: u8 = 0x0a;

/// The sockets at the two ends of a connection, as far as they exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketEnds {
    pub(super) server: Option<TcpSocket>,
    /// Looked up only if the server has no end of its own.
    pub(super) client: Option<TcpSocket>,
}

/// The ends of the connections from these addresses to `server`, in the same order. `None` if the kernel does not show
/// its sockets. Blocks for microseconds, or for milliseconds if it must read the whole list.
pub(super) fn ends(server: SocketAddr, ours: &[SocketAddr]) -> Option<Vec<SocketEnds>> {
    exact_ends(server, ours).or_else(|| {
        let sockets = with_port(server)?;
        Some(ours.iter().map(|ours| ends_among(&sockets, server, *ours)).collect())
    })
}

/// `None` if one of the connections has no end and no program of this machine listens at the server's address.
#[cfg(target_os = "linux")]
fn exact_ends(server: SocketAddr, ours: &[SocketAddr]) -> Option<Vec<SocketEnds>> {
    let kernel = exact::Kernel::open().ok()?;
    let find = |ours: &SocketAddr| {
        let at_server = kernel.connection(server, *ours).ok()?;
        if let KernelAnswer::Socket(socket) = at_server {
            return Some(SocketEnds { server: Some(socket), client: None });
        }
        match kernel.connection(*ours, server).ok()? {
            KernelAnswer::Socket(socket) => Some(SocketEnds { server: None, client: Some(socket) }),
            // The kernel finds TCP sockets, because it found the listener.
            _ if at_server == KernelAnswer::OnlyListener => Some(SocketEnds { server: None, client: None }),
            _ => None,
        }
    };
    ours.iter().map(find).collect()
}

#[cfg(not(target_os = "linux"))]
fn exact_ends(_server: SocketAddr, _ours: &[SocketAddr]) -> Option<Vec<SocketEnds>> {
    None
}

/// The sockets that have the server's port at one end. `None` if the kernel does not show its sockets. Blocks for
/// milliseconds.
pub(super) fn with_port(server: SocketAddr) -> Option<Vec<TcpSocket>> {
    if cfg!(target_os = "linux") { table::with_port(server) } else { None }
}

fn ends_among(sockets: &[TcpSocket], server: SocketAddr, ours: SocketAddr) -> SocketEnds {
    let has = |one: SocketAddr, other: SocketAddr| {
        one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
    };
    let find =
        |local, remote| sockets.iter().find(|it| has(it.local, local) && has(it.remote, remote)).copied();
    let found = find(server, ours);
    SocketEnds { server: found, client: if found.is_none() { find(ours, server) } else { None } }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::Write;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// Compares the exact answer with the list.
    fn expect_same(server: SocketAddr, ours: SocketAddr) -> SocketEnds {
        let exact = exact_ends(server, &[ours]).expect("an exact answer")[0];
        let sockets = with_port(server).unwrap();
        assert_eq!(exact, ends_among(&sockets, server, ours));
        exact
    }

    /// Waits until a socket that the test has closed is gone. A child process that another test starts has a copy of it
    /// until it runs its program.
    fn wait_until(what: &str, is_true: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_true() {
            assert!(Instant::now() < end, "not true after a minute: {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn an_exact_answer_is_the_one_in_the_list_for_each_family_and_state() {
        for (listen, connect) in [
            ("127.0.0.1:0", IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ("[::1]:0", IpAddr::V6(Ipv6Addr::LOCALHOST)),
            // A socket of IPv6 that also serves IPv4.
            ("[::]:0", IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ] {
            let Ok(listener) = TcpListener::bind(listen) else {
                eprintln!("skipped: this machine has no IPv6");
                continue;
            };
            let server = SocketAddr::new(connect, listener.local_addr().unwrap().port());
            let mut client = TcpStream::connect(server).unwrap();
            let ours = client.local_addr().unwrap();
            client.write_all(b"abc").unwrap();

            let waiting = expect_same(server, ours).server.unwrap();
            assert_eq!((waiting.state, waiting.unread, waiting.inode), (ESTABLISHED, 3, 0), "{listen}");
            let (mut accepted, _) = listener.accept().unwrap();
            accepted.write_all(&[0; 100]).unwrap();
            let held = expect_same(server, ours).server.unwrap();
            assert!(held.inode != 0 && held.unread == 3, "{listen}: {held:?}");
            drop(accepted);
            // The unread bytes made the server's end reset the connection, so no end is left.
            let none = SocketEnds { server: None, client: None };
            wait_until("the connection is gone", || exact_ends(server, &[ours]) == Some(vec![none]));
            assert_eq!(expect_same(server, ours), none, "{listen}");
            drop(listener);
            wait_until("the listener is gone", || exact_ends(server, &[ours]).is_none());
        }
    }

    #[test]
    fn a_listening_socket_is_not_the_end_of_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        // The kernel answers with the listening socket if no connection has these addresses.
        let ends = expect_same(server, SocketAddr::from(([127, 0, 0, 1], 1)));
        assert_eq!(ends, SocketEnds { server: None, client: None });
    }

    #[test]
    fn a_connection_that_is_being_made_has_only_the_clients_end() {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let server = listener.local_addr().unwrap().as_socket().unwrap();
        // One connection fills the queue of a backlog of 0. The kernel drops the SYN of the second one.
        let _first = TcpStream::connect(server).unwrap();
        let second = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        second.set_nonblocking(true).unwrap();
        let _ = second.connect(&server.into());
        let ours = second.local_addr().unwrap().as_socket().unwrap();
        let ends = expect_same(server, ours);
        assert_eq!((ends.server, ends.client.map(|it| it.state)), (None, Some(SYN_SENT)));
    }
}
