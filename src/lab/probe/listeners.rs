//! Finds the processes that hold the server's listening socket, as far as `/proc` shows them to this user.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::measured::ListeningProcess;
use super::sockets::{self, LISTEN, TcpSocket};

/// Maximum length of a process name, in characters. Longer names are truncated.
const MAX_NAME: usize = 32;

/// The processes that listen at this address, sorted by process id. Empty if they cannot be determined. Blocks for as
/// long as it takes to read the descriptors of all processes.
pub(super) fn of(server: SocketAddr) -> Vec<ListeningProcess> {
    if !server.ip().to_canonical().is_loopback() {
        return Vec::new();
    }
    let inodes = listening(&sockets::with_port(server).unwrap_or_default(), server);
    if inodes.is_empty() {
        return Vec::new();
    }
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found: Vec<ListeningProcess> = pids.filter_map(|pid| listener(pid, &inodes)).collect();
    found.sort_unstable_by_key(|listener| listener.pid);
    found
}

/// The inodes of the sockets that listen at this address, or at all addresses.
fn listening(rows: &[TcpSocket], server: SocketAddr) -> Vec<u64> {
    let is_it = |ip: IpAddr| ip.is_unspecified() || ip == server.ip().to_canonical();
    let mine = rows.iter().filter(|row| {
        row.state == LISTEN && row.local.port() == server.port() && is_it(row.local.ip()) && row.inode != 0
    });
    mine.map(|row| row.inode).collect()
}

fn listener(pid: u32, inodes: &[u64]) -> Option<ListeningProcess> {
    let folder = Path::new("/proc").join(pid.to_string());
    let descriptors: Vec<_> = fs::read_dir(folder.join("fd")).ok()?.flatten().collect();
    let holds = descriptors.iter().any(|entry| {
        let target = fs::read_link(entry.path()).ok();
        target.and_then(|it| socket_inode(it.to_str()?)).is_some_and(|inode| inodes.contains(&inode))
    });
    if !holds {
        return None;
    }
    let name = fs::read_to_string(folder.join("comm")).ok()?;
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let limits = fs::read_to_string(folder.join("limits")).ok()?;
    Some(ListeningProcess {
        pid,
        name: plain(name.trim_end()),
        threads: threads(&status)?,
        descriptors: descriptors.len(),
        limit: soft_limit(&limits)?,
    })
}

/// Reads `socket:[123]`.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Replaces control characters, because a process can choose any name for itself.
fn plain(name: &str) -> String {
    name.chars().take(MAX_NAME).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn threads(status: &str) -> Option<usize> {
    status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
}

/// The soft descriptor limit, from `/proc/PID/limits`.
fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_process_are_read_from_proc() {
        assert_eq!(socket_inode("socket:[4711]"), Some(4711));
        assert_eq!(socket_inode("pipe:[4711]"), None);
        assert_eq!(threads("Name:\tpuma\nThreads:\t61\nSigQ:\t0/1"), Some(61));
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            40                   1048576              files\n";
        assert_eq!(soft_limit(limits), Some(40));
        assert_eq!(plain("a\u{1b}[31mb"), "a\u{fffd}[31mb");
    }

    #[test]
    fn a_socket_that_listens_at_all_addresses_listens_at_this_one() {
        let row = |local: &str, state, inode| {
            let remote = SocketAddr::from(([0, 0, 0, 0], 0));
            TcpSocket { local: local.parse().unwrap(), remote, state, unsent: 0, unread: 0, inode }
        };
        let rows = [
            row("0.0.0.0:80", LISTEN, 1),
            row("[::]:80", LISTEN, 2),
            row("127.0.0.1:80", LISTEN, 3),
            row("127.0.0.2:80", LISTEN, 4),
            row("127.0.0.1:81", LISTEN, 5),
            row("127.0.0.1:80", 1, 6),
        ];
        assert_eq!(listening(&rows, SocketAddr::from(([127, 0, 0, 1], 80))), [1, 2, 3]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_listener_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = of(listener.local_addr().unwrap());
        assert!(found.iter().any(|it| it.pid == std::process::id() && it.threads > 0 && it.limit > 0));
    }
}
