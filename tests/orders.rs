//! An order does everything that its answer says, or nothing. A reset restores what orders have changed.
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

/// The names of its threads, without those that the control server starts and ends with a request.
fn threads(server: &Server) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let mut names: Vec<_> = tasks.flatten().filter_map(name).collect();
    names.retain(|name| !name.starts_with("puma ctl tp 0"));
    names.sort();
    names
}

/// The state that an order could change, of a server that only the test uses.
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
        // Everything that an order opens temporarily is closed by then.
        let mut stats = server.wait_for_stats("a server at rest", |stats| stats["connections"]["open"] == 0);
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
fn an_order_that_is_refused_changes_nothing() {
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
    let before = wait_for("a state that stays", || {
        let (one, two) = (State::of(&server), State::of(&server));
        (one == two).then_some(two)
    });
    for path in refused {
        let (status, said) = order(&server, path);
        assert_eq!(status, 422, "{path}: {said}");
        assert!(said.as_str().is_some_and(|said| said.lines().count() == 1), "{path}: {said}");
        // The connection that brought the order may still be open for a moment.
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
    // The next orders have the same results as before.
    assert_eq!(order(&server, "/resize?max=10"), (200, json!({ "min": 8, "max": 10 })));
}

#[test]
fn a_resize_takes_its_descriptors_from_the_connections_of_clients() {
    let server = Server::with_descriptors(256, &[]);
    let most = |server: &Server| server.stats()["connections"]["max"].as_u64().unwrap();
    let room = most(&server);
    // The connection of each order or question may still be open for a moment.
    let before = wait_for("a number that stays", || {
        let first = descriptors(&server);
        let stays = (0..10).all(|_| {
            thread::sleep(Duration::from_millis(30));
            descriptors(&server) == first
        });
        stays.then_some(first)
    });
    assert_eq!(order(&server, "/resize?max=18").0, 200);
    assert_eq!(most(&server), room - 2 * 10, "two for each of ten connections more");
    wait_for("two more for each of them", || (descriptors(&server) == before + 2 * 10).then_some(()));
    let held: Vec<_> = (0..most(&server)).map(|_| TcpStream::connect(server.app).unwrap()).collect();
    server.wait_for_stats("as many as there may be", |stats| stats["connections"]["open"] == held.len());
    let (status, said) = order(&server, "/resize?max=19");
    let said = said.as_str().unwrap();
    assert!(status == 422 && said.contains(&format!("{} are open", held.len())), "{status} {said}");
    assert_eq!(most(&server), held.len() as u64, "nothing was changed");
    assert_eq!(json(server.control, "GET", "/lab").0, 200);
}

#[test]
fn a_reset_restores_all_that_orders_have_changed() {
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
    // These connections are checked out while the pool shrinks.
    let held: Vec<_> = (0..10).map(|_| open_stream(server.app)).collect();
    server
        .wait_for_stats("streams of tests and tabs", |stats| stats["database"]["busy"].as_u64() >= Some(10));
    let restored = json!({ "min": 8, "max": 8, "max_stream_age_s": 30.0 });
    assert_eq!(order(&server, "/lab/reset"), (200, restored));
    drop(held);
    let wanted = |key: &str| fresh.stats[key].clone();
    let state = wait_for("the state of the start", || {
        let state = State::of(&server);
        let is_it = ["database", "running", "max_threads", "pool_capacity", "busy_threads", "backlog"]
            .iter()
            .all(|key| state.stats[*key] == wanted(key));
        is_it.then_some(state)
    });
    assert_eq!((state.lab, state.size), (fresh.lab, fresh.size));
    assert_eq!(state.stats["streams"]["open"], 0);
    // Further growing and shrinking takes no descriptors: SQLite reuses those that it keeps.
    let kept = descriptors(&server);
    for _ in 0..3 {
        assert_eq!(order(&server, "/resize?max=20").0, 200);
        assert_eq!(order(&server, "/lab/reset").0, 200);
    }
    wait_for("no more descriptors", || (descriptors(&server) <= kept).then_some(()));
}

#[test]
fn a_server_whose_database_file_is_gone_neither_grows_nor_creates_and_says_so_once() {
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
