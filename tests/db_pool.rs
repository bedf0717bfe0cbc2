//! The database pool: five connections for eight threads. To its user, the sixth tab looks as if no thread were
//! idle.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::models::{STREAM, open_tab};
use crate::common::{PATIENCE, Server, get, json as ask_control, open_stream, read_to_end, read_until, send};
use serde_json::json;

on_each_engine! {
    the_sixth_tab_waits_for_a_connection_and_gets_an_empty_200,
    the_sixth_tab_reconnects_and_waits_until_another_tab_closes,
    with_a_lease_per_query_all_eight_tabs_stream,
    a_resize_after_a_reset_keeps_connections_that_are_checked_out,
}

const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(3);
const FIVE_CONNECTIONS: &str = "--db-pool 5 --db-checkout-timeout 3s --update-rate 100ms";

fn ask(server: &Server, path: &str) -> TcpStream {
    send(
        server.app,
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

fn the_sixth_tab_waits_for_a_connection_and_gets_an_empty_200(engine: EngineKind) {
    let server = engine.server_with(FIVE_CONNECTIONS);
    let tabs: Vec<_> = (0..5).map(|_| open_stream(server.app)).collect();
    let full = json!({ "size": 5, "busy": 5, "waiting": 0, "checkout_timeouts": 0 });
    assert_eq!(server.stats()["database"], full);

    let began = Instant::now();
    let mut sixth = ask(&server, STREAM);
    server.wait_for_stats("waiting tab", |stats| stats["database"]["waiting"] == 1);
    let mut page = ask(&server, "/");
    let full = json!({ "size": 5, "busy": 5, "waiting": 2, "checkout_timeouts": 0 });
    // The database pool is exhausted, but the thread pool is not.
    let stats = server.wait_for_stats("waiting for connections", |stats| stats["database"] == full);
    assert_eq!(
        (&stats["pool_capacity"], &stats["backlog"], &stats["running"]),
        (&1.into(), &0.into(), &8.into())
    );
    // A request that does not need the database is answered while the others wait.
    assert_eq!(get(server.app, "/up").0, 200);
    assert_eq!(server.stats()["database"], full);

    let answer = read_to_end(&mut sixth);
    assert!(began.elapsed() >= CHECKOUT_TIMEOUT, "{:?}", began.elapsed());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for header in ["content-type: text/event-stream", "cache-control: no-cache", "x-accel-buffering: no"] {
        assert!(head.lines().any(|line| line == header), "no {header:?} in {head}");
    }
    assert_eq!(body, "0\r\n\r\n");
    let answer = read_to_end(&mut page);
    assert!(answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nInternal Server Error\n"), "{answer}");

    let after = json!({ "size": 5, "busy": 5, "waiting": 0, "checkout_timeouts": 2 });
    let stats = server.wait_for_stats("end of the waits", |stats| stats["database"] == after);
    assert_eq!(stats["streams"]["open"], 5, "{stats}");
    assert!(server.log().contains("could not obtain a connection from the pool within 3.000 seconds"));

    drop(tabs);
    server.wait_for_stats("free pools", |stats| {
        stats["database"]["busy"] == 0 && stats["pool_capacity"] == 8 && stats["streams"]["open"] == 0
    });
    assert_eq!(get(server.app, "/").0, 200);
}

fn the_sixth_tab_reconnects_and_waits_until_another_tab_closes(engine: EngineKind) {
    let server = engine.server_with("--db-pool 5 --db-checkout-timeout 200ms --update-rate 50ms");
    let mut tabs: Vec<_> = (0..5).map(|_| open_stream(server.app)).collect();
    let sixth = open_tab(&server, "tab 6", "");
    let progress = sixth.wait_for(|tab| tab.connections >= 4, PATIENCE).expect("the sixth tab reconnects");
    assert_eq!((progress.events, progress.bytes, progress.failed), (0, 0, None));
    assert!(server.stats()["pool_capacity"].as_u64() >= Some(2));

    tabs.pop();
    sixth.wait_for(|tab| tab.events > 0, PATIENCE).expect("a connection is free");
}

fn with_a_lease_per_query_all_eight_tabs_stream(engine: EngineKind) {
    let server = engine.server_with(&format!("{FIVE_CONNECTIONS} --db-lease query"));
    let mut tabs: Vec<_> = (0..8).map(|_| open_stream(server.app)).collect();
    for tab in &mut tabs {
        read_until(tab, "data: []");
    }
    let stats = server.stats();
    assert_eq!((&stats["streams"]["open"], &stats["pool_capacity"]), (&8.into(), &0.into()));
    assert_eq!((&stats["database"]["size"], &stats["database"]["checkout_timeouts"]), (&5.into(), &0.into()));
}

fn a_resize_after_a_reset_keeps_connections_that_are_checked_out(engine: EngineKind) {
    let server = engine.server_with("--threads 2 --db-pool auto --update-rate 100ms");
    let order = |path: &str| assert_eq!(ask_control(server.control, "POST", path).0, 200, "{path}");
    order("/resize?max=8");
    let tabs: Vec<_> = (0..8).map(|_| open_stream(server.app)).collect();
    assert_eq!(server.stats()["database"]["busy"], 8);
    order("/lab/reset");
    order("/resize?max=8");
    drop(tabs);
    order("/reap");
    let free = json!({ "size": 8, "busy": 0, "waiting": 0, "checkout_timeouts": 0 });
    let stats = server.wait_for_stats("eight free connections", |stats| stats["database"] == free);
    assert_eq!(stats["max_threads"], 8);
}
