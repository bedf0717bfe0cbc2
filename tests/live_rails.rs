//! `serve --live rails`: an action has its own thread, as in ActionController::Live. The rules themselves are
//! tested in the server's crate (`tests/own_thread.rs`). These tests check what a user sees.

use std::net::TcpStream;

use crate::common::chromedriver::Browser;
use crate::common::{
    FRONTS, Server, ask, call, get, json, open_stream, read_to_end, send, threads_named, wait_for,
};
use serde_json::{Value, json as object};

const STREAM: &str = "GET /models/live_stream?tab=ab HTTP/1.0\r\nHost: localhost\r\n\r\n";

fn rails(front: &str, more: &[&str]) -> Server {
    Server::on(front, &[&["--live", "rails", "--update-rate", "200ms"], more].concat())
}

fn action_threads(server: &Server) -> Vec<Value> {
    let threads = json(server.control, "GET", "/threads").1;
    threads.as_array().unwrap().iter().filter(|thread| thread["kind"] == "action").cloned().collect()
}

#[test]
fn a_stream_holds_two_threads_and_both_are_listed() {
    for front in FRONTS {
        let server = rails(front, &["--threads", "3:3"]);
        let _streams: Vec<TcpStream> = (0..3).map(|_| open_stream(server.app)).collect();
        let stats = server.wait_for_stats("three streams", |stats| stats["busy_threads"] == 3);
        assert_eq!(stats["live_threads"], object!({ "running": 3, "attached": 3, "orphaned": 0 }), "{front}");
        assert_eq!(threads_named(server.child.id(), "action_controll"), 3, "{front}");
        let actions = action_threads(&server);
        assert_eq!(actions.len(), 3, "{front}: {actions:?}");
        let all = json(server.control, "GET", "/threads").1;
        for action in &actions {
            assert_eq!(action["state"], "attached", "{front}");
            let name = action["name"].as_str().unwrap();
            assert!(name.starts_with("action_controller.live-worker-"), "{name}");
            let pool = all
                .as_array()
                .unwrap()
                .iter()
                .find(|it| it["kind"].is_null() && it["number"] == action["pool_thread"]);
            assert_eq!(pool.unwrap()["request"], action["request"], "{front}");
        }
        let (_, backtraces) = get(server.control, "/thread-backtraces");
        assert!(backtraces.contains("running the action of /models/live_stream"), "{backtraces}");
    }
}

#[test]
fn an_http_1_0_client_leaves_an_orphaned_action_that_only_the_reaper_ends() {
    for front in FRONTS {
        let server = rails(front, &["--threads", "2:2", "--db-lease", "query"]);
        for _ in 0..20 {
            let answer = ask(server.app, STREAM);
            assert!(answer.starts_with("HTTP/1.0 200 ") && answer.contains("\ndata: ["), "{front}: {answer}");
        }
        let idle = |stats: &Value| stats["busy_threads"] == 0 && stats["live_threads"]["orphaned"] == 20;
        let stats = server.wait_for_stats("20 orphans and an idle pool", idle);
        assert_eq!((&stats["pool_capacity"], &stats["backlog"]), (&object!(2), &object!(0)), "{front}");
        assert_eq!(get(server.app, "/up").0, 200);
        let queries = stats["queries"].as_u64().unwrap();
        server.wait_for_stats("queries without a client", |it| it["queries"].as_u64() > Some(queries + 60));
        let actions = action_threads(&server);
        assert!(
            actions.iter().all(|it| it["state"] == "orphaned" && it["pool_thread"].is_null()),
            "{actions:?}"
        );
        assert!(actions.iter().all(|it| it["writes"].as_u64() > Some(1)), "{actions:?}");
        assert_eq!(json(server.control, "POST", "/reap").1["reaped"], 20, "{front}");
        server.wait_for_stats("no orphans", |stats| stats["live_threads"]["running"] == 0);
        assert_eq!(action_threads(&server).iter().filter(|it| it["state"] != "waiting").count(), 0);
    }
}

#[test]
fn orphaned_actions_that_keep_database_connections_make_pages_of_an_idle_pool_fail() {
    let flags = ["--db-pool", "2", "--db-checkout-timeout", "300ms", "--db-lease", "action"];
    let server = rails("puma", &flags);
    for request in 0..4 {
        let answer = ask(server.app, STREAM);
        // Actions without a database connection fail before their first write, and the answer is an empty 200.
        assert_eq!(answer.contains("\ndata: ["), request < 2, "{answer}");
    }
    server.wait_for_stats("two orphans", |stats| {
        stats["live_threads"] == object!({ "running": 2, "attached": 0, "orphaned": 2 })
            && stats["pool_capacity"] == 8
    });
    assert_eq!((get(server.app, "/").0, get(server.app, "/up").0), (500, 200));
    assert_eq!(call(server.control, "POST", "/max-stream-age?secs=0.1").0, 200);
    server.wait_for_stats("no orphans", |stats| stats["live_threads"]["running"] == 0);
    assert_eq!(get(server.app, "/").0, 200);
}

#[test]
fn the_action_ends_with_the_stream_of_a_closed_tab_and_a_stop_ends_orphans() {
    let mut server = rails("puma", &[]);
    drop(open_stream(server.app));
    server.wait_for_stats("the end of both threads", |stats| {
        stats["live_threads"]["running"] == 0
            && stats["busy_threads"] == 0
            && stats["streams"]["disconnected"] == 1
    });
    ask(server.app, STREAM);
    server.wait_for_stats("an orphan", |stats| stats["live_threads"]["orphaned"] == 1);
    assert!(server.log().contains("action on action_controller.live-worker-1"), "{}", server.log());
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait_for_exit().success());
}

#[test]
fn the_record_has_the_four_events_of_an_action() {
    let server = rails("puma", &[]);
    ask(server.app, STREAM);
    server.wait_for_stats("an orphan", |stats| stats["live_threads"]["orphaned"] == 1);
    json(server.control, "POST", "/reap");
    server.wait_for_stats("the end of the action", |stats| stats["live_threads"]["running"] == 0);
    let timeline = json(server.control, "GET", "/timeline").1;
    let of_actions: Vec<&Value> =
        timeline["moments"].as_array().unwrap().iter().filter(|it| it["worker"] == 1).collect();
    let kinds: Vec<_> = of_actions.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["action_began", "action_committed", "action_orphaned", "action_ended"]);
    assert!(of_actions.iter().all(|it| it["request"] == 1 && it["thread"].is_null()));
    assert_eq!(of_actions[0]["target"], "/models/live_stream?tab=ab");
}

#[test]
fn top_draws_orphaned_actions_below_the_pool() {
    let server = rails("puma", &["--threads", "2:2"]);
    ask(server.app, STREAM);
    server.wait_for_stats("an orphan", |stats| stats["live_threads"]["orphaned"] == 1);
    let mut top = std::process::Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    top.args(["top", "--once", "--control-url", &format!("tcp://{}", server.control)]);
    let screen = wait_for("the lane of the action", || {
        let screen = String::from_utf8(top.output().unwrap().stdout).unwrap();
        screen.contains("act 001").then_some(screen)
    });
    let line = |label: &str| {
        screen.lines().position(|line| line.starts_with(label)).unwrap_or_else(|| panic!("{screen}"))
    };
    assert!(line("tp 002") < line("act 001") && line("act 001") < line("queue"), "{screen}");
    assert!(screen.contains("0 of 2 threads held") && screen.contains("orphaned"), "{screen}");
}

#[test]
fn the_model_with_one_thread_shows_no_action_threads() {
    let server = Server::start(&["--live", "pool"]);
    let mut client = send(server.app, STREAM.as_bytes());
    server.wait_for_stats("a stream", |stats| stats["streams"]["open"] == 1);
    assert!(server.stats()["live_threads"].is_null());
    assert!(action_threads(&server).is_empty());
    assert!(!get(server.control, "/timeline").1.contains("action_"));
    json(server.control, "POST", "/reap");
    read_to_end(&mut client);
}

#[test]
fn an_action_cannot_poll_for_the_close_of_its_client() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    let output = command.args(["serve", "--live", "rails", "--notice-close", "poll"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--notice-close poll: not supported by --live rails"), "{said}");
}

#[test]
fn dashboard_and_wall_draw_orphaned_actions_below_the_pool() {
    let Some(browser) = Browser::start() else { return };
    let server = rails("puma", &["--threads", "2:2", "--db-lease", "query"]);
    let tab = browser.first_tab();
    for path in ["/", "/wall?start=no"] {
        for _ in 0..10 {
            ask(server.app, STREAM);
        }
        browser.goto(&tab, &format!("http://{}{path}", server.control));
        let orphaned = "document.querySelectorAll('[data-action][data-state=\"orphaned\"]').length";
        browser.wait_for(&tab, &format!("{orphaned} === 8"));
        let more = "document.querySelector('.actions .more').textContent";
        browser.wait_for(&tab, &format!("{more} === 'and 2 more actions, 2 orphaned'"));
        let is_below = "document.getElementById('lanes').nextElementSibling.classList.contains('actions')";
        assert_eq!(browser.eval(&tab, is_below), true, "{path}");
        let label = browser.eval(&tab, "document.querySelector('[data-action=\"1\"]').lastChild.ariaLabel");
        assert_eq!(label, "action 1 orphaned: ab", "{path}");
        // The lanes of the pool show that its threads are idle.
        browser.wait_for(&tab, "document.querySelectorAll('[data-lane][data-state=\"idle\"]').length === 2");
        assert_eq!(browser.console(&tab), [""; 0], "{path}");
        assert_eq!(json(server.control, "POST", "/reap").1["reaped"], 10, "{path}");
        browser.wait_for(&tab, &format!("{orphaned} === 0"));
    }
}
