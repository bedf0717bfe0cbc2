//! The control server: its numbers and their meaning, its orders, and its access rules.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::{
    self, PATIENCE, Server, ask, call, create, get, json, open_stream, read_answer, read_to_end, read_until,
    send, send_with_small_buffer, split, wait_for,
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

const STREAM: &[u8] = b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn order(server: &Server, path: &str) -> (u16, Value) {
    json(server.control, "POST", path)
}

#[test]
fn stats_have_the_keys_of_puma_in_its_order_followed_by_ours() {
    let server = Server::start(&[]);
    let line = get(server.control, "/stats").1;
    let mut at = 0;
    for key in [
        "started_at",
        "backlog",
        "running",
        "pool_capacity",
        "busy_threads",
        "io_threads",
        "backlog_max",
        "max_threads",
        "requests_count",
        "reactor_max",
        "versions",
        "streams",
        "open",
        "opened",
        "disconnected",
        "reaped",
        "refused",
        "oldest_age_s",
        "database",
        "size",
        "busy",
        "waiting",
        "checkout_timeouts",
        "connections",
    ] {
        let found = line[at..].find(&format!("\"{key}\":"));
        at += found.unwrap_or_else(|| panic!("{key} is in the wrong place in {line}"));
    }
    let without = get(Server::on("tiny-http", &[]).control, "/stats").1;
    assert!(!without.contains("reactor_max"), "`reactor_max` without a reactor: {without}");
    let stats: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(stats["versions"]["ninetabs"], env!("CARGO_PKG_VERSION"));
    let started_at = stats["started_at"].as_str().unwrap();
    assert!(started_at.len() == "2026-01-01T00:00:00Z".len() && started_at.ends_with('Z'), "{started_at}");
    let streams =
        json!({"open": 0, "opened": 0, "disconnected": 0, "reaped": 0, "refused": 0, "oldest_age_s": null});
    assert_eq!(stats["streams"], streams);
    assert_eq!(stats["database"], json!({"size": 8, "busy": 0, "waiting": 0, "checkout_timeouts": 0}));
}

#[test]
fn stats_have_the_same_meaning_as_in_puma() {
    // Puma's front does not serve a client that closed while it was queued. tiny_http cannot detect the close.
    stats_of("puma", 3);
    stats_of("tiny-http", 5);
}

fn stats_of(front: &str, served: u64) {
    let server = Server::on(front, &["--threads", "2:3", "--update-rate", "50ms"]);
    let of = |stats: &Value| {
        ["backlog", "running", "pool_capacity", "busy_threads", "max_threads"]
            .map(|key| stats[key].as_u64().unwrap())
    };
    assert_eq!(of(&server.stats()), [0, 2, 3, 0, 3]);
    for pages in 1..=5 {
        assert_eq!(get(server.app, "/up").0, 200);
        // A third thread would be started if neither of the two were idle yet.
        let is_over = |stats: &Value| stats["requests_count"] == pages && stats["busy_threads"] == 0;
        server.wait_for_stats("end of the page", is_over);
    }

    let mut tabs = Vec::new();
    for (tab, wanted) in [[0, 2, 2, 1, 3], [0, 2, 1, 2, 3], [0, 3, 0, 3, 3]].into_iter().enumerate() {
        tabs.push(open_stream(server.app));
        assert_eq!(of(&server.stats()), wanted, "with {} tabs", tab + 1);
    }
    for queued in 1..=2 {
        tabs.push(send(server.app, STREAM));
        server.wait_for_stats("queued tab", |stats| stats["backlog"] == queued);
        // Queued requests count as busy.
        assert_eq!(of(&server.stats()), [queued, 3, 0, 3 + queued, 3]);
    }
    let stats = server.stats();
    assert_eq!((&stats["streams"]["open"], &stats["streams"]["opened"]), (&json!(3), &json!(3)));
    assert_eq!((&stats["database"]["busy"], &stats["connections"]["open"]), (&json!(3), &json!(5)));
    assert!(stats["streams"]["oldest_age_s"].as_f64().unwrap() > 0.0);

    drop(tabs);
    let stats = server.wait_for_stats("empty pool", |stats| stats["busy_threads"] == 0);
    assert_eq!((&stats["streams"]["open"], &stats["streams"]["oldest_age_s"]), (&json!(0), &Value::Null));
    let ended = (&stats["streams"]["disconnected"], &stats["streams"]["opened"]);
    assert_eq!(ended, (&json!(served), &json!(served)), "{front}");
}

#[test]
fn backlog_max_is_reset_when_it_is_read() {
    let server = Server::start(&["--threads", "1:1", "--update-rate", "50ms"]);
    let tab = open_stream(server.app);
    server.stats();
    // The timeline is read instead of the stats, because reading the stats resets `backlog_max`.
    let queued = || {
        let timeline = json(server.control, "GET", "/timeline").1;
        timeline["moments"].as_array().unwrap().iter().filter(|it| it["kind"] == "queued").count()
    };
    // The stream may have been queued twice, if its request arrived later than its connection.
    let before = queued();
    let pages: Vec<_> = (0..3).map(|_| send(server.app, b"GET /up HTTP/1.0\r\n\r\n")).collect();
    wait_for("three queued pages", || (queued() == before + 3).then_some(()));
    drop(tab);
    for mut page in pages {
        page.read_to_end(&mut Vec::new()).unwrap();
    }
    let most = |stats: Value| stats["backlog_max"].as_u64().unwrap();
    assert_eq!(most(server.stats()), 3);
    assert_eq!(most(server.stats()), 0);
}

#[test]
fn threads_are_shown_with_the_request_that_holds_them() {
    let server = Server::start(&["--threads", "3:3", "--update-rate", "60"]);
    let mut tab = send(server.app, b"GET /models/live_stream?tab=7 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    read_until(&mut tab, "data: ");
    // A write is counted when it has ended, which may be after this test has read its bytes.
    let threads = wait_for("a counted write", || {
        let threads = json(server.control, "GET", "/threads").1.as_array().unwrap().clone();
        threads.iter().any(|thread| thread["bytes"].as_u64() > Some(100)).then_some(threads)
    });
    let names: Vec<_> = threads.iter().map(|thread| thread["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["puma srv tp 001", "puma srv tp 002", "puma srv tp 003"]);
    let (busy, waiting): (Vec<_>, Vec<_>) = threads.iter().partition(|thread| thread["state"] == "busy");
    assert_eq!((busy.len(), waiting.len()), (1, 2));
    assert_eq!(busy[0]["path"], "/models/live_stream?tab=7");
    assert_eq!(busy[0]["port"], tab.local_addr().unwrap().port());
    assert_eq!((&busy[0]["connection"], &busy[0]["request"]), (&json!(1), &json!(1)));
    assert!(busy[0]["age"].as_f64().unwrap() > 0.0, "{busy:?}");
    for key in ["path", "connection", "port", "request", "bytes", "age"] {
        assert!(waiting[0][key].is_null(), "{key}: {waiting:?}");
    }
}

#[test]
fn the_timeline_truncates_long_targets() {
    // Puma's front refuses longer targets.
    for (front, length) in [("puma", 12_000), ("tiny-http", 100_000)] {
        let server = Server::on(front, &[]);
        assert_eq!(get(server.app, &format!("/up?{}", "x".repeat(length))).0, 200);
        let timeline = get(server.control, "/timeline").1;
        assert!(timeline.contains("/up?xxx") && timeline.len() < 10_000, "{} bytes", timeline.len());
    }
}

#[test]
fn the_timeline_continues_after_a_number() {
    // Puma's acceptor queues connections without reading them.
    let read_by_a_thread = ["spawned", "queued", "started", "accepted", "wrote", "answered", "finished"];
    timeline_of("puma", read_by_a_thread);
    let read_by_the_front = ["spawned", "accepted", "queued", "started", "wrote", "answered", "finished"];
    timeline_of("tiny-http", read_by_the_front);
}

fn timeline_of(front: &str, order: [&str; 7]) {
    let server = Server::on(front, &["--threads", "1:1"]);
    assert_eq!(get(server.app, "/up").0, 200);
    let timeline = |after: &str| json(server.control, "GET", &format!("/timeline{after}")).1;
    let all = wait_for("the end of the page", || {
        let all = timeline("");
        let moments = all["moments"].as_array().unwrap();
        let has_ended = moments.last().is_some_and(|it| it["kind"] == "finished");
        (has_ended && moments.iter().any(|it| it["kind"] == "wrote")).then_some(all)
    });
    let moments = all["moments"].as_array().unwrap();
    let mut kinds: Vec<_> = moments.iter().map(|moment| moment["kind"].as_str().unwrap()).collect();
    // If the connection arrived before its request, a thread took it, found nothing to read, and handed it to the
    // reactor. The reactor may queue it again before that thread has finished.
    while let Some(at) = kinds.windows(2).position(|two| two == ["queued", "finished"]) {
        kinds.swap(at, at + 1);
    }
    while kinds[1..].starts_with(&["queued", "started", "finished"]) {
        kinds.drain(1..4);
    }
    assert_eq!(kinds, order, "{front}");
    let accepted = moments.iter().find(|moment| moment["kind"] == "accepted").unwrap();
    assert_eq!((&accepted["target"], &all["forgotten"]), (&json!("/up"), &json!(0)));
    let count = moments.len();
    for (after, wanted) in [
        ("?after=0".to_owned(), count),
        (format!("?after={}", count - 2), 2),
        (format!("?after={count}"), 0),
        ("?after=18446744073709551615".to_owned(), 0),
    ] {
        let rest = timeline(&after);
        let rest = rest["moments"].as_array().unwrap();
        assert_eq!(rest.as_slice(), &moments[count - wanted..], "{after}");
    }
}

#[test]
fn a_later_request_on_a_connection_is_recorded_under_its_own_number() {
    let server = Server::on("puma", &["--fix", "io-threads", "--threads", "3:3", "--update-rate", "50ms"]);
    let two = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n\
        GET /models/live_stream?tab=second HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = send(server.app, two);
    read_until(&mut client, "text/event-stream");
    let busy = || -> Vec<Value> {
        let threads = json(server.control, "GET", "/threads").1;
        threads.as_array().unwrap().iter().filter(|it| it["state"] == "busy").cloned().collect()
    };
    let held = wait_for("the stream on its thread", || busy().pop());
    assert_eq!(held["path"], "/models/live_stream?tab=second");
    assert_eq!(held["port"], client.local_addr().unwrap().port());
    drop(client);
    server.wait_for_stats("a free pool", |stats| stats["busy_threads"] == 0);

    let timeline = json(server.control, "GET", "/timeline").1;
    let moments = timeline["moments"].as_array().unwrap();
    let requests = |kind: &str| -> Vec<&Value> {
        moments.iter().filter(|it| it["kind"] == kind).map(|it| &it["request"]).collect()
    };
    assert_eq!(requests("accepted").len(), 2);
    assert_eq!(
        requests("answered"),
        requests("accepted"),
        "the answers are recorded in the order of the requests"
    );
    assert_eq!(requests("streaming"), [&held["request"]]);
    assert_eq!(requests("marked_io_bound"), [&held["request"]]);
    assert_eq!(requests("finished").last(), Some(&&held["request"]));
    let answered: Vec<_> = moments.iter().filter(|it| it["kind"] == "answered").collect();
    assert!(answered.iter().all(|it| it["status"] == 200 && it["connection"] == held["connection"]));
    assert!(answered[0]["bytes"].as_u64() > Some(100), "{answered:?}");
    assert!(answered[1]["duration_us"].as_u64() > answered[0]["duration_us"].as_u64(), "{answered:?}");
}

#[test]
fn a_reused_port_is_another_connection() {
    for front in ["puma", "tiny-http"] {
        let server = Server::on(front, &[]);
        let mut port = 0;
        for _ in 0..2 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            // A reset leaves no TIME_WAIT state, which would block the port.
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
            socket.connect(&server.app.into()).unwrap();
            let mut client = TcpStream::from(socket);
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            port = client.local_addr().unwrap().port();
            client.write_all(b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            assert_eq!(read_answer(&mut client).status, 200);
        }
        // A client may read an answer before the thread has recorded it.
        let answered: Vec<Value> = wait_for("two answers", || {
            let timeline = json(server.control, "GET", "/timeline").1;
            let moments = timeline["moments"].as_array().unwrap().iter();
            let answered: Vec<_> = moments.filter(|it| it["kind"] == "answered").cloned().collect();
            (answered.len() == 2).then_some(answered)
        });
        assert!(answered.iter().all(|it| it["port"] == port), "{answered:?}");
        assert_ne!(answered[0]["connection"], answered[1]["connection"], "{front}");
    }
}

#[test]
fn a_reap_ends_streams_that_are_old_enough() {
    let server = Server::start(&["--update-rate", "60", "--retry", "7"]);
    let mut tabs: Vec<_> = (0..2).map(|_| open_stream(server.app)).collect();
    assert_eq!(order(&server, "/reap?older-than=1000"), (200, json!({"reaped": 0})));
    assert_eq!(order(&server, "/reap"), (200, json!({"reaped": 2})));
    for tab in &mut tabs {
        let goodbye = read_until(tab, "0\r\n\r\n");
        assert!(goodbye.contains(": this stream was asked to end\nretry: 7000\n\n"), "{goodbye:?}");
    }
    assert_eq!(order(&server, "/reap"), (200, json!({"reaped": 0})));
    let stats = server.wait_for_stats("free pool", |stats| stats["busy_threads"] == 0);
    assert_eq!((&stats["streams"]["reaped"], &stats["streams"]["disconnected"]), (&json!(2), &json!(0)));

    let mut old = open_stream(server.app);
    server.wait_for_stats("second of age", |stats| stats["streams"]["oldest_age_s"].as_f64() > Some(1.0));
    let young = open_stream(server.app);
    assert_eq!(order(&server, "/reap?older-than=1"), (200, json!({"reaped": 1})));
    read_until(&mut old, "0\r\n\r\n");
    server.wait_for_stats("one stream", |stats| stats["streams"]["open"] == 1);
    drop(young);
}

#[test]
fn after_a_resize_the_queued_ninth_tab_gets_a_thread_with_the_next_request() {
    let server = Server::start(&["--update-rate", "60"]);
    let tabs: Vec<_> = (0..8).map(|_| open_stream(server.app)).collect();
    let mut ninth = send(server.app, STREAM);
    server.wait_for_stats("queued ninth", |stats| stats["backlog"] == 1);
    assert_eq!(order(&server, "/resize?max=12"), (200, json!({"min": 8, "max": 12})));
    let stats = server.stats();
    assert_eq!([&stats["backlog"], &stats["running"], &stats["max_threads"]], [1, 8, 12]);
    assert_eq!(stats["database"]["size"], 12, "one connection per thread");
    // Queueing this page starts one thread, which takes the first request in `todo`.
    let mut page = send(server.app, b"GET /up HTTP/1.0\r\n\r\n");
    read_until(&mut ninth, "data: ");
    let another = send(server.app, b"GET /up HTTP/1.0\r\n\r\n");
    read_until(&mut page, "up\n");
    drop((tabs, another));

    assert_eq!(order(&server, "/resize?min=1&max=2"), (200, json!({"min": 1, "max": 2})));
    assert_eq!(server.stats()["database"]["size"], 12, "the database pool never shrinks");
    let fixed = Server::start(&["--db-pool", "3"]);
    assert_eq!(order(&fixed, "/resize?min=1&max=20"), (200, json!({"min": 1, "max": 20})));
    assert_eq!(fixed.stats()["database"]["size"], 3, "a size set with --db-pool does not change");
}

#[test]
fn a_resize_includes_the_connections_of_io_threads() {
    let server = Server::start(&["--threads", "1:1", "--max-io-threads", "2"]);
    assert_eq!(server.stats()["database"]["size"], 3);
    assert_eq!(order(&server, "/resize?max=4"), (200, json!({"min": 1, "max": 4})));
    assert_eq!(server.stats()["database"]["size"], 6);
}

#[test]
fn bodies_that_never_arrive_hold_no_thread_of_the_control_server() {
    let server = Server::start(&[]);
    let mut clients = Vec::new();
    // A body with a declared length is refused because of its head, a chunked body at its first byte.
    for (headers, answer) in [
        ("Content-Length: 5000", "413 "),
        ("Transfer-Encoding: chunked", "100 Continue"),
        ("Content-Length: 5", "413 "),
    ]
    .repeat(3)
    {
        let head =
            format!("POST /reap HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{headers}\r\n\r\n");
        let mut client = send(server.control, head.as_bytes());
        read_until(&mut client, answer);
        clients.push((client, answer));
    }
    assert_eq!(
        json(server.control, "GET", "/threads").0,
        200,
        "the control server answers while nine bodies are outstanding"
    );
    for (client, _) in clients.iter_mut().filter(|(_, answer)| *answer == "100 Continue") {
        client.write_all(b"1\r\na").unwrap();
        read_until(client, "413 ");
    }
    assert_eq!(server.stats()["streams"]["reaped"], 0);
}

#[test]
fn a_resize_without_enough_database_connections_changes_nothing() {
    let server = Server::with_descriptors(256, &[]);
    let (status, said) = order(&server, "/resize?max=10000");
    assert_eq!(status, 422, "{said}");
    assert!(said.as_str().unwrap().starts_with("the database pool cannot grow: "), "{said}");
    let stats = server.stats();
    assert_eq!((&stats["max_threads"], &stats["database"]["size"]), (&json!(8), &json!(8)));
    // The descriptors of the refused resize are available again.
    let kept: Vec<_> = (0..8).map(|_| open_stream(server.app)).collect();
    assert_eq!(server.stats()["connections"]["open"], kept.len());
}

#[test]
fn a_maximum_age_can_be_set_and_removed() {
    let server =
        Server::start(&["--update-rate", "60", "--reap-every", "50ms", "--max-stream-age-jitter", "0%"]);
    let mut tab = open_stream(server.app);
    assert_eq!(order(&server, "/max-stream-age?secs=0.2"), (200, json!({"max_stream_age_s": 0.2})));
    let goodbye = read_until(&mut tab, "0\r\n\r\n");
    assert!(goodbye.contains(": this stream has reached its maximum age\nretry: 3000\n\n"), "{goodbye:?}");
    assert_eq!(order(&server, "/max-stream-age?secs=off"), (200, json!({"max_stream_age_s": null})));
    let _tab = open_stream(server.app);
    let older = |stats: &Value| stats["streams"]["oldest_age_s"].as_f64() > Some(0.8);
    server.wait_for_stats("stream that grows older", older);
}

#[test]
fn invalid_orders_are_answered_with_one_line_and_change_nothing() {
    let server = Server::start(&[]);
    for (method, path, names) in [
        ("POST", "/reap?older-than=x", "older-than"),
        ("POST", "/reap?older-than=-1", "older-than"),
        ("POST", "/reap?older-than=", "older-than"),
        ("POST", "/reap?older-than=NaN", "older-than"),
        ("POST", "/max-stream-age", "secs"),
        ("POST", "/max-stream-age?secs=", "secs"),
        ("POST", "/max-stream-age?secs=0", "secs"),
        ("POST", "/max-stream-age?secs=-1", "secs"),
        ("POST", "/max-stream-age?secs=inf", "secs"),
        ("POST", "/max-stream-age?secs=1e300", "secs"),
        ("POST", "/max-stream-age?secs=a%0Ab", "secs"),
        ("POST", "/resize?max=0", "maximum"),
        ("POST", "/resize?min=9", "minimum"),
        ("POST", "/resize?min=3&max=2", "minimum"),
        ("POST", "/resize?min=x", "min"),
        ("POST", "/resize?max=-1", "max"),
        ("POST", "/resize?max=10001", "10000"),
        ("POST", "/resize?max=99999999999999999999", "max"),
        ("GET", "/timeline?after=x", "after"),
        ("GET", "/timeline?after=-1", "after"),
    ] {
        let (status, body) = call(server.control, method, path);
        assert_eq!(status, 422, "{path}: {body}");
        assert!(body.lines().count() == 1 && body.contains(names), "{path}: {body:?}");
    }
    assert_eq!(order(&server, "/resize"), (200, json!({"min": 8, "max": 8})));
    assert_eq!(server.stats()["database"]["size"], 8);
}

#[test]
fn unknown_paths_are_answered_with_one_line_and_404() {
    let server = Server::start(&[]);
    for (method, path) in [
        ("GET", "/nowhere"),
        ("POST", "/nowhere"),
        ("POST", "/x/reap"),
        ("GET", "/stats/"),
        ("GET", "/x/threads"),
        ("GET", "/models.json"),
        ("GET", "/up"),
    ] {
        let (status, body) = call(server.control, method, path);
        assert_eq!((status, body.lines().count()), (404, 1), "{method} {path}: {body:?}");
    }
}

#[test]
fn a_wrong_method_is_refused_with_the_right_one() {
    let server = Server::start(&[]);
    for (method, path, allowed) in [
        ("GET", "/reap", "POST"),
        ("GET", "/resize?min=1&max=2", "POST"),
        ("GET", "/max-stream-age?secs=off", "POST"),
        ("GET", "/lab/reset", "POST"),
        ("PUT", "/reap", "POST"),
        ("POST", "/threads", "GET, HEAD"),
        ("DELETE", "/timeline", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
    ] {
        let answer = ask(server.control, &format!("{method} {path} HTTP/1.0\r\n\r\n"));
        assert_eq!(split(&answer).0, 405, "{method} {path}: {answer}");
        assert!(answer.contains(&format!("\r\nallow: {allowed}\r\n")), "{method} {path}: {answer}");
        assert!(split(&answer).1.contains(allowed), "{method} {path}: {answer}");
    }
    assert_eq!(
        order(&server, "/resize"),
        (200, json!({"min": 8, "max": 8})),
        "a request with a wrong method changed the pool"
    );
}

#[test]
fn an_unknown_parameter_of_an_order_is_refused_and_changes_nothing() {
    let server = Server::start(&["--update-rate", "60"]);
    let _tab = open_stream(server.app);
    for (method, path, words) in [
        ("POST", "/reap?older=60", &["\"older\"", "older-than=SECS"][..]),
        ("POST", "/reap?older-than=1000&older-than=0", &["older-than", "once"]),
        ("POST", "/resize?maximum=16", &["\"maximum\"", "min=N and max=N"]),
        ("POST", "/max-stream-age?seconds=5", &["\"seconds\"", "secs=SECS|off"]),
        ("POST", "/lab/zombies?number=3", &["\"number\"", "count=N"]),
        ("POST", "/lab/page?tab=3", &["\"tab\"", "takes none"]),
        ("POST", "/lab/reset?hard=1", &["\"hard\"", "takes none"]),
        ("GET", "/timeline?since=4", &["\"since\"", "after=N"]),
        ("GET", "/threads?x", &["\"x\"", "takes none"]),
        ("GET", "/stop?grace=5", &["\"grace\"", "takes none"]),
        ("GET", "/x/halt?now=1", &["\"now\"", "takes none"]),
    ] {
        let (status, body) = call(server.control, method, path);
        assert_eq!((status, body.lines().count()), (400, 1), "{path}: {body}");
        assert!(words.iter().all(|word| body.contains(word)), "{path}: {words:?} in {body:?}");
    }
    let stats = server.stats();
    assert_eq!((&stats["streams"]["open"], &stats["max_threads"]), (&json!(1), &json!(8)));
    assert_eq!(json(server.control, "GET", "/lab").1, json!({"tabs": [], "zombies": [], "pages": []}));
}

/// The longest duration of five orders.
fn slowest_order(server: &Server) -> Duration {
    let slow = |path: &str| {
        let began = Instant::now();
        assert_eq!(get(server.control, path).0, 200);
        began.elapsed()
    };
    (0..5).map(|_| slow("/stats")).max().unwrap()
}

#[test]
fn clients_that_do_not_read_large_answers_do_not_delay_orders() {
    let server = Server::start(&[]);
    // These requests make the timeline several megabytes long.
    let request = format!("GET /up?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(2_000));
    for _ in 0..5 {
        let mut client = TcpStream::connect(server.app).unwrap();
        for _ in 0..500 {
            client.write_all(request.as_bytes()).unwrap();
            assert_eq!(read_answer(&mut client).status, 200);
        }
    }
    assert!(get(server.control, "/timeline").1.len() > 1_000_000);
    let stopped: Vec<_> = (0..40)
        .map(|n| {
            let path = if n % 4 == 3 { "/" } else { "/timeline" };
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            send_with_small_buffer(server.control, request.as_bytes())
        })
        .collect();
    // If writes blocked, each client would hold one of four threads for the write timeout of ten seconds.
    let slowest = slowest_order(&server);
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    // Even while these clients are stalled, a client that reads gets all of a large answer.
    let whole: Value = serde_json::from_str(&get(server.control, "/timeline").1).unwrap();
    assert!(whole["moments"].as_array().unwrap().len() > 5_000);
    drop(stopped);
}

#[test]
fn orders_that_wait_do_not_delay_others() {
    let server = Server::start(&["--threads", "1:1", "--update-rate", "60"]);
    let waiting: Vec<_> = (0..8)
        .map(|_| send(server.control, b"POST /resize?max=2000 HTTP/1.0\r\n\r\n"))
        .chain((0..8).map(|_| send(server.control, b"POST /lab/zombies?count=8 HTTP/1.0\r\n\r\n")))
        .collect();
    let slowest = slowest_order(&server);
    // With one thread for all orders, each of these would wait for the sixteen orders before it.
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");
    for mut client in waiting {
        let answer = read_to_end(&mut client);
        assert_eq!(split(&answer).0, 200, "{answer}");
    }
    assert_eq!(server.stats()["max_threads"], 2_000);
    assert_eq!(json(server.control, "GET", "/lab").1["zombies"].as_array().unwrap().len(), 64);
}

#[test]
fn a_pumactl_command_is_the_last_path_segment_with_any_method() {
    let server = Server::start(&["--threads", "2:2"]);
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
        let (status, stats) = json(server.control, method, "/x/y/stats");
        assert_eq!((status, &stats["max_threads"]), (200, &json!(2)), "{method}: {stats}");
    }
    for (command, name) in [
        ("restart", "restart"),
        ("phased-restart", "phased_restart"),
        ("refork", "refork"),
        ("reload-worker-directory", "reload_worker_directory"),
        ("gc", "gc"),
        ("gc-stats", "gc-stats"),
    ] {
        for method in ["GET", "POST"] {
            let answer = ask(server.control, &format!("{method} /{command} HTTP/1.0\r\n\r\n"));
            assert!(answer.contains("\r\ncontent-type: application/json\r\n"), "{answer}");
            let said = format!("{{ \"error\": \"{name} not available\" }}");
            assert_eq!(split(&answer), (404, said), "{method} {command}");
        }
    }
}

#[test]
fn backtraces_show_what_each_thread_does() {
    let server = Server::start(&["--threads", "2:2", "--update-rate", "60"]);
    let tab = open_stream(server.app);
    let (status, threads) = json(server.control, "GET", "/thread-backtraces");
    assert_eq!(status, 200);
    let mut lines: Vec<_> = threads.as_array().unwrap().iter().collect();
    assert_eq!(lines[0]["name"], "Thread: puma srv tp 001");
    assert_eq!(lines[1]["name"], "Thread: puma srv tp 002");
    lines.sort_by_key(|thread| thread["backtrace"].to_string());
    let held = lines[0]["backtrace"][0].as_str().unwrap();
    let port = tab.local_addr().unwrap().port();
    let wanted = format!("serving /models/live_stream, request 1 on connection 1 from port {port}, for ");
    assert!(held.starts_with(&wanted) && held.ends_with(" bytes written"), "{held}");
    assert_eq!(lines[1]["backtrace"], json!(["waiting for work in todo"]));
}

#[test]
fn a_page_cannot_stop_the_server() {
    let server = Server::start(&[]);
    for command in ["stop", "halt", "x/halt"] {
        for headers in [
            "Sec-Fetch-Site: none\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Referer: http://127.0.0.1/\r\n",
            "Origin: null\r\n",
            "Host: evil.example\r\n",
        ] {
            for method in ["GET", "HEAD", "POST"] {
                let request = format!("{method} /{command} HTTP/1.0\r\n{headers}\r\n");
                assert_eq!(split(&ask(server.control, &request)).0, 403, "{request}");
            }
        }
    }
    assert_eq!(get(server.app, "/up").0, 200);
}

#[test]
fn every_answer_is_one_line_and_closes_the_connection() {
    let server = Server::start(&[]);
    create(server.app, "x");
    for (method, path) in [
        ("GET", "/stats"),
        ("GET", "/threads"),
        ("GET", "/timeline"),
        ("GET", "/nowhere"),
        ("GET", "/thread-backtraces"),
        ("GET", "/restart"),
        ("GET", "/timeline?after=x"),
        ("POST", "/reap"),
        ("POST", "/resize"),
        ("POST", "/max-stream-age?secs=off"),
    ] {
        // Like pumactl, this sends a request without header fields and takes what follows the last CRLF as the
        // body.
        let answer = ask(server.control, &format!("{method} {path} HTTP/1.0\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.0 ") && !answer.contains("transfer-encoding"), "{answer}");
        let body = answer.rsplit("\r\n").next().unwrap();
        assert!(
            body.lines().count() == 1 && answer.ends_with(&format!("\r\n\r\n{body}")),
            "{path}: {body:?}"
        );
        let new = ask(
            server.control,
            &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        );
        assert!(new.contains("\r\nconnection: close\r\n") && !new.contains("transfer-encoding"), "{new}");
    }
}

#[test]
fn a_request_needs_the_token_to_read_and_a_page_needs_its_own_to_change() {
    let open = Server::start(&["--allow-host", "example.com"]);
    let token = Server::start(&["--control-token", "s3cret", "--allow-host", "example.com"]);
    let host = |host: &str| format!("Host: {host}\r\n");
    // Columns: server, query, header lines, may read, may change.
    for (server, query, headers, look, change) in [
        (&open, "", String::new(), true, true),
        (&open, "?token=any", String::new(), true, true),
        (&open, "", host("localhost:9293"), true, true),
        // A name from --allow-host is accepted by the app, but an order without a token needs a loopback name.
        (&open, "", host("example.com"), true, false),
        (&open, "", host("localhost:9293") + "User-Agent: curl/8.14.1\r\nAccept: */*\r\n", true, true),
        // Header fields that only browsers send.
        (&open, "", host("localhost:9293") + "User-Agent: Mozilla/5.0\r\n", false, false),
        (&open, "", host("localhost:9293") + "Accept-Language: en\r\n", false, false),
        (&open, "", host("localhost:9293") + "Accept: image/avif,*/*;q=0.8\r\n", false, false),
        (&open, "", host("example.com") + "User-Agent: Mozilla/5.0\r\n", false, false),
        (&open, "", host("evil.example"), false, false),
        (&open, "", host("evil.example") + "Sec-Fetch-Site: none\r\n", false, false),
        (&open, "", "Origin: http://evil.example\r\n".into(), false, false),
        (&open, "", "Origin: null\r\n".into(), false, false),
        (&open, "", format!("Origin: http://{}\r\n", open.control), false, false),
        (&open, "", "Referer: http://evil.example/\r\n".into(), false, false),
        (&open, "", host("localhost:1") + "Referer: http://localhost:1/wall\r\n", true, false),
        (&open, "", host("localhost:1") + "Referer: http://localhost:2/\r\n", false, false),
        // Fields of command-line clients, and one that a proxy adds.
        (&open, "", host("localhost:1") + "Cache-Control: no-cache\r\nPragma: no-cache\r\n", true, true),
        (
            &open,
            "",
            host("localhost:1")
                + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
            true,
            true,
        ),
        (
            &open,
            "",
            host("localhost:1") + "Range: bytes=0-1\r\nIf-None-Match: \"a\"\r\nAuthorization: Basic eDp5\r\n",
            true,
            true,
        ),
        (&open, "", host("localhost:1") + "X-Request-Id: 1\r\n", true, false),
        (&open, "", "Sec-Fetch-Site: cross-site\r\n".into(), false, false),
        (&open, "", "Sec-Fetch-Site: same-site\r\n".into(), false, false),
        // Our own pages may read, but may not change anything without their token.
        (&open, "", "Sec-Fetch-Site: same-origin\r\n".into(), true, false),
        (&open, "", host("localhost:1") + "Origin: http://localhost:1\r\n", true, false),
        (&open, "", host("localhost:1") + "Origin: http://localhost:2\r\n", false, false),
        (&open, "", host("localhost:1") + "Origin: https://localhost:1\r\n", false, false),
        (&open, "", "Sec-Fetch-Site: same-origin\r\nX-Ninetabs-Token: any\r\n".into(), true, false),
        (&open, "", "Sec-Fetch-Site: none\r\n".into(), true, false),
        (&open, "", "Sec-Fetch-Site: none\r\nOrigin: null\r\n".into(), false, false),
        (&token, "", String::new(), false, false),
        (&token, "?token=wrong", String::new(), false, false),
        (&token, "?token=s3cre", String::new(), false, false),
        (&token, "?token=s3cret1", String::new(), false, false),
        (&token, "?token=s3cre%74", String::new(), false, false),
        (&token, "?token=s3cret", String::new(), true, true),
        (&token, "?token=s3cret", host("example.com"), true, true),
        (&token, "?token=s3cret", "Origin: http://evil.example\r\n".into(), true, false),
        (&token, "?token=s3cret", "Sec-Fetch-Site: same-origin\r\n".into(), true, false),
        (&token, "", "Sec-Fetch-Site: same-origin\r\n".into(), false, false),
        (&token, "", "Sec-Fetch-Site: same-origin\r\nX-Ninetabs-Token: s3cret\r\n".into(), true, true),
        (&token, "", "Sec-Fetch-Site: cross-site\r\nX-Ninetabs-Token: s3cret\r\n".into(), true, false),
        (&token, "", "X-Ninetabs-Token: s3cret\r\n".into(), true, true),
        (&token, "?token=s3cret", host("evil.example"), false, false),
        (&token, "", "Sec-Fetch-Site: none\r\n".into(), false, false),
    ] {
        for (method, path, may, answer) in [
            ("GET", "/stats", look, 200),
            ("GET", "/thread-backtraces", look, 200),
            ("POST", "/reap", change, 200),
            // An unavailable command is tested in place of `/stop`, which has the same guard.
            ("GET", "/restart", change, 404),
            ("POST", "/gc", change, 404),
            ("GET", "/nowhere", look, 404),
            ("DELETE", "/nowhere", change, 404),
        ] {
            let request = format!("{method} {path}{query} HTTP/1.0\r\n{headers}\r\n");
            let (status, body) = split(&ask(server.control, &request));
            assert_eq!(status, if may { answer } else { 403 }, "{request}: {body}");
            let is_foreign = headers.contains("Host: evil");
            // If a token is set, the text is Puma's. Otherwise it explains what would be accepted.
            let is_reason = match server.control == token.control {
                true => body == "Invalid auth token",
                false => body.starts_with("refused: ") && body.lines().count() == 1,
            };
            assert!(may || is_foreign || is_reason, "{request}: {body}");
        }
    }
    for server in [&open, &token] {
        let answer = ask(server.control, "GET /nowhere HTTP/1.0\r\nHost: evil.example\r\n\r\n");
        assert_eq!(split(&answer).0, 403, "an unauthorized client must not learn which paths exist");
    }
}

#[test]
fn concurrent_orders_do_not_exceed_a_limit_of_the_lab() {
    let server = Server::start(&["--threads", "1:1", "--update-rate", "60"]);
    let (app, control) = (server.app, server.control);
    let _held = common::open_stream(app);
    let ask = |path: &'static str, count: usize| {
        let orders: Vec<_> =
            (0..count).map(|_| std::thread::spawn(move || json(control, "POST", path).0)).collect();
        orders.into_iter().map(|order| order.join().unwrap()).filter(|status| *status == 200).count()
    };
    assert_eq!(ask("/lab/page", 30), 16);
    assert_eq!(ask("/lab/zombies?count=10", 12), 6);
    assert_eq!(ask("/lab/tabs/open?tab=7", 12), 1);
    let lab = json(control, "GET", "/lab").1;
    let there = |what: &str| lab[what].as_array().unwrap().len();
    assert_eq!((there("pages"), there("zombies"), there("tabs")), (16, 60, 1));
}
