//! Several servers on one PostgreSQL database, over sockets: what their clients get, and what users read.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ninetabs::lab::http;
use ninetabs::lab::tab::{Happens, Tab};
use ninetabs_server::timeline::What;

use crate::common::models::{self, STREAM, open_tab_at};
use crate::common::postgres::engine;
use crate::common::{PATIENCE, Server, all_models, create, get, wait_for};

const PUSH: &str = "/fixes/push/stream";
/// The name of the connections of every server.
const SERVERS: &str = "ninetabs 127%";

fn listening(server: &Server) {
    server.wait_for_stats("notifications", |stats| stats["engine"]["listening"] == true);
}

#[test]
fn connections_are_named_after_the_real_port_and_the_record_shows_when_listening_stops_and_resumes() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let server = database.server(&["--threads", "2"]);
    listening(&server);
    assert_eq!(get(server.app, "/").0, 200);
    let admin = database.admin();
    let names: Vec<String> = admin
        .rows(
            "SELECT DISTINCT application_name FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(names, [format!("ninetabs {}", server.app)]);

    let of_the_database = || {
        let texts = models::timeline(&server).into_iter().filter_map(|moment| match moment.what {
            What::Database { text } => Some(text),
            _ => None,
        });
        texts.collect::<Vec<_>>()
    };
    assert_eq!(of_the_database(), [""; 0]);
    assert!(database.terminate(&admin, SERVERS) > 0);
    let texts = wait_for("the return", || Some(of_the_database()).filter(|texts| texts.len() >= 2));
    assert_eq!(texts[0], "no longer listens for commits of other programs");
    assert!(texts[1].starts_with("listens for commits of other programs again, after "), "{texts:?}");
}

#[test]
fn three_servers_deliver_each_model_once_and_in_order_while_their_connections_are_cut() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let servers: Vec<Server> =
        (0..3).map(|_| database.server(&["--threads", "2", "--update-rate", "50ms"])).collect();
    let tabs: Vec<Tab> = servers
        .iter()
        .flat_map(|server| [PUSH, STREAM].map(|path| open_tab_at(server, path, "tab 1", "0")))
        .collect();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Repeatedly cuts all connections of all servers, including those that listen.
        scope.spawn(|| {
            let admin = database.admin();
            while !is_done.load(Ordering::Relaxed) {
                database.terminate(&admin, SERVERS);
                thread::sleep(Duration::from_millis(200));
            }
        });
        // Another program writes as well, so that ids do not depend on a server.
        scope.spawn(|| {
            let sql = database.sql();
            for _ in 0..30 {
                sql.execute("INSERT INTO models (name) VALUES ('theirs')");
                thread::sleep(Duration::from_millis(20));
            }
        });
        for n in 0..60 {
            let status = create(servers[n % 3].app, "ours").0;
            // It is unknown whether a create was committed if its connection was cut.
            assert!([201, 503].contains(&status), "{status}");
            thread::sleep(Duration::from_millis(10));
        }
        is_done.store(true, Ordering::Relaxed);
    });
    database.psql("INSERT INTO models (name) VALUES ('the last one, by psql')");
    let sql = database.sql();
    let wanted = sql.numbers("SELECT id FROM models ORDER BY id");
    let last = *wanted.last().unwrap();
    for (n, tab) in tabs.iter().enumerate() {
        let arrived = tab.wait_for(|it| it.last_event_id.parse().is_ok_and(|id: i64| id >= last), PATIENCE);
        assert!(arrived.is_some(), "tab {n} has {:?} of {last}", tab.progress().last_event_id);
        models::expect_ids(tab, &wanted, &format!("tab {n}"));
    }
    for server in &servers {
        let stats = server.stats();
        assert!(stats["engine"]["reconnects"].as_u64() > Some(0), "{stats}");
        assert_eq!(models::ids_there(server), wanted);
    }
}

#[test]
fn an_event_reaches_the_listeners_of_every_server_once() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let servers: Vec<Server> = (0..2).map(|_| database.server(&["--threads", "2"])).collect();
    servers.iter().for_each(listening);
    let tabs: Vec<Tab> = servers.iter().map(|server| open_tab_at(server, PUSH, "tab 1", "")).collect();
    servers.iter().for_each(|server| {
        server.wait_for_stats("a listener", |stats| stats["listeners"]["open"] == 1);
    });
    for (n, server) in servers.iter().enumerate() {
        let url = server.url("/fixes/push/events");
        let form = "application/x-www-form-urlencoded";
        let answer = http::post(&url, form, format!("text=from {n}"), PATIENCE).unwrap();
        assert_eq!(answer.status(), 202, "{}", answer.text());
    }
    for tab in &tabs {
        let mut said = Vec::new();
        wait_for("both events", || {
            said.extend(tab.happenings().try_iter().filter_map(|it| match it.what {
                Happens::Event(event) if event.event_type == "said" => Some(event.data),
                _ => None,
            }));
            (said.len() >= 2).then_some(())
        });
        said.sort();
        assert_eq!(said, ["from 0", "from 1"]);
    }
}

#[test]
fn forged_repeated_and_missing_notifications_change_nothing() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let server = database.server(&["--threads", "2"]);
    listening(&server);
    let tab = open_tab_at(&server, PUSH, "tab 1", "0");
    let sql = database.sql();
    sql.execute("SELECT pg_notify('ninetabs_models', (n * 1000003)::text) FROM generate_series(1, 500) AS n");
    sql.execute("SELECT pg_notify('ninetabs_models', repeat('x', n)) FROM generate_series(0, 250) AS n");
    sql.execute("SELECT pg_notify('ninetabs_said', repeat('[', n)) FROM generate_series(0, 250) AS n");
    assert_eq!(create(server.app, "after them").0, 201);
    tab.wait_for(|it| it.last_event_id == "1", PATIENCE).expect("the model");
    // Without notifications, rows are found by the check once per second.
    sql.execute("ALTER TABLE models DISABLE TRIGGER notify");
    sql.execute("INSERT INTO models (name) VALUES ('not announced')");
    tab.wait_for(|it| it.last_event_id == "2", PATIENCE).expect("the second model");
    models::expect_ids(&tab, &[1, 2], "the tab");
    let stats = server.stats();
    assert!(stats["engine"]["notifications"].as_u64() >= Some(100), "{stats}");
}

#[test]
fn a_held_lock_fails_creates_with_503_and_names_its_holder_and_delays_nothing_else() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let server = database.server(&["--threads", "2", "--db-query-timeout", "3"]);
    let tab = open_tab_at(&server, PUSH, "tab 1", "0");
    assert_eq!(create(server.app, "before").0, 201);
    let sql = database.sql();
    sql.execute("SET application_name = 'holder'; BEGIN; INSERT INTO models (name) VALUES ('theirs')");
    let answer =
        http::post(&server.url("/models"), "application/json", "{\"name\":\"x\"}".to_owned(), PATIENCE)
            .unwrap();
    assert_eq!((answer.status(), answer.head.header("retry-after").as_deref()), (503, Some("1")));
    assert_eq!(get(server.app, "/").0, 200);
    let held = server.wait_for_stats("the holder", |stats| stats["engine"]["lock_holder"].is_object());
    let holder = &held["engine"]["lock_holder"];
    assert_eq!((&holder["application_name"], &holder["user"]), (&"holder".into(), &"ninetabs".into()));
    assert!(held["engine"]["lock_waits"].as_u64() >= Some(1), "{held}");
    // A server starts in the meantime.
    let other = database.server(&["--threads", "1"]);
    assert_eq!(models::ids_there(&other), [1]);
    sql.execute("COMMIT");
    server.wait_for_stats("a free lock", |stats| stats["engine"]["lock_holder"].is_null());
    assert_eq!(create(server.app, "after").0, 201);
    let there = models::ids_there(&server);
    models::expect_ids(&tab, &there, "the tab");
    assert!(server.log().contains("the lock of the numbers is held by process "), "{}", server.log());
}

#[test]
fn creates_that_wait_for_a_lock_hold_all_threads_and_a_page_waits_until_the_lock_timeout() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let server = database.server(&["--threads", "2", "--db-query-timeout", "10"]);
    let sql = database.sql();
    sql.execute("BEGIN; INSERT INTO models (name) VALUES ('theirs')");
    let app = server.app;
    let creates = [(); 2].map(|()| thread::spawn(move || create(app, "ours").0));
    // A thread is busy a moment before it has its connection to the database.
    server.wait_for_stats("two creates", |stats| stats["database"]["busy"] == 2);
    let page = thread::spawn(move || get(app, "/").0);
    let full = server.wait_for_stats("a page that waits", |stats| stats["backlog"] == 1);
    assert_eq!((&full["running"], &full["database"]["busy"]), (&2.into(), &2.into()), "{full}");
    assert_eq!(creates.map(|create| create.join().unwrap()), [503, 503]);
    assert_eq!(page.join().unwrap(), 200);
    sql.execute("COMMIT");
    assert_eq!(create(app, "after").0, 201);
}

#[test]
fn a_tab_whose_last_model_was_deleted_waits_and_a_tab_of_another_table_gets_all_models() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let server = database.server(&["--threads", "4", "--update-rate", "50ms"]);
    (0..5).for_each(|_| assert_eq!(create(server.app, "x").0, 201));
    database.sql().execute("DELETE FROM models WHERE id > 3");
    // This server has not seen the deleted ones.
    let server = [server, database.server(&["--threads", "4", "--update-rate", "50ms"])];
    for server in &server {
        for path in [PUSH, STREAM] {
            let waits = open_tab_at(server, path, "tab 1", "5");
            let restarts = open_tab_at(server, path, "tab 2", "6");
            models::expect_ids(&restarts, &[1, 2, 3], path);
            assert_eq!(models::received(&waits), [0; 0], "{path}");
        }
        let newer = |since: i64| models::ids(&get(server.app, &format!("/models.json?since={since}")).1);
        assert_eq!((newer(5), newer(2), newer(99)), (vec![], vec![3], vec![1, 2, 3]));
    }
    let poll = get(server[0].app, "/fixes/poll/models.json?rung=etag&since=5");
    assert_eq!(poll.0, 200, "{poll:?}");
}

#[test]
fn a_password_is_never_shown() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let url = database.url().replace("ninetabs@", "ninetabs:s3cret@");
    let folder = tempfile::tempdir().unwrap();
    let mut command = Server::command(folder.path());
    command.args(["--threads", "2", "--database", &url]).env_remove("NINETABS_DATABASE");
    command.env("RUST_LOG", "debug").stdout(std::fs::File::create(folder.path().join("said")).unwrap());
    let mut server = Server::spawn(command, folder);
    assert_eq!(create(server.app, "x").0, 201);
    for path in ["/", "/fixes/cap", "/fixes/other-server"] {
        assert!(!get(server.app, path).1.contains("s3cret"), "{path}");
    }
    for path in ["/stats", "/timeline", "/report", "/trace"] {
        let (status, text) = get(server.control, path);
        assert!(status == 200 && !text.contains("s3cret"), "{path}: {status}");
    }
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait_for_exit().success());
    let said = std::fs::read_to_string(server.folder.path().join("said")).unwrap();
    assert!(said.contains("postgresql://ninetabs@") && !said.contains("s3cret"), "{said}");
    assert!(!server.log().contains("s3cret"), "{}", server.log());
}

/// The error message of a start that is refused, which is one line.
pub fn refused(flags: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(Server::command(folder.path()).get_program());
    command.args(["serve", "--bind", "tcp://127.0.0.1:0", "--control-url", "tcp://127.0.0.1:0"]);
    let output = command.args(flags).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_unusable_database_is_refused_in_one_line() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let url = database.url();
    let nowhere = "postgresql://ninetabs:s3cret@127.0.0.1:1/d";
    let no_tls = format!("{url}?sslmode=require");
    let other = engine.database().url();
    for (flags, words) in [
        (
            &["--database", nowhere][..],
            "--database postgresql://ninetabs@127.0.0.1:1/d: error connecting to server: ",
        ),
        (
            &["--database", &no_tls],
            "cannot connect to PostgreSQL with sslmode=require: this build does not support TLS",
        ),
        (&["--database", "x", "--cable-database", &url], "--cable-database postgresql://ninetabs@"),
        (&["--database", &url, "--cable-database", "x"], "--cable-database x: give the postgresql:// URL"),
        (&["--database", &url, "--cable-database", &other], "models_numbers"),
    ] {
        let said = refused(flags);
        assert!(said.contains(words), "{flags:?}: {said}");
        assert_eq!((said.lines().count(), said.contains("s3cret")), (1, false), "{said}");
    }
}

#[test]
fn a_server_whose_pool_is_too_large_does_not_start_and_reports_how_many_connections_it_got() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let admin = database.admin();
    admin.execute("DROP ROLE IF EXISTS few; CREATE ROLE few LOGIN");
    admin.execute("GRANT ALL ON SCHEMA public TO few");
    let url = database.url().replace("ninetabs@", "few@");
    // Besides the pool, a server has a connection to read, one to listen, and one to produce.
    for (limit, accepted) in
        [(0, "0"), (6, "6"), (8, "8 of the 11"), (9, "9 of the 11"), (10, "10 of the 11")]
    {
        admin.execute(&format!("ALTER ROLE few CONNECTION LIMIT {limit}"));
        let said = refused(&["--threads", "8", "--database", &url]);
        let words = format!("--db-pool 8: PostgreSQL accepted only {accepted} connections");
        assert!(said.contains(&words), "{limit}: {said}");
        let cause = "too many connections for role \"few\" (SQLSTATE 53300); give fewer";
        assert!(said.contains(cause) && said.contains("raise its max_connections"), "{limit}: {said}");
        wait_for("the end of its connections", || {
            let left = admin.ask("SELECT count(*) FROM pg_stat_activity WHERE usename = 'few'");
            (left == 0).then_some(())
        });
    }
    admin.execute("DROP OWNED BY few; DROP ROLE few");
}

#[test]
fn through_a_pooler_all_models_are_delivered_and_the_server_reports_whether_it_can_listen() {
    let Some(engine) = engine() else { return };
    let Some(pooler) = engine.pooler() else { return };
    let database = engine.database();
    let start = |cable: Option<String>| {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Server::command(folder.path());
        command.args(["--threads", "2"]).env("NINETABS_DATABASE", database.pooled_url(&pooler));
        command.envs(cable.map(|url| ("NINETABS_CABLE_DATABASE", url)));
        Server::spawn(command, folder)
    };
    let direct = start(Some(database.url()));
    let deaf = start(None);
    listening(&direct);
    let tabs = [&direct, &deaf].map(|server| open_tab_at(server, PUSH, "tab 1", "0"));
    for server in [&direct, &deaf] {
        assert_eq!(create(server.app, "x").0, 201);
    }
    database.psql("INSERT INTO models (name) VALUES ('psql')");
    for tab in &tabs {
        models::expect_ids(tab, &[1, 2, 3], "each");
    }
    deaf.wait_for_stats("checks", |stats| stats["engine"]["checks"].as_u64() > Some(3));
    assert_eq!(deaf.stats()["engine"]["listening"], false);
    wait_for("the log line", || {
        deaf.log().contains("notifications from PostgreSQL do not arrive").then_some(())
    });
}

#[test]
fn a_second_server_finds_all_models_of_the_first_one() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let mut server = database.server(&["--threads", "2", "--keep-models", "5"]);
    for n in 0..8 {
        assert_eq!(create(server.app, &format!("model {n}")).0, 201);
    }
    server.signal(rustix::process::Signal::KILL);
    server.wait_for_exit();
    let server = database.server(&["--threads", "2"]);
    let there = all_models(server.app);
    assert_eq!(there.len(), 5);
    assert_eq!(there[4]["name"], "model 7");
    let stats = server.stats();
    assert_eq!(
        (&stats["engine"]["kind"], &stats["engine"]["lock_holder"]),
        (&"postgresql".into(), &serde_json::Value::Null)
    );
}
