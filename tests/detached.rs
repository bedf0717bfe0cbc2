//! Listeners whose connections do not hold a pool thread: `push`, `partials`, `long-poll`.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::chromedriver::Browser;
use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::models::{self, assert_gapless, ids, ids_there, open_tab_at, received_as};
use crate::common::{
    PATIENCE, Server, ask, create, create_large, get, npm, open_stream, proc_status, read_answer, read_head,
    read_to_end, read_until, send, split, wait_for,
};
use crossbeam_channel::Receiver;
use ninetabs::lab::event_stream::Parser;
use ninetabs::lab::tab::Happens;
use ninetabs_server::event_loop::{EventLoop, Feed, NextPiece, Peer};
use ninetabs_server::services::Services;
use ninetabs_server::{Request, Response};
use rusqlite::Connection;
use rustix::process::Signal;

on_each_engine! {
    a_hundred_listeners_hold_no_thread_and_cost_one_query_per_change,
    a_listener_begins_like_a_stream_and_resumes_after_its_last_event_id,
    an_event_reaches_all_listeners_and_only_our_own_forms_may_send_one,
    listeners_miss_and_repeat_no_model_over_many_cuts,
    answers_that_are_cut_off_are_requested_again_and_no_model_is_lost,
    a_long_poll_holds_no_thread_and_misses_no_model,
    rows_of_another_program_and_of_a_second_server_reach_listeners,
    a_stop_makes_listeners_reconnect_and_they_miss_no_model,
}

const PUSH: &str = "/fixes/push/stream";
/// The control server starts its threads on demand.
const CONTROL_THREADS: u64 = 4;
const PARTIALS: &str = "/fixes/partials/stream";

/// The ids in a piece of a `partials` stream.
fn rows(html: &str) -> Vec<i64> {
    html.split("<li id=\"model_").skip(1).map(|row| row.split_once('"').unwrap().0.parse().unwrap()).collect()
}

/// Opens a listener and reads its greeting.
fn listen(app: SocketAddr, path: &str, last_event_id: &str) -> TcpStream {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last_event_id}\r\n\r\n");
    let mut stream = send(app, request.as_bytes());
    let head = read_head(&mut stream);
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/event-stream\r\n"),
        "{head}"
    );
    read_until(&mut stream, "\n\n");
    stream
}

fn say(app: SocketAddr, text: &str, header: &str) -> u16 {
    let body = format!("text={text}");
    split(&ask(
        app,
        &format!(
            "POST /fixes/push/events HTTP/1.0\r\n{header}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    ))
    .0
}

fn listeners(server: &Server, open: u64) {
    server.wait_for_stats("listeners", |stats| stats["listeners"]["open"] == open);
}

fn a_hundred_listeners_hold_no_thread_and_cost_one_query_per_change(engine: EngineKind) {
    let server = engine.server(&["--threads", "2:2"]);
    let threads = proc_status(server.child.id(), "Threads");
    let mut all: Vec<_> = (0..100).map(|_| listen(server.app, PUSH, "")).collect();
    listeners(&server, 100);
    let stats = server.wait_for_stats("free threads", |stats| stats["busy_threads"] == 0);
    assert_eq!(stats["pool_capacity"], 2, "{stats}");
    assert_eq!(stats["streams"]["opened"], 0, "{stats}");
    assert!(proc_status(server.child.id(), "Threads") <= threads + CONTROL_THREADS);
    let before = stats["queries"].as_u64().unwrap();
    for n in 1..=3 {
        assert_eq!(create(server.app, &format!("model {n}")).0, 201);
        for listener in &mut all {
            // On a slow machine, heartbeats may arrive first.
            let event = read_until(listener, "]\n\n");
            let event = event.trim_start_matches(":\n\n");
            assert!(event.starts_with(&format!("id: {n}\ndata: [{{\"id\":{n},")), "{event:?}");
        }
    }
    // For each model, one query creates it, and one reads it for all listeners.
    assert_eq!(server.stats()["queries"].as_u64().unwrap() - before, 6);
    drop(all);
    listeners(&server, 0);
}

fn a_listener_begins_like_a_stream_and_resumes_after_its_last_event_id(engine: EngineKind) {
    let server = engine.server(&["--retry", "1500ms", "--keep-models", "100000"]);
    for n in 1..=120 {
        assert_eq!(create(server.app, &format!("<b>{n}</b> %26 co")).0, 201);
    }
    let first = |path: &str, header: &str, until: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        let mut stream = send(server.app, request.as_bytes());
        let head = read_head(&mut stream);
        for line in ["cache-control: no-cache", "x-accel-buffering: no", "connection: close"] {
            assert!(head.contains(line), "{head}");
        }
        read_until(&mut stream, until)
    };
    let greeting = ": a stream of models\nretry: 1500\nid: 120\ndata: []\n\n";
    assert_eq!(first(PUSH, "", "]\n\n"), greeting);
    assert_eq!(first(PUSH, "Last-Event-ID: x\r\n", "]\n\n"), greeting);
    assert!(first(&format!("{PUSH}?last_event_id=118"), "", "120,").contains("data: [{\"id\":119,"));
    let all = first(PUSH, "Last-Event-ID: 0\r\n", "id: 120\n");
    let ends: Vec<_> = all.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ends, ["0", "50", "100", "120"], "the models are sent in pieces");
    // An id beyond the newest one is from another database. All models are sent, because the client may have none
    // of them.
    assert!(first(PUSH, "Last-Event-ID: 999\r\n", "id: 50\n").contains("id: 0\n"));

    let html = first(PARTIALS, "Last-Event-ID: 118\r\n", "model_120");
    assert_eq!(rows(&html)[0], 119);
    assert!(html.contains("<span>&lt;b&gt;119&lt;&#x2f;b&gt; &amp; co</span>"), "{html}");
    assert!(html.contains("<turbo-stream action=\"prepend\" target=\"models\"><template>"), "{html}");
}

fn an_event_reaches_all_listeners_and_only_our_own_forms_may_send_one(engine: EngineKind) {
    let server = engine.server(&[]);
    let mut all: Vec<_> = (0..5).map(|_| listen(server.app, PUSH, "")).collect();
    assert_eq!(say(server.app, "hello", ""), 202);
    for listener in &mut all {
        assert_eq!(read_until(listener, "\n\n"), "event: said\ndata: hello\n\n");
    }
    assert_eq!(say(server.app, "hello", "Host: localhost\r\nOrigin: http://evil.test\r\n"), 403);
    assert_eq!(say(server.app, "", ""), 422);
    assert_eq!(say(server.app, &"x".repeat(2_000), ""), 422);
    assert_eq!(say(server.app, "a%0A%0Aid: 9", ""), 202);
    assert_eq!(read_until(&mut all[0], "\n\n"), "event: said\ndata: a\ndata: \ndata: id: 9\n\n");
}

#[test]
fn a_stalled_reader_is_cut_off_without_delaying_others() {
    let server = Server::start(&["--write-timeout", "2", "--keep-models", "100000"]);
    // These models exceed the buffers between the server and a client.
    create_large(server.app, 300);
    let stopped: Vec<_> = (0..8).map(|_| send(server.app, listen_request("0").as_bytes())).collect();
    let mut fast = listen(server.app, PUSH, "");
    listeners(&server, 9);
    for n in 301..=320 {
        assert_eq!(create(server.app, "small").0, 201);
        assert!(read_until(&mut fast, "\n\n").starts_with(&format!("id: {n}\n")));
    }
    let stats = server.wait_for_stats("eight cut-off listeners", |stats| stats["listeners"]["cut"] == 8);
    assert_eq!(stats["listeners"]["open"], 1, "{stats}");
    drop(stopped);
}

fn listen_request(last_event_id: &str) -> String {
    format!("GET {PUSH} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last_event_id}\r\n\r\n")
}

#[test]
fn memory_stays_within_the_buffer_with_many_stalled_readers() {
    let server =
        Server::start(&["--push-buffer", "262144", "--write-timeout", "600", "--keep-models", "1000000"]);
    // This client reconnects if it falls behind as well.
    let fast = open_tab_at(&server, PUSH, "fast", "0");
    fast.wait_for(|tab| tab.events > 0, PATIENCE).expect("the greeting arrives");
    let stopped: Vec<_> = (0..200).map(|_| send(server.app, listen_request("").as_bytes())).collect();
    listeners(&server, 201);
    create_large(server.app, 20);
    let before = proc_status(server.child.id(), "VmRSS");
    // Storing 5 MB for each of the 200 readers would take a gigabyte.
    create_large(server.app, 300);
    models::wait_for_id(&server, &fast, 320);
    assert_gapless(&received_as(&fast, ids), 1, "fast");
    server.wait_for_stats("the end of the readers that fell behind", |stats| {
        stats["listeners"]["open"] == 1 && stats["listeners"]["cut"].as_u64() >= Some(200)
    });
    let more = proc_status(server.child.id(), "VmHWM") - before;
    assert!(more < 64 * 1024, "{more} KiB more");
    drop(stopped);
}

fn listeners_miss_and_repeat_no_model_over_many_cuts(engine: EngineKind) {
    let cuts = engine.times(500, 30) as u64;
    let server = engine.server_with("--produce-every 3ms --retry 10ms --keep-models 1000000");
    thread::scope(|scope| {
        for (path, ids) in [(PUSH, ids as fn(&str) -> Vec<i64>), (PARTIALS, rows)] {
            for n in 0..2 {
                let server = &server;
                scope.spawn(move || {
                    let tab = open_tab_at(server, path, &format!("{path} {n}"), "0");
                    wait_for("the last of the cuts", || {
                        thread::sleep(Duration::from_millis(fastrand::u64(0..30)));
                        tab.cut();
                        (tab.progress().opened > cuts).then_some(())
                    });
                    let newest = *ids_there(server).last().unwrap();
                    let mut all = Vec::new();
                    wait_for("the newest model", || {
                        all.extend(received_as(&tab, ids));
                        all.last().is_some_and(|last| *last >= newest).then_some(())
                    });
                    assert_gapless(&all, 1, path);
                });
            }
        }
    });
}

/// Requests the models after this one, and either reads the whole answer or closes the connection early. Returns
/// the body if it was read.
fn ask_or_leave(app: SocketAddr, path: &str, since: i64) -> Option<String> {
    let request = format!("GET {path}={since} HTTP/1.0\r\n\r\n");
    let mut stream = send(app, request.as_bytes());
    if fastrand::bool() {
        // Closes before the answer or in the middle of it.
        let _ = stream.set_read_timeout(Some(Duration::from_millis(fastrand::u64(1..6))));
        let _ = stream.read(&mut vec![0; fastrand::usize(1..400)]);
        return None;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(split(&answer).1)
}

fn answers_that_are_cut_off_are_requested_again_and_no_model_is_lost(engine: EngineKind) {
    let enough = engine.times(1_000, 60);
    let server = engine.server_with("--produce-every 3ms --keep-models 1000000 --threads 16:16");
    let events = |text: &str| -> Vec<i64> {
        let mut parser = ninetabs::lab::event_stream::Parser::default();
        let mut all = Vec::new();
        parser.feed(text.as_bytes(), |event| all.extend(ids(&event.data))).unwrap();
        all
    };
    thread::scope(|scope| {
        for (path, ids) in [
            ("/fixes/long-poll/poll?since", &ids as &(dyn Fn(&str) -> Vec<i64> + Sync)),
            ("/fixes/short-stream/stream?last_event_id", &events),
            ("/fixes/poll/models.json?rung=shared&since", &ids),
        ] {
            let app = server.app;
            scope.spawn(move || {
                let (mut all, mut cuts) = (Vec::new(), 0);
                while cuts < enough || all.len() <= enough / 10 {
                    match ask_or_leave(app, path, all.last().copied().unwrap_or(0)) {
                        Some(answer) => all.extend(ids(&answer)),
                        None => cuts += 1,
                    }
                }
                assert_gapless(&all, 1, path);
            });
        }
    });
}

#[test]
fn a_head_request_for_a_long_poll_is_answered_immediately() {
    let server = Server::start(&[]);
    let mut head =
        send(server.app, b"HEAD /fixes/long-poll/poll?since=0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // The answer ends immediately and without a body, although there is no model yet.
    let answer = read_to_end(&mut head);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/json; charset=utf-8\r\n"), "{answer}");
}

fn a_long_poll_holds_no_thread_and_misses_no_model(engine: EngineKind) {
    let server = engine.server(&["--threads", "1:1", "--keep-models", "1000000"]);
    let waiting: Vec<_> = (0..9)
        .map(|_| send(server.app, b"GET /fixes/long-poll/poll?since=0 HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .collect();
    listeners(&server, 9);
    server.wait_for_stats("a free thread", |stats| stats["pool_capacity"] == 1);
    assert_eq!(create(server.app, "one").0, 201);
    for mut waiting in waiting {
        let answer = read_answer(&mut waiting);
        assert_eq!((answer.status, ids(&answer.body)), (200, vec![1]));
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(waiting.read(&mut [0; 9]).unwrap(), 0, "nothing follows");
    }
    listeners(&server, 0);
    // Existing models are sent immediately. A new model is read with one query for all waiting requests.
    assert_eq!(ids(&get(server.app, "/fixes/long-poll/poll?since=0").1), [1]);
    let together: Vec<_> = (0..20)
        .map(|_| send(server.app, b"GET /fixes/long-poll/poll?since=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .collect();
    listeners(&server, 20);
    let before = server.stats()["queries"].as_u64().unwrap();
    assert_eq!(create(server.app, "two").0, 201);
    for mut waiting in together {
        assert_eq!(ids(&read_answer(&mut waiting).body), [2]);
    }
    assert_eq!(
        server.stats()["queries"].as_u64().unwrap() - before,
        2,
        "one query creates the model, and one reads it"
    );

    let (done, more) = (AtomicBool::new(false), engine.times(300, 60));
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..more {
                assert_eq!(create(server.app, &format!("model {n}")).0, 201);
            }
            done.store(true, Ordering::Release);
        });
        let mut all = vec![1, 2];
        while !done.load(Ordering::Acquire) || all.len() < 2 + more {
            let since = all.last().unwrap();
            let (status, body) = get(server.app, &format!("/fixes/long-poll/poll?since={since}"));
            assert_eq!(status, 200, "{body}");
            all.extend(ids(&body));
        }
        assert_gapless(&all, 1, "long poll");
    });
}

fn rows_of_another_program_and_of_a_second_server_reach_listeners(engine: EngineKind) {
    let first = engine.server(&[]);
    let second = first.beside(&[]);
    let mut at_first = listen(first.app, PUSH, "");
    let mut at_second = listen(second.app, PUSH, "");
    assert_eq!(create(first.app, "of the first").0, 201);
    assert_eq!(create(second.app, "of the second").0, 201);
    first.other_program().insert(1, "of the other program");
    for listener in [&mut at_first, &mut at_second] {
        let all = read_until(listener, "of the other program");
        let data = all.lines().filter_map(|line| line.strip_prefix("data: "));
        let whole: Vec<_> = data.filter(|data| data.ends_with(']')).flat_map(ids).collect();
        assert_gapless(&whole, 1, &all);
        assert!(all.contains("of the first") && all.contains("of the second"), "{all}");
    }
}

#[test]
fn a_query_on_a_locked_database_is_retried() {
    let server = Server::start(&[]);
    let mut listener = listen(server.app, PUSH, "");
    assert_eq!(create(server.app, "before").0, 201);
    read_until(&mut listener, "before");
    let locked = Connection::open(server.database()).unwrap();
    locked.busy_timeout(PATIENCE).unwrap();
    locked.pragma_update(None, "journal_mode", "DELETE").ok();
    locked
        .execute_batch("BEGIN EXCLUSIVE; INSERT INTO models (name, created_at_us) VALUES ('behind', 0)")
        .unwrap();
    assert_eq!(say(server.app, "still+here", ""), 202);
    assert!(read_until(&mut listener, "\n\n").contains("still here"));
    locked.execute_batch("COMMIT").unwrap();
    read_until(&mut listener, "behind");
}

fn a_stop_makes_listeners_reconnect_and_they_miss_no_model(engine: EngineKind) {
    let mut server = engine.server(&["--retry", "700ms"]);
    let mut listener = listen(server.app, PUSH, "");
    let mut poll = send(server.app, b"GET /fixes/long-poll/poll?since=0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    listeners(&server, 2);
    let began = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(read_until(&mut listener, "\n\n"), ": the server is stopping\nretry: 700\n\n");
    assert_eq!(listener.read(&mut [0; 9]).unwrap(), 0, "the stream ends");
    assert_eq!(read_answer(&mut poll).body, "[]");
    assert!(server.wait_for_exit().success());
    assert!(began.elapsed() < Duration::from_secs(5), "the stop waited for a listener");
}

#[test]
fn tiny_http_cannot_hand_over_a_connection_and_answers_501() {
    let server = Server::on("tiny-http", &[]);
    for path in [PUSH, PARTIALS, "/fixes/long-poll/poll?since=0"] {
        assert_eq!(get(server.app, path).0, 501, "{path}");
    }
    for name in ["push", "partials", "long-poll", "cable"] {
        assert!(
            get(server.app, &format!("/fixes/{name}")).1.contains("cannot hand over a connection"),
            "{name}"
        );
    }
    assert!(!get(Server::start(&[]).app, "/fixes/push").1.contains("cannot hand over a connection"));
}

#[test]
fn ten_thousand_listeners_come_and_go_without_a_leak() {
    const AT_ONCE: usize = 500;
    let server = Server::start(&[]);
    let count =
        |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", server.child.id())).unwrap().count();
    drop(listen(server.app, PUSH, ""));
    drop(open_stream(server.app));
    let settled = |open: &str| {
        server.wait_for_stats(open, |stats| {
            stats["listeners"]["open"] == 0
                && stats["streams"]["open"] == 0
                && stats["connections"]["open"] == 0
        })
    };
    settled("the end of the first listener and the first stream");
    let (threads, descriptors) = (count("task"), count("fd"));
    let mut ports = BTreeSet::new();
    for _ in 0..10_000 / AT_ONCE {
        let all: Vec<_> = (0..AT_ONCE).map(|_| send(server.app, listen_request("0").as_bytes())).collect();
        for (n, mut listener) in all.into_iter().enumerate() {
            ports.insert(listener.local_addr().unwrap().port());
            match n % 3 {
                // This client has read the head, and closes cleanly.
                0 => drop(read_head(&mut listener)),
                // This client closes with unread bytes, so its kernel sends a reset.
                1 => drop(listener),
                _ => {
                    let _ = listener.write_all(b"garbage \r\n\r\n");
                }
            }
        }
    }
    assert!(ports.len() > 100);
    settled("the end of all listeners");
    let few = CONTROL_THREADS as usize;
    assert!(count("task") <= threads + few && count("fd") <= descriptors + few);
}

#[test]
fn a_quiet_stream_has_a_heartbeat() {
    let server = Server::start(&[]);
    let mut listener = listen(server.app, PUSH, "");
    read_until(&mut listener, ":\n\n");
    // An EventSource does not report the heartbeat.
    let tab = open_tab_at(&server, PUSH, "tab", "");
    read_until(&mut listener, ":\n\n");
    let happened: Vec<_> = tab.happenings().try_iter().collect();
    let events = happened.iter().filter(|it| matches!(it.what, Happens::Event(_))).count();
    assert_eq!(events, 1, "the greeting: {happened:?}");
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.read(&mut [0; 9]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
}

#[test]
fn a_heartbeat_is_an_event_on_request_and_changes_no_position() {
    let server = Server::start(&[]);
    assert_eq!(create(server.app, "first").0, 201);
    let open = |path: &str, kind: &str| {
        let path = format!("{path}?last_event_id=0&heartbeat={kind}");
        let mut stream =
            send(server.app, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "), "{path}");
        stream
    };
    let streams = [PUSH, PARTIALS].map(|path| ["event", "beat"].map(|kind| open(path, kind)));
    for [mut asked, mut invalid] in streams {
        let read = read_until(&mut asked, "event: heartbeat\ndata: 5\n\n");
        assert!(!read.contains("\n:\n\n"), "{read}");
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        parser.feed(read.as_bytes(), |event| events.push(event)).unwrap();
        let last = events.pop().unwrap();
        assert_eq!((last.event_type.as_str(), last.data.as_str()), ("heartbeat", "5"));
        assert_eq!(last.last_event_id, "1", "the position is that of the last model");
        let read = read_until(&mut invalid, "\n:\n\n");
        assert!(!read.contains("heartbeat"), "{read}");
    }
    let log = server.log();
    let line = "\"beat\" is not a kind of heartbeat (comment or event); the stream sends comments";
    assert_eq!(log.matches(line).count(), 2, "{log}");
}

/// Stores rows as other programs may write them, with times and names of every type and size.
fn store_extremes(theirs: &Connection) {
    let integers = ["0", "-1", "-1000", "-9223372036854775808", "9223372036854775807", "253402300800000000"];
    let names = ["''", "char(0, 27)", "CAST(x'61ff62' AS TEXT)", "printf('%.*c', 20000, 'x')", "-1", "1e300"];
    // A table without types stores these unchanged. Our own table refuses or converts them.
    let others = ["NULL", "0.5", "-1e300", "9e999", "x'00ff80'", "'1969'"];
    let stored = integers.iter().map(|time| ("'x'", *time));
    let stored = stored.chain(names.iter().map(|name| (*name, "1")));
    let stored = stored.chain(others.iter().flat_map(|value| [(*value, "1"), ("'x'", *value)]));
    for (name, time) in stored {
        let _ =
            theirs.execute(&format!("INSERT INTO models (name, created_at_us) VALUES ({name}, {time})"), []);
    }
}

#[test]
fn rows_of_any_type_from_another_program_are_shown_and_reach_every_listener_once() {
    let ours = ninetabs::app::adapters::sqlite3::SCHEMA.lines().take(5).collect::<Vec<_>>().join("\n");
    for table in
        [ours.as_str(), "CREATE TABLE models (id INTEGER PRIMARY KEY AUTOINCREMENT, name, created_at_us)"]
    {
        let server = Server::start(&["--update-rate", "50ms", "--retry", "50ms", "--threads", "16:16"]);
        let theirs = Connection::open(server.database()).unwrap();
        theirs.busy_timeout(PATIENCE).unwrap();
        theirs.execute_batch(&format!("DROP TABLE models; {table}")).unwrap();
        store_extremes(&theirs);
        let stream = |path: &str| open_tab_at(&server, path, path, "0");
        let tabs = [PUSH, "/models/live_stream", "/fixes/short-stream/stream", PARTIALS].map(stream);
        // Requests the rows after the last id from `path`, until all have arrived.
        let poll = |path: &str, last: i64| {
            let mut all: Vec<i64> = Vec::new();
            wait_for("all rows", || {
                let (status, body) = get(server.app, &format!("{path}{}", all.last().unwrap_or(&0)));
                assert_eq!(status, 200, "{body}");
                all.extend(ids(&body));
                (all.last() == Some(&last)).then_some(())
            });
            all
        };
        let mut received = vec![Vec::new(); tabs.len()];
        for round in 0..2 {
            if round == 1 {
                store_extremes(&theirs);
            }
            let last: i64 = theirs.query_row("SELECT max(id) FROM models", [], |row| row.get(0)).unwrap();
            for (n, (tab, received)) in tabs.iter().zip(&mut received).enumerate() {
                wait_for("all rows", || {
                    let rows = if n == 3 { rows } else { ids };
                    received.extend(received_as(tab, rows));
                    (received.last() == Some(&last)).then_some(())
                });
            }
            for path in
                ["/fixes/long-poll/poll?since=", "/fixes/poll/models.json?since=", "/models.json?since="]
            {
                assert_gapless(&poll(path, last), 1, path);
            }
            for path in ["/", "/models.json", "/fixes/push", "/fixes/poll/models.json?rung=shared"] {
                assert_eq!(get(server.app, path).0, 200, "{path}");
            }
        }
        for received in &received {
            assert_gapless(received, 1, table);
        }
        // The listeners survive ids at both limits, and the greatest id reaches them.
        let push = open_tab_at(&server, PUSH, "push", &received[0].last().unwrap().to_string());
        push.wait_for(|tab| tab.events > 0, PATIENCE).expect("the greeting arrives");
        for id in [i64::MIN, -1, 0, i64::MAX] {
            theirs.execute("INSERT INTO models VALUES (?, 'x', -1000)", [id]).unwrap();
        }
        wait_for("the greatest id", || received_as(&push, ids).contains(&i64::MAX).then_some(()));
        assert_eq!(get(server.app, "/").0, 200);
        assert_eq!(get(server.app, "/up").0, 200);
        assert!(!server.log().contains("panicked"), "{}", server.log());
    }
}

/// A feed of numbers that panics at the third one.
struct Numbers {
    counted: Receiver<()>,
    numbers: u64,
}

impl Feed for Numbers {
    fn refresh(&mut self, _: usize) -> bool {
        let mut has_news = false;
        while self.counted.try_recv().is_ok() {
            self.numbers += 1;
            has_news = true;
            assert!(self.numbers != 3, "the feed panics deliberately");
        }
        has_news
    }
}

/// A peer that receives each number, and panics at some of them.
struct Counting {
    last: u64,
    panics_at: Vec<u64>,
}

impl Peer<Numbers> for Counting {
    fn next(&mut self, feed: &mut Numbers, _: Instant) -> NextPiece {
        if self.last == feed.numbers {
            return NextPiece::Wait;
        }
        self.last += 1;
        assert!(!self.panics_at.contains(&self.last), "a peer panics deliberately");
        NextPiece::Send(format!("{}\n", self.last).into_bytes().into())
    }

    fn receive(&mut self, _: &mut Numbers, bytes: &[u8]) {
        assert!(bytes != b"panic", "a peer panics deliberately");
    }

    fn goodbye(&mut self, _: &mut Numbers) -> Rc<[u8]> {
        Rc::from(&b"goodbye\n"[..])
    }
}

#[test]
fn a_panic_of_a_peer_or_of_the_feed_costs_one_piece_and_the_loop_continues() {
    let services = Services::default();
    let (count, counted) = crossbeam_channel::unbounded();
    let make = || Numbers { counted, numbers: 0 };
    let events = Arc::new(EventLoop::start("a test", &services, PATIENCE, make).unwrap());
    let app = {
        let events = Arc::clone(&events);
        move |request: &Request| {
            let panics_at = request.path().split(['/', ',']).filter_map(|it| it.parse().ok()).collect();
            let events = Arc::clone(&events);
            Response::detach_without_head(move |detached| {
                events.join(detached, Box::new(Counting { last: 0, panics_at }))
            })
        }
    };
    let server = ninetabs_server::Server::bind("127.0.0.1:0").start(app).unwrap();
    let open = |path: &str| {
        let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        send(server.addr(), request.as_bytes())
    };
    let mut all = [open("0"), open("2"), open("1,4"), open("0")];
    wait_for("all four connections", || (events.counts().open == 4).then_some(()));
    all[3].write_all(b"panic").unwrap();
    wait_for("the end of the connection that sent `panic`", || (events.counts().open == 3).then_some(()));
    for _ in 1..=6 {
        count.send(()).unwrap();
        events.bell().ring();
    }
    for (stream, wanted) in all.iter_mut().zip(["1 2 3 4 5 6", "1 3 4 5 6", "2 3 5 6"]) {
        let got = read_until(stream, "6\n");
        assert_eq!(got.lines().collect::<Vec<_>>().join(" "), wanted);
    }
    events.stop(Instant::now() + PATIENCE);
    for stream in &mut all[..3] {
        assert_eq!(read_until(stream, "\n"), "goodbye\n");
        assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0, "nothing follows");
    }
    assert!(events.ended().recv_timeout(PATIENCE).is_err_and(|error| error.is_disconnected()));
    assert!(services.ended().is_empty(), "a stopped loop does not count as ended unexpectedly");
}

#[test]
fn a_dropped_loop_closes_its_connections_without_a_last_piece() {
    let services = Services::default();
    let (_count, counted) = crossbeam_channel::unbounded();
    let make = || Numbers { counted, numbers: 0 };
    let events = Arc::new(EventLoop::start("a test", &services, PATIENCE, make).unwrap());
    let app = {
        let events = Arc::clone(&events);
        move |_: &Request| {
            let events = Arc::clone(&events);
            let peer = Counting { last: 0, panics_at: Vec::new() };
            Response::detach_without_head(move |detached| events.join(detached, Box::new(peer)))
        }
    };
    let server = ninetabs_server::Server::bind("127.0.0.1:0").start(app).unwrap();
    let mut client = send(server.addr(), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_for("the connection", || (events.counts().open == 1).then_some(()));
    drop(server);
    drop(events);
    assert_eq!(read_to_end(&mut client), "");
    assert!(services.ended().is_empty(), "a dropped loop does not count as ended unexpectedly");
}

/// The real Turbo accepts the pushed elements.
#[test]
fn the_real_turbo_inserts_the_rows() {
    let Some(browser) = Browser::start() else { return };
    let Some(turbo) = npm::fetch("@hotwired/turbo@8.0.23", "dist/turbo.es2017-umd.js") else { return };
    let server = Server::start(&["--keep-models", "1000"]);
    assert_eq!(create(server.app, "early").0, 201);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes"));
    browser.run(&tab, &format!("(function() {{ {turbo} }}).call(window)"));
    browser.run(
        &tab,
        "const list = document.createElement('ol');
         list.id = 'models';
         const source = document.createElement('turbo-stream-source');
         source.setAttribute('src', '/fixes/partials/stream?last_event_id=0');
         document.body.append(list, source);",
    );
    let row = |id: u32, name: &str| {
        format!("document.querySelector('#models > #model_{id}')?.textContent.includes('{name}') === true")
    };
    browser.wait_for(&tab, &row(1, "early"));
    assert_eq!(create(server.app, "late <b>safe").0, 201);
    browser.wait_for(&tab, &row(2, "late <b>safe"));
    assert_eq!(
        browser.eval(&tab, "[...document.querySelectorAll('#models > li')].map(it => it.id).join()"),
        "model_2,model_1"
    );
    // Turbo's element closes its stream when it is removed from the page.
    browser.run(&tab, "document.querySelector('turbo-stream-source').remove()");
    listeners(&server, 0);
}

#[test]
fn the_page_of_push_sends_a_text_to_all_tabs() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--threads", "1:1"]);
    let tabs = [browser.first_tab(), browser.new_tab(), browser.new_tab()];
    for tab in &tabs {
        browser.goto(tab, &server.url("/fixes/push"));
        browser.wait_for(tab, "document.getElementById('stream-state').textContent === 'streams'");
    }
    browser.click(&tabs[0], "#text");
    browser.press(&tabs[0], "good morning");
    browser.click(&tabs[0], "#say button");
    for tab in &tabs {
        browser.wait_for(tab, "document.getElementById('said').textContent === 'A tab sent: good morning'");
    }
    listeners(&server, 3);
    server.wait_for_stats("a free thread", |stats| stats["pool_capacity"] == 1);
}
