//! Compares the threads, descriptors and memory of the process before and after thousands of clients. Clients that
//! reset are only measured here, and only on tiny_http. `front_fairness.rs` tests that they leave nothing behind on
//! the Puma front.
//!
//! All figures are read from /proc, without requests to the server. tiny_http's threads end after five idle
//! seconds, and each request would keep one of them alive.
#![cfg(target_os = "linux")]

use std::fs;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{FRONTS, Server, get, open_stream, send, wait_for};

/// The number of clients that connect and close. Half of them request a page, the other half a stream.
const CLIENTS: usize = 2_000;
/// The number of clients of each kind that reset their connection.
const RESETS: usize = 1_000;
/// How much the memory may grow: the timeline's ring fills, and the allocator keeps its arenas.
const SLACK_KB: u64 = 16 * 1024;
/// Longer than idle threads of tiny_http live.
const IDLE: Duration = Duration::from_secs(6);

/// The resources of a process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Footprint {
    threads: u64,
    descriptors: usize,
    resident_kb: u64,
}

impl Footprint {
    fn of(server: &Server) -> Footprint {
        let folder = format!("/proc/{}", server.child.id());
        let status = fs::read_to_string(format!("{folder}/status")).unwrap();
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        Footprint {
            threads: number("Threads:"),
            descriptors: fs::read_dir(format!("{folder}/fd")).unwrap().count(),
            resident_kb: number("VmRSS:"),
        }
    }

    /// Waits until the threads and descriptors have not changed for longer than an idle thread lives.
    fn settled(server: &Server) -> Footprint {
        let mut last = Footprint::of(server);
        let mut since = Instant::now();
        wait_for("a stable footprint", || {
            let now = Footprint::of(server);
            if (now.threads, now.descriptors) != (last.threads, last.descriptors) {
                since = Instant::now();
            }
            last = now;
            (since.elapsed() >= IDLE).then_some(now)
        })
    }
}

/// A server that has already served every kind of client, and its footprint afterward.
fn start(front: &str) -> (Server, Footprint) {
    let server = Server::on(front, &["--update-rate", "10ms"]);
    // tiny_http starts its threads when it begins to accept, which may be a while after the server has printed that
    // it listens.
    assert_eq!(get(server.app, "/").0, 200);
    let fresh = Footprint::of(&server);
    // Every database connection opens its files at its first query, and every thread gets its part of the
    // heap when it first runs.
    let streams: Vec<_> = (0..8).map(|_| open_stream(server.app)).collect();
    server.wait_for_stats("held pool", |stats| stats["pool_capacity"] == 0);
    drop(streams);
    (0..100).for_each(|n| come_and_close(&server, n));
    let warm = Footprint::settled(&server);
    // Idle threads of tiny_http end together, so fewer may remain than at its start. tiny_http starts threads again
    // up to the initial number, and keeps them.
    let before = Footprint { threads: warm.threads.max(fresh.threads), ..warm };
    (server, before)
}

/// Requests a page or a stream, reads it, and closes with FIN.
fn come_and_close(server: &Server, n: usize) {
    if n.is_multiple_of(2) {
        assert_eq!(get(server.app, "/").0, 200);
    } else {
        open_stream(server.app);
    }
}

#[test]
fn clients_that_close_leave_nothing_behind() {
    thread::scope(|scope| {
        for front in FRONTS {
            scope.spawn(move || clients_that_close(front));
        }
    });
}

fn clients_that_close(front: &str) {
    let (server, before) = start(front);
    (0..CLIENTS).for_each(|n| come_and_close(&server, n));
    let after = wait_for("the release of everything that the clients used", || {
        let now = Footprint::of(&server);
        (now.threads <= before.threads && now.descriptors <= before.descriptors).then_some(now)
    });
    eprintln!("{front}: {CLIENTS} clients that close: before {before:?}, after {after:?}");
    assert!(after.resident_kb <= before.resident_kb + SLACK_KB, "before {before:?}, after {after:?}");
    assert!(server.stats()["streams"]["opened"].as_u64() >= Some(CLIENTS as u64 / 2));
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Closes a connection with RST.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Only measures what these clients leave behind, since that depends on tiny_http. The server must continue
/// to answer.
fn clients_that_reset(kind: &str, visit: fn(&Server) -> TcpStream) {
    let (server, before) = start("tiny-http");
    (0..RESETS).for_each(|_| reset(visit(&server)));
    let after = Footprint::settled(&server);
    let panics = server.log().matches("panicked").count();
    (0..20).for_each(|n| come_and_close(&server, n));
    server.wait_for_stats("free pool", |stats| stats["pool_capacity"] == 8);
    let descriptors = Footprint::of(&server).descriptors;
    eprintln!(
        "{RESETS} clients that reset {kind}: before {before:?}, after {after:?}, {panics} panics; \
         after 20 clients that close, {descriptors} descriptors"
    );
}

#[test]
fn the_server_still_answers_after_clients_that_reset() {
    const REQUEST: &[u8] = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    thread::scope(|scope| {
        scope.spawn(|| clients_that_reset("immediately", |server| TcpStream::connect(server.app).unwrap()));
        scope.spawn(|| clients_that_reset("after their request", |server| send(server.app, REQUEST)));
        scope.spawn(|| clients_that_reset("during their stream", |server| open_stream(server.app)));
    });
}
