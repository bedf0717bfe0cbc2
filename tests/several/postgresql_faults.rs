//! Faults of PostgreSQL and of servers: killed, stopped, a full disk, connections used up, cut connections.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use ninetabs::lab::event_stream::Parser;
use ninetabs::lab::http;
use rustix::process::Signal;

use crate::common::batch::batch;
use crate::common::listeners::{cable_client, discard, listener};
use crate::common::models::{self, STREAM, open_tab_at};
use crate::common::postgres::{Engine, as_user, engine};
use crate::common::small_disk::SmallDisk;
use crate::common::{
    PATIENCE, Server, create, get, json, read_head, read_to_end, read_until, send, wait_for,
};
use crate::postgresql_servers::refused;

batch! {
    crate::several::BATCH:
    a_killed_or_stopped_engine_causes_only_503_answers_and_servers_recover_by_themselves,
    a_model_whose_create_was_answered_survives_a_kill_of_server_and_engine,
    with_a_full_disk_creates_are_answered_503_and_pages_200_until_space_is_freed,
    if_connections_are_used_up_the_next_server_does_not_start_and_the_others_continue,
    tabs_of_a_server_that_was_stopped_continue_and_get_each_model_once,
    neither_a_transaction_in_another_database_nor_notifications_of_another_role_affect_models,
    a_client_that_is_cut_200_times_and_reconnects_to_another_server_gets_each_model_once,
}

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

fn a_killed_or_stopped_engine_causes_only_503_answers_and_servers_recover_by_themselves() {
    let Some(engine) = Engine::start() else { return };
    let database = engine.database();
    let flags = "--threads 3 --db-pool 2 --db-query-timeout 2 --update-rate 100ms";
    let server = database.server(&flags.split(' ').collect::<Vec<_>>());
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
    let mut listeners: Vec<TcpStream> = (0..9).map(|_| listener(&server)).collect();
    let mut cable_clients = [cable_client(&server), cable_client(&server)];
    let continued = Continued(&engine);
    engine.signal(Signal::STOP);
    listeners.iter_mut().chain(&mut cable_clients).for_each(discard);
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
    assert_eq!(stats["listeners"]["open"], 12, "{stats}");
    // One of the threads waits for a connection, the others for PostgreSQL.
    thread::scope(|scope| {
        let pages: Vec<_> = (0..6).map(|_| scope.spawn(|| get(server.app, "/").0)).collect();
        let statuses: Vec<u16> = pages.into_iter().map(|page| page.join().unwrap()).collect();
        assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    });
    wait_for("idle threads", || {
        let threads = json(server.control, "GET", "/threads").1;
        threads.as_array()?.iter().all(|thread| thread["state"] == "waiting").then_some(())
    });
    // Heartbeats and pings arrive although the engine does not answer.
    for listener in &mut listeners {
        read_until(listener, ":\n\n");
    }
    for client in &mut cable_clients {
        (0..2).for_each(|_| drop(read_until(client, "\"ping\"")));
    }
    assert_eq!(server.stats()["engine"]["listening"], false, "the engine is still stopped");
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

fn listens(server: &Server) {
    server.wait_for_stats("notifications", |stats| stats["engine"]["listening"] == true);
}

fn with_a_full_disk_creates_are_answered_503_and_pages_200_until_space_is_freed() {
    // On a shared engine, no database can be created while its checkpoints fail.
    let Some(engine) = Engine::start() else { return };
    let Some(disk) = SmallDisk::mount("32m") else { return };
    let folder = disk.path().join("postgresql");
    // PostgreSQL changes the mode of the folder, so it must own it.
    assert!(as_user(Path::new("mkdir")).arg(&folder).status().unwrap().success());
    let admin = engine.admin("postgres");
    admin.execute(&format!("CREATE TABLESPACE small LOCATION '{}'", folder.display()));
    let database = engine.database_with("TABLESPACE small");
    let server = database.server(&["--threads", "2"]);
    let tab = open_tab_at(&server, PUSH, "tab 1", "0");
    assert_eq!(create(server.app, "before").0, 201);

    let filler = disk.fill();
    // Names of this size that cannot be compressed need space of their own.
    let name = || std::iter::repeat_with(fastrand::alphanumeric).take(16_000).collect::<String>();
    wait_for("a refused create", || {
        let status = create(server.app, &name()).0;
        assert!([201, 503].contains(&status), "{status}");
        (status == 503).then_some(())
    });
    for path in ["/", "/models.json", "/up"] {
        assert_eq!(get(server.app, path).0, 200, "{path}");
    }
    let stats = server.stats();
    assert_eq!((&stats["engine"]["listening"], &stats["engine"]["reconnects"]), (&true.into(), &0.into()));
    fs::remove_file(filler).unwrap();
    assert_eq!(create(server.app, &name()).0, 201);
    models::expect_ids(&tab, &models::ids_there(&server), "the tab");

    assert!(server.log().contains("No space left on device"), "{}", server.log());
    drop((tab, server));
    // No file of the engine may be open when the disk is unmounted.
    engine.kill();
}

fn if_connections_are_used_up_the_next_server_does_not_start_and_the_others_continue() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let admin = database.admin();
    // Each server has two connections for its threads, one to listen and one to read.
    admin.execute("CREATE ROLE crowd LOGIN CONNECTION LIMIT 9; GRANT ALL ON SCHEMA public TO crowd");
    let url = database.url().replace("ninetabs@", "crowd@");
    let flags = ["--threads", "2", "--db-query-timeout", "2", "--database", &url];
    let servers = [database.server(&flags), database.server(&flags)];
    let tabs = servers.each_ref().map(|server| open_tab_at(server, PUSH, "tab 1", "0"));
    servers.iter().for_each(listens);
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'crowd'";
    wait_for("the connections of both", || (admin.ask(connections) == 8).then_some(()));
    let said = refused(&flags);
    let words =
        "--db-pool 2: PostgreSQL accepted only 1 connections: too many connections for role \"crowd\"";
    assert!(said.contains(words) && said.contains("give fewer"), "{said}");
    assert_eq!(servers.each_ref().map(|server| create(server.app, "x").0), [201, 201]);

    // A server that has lost its connections gets no new ones.
    admin.execute("ALTER ROLE crowd CONNECTION LIMIT 0");
    let [without, with] = &servers;
    assert_eq!(database.terminate(&admin, &format!("ninetabs {}", without.app)), 4);
    assert_eq!((get(without.app, "/").0, create(without.app, "x").0), (503, 503));
    assert_eq!((get(without.app, "/up").0, get(with.app, "/").0, create(with.app, "x").0), (200, 200, 201));
    admin.execute("ALTER ROLE crowd CONNECTION LIMIT 9");
    listens(without);
    assert_eq!(servers.each_ref().map(|server| create(server.app, "x").0), [201, 201]);
    for tab in &tabs {
        models::expect_ids(tab, &[1, 2, 3, 4, 5], "each tab");
    }
    drop((tabs, servers));
    admin.execute("DROP OWNED BY crowd; DROP ROLE crowd");
}

fn tabs_of_a_server_that_was_stopped_continue_and_get_each_model_once() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let [stopped, other] = [(); 2].map(|()| database.server(&["--threads", "2", "--update-rate", "50ms"]));
    let tabs = [PUSH, STREAM].map(|path| open_tab_at(&stopped, path, "tab 1", "0"));
    let beside = open_tab_at(&other, PUSH, "tab 2", "0");
    let mut listener = listener(&other);
    listens(&stopped);
    assert_eq!(create(stopped.app, "before").0, 201);

    stopped.signal(Signal::STOP);
    for _ in 0..5 {
        assert_eq!(create(other.app, "meanwhile").0, 201);
    }
    models::expect_ids(&beside, &[1, 2, 3, 4, 5, 6], "the tab of the other server");
    // Until the next heartbeat, longer than the limits of the stopped server's queries.
    discard(&mut listener);
    read_until(&mut listener, ":\n\n");
    stopped.signal(Signal::CONT);
    assert_eq!(create(other.app, "after").0, 201);
    for (n, tab) in tabs.iter().enumerate() {
        models::expect_ids(tab, &[1, 2, 3, 4, 5, 6, 7], &format!("tab {n}"));
    }
    assert_eq!(tabs[0].progress().connections, 1, "it has not reconnected");
    assert_eq!(create(stopped.app, "by itself").0, 201);
}

fn neither_a_transaction_in_another_database_nor_notifications_of_another_role_affect_models() {
    let Some(engine) = engine() else { return };
    let elsewhere = engine.database();
    let transaction = elsewhere.sql();
    // A reader that waits for all older transactions would stop here.
    transaction.execute("BEGIN; SELECT pg_current_xact_id()");
    let database = engine.database();
    let server = database.server(&["--threads", "1"]);
    let tab = open_tab_at(&server, PUSH, "tab 1", "0");
    listens(&server);
    let stranger = database.admin();
    stranger.execute("CREATE ROLE stranger; SET SESSION AUTHORIZATION stranger");
    for _ in 0..3 {
        stranger.execute("NOTIFY ninetabs_models, '999999999'; NOTIFY ninetabs_models, 'no number'");
        stranger.execute("NOTIFY ninetabs_models; NOTIFY ninetabs_said, '{'");
        assert_eq!(create(server.app, "x").0, 201);
    }
    models::expect_ids(&tab, &[1, 2, 3], "the tab");
    stranger.execute("RESET SESSION AUTHORIZATION; DROP ROLE stranger");
    transaction.execute("COMMIT");
}

fn a_client_that_is_cut_200_times_and_reconnects_to_another_server_gets_each_model_once() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let servers = [(); 3].map(|()| database.server(&["--threads", "1"]));
    let mut dice = Rng::with_seed(200);
    let (mut got, mut parser) = (Vec::new(), Parser::default());
    parser.resume_from("0");
    let mut read = |server: &Server, most: usize, patience: Duration| {
        let from = parser.last_event_id();
        let request = format!("GET {PUSH} HTTP/1.0\r\nHost: localhost\r\nLast-Event-ID: {from}\r\n\r\n");
        let mut stream = send(server.app, request.as_bytes());
        assert!(read_head(&mut stream).contains(" 200 "));
        parser.begin();
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 4096];
        let mut left = most;
        while left > 0 {
            let room = left.min(buffer.len());
            let count = match stream.read(&mut buffer[..room]) {
                Ok(count) => count,
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => break,
                Err(error) => panic!("{error}"),
            };
            assert!(count > 0, "the server ended the stream");
            left -= count;
            parser.feed(&buffer[..count], |event| got.extend(models::ids(&event.data))).unwrap();
        }
        got.last().copied()
    };
    for turn in 0..200 {
        // Some of the models arrive while the client is not connected.
        if turn % 2 == 0 {
            assert_eq!(create(servers[turn % 3].app, "x").0, 201);
        }
        // Mostly within an event.
        read(&servers[(turn + 1) % 3], dice.usize(1..400), Duration::from_millis(3));
    }
    let last = database.sql().ask("SELECT max(id) FROM models");
    wait_for("the last model", || {
        (read(&servers[0], usize::MAX, Duration::from_millis(50)) == Some(last)).then_some(())
    });
    assert_eq!(got, models::ids_there(&servers[0]));
}
