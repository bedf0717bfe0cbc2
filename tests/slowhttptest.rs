//! slowhttptest in each of its modes, with hundreds of slow clients: pages are still answered, and slow clients
//! hold no thread.
//!
//! Skipped with a message if slowhttptest is not installed.
#![cfg(target_os = "linux")]

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Server, get, proc_status, program};

/// The number of slow clients.
const CLIENTS: u64 = 300;
/// The duration of each mode, in seconds.
const SECONDS: &str = "10";
/// Nine of ten pages must be faster than this, even on a slow machine; on a fast machine they take a few
/// milliseconds. The slowest page is not checked here, because other tests flood the loopback device until it drops
/// SYN packets, which delays a connection by seconds. benches/crowd.sh measures the slowest page.
const PAGE: Duration = Duration::from_secs(1);
/// The number of threads that the control server may start for its requests. They end with the requests.
const OTHER_THREADS: u64 = 4;

/// Runs one mode against a separate server, and continually requests pages during the run.
fn withstands(mode: &[&str], path: &str) {
    let Some(slowhttptest) = program("slowhttptest") else { return };
    let server = Server::start_with("--front puma");
    assert_eq!(get(server.app, "/up").0, 200);
    let threads = proc_status(server.child.id(), "Threads");
    let mut attack = Command::new(slowhttptest);
    attack
        .args(mode)
        .args(["-c", &CLIENTS.to_string(), "-r", "200", "-l", SECONDS, "-p", "5", "-u", &server.url(path)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut attack = attack.spawn().unwrap();
    let (mut pages, mut most_connections, mut most_threads) = (Vec::new(), 0, 0);
    while attack.try_wait().unwrap().is_none() {
        let began = Instant::now();
        assert_eq!(get(server.app, "/up").0, 200);
        pages.push(began.elapsed());
        let open = server.stats()["connections"]["open"].as_u64().unwrap();
        most_connections = most_connections.max(open);
        most_threads = most_threads.max(proc_status(server.child.id(), "Threads"));
        thread::sleep(Duration::from_millis(10));
    }
    pages.sort();
    let p90 = pages[pages.len() * 9 / 10];
    eprintln!(
        "{mode:?}: {} pages, p90 {p90:?}, {most_connections} connections, {most_threads} threads",
        pages.len()
    );
    let requests = server.stats()["requests_count"].as_u64().unwrap() - 1 - pages.len() as u64;
    let came = most_connections.max(requests);
    assert!(came > CLIENTS / 4, "only {came} slow clients arrived, so nothing was tested");
    assert!(p90 < PAGE, "{mode:?}: p90 of {} pages {p90:?}", pages.len());
    assert!(
        most_threads <= threads + OTHER_THREADS,
        "{mode:?}: {threads} threads before, at most {most_threads}"
    );
    server.wait_for_stats("end of the slow clients", |stats| {
        stats["connections"]["open"] == 0 && stats["busy_threads"] == 0
    });
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn slow_heads() {
    withstands(&["-H", "-i", "1"], "/up");
}

#[test]
fn slow_bodies() {
    withstands(&["-B", "-i", "1", "-s", "8192", "-x", "24"], "/models");
}

#[test]
fn slow_reads() {
    withstands(&["-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3"], "/");
}

#[test]
fn many_ranges() {
    withstands(&["-R", "-a", "10", "-b", "3000"], "/");
}
