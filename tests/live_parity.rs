//! `--live rails` beside the real ActionController::Live: Debian's Rails on Debian's Puma, in the same situations.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::puma::Puma;
use crate::common::{Server, json, open_stream, program, read_until, send, threads_named, wait_for};
use serde_json::{Value, json as object};

/// The app, with ActionController::Live.
const APP: &str = include_str!("data/live_rails.ru");
const REQUESTS: u64 = 100;

/// Starts it on eight threads. `None`, after a message, if Rails or Puma is not installed; with `CI` set, that fails.
fn rails() -> Option<Puma> {
    let ruby = program("ruby")?;
    let has_rails = |ruby: &Path| {
        let required = ["-e", "require 'action_controller/railtie'"];
        Command::new(ruby).args(required).output().unwrap().status.success()
    };
    if !has_rails(&ruby) {
        assert!(std::env::var_os("CI").is_none(), "Rails is not installed, and CI is set");
        eprintln!("skipped: Rails is not installed (ruby-rails)");
        return None;
    }
    Puma::start(APP, &["-t", "8:8"])
}

fn state(app: SocketAddr) -> Value {
    json(app, "GET", "/state").1
}

/// `ab -n 100 -c 4`, as the article says. Returns whether all of them completed, and none failed.
fn ab(ab: &Path, url: &str) -> bool {
    let output = Command::new(ab).args(["-n", "100", "-c", "4", url]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line =
        |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned);
    (line("Complete requests:").as_deref(), line("Failed requests:").as_deref()) == (Some("100"), Some("0"))
}

#[test]
fn ab_leaves_an_action_per_request_and_an_idle_pool_in_both() {
    let (Some(rails), Some(program)) = (rails(), program("ab")) else { return };
    let before = state(rails.app());
    assert!(ab(&program, &format!("http://{}/loop", rails.app())), "ab on Rails");
    let orphaned = wait_for("orphans of Rails", || {
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
    assert!(ab(&program, &server.url("/models/live_stream")), "ab on ninetabs");
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

/// How many writes after the close of its client free the pool thread and end the action.
fn freed_by(rails: &Puma, tab: &str, leave: impl FnOnce(TcpStream)) -> (usize, usize) {
    let app = rails.app();
    let client = send(app, format!("GET /ordered?tab={tab} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let write = || json(app, "GET", &format!("/write?tab={tab}")).1["result"] == "written";
    let idle = state(app)["pool_capacity"].as_u64().unwrap();
    // Puma has taken the request, which is held until the commit.
    let held = wait_for("the stream", || {
        let capacity = state(app)["pool_capacity"].as_u64()?;
        (capacity < 8).then_some(capacity)
    });
    assert!(idle >= held && held == 7, "{idle}, {held}");
    assert!(write(), "the first one");
    leave(client);
    let mut pool_thread = 0;
    for number in 1..10 {
        let goes_on = write();
        // The pool thread fails within milliseconds, if it fails.
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

/// The tests of the server's crate have the same numbers: `tests/own_thread.rs`.
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
fn a_stream_is_two_threads_in_both() {
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
