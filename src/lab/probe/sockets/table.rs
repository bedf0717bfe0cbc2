//! Reads the kernel's list of all TCP sockets, which Linux shows in `/proc/net/tcp` and `/proc/net/tcp6`.

use std::net::{IpAddr, SocketAddr};

use super::TcpSocket;

/// The sockets that have the server's port at one end. `None` if the list cannot be read.
pub(super) fn with_port(server: SocketAddr) -> Option<Vec<TcpSocket>> {
    let port = server.port();
    if server.ip().to_canonical().is_ipv6() {
        return rows_of("/proc/net/tcp6", port);
    }
    let mut rows = rows_of("/proc/net/tcp", port)?;
    // A server that listens on IPv6 can serve IPv4 as well. Without IPv6 support, the second list does not exist.
    if !rows.iter().any(|row| row.local.port() == port) {
        rows.extend(rows_of("/proc/net/tcp6", port).unwrap_or_default());
    }
    Some(rows)
}

/// Reads one of the lists. This takes milliseconds, because the kernel walks through its whole hash table.
fn rows_of(list: &str, port: u16) -> Option<Vec<TcpSocket>> {
    let port = format!(":{port:04X} ");
    let list = std::fs::read_to_string(list).ok()?;
    Some(list.lines().filter(|line| line.contains(&port)).filter_map(row).collect())
}

/// Parses a row. Returns `None` for the heading, and for anything else that is not a row.
fn row(line: &str) -> Option<TcpSocket> {
    let mut fields = line.split_ascii_whitespace();
    let local = address(fields.nth(1)?)?;
    let remote = address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (unsent, unread) = fields.next()?.split_once(':')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (unsent, unread) = (hex(unsent)?, hex(unread)?);
    let inode = fields.nth(4)?.parse().ok()?;
    Some(TcpSocket { local, remote, state, unsent, unread, inode })
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

    /// Parses a row with these columns, as the kernel formats it.
    fn parsed(local: &str, remote: &str, state: &str, queues: &str, inode: u64) -> Option<TcpSocket> {
        row(&format!(
            "   0: {local} {remote} {state} {queues} 00:00000000 00000000  1000        0 {inode} 1 0 20"
        ))
    }

    #[test]
    fn the_heading_is_not_a_row() {
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(row(heading), None);
        assert_eq!(row(""), None);
    }

    #[test]
    fn a_row_has_both_addresses_the_state_both_queues_and_the_inode() {
        let found = parsed("0100007F:1F90", "0100007F:1000", "08", "00000010:0000004D", 7);
        let socket = TcpSocket {
            local: "127.0.0.1:8080".parse().unwrap(),
            remote: "127.0.0.1:4096".parse().unwrap(),
            state: 8,
            unsent: 16,
            unread: 77,
            inode: 7,
        };
        assert_eq!(found, Some(socket));
    }

    #[test]
    fn an_ipv4_mapped_address_becomes_ipv4_and_others_remain_ipv6() {
        let (mapped, own) = ("0000000000000000FFFF00000100007F", "00000000000000000000000001000000");
        let local = |ip: &str| {
            let found = parsed(&format!("{ip}:1F90"), &format!("{ip}:1000"), "01", "00000000:00000000", 0);
            found.unwrap().local.to_string()
        };
        assert_eq!((local(mapped).as_str(), local(own).as_str()), ("127.0.0.1:8080", "[::1]:8080"));
    }
}
