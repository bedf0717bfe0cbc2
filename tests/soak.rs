//! A mixed soak test: all kinds of clients run simultaneously for `NINETABS_SOAK_SECONDS` (default: 20). Then the
//! test checks that the process has released everything.
//!
//! Some tabs stay open, and others come and go. Clients post models, read pages, send garbage, reset their
//! connections, or open a stream and never read it. The reaper ends streams throughout the test. Afterward, there are
//! as many threads, descriptors, streams and connections as before, memory is within its limit, and each tab that
//! stayed has received every model exactly once.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::models::{assert_gapless, ids_there, open_tab, received};
use crate::common::{
    self, Server, create, create_large, get, json, proc_status, send, send_with_small_buffer, wait_for,
};

/// The number of tabs that stay open during the whole test.
const STAYING: usize = 3;
/// The number of models of the maximum size. They are too large for the buffers of any socket, so a stopped reader
/// with a small window blocks its thread.
const LARGE: usize = 250;
/// Maximum resident memory at the end, in KiB: the process itself, and what the allocator keeps for each of the
/// twelve threads after answers with up to 256 KiB of names.
const MAX_RESIDENT_KIB: u64 = 64 * 1024;

const FLAGS: &str = "--front puma --threads 12:12 --update-rate 50ms --reap-every 500ms \
    --retry 50ms --write-timeout 2s --first-data-timeout 2s --head-timeout 2s --persistent-timeout 2s \
    --keep-models 1000000";

/// Requests that must do no harm, whatever the answer is.
const GARBAGE: &[&[u8]] = &[
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /up HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nname=half",
    b"GET /models/live_stream?last_event_id=%00 HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: \xff\r\n\r\n",
    b"\r\n\r\n\r\n",
    b"\0\0\0\0",
    b"",
];

struct Soak {
    server: Server,
    is_over: AtomicBool,
    /// Models whose creation was answered with 201.
    created: AtomicU64,
    /// How many rounds of stopped readers were seen to block a thread.
    blocked: AtomicU64,
    rounds: AtomicU64,
}

/// The resources of a process without clients.
#[derive(Debug)]
struct Footprint {
    threads: u64,
    descriptors: usize,
    resident_kib: u64,
}

impl Footprint {
    fn of(server: &Server) -> Footprint {
        let pid = server.child.id();
        Footprint {
            threads: proc_status(pid, "Threads"),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
            resident_kib: proc_status(pid, "VmRSS"),
        }
    }
}

impl Soak {
    /// Calls `once` with the number of the round until the time is up.
    fn keep_on(&self, mut once: impl FnMut(u64)) {
        let mut round = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            once(round);
            round += 1;
            self.rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn post(&self, name: &str) {
        assert_eq!(create(self.server.app, name).0, 201);
        self.created.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends about four posts per second.
    fn posts(&self) {
        self.keep_on(|round| {
            self.post(&format!("model {round}"));
            thread::sleep(Duration::from_millis(250));
        });
    }

    fn pages(&self) {
        self.keep_on(|round| {
            let path = ["/up", "/", "/models.json?since=1000000", "/nothing"][round as usize % 4];
            let status = if path == "/nothing" { 404 } else { 200 };
            assert_eq!(get(self.server.app, path).0, status, "{path}");
            thread::sleep(Duration::from_millis(20));
        });
    }

    /// A tab that resumes at the previous tab's position, is cut off once, and closes.
    fn passing_tabs(&self) {
        let mut last = LARGE.to_string();
        self.keep_on(|round| {
            let tab = open_tab(&self.server, &format!("passing {round}"), &last);
            thread::sleep(Duration::from_millis(200));
            tab.cut();
            thread::sleep(Duration::from_millis(200));
            tab.close();
            let first = last.parse::<i64>().unwrap() + 1;
            assert_gapless(&received(&tab), first, "a passing tab");
            last = Some(tab.progress().last_event_id).filter(|id| !id.is_empty()).unwrap_or(last.clone());
        });
    }

    fn garbage(&self) {
        self.keep_on(|round| {
            let bytes = GARBAGE[round as usize % GARBAGE.len()];
            let mut stream = TcpStream::connect(self.server.app).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            // The server may answer, close the connection, or wait until its time limit.
            let _ = stream.write_all(bytes).and_then(|()| stream.read(&mut [0; 4_096]));
        });
    }

    fn resets(&self) {
        self.keep_on(|round| {
            let path = ["/up", "/models/live_stream", "/models/live_stream?tab=1"];
            let path = path[round as usize % path.len()];
            let stream =
                send(self.server.app, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            thread::sleep(Duration::from_millis(30 * (round % 3)));
        });
    }

    /// Whether a part of the large models, but not all of them, has been sent.
    fn is_blocked(&self, port: u16) -> bool {
        let threads = json(self.server.control, "GET", "/threads").1;
        let its = threads.as_array().unwrap().iter().find(|it| it["port"] == port);
        its.and_then(|it| it["bytes"].as_u64())
            .is_some_and(|bytes| bytes > 0 && bytes < LARGE as u64 * 16 * 1024)
    }

    /// Keeps two stopped readers open, each for longer than the maximum age.
    fn stopped_readers(&self) {
        self.keep_on(|_| {
            let path = "/models/live_stream?last_event_id=0";
            let zombies = [(); 2].map(|()| slow_client(&self.server, path));
            let until = Instant::now() + Duration::from_secs(3);
            let mut blocked = false;
            while Instant::now() < until && !self.is_over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(200));
                blocked |= zombies.iter().any(|zombie| self.is_blocked(zombie.local_addr().unwrap().port()));
            }
            self.blocked.fetch_add(u64::from(blocked), Ordering::Relaxed);
            drop(zombies);
        });
    }
}

/// Uses every pool thread and every database connection once.
fn warm_up(server: &Server) {
    let streams: Vec<_> = (0..12).map(|_| common::open_stream(server.app)).collect();
    server.wait_for_stats("held pool", |stats| stats["pool_capacity"] == 0);
    drop(streams);
    wait_until_idle(server);
}

fn wait_until_idle(server: &Server) {
    server.wait_for_stats("idle server", |stats| {
        stats["streams"]["open"] == 0
            && stats["busy_threads"] == 0
            && stats["connections"]["open"] == 0
            && stats["database"]["busy"] == 0
    });
}

#[test]
fn nothing_leaks_and_no_model_is_lost() {
    let seconds = std::env::var("NINETABS_SOAK_SECONDS").ok().map_or(20, |text| text.parse().unwrap());
    let server = Server::start_with(FLAGS);
    create_large(server.app, LARGE);
    warm_up(&server);
    // The maximum age is set only now. During the warm-up on a slow machine, the large models might not arrive within
    // this age, and their reader would start over repeatedly.
    assert_eq!(json(server.control, "POST", "/max-stream-age?secs=2").0, 200);
    let before = Footprint::of(&server);
    let soak = Soak {
        server,
        is_over: AtomicBool::new(false),
        created: AtomicU64::new(LARGE as u64),
        blocked: AtomicU64::new(0),
        rounds: AtomicU64::new(0),
    };

    let staying: Vec<_> = (1..=STAYING)
        .map(|tab| open_tab(&soak.server, &format!("staying {tab}"), &LARGE.to_string()))
        .collect();
    let client = |run: fn(&Soak)| {
        let soak = &soak;
        move || {
            // A failure ends the other threads; otherwise the test would wait for them forever.
            let _over = OnPanic(&soak.is_over);
            run(soak);
        }
    };
    thread::scope(|scope| {
        scope.spawn(client(Soak::posts));
        scope.spawn(client(Soak::pages));
        scope.spawn(client(Soak::passing_tabs));
        scope.spawn(client(Soak::garbage));
        scope.spawn(client(Soak::resets));
        scope.spawn(client(Soak::stopped_readers));
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until && !soak.is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
        soak.is_over.store(true, Ordering::Relaxed);
    });

    let Soak { server, created, rounds, blocked, .. } = soak;
    let blocked = blocked.into_inner();
    let there = ids_there(&server);
    let last = *there.last().unwrap();
    assert_eq!(
        there.len() as u64,
        created.into_inner(),
        "the table must have exactly the models that were answered with 201"
    );
    for tab in &staying {
        wait_for("the last model", || (tab.progress().last_event_id == last.to_string()).then_some(()));
        tab.close();
        assert_eq!(received(tab), there[LARGE..], "a tab that stayed lost or repeated a model");
    }
    drop(staying);
    wait_until_idle(&server);
    let after = wait_for("a return to the previous number of threads and descriptors", || {
        let now = Footprint::of(&server);
        (now.threads <= before.threads && now.descriptors <= before.descriptors).then_some(now)
    });
    let stats = server.stats();
    eprintln!(
        "{seconds} s, {} rounds, {last} models, {blocked} blocked writes: before {before:?}, after {after:?}\n{stats}",
        rounds.into_inner()
    );
    assert!(after.resident_kib <= MAX_RESIDENT_KIB, "before {before:?}, after {after:?}");
    assert!(blocked > 0, "no stopped reader blocked a thread");
    assert!(stats["streams"]["reaped"].as_u64() > Some(0), "{stats}");
    assert!(stats["streams"]["disconnected"].as_u64() > Some(0), "{stats}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// The memory limit of a server with many slow clients: a part for the process and its threads, and a part for each
/// client that has left the pool. See docs/puma.md, "What a client may cost".
const FOR_ITSELF_KIB: u64 = 64 * 1024;
const FOR_A_LISTENER_KIB: u64 = 160;

#[test]
fn memory_stays_within_its_limit_with_large_rows_and_many_slow_clients() {
    const ON_EACH: u64 = 60;
    let server =
        Server::start_with("--threads 12:12 --max-io-threads 0 --keep-models 1000000 --write-timeout 30s");
    let theirs = rusqlite::Connection::open(server.database()).unwrap();
    theirs.busy_timeout(common::PATIENCE).unwrap();
    // Another program has written rows whose names are far longer than the server allows.
    for (count, bytes) in [(10, 20_000_000), (300, 16_000)] {
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
            INSERT INTO models (name, created_at_us) SELECT CAST(zeroblob(?) AS TEXT), 1 FROM n";
        theirs.execute(sql, (count, bytes)).unwrap();
    }
    drop(theirs);
    let mut slow = Vec::new();
    for n in 0..ON_EACH {
        let position = n * 310 / ON_EACH;
        // Clients that hold no thread connect first, because the later ones exhaust the pool.
        for path in [
            format!("/fixes/push/stream?last_event_id={position}"),
            format!("/fixes/partials/stream?last_event_id={position}"),
            format!("/fixes/long-poll/poll?since={position}"),
        ] {
            slow.push(slow_client(&server, &path));
        }
    }
    server.wait_for_stats("listener for every client that leaves the pool", |stats| {
        stats["listeners"]["joined"] == ON_EACH * 3
    });
    for n in 0..ON_EACH {
        for path in ["/", "/models.json", "/fixes/poll/models.json", "/models/live_stream?last_event_id=0"] {
            slow.push(slow_client(
                &server,
                &format!("{path}{}n={n}", if path.contains('?') { '&' } else { '?' }),
            ));
        }
    }
    server.wait_for_stats("exhausted pool", |stats| stats["pool_capacity"] == 0);
    thread::sleep(Duration::from_secs(3));
    let most = proc_status(server.child.id(), "VmHWM");
    let bound = FOR_ITSELF_KIB + ON_EACH * 3 * FOR_A_LISTENER_KIB;
    eprintln!("{} slow clients: at most {most} KiB resident (limit: {bound})", slow.len());
    assert!(most <= bound, "{most} KiB resident exceed the limit of {bound} KiB");
}

/// A client with a small window that requests this path and reads nothing.
fn slow_client(server: &Server, path: &str) -> TcpStream {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    send_with_small_buffer(server.app, request.as_bytes())
}

/// Ends the soak test if its thread panics.
struct OnPanic<'a>(&'a AtomicBool);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
