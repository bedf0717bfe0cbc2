//! Finds out where a request waits, from the kernel's table of sockets.
//!
//! This works on Linux for loopback connections, because the server's end of such a connection is a socket of this
//! machine. It needs no privileges. For other connections, the place is unknown.

use std::net::{IpAddr, SocketAddr};

use super::measured::WaitPlace;

/// One row of the kernel's table of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketRow {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) state: u8,
    /// Bytes that the other end has not acknowledged.
    pub(super) unsent: u64,
    /// Bytes that the program has not read. For a listening socket, the connections that it has not accepted.
    pub(super) unread: u64,
    /// The inode of the socket, or 0 for a connection that no program has accepted.
    pub(super) inode: u64,
}

/// TCP states, as the kernel numbers them.
const ESTABLISHED: u8 = 0x01;
const SYN_SENT: u8 = 0x02;
const SYN_RECV: u8 = 0x03;
const CLOSE_WAIT: u8 = 0x08;
pub(super) const LISTEN: u8 = 0x0a;

/// Where the requests from these addresses to `server` wait. `None` for a request whose place cannot be determined.
/// Blocks for as long as it takes to read the kernel's table once.
pub(super) fn of(server: SocketAddr, ours: &[Option<SocketAddr>]) -> Vec<Option<WaitPlace>> {
    let is_here = server.ip().to_canonical().is_loopback() && ours.iter().any(Option::is_some);
    let rows = if is_here { rows(server) } else { None };
    ours.iter().map(|ours| place_in(rows.as_deref()?, server, (*ours)?)).collect()
}

/// Bytes that the server has written to `ours` and that the client's kernel has not acknowledged.
pub(super) fn unsent(server: SocketAddr, ours: &[SocketAddr]) -> Option<u64> {
    if !server.ip().to_canonical().is_loopback() {
        return None;
    }
    let rows = rows(server)?;
    Some(ours.iter().filter_map(|ours| server_end(&rows, server, *ours)).map(|row| row.unsent).sum())
}

/// The TCP sockets of this machine that have the server's port at one end. `None` if the kernel has no such table.
pub(super) fn rows(server: SocketAddr) -> Option<Vec<SocketRow>> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let port = server.port();
    if server.ip().to_canonical().is_ipv6() {
        return rows_of("/proc/net/tcp6", port);
    }
    let mut rows = rows_of("/proc/net/tcp", port)?;
    // A server that listens on IPv6 can serve IPv4 as well. Without IPv6 support, the second table does not exist.
    if !rows.iter().any(|row| row.local.port() == port) {
        rows.extend(rows_of("/proc/net/tcp6", port).unwrap_or_default());
    }
    Some(rows)
}

/// Reads one of the kernel's tables. This takes milliseconds, because the kernel walks through its whole hash table.
fn rows_of(table: &str, port: u16) -> Option<Vec<SocketRow>> {
    let port = format!(":{port:04X} ");
    let table = std::fs::read_to_string(table).ok()?;
    Some(table.lines().filter(|line| line.contains(&port)).filter_map(row).collect())
}

fn server_end(rows: &[SocketRow], server: SocketAddr, ours: SocketAddr) -> Option<&SocketRow> {
    let is_ours = |remote: SocketAddr| {
        remote.port() == ours.port() && remote.ip().to_canonical() == ours.ip().to_canonical()
    };
    rows.iter().find(|row| row.local.port() == server.port() && is_ours(row.remote))
}

fn place_in(rows: &[SocketRow], server: SocketAddr, ours: SocketAddr) -> Option<WaitPlace> {
    let Some(row) = server_end(rows, server, ours) else {
        let is_asked =
            |row: &SocketRow| row.local.port() == ours.port() && row.remote.port() == server.port();
        let is_connecting = rows.iter().any(|row| is_asked(row) && row.state == SYN_SENT);
        // On loopback, the kernel drops a SYN only if the accept queue is full.
        return Some(if is_connecting { WaitPlace::AcceptQueueFull } else { WaitPlace::Refused });
    };
    Some(match row.state {
        SYN_RECV => WaitPlace::AcceptQueueFull,
        ESTABLISHED | CLOSE_WAIT if row.inode == 0 => WaitPlace::Kernel,
        ESTABLISHED | CLOSE_WAIT if row.unread > 0 => WaitPlace::Unread,
        ESTABLISHED | CLOSE_WAIT => WaitPlace::Read,
        _ => WaitPlace::Refused,
    })
}

/// Parses a row. Returns `None` for the heading, and for anything else that is not a row.
fn row(line: &str) -> Option<SocketRow> {
    let mut fields = line.split_ascii_whitespace();
    let local = address(fields.nth(1)?)?;
    let remote = address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (unsent, unread) = fields.next()?.split_once(':')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (unsent, unread) = (hex(unsent)?, hex(unread)?);
    let inode = fields.nth(4)?.parse().ok()?;
    Some(SocketRow { local, remote, state, unsent, unread, inode })
}

/// Parses `0100007F:1F90`: words in the machine's byte order, in hexadecimal. IPv4-mapped addresses become IPv4.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(8 * at..8 * at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[4 * at..4 * at + 4].copy_from_slice(&word(at)?);
            }
            IpAddr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    /// A server on port 8080 (1F90), and clients on ports 4096 (1000) and up.
    fn table(rows: &[(&str, &str, &str, &str, u64)]) -> Vec<SocketRow> {
        let text = rows.iter().enumerate().map(|(n, (local, remote, state, queues, inode))| {
            format!(
                "{n:4}: {local} {remote} {state} {queues} 00:00000000 00000000  1000        0 {inode} 1 0 20"
            )
        });
        text.filter_map(|line| row(&line)).collect()
    }

    fn at(ip: &str, port: u16) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), port)
    }

    #[test]
    fn the_heading_is_not_a_row() {
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(row(heading), None);
        assert_eq!(row(""), None);
    }

    #[test]
    fn the_servers_end_shows_where_a_request_waits() {
        const SERVER: &str = "0100007F:1F90";
        for (state, queues, inode, place) in [
            ("01", "00000000:00000000", 7, WaitPlace::Read),
            ("01", "00000000:0000004D", 7, WaitPlace::Unread),
            ("01", "00000000:0000004D", 0, WaitPlace::Kernel),
            ("08", "00000000:0000004D", 0, WaitPlace::Kernel),
            ("03", "00000000:00000000", 0, WaitPlace::AcceptQueueFull),
            ("06", "00000000:00000000", 0, WaitPlace::Refused),
        ] {
            let rows = table(&[
                (SERVER, "00000000:0000", "0A", "00000000:00000003", 5),
                ("0100007F:1000", SERVER, "01", "00000000:00000000", 9),
                (SERVER, "0100007F:1000", state, queues, inode),
            ]);
            let found = place_in(&rows, at("127.0.0.1", 8080), at("127.0.0.1", 4096));
            assert_eq!(found, Some(place), "{state} {queues} {inode}");
            // A connection of another client.
            let other = place_in(&rows, at("127.0.0.1", 8080), at("127.0.0.1", 4097));
            assert_eq!(other, Some(WaitPlace::Refused));
        }
    }

    #[test]
    fn a_connection_that_is_being_made_waits_for_the_accept_queue() {
        let rows = table(&[("0100007F:1000", "0100007F:1F90", "02", "00000001:00000000", 9)]);
        let found = place_in(&rows, at("127.0.0.1", 8080), at("127.0.0.1", 4096));
        assert_eq!(found, Some(WaitPlace::AcceptQueueFull));
    }

    #[test]
    fn a_dual_stack_listener_has_ipv4_mapped_rows() {
        let mapped = "0000000000000000FFFF00000100007F";
        let (server, ours) = (format!("{mapped}:1F90"), format!("{mapped}:1000"));
        let rows = table(&[(&server, &ours, "01", "00000010:00000000", 7)]);
        let found = place_in(&rows, at("127.0.0.1", 8080), at("127.0.0.1", 4096));
        assert_eq!((found, rows[0].unsent), (Some(WaitPlace::Read), 16));
        let own6 = "00000000000000000000000001000000:1F90";
        let rows = table(&[(own6, "00000000000000000000000001000000:1000", "01", "00000000:00000000", 0)]);
        assert_eq!(place_in(&rows, at("::1", 8080), at("::1", 4096)), Some(WaitPlace::Kernel));
    }

    #[test]
    fn only_loopback_has_the_servers_end_on_this_machine() {
        assert_eq!(of(at("192.0.2.1", 80), &[Some(at("192.0.2.2", 4096))]), [None]);
        assert_eq!(of(at("127.0.0.1", 80), &[None]), [None]);
    }
}
