//! Streams on the Puma front. Because the server owns the socket, no client can hold a thread for longer than the
//! limits allow, whatever the client does.
//!
//! Tests that block a write set a write timeout of ten minutes, so that the timeout cannot end the write.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::models::{
    STREAM, assert_gapless, create_large_models, ids_there, lane, open_tab, received, timeline, wait_for_id,
    writes,
};
use crate::common::stopped::Stopped;
use crate::common::{
    self, PATIENCE, Server, get, json, open_stream, program, read_answer, read_to_end, read_until, send,
    send_with_buffer, send_with_small_buffer, wait_for,
};
use ninetabs::lab::zombies::Zombie;
use ninetabs_server::timeline::What;
use serde_json::Value;

on_each_engine! {
    over_hundreds_of_cuts_no_model_is_lost_or_repeated,
}

/// How much later than required a stream may end on a slow machine, in seconds.
const SCHEDULING_DELAY: f64 = 10.0;
/// More models of 16 KiB than fit into any pair of send and receive buffers.
const LARGE_MODELS: usize = 400;
const STREAM_REQUEST: &[u8] = b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
const PAGE: &[u8] = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn start(flags: &str) -> Server {
    Server::start_with(&format!("--front puma {flags}"))
}

fn port(client: &TcpStream) -> u16 {
    client.local_addr().unwrap().port()
}

/// Whether nothing has arrived.
fn got_nothing(client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let read = (&*client).read(&mut [0]);
    client.set_nonblocking(false).unwrap();
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn a_quota_of_five_allows_exactly_five_more_streams() {
    let server = start("--threads 8:8 --max-io-threads 5 --update-rate 50ms");
    let page_is_served = || assert_eq!(get(server.app, "/up").0, 200);
    let mut streams: Vec<_> = (0..12).map(|_| open_stream(server.app)).collect();
    page_is_served();
    streams.push(open_stream(server.app));
    let mut fourteenth = send(server.app, STREAM_REQUEST);
    let mut page = send(server.app, PAGE);
    let stats = server.wait_for_stats("two queued requests", |stats| stats["backlog"] == 2);
    for (key, value) in [("running", 13), ("io_threads", 13), ("busy_threads", 15), ("pool_capacity", 0)] {
        assert_eq!(stats[key], value, "{key}: {stats}");
    }
    // Waits for ten writes of a stream instead of a fixed time.
    let first = port(&streams[0]);
    let before = writes(&server, first);
    wait_for("ten more writes", || (writes(&server, first) >= before + 10).then_some(()));
    assert!(got_nothing(&fourteenth) && got_nothing(&page));

    streams.pop();
    read_until(&mut fourteenth, "data: ");
    let stats = server.wait_for_stats("one queued request", |stats| stats["backlog"] == 1);
    assert_eq!((&stats["running"], &stats["io_threads"]), (&13.into(), &13.into()));
    assert!(got_nothing(&page), "a page is served only when fewer streams are open");
    streams.pop();
    assert_eq!(read_answer(&mut page).body, "up\n");
    page_is_served();
    drop((streams, fourteenth));
    server.wait_for_stats("free pool", |stats| stats["io_threads"] == 0 && stats["pool_capacity"] == 8);
}

/// Clients that each hold a pool thread with a blocked write until they are dropped.
type Holders = Vec<Box<dyn std::any::Any>>;

/// Holds all threads with writes that are blocked by stalled readers: sockets that are never read and, if curl is
/// installed, stopped curl processes.
fn block_every_thread(server: &Server, threads: usize) -> Holders {
    let mut holders: Holders = Vec::new();
    let url = server.url(STREAM);
    if program("curl").is_some() {
        for _ in 0..threads / 2 {
            holders.push(Box::new(Stopped::open(&url)));
        }
    }
    create_large_models(server, LARGE_MODELS);
    while holders.len() < threads {
        holders.push(Box::new(Zombie::open(&format!("{url}?last_event_id=0")).unwrap()));
    }
    wait_for_blocked_writes(server, threads);
    holders
}

/// Waits until this many answers are partly sent and their writes are blocked.
fn wait_for_blocked_writes(server: &Server, count: usize) {
    let (mut last, mut since) = (Vec::new(), Instant::now());
    wait_for("blocked writes", || {
        let threads = json(server.control, "GET", "/threads").1;
        let bytes: Vec<_> =
            threads.as_array().unwrap().iter().filter_map(|it| it["bytes"].as_u64()).collect();
        if bytes != last {
            (last, since) = (bytes, Instant::now());
        }
        let is_large = last.len() == count && last.iter().all(|bytes| *bytes > 60_000);
        (is_large && since.elapsed() > Duration::from_millis(1500)).then_some(())
    });
}

/// The number of interrupted streams, and the longest time from an interrupt to the end of the stream, in seconds.
fn longest_way_out(server: &Server) -> (usize, f64) {
    let moments = timeline(server);
    let ways: Vec<f64> = moments
        .iter()
        .filter(|moment| matches!(moment.what, What::Reaped { .. }))
        .map(|told| {
            let is_its_end = |it: &&ninetabs_server::timeline::Moment| {
                it.seq > told.seq && it.subject == told.subject && it.what == What::Finished
            };
            let end = moments.iter().find(is_its_end).unwrap_or_else(|| panic!("no end of {told:?}"));
            (end.at_us - told.at_us) as f64 / 1e6
        })
        .collect();
    (ways.len(), ways.iter().copied().fold(0.0, f64::max))
}

/// Expects that all threads are free again, that the registry is empty, and that streams are served.
fn expect_freedom(server: &Server, threads: usize) -> Value {
    let stats = server.wait_for_stats("free pool", |stats| {
        stats["pool_capacity"] == threads && stats["streams"]["open"] == 0
    });
    let (reaped, longest) = longest_way_out(server);
    eprintln!("{reaped} streams were interrupted; the slowest one ended after {longest:.3} s");
    assert!(reaped >= threads && longest <= SCHEDULING_DELAY, "{reaped}, {longest} s");
    let cut = timeline(server)
        .into_iter()
        .filter(|moment| matches!(&moment.what, What::Disconnected { error, .. } if error == "cut"));
    assert_eq!(cut.count(), threads, "every blocked write was cut off, and nothing else ended one");
    assert_eq!(get(server.app, "/up").0, 200);
    open_stream(server.app);
    stats
}

#[test]
fn no_stream_outlives_its_maximum_age_while_its_client_does_not_read() {
    let server = start("--write-timeout 600 --update-rate 50ms --reap-every 100ms");
    let holders = block_every_thread(&server, 8);
    let oldest = server.stats()["streams"]["oldest_age_s"].as_f64().unwrap();
    // The oldest stream reaches this age in one to two seconds.
    let max_age = oldest.ceil() + 1.0;
    let (status, answer) = json(server.control, "POST", &format!("/max-stream-age?secs={max_age}"));
    assert_eq!(status, 200, "{answer}");
    let mut seen: f64 = 0.0;
    server.wait_for_stats("end of the streams", |stats| {
        seen = seen.max(stats["streams"]["oldest_age_s"].as_f64().unwrap_or(0.0));
        stats["streams"]["open"] == 0
    });
    eprintln!("the oldest stream was {seen:.2} s old; the maximum age was {max_age} s");
    assert!(seen <= max_age + 0.1 + SCHEDULING_DELAY, "{seen} s");
    let stats = expect_freedom(&server, 8);
    assert_eq!(
        stats["streams"]["disconnected"], 0,
        "the streams were interrupted before their writes were cut off"
    );
    drop(holders);
}

#[test]
fn an_order_to_reap_cuts_off_blocked_writes_immediately() {
    let server = start("--write-timeout 600 --update-rate 50ms --threads 4:4");
    let holders = block_every_thread(&server, 4);
    let (status, answer) = json(server.control, "POST", "/reap");
    assert_eq!((status, &answer["reaped"]), (200, &4.into()), "{answer}");
    expect_freedom(&server, 4);
    drop(holders);
}

/// An event that was cut off in the middle must not look complete, since the client would not request it again.
#[test]
fn an_answer_that_was_cut_off_does_not_look_complete() {
    let server = start("--write-timeout 600 --threads 1:1");
    create_large_models(&server, LARGE_MODELS);
    let request = format!("GET {STREAM}?last_event_id=0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut client = send(server.app, request.as_bytes());
    wait_for_blocked_writes(&server, 1);
    assert_eq!(json(server.control, "POST", "/reap").1["reaped"], 1);
    server.wait_for_stats("free thread", |stats| stats["pool_capacity"] == 1);
    let mut all = Vec::new();
    // A reset also shows that the answer is incomplete.
    let _ = client.read_to_end(&mut all);
    assert!(all.len() > 60_000, "only {} bytes arrived", all.len());
    assert!(
        !all.ends_with(b"0\r\n\r\n") && !all.ends_with(b"\n\n\r\n"),
        "the answer ends as if it were complete"
    );

    let mut again = send(server.app, request.as_bytes());
    let answer = read_until(&mut again, &format!("id: {LARGE_MODELS}\n"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn with_poll_a_close_is_noticed_without_a_write() {
    let server = start("--notice-close poll --update-rate 3600");
    // One client closes. The other half-closes and is treated as closed as well, which is the drawback of this
    // option.
    let closes: [fn(TcpStream) -> Option<TcpStream>; 2] = [
        |client| {
            drop(client);
            None
        },
        |client| {
            client.shutdown(Shutdown::Write).unwrap();
            Some(client)
        },
    ];
    for close in closes {
        let client = open_stream(server.app);
        let port = port(&client);
        server.wait_for_stats("held thread", |stats| stats["pool_capacity"] == 7);
        let is_write = |what: &What| matches!(what, What::Wrote { .. });
        // A write may be recorded after its bytes have arrived.
        wait_for("the first write", || (writes(&server, port) == 1).then_some(()));
        let half_open = close(client);
        server.wait_for_stats("free pool", |stats| stats["pool_capacity"] == 8);
        let lane = lane(&server, port);
        let at = lane
            .iter()
            .position(|what| matches!(what, What::Disconnected { error, .. } if error == "POLLRDHUP"));
        let at = at.unwrap_or_else(|| panic!("{lane:?}"));
        assert_eq!(lane[..at].iter().filter(|what| is_write(what)).count(), 1, "{lane:?}");
        assert!(!lane[at..].iter().any(is_write), "{lane:?}");
        if let Some(mut client) = half_open {
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).unwrap();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "the half-closed client received the end of the stream");
        }
    }
    assert_eq!(server.stats()["streams"]["disconnected"], 2);
}

#[test]
fn a_stop_does_not_wait_for_a_blocked_write() {
    // If the stop waited for the writes, it would have to be forced, and the log would report that.
    let mut server = start("--write-timeout 600 --force-shutdown-after 60 --update-rate 50ms --threads 2:2");
    let holders = block_every_thread(&server, 2);
    let asked = Instant::now();
    server.signal(rustix::process::Signal::INT);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    eprintln!("the server stopped after {:?} with two blocked writes", asked.elapsed());
    assert!(!server.log().contains("were still busy"), "{}", server.log());
    drop(holders);
}

/// Streams are cut off hundreds of times, by age and by order, while models are created. Each tab still gets each
/// model once.
fn over_hundreds_of_cuts_no_model_is_lost_or_repeated(engine: EngineKind) {
    let server = engine.server_with(
        "--front puma --max-stream-age 300ms --reap-every 20ms --retry 10ms --produce-every 5ms --update-rate 20ms \
         --keep-models 1000000 --max-io-threads 2 --db-pool 10",
    );
    let tabs: Vec<_> = (1..=14).map(|n| open_tab(&server, &format!("tab {n}"), "0")).collect();
    let deadline = Instant::now() + 4 * PATIENCE;
    let reaps = engine.times(400, 150) as u64;
    while server.stats()["streams"]["reaped"].as_u64() < Some(reaps) {
        assert!(Instant::now() < deadline, "{}", server.stats());
        assert_eq!(json(server.control, "POST", "/reap?older-than=0.1").0, 200);
        thread::sleep(Duration::from_millis(50));
    }
    let newest = *ids_there(&server).last().unwrap();
    for (n, tab) in (1..).zip(&tabs) {
        wait_for_id(&server, tab, newest);
        let received = received(tab);
        assert_gapless(&received, 1, &format!("tab {n}"));
        assert!(received.len() as i64 >= newest);
    }
    let connections: u64 = tabs.iter().map(|tab| tab.progress().connections).sum();
    eprintln!("{newest} models for each of {} tabs, over {connections} connections", tabs.len());
    assert!(connections >= reaps / 4 * 3, "{connections}");
}

/// A client that requests a page and reads nothing, with a receive buffer of a few kilobytes.
fn stalled_reader_of_a_page(server: &Server) -> TcpStream {
    send_with_small_buffer(server.app, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[test]
fn an_unread_page_frees_its_thread_and_its_bytes_are_counted() {
    let server = start("--write-timeout 600 --max-answer-time 4 --threads 2:2");
    common::create_large(server.app, 60);
    let clients = [stalled_reader_of_a_page(&server), stalled_reader_of_a_page(&server)];
    let stats = server.wait_for_stats("two blocked pages", |stats| {
        stats["busy_threads"] == 2 && stats["connections"]["unsent_bytes"].as_u64() > Some(0)
    });
    assert!(stats["connections"]["unsent_bytes"].as_u64() < Some(2 << 20), "{stats}");
    assert_eq!(get(server.app, "/up").0, 200);
    server.wait_for_stats("free threads", |stats| {
        stats["busy_threads"] == 0 && stats["connections"]["unsent_bytes"] == 0
    });
    drop(clients);
}

#[test]
fn a_slow_reader_gets_its_page_and_a_stalled_one_does_not_keep_its_thread() {
    let server = start("--write-timeout 600 --max-answer-time 600 --threads 2:2");
    common::create_large(server.app, 60);
    let _stalled = stalled_reader_of_a_page(&server);
    let mut slow = stalled_reader_of_a_page(&server);
    server.wait_for_stats("two blocked pages", |stats| {
        stats["busy_threads"] == 2 && stats["connections"]["unsent_bytes"].as_u64() > Some(0)
    });
    // This client reads the whole answer, a little at a time.
    let slow = thread::spawn(move || {
        let (mut all, mut part) = (Vec::new(), vec![0; 12 * 1024]);
        let head = common::read_head(&mut slow).to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        while all.len() < length {
            let read = slow.read(&mut part).unwrap();
            assert!(read > 0, "the answer was cut off after {} of {length} bytes", all.len());
            all.extend_from_slice(&part[..read]);
            thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(get(server.app, "/up").0, 200);
    slow.join().unwrap();
    server.wait_for_stats("free threads", |stats| stats["busy_threads"] == 0);
}

#[test]
fn the_kernel_keeps_a_bounded_part_of_a_page_for_each_client() {
    let server = start("--write-timeout 600 --max-answer-time off --threads 8:8");
    common::create_large(server.app, 60);
    let clients: Vec<_> = (0..8).map(|_| stalled_reader_of_a_page(&server)).collect();
    wait_for("eight blocked pages", || {
        let threads = json(server.control, "GET", "/threads").1;
        let taken: Vec<_> = threads.as_array()?.iter().filter_map(|it| it["bytes"].as_u64()).collect();
        // Linux doubles the buffer, and the client's buffer holds as much again.
        (taken.len() == 8 && taken.iter().all(|bytes| (1..512 * 1024).contains(bytes))).then_some(())
    });
    let stats = server.stats();
    assert_eq!(stats["busy_threads"], 8, "{stats}");
    assert!(stats["connections"]["unsent_bytes"].as_u64() > Some(0), "{stats}");
    drop(clients);
}

#[test]
fn four_pages_for_a_client_that_reads_nothing_in_small_segments_hold_no_thread() {
    let server = start("--write-timeout 600 --max-answer-time off --threads 1:1");
    // With such a buffer the client accepts 576 bytes per segment, for which the kernel needs twice as much memory.
    let requests = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(4);
    let client = send_with_buffer(server.app, 512, &requests);
    server.wait_for_stats("four answers", |stats| stats["requests_count"] == 4 && stats["busy_threads"] == 0);
    let moments = timeline(&server);
    let answered = moments.iter().filter(|moment| matches!(moment.what, What::Answered { .. })).count();
    let blocked = moments.iter().filter(|moment| matches!(moment.what, What::Blocked { .. })).count();
    assert_eq!((answered, blocked), (4, 0), "{moments:?}");
    drop(client);
}

#[test]
fn a_request_after_a_reaped_stream_is_answered_and_nothing_is_reset() {
    // While the server waits for the close of a client (`poll`), the socket cannot be used for another request. If
    // the stream is reaped just before that wait, another answer follows.
    for (notice, fewest) in [("write", 2), ("poll", 1)] {
        let server = start(&format!("--update-rate 60 --notice-close {notice}"));
        let mut client = send(server.app, &[STREAM_REQUEST, &PAGE.repeat(600)].concat());
        server.wait_for_stats("a stream", |stats| stats["streams"]["open"] == 1);
        assert_eq!(json(server.control, "POST", "/reap").1["reaped"], 1);
        thread::sleep(Duration::from_millis(100));
        let all = read_to_end(&mut client);
        assert!(all.contains("this stream was asked to end"), "{notice}: {all:?}");
        let answers = all.matches("HTTP/1.1 200").count();
        assert!((fewest..=2).contains(&answers), "{notice}: {answers}");
        assert_eq!(all.matches("connection: close").count(), answers - 1, "{notice}: the end is announced");
    }
}

#[test]
fn a_connection_that_left_the_pool_ends_without_a_reset() {
    let mut server = start("");
    let listen = b"GET /fixes/push/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = send(server.app, &[&listen[..], &PAGE.repeat(3_000)].concat());
    server.wait_for_stats("a listener", |stats| stats["listeners"]["open"] == 1);
    server.signal(rustix::process::Signal::TERM);
    client.write_all(&PAGE.repeat(3_000)).unwrap();
    let all = read_to_end(&mut client);
    assert!(all.starts_with("HTTP/1.1 200"), "{all:?}");
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
}
