//! Streams over real sockets: what they deliver, when they detect that their client is gone, and how they
//! end.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::models::{
    self, assert_gapless, ids, ids_there, open_tab, received, wait_for_disconnect, wait_for_id, writes,
};
use crate::common::{
    FRONTS, PATIENCE, Server, ask, create, get, json, open_stream, read_head, read_until, send, split,
    wait_for,
};
use ninetabs::lab::tab::Happens;

on_each_engine! {
    a_stream_by_id_loses_and_repeats_no_model_however_often_its_connection_is_cut,
    after_a_long_absence_a_stream_catches_up_in_several_events_without_sleeping,
    a_stream_by_id_loses_no_model_under_the_load_at_which_the_original_loop_does,
    the_original_loop_loses_models,
    a_stream_resumes_after_the_last_event_id,
    an_action_that_fails_before_its_first_write_sends_an_empty_200,
    a_reaped_tab_reconnects_with_its_last_event_id,
}

/// Models are created four times as often as the streams query for them.
const LOAD: &str = "--produce-every 5ms --update-rate 20ms --retry 10ms --keep-models 100000";

const REQUEST: &[u8] = b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn a_stream_by_id_loses_and_repeats_no_model_however_often_its_connection_is_cut(engine: EngineKind) {
    let opened = engine.times(60, 15) as u64;
    // A stream whose connection was cut holds its thread until its second write.
    let server = engine.server_with(&format!("{LOAD} --threads 16:16 --db-pool 16"));
    let tabs: Vec<_> = (0..4).map(|n| open_tab(&server, &format!("tab {n}"), "0")).collect();
    let cuts: u32 = thread::scope(|scope| {
        let cutters: Vec<_> = tabs
            .iter()
            .map(|tab| {
                scope.spawn(|| {
                    let mut cuts = 0;
                    wait_for("the last cut", || {
                        thread::sleep(Duration::from_millis(fastrand::u64(0..40)));
                        cuts += u32::from(tab.cut());
                        (tab.progress().opened >= opened).then_some(())
                    });
                    cuts
                })
            })
            .collect();
        cutters.into_iter().map(|cutter| cutter.join().unwrap()).sum()
    });
    assert!(u64::from(cuts) >= 4 * (opened - 1), "{cuts} cuts");
    let newest = *ids_there(&server).last().unwrap();
    for (n, tab) in tabs.iter().enumerate() {
        wait_for_id(&server, tab, newest);
        assert!(tab.progress().connections >= opened);
        let received = received(tab);
        assert_gapless(&received, 1, &format!("tab {n}"));
        assert!(received.len() as i64 >= newest);
    }
}

/// A single event with all rows since a long absence would have to arrive completely within the stream's maximum age.
fn after_a_long_absence_a_stream_catches_up_in_several_events_without_sleeping(engine: EngineKind) {
    let server = engine.server(&["--update-rate", "600"]);
    for n in 0..120 {
        assert_eq!(create(server.app, &format!("model {n}")).0, 201);
    }
    let tab = open_tab(&server, "tab", "0");
    wait_for_id(&server, &tab, 120);
    let sizes: Vec<usize> = tab
        .happenings()
        .try_iter()
        .filter_map(|happening| match happening.what {
            Happens::Event(event) => Some(ids(&event.data).len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [50, 50, 20]);
}

fn a_stream_by_id_loses_no_model_under_the_load_at_which_the_original_loop_does(engine: EngineKind) {
    let server = engine.server_with(LOAD);
    let tab = open_tab(&server, "tab", "");
    let mut got = Vec::new();
    let enough = engine.times(500, 150);
    wait_for("enough models", || {
        got.extend(received(&tab));
        (got.len() >= enough).then_some(())
    });
    assert_gapless(&got, got[0], "tab");
    assert_eq!(tab.progress().connections, 1);
}

fn the_original_loop_loses_models(engine: EngineKind) {
    let server = engine.server_with(&format!("{LOAD} --loop faithful"));
    let tab = open_tab(&server, "tab", "");
    let mut got = Vec::new();
    // Once a later model has arrived, a missing one never will, because the loop has moved past its time slice.
    let lost = wait_for("a lost model", || {
        got.extend(received(&tab));
        got.windows(2).find(|pair| pair[0] + 1 < pair[1]).map(|pair| pair[0] + 1)
    });
    assert!(ids_there(&server).contains(&lost), "model {lost} is not in the table");
    let progress = tab.progress();
    assert_eq!((progress.connections, progress.last_event_id.as_str(), progress.retry), (1, "", None));
}

fn a_stream_resumes_after_the_last_event_id(engine: EngineKind) {
    let server = engine.server_with("--update-rate 20ms");
    for n in 1..=5 {
        assert_eq!(create(server.app, &format!("model {n}")).0, 201);
    }
    let first_event = |path: &str, header: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
        let text = read_until(&mut send(server.app, request.as_bytes()), "]\n\n");
        let (_, data) = text.split_once("data: ").unwrap();
        ids(data.lines().next().unwrap())
    };
    let stream = models::STREAM;
    assert!(first_event(stream, "").is_empty(), "a stream without a position must begin with new models");
    assert_eq!(first_event(stream, "Last-Event-ID: 3\r\n"), [4, 5]);
    assert_eq!(first_event(&format!("{stream}?last_event_id=4"), ""), [5]);
    assert_eq!(first_event(&format!("{stream}?last_event_id=4"), "Last-Event-ID: 2\r\n"), [3, 4, 5]);
    // This id belongs to another database, so all models are sent.
    assert_eq!(first_event(stream, "Last-Event-ID: 99\r\n"), [1, 2, 3, 4, 5]);
}

/// Opens a stream, reads `read` events, waits until the server has made `written` writes, and closes the stream
/// before the next write. Tries again if the next write was faster. Returns the client's port.
fn leave_between_two_writes(server: &Server, read: u64, written: u64) -> u16 {
    let try_once = || {
        let mut stream = send(server.app, REQUEST);
        let port = stream.local_addr().unwrap().port();
        for _ in 0..read {
            read_until(&mut stream, "]\n\n\r\n");
        }
        let before = wait_for("the writes", || Some(writes(server, port)).filter(|count| *count >= written));
        drop::<TcpStream>(stream);
        (before == written && writes(server, port) == written).then_some(port)
    };
    wait_for("a close between two writes", try_once)
}

#[test]
fn the_second_write_detects_a_closed_client_that_had_read_everything() {
    let server = Server::start_with("--update-rate 300ms");
    for read in [1, 2, 3] {
        let port = leave_between_two_writes(&server, read, read);
        assert_eq!(wait_for_disconnect(&server, port), (read + 2, "EPIPE".to_owned()));
    }
    let stats = server.wait_for_stats("free pool", |stats| stats["pool_capacity"] == 8);
    assert!(stats["streams"]["disconnected"].as_u64() >= Some(3), "{stats}");
    for words in ["stream opened on thread ", ": write 3 failed (EPIPE), thread ", " freed after "] {
        assert!(server.log().contains(words), "no {words:?} in {}", server.log());
    }
}

#[test]
fn the_first_write_detects_a_closed_client_that_left_bytes_unread() {
    for front in FRONTS {
        let server = Server::on(front, &["--update-rate", "300ms"]);
        for (read, written) in [(0, 1), (1, 2), (1, 3)] {
            let port = leave_between_two_writes(&server, read, written);
            let (write, errno) = wait_for_disconnect(&server, port);
            assert_eq!(write, written + 1, "{front}");
            // The kernel reports ECONNRESET only once, to the first call on the socket. With tiny-http, that call may
            // be a read by tiny_http itself, and the next write then fails with EPIPE.
            let was_reset_in_a_read = front == "tiny-http" && errno == "EPIPE";
            assert!(errno == "ECONNRESET" || was_reset_in_a_read, "{front}: {errno}");
        }
        server.wait_for_stats("free pool", |stats| stats["pool_capacity"] == 8);
    }
}

fn an_action_that_fails_before_its_first_write_sends_an_empty_200(engine: EngineKind) {
    let server = engine.server_with("--db-pool 1 --db-checkout-timeout 200ms --update-rate 50ms");
    let _holder = open_stream(server.app);
    let answer = read_until(&mut send(server.app, REQUEST), "\r\n0\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
    assert_eq!(body, "0\r\n\r\n");
    assert_eq!(get(server.app, models::STREAM), (200, String::new()), "over HTTP/1.0");
}

#[test]
fn a_reaped_stream_sends_a_retry_and_ends_cleanly() {
    // The puma front owns the socket, so it closes the connection as well.
    for (front, kept) in [("puma", 0), ("tiny-http", 1)] {
        let server = Server::on(front, &["--update-rate", "3600", "--retry", "1500ms"]);
        let mut stream = open_stream(server.app);
        assert_eq!(json(server.control, "POST", "/reap").1["reaped"], 1);
        let rest = read_until(&mut stream, "0\r\n\r\n");
        let goodbye = ": this stream was asked to end\nretry: 1500\n\n\r\n0\r\n\r\n";
        assert!(rest.ends_with(goodbye), "{front}: {rest:?}");
        let stats = server.wait_for_stats("free pool", |stats| stats["pool_capacity"] == 8);
        let ended = (&stats["streams"]["reaped"], &stats["streams"]["disconnected"]);
        assert_eq!(ended, (&1.into(), &0.into()), "{front}");
        server.wait_for_stats("expected number of open connections", |stats| {
            stats["connections"]["open"] == kept
        });
    }
}

fn a_reaped_tab_reconnects_with_its_last_event_id(engine: EngineKind) {
    let server = engine.server_with("--update-rate 20ms --retry 700ms");
    let tab = open_tab(&server, "tab", "");
    let mut got = Vec::new();
    for round in 1..=3 {
        assert!(tab.wait_for(|tab| tab.opened == round && tab.events > 0, PATIENCE).is_some());
        create(server.app, "while it listens");
        wait_for_id(&server, &tab, 2 * round as i64 - 1);
        assert_eq!(json(server.control, "POST", "/reap").1["reaped"], 1);
        let reconnect_in = wait_for("the end of the stream", || {
            tab.happenings().try_iter().find_map(|it| match it.what {
                Happens::Event(event) => {
                    got.extend(ids(&event.data));
                    None
                }
                Happens::Ended { reconnect_in, .. } => Some(reconnect_in),
                _ => None,
            })
        });
        assert_eq!(reconnect_in, Duration::from_millis(700));
        create(server.app, "while it is away");
    }
    wait_for_id(&server, &tab, 6);
    got.extend(received(&tab));
    assert_eq!(got, [1, 2, 3, 4, 5, 6]);
}

/// The paths of streams and polls. Each request holds a thread or a listener.
const STREAMS: [&str; 7] = [
    "/models/live_stream",
    "/fixes/cap/stream",
    "/fixes/push/stream",
    "/fixes/partials/stream",
    "/fixes/short-stream/stream",
    "/fixes/long-poll/poll?since=0",
    "/fixes/poll/models.json",
];

#[test]
fn every_stream_allows_the_configured_origin_and_no_other() {
    let allowed = "http://a.localhost:1";
    let server = Server::start(&["--allow-origin", allowed]);
    create(server.app, "one");
    let head = |path: &str, fields: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", server.app);
        read_head(&mut send(server.app, request.as_bytes()))
    };
    for path in STREAMS {
        for again in ["", "Last-Event-ID: 0\r\n"] {
            let named = head(path, &format!("Origin: {allowed}\r\nSec-Fetch-Site: cross-site\r\n{again}"));
            assert!(named.starts_with("HTTP/1.1 200 "), "{path}: {named}");
            assert!(
                named.contains(&format!("access-control-allow-origin: {allowed}\r\n")),
                "{path}: {named}"
            );
            assert!(named.contains("vary: origin\r\n") && !named.contains("credentials"), "{path}: {named}");
        }
        let own = head(path, "Sec-Fetch-Site: same-origin\r\n");
        assert!(own.starts_with("HTTP/1.1 200 ") && !own.contains("access-control"), "{path}: {own}");
        assert!(own.contains("vary: origin\r\n"), "{path}: {own}");

        let path = path.split('?').next().unwrap();
        let preflight = |origin: &str| {
            let fields =
                "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: last-event-id";
            ask(server.app, &format!("OPTIONS {path} HTTP/1.0\r\nOrigin: {origin}\r\n{fields}\r\n\r\n"))
        };
        let answer = preflight(allowed);
        assert!(answer.starts_with("HTTP/1.0 204 ") && answer.contains("last-event-id"), "{path}: {answer}");
        let answer = preflight("http://evil.test");
        assert!(split(&answer).0 == 403 && !answer.contains("access-control"), "{path}: {answer}");
    }
    let fields = format!("Origin: {allowed}\r\nContent-Type: application/x-www-form-urlencoded");
    for path in ["/models", "/fixes/push/events"] {
        let request = format!("POST {path} HTTP/1.0\r\n{fields}\r\nContent-Length: 6\r\n\r\nname=x");
        let answer = ask(server.app, &request);
        assert!(split(&answer).0 == 403 && !answer.contains("access-control"), "{path}: {answer}");
    }
}

#[test]
fn pages_of_other_sites_cannot_hold_a_thread_or_a_listener() {
    let server = Server::start(&["--threads", "2:2", "--allow-host", "ninetabs.test"]);
    let cross = format!("Host: {}\r\nSec-Fetch-Site: cross-site\r\n", server.app);
    // Browsers send no Sec-Fetch fields over http to a host that is not loopback.
    let unsaid = "Host: ninetabs.test\r\nUser-Agent: Mozilla/5.0\r\nAccept-Language: en\r\n";
    for path in STREAMS {
        for fields in [
            cross.clone() + "Sec-Fetch-Mode: no-cors\r\n",
            cross.clone() + "Origin: http://evil.test\r\nAccept: text/event-stream\r\n",
            cross.clone() + "Origin: null\r\n",
            format!("{unsaid}Origin: http://evil.test\r\n"),
            format!("{unsaid}Referer: http://evil.test/\r\n"),
        ] {
            for method in ["GET", "HEAD"] {
                let request = format!("{method} {path} HTTP/1.0\r\n{fields}\r\n");
                let (status, body) = split(&ask(server.app, &request));
                assert_eq!(status, 403, "{request}: {body}");
            }
        }
    }
    let stats = server.stats();
    assert_eq!((&stats["streams"]["opened"], &stats["listeners"]["joined"]), (&0.into(), &0.into()));
}
