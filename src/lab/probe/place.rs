//! Finds out where a request waits, from the sockets at the two ends of its connection.
//!
//! This works on Linux for loopback connections, because the server's end of such a connection is a socket of this
//! machine. It needs no privileges. For other connections, the place is unknown.

use std::net::SocketAddr;

use super::measured::WaitPlace;
use super::sockets::{self, CLOSE_WAIT, ESTABLISHED, SYN_RECV, SYN_SENT, SocketEnds};

/// Where the requests from these addresses to `server` wait. `None` for a request whose place cannot be determined.
/// Blocks for as long as [`sockets::ends`].
pub(super) fn of(server: SocketAddr, ours: &[Option<SocketAddr>]) -> Vec<Option<WaitPlace>> {
    let known: Vec<SocketAddr> = ours.iter().copied().flatten().collect();
    let is_here = server.ip().to_canonical().is_loopback() && !known.is_empty();
    let ends = if is_here { sockets::ends(server, &known) } else { None };
    let mut places = ends.unwrap_or_default().into_iter().map(|ends| place_of(&ends));
    ours.iter().map(|ours| ours.and_then(|_| places.next())).collect()
}

/// Bytes that the server has written to `ours` and that the client's kernel has not acknowledged.
pub(super) fn unsent(server: SocketAddr, ours: &[SocketAddr]) -> Option<u64> {
    if !server.ip().to_canonical().is_loopback() {
        return None;
    }
    let ends = sockets::ends(server, ours)?;
    Some(ends.iter().filter_map(|ends| Some(ends.server?.unsent)).sum())
}

fn place_of(ends: &SocketEnds) -> WaitPlace {
    let Some(socket) = ends.server else {
        let is_connecting = ends.client.is_some_and(|socket| socket.state == SYN_SENT);
        // On loopback, the kernel drops a SYN only if the accept queue is full.
        return if is_connecting { WaitPlace::AcceptQueueFull } else { WaitPlace::Refused };
    };
    match socket.state {
        SYN_RECV => WaitPlace::AcceptQueueFull,
        ESTABLISHED | CLOSE_WAIT if socket.inode == 0 => WaitPlace::Kernel,
        ESTABLISHED | CLOSE_WAIT if socket.unread > 0 => WaitPlace::Unread,
        ESTABLISHED | CLOSE_WAIT => WaitPlace::Read,
        _ => WaitPlace::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sockets::TcpSocket;
    use super::*;

    fn at(ip: &str, port: u16) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), port)
    }

    fn socket(state: u8, unread: u64, inode: u64) -> Option<TcpSocket> {
        let (local, remote) = (at("127.0.0.1", 8080), at("127.0.0.1", 4096));
        Some(TcpSocket { local, remote, state, unsent: 0, unread, inode })
    }

    #[test]
    fn the_servers_end_shows_where_a_request_waits() {
        const TIME_WAIT: u8 = 0x06;
        for (state, unread, inode, place) in [
            (ESTABLISHED, 0, 7, WaitPlace::Read),
            (ESTABLISHED, 77, 7, WaitPlace::Unread),
            (ESTABLISHED, 77, 0, WaitPlace::Kernel),
            (CLOSE_WAIT, 77, 0, WaitPlace::Kernel),
            (SYN_RECV, 0, 0, WaitPlace::AcceptQueueFull),
            (TIME_WAIT, 0, 0, WaitPlace::Refused),
        ] {
            let found = place_of(&SocketEnds { server: socket(state, unread, inode), client: None });
            assert_eq!(found, place, "{state} {unread} {inode}");
        }
    }

    #[test]
    fn without_a_servers_end_a_connection_is_still_being_made_or_has_ended() {
        let ends = |client| SocketEnds { server: None, client };
        assert_eq!(place_of(&ends(socket(SYN_SENT, 0, 9))), WaitPlace::AcceptQueueFull);
        assert_eq!(place_of(&ends(socket(ESTABLISHED, 0, 9))), WaitPlace::Refused);
        assert_eq!(place_of(&ends(None)), WaitPlace::Refused);
    }

    #[test]
    fn only_loopback_has_the_servers_end_on_this_machine() {
        assert_eq!(of(at("192.0.2.1", 80), &[Some(at("192.0.2.2", 4096))]), [None]);
        assert_eq!(of(at("127.0.0.1", 80), &[None]), [None]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn each_place_belongs_to_its_address_whichever_addresses_are_unknown() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(server).unwrap();
        let found = of(server, &[None, Some(client.local_addr().unwrap()), None]);
        assert_eq!(found, [None, Some(WaitPlace::Kernel), None]);
        assert_eq!(unsent(server, &[client.local_addr().unwrap()]), Some(0));
    }
}
