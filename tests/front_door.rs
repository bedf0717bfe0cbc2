//! The guarantees of both front doors for any input, and the limits and the framing of the tiny_http front, including
//! its behavior without free descriptors. Each test sends bytes on its own sockets. `front_puma.rs` tests the
//! limits of the Puma front.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::common::{
    self, FRONTS, PATIENCE, Server, ask, get, json, open_stream, proc_status, read_answer, read_head, send,
    wait_until_up,
};
use serde_json::Value;

/// 2^46 bytes. A process that allocated the declared length up front would abort.
const HUGE: &str = "70368744177664";

/// Columns: the method, additional headers, the bytes after the head, and the expected status.
fn bodies() -> Vec<(&'static str, String, Vec<u8>, u16)> {
    let length = |length: &str| format!("Content-Length: {length}\r\n");
    let both = |one: &str, other: &str| length(one) + &length(other);
    let chunked = || "Transfer-Encoding: chunked\r\n".to_owned();
    let chunk = |bytes: usize| format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(bytes)).into_bytes();
    let named = |bytes: usize| format!("name={}", "a".repeat(bytes - 5)).into_bytes();
    let none = Vec::new;
    vec![
        ("GET", length(HUGE), none(), 413),
        ("POST", length(HUGE), none(), 413),
        ("POST", length(HUGE) + "Expect: 100-continue\r\n", none(), 413),
        ("POST", length("1000000000"), none(), 413),
        ("POST", length("18446744073709551616"), none(), 413),
        ("POST", length("2001"), named(2001), 413),
        ("POST", both("6", "1000000000"), named(6), 400),
        ("POST", both("1000000000", "6"), named(6), 400),
        ("POST", chunked() + &length(HUGE), none(), 413),
        ("POST", chunked(), chunk(2001), 413),
        ("GET", chunked(), chunk(1025), 413),
        // The bodies of these requests never arrive.
        ("GET", chunked(), none(), 413),
        ("GET", length("5") + "Expect: 100-continue\r\n", none(), 413),
        ("GET", length("1025"), none(), 413),
        ("DELETE", length("1025"), none(), 413),
        ("POST", length("abc"), none(), 400),
        ("POST", length("-1"), none(), 400),
        ("POST", length("+6"), named(6), 400),
        ("POST", length("6, 6"), named(6), 400),
        ("POST", "Connection: upgrade\r\n".to_owned() + &length("6"), named(6), 400),
        ("POST", "Connection: upgrade\r\n".to_owned() + &length(HUGE), none(), 413),
        ("POST", length("2000"), named(2000), 201),
        ("POST", length("6"), named(6), 201),
        ("GET", length("1024"), named(1024), 404),
    ]
}

fn request((method, headers, body, _): &(&str, String, Vec<u8>, u16)) -> Vec<u8> {
    let head = format!("{method} /models HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn a_body_over_a_limit_is_refused_and_the_process_survives() {
    let server = Server::on("tiny-http", &["--max-body-bytes", "2000"]);
    let mut kept = Vec::new();
    for row in bodies() {
        let mut client = send(server.app, &request(&row));
        let answer = read_answer(&mut client);
        assert_eq!(answer.status, row.3, "{} {}", row.0, row.1);
        assert_eq!(answer.body.lines().count(), 1, "{answer:?}");
        kept.push(client);
    }
    assert_eq!(get(server.app, "/up"), (200, "up\n".into()));
    drop(kept);
    assert_eq!(get(server.app, "/up").0, 200);
    assert!(proc_status(server.child.id(), "VmHWM") < 256 * 1024, "the memory grew with the declared length");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn bytes_after_a_refused_request_hold_no_thread() {
    let server = Server::on("tiny-http", &["--max-body-bytes", "2000", "--threads", "1:1"]);
    let mut kept = Vec::new();
    for row in bodies().iter().filter(|row| matches!(row.3, 400 | 413)) {
        let mut bytes = request(row);
        bytes.extend_from_slice(b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut client = send(server.app, &bytes);
        assert_eq!(read_answer(&mut client).status, row.3, "{}", row.1);
        assert_eq!(get(server.app, "/up").0, 200, "after {} {}", row.0, row.1);
        kept.push(client);
    }
}

#[test]
fn a_body_that_ends_early_creates_nothing() {
    let server = Server::on("tiny-http", &[]);
    for declared in [600, 2000] {
        let head = format!("POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Length: {declared}\r\n\r\n");
        let mut client = send(server.app, format!("{head}name=half").as_bytes());
        client.shutdown(Shutdown::Write).unwrap();
        if declared > 1024 {
            assert_eq!(read_answer(&mut client).status, 400);
        } else {
            assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0, "closed without an answer");
        }
    }
    assert_eq!(json(server.app, "GET", "/models.json").1, serde_json::json!([]));
}

#[test]
fn each_version_gets_an_answer_that_it_can_read() {
    for front in FRONTS {
        let server = Server::on(front, &["--update-rate", "60"]);
        let old = ask(server.app, "GET /up HTTP/1.0\r\n\r\n");
        let head = "HTTP/1.0 200 OK\r\ncontent-type: text/html; charset=utf-8\r\n\
            content-security-policy: default-src 'none'\r\ncontent-length: 3\r\n\r\n";
        assert_eq!(old, format!("{head}up\n"), "an answer to HTTP/1.0 has no other fields");

        let closing = ask(server.app, "GET /up HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert!(closing.starts_with("HTTP/1.1 200 OK\r\n") && closing.contains("connection: close\r\n"));

        let mut old_stream = send(server.app, b"GET /models/live_stream HTTP/1.0\r\n\r\n");
        let head = read_head(&mut old_stream);
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && !head.contains("transfer-encoding"), "{head}");
        let first = common::read_until(&mut old_stream, "data: []\n\n");
        assert!(first.starts_with(": a stream of models\n"), "the stream must not be chunked: {first:?}");
    }
}

#[test]
fn a_keep_alive_connection_serves_one_request_after_another() {
    for front in FRONTS {
        let server = Server::on(front, &["--threads", "2:2"]);
        let mut client = send(server.app, b"");
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            for _ in 0..3 {
                let request =
                    format!("GET /up {version}\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
                client.write_all(request.as_bytes()).unwrap();
                let answer = read_answer(&mut client);
                assert_eq!((answer.status, answer.body.as_str()), (200, "up\n"));
                assert!(answer.head.starts_with(version));
                let said = (version == "HTTP/1.0").then_some("keep-alive");
                assert_eq!(answer.header("connection"), said);
            }
        }
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    for front in FRONTS {
        let server = Server::on(front, &[]);
        let targets = ["/up", "/nowhere", "/models.json", "/up", "/"];
        let request = |target| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut client = send(server.app, targets.map(request).concat().as_bytes());
        for (target, status) in targets.iter().zip([200, 404, 200, 200, 200]) {
            let answer = read_answer(&mut client);
            assert_eq!(answer.status, status, "{target}");
            match *target {
                "/up" => assert_eq!(answer.body, "up\n"),
                "/models.json" => assert_eq!(answer.body, "[]"),
                "/" => assert!(answer.body.contains("</html>")),
                _ => assert_eq!(answer.body, "Not Found\n"),
            }
        }
    }
}

/// The head of a page without its nonce, which is different each time.
fn without_nonce(head: &str) -> String {
    match head.split_once("'nonce-") {
        Some((_, rest)) => head.replace(rest.split('\'').next().unwrap_or_default(), ""),
        None => head.to_owned(),
    }
}

#[test]
fn a_head_request_gets_the_head_only() {
    let server = Server::start(&[]);
    let mut client = send(server.app, b"");
    for path in ["/up", "/", "/models.json", "/nowhere"] {
        client.write_all(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        let head = read_head(&mut client);
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        // If the answer to HEAD had a body, the next answer would not begin with a head.
        assert_eq!(without_nonce(&read_answer(&mut client).head), without_nonce(&head), "{path}");
    }
    client.write_all(b"HEAD /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(read_head(&mut client).contains("content-type: text/event-stream\r\n"));
    assert_eq!(server.stats()["streams"]["opened"], 0);
}

#[test]
fn the_absolute_form_of_a_target_is_its_path() {
    let server = Server::start(&[]);
    let (app, port) = (server.app, server.app.port());
    for (target, status) in [
        (format!("http://{app}/up"), 200),
        (format!("http://localhost:{port}/models.json?since=0"), 200),
        (format!("http://{app}"), 200),
        (format!("http://{app}/nowhere"), 404),
        ("*".into(), 404),
        ("//up".into(), 404),
        ("/up?http://x/".into(), 200),
    ] {
        assert_eq!(get(app, &target).0, status, "{target}");
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(read_answer(&mut send(app, request.as_bytes())).status, status, "{target}");
    }
}

#[test]
fn garbage_is_refused_without_harm_to_other_clients() {
    let server = Server::on("tiny-http", &["--threads", "1:1"]);
    let rows: &[(&[u8], &str)] = &[
        (b"\x00\xff\xfe\r\n\r\n", ""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", ""),
        (b"GET\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET /up\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET /up HTTP/9.9\r\n\r\n", "HTTP/1.1 400 "),
        (b"\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET /up HTTP/1.1\r\nno colon\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET /up HTTP/1.1\r\nX Y: 1\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET /up HTTP/1.1\r\nX: \xc3\xa4\r\n\r\n", ""),
        (b"GET /up HTTP/1.1\r\nExpect: the unexpected\r\n\r\n", "HTTP/1.1 417 "),
        (b"GET /up HTTP/1.1\r\nHost: local", ""),
        (b"", ""),
    ];
    for (bytes, beginning) in rows {
        let mut client = send(server.app, bytes);
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // The kernel resets a connection that is closed with unread bytes.
        let _ = client.read_to_end(&mut answer);
        let (answer, bytes) = (String::from_utf8_lossy(&answer), String::from_utf8_lossy(bytes));
        assert!(answer.starts_with(beginning) && !answer.contains(" 200 "), "{bytes:?}: {answer:?}");
        assert_eq!(get(server.app, "/up").0, 200, "after {bytes:?}");
    }
    // The last answer is sent a moment before its thread is free.
    server.wait_for_stats("a free thread", |stats| stats["busy_threads"] == 0);
}

#[test]
fn an_unsupported_version_does_no_harm_to_other_clients() {
    for front in FRONTS {
        let server = Server::on(front, &["--threads", "1:1"]);
        for length in ["0", HUGE] {
            let head = format!("GET /up HTTP/2.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
            let clients: Vec<_> = (0..3).map(|_| send(server.app, head.as_bytes())).collect();
            wait_until_up(server.app);
            drop(clients);
            wait_until_up(server.app);
        }
    }
}

#[test]
fn tiny_http_listens_on_loopback_only() {
    for address in ["tcp://0.0.0.0:0", "tcp://[::]:0", "tcp://192.0.2.1:9292"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        command
            .args(["serve", "--front", "tiny-http", "--bind", address, "--database"])
            .arg(folder.path().join("m.sqlite3"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains("--bind") && said.contains(address) && said.contains("tcp://127.0.0.1:"),
            "{said}"
        );
        assert!(!folder.path().join("m.sqlite3").exists());
    }
}

/// Repeats `again` until the server has ended, and returns its exit status.
fn until_it_ends(server: &mut Server, mut again: impl FnMut()) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = server.child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the server is still running: {}", server.log());
        again();
        // If connections were closer together, tiny_http would leave some of them unread.
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn without_descriptors_tiny_http_reports_its_dead_listener_and_ends() {
    let mut server = Server::with_descriptors(64, &["--front", "tiny-http", "--threads", "2:2"]);
    let address = server.app;
    let mut clients = Vec::new();
    let status = until_it_ends(&mut server, || {
        if let Ok(mut client) = TcpStream::connect(address) {
            let _ = client.write_all(b"GET /");
            clients.push(client);
        }
    });
    let log = server.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let said: Vec<_> = log.lines().filter(|line| line.starts_with("ninetabs: ")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains(&format!("{address} died")), "{}", said[0]);
    assert!(!server.folder.path().join("state").exists(), "the state file was not removed");
}

#[test]
fn a_dead_listener_is_noticed_while_keep_alive_connections_are_busy() {
    let mut server = Server::with_descriptors(64, &["--front", "tiny-http", "--threads", "2:2"]);
    let address = server.app;
    let mut client = TcpStream::connect(address).unwrap();
    let busy = std::thread::spawn(move || {
        let mut answers = 0;
        // Repeats until the server has ended.
        while client.write_all(b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n").is_ok()
            && client.read(&mut [0; 1024]).is_ok_and(|read| read > 0)
        {
            answers += 1;
        }
        answers
    });
    let mut clients = Vec::new();
    let status = until_it_ends(&mut server, || clients.extend(TcpStream::connect(address)));
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert!(busy.join().unwrap() > 0, "the busy connection was never answered");
}

#[test]
fn the_control_server_answers_while_every_thread_is_held() {
    for front in FRONTS {
        let server = Server::on(front, &["--update-rate", "60"]);
        let mut open: Vec<_> = (0..8).map(|_| open_stream(server.app)).collect();
        for n in 0..300 {
            let bytes: &[u8] = if n % 2 == 0 { b"" } else { b"GET /models/live_stream HTTP/1.1\r\n\r\n" };
            open.push(send(server.app, bytes));
            // If the connections were closer together, tiny_http would leave some of them unread.
            std::thread::sleep(Duration::from_millis(3));
        }
        let is_full =
            |stats: &Value| stats["backlog"].as_u64() >= Some(100) && stats["connections"]["open"] == 308;
        let stats = server.wait_for_stats("full queue and 308 connections", is_full);
        assert_eq!(stats["pool_capacity"], 0);
        for path in ["/stats", "/threads", "/timeline?after=0"] {
            let asked = Instant::now();
            assert_eq!(json(server.control, "GET", path).0, 200);
            // This takes a few milliseconds. A page of the app would not be answered at all.
            assert!(asked.elapsed() < Duration::from_secs(5), "{path} took {:?}", asked.elapsed());
        }
        let mut page = send(server.app, b"GET /up HTTP/1.0\r\n\r\n");
        page.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(page.read(&mut [0; 1]).is_err(), "a page got a thread");
    }
}

/// Each row is one rule, and is checked on both servers and both fronts. The control server always has the Puma
/// front.
#[test]
fn a_malformed_host_or_authority_is_refused_on_both_servers_and_fronts() {
    let rows = [
        ("/up", "Host: 127.0.0.1:80x\r\n", 400),
        ("/up", "Host: localhost:65536\r\n", 400),
        ("/up", "Host: user@localhost\r\n", 400),
        ("/up", "Host: [localhost]\r\n", 400),
        ("/up", "Host: ::1\r\n", 400),
        ("/up", "Host: [::1%25lo]\r\n", 400),
        ("/up", "Host: local host\r\n", 400),
        ("/up", "Host: localhost%\r\n", 400),
        ("/up", "Host: :80\r\n", 400),
        ("/up", "Host: localhost\r\nHost: localhost\r\n", 400),
        ("http://127.0.0.1:port/up", "Host: localhost\r\n", 400),
        ("http://user@localhost/up", "Host: localhost\r\n", 400),
        ("http:///up", "Host: localhost\r\n", 400),
        ("http://localhost/nowhere", "Host: localhost:x\r\n", 400),
        ("http://localhost/nowhere", "Host: localhost\r\nHost: localhost\r\n", 400),
        // The authority in the target takes precedence over `Host`.
        ("http://other.example/nowhere", "Host: localhost\r\n", 403),
        ("http://localhost/nowhere", "Host: other.example\r\n", 404),
        ("/nowhere", "Host: other.example\r\n", 403),
        ("/nowhere", "Host: LOCALHOST:\r\n", 404),
        ("/nowhere", "Host: [0::1]:65535\r\n", 404),
    ];
    for front in FRONTS {
        let server = Server::on(front, &[]);
        for address in [server.app, server.control] {
            for (target, fields, expected) in rows {
                for (method, version) in [("GET", "1.1"), ("GET", "1.0"), ("POST", "1.1"), ("DELETE", "1.0")]
                {
                    let bytes = format!("{method} {target} HTTP/{version}\r\n{fields}\r\n");
                    let mut client = send(address, bytes.as_bytes());
                    let answer = read_answer(&mut client);
                    assert_eq!(answer.status, expected, "{front} {address} {bytes:?}: {answer:?}");
                    // tiny_http closes a connection only if its client requested that.
                    if expected == 400 && !(front == "tiny-http" && address == server.app) {
                        assert_eq!(answer.header("connection"), Some("close"), "{bytes:?}");
                        assert_eq!(
                            client.read(&mut [0]).unwrap(),
                            0,
                            "the connection stays open after {bytes:?}"
                        );
                    }
                }
            }
        }
        assert!(!server.log().contains("panicked"), "{}", server.log());
    }
}

#[test]
fn close_wins_over_keep_alive_on_both_fronts() {
    for front in FRONTS {
        let server = Server::on(front, &[]);
        for version in ["1.0", "1.1"] {
            let lines: &[&str] = match front {
                // tiny_http reads only the first of several `Connection` lines.
                "tiny-http" => &["close, keep-alive", "keep-alive, close"],
                _ => &[
                    "close, keep-alive",
                    "keep-alive, close",
                    "close\r\nConnection: keep-alive",
                    "keep-alive\r\nConnection: close",
                ],
            };
            for line in lines {
                let bytes =
                    format!("GET /up HTTP/{version}\r\nHost: localhost\r\nConnection: {line}\r\n\r\n");
                let mut client = send(server.app, bytes.as_bytes());
                let answer = read_answer(&mut client);
                assert_ne!(answer.header("connection"), Some("keep-alive"), "{front} {bytes:?}");
                assert_eq!(
                    client.read(&mut [0]).unwrap(),
                    0,
                    "{front}: the connection stays open after {bytes:?}"
                );
            }
        }
    }
}

#[test]
fn a_coding_that_tiny_http_would_read_as_chunked_is_refused() {
    let server = Server::on("tiny-http", &[]);
    for (coding, expected) in [("identity", 501), ("gzip", 400), ("xchunked", 501), ("chunked, gzip", 400)] {
        let head = format!("POST /models HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {coding}\r\n\r\n");
        let mut client = send(server.app, format!("{head}6\r\nname=x\r\n0\r\n\r\n").as_bytes());
        assert_eq!(read_answer(&mut client).status, expected, "{coding}");
    }
    assert_eq!(json(server.app, "GET", "/models.json").1, serde_json::json!([]));
}

#[test]
fn two_lengths_are_refused_by_tiny_http_as_well() {
    let server = Server::on("tiny-http", &[]);
    for (one, other) in [(6, 6), (6, 50), (50, 6), (0, 6), (6, 4000), (4000, 6)] {
        let lengths = format!("Content-Length: {one}\r\nContent-Length: {other}\r\n");
        let mut client = send(
            server.app,
            format!("POST /models HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\nname=x{}", "y".repeat(44))
                .as_bytes(),
        );
        assert_eq!(read_answer(&mut client).status, 400, "{lengths}");
    }
    assert_eq!(json(server.app, "GET", "/models.json").1, serde_json::json!([]));
}
