//! A client's position, the id of the last model that it has received, means the same on every route that accepts
//! one.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::models::ids;
use crate::common::{PATIENCE, Server, ask, create, get, read_to_end, read_until, send, split, wait_for};
use serde_json::{Value, json};
use tungstenite::{ClientRequestBuilder, Message, WebSocket};

on_each_engine! {
    a_position_means_the_same_to_every_list,
    a_position_means_the_same_to_every_stream,
    a_position_means_the_same_to_a_long_poll,
    a_gap_that_appears_during_a_stream_is_reported_and_counted,
    a_gap_between_two_events_of_a_client_that_catches_up_is_reported_and_counted,
    a_position_means_the_same_to_the_cable,
    an_invalid_or_unknown_position_is_logged_but_not_for_each_request,
    a_tag_does_not_match_another_table_with_the_same_ids,
}

/// Positions as a client sends them, and which of the models 1, 2 and 3 it then receives from a list and from a
/// stream. Five models were created, and the last two were deleted.
const CASES: [(Option<&str>, &[i64], &[i64]); 10] = [
    (None, &[1, 2, 3], &[]),
    (Some("0"), &[1, 2, 3], &[1, 2, 3]),
    (Some("2"), &[3], &[3]),
    (Some("3"), &[], &[]),
    (Some("5"), &[], &[]),
    (Some("6"), &[1, 2, 3], &[1, 2, 3]),
    (Some("9223372036854775807"), &[1, 2, 3], &[1, 2, 3]),
    (Some("9223372036854775808"), &[1, 2, 3], &[]),
    (Some("-1"), &[1, 2, 3], &[]),
    (Some("abc"), &[1, 2, 3], &[]),
];

/// Creates the table that `CASES` describes.
fn make_table(server: &Server) {
    for n in 1..=5 {
        assert_eq!(create(server.app, &format!("model {n}")).0, 201);
    }
    server.other_program().execute("DELETE FROM models WHERE id > 3");
}

fn query(name: &str, position: Option<&str>) -> String {
    position.map(|id| format!("{name}={id}")).unwrap_or_default()
}

fn a_position_means_the_same_to_every_list(engine: EngineKind) {
    let server = engine.server(&["--produce-every", "off"]);
    make_table(&server);
    // The cases are checked twice: with the last id as the server remembers it, and as it reads the id from the
    // database when it starts.
    let check = |server: &Server| {
        for (position, wanted, _) in CASES {
            let since = query("since", position);
            for path in [
                format!("/models.json?{since}"),
                format!("/fixes/poll/models.json?{since}"),
                format!("/fixes/poll/models.json?rung=naive&{since}"),
                format!("/fixes/poll/models.json?rung=etag&{since}"),
                format!("/fixes/poll/models.json?rung=shared&{since}"),
            ] {
                let (status, body) = get(server.app, &path);
                assert_eq!((status, ids(&body).as_slice()), (200, wanted), "{path}");
            }
        }
    };
    check(&server);
    check(&server.restart(&[]));
}

/// An open stream, the ids that it must deliver, and a function that finds the ids in its text.
struct Listening {
    case: String,
    wanted: Vec<i64>,
    stream: TcpStream,
    ids: fn(&str) -> Vec<i64>,
}

/// The ids in the data of events.
fn ids_of_events(text: &str) -> Vec<i64> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| data.starts_with('[')).flat_map(ids).collect()
}

/// The ids in the data of `partials`.
fn ids_of_rows(text: &str) -> Vec<i64> {
    text.split("<li id=\"model_").skip(1).filter_map(|row| row.split_once('"')?.0.parse().ok()).collect()
}

fn a_position_means_the_same_to_every_stream(engine: EngineKind) {
    let server = engine.server(&["--threads", "80:80", "--db-lease", "query", "--update-rate", "50ms"]);
    make_table(&server);
    let mut open = Vec::new();
    for (position, _, wanted) in CASES {
        let mut listen = |wanted: &[i64], path: &str, header: bool, ids: fn(&str) -> Vec<i64>| {
            let header = position.filter(|_| header).map(|id| format!("Last-Event-ID: {id}\r\n"));
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", header.unwrap_or_default());
            let mut stream = send(server.app, request.as_bytes());
            // Reads the greeting or the first models.
            let begun = read_until(&mut stream, "\n\n");
            assert!(begun.starts_with("HTTP/1.1 200 "), "{path}: {begun}");
            let case = format!("{path}, {position:?}");
            open.push((begun, Listening { case, wanted: wanted.to_vec(), stream, ids }));
        };
        listen(wanted, "/models/live_stream", true, ids_of_events);
        listen(
            wanted,
            &format!("/models/live_stream?{}", query("last_event_id", position)),
            false,
            ids_of_events,
        );
        listen(
            wanted,
            &format!("/models/live_stream?{}", query("lastEventId", position)),
            false,
            ids_of_events,
        );
        listen(wanted, "/fixes/push/stream", true, ids_of_events);
        listen(
            wanted,
            &format!("/fixes/push/stream?{}", query("lastEventId", position)),
            false,
            ids_of_events,
        );
        listen(wanted, "/fixes/partials/stream", true, ids_of_rows);
        // This stream ends by itself, so it is read to its end here.
        let since = query("last_event_id", position);
        let whole = ask(server.app, &format!("GET /fixes/short-stream/stream?{since} HTTP/1.0\r\n\r\n"));
        assert_eq!(ids_of_events(&whole), wanted, "short-stream, {position:?}");
        // If an address has two positions, the greater one counts. A position that is not an id is ignored.
        let is_id = position.is_some_and(|id| id.parse::<i64>().is_ok_and(|id| id >= 0));
        let both = format!("last_event_id=0&{}", query("lastEventId", position));
        let wanted = if is_id { wanted } else { &[1, 2, 3] };
        listen(wanted, &format!("/models/live_stream?{both}"), false, ids_of_events);
        listen(wanted, &format!("/fixes/push/stream?{both}"), false, ids_of_events);
        let whole = ask(server.app, &format!("GET /fixes/short-stream/stream?{both} HTTP/1.0\r\n\r\n"));
        assert_eq!(ids_of_events(&whole), wanted, "short-stream, {both}");
    }
    assert_eq!(create(server.app, "the last").0, 201);
    for (begun, mut it) in open {
        let mut text = begun;
        let mut bytes = [0; 4096];
        while (it.ids)(&text).last() != Some(&6) {
            let read = it.stream.read(&mut bytes).unwrap();
            assert!(read > 0, "{} ended: {text}", it.case);
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        it.wanted.push(6);
        assert_eq!((it.ids)(&text), it.wanted, "{}", it.case);
    }
}

fn a_position_means_the_same_to_a_long_poll(engine: EngineKind) {
    let server = engine.server(&[]);
    make_table(&server);
    let mut waiting = Vec::new();
    for (position, _, wanted) in CASES {
        let request = format!("GET /fixes/long-poll/poll?{} HTTP/1.0\r\n\r\n", query("since", position));
        if wanted.is_empty() {
            waiting.push((position, send(server.app, request.as_bytes())));
        } else {
            let (status, body) = split(&ask(server.app, &request));
            assert_eq!((status, ids(&body).as_slice()), (200, wanted), "{position:?}");
        }
    }
    server.wait_for_stats("listener for each waiting poll", |stats| {
        stats["listeners"]["open"] == waiting.len()
    });
    assert_eq!(create(server.app, "the last").0, 201);
    for (position, mut stream) in waiting {
        let answer = read_to_end(&mut stream);
        assert_eq!(ids(&split(&answer).1), [6], "{position:?}");
    }
}

fn a_gap_that_appears_during_a_stream_is_reported_and_counted(engine: EngineKind) {
    let server = engine.server(&["--update-rate", "50ms"]);
    let streams = ["/models/live_stream", "/fixes/push/stream"].map(|path| {
        let mut stream =
            send(server.app, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        read_until(&mut stream, "data: []");
        (path, stream)
    });
    // This has the same effect as creating more models between two queries than the table keeps.
    let theirs = server.other_program();
    theirs.execute("BEGIN");
    theirs.insert(10, "theirs");
    theirs.execute("DELETE FROM models WHERE id < 8; COMMIT");
    let streams = streams.map(|(path, mut stream)| {
        let text = read_until(&mut stream, "id: 10\n");
        assert!(text.contains(": the table has no models with ids from 1 to 7\n"), "{path}: {text}");
        (path, stream)
    });
    assert_eq!(server.stats()["gaps"], 2);
    assert_eq!(create(server.app, "ours").0, 201);
    for (path, mut stream) in streams {
        let text = read_until(&mut stream, "id: 11\n");
        assert!(!text.contains("no models"), "{path}: {text}");
    }
    assert_eq!(server.stats()["gaps"], 2);
}

fn a_gap_between_two_events_of_a_client_that_catches_up_is_reported_and_counted(engine: EngineKind) {
    let server = engine.server(&[]);
    let theirs = server.other_program();
    theirs.execute("BEGIN");
    theirs.insert(70, "theirs");
    theirs.execute("DELETE FROM models WHERE id > 50 AND id < 61; COMMIT");
    for (n, path) in
        ["/models/live_stream", "/fixes/short-stream/stream", "/fixes/push/stream"].iter().enumerate()
    {
        let request = format!("GET {path}?last_event_id=0 HTTP/1.0\r\n\r\n");
        let text = read_until(&mut send(server.app, request.as_bytes()), "id: 70\n");
        assert_eq!(text.matches("no models").count(), 1, "{path}: {text}");
        assert!(
            text.contains(": the table has no models with ids from 51 to 60\nid: 70\n"),
            "{path}: {text}"
        );
        assert_eq!(server.stats()["gaps"], n + 1, "{path}");
    }
}

/// Subscribes a client of `cable` with this `since`. Returns the type of the server's answer, and the socket.
fn subscribe(app: SocketAddr, since: &Value) -> (String, WebSocket<TcpStream>) {
    let stream = TcpStream::connect(app).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = ClientRequestBuilder::new(format!("ws://{app}/cable").parse().unwrap())
        .with_header("Origin", format!("http://{app}"));
    let (mut socket, _) = tungstenite::client(request, stream).unwrap();
    let mut identifier = json!({ "channel": "ModelsChannel" });
    if !since.is_null() {
        identifier["since"] = since.clone();
    }
    let command = json!({ "command": "subscribe", "identifier": identifier.to_string() });
    socket.send(Message::text(command.to_string())).unwrap();
    loop {
        let said = message(&mut socket);
        if let Some(kind) = said["type"].as_str().filter(|kind| kind.ends_with("_subscription")) {
            return (kind.to_owned(), socket);
        }
    }
}

fn message(socket: &mut WebSocket<TcpStream>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

fn a_position_means_the_same_to_the_cable(engine: EngineKind) {
    let server = engine.server(&[]);
    make_table(&server);
    let mut open = Vec::new();
    for (position, _, wanted) in CASES {
        let since = position.map_or(Value::Null, Value::from);
        let (kind, socket) = subscribe(server.app, &since);
        let is_garbage = matches!(position, Some("-1" | "abc" | "9223372036854775808"));
        assert_eq!(kind == "reject_subscription", is_garbage, "{position:?}");
        if !is_garbage {
            open.push((position, wanted, socket));
        }
    }
    let next = |socket: &mut WebSocket<TcpStream>| loop {
        if let Some(id) = message(socket)["message"]["id"].as_i64() {
            return id;
        }
    };
    // Position 6 is unknown only until model 6 exists, so the models that a position asks for are read before that.
    for (position, wanted, socket) in &mut open {
        let got: Vec<i64> = wanted.iter().map(|_| next(socket)).collect();
        assert_eq!(got, *wanted, "{position:?}");
    }
    assert_eq!(create(server.app, "the last").0, 201);
    for (position, _, mut socket) in open {
        assert_eq!(next(&mut socket), 6, "{position:?}");
    }
}

fn an_invalid_or_unknown_position_is_logged_but_not_for_each_request(engine: EngineKind) {
    let server = engine.server(&[]);
    make_table(&server);
    for _ in 0..200 {
        for position in ["99", "abc"] {
            ask(server.app, &format!("GET /models.json?since={position} HTTP/1.0\r\n\r\n"));
        }
    }
    let log = server.log();
    for words in ["the models after 99, but 5 is the last id", "\"abc\" is not the id of a model"] {
        let lines = log.matches(words).count();
        assert!((1..100).contains(&lines), "{lines} lines: {words}");
    }
}

/// Polls with this tag. Returns the status, the tag and the ids of the answer.
fn poll(server: &Server, rung: &str, since: i64, tag: &str) -> (u16, String, Vec<i64>) {
    let path = format!("/fixes/poll/models.json?rung={rung}&since={since}");
    let answer = ask(server.app, &format!("GET {path} HTTP/1.0\r\nIf-None-Match: {tag}\r\n\r\n"));
    let tag = answer.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap_or_default().to_owned();
    let (status, body) = split(&answer);
    (status, tag, if status == 200 { ids(&body) } else { Vec::new() })
}

fn a_tag_does_not_match_another_table_with_the_same_ids(engine: EngineKind) {
    let (one, other) = (engine.server(&[]), engine.server(&[]));
    for server in [&one, &other] {
        assert_eq!(create(server.app, "a model").0, 201);
    }
    for rung in ["etag", "shared"] {
        let (_, tag, _) = poll(&one, rung, 0, "");
        assert_eq!(poll(&one, rung, 1, &tag).0, 304, "{rung}");
        assert_eq!(poll(&other, rung, 1, &tag).0, 200, "{rung}");
    }
    // The table keeps its identity across a restart.
    let (_, tag, _) = poll(&one, "etag", 0, "");
    let one = one.restart(&[]);
    assert_eq!(poll(&one, "etag", 1, &tag).0, 304);
    // Deleting the last models does not change the tag, but creating another one does.
    one.other_program().execute("DELETE FROM models");
    assert_eq!(poll(&one, "etag", 1, &tag).0, 304);
    assert_eq!(create(one.app, "a model").0, 201);
    assert_eq!(poll(&one, "shared", 1, &tag), (200, poll(&one, "etag", 0, "").1, vec![2]));
}

#[test]
fn connected_clients_receive_every_row_of_a_table_whose_ids_restart() {
    let server = Server::start(&["--update-rate", "50ms"]);
    make_table(&server);
    let streams = ["/models/live_stream", "/fixes/push/stream"].map(|path| {
        let request = format!("GET {path}?last_event_id=5 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut stream = send(server.app, request.as_bytes());
        read_until(&mut stream, "data: []");
        stream
    });
    let (_, tag, _) = poll(&server, "shared", 3, "");
    let theirs = server.other_program();
    theirs.execute(
        "BEGIN; DELETE FROM models; DELETE FROM sqlite_sequence;
             INSERT INTO models (name, created_at_us) VALUES ('new 1', 1), ('new 2', 2), ('new 3', 3),
             ('new 4', 4), ('new 5', 5); COMMIT",
    );
    assert_eq!(create(server.app, "new 6").0, 201);
    theirs.execute("DELETE FROM models; DELETE FROM sqlite_sequence");
    wait_for("the log line about the restarted ids", || {
        server.log().contains("restarted the ids of the table").then_some(())
    });
    for n in 1..=2 {
        assert_eq!(create(server.app, &format!("newest {n}")).0, 201);
    }
    for mut stream in streams {
        read_until(&mut stream, "newest 2");
    }
    for rung in ["etag", "shared"] {
        let (status, _, ids) = poll(&server, rung, 0, &tag);
        assert_eq!((status, ids), (200, vec![1, 2]), "{rung}");
    }
}
