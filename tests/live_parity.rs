//! Compares `--live rails` with the real ActionController::Live (Debian's Rails on Debian's Puma) in the same
//! situations.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::puma::Puma;
use crate::common::{Server, get, json, open_stream, program, read_until, send, threads_named, wait_for};
use serde_json::{Value, json as object};

/// A Rails app that uses ActionController::Live.
const APP: &str = include_str!("data/live_rails.ru");
/// A Rails app whose actions query the database.
const DATABASE_APP: &str = include_str!("data/live_rails_database.ru");
const REQUESTS: u64 = 100;
/// The size of both database pools.
const CONNECTIONS: u64 = 5;

/// Starts [`APP`] on eight threads. If Rails or Puma is not installed, prints a message and returns `None`. With
/// `CI` set, the test fails instead.
fn rails() -> Option<Puma> {
    rails_with(APP, "require 'action_controller/railtie'", "ruby-rails")
}

/// Starts a Rails app that needs the libraries that these lines of Ruby load. The libraries are in these Debian
/// packages.
fn rails_with(app: &str, needs: &str, packages: &str) -> Option<Puma> {
    let ruby = program("ruby")?;
    if !Command::new(ruby).args(["-e", needs]).output().unwrap().status.success() {
        assert!(std::env::var_os("CI").is_none(), "{packages}: not installed, and CI is set");
        eprintln!("skipped: Rails is not installed ({packages})");
        return None;
    }
    Puma::start(app, &["-t", "8:8"])
}

fn state(app: SocketAddr) -> Value {
    json(app, "GET", "/state").1
}

/// Runs `ab -n 100 -c 4`, as in the article. Returns how many requests completed, and how many of these `ab` counts
/// as failed because their answer is longer or shorter than the first.
fn ab(ab: &Path, url: &str) -> (u64, u64) {
    let output = Command::new(ab).args(["-n", "100", "-c", "4", url]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |name: &str| -> Option<u64> {
        said.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
    };
    let (Some(completed), Some(failed)) = (number("Complete requests:"), number("Failed requests:")) else {
        panic!("ab: {output:?}")
    };
    // `ab` prints the causes of failures, and the number of answers other than 2xx, only if there are any.
    let by_length = format!("Length: {failed}, Exceptions: 0)");
    assert!(failed == 0 || said.contains(&by_length), "{said}");
    assert!(!said.contains("Non-2xx"), "{said}");
    (completed, failed)
}

/// Asserts that all requests were answered, and that the answers of actions without a database connection were
/// empty. `ab` compares each answer with the first one, which is not empty. On a slow machine, other answers of
/// actions with a connection may differ in length as well.
fn assert_empty((completed, other): (u64, u64), what: &str) {
    assert_eq!(completed, REQUESTS, "{what}");
    assert!((REQUESTS - CONNECTIONS..REQUESTS).contains(&other), "{what}: {other}");
}

#[test]
fn ab_leaves_an_action_per_request_and_an_idle_pool_in_both() {
    let (Some(rails), Some(program)) = (rails(), program("ab")) else { return };
    let before = state(rails.app());
    // On a slow machine, an answer may have two writes instead of one.
    assert_eq!(ab(&program, &format!("http://{}/loop", rails.app())).0, REQUESTS, "ab on Rails");
    let orphaned = wait_for("orphaned actions of Rails", || {
        let state = state(rails.app());
        (state["running"] == REQUESTS && state["pool_capacity"] == 8).then_some(state)
    });
    let grown = orphaned["threads"].as_u64().unwrap() - before["threads"].as_u64().unwrap();
    assert!((REQUESTS..REQUESTS + 4).contains(&grown), "{before}, {orphaned}");
    assert_eq!(orphaned["backlog"], 0);
    let writes = orphaned["writes"].as_u64().unwrap();
    wait_for("writes without a client", || {
        (state(rails.app())["writes"].as_u64()? > writes + 3 * REQUESTS).then_some(())
    });
    assert_eq!(state(rails.app())["running"], REQUESTS);

    let server = Server::start(&[
        "--live",
        "rails",
        "--update-rate",
        "200ms",
        "--loop",
        "faithful",
        "--db-lease",
        "query",
    ]);
    let pid = server.child.id();
    assert_eq!(ab(&program, &server.url("/models/live_stream")).0, REQUESTS, "ab on ninetabs");
    let stats = server.wait_for_stats("orphans", |stats| {
        stats["live_threads"] == object!({ "running": REQUESTS, "attached": 0, "orphaned": REQUESTS })
            && stats["pool_capacity"] == 8
    });
    assert_eq!(stats["backlog"], 0);
    assert_eq!(threads_named(pid, "action_controll") as u64, REQUESTS);
    let writes = || -> u64 {
        let threads = json(server.control, "GET", "/threads").1;
        threads.as_array().unwrap().iter().filter_map(|thread| thread["writes"].as_u64()).sum()
    };
    let before = writes();
    wait_for("writes without a client", || (writes() > before + 3 * REQUESTS).then_some(()));
    assert_eq!(server.stats()["live_threads"]["orphaned"], REQUESTS);
}

/// As in Rails up to 7.1, an action keeps the database connection of its first query until the action ends.
#[test]
fn ab_exhausts_the_database_pool_and_leaves_an_idle_pool_of_threads_in_both() {
    let needs = "require 'action_controller/railtie'; require 'active_record/railtie'; require 'sqlite3'";
    let rails = rails_with(DATABASE_APP, needs, "ruby-rails, ruby-sqlite3");
    let (Some(rails), Some(program)) = (rails, program("ab")) else { return };
    let app = rails.app();
    assert_empty(ab(&program, &format!("http://{app}/loop")), "ab on Rails");
    let exhausted = wait_for("orphaned actions of Rails that hold a database connection", || {
        let state = state(app);
        (state["running"] == CONNECTIONS && state["pool_capacity"] == 8).then_some(state)
    });
    let number = |name: &str| exhausted[name].as_u64();
    assert_eq!(number("backlog"), Some(0), "{exhausted}");
    assert_eq!((number("size"), number("busy")), (Some(CONNECTIONS), Some(CONNECTIONS)), "{exhausted}");
    assert_eq!((get(app, "/page").0, get(app, "/state").0), (500, 200), "Rails");

    let server = Server::start_with(
        "--live rails --update-rate 200ms --loop faithful --db-lease action --db-pool 5 --db-checkout-timeout 300ms",
    );
    assert_empty(ab(&program, &server.url("/models/live_stream")), "ab on ninetabs");
    let stats = server.wait_for_stats("orphans with a connection", |stats| {
        stats["live_threads"] == object!({ "running": CONNECTIONS, "attached": 0, "orphaned": CONNECTIONS })
            && stats["pool_capacity"] == 8
    });
    assert_eq!(stats["backlog"], 0);
    let others = REQUESTS - CONNECTIONS;
    let database =
        object!({ "size": CONNECTIONS, "busy": CONNECTIONS, "waiting": 0, "checkout_timeouts": others });
    assert_eq!(stats["database"], database);
    assert_eq!((get(server.app, "/").0, get(server.app, "/up").0), (500, 200), "ninetabs");
}

/// Counts the writes after the client's close. Returns the number of the write that frees the pool thread, and of
/// the one that ends the action.
fn freed_by(rails: &Puma, tab: &str, leave: impl FnOnce(TcpStream)) -> (usize, usize) {
    let app = rails.app();
    let client = send(app, format!("GET /ordered?tab={tab} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let write = || json(app, "GET", &format!("/write?tab={tab}")).1["result"] == "written";
    // Puma has taken the request, and holds it until the commit. The thread of the previous request may take a
    // moment.
    wait_for("the stream", || (state(app)["pool_capacity"] == 7).then_some(()));
    assert!(write(), "the first write");
    leave(client);
    let mut pool_thread = 0;
    for number in 1..10 {
        let goes_on = write();
        // If the pool thread fails, it does so within milliseconds.
        std::thread::sleep(Duration::from_millis(500));
        if pool_thread == 0 && state(app)["pool_capacity"] == 8 {
            pool_thread = number;
        }
        if !goes_on {
            return (pool_thread, number);
        }
    }
    panic!("no write of {tab} failed");
}

/// The tests of the server's crate expect the same numbers (`tests/own_thread.rs`).
#[test]
fn rails_frees_the_pool_thread_at_the_second_write_and_the_action_at_the_third() {
    let Some(rails) = rails() else { return };
    let closes = |mut client: TcpStream| {
        read_until(&mut client, "data: x\n\n");
    };
    assert_eq!(freed_by(&rails, "closes", closes), (2, 3), "a client that has read everything");
    let resets = |client: TcpStream| {
        wait_for("unread bytes", || (client.peek(&mut [0; 64]).unwrap() > 0).then_some(()));
    };
    assert_eq!(freed_by(&rails, "resets", resets), (1, 2), "a client with unread bytes");
}

#[test]
fn a_stream_holds_two_threads_in_both() {
    let Some(rails) = rails() else { return };
    let before = state(rails.app())["threads"].as_u64().unwrap();
    let ask = |_| {
        let mut client = send(rails.app(), b"GET /loop HTTP/1.1\r\nHost: localhost\r\n\r\n");
        read_until(&mut client, "data: ");
        client
    };
    let _streams: Vec<TcpStream> = (0..3).map(ask).collect();
    let now = state(rails.app());
    assert_eq!((now["threads"].as_u64(), &now["pool_capacity"]), (Some(before + 3), &object!(5)), "{now}");

    let server = Server::start(&["--live", "rails"]);
    let _streams: Vec<TcpStream> = (0..3).map(|_| open_stream(server.app)).collect();
    assert_eq!(threads_named(server.child.id(), "action_controll"), 3);
    assert_eq!(server.stats()["pool_capacity"], 5);
}
