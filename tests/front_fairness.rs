//! Fairness of the Puma front: clients are served while others pipeline requests endlessly, while ten thousand
//! connections are idle, and while thousands of connections are reset.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{Server, get, models, open_stream, proc_status, read_answer, send, wait_for};
use ninetabs_server::timeline::What;
use rustix::process::{Resource, getrlimit, setrlimit};

const PAGE: &[u8] = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The number of greedy clients, each of which always has another request on its connection.
const GREEDY: usize = 8;
const THREADS: usize = 2;

/// Sends batches of requests without a pause and reads the answers, until `is_over` is set.
fn be_greedy(server: SocketAddr, is_over: &AtomicBool, answers: &AtomicU64) {
    const BATCH: usize = 50;
    let one = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = send(server, b"");
    let (mut buffer, mut held) = ([0; 16 * 1024], Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        // The server closes a connection after 999 answers, and the greedy client reconnects.
        if client.write_all(&one.repeat(BATCH)).is_err() {
            (client, held) = (send(server, b""), Vec::new());
            continue;
        }
        let mut count = 0;
        while count < BATCH && !is_over.load(Ordering::Relaxed) {
            match client.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => held.extend_from_slice(&buffer[..read]),
            }
            count += take_answers(&mut held);
        }
        answers.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Removes complete answers and returns their number. Each answer of `/up` ends with its body.
fn take_answers(held: &mut Vec<u8>) -> usize {
    let end = b"\r\n\r\nup\n";
    let mut count = 0;
    while let Some(at) = held.windows(end.len()).position(|bytes| bytes == end) {
        held.drain(..at + end.len());
        count += 1;
    }
    count
}

/// How many requests of other clients were started after this visitor was queued and before its own request was
/// started. Returns `None` if the timeline no longer has these moments. Reads only the moments after `seen` and
/// advances it, since the greedy clients cause many moments.
fn begun_before(server: &Server, port: u16, seen: &mut u64) -> Option<usize> {
    let moments = models::timeline_after(server, *seen);
    *seen = moments.last().map_or(*seen, |moment| moment.seq);
    let is_visitors =
        |subject: Option<ninetabs_server::timeline::Subject>| subject.is_some_and(|it| it.port == port);
    let its = |wanted: &What| {
        moments.iter().position(|moment| is_visitors(moment.subject) && moment.what == *wanted)
    };
    let (queued, started) = (its(&What::Queued)?, its(&What::Started)?);
    let is_begun = |what: &What| matches!(what, What::Accepted { peeked: false, .. });
    Some(moments[queued..started].iter().filter(|moment| is_begun(&moment.what)).count())
}

#[test]
fn a_visitor_waits_for_one_request_of_each_greedy_client() {
    let server = Server::start_with(&format!("--front puma --threads {THREADS}:{THREADS}"));
    let (is_over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let greedy: Vec<_> =
            (0..GREEDY).map(|_| scope.spawn(|| be_greedy(server.app, &is_over, &answers))).collect();
        let (mut waits, mut seen) = (Vec::new(), 0);
        wait_for("five visits", || {
            // Waits until the greedy clients are active.
            let before = answers.load(Ordering::Relaxed);
            wait_for("an answer to a greedy client", || {
                (answers.load(Ordering::Relaxed) > before).then_some(())
            });
            let mut visitor = send(server.app, PAGE);
            assert_eq!(read_answer(&mut visitor).body, "up\n");
            waits.extend(begun_before(&server, visitor.local_addr().unwrap().port(), &mut seen));
            (waits.len() >= 5).then_some(())
        });
        is_over.store(true, Ordering::Relaxed);
        greedy.into_iter().for_each(|client| client.join().unwrap());
        let most = *waits.iter().max().unwrap();
        let served = answers.load(Ordering::Relaxed);
        eprintln!(
            "{served} answers to greedy clients; at most {most} requests were started before a visitor's"
        );
        // One request of each greedy client may be ahead in the queue, and one may be in progress on each thread.
        assert!(most <= GREEDY + THREADS, "{waits:?}");
    });
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// How many clients the descriptor limit allows in this process and in the server, which inherits the limit.
fn as_many_as_allowed() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If this fails, the soft limit stays unchanged.
    let _ = setrlimit(Resource::Nofile, limit);
    let most = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |most| most as usize);
    most.saturating_sub(500).min(10_000)
}

/// The number of threads, without those of the control server, which start and end with its requests.
fn threads_of(pid: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread that is just ending no longer has a name.
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| !name.starts_with("puma ctl")).count()
}

/// A connection that has been used and is now idle.
fn idle_client(server: &Server) -> TcpStream {
    let mut client = send(server.app, PAGE);
    let mut answer = [0; 512];
    let mut read = 0;
    while !answer[..read].ends_with(b"up\n") {
        read += client.read(&mut answer[read..]).unwrap();
    }
    client
}

#[test]
fn idle_connections_cost_no_thread_and_little_memory() {
    let server = Server::start_with("--front puma --persistent-timeout 3600");
    let pid = server.child.id();
    let count = as_many_as_allowed();
    assert!(count >= 400, "the descriptor limit allows only {count} clients");
    // Lets tables and the allocator's arenas grow before the memory is measured.
    let mut clients: Vec<_> = (0..count / 10).map(|_| idle_client(&server)).collect();
    server.wait_for_stats("idle pool", |stats| stats["pool_capacity"] == 8);
    let (threads, before) = (threads_of(pid), proc_status(pid, "VmRSS"));
    let more = count - clients.len();
    clients.extend((0..more).map(|_| idle_client(&server)));

    let open = |stats: &serde_json::Value| stats["connections"]["open"].as_u64();
    let stats = server.wait_for_stats("idle pool", |stats| stats["pool_capacity"] == 8);
    assert_eq!(open(&stats), Some(count as u64));
    assert!(stats["reactor_max"].as_u64() >= Some(count as u64 * 9 / 10), "{stats}");
    assert_eq!(threads_of(pid), threads);
    let grown = (proc_status(pid, "VmRSS").saturating_sub(before)) * 1024;
    let each = grown / more as u64;
    eprintln!("{count} idle connections: {each} bytes each, {threads} threads");
    assert!(each <= 2_048, "{each} bytes per idle connection");

    for client in clients.iter_mut().step_by(100) {
        client.write_all(PAGE).unwrap();
        assert_eq!(read_answer(client).body, "up\n", "an idle connection is served again");
    }
    assert_eq!(get(server.app, "/").0, 200, "a new connection is served");
    drop(clients);
    server.wait_for_stats("no connection", |stats| open(stats) == Some(0));
    assert_eq!(threads_of(pid), threads);
}

/// Closes a connection with RST.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count()
}

#[test]
fn clients_that_reset_their_connection_leave_nothing_behind() {
    const EACH: usize = 500;
    let server = Server::start_with("--front puma --update-rate 10ms");
    let pid = server.child.id();
    // Each database connection opens its files with its first query.
    let streams: Vec<_> = (0..8).map(|_| open_stream(server.app)).collect();
    drop(streams);
    server.wait_for_stats("free pool", |stats| {
        stats["pool_capacity"] == 8 && stats["connections"]["open"] == 0
    });
    let before = (threads_of(pid), descriptors(&server));

    type Visit = fn(&Server) -> TcpStream;
    let visits: [(&str, Visit); 4] = [
        ("immediately", |server| TcpStream::connect(server.app).unwrap()),
        ("in the middle of their head", |server| send(server.app, b"GET /up HT")),
        ("after their request", |server| send(server.app, PAGE)),
        ("during their stream", |server| open_stream(server.app)),
    ];
    for (kind, visit) in visits {
        (0..EACH).for_each(|_| reset(visit(&server)));
        server.wait_for_stats(kind, |stats| {
            stats["pool_capacity"] == 8 && stats["backlog"] == 0 && stats["connections"]["open"] == 0
        });
        // The test's own connection to the control server may be counted at first.
        wait_for("the previous number of threads and descriptors", || {
            (threads_of(pid) <= before.0 && descriptors(&server) <= before.1).then_some(())
        });
        assert_eq!(get(server.app, "/up").0, 200, "after {EACH} clients that reset {kind}");
    }
    let stats = server.stats();
    assert_eq!(stats["streams"]["open"], 0);
    assert!(stats["streams"]["opened"].as_u64() >= Some(EACH as u64), "{stats}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
