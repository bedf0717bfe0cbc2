//! Reads facts about the server from the kernel's socket tables, on Linux.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;

/// Connections to this address that the server has not closed, including those not yet accepted. None if /proc does not
/// show them.
pub(super) fn open_connections(address: SocketAddr) -> Option<usize> {
    let table = fs::read_to_string(table_of(address)).ok()?;
    let port = format!(":{:04X}", address.port());
    let open = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        // ESTABLISHED, and CLOSE_WAIT: the client has closed and the server has not.
        let is_open = local.ends_with(&port) && matches!(state, "01" | "08");
        is_open.then(|| (local.to_owned(), remote.to_owned()))
    };
    // The table is not a snapshot: a busy kernel may list a connection twice.
    Some(table.lines().skip(1).filter_map(open).collect::<HashSet<_>>().len())
}

/// Connections to this address that wait to be accepted. For a listening socket the kernel shows their number as bytes
/// to be read. None if /proc does not show it.
pub(super) fn listen_queue(address: SocketAddr) -> Option<usize> {
    let port = format!(":{:04X}", address.port());
    // The kernel writes the table as it is read, with listening sockets first. Reading stops there, since writing all
    // connections takes milliseconds.
    let table = BufReader::new(File::open(table_of(address)).ok()?);
    table.lines().skip(1).map_while(Result::ok).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, _, state, queues) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let (_, to_be_read) = queues.split_once(':')?;
        let listens = local.ends_with(&port) && state == "0A";
        listens.then(|| usize::from_str_radix(to_be_read, 16).ok())?
    })
}

fn table_of(address: SocketAddr) -> &'static str {
    if address.is_ipv6() { "/proc/net/tcp6" } else { "/proc/net/tcp" }
}
