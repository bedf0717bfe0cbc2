//! Orders to the control server. An order takes effect completely, as its answer reports, or not at all. A reset
//! undoes what earlier orders have changed.
#![cfg(target_os = "linux")]

use std::fs;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::common::{self, Server, get, json, open_stream, poll, wait_for};
use serde_json::{Value, json};

fn order(server: &Server, path: &str) -> (u16, Value) {
    json(server.control, "POST", path)
}

fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count()
}

/// The names of the server's threads, except those that the control server starts for each request.
fn threads(server: &Server) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let mut names: Vec<_> = tasks.flatten().filter_map(name).collect();
    names.retain(|name| !name.starts_with("puma ctl tp 0"));
    names.sort();
    names
}

/// The part of a server's state that an order can change. The test must be the server's only client.
#[derive(Debug, PartialEq)]
struct State {
    descriptors: usize,
    threads: Vec<String>,
    stats: Value,
    lab: Value,
    size: Value,
}

impl State {
    fn of(server: &Server) -> State {
        // By then, everything that an order opened temporarily is closed.
        let mut stats = server
            .wait_for_stats("server without open connections", |stats| stats["connections"]["open"] == 0);
        stats["queries"].take();
        State {
            descriptors: descriptors(server),
            threads: threads(server),
            stats,
            lab: json(server.control, "GET", "/lab").1,
            size: order(server, "/resize").1,
        }
    }
}

#[test]
fn a_refused_order_changes_nothing() {
    let server = Server::with_descriptors(256, &[]);
    let refused = [
        "/resize?max=10000",
        "/resize?min=1&max=10000",
        "/resize?min=2&max=0",
        "/resize?min=9",
        "/resize?min=1&max=x",
        "/resize?max=10001",
        "/lab/threads",
        "/lab/threads?count=0",
        "/lab/threads?count=5000",
        "/lab/zombies?count=0",
        "/lab/zombies?count=65",
        "/lab/zombies?count=-1",
        "/lab/tabs/open?tab=x",
        "/lab/tabs/close?tab=3",
        "/lab/tabs/close",
        "/reap?older-than=x",
        "/max-stream-age",
        "/max-stream-age?secs=0",
        "/max-stream-age?secs=inf",
    ];
    let before = wait_for("a stable state", || {
        let (one, two) = (State::of(&server), State::of(&server));
        (one == two).then_some(two)
    });
    for path in refused {
        let (status, said) = order(&server, path);
        assert_eq!(status, 422, "{path}: {said}");
        assert!(said.as_str().is_some_and(|said| said.lines().count() == 1), "{path}: {said}");
        // The connection that carried the order may stay open for a moment.
        let mut after = State::of(&server);
        poll(Duration::from_secs(30), || {
            let is_as_before = after == before;
            if !is_as_before {
                after = State::of(&server);
            }
            is_as_before.then_some(())
        });
        assert_eq!(after, before, "after {path}: {said}");
    }
    // A valid order still starts from the unchanged state: the minimum is 8.
    assert_eq!(order(&server, "/resize?max=10"), (200, json!({ "min": 8, "max": 10 })));
}

#[test]
fn a_resize_lowers_the_limit_of_client_connections_by_the_descriptors_it_takes() {
    let server = Server::with_descriptors(256, &[]);
    let most = |server: &Server| server.stats()["connections"]["max"].as_u64().unwrap();
    let room = most(&server);
    // The connection of each control request may stay open for a moment.
    let before = wait_for("a stable number of descriptors", || {
        let first = descriptors(&server);
        let stays = (0..10).all(|_| {
            thread::sleep(Duration::from_millis(30));
            descriptors(&server) == first
        });
        stays.then_some(first)
    });
    assert_eq!(order(&server, "/resize?max=18").0, 200);
    assert_eq!(
        most(&server),
        room - 2 * 10,
        "each of the ten new database connections must take two descriptors"
    );
    wait_for("two more open descriptors per new database connection", || {
        (descriptors(&server) == before + 2 * 10).then_some(())
    });
    let held: Vec<_> = (0..most(&server)).map(|_| TcpStream::connect(server.app).unwrap()).collect();
    server.wait_for_stats("maximum number of open connections", |stats| {
        stats["connections"]["open"] == held.len()
    });
    let (status, said) = order(&server, "/resize?max=19");
    let said = said.as_str().unwrap();
    assert!(status == 422 && said.contains(&format!("{} are open", held.len())), "{status} {said}");
    assert_eq!(most(&server), held.len() as u64, "a refused resize must not change the maximum");
    assert_eq!(json(server.control, "GET", "/lab").0, 200);
}

#[test]
fn a_reset_undoes_everything_that_orders_have_changed() {
    let server = Server::start(&["--max-stream-age", "30", "--update-rate", "100ms"]);
    let fresh = State::of(&server);
    for path in [
        "/resize?min=2&max=24",
        "/lab/threads?count=20",
        "/max-stream-age?secs=off",
        "/lab/tabs/open",
        "/lab/tabs/open?tab=7",
        "/lab/zombies?count=3",
        "/lab/page",
    ] {
        assert_eq!(order(&server, path).0, 200, "{path}");
    }
    // These streams keep database connections checked out while the pool shrinks.
    let held: Vec<_> = (0..10).map(|_| open_stream(server.app)).collect();
    server.wait_for_stats("ten busy database connections", |stats| {
        stats["database"]["busy"].as_u64() >= Some(10)
    });
    let restored = json!({ "min": 8, "max": 8, "max_stream_age_s": 30.0 });
    assert_eq!(order(&server, "/lab/reset"), (200, restored));
    drop(held);
    let wanted = |key: &str| fresh.stats[key].clone();
    let state = wait_for("a return to the initial state", || {
        let state = State::of(&server);
        let is_it = ["database", "running", "max_threads", "pool_capacity", "busy_threads", "backlog"]
            .iter()
            .all(|key| state.stats[*key] == wanted(key));
        is_it.then_some(state)
    });
    assert_eq!((state.lab, state.size), (fresh.lab, fresh.size));
    assert_eq!(state.stats["streams"]["open"], 0);
    // Growing and shrinking again opens no further descriptors, because SQLite reuses the ones that it has kept.
    let kept = descriptors(&server);
    for _ in 0..3 {
        assert_eq!(order(&server, "/resize?max=20").0, 200);
        assert_eq!(order(&server, "/lab/reset").0, 200);
    }
    wait_for("a return to the previous number of descriptors", || {
        (descriptors(&server) <= kept).then_some(())
    });
}

#[test]
fn a_server_whose_database_file_is_gone_refuses_to_grow_or_create_and_logs_the_reason_once() {
    let server = Server::start(&[]);
    assert_eq!(common::create(server.app, "kept").0, 201);
    let moved = server.folder.path().join("moved");
    fs::rename(server.database(), &moved).unwrap();
    let (status, said) = order(&server, "/resize?max=12");
    assert_eq!(
        (status, said.as_str().map(str::trim)),
        (422, Some("the database pool cannot grow: its file is gone"))
    );
    assert!(!server.database().exists(), "an empty database was created");
    for _ in 0..12 {
        assert_eq!(common::create(server.app, "lost").0, 500);
        assert_eq!(get(server.app, "/models.json").0, 200);
    }
    let log = server.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(lines.len() == 1 && lines[0].contains("was deleted, moved or replaced"), "{log}");
    fs::rename(&moved, server.database()).unwrap();
    assert_eq!(common::create(server.app, "kept again").0, 201);
    assert_eq!(order(&server, "/resize?max=12").0, 200);
}
