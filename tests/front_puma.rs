//! The Puma front enforces its limits regardless of what clients send. Each test sends bytes on its own sockets.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{
    self, PATIENCE, Server, create_large, get, json, open_stream, proc_status, read_answer, read_head, send,
    wait_for,
};
use ninetabs_server::body::MAX_SPOOLED;
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::Value;

fn start(flags: &str) -> Server {
    Server::start_with(&format!("--front puma {flags}"))
}

/// Reads until the connection ends, which must happen in time. A reset counts as an end.
fn read_to_end(client: &mut TcpStream) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                assert!(
                    Instant::now() < deadline,
                    "the connection did not end after {:?}",
                    String::from_utf8_lossy(&all)
                );
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
                break;
            }
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Expects a refusal: one line, and the end of the connection.
fn expect_refusal(client: &mut TcpStream, status: u16, of: &str) {
    let answer = read_answer(client);
    assert_eq!(answer.status, status, "{of}: {answer:?}");
    assert_eq!(answer.header("connection"), Some("close"), "{of}");
    assert_eq!(answer.body.lines().count(), 1, "{of}: {answer:?}");
    assert_eq!(read_to_end(client), "", "{of}: nothing follows");
}

#[test]
fn a_head_over_a_limit_is_refused() {
    let server = start("--max-head-bytes 20000");
    let head = |line: &str, fields: &str| format!("GET {line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    for (what, bytes, status) in [
        ("a long head", head("/up", &format!("X-A: {}\r\n", "a".repeat(20_000))), 431),
        ("many fields", head("/up", &"X-A: a\r\n".repeat(2_500)), 431),
        ("an unfinished head", format!("GET /up HTTP/1.1\r\n{}", "X-A: a\r\n".repeat(2_500)), 431),
        ("a long name", head("/up", &format!("{}: a\r\n", "X".repeat(257))), 431),
        ("a long target", head(&format!("/{}", "a".repeat(12 * 1024)), ""), 414),
        ("an unfinished request line", format!("GET /{}", "a".repeat(13 * 1024)), 414),
    ] {
        expect_refusal(&mut send(server.app, bytes.as_bytes()), status, what);
    }
    for bytes in [
        head("/up", &format!("X-A: {}\r\n", "a".repeat(19_000))),
        head(&format!("/up?{}", "a".repeat(12 * 1024 - 4)), ""),
        head("/up", &format!("{}: a\r\n", "X".repeat(256))),
    ] {
        assert_eq!(read_answer(&mut send(server.app, bytes.as_bytes())).status, 200, "within the limits");
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let server = start("--max-body-bytes 2000 --first-data-timeout 600");
    let head = |framing: &str| format!("POST /models HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n");
    for length in ["2001", "70368744177664", "18446744073709551616", "99999999999999999999999"] {
        let bytes = head(&format!("Content-Length: {length}\r\n"));
        // The body is never sent, so the refusal must be based on the head.
        expect_refusal(&mut send(server.app, bytes.as_bytes()), 413, length);
    }
    let mut client = send(server.app, head("Transfer-Encoding: chunked\r\n").as_bytes());
    for _ in 0..2 {
        client.write_all(format!("3e8\r\n{}\r\n", "a".repeat(1_000)).as_bytes()).unwrap();
    }
    client.write_all(b"1\r\na").unwrap();
    expect_refusal(&mut client, 413, "chunks in total");
    // The declared size of a chunk is enough for a refusal, before any data of the chunk arrives.
    for size in ["7d1", "000007d1;name=value", "ffffffff", "ffffffffffffffff", "ffffffffffffffffff"] {
        let bytes = head("Transfer-Encoding: chunked\r\n") + size + "\r\n";
        expect_refusal(&mut send(server.app, bytes.as_bytes()), 413, size);
    }
    assert_eq!(json(server.app, "GET", "/models.json").1, serde_json::json!([]));
}

#[test]
fn unfinished_requests_of_all_clients_share_one_limit() {
    const MOST: usize = 1_000_000;
    let server = start(&format!("--max-pending-bytes {MOST} --first-data-timeout 600 --head-timeout 600"));
    let pending = |stats: &Value| stats["connections"]["pending_bytes"].as_u64().unwrap() as usize;
    assert_eq!(server.stats()["connections"]["max_pending_bytes"], MOST);
    let head = format!("GET /up HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(70_000));
    let framing = "Content-Length: 100000";
    let counted =
        format!("POST /models HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n{}", "x".repeat(80_000));
    let framing = "Transfer-Encoding: chunked";
    let chunk = format!("186a0\r\n{}", "x".repeat(80_000));
    let chunked = format!("POST /models HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n{chunk}");
    for half in [head, counted, chunked] {
        let (mut clients, mut refused) = (Vec::new(), 0);
        while refused < 3 {
            assert!(clients.len() < 50, "none of {} clients was refused", clients.len());
            let before = pending(&server.stats());
            let mut client = send(server.app, half.as_bytes());
            // Either the client's bytes are counted, or the client is refused.
            let stats = server.wait_for_stats("counted bytes or refusal", |stats| {
                client.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                pending(stats) >= before + half.len() || client.peek(&mut [0]).is_ok()
            });
            assert!(pending(&stats) <= MOST, "{stats}");
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            if pending(&stats) < before + half.len() {
                let answer = read_answer(&mut client);
                assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
                refused += 1;
            }
            clients.push(client);
        }
        assert!(clients.len() > refused + 3, "only {} were accepted", clients.len() - refused);
        // A request that arrives in one read does not count toward the limit.
        assert_eq!(get(server.app, "/up").0, 200);
        drop(clients);
        server.wait_for_stats("no pending bytes", |stats| pending(stats) == 0);
    }
    // The memory of refused and abandoned requests was released, so another body can be read.
    let body = format!("name={}", "x".repeat(10_000));
    let bytes =
        format!("POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(read_answer(&mut send(server.app, bytes.as_bytes())).status, 201);
    server.wait_for_stats("no pending bytes", |stats| pending(stats) == 0);
}

/// A head of many short fields, which takes five times its size in memory once it is parsed.
fn head_of_short_fields(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}{}\r\n", "X:\r\n".repeat(10_000))
}

/// A lower bound for the memory that such a head takes.
const SHORT_FIELDS_BYTES: usize = 170_000;

#[test]
fn a_parsed_head_counts_as_pending_while_its_body_is_read() {
    const MOST: usize = 1_000_000;
    let server = start(&format!("--max-pending-bytes {MOST} --first-data-timeout 600 --head-timeout 600"));
    let pending = |stats: &Value| stats["connections"]["pending_bytes"].as_u64().unwrap() as usize;
    let page = "GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for framing in ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let head = head_of_short_fields("POST /models", framing);
        // If the head is pipelined, the pool thread that served the page reads it. Otherwise the reactor does.
        for is_pipelined in [true, false] {
            let (mut clients, mut refused) = (Vec::new(), 0);
            while refused < 3 {
                assert!(clients.len() < 20, "none of {} clients was refused", clients.len());
                let mut client = send(server.app, b"");
                if is_pipelined {
                    client.write_all(format!("{page}{head}").as_bytes()).unwrap();
                } else {
                    client.write_all(page.as_bytes()).unwrap();
                }
                assert_eq!(read_answer(&mut client).status, 200);
                if !is_pipelined {
                    client.write_all(head.as_bytes()).unwrap();
                }
                client.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                let held = (clients.len() + 1 - refused) * SHORT_FIELDS_BYTES;
                let stats = server.wait_for_stats("counted head or refusal", |stats| {
                    pending(stats) >= held || client.peek(&mut [0]).is_ok()
                });
                assert!(pending(&stats) <= MOST, "{stats}");
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                if pending(&stats) < held {
                    assert_eq!(read_answer(&mut client).status, 503);
                    refused += 1;
                }
                clients.push(client);
            }
            assert!(clients.len() > refused + 2, "only {} were accepted", clients.len() - refused);
            assert_eq!(get(server.app, "/up").0, 200);
            drop(clients);
            server.wait_for_stats("no pending bytes", |stats| pending(stats) == 0);
        }
    }
}

#[test]
fn queued_requests_count_as_pending_and_small_ones_are_served_beside_large_ones() {
    const MOST: usize = 1_000_000;
    let server = start(&format!("--max-pending-bytes {MOST} --threads 1:1 --update-rate 100ms"));
    let pending = |stats: &Value| stats["connections"]["pending_bytes"].as_u64().unwrap() as usize;
    let page = "GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut clients: Vec<_> = (0..20).map(|_| send(server.app, page.as_bytes())).collect();
    for client in &mut clients {
        assert_eq!(read_answer(client).status, 200);
    }
    server.stats();
    server.wait_for_stats("all in the reactor", |stats| stats["reactor_max"] == 20);
    // A stream holds the only thread, so every request stays queued.
    let stream = open_stream(server.app);
    let mut small = clients.split_off(10);
    for client in &mut clients {
        client.write_all(head_of_short_fields("GET /up", "").as_bytes()).unwrap();
    }
    let seen = server.wait_for_stats("queued or refused requests", |stats| {
        let open = stats["connections"]["open"].as_u64().unwrap();
        open + stats["backlog"].as_u64().unwrap() >= 21 && pending(stats) > MOST - SHORT_FIELDS_BYTES * 3 / 2
    });
    assert!(pending(&seen) <= MOST, "{seen}");
    for client in &mut small {
        client.write_all(page.as_bytes()).unwrap();
    }
    server.wait_for_stats("queued small requests", |stats| stats["backlog"].as_u64() >= Some(13));
    drop(stream);
    for client in &mut small {
        assert_eq!(read_answer(client).status, 200);
    }
    let answers: Vec<_> = clients.iter_mut().map(|client| read_answer(client).status).collect();
    let served = answers.iter().filter(|status| **status == 200).count();
    assert!((3..=5).contains(&served), "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 503).count(), 10 - served, "{answers:?}");
    server.wait_for_stats("no pending bytes", |stats| pending(stats) == 0);
}

#[test]
fn an_incomplete_request_gets_408_and_a_silent_connection_is_closed() {
    let server = start("--first-data-timeout 500ms --persistent-timeout 500ms --threads 1:1");
    for half in [
        "GET /up HTT",
        "GET /up HTTP/1.1\r\nHost: local",
        "POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nname",
        "POST /models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nname",
    ] {
        expect_refusal(&mut send(server.app, half.as_bytes()), 408, half);
    }
    assert_eq!(
        read_to_end(&mut send(server.app, b"")),
        "",
        "a silent connection is closed without an answer"
    );
    let mut kept = send(server.app, b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(read_answer(&mut kept).status, 200);
    assert_eq!(read_to_end(&mut kept), "", "an idle connection is closed without an answer");
    assert_eq!(json(server.app, "GET", "/models.json").1, serde_json::json!([]));
}

/// As in Puma, every byte restarts `--first-data-timeout`. A head also has a total time limit.
#[test]
fn a_head_that_arrives_slowly_is_limited_by_its_total_time() {
    let server = start("--head-timeout 1 --first-data-timeout 600 --threads 1:1");
    let mut client = send(server.app, b"GET /up HTTP/1.1\r\nHost: localhost\r\nX-Drip: ");
    let mut writer = client.try_clone().unwrap();
    let drip = thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && writer.write_all(b"a").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    expect_refusal(&mut client, 408, "a dripping head");
    drop(client);
    assert_eq!(get(server.app, "/up").0, 200);
    drop(server);
    drip.join().unwrap();
}

#[test]
fn a_connection_is_kept_alive_for_999_requests() {
    let server = start("");
    let mut client = send(server.app, b"");
    let request = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for n in 1..=999 {
        client.write_all(request).unwrap();
        let answer = read_answer(&mut client);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection"), (n == 999).then_some("close"), "answer {n}");
    }
    assert_eq!(read_to_end(&mut client), "");
}

#[test]
fn a_connection_over_the_limit_evicts_the_longest_idle_one() {
    let server = start("--max-connections 3");
    let request = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // A connection becomes idle when its pool thread returns it to the reactor, which is after the answer.
    let kept = |client: &mut TcpStream, waiting: usize| {
        client.write_all(request).unwrap();
        assert_eq!(read_answer(client).status, 200);
        server.stats();
        server.wait_for_stats("all in the reactor", |stats| stats["reactor_max"] == waiting);
    };
    let mut clients = Vec::new();
    for waiting in 1..=3 {
        let mut client = send(server.app, b"");
        kept(&mut client, waiting);
        clients.push(client);
    }
    let [mut first, mut second, mut third]: [TcpStream; 3] = clients.try_into().unwrap();
    // The first client has been idle for longest until it sends another request. After that, the second has.
    kept(&mut first, 3);
    let mut fourth = send(server.app, request);
    assert_eq!(read_answer(&mut fourth).status, 200);
    assert_eq!(read_to_end(&mut second), "", "the longest idle connection is closed");
    for client in [&mut first, &mut third, &mut fourth] {
        client.write_all(request).unwrap();
        assert_eq!(read_answer(client).status, 200);
    }
    assert_eq!(server.stats()["connections"]["evicted"], 1);
}

#[test]
fn an_evicted_incomplete_request_gets_the_reason() {
    let server = start("--max-connections 2");
    let mut half = send(server.app, b"GET /up HTTP/1.1\r\nHost: local");
    let _silent = send(server.app, b"");
    server.wait_for_stats("both connections in the reactor", |stats| stats["reactor_max"] == 2);
    assert_eq!(get(server.app, "/up").0, 200);
    expect_refusal(&mut half, 503, "half a request");
}

#[test]
fn a_client_that_holds_all_connections_does_not_lock_out_others() {
    let server = start("--max-connections 20");
    let control = crowd_of_silent(server.control, 64);
    let app = crowd_of_silent(server.app, 60);
    let silent = Instant::now();
    for _ in 0..5 {
        assert_eq!(get(server.app, "/up").0, 200);
        assert_eq!(json(server.control, "GET", "/stats").0, 200);
    }
    // Silent connections time out only after 30 s, so these were evicted.
    assert!(silent.elapsed() < Duration::from_secs(20));
    assert_eq!(json(server.control, "POST", "/reap").0, 200);
    drop((control, app));
}

fn crowd_of_silent(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| send(to, b"")).collect()
}

#[test]
fn silent_queued_connections_are_evicted_while_every_thread_is_held() {
    let server = start("--max-connections 6 --threads 2:2 --update-rate 100ms");
    let streams = [open_stream(server.app), open_stream(server.app)];
    let _silent = crowd_of_silent(server.app, 4);
    server.wait_for_stats("four queued connections", |stats| stats["backlog"] == 4);
    let mut page = send(server.app, b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.wait_for_stats("one eviction", |stats| stats["connections"]["evicted"] == 1);
    drop(streams);
    assert_eq!(read_answer(&mut page).status, 200);
}

#[test]
fn a_connection_that_is_being_served_is_never_evicted() {
    let server = start("--max-connections 2 --update-rate 100ms");
    let mut streams = [open_stream(server.app), open_stream(server.app)];
    let mut refused = send(server.app, b"");
    let answer = read_answer(&mut refused);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(read_to_end(&mut refused), "");
    assert_eq!(server.stats()["streams"]["open"], 2);
    for stream in &mut streams {
        assert_eq!(stream.write(b"").unwrap(), 0);
    }
}

#[test]
fn every_client_over_the_limit_is_refused_while_refused_ones_linger() {
    const MOST: u64 = 6;
    let server = start(&format!("--max-connections {MOST}"));
    let request = b"GET /fixes/push/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut clients = Vec::new();
    for n in 1..=100 {
        let mut client = send(server.app, request);
        let head = read_head(&mut client);
        let status = if n <= MOST { " 200 " } else { " 503 " };
        assert!(head.contains(status), "client {n}: {head}");
        clients.push(client);
        let stats = server.stats();
        assert!(stats["connections"]["open"].as_u64() <= Some(MOST + 32), "client {n}: {stats}");
    }
    assert_eq!(server.stats()["connections"]["evicted"], 0);
}

#[test]
fn a_lingering_connection_is_not_in_use() {
    let server = start("--max-connections 1");
    let mut lingering = Vec::new();
    // A refused connection lingers for a moment after its client has read the answer.
    wait_for("a page while another connection lingers", || {
        let mut refused = send(server.app, b"nonsense\r\n\r\n");
        assert!([400, 503].contains(&read_answer(&mut refused).status));
        lingering.push(refused);
        let mut page = send(server.app, b"GET /up HTTP/1.0\r\n\r\n");
        (read_answer(&mut page).status == 200).then_some(())
    });
    assert_eq!(server.stats()["connections"]["evicted"], 0);
}

#[test]
fn lingering_connections_do_not_evict_idle_ones() {
    let server = start("--max-connections 4");
    let request = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut kept = send(server.app, request);
    assert_eq!(read_answer(&mut kept).status, 200);
    let mut lingering = Vec::new();
    for _ in 0..80 {
        let mut refused = send(server.app, b"nonsense\r\n\r\n");
        assert_eq!(read_answer(&mut refused).status, 400);
        lingering.push(refused);
    }
    assert_eq!(server.stats()["connections"]["evicted"], 0);
    kept.write_all(request).unwrap();
    assert_eq!(read_answer(&mut kept).status, 200);
}

#[test]
fn a_malformed_request_chosen_for_eviction_gets_one_answer() {
    let server = start("--max-connections 3 --threads 2:2 --update-rate 100ms");
    let streams = [open_stream(server.app), open_stream(server.app)];
    let mut malformed = send(server.app, b"nonsense\r\n\r\n");
    server.wait_for_stats("one queued connection", |stats| stats["backlog"] == 1);
    let mut page = send(server.app, b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect_refusal(&mut malformed, 400, "a malformed request");
    drop(streams);
    assert_eq!(read_answer(&mut page).status, 200);
    assert_eq!(server.stats()["connections"]["evicted"], 0, "the malformed request is refused, not evicted");
}

#[test]
fn a_request_that_expects_100_continue_gets_it() {
    let server = start("");
    let head = "POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                Content-Length: 6\r\nExpect: 100-continue\r\n\r\n";
    let mut client = send(server.app, head.as_bytes());
    assert_eq!(read_head(&mut client), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"name=a").unwrap();
    assert_eq!(read_answer(&mut client).status, 201);
    // A client that has already sent its body gets no interim answer, and neither does an HTTP/1.0 client.
    client.write_all(format!("{head}name=b").as_bytes()).unwrap();
    assert_eq!(read_answer(&mut client).status, 201);
    let old = send(server.app, head.replace("HTTP/1.1", "HTTP/1.0").as_bytes());
    (&old).write_all(b"name=c").unwrap();
    assert_eq!(read_answer(&mut { old }).status, 201);
}

#[test]
fn an_answer_without_a_body_keeps_the_connection_in_sync() {
    let server = start("");
    let mut client = send(server.app, b"");
    for path in ["/up", "/", "/models.json", "/nowhere", "/models/live_stream"] {
        client.write_all(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        let head = read_head(&mut client);
        client.write_all(b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        // If the answer to HEAD had a body, the next answer would not begin with a head.
        assert_eq!(read_answer(&mut client).body, "up\n", "after {head}");
    }
    assert_eq!(server.stats()["streams"]["opened"], 0);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = start("--threads 4:4");
    let post =
        "POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let bytes = [
        "GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &format!("{post}Content-Length: 6\r\n\r\nname=a"),
        "HEAD /up HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &format!("{post}Transfer-Encoding: chunked\r\n\r\n6\r\nname=b\r\n0\r\n\r\n"),
        "GET /models.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    .concat();
    let mut client = send(server.app, bytes.as_bytes());
    assert_eq!(read_answer(&mut client).body, "up\n");
    assert_eq!(read_answer(&mut client).status, 404);
    assert_eq!(read_answer(&mut client).status, 201);
    assert!(read_head(&mut client).starts_with("HTTP/1.1 200 "));
    assert_eq!(read_answer(&mut client).status, 201);
    let models: Value = serde_json::from_str(&read_answer(&mut client).body).unwrap();
    let names: Vec<_> = models.as_array().unwrap().iter().map(|model| &model["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(read_to_end(&mut client), "", "no request after a close is answered");
}

/// Reads until the connection ends, and returns the number of answers. A reset fails the test.
fn read_answers(client: &mut TcpStream, of: &str) -> usize {
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap_or_else(|error| panic!("{of}: {error} after {} bytes", all.len()));
    String::from_utf8_lossy(&all).matches("HTTP/1.1 200").count()
}

#[test]
fn every_answer_before_a_close_arrives_whatever_was_sent_after_it() {
    let server = start("");
    let get = "GET /up HTTP/1.1\r\nHost: localhost\r\n";
    let plain = format!("{get}\r\n");
    let both = "POST /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for (what, requests, answers) in [
        ("close", plain.repeat(99) + get + "Connection: close\r\n\r\n" + &plain.repeat(300), 100),
        ("the limit of a connection", plain.repeat(1_500), 999),
        ("a refusal", plain.repeat(99) + "no request\r\n\r\n" + &plain.repeat(300), 99),
        ("a body framed twice", plain.repeat(99) + both + &plain.repeat(300), 99),
    ] {
        let mut client = send(server.app, requests.as_bytes());
        thread::sleep(Duration::from_millis(200));
        assert_eq!(read_answers(&mut client, what), answers, "{what}");
    }
}

#[test]
fn bytes_after_the_last_request_do_not_reset_its_answer() {
    let server = start("");
    let last = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\nGET /up HTTP/1.0\r\n\r\nGET /";
    let mut client = send(server.app, last);
    for _ in 0..5 {
        client.write_all(&[b'a'; 100]).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(read_answers(&mut client, "HTTP/1.0"), 1);
}

#[test]
fn the_connection_of_a_last_request_is_closed_immediately_if_nothing_follows() {
    let server = start("");
    for _ in 0..20 {
        let mut client = send(server.app, b"GET /up HTTP/1.0\r\n\r\n");
        assert_eq!(read_answer(&mut client).status, 200);
        assert_eq!(read_to_end(&mut client), "");
    }
    server.wait_for_stats("no connection", |stats| stats["connections"]["open"] == 0);
    assert_eq!(server.stats()["reactor_max"], 0, "none of the connections lingers in the reactor");
}

#[test]
fn answers_before_a_stop_arrive_and_an_incomplete_request_gets_503() {
    let mut server = start("--threads 1:1 --update-rate 60");
    let up = "GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut half = send(server.app, format!("{up}GET /up HTTP/1.1\r\nHost: local").as_bytes());
    assert_eq!(read_answer(&mut half).status, 200);
    let mut idle = send(server.app, up.as_bytes());
    assert_eq!(read_answer(&mut idle).status, 200);
    let mut stream = send(
        server.app,
        format!("GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n{}", up.repeat(1_000)).as_bytes(),
    );
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200"));
    server.wait_for_stats("a stream", |stats| stats["streams"]["open"] == 1);
    server.signal(Signal::TERM);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let all = String::from_utf8_lossy(&all);
    assert!(all.contains("the server is stopping"), "the last bytes of the stream are missing: {all:?}");
    assert_eq!(
        all.matches("connection: close").count(),
        1,
        "one more request is answered, and its answer announces the close"
    );
    assert_eq!(idle.read(&mut [0; 9]).unwrap(), 0, "an idle connection is closed without an answer");
    expect_refusal(&mut half, 503, "half a request");
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
}

/// After SIGCONT, the deadlines have passed, but the requests had arrived before them.
#[test]
fn a_request_that_arrived_in_time_is_answered_although_the_process_was_stopped() {
    let server = start("--persistent-timeout 8 --first-data-timeout 8 --head-timeout 8");
    let up = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = b"POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n\r\nname=a";
    // One half of a request is sent now, and the other half while the process is stopped.
    let mut clients = Vec::new();
    for n in 0..1_300 {
        let (before, rest, status): (&[u8], &[u8], u16) = match n % 4 {
            0 => (up, up, 200),
            1 => (b"", up, 200),
            2 => (&up[..20], &up[20..], 200),
            _ => (&post[..post.len() - 3], &post[post.len() - 3..], 201),
        };
        let mut client = send(server.app, before);
        if n % 4 == 0 {
            assert_eq!(read_answer(&mut client).status, 200);
        }
        clients.push((client, rest, status));
    }
    server.wait_for_stats("all in the reactor", |stats| stats["reactor_max"].as_u64() >= Some(1_200));
    server.signal(Signal::STOP);
    for (client, rest, _) in &mut clients {
        client.write_all(rest).unwrap();
    }
    thread::sleep(Duration::from_secs(9));
    server.signal(Signal::CONT);
    for (n, (mut client, _, status)) in clients.into_iter().enumerate() {
        assert_eq!(read_answer(&mut client).status, status, "client {n}");
    }
}

/// If the server closed immediately, the resulting reset would make the client's kernel discard the answer.
#[test]
fn a_refusal_arrives_although_the_client_continues_to_send() {
    let server = start("--max-body-bytes 2000 --threads 1:1");
    for framing in ["Content-Length: 3000000", "Transfer-Encoding: chunked"] {
        let head = format!("POST /models HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n2dc6c0\r\n");
        let mut client = send(server.app, head.as_bytes());
        for _ in 0..300 {
            client.write_all(&[b'a'; 10_000]).unwrap();
        }
        expect_refusal(&mut client, 413, framing);
    }
    // The connection of a client that sends forever is closed, and holds no resources.
    let mut endless = send(server.app, b"no request\r\n\r\n");
    let deadline = Instant::now() + PATIENCE;
    while endless.write_all(&[b'a'; 10_000]).is_ok() {
        assert!(Instant::now() < deadline, "the client can send forever");
    }
    drop(endless);
    server.wait_for_stats("no connection", |stats| stats["connections"]["open"] == 0);
}

#[test]
fn a_client_that_closes_while_it_is_queued_is_counted_but_not_served() {
    let server = start("--threads 1:1 --update-rate 100ms");
    // For keep-alive connections, the reactor notices the close.
    let kept = || {
        let mut client = send(server.app, b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(read_answer(&mut client).status, 200);
        client
    };
    let (kept_whole, kept_half) = (kept(), kept());
    let stream = open_stream(server.app);
    let before = server.stats()["requests_count"].as_u64().unwrap();
    let post = b"POST /models HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n\r\nname=a";
    for _ in 0..3 {
        drop(send(server.app, post));
    }
    (&kept_whole).write_all(post).unwrap();
    drop(kept_whole);
    (&kept_half).write_all(post).unwrap();
    let half = send(server.app, post);
    server.wait_for_stats("six queued requests", |stats| stats["backlog"] == 6);
    for half in [&half, &kept_half] {
        half.shutdown(Shutdown::Write).unwrap();
    }
    drop(stream);
    server.wait_for_stats("empty queue", |stats| {
        stats["requests_count"].as_u64() == Some(before + 6) && stats["pool_capacity"] == 1
    });
    let left = |moment: &Value| moment["kind"] == "left";
    let timeline = json(server.control, "GET", "/timeline").1;
    assert_eq!(timeline["moments"].as_array().unwrap().iter().filter(|it| left(it)).count(), 6);
    assert_eq!(json(server.app, "GET", "/models.json").1, serde_json::json!([]));
}

#[test]
fn a_client_that_half_closes_after_a_second_request_gets_only_the_first_answer() {
    let server = start("--threads 3:3 --update-rate 100ms --db-pool 1 --db-checkout-timeout 60");
    let stream = open_stream(server.app);
    let post = b"POST /models HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n\r\nname=a";
    let mut client = send(server.app, post);
    server
        .wait_for_stats("first request waiting for the database", |stats| stats["database"]["waiting"] == 1);
    client.write_all(post).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    drop(stream);
    assert_eq!(read_answer(&mut client).status, 201);
    assert_eq!(client.read(&mut [0; 9]).unwrap(), 0, "nothing follows");
    assert_eq!(json(server.app, "GET", "/models.json").1.as_array().unwrap().len(), 1);
}

#[test]
fn a_queued_connection_is_listed_whether_or_not_the_reactor_has_read_it() {
    let server = start("--threads 1:1");
    let mut kept = send(server.app, b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(read_answer(&mut kept).status, 200);
    let _stream = open_stream(server.app);
    kept.write_all(b"GET /?tab=kept HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let _new = send(server.app, b"GET /?tab=new HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_for("both queued requests with their targets", || {
        let timeline = json(server.control, "GET", "/timeline").1;
        let moments = timeline["moments"].as_array().unwrap();
        let names = |target: &str| moments.iter().any(|it| it["peeked"] == true && it["target"] == target);
        (names("/?tab=kept") && names("/?tab=new")).then_some(())
    });
}

/// Sends these bytes repeatedly while the server accepts them, but at most this many times.
fn send_on(client: &mut TcpStream, bytes: &[u8], times: usize) {
    for _ in 0..times {
        if client.write_all(bytes).is_err() {
            return;
        }
    }
}

#[test]
fn endless_input_does_not_grow_memory() {
    // This limit is larger than any of the bodies, so it does not end them.
    let server = start("--max-body-bytes 1000000000");
    assert_eq!(get(server.app, "/").0, 200);
    let before = proc_status(server.child.id(), "VmHWM");
    let chunked = "POST /models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("8000\r\n{}\r\n", "a".repeat(0x8000));
    let long = "a".repeat(0x8000);
    for (what, beginning, more) in [
        ("a head of many fields", "GET /up HTTP/1.1\r\nHost: localhost\r\n", "X-A: a\r\n".repeat(4_000)),
        ("a head of one field", "GET /up HTTP/1.1\r\nHost: localhost\r\nX-A: ", long.clone()),
        ("a request line", "GET /", long.clone()),
        ("chunks", chunked, chunk),
        ("a chunk's extension", &format!("{chunked}1;a="), long.clone()),
        ("trailers", &format!("{chunked}0\r\n"), "X-A: a\r\n".repeat(4_000)),
    ] {
        let mut client = send(server.app, beginning.as_bytes());
        // 64 MiB in total.
        send_on(&mut client, more.as_bytes(), 2_048);
        drop(client);
        let grown = proc_status(server.child.id(), "VmHWM") - before;
        eprintln!("{what}: {grown} KiB at most");
        assert!(grown < 16 * 1024, "{what}: memory grew by {grown} KiB");
        assert_eq!(get(server.app, "/up").0, 200);
    }
    server.wait_for_stats("no connection", |stats| stats["connections"]["open"] == 0);
}

/// Checks that the control server answers without waiting for clients to close.
fn ask_control(server: &Server, clients: usize) {
    let asked = Instant::now();
    assert_eq!(json(server.control, "GET", "/threads").0, 200, "with {clients} clients");
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(10), "with {clients} clients, the answer took {took:?}");
}

/// Connects this many clients, which send nothing.
fn crowd(server: &Server, count: usize, mut each: impl FnMut(usize)) -> Vec<TcpStream> {
    let connect = |n| {
        each(n);
        // With a full listen queue, connecting would block. The client is then skipped.
        TcpStream::connect_timeout(&server.app, Duration::from_millis(200)).ok()
    };
    (0..count).filter_map(connect).collect()
}

/// Waits until pages are answered again and all connections have ended.
fn expect_recovery(server: &Server) {
    wait_for("a page", || {
        let mut client = send(server.app, b"GET /up HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        client.read_to_string(&mut answer).is_ok_and(|_| answer.contains(" 200 OK")).then_some(())
    });
    server.wait_for_stats("no connection", |stats| stats["connections"]["open"] == 0);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Checks that descriptors do not run out: silent clients are evicted in favor of others, and accepting never
/// pauses.
fn expect_service_beside(server: &Server, clients: Vec<TcpStream>) {
    wait_for("an eviction", || server.log().contains("evicting").then_some(()));
    for _ in 0..5 {
        assert_eq!(get(server.app, "/up").0, 200);
    }
    drop(clients);
    expect_recovery(server);
    let log = server.log();
    assert_eq!(log.matches("evicting").count(), 1, "{log}");
    assert!(!log.contains("accepting paused"), "{log}");
}

#[test]
fn with_more_silent_clients_than_descriptors_pages_are_still_served() {
    let server = Server::with_descriptors(256, &["--front", "puma"]);
    let clients = crowd(&server, 1_000, |n| {
        if n % 50 == 0 {
            ask_control(&server, n);
        }
    });
    (0..20).for_each(|_| ask_control(&server, clients.len()));
    expect_service_beside(&server, clients);
}

/// A connection limit above the descriptor limit is reported once, and the control server keeps its share of the
/// descriptors.
#[test]
fn no_more_connections_than_descriptors_are_accepted() {
    let server = Server::with_descriptors(256, &["--max-connections", "100000"]);
    let said = server.log();
    assert_eq!(
        said.matches("--max-connections 100000: the limit of descriptors (256) permits only").count(),
        1,
        "{said}"
    );
    let clients = crowd(&server, 300, |_| ());
    // The control server uses its whole share at the same time.
    let mut askers: Vec<_> = (0..64).map(|_| send(server.control, b"GET /up")).collect();
    for asker in &mut askers {
        asker.write_all(b" HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(common::split(&read_to_end(asker)).0, 404);
    }
    expect_service_beside(&server, clients);
}

/// The app gets the descriptors that the other parts leave, which may be none.
#[test]
fn with_too_few_descriptors_for_any_connection_the_start_fails() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Server::command(folder.path());
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 100 && exec \"$@\"", "sh"])
        .arg(plain.get_program())
        .args(plain.get_args());
    let output = command.current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("100") && said.contains("ulimit -n"), "{said}");
}

/// Descriptors can still run out, for example when the limit is lowered while the server runs.
#[test]
fn an_acceptor_without_descriptors_pauses_and_recovers() {
    let server = Server::with_descriptors(1024, &[]);
    let limit = Rlimit { current: Some(80), maximum: Some(1024) };
    prlimit(Some(server.pid()), Resource::Nofile, limit).unwrap();
    let clients = crowd(&server, 300, |_| ());
    wait_for("the pause", || server.log().contains("accepting paused").then_some(()));
    drop(clients);
    expect_recovery(&server);
    let log = server.log();
    assert_eq!(log.matches("accepting paused").count(), 1, "{log}");
    assert!(log.contains("accepting paused: Too many open files"), "{log}");
}

/// Begins to send a body that is large enough for a temporary file.
fn begun_upload(server: &Server) -> TcpStream {
    let head = "POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n";
    let client = send(server.app, head.as_bytes());
    (&client).write_all(&[b'a'; 150_000]).unwrap();
    client
}

#[test]
fn large_bodies_beyond_their_share_of_descriptors_get_503() {
    let server = start("--first-data-timeout 600");
    let files = || {
        let folder = fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap();
        folder.filter(|it| fs::read_link(it.as_ref().unwrap().path()).is_ok_and(|to| is_unnamed(&to))).count()
    };
    let mut uploads: Vec<_> = (0..MAX_SPOOLED).map(|_| begun_upload(&server)).collect();
    wait_for("temporary files", || (files() == MAX_SPOOLED).then_some(()));

    let mut one_more = begun_upload(&server);
    let answer = read_answer(&mut one_more);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    assert_eq!(files(), MAX_SPOOLED);
    assert_eq!(get(server.app, "/up").0, 200, "pages and small bodies need no file");
    assert_eq!(common::create(server.app, "small").0, 201);

    drop(uploads.pop());
    wait_for("one file less than the maximum", || (files() < MAX_SPOOLED).then_some(()));
    uploads.push(begun_upload(&server));
    for upload in &mut uploads {
        upload.write_all(&[b'a'; 50_000]).unwrap();
        assert_eq!(read_answer(upload).status, 422, "the body was read completely, and has no name");
    }
    drop(uploads);
    wait_for("the removal of the files", || (files() == 0).then_some(()));
}

/// Whether a descriptor refers to a temporary file, which no longer has a name or never had one.
fn is_unnamed(file: &Path) -> bool {
    let name = file.to_string_lossy();
    name.ends_with(" (deleted)") && !name.contains("socket:")
}

#[test]
fn other_machines_are_answered_and_foreign_hosts_are_not() {
    let server = Server::bound_to("0.0.0.0:0", &["--front", "puma", "--allow-host", "tabs.example"]);
    assert!(server.app.ip().is_unspecified(), "{}", server.app);

    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, server.app.port()));
    for (host, path, status) in [
        ("localhost", "/", 200),
        ("127.0.0.1", "/models.json", 200),
        ("tabs.example", "/", 200),
        ("evil.example", "/", 403),
        ("evil.example", "/models/live_stream", 403),
        ("192.0.2.1", "/models.json", 403),
        ("evil.example", "/up", 200),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(read_answer(&mut send(here, request.as_bytes())).status, status, "{host} {path}");
    }
}

#[test]
fn a_stray_byte_after_the_last_request_does_not_truncate_a_large_answer() {
    let server = start("");
    create_large(server.app, 12);
    for (last, stray) in [
        ("HTTP/1.1\r\nHost: localhost\r\nConnection: close", "\r\n"),
        ("HTTP/1.0", "GET /up HTTP/1.0\r\n\r\n"),
    ] {
        let is_whole = (0..20).find_map(|_| is_whole_after(&server, last, stray));
        assert_eq!(is_whole, Some(true), "after {stray:?}");
    }
}

/// Sends a stray byte once the server has written the answer to the last request, and returns whether the whole
/// answer has arrived. The server lingers for two seconds after its last write. Returns `None` if this process was
/// scheduled too late to send the byte within that time.
fn is_whole_after(server: &Server, last: &str, stray: &str) -> Option<bool> {
    let mut client = TcpStream::connect(server.app).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(format!("GET /models.json {last}\r\n\r\n").as_bytes()).unwrap();
    let head = read_head(&mut client);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    // The client reads slowly, so the rest of the answer stays in the kernel. (With a small receive buffer, reading
    // the rest would take seconds, in which a kernel that is short of memory may reset a closed socket.)
    client.set_nonblocking(true).unwrap();
    let mut body = Vec::new();
    let (mut asked, mut busy) = (Instant::now(), Instant::now());
    server.wait_for_stats("written answer", |stats| {
        let is_busy = stats["busy_threads"] != 0;
        if is_busy {
            busy = asked;
        }
        let mut some = [0; 4096];
        match client.read(&mut some) {
            Ok(read) => body.extend_from_slice(&some[..read]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        asked = Instant::now();
        !is_busy
    });
    client.set_nonblocking(false).unwrap();
    client.write_all(stray.as_bytes()).unwrap();
    if busy.elapsed() > Duration::from_secs(2) {
        return None;
    }
    let end = client.read_to_end(&mut body);
    Some(end.is_ok() && body.len() == length.parse::<usize>().unwrap())
}

#[test]
fn a_reaped_stream_whose_client_stays_is_dropped_and_the_reactor_stays_idle() {
    let server = start("--notice-close poll --max-stream-age 200ms --max-stream-age-jitter 0%");
    let mut client = open_stream(server.app);
    server.wait_for_stats("no stream", |stats| {
        stats["streams"]["opened"] == 1 && stats["streams"]["open"] == 0
    });
    let before = reactor_ticks(server.child.id());
    server.wait_for_stats("no connection", |stats| stats["connections"]["open"] == 0);
    // A tick is a hundredth of a second. The reactor may have been woken a few times.
    assert!(reactor_ticks(server.child.id()) - before < 20, "the reactor is busy");
    read_to_end(&mut client);
}

/// The processor time that the reactor of the app's server has used, in clock ticks.
fn reactor_ticks(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stat = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    let stat = stat.into_iter().find(|stat| stat.contains("(puma srv reacto)")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
