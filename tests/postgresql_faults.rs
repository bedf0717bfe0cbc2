//! A PostgreSQL that is killed or stopped under a running server.

use std::io::Read;

use ninetabs::lab::http;
use rustix::process::Signal;

use crate::common::models::{self, open_tab_at};
use crate::common::postgres::Engine;
use crate::common::{PATIENCE, Server, create, get, read_to_end, read_until, send, wait_for};

const PUSH: &str = "/fixes/push/stream";

/// The status of a create.
fn post(server: &Server) -> u16 {
    create(server.app, "x").0
}

/// Continues the engine however the test ends.
struct Continued<'a>(&'a Engine);

impl Drop for Continued<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

#[test]
fn a_killed_or_stopped_engine_causes_only_503_answers_and_servers_recover_by_themselves() {
    let Some(engine) = Engine::start() else { return };
    let database = engine.database();
    let server = database.server(&["--threads", "3", "--db-query-timeout", "1", "--update-rate", "100ms"]);
    server.wait_for_stats("notifications", |stats| stats["engine"]["listening"] == true);
    let tab = open_tab_at(&server, PUSH, "tab 1", "0");
    let mut created = Vec::new();
    let post_until_created = |created: &mut Vec<i64>| {
        wait_for("a create", || {
            let answer = http::post(
                &server.url("/models"),
                "application/json",
                "{\"name\":\"x\"}".to_owned(),
                PATIENCE,
            );
            let answer = answer.unwrap();
            assert!([201, 503].contains(&answer.status()), "{}", answer.status());
            let model = (answer.status() == 201).then(|| answer.json().unwrap())?;
            created.push(model["id"].as_i64().unwrap());
            Some(())
        });
    };
    post_until_created(&mut created);

    // Killed, and started again.
    engine.kill();
    assert_eq!(post(&server), 503);
    assert_eq!(get(server.app, "/").0, 503);
    assert_eq!(get(server.app, "/up").0, 200);
    let stats = server.wait_for_stats("the loss", |stats| stats["engine"]["listening"] == false);
    assert!(stats["engine"]["not_listening_for_s"].is_number(), "{stats}");
    engine.launch();
    post_until_created(&mut created);
    server.wait_for_stats("notifications", |stats| stats["engine"]["listening"] == true);
    assert_eq!(get(server.app, "/").0, 200);

    // Stopped: no connection is closed, and no query is answered.
    let mut listener = send(server.app, format!("GET {PUSH} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    read_until(&mut listener, "a stream of models");
    let continued = Continued(&engine);
    engine.signal(Signal::STOP);
    assert_eq!(get(server.app, "/").0, 503);
    assert_eq!(post(&server), 503);
    assert_eq!(get(server.app, "/up").0, 200);
    // A stream is never refused with 503, because an EventSource would give up.
    let mut stream =
        send(server.app, b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let ended = read_to_end(&mut stream);
    assert!(ended.starts_with("HTTP/1.1 200 OK\r\n") && ended.ends_with("\r\n\r\n0\r\n\r\n"), "{ended}");
    server.wait_for_stats("the loss", |stats| stats["engine"]["listening"] == false);
    let stats = server.wait_for_stats("timeouts", |stats| stats["engine"]["timeouts"].as_u64() > Some(0));
    assert_eq!(stats["listeners"]["open"], 2, "{stats}");
    // Heartbeats arrive although the engine does not answer.
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0];
    listener.read_exact(&mut byte).unwrap();
    drop(continued);
    post_until_created(&mut created);
    server.wait_for_stats("notifications", |stats| stats["engine"]["listening"] == true);
    assert_eq!(get(server.app, "/").0, 200);

    // Each create that was answered is in the table, and the tab has each row once.
    database.psql("INSERT INTO models (name) VALUES ('the last one')");
    let there = database.sql().numbers("SELECT id FROM models ORDER BY id");
    assert!(created.iter().all(|id| there.contains(id)), "{created:?} in {there:?}");
    let last = there.last().unwrap().to_string();
    tab.wait_for(|it| it.last_event_id == last, PATIENCE).expect("the last model");
    models::expect_ids(&tab, &there, "the tab");
    assert!(server.log().contains("listening for commits of other programs again"), "{}", server.log());
}

#[test]
fn a_model_whose_create_was_answered_survives_a_kill_of_server_and_engine() {
    let Some(engine) = Engine::start() else { return };
    let database = engine.database();
    let mut server = database.server(&["--threads", "2"]);
    let answered: Vec<String> = (0..20).map(|n| format!("model {n}")).collect();
    for name in &answered {
        assert_eq!(create(server.app, name).0, 201);
    }
    server.signal(Signal::KILL);
    engine.kill();
    server.wait_for_exit();
    engine.launch();
    let server = database.server(&["--threads", "2"]);
    let there = crate::common::all_models(server.app);
    let names: Vec<&str> = there.iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(names, answered);
    // No number is assigned twice.
    let answer =
        http::post(&server.url("/models"), "application/json", "{\"name\":\"x\"}".to_owned(), PATIENCE)
            .unwrap();
    let id = answer.json().unwrap()["id"].as_i64().unwrap();
    assert!(there.iter().all(|model| model["id"] != id), "{id}");
}
