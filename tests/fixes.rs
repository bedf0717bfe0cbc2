//! The fixes: each has a page, works on either front door as its page describes, and loses no model.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::axe::Axe;
use crate::common::chromedriver::Browser;
use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::models::{assert_gapless, ids, open_tab};
use crate::common::{
    FRONTS, PATIENCE, Server, ask, call, create, get, open_stream, read_until, send, split, wait_for,
};
use ninetabs::lab::event_stream::Parser;
use serde_json::json;

on_each_engine! {
    a_poll_gets_each_model_once_however_many_there_are,
    on_the_third_rung_nine_tabs_cost_one_query_per_change,
    concurrent_polls_share_one_query,
    concurrent_polls_wait_once_for_a_database_that_does_not_answer,
    a_row_that_another_program_writes_is_found,
    a_short_stream_ends_with_a_retry_and_loses_no_model,
}

pub const NAMES: [&str; 13] = [
    "reaper",
    "more-threads",
    "cap",
    "io-threads",
    "other-server",
    "leave",
    "short-stream",
    "shared-worker",
    "push",
    "partials",
    "cable",
    "poll",
    "long-poll",
];
const RUNGS: [&str; 3] = ["naive", "etag", "shared"];

/// How many pixels the page extends beyond its right edge.
const OVERFLOW: &str = "document.documentElement.scrollWidth - document.documentElement.clientWidth";

fn queries(server: &Server) -> u64 {
    server.stats()["queries"].as_u64().unwrap()
}

/// Polls for the models after this one, with the client's tag. Returns status, tag and body.
fn poll(app: SocketAddr, rung: &str, since: i64, tag: &str) -> (u16, String, String) {
    let answer = ask(
        app,
        &format!(
            "GET /fixes/poll/models.json?rung={rung}&since={since} HTTP/1.0\r\nIf-None-Match: {tag}\r\n\r\n"
        ),
    );
    let tag = answer.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap_or_default().to_owned();
    let (status, body) = split(&answer);
    (status, tag, body)
}

/// Polls until there are no more models. Returns their ids, and the last tag.
fn poll_all(app: SocketAddr, rung: &str, since: i64) -> (Vec<i64>, String) {
    let (mut all, mut has) = (Vec::new(), String::new());
    loop {
        let (status, tag, body) = poll(app, rung, all.last().copied().unwrap_or(since), &has);
        if status == 304 {
            assert_eq!(body, "", "{rung}");
            return (all, has);
        }
        assert_eq!(status, 200, "{rung}: {body}");
        let new = ids(&body);
        if new.is_empty() {
            return (all, tag);
        }
        all.extend(new);
        has = tag;
    }
}

#[test]
fn each_fix_has_a_page_and_an_entry_in_the_list() {
    for front in FRONTS {
        let server = Server::on(front, &[]);
        let (status, list) = get(server.app, "/fixes");
        assert_eq!(status, 200);
        for name in NAMES {
            assert!(list.contains(&format!("href=\"/fixes/{name}\"")), "{name}: {list}");
            let (status, page) = get(server.app, &format!("/fixes/{name}"));
            assert_eq!(status, 200, "{name}");
            for part in ["At work", "What it costs", "What it models", "In Rails"] {
                assert!(page.contains(part), "{name}: no {part}");
            }
            assert_eq!(get(server.app, &format!("/fixes/{name}/nothing")).0, 404);
        }
        for nothing in ["/fixes/", "/fixes/none", "/fixesx", "/fixes/poll/models.json/x"] {
            assert_eq!(get(server.app, nothing).0, 404, "{nothing}");
        }
        let elsewhere =
            ask(server.app, "GET /fixes HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n");
        assert_eq!(split(&elsewhere).0, 403);
        assert_eq!(call(server.app, "POST", "/fixes/poll").0, 404);
        assert_eq!(get(server.app, "/fixes/poll/models.json?rung=x").0, 422);
        assert_eq!(get(server.app, "/").0, 200);
    }
}

fn a_poll_gets_each_model_once_however_many_there_are(engine: EngineKind) {
    for &front in engine.fronts() {
        let server = engine.server_on(front, &["--keep-models", "100000"]);
        for rung in RUNGS {
            assert_eq!(poll_all(server.app, rung, 0).0, [0; 0], "{rung}: there are no models");
        }
        // These are more models than fit into one answer, and more than the shared answer keeps.
        for n in 1..=260 {
            assert_eq!(create(server.app, &format!("model {n}")).0, 201);
        }
        for rung in RUNGS {
            let (all, _) = poll_all(server.app, rung, 0);
            assert_eq!(all.len(), 260, "{rung}");
            assert_gapless(&all, 1, rung);
            assert_eq!(poll_all(server.app, rung, 258).0, [259, 260], "{rung}");
        }
    }
}

fn on_the_third_rung_nine_tabs_cost_one_query_per_change(engine: EngineKind) {
    for &front in engine.fronts() {
        let server = engine.server_on(front, &[]);
        for (rung, unchanged, changed) in [("naive", 9, 9), ("etag", 9, 18), ("shared", 0, 1)] {
            assert_eq!(create(server.app, "one").0, 201);
            let (_, tag) = poll_all(server.app, rung, 0);
            let nine = |status: u16| {
                let before = queries(&server);
                for _ in 0..9 {
                    assert_eq!(poll(server.app, rung, 0, &tag).0, status, "{rung}");
                }
                queries(&server) - before
            };
            assert_eq!(nine(if rung == "naive" { 200 } else { 304 }), unchanged, "{rung}");
            assert_eq!(create(server.app, "another").0, 201);
            assert_eq!(nine(200), changed, "{rung}");
        }
    }
}

fn concurrent_polls_share_one_query(engine: EngineKind) {
    let server = engine.server(&["--threads", "16:16"]);
    for round in 1..=20 {
        assert_eq!(create(server.app, "one").0, 201);
        let before = queries(&server);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let (status, _, body) = poll(server.app, "shared", round - 1, "");
                    assert_eq!((status, ids(&body)), (200, vec![round]));
                });
            }
        });
        assert_eq!(queries(&server) - before, 1);
    }
}

fn concurrent_polls_wait_once_for_a_database_that_does_not_answer(engine: EngineKind) {
    let server = engine.server(&["--db-pool", "1", "--db-checkout-timeout", "5"]);
    assert_eq!(create(server.app, "one").0, 201);
    assert_eq!(poll_all(server.app, "shared", 0).0, [1]);
    // A stream holds the only database connection, and another program writes a model.
    let stream = open_stream(server.app);
    server.other_program().insert(1, "theirs");
    let answers: Vec<_> = wait_for("polls that notice the write", || {
        let polls: Vec<_> = thread::scope(|scope| {
            let all: Vec<_> = (0..6).map(|_| scope.spawn(|| poll(server.app, "shared", 0, ""))).collect();
            all.into_iter().map(|it| it.join().unwrap()).collect()
        });
        polls.iter().any(|(status, ..)| *status == 500).then_some(polls)
    });
    let in_vain = answers.iter().filter(|(status, ..)| *status == 500).count();
    assert_eq!(server.stats()["database"]["checkout_timeouts"], in_vain);
    // Polls that waited for the failed query get the previous answer.
    assert!(in_vain < 6, "all six polls waited for the database");
    assert!(answers.iter().all(|(status, _, body)| *status == 500 || ids(body) == [1]), "{answers:?}");
    drop(stream);
    wait_for("the model of the other program", || {
        (poll(server.app, "shared", 1, "").2.contains("theirs")).then_some(())
    });
}

fn a_row_that_another_program_writes_is_found(engine: EngineKind) {
    for &front in engine.fronts() {
        let server = engine.server_on(front, &[]);
        assert_eq!(create(server.app, "ours").0, 201);
        let (_, tag) = poll_all(server.app, "shared", 0);
        server.other_program().insert(1, "theirs");
        wait_for("the model of the other program", || {
            let (status, _, body) = poll(server.app, "shared", 1, &tag);
            (status == 200).then(|| assert_eq!(ids(&body), [2]))
        });
    }
}

#[test]
fn beyond_the_cap_a_stream_is_refused_immediately_and_accepted_after_one_ends() {
    for front in FRONTS {
        let flags = ["--stream-cap", "2", "--threads", "3:3", "--update-rate", "100ms", "--retry", "200ms"];
        let server = Server::on(front, &flags);
        let mut two: Vec<_> = (0..2).map(|_| open_stream(server.app)).collect();
        for path in ["/models/live_stream", "/fixes/cap/stream", "/fixes/short-stream/stream"] {
            let answer = ask(server.app, &format!("GET {path} HTTP/1.0\r\n\r\n"));
            let (status, body) = split(&answer);
            let retry = if path.contains("short") { 100 } else { 200 };
            let told = format!(": the limit on open streams has been reached\nretry: {retry}\n\n");
            assert_eq!((status, body), (200, told), "{front}, {path}");
        }
        let blunt = ask(server.app, "GET /fixes/cap/stream?full=503 HTTP/1.0\r\n\r\n");
        assert!(blunt.starts_with("HTTP/1.0 503 ") && blunt.contains("retry-after: 1\r\n"), "{blunt}");
        assert_eq!(get(server.app, "/").0, 200, "a thread remains for pages");
        let stats = server.stats();
        assert_eq!(
            (&stats["streams"]["open"], &stats["streams"]["refused"]),
            (&2.into(), &3.into()),
            "{stats}"
        );

        let late = open_tab(&server, "late", "");
        late.wait_for(|tab| tab.connections >= 2, PATIENCE).expect("the refused tab reconnects");
        assert_eq!(late.progress().events, 0);
        two.pop();
        late.wait_for(|tab| tab.events > 0, PATIENCE).expect("the cap allows one more");
    }
}

#[test]
fn a_fix_that_needs_flags_is_on_if_the_server_was_started_with_them() {
    let plain = Server::start(&[]);
    for (name, flags, words) in [
        ("reaper", &[][..], "the maximum age is 5"),
        ("reaper", &["--max-stream-age", "7"], "the maximum age is 7"),
        ("more-threads", &[], "there are 64 threads"),
        ("io-threads", &[], "5 threads may be marked beside the pool of 8"),
        ("cap", &[], "allows 6 streams"),
        ("other-server", &[], "their streams from <code>http:&#x2f;&#x2f;127.0.0.1:9294<"),
        (
            "other-server",
            &["--streams-at", "http://localhost:1"],
            "their streams from <code>http:&#x2f;&#x2f;localhost:1<",
        ),
    ] {
        let server = Server::start(&[&["--fix", name], flags].concat());
        let page = |server: &Server| get(server.app, &format!("/fixes/{name}")).1;
        assert!(page(&server).contains(words), "{name}: {}", page(&server));
        assert!(page(&plain).contains(&format!("ninetabs serve --fix {name}")), "{name}: {}", page(&plain));
        if name == "more-threads" {
            let stats = server.stats();
            assert_eq!((&stats["max_threads"], &stats["database"]["size"]), (&64.into(), &8.into()));
            let streams: Vec<_> = (0..20).map(|_| open_stream(server.app)).collect();
            assert_eq!(server.stats()["streams"]["open"], streams.len());
        }
    }
}

#[test]
fn the_page_of_the_reaper_shows_its_stream_end_and_reconnect() {
    let Some(browser) = Browser::start() else { return };
    let flags =
        ["--max-stream-age", "1", "--retry", "200ms", "--update-rate", "200ms", "--reap-every", "200ms"];
    let server = Server::start(&flags);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes/reaper"));
    browser.wait_for(&tab, "Number(document.getElementById('asked').textContent) >= 3");
    assert_eq!(create(server.app, "seen").0, 201);
    browser.wait_for(&tab, "document.getElementById('models').textContent.includes('seen')");
    browser.wait_for(&tab, "document.getElementById('page').textContent.endsWith(' ms')");
}

#[test]
fn the_page_of_the_cap_shows_how_an_eventsource_reacts_to_each_refusal() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--stream-cap", "1", "--update-rate", "200ms", "--retry", "500ms"]);
    let only = open_stream(server.app);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes/cap"));
    let says = |id: &str, words: &str| format!("document.getElementById('{id}').textContent === '{words}'");
    browser.wait_for(&tab, &says("blunt", "refused; gave up"));
    browser.wait_for(&tab, "Number(document.getElementById('asked').textContent) >= 3");
    drop(only);
    browser.wait_for(&tab, &says("polite", "streams"));
    assert_eq!(browser.eval(&tab, &says("blunt", "refused; gave up")), true);
}

fn a_short_stream_ends_with_a_retry_and_loses_no_model(engine: EngineKind) {
    for &front in engine.fronts() {
        let server = engine.server_on(front, &["--keep-models", "100000"]);
        let visit = |last_event_id: &str| {
            let answer = ask(
                server.app,
                &format!("GET /fixes/short-stream/stream HTTP/1.0\r\nLast-Event-ID: {last_event_id}\r\n\r\n"),
            );
            let (status, body) = split(&answer);
            assert!(status == 200 && answer.contains("content-type: text/event-stream\r\n"), "{answer}");
            assert!(body.contains("retry: 2000\n") && body.ends_with("\n\n"), "{body:?}");
            let mut parser = Parser::default();
            let mut models = Vec::new();
            parser.feed(body.as_bytes(), |event| models.extend(ids(&event.data))).unwrap();
            (models, parser.last_event_id().to_owned())
        };
        // A new client gets its position, but no models.
        assert_eq!(visit(""), (vec![], "0".to_owned()));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=150 {
                    assert_eq!(create(server.app, &format!("model {n}")).0, 201);
                }
                done.store(true, Ordering::Release);
            });
            let (mut all, mut last) = (Vec::new(), "0".to_owned());
            let mut visits = 0;
            loop {
                let is_last = done.load(Ordering::Acquire);
                let (models, id) = visit(&last);
                all.extend(models);
                last = id;
                visits += 1;
                if is_last {
                    break;
                }
            }
            assert_eq!(all.len(), 150, "in {visits} visits");
            assert_gapless(&all, 1, front);
        });
        // One connection delivers more than one batch.
        assert_eq!(visit("0").0.len(), 150);
        server.wait_for_stats("free threads", |stats| {
            stats["pool_capacity"] == 8 && stats["streams"]["open"] == 0
        });
    }
}

#[test]
fn the_tabs_of_a_browser_share_one_stream_in_a_worker() {
    let Some(browser) = Browser::start() else { return };
    let home = browser.first_tab();
    for front in FRONTS {
        let server = Server::on(front, &["--update-rate", "200ms"]);
        let url = server.url("/fixes/shared-worker");
        let shows = |text: &str| format!("document.getElementById('models').textContent.includes('{text}')");
        let count = |tabs: usize| format!("document.getElementById('tabs').textContent === '{tabs}'");
        let first = browser.new_tab();
        browser.goto(&first, &url);
        browser.wait_for(&first, "document.getElementById('streams').textContent === '1'");
        assert_eq!(create(server.app, "early").0, 201);
        browser.wait_for(&first, &shows("early"));
        let others = [browser.new_tab(), browser.new_tab()];
        for tab in &others {
            browser.goto(tab, &url);
            browser.wait_for(tab, &shows("early"));
        }
        browser.wait_for(&first, &count(3));
        assert_eq!(create(server.app, "late").0, 201);
        for tab in [&first, &others[0], &others[1]] {
            browser.wait_for(tab, &shows("late"));
        }
        let stats = server.stats();
        assert_eq!(
            (&stats["streams"]["opened"], &stats["streams"]["open"]),
            (&1.into(), &1.into()),
            "{front}"
        );
        // Closing a tab does not end the stream that it shares with the others. Closing the last tab does.
        for tab in others {
            browser.close_tab(tab);
        }
        browser.wait_for(&first, &count(1));
        assert_eq!(create(server.app, "later").0, 201);
        browser.wait_for(&first, &shows("later"));
        assert_eq!(server.stats()["streams"]["opened"], 1, "{front}");
        browser.close_tab(first);
        browser.goto(&home, "about:blank");
        server.wait_for_stats("the end of the stream", |stats| stats["streams"]["open"] == 0);
    }
}

#[test]
fn each_page_shows_its_fix_at_work_and_is_accessible() {
    let Some(browser) = Browser::start() else { return };
    let Some(axe) = Axe::fetch() else { return };
    let server = Server::start(&[]);
    let tab = browser.first_tab();
    for (name, begun) in [
        ("short-stream", "Number(document.getElementById('connections').textContent) >= 1"),
        ("push", "document.getElementById('stream-state').textContent === 'streams'"),
        ("partials", "document.getElementById('stream-state').textContent === 'streams'"),
        ("cable", "document.getElementById('stream-state').textContent === 'subscribed'"),
        ("long-poll", "Number(document.getElementById('requests').textContent) >= 1"),
        ("poll", "Number(document.getElementById('requests').textContent) >= 1"),
    ] {
        browser.goto(&tab, &server.url(&format!("/fixes/{name}")));
        browser.wait_for(&tab, begun);
        assert_eq!(create(server.app, &format!("for {name}")).0, 201);
        browser
            .wait_for(&tab, &format!("document.getElementById('models').textContent.includes('for {name}')"));
    }
    // The other rungs are tested on the page that is open.
    browser.wait_for(&tab, "Number(document.getElementById('unchanged').textContent) >= 1");
    for rung in ["naive", "etag"] {
        browser.click(&tab, &format!("[value={rung}]"));
        assert_eq!(create(server.app, &format!("on {rung}")).0, 201);
        browser
            .wait_for(&tab, &format!("document.getElementById('models').textContent.includes('on {rung}')"));
    }
    server.wait_for_stats("free threads", |stats| stats["pool_capacity"] == 8);

    for page in ["/fixes".to_owned()].into_iter().chain(NAMES.map(|name| format!("/fixes/{name}"))) {
        browser.goto(&tab, &server.url(&page));
        axe.expect_nothing_serious(&browser, &tab, &page);
        for width in [280, 390, 1280] {
            browser.devtools(
                &tab,
                "Emulation.setDeviceMetricsOverride",
                &serde_json::json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false }),
            );
            browser.wait_for(&tab, &format!("innerWidth === {width}"));
            assert_eq!(browser.eval(&tab, OVERFLOW), 0, "{page}, {width}");
        }
        let severe: Vec<_> =
            browser.console(&tab).into_iter().filter(|line| line.starts_with("SEVERE")).collect();
        assert_eq!(severe, [""; 0], "{page}");
    }
}

#[test]
fn streams_on_another_server_hold_no_thread_of_this_one() {
    let Some(browser) = Browser::start() else { return };
    let home = browser.first_tab();
    for front in FRONTS {
        browser.goto(&home, "about:blank");
        // Each server must know the other's address.
        let first = Server::on(front, &[]);
        let here = first.url("");
        let second = first.beside(&["--front", front, "--allow-origin", &here, "--update-rate", "200ms"]);
        let first = first.restart(&["--front", front, "--threads", "1:1", "--streams-at", &second.url("")]);
        let tabs = [browser.new_tab(), browser.new_tab(), browser.new_tab()];
        for tab in &tabs {
            browser.goto(tab, &first.url("/"));
            browser.wait_for(tab, "document.body.dataset.state === 'streaming'");
        }
        assert_eq!(create(first.app, "seen").0, 201);
        for tab in &tabs {
            browser.wait_for(tab, "document.body.textContent.includes('seen')");
        }
        assert_eq!(second.stats()["streams"]["open"], 3);
        first.wait_for_stats("free thread", |stats| stats["pool_capacity"] == 1);
        assert_eq!(first.stats()["streams"]["opened"], 0);
        browser.goto(&tabs[0], &first.url("/fixes/other-server"));
        browser.wait_for(&tabs[0], "document.getElementById('stream-state').textContent === 'streams'");
        tabs.into_iter().for_each(|tab| browser.close_tab(tab));

        // Only pages of the allowed origin may listen.
        let asked = |origin: &str| {
            let request =
                format!("GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\r\n");
            read_until(&mut send(second.app, request.as_bytes()), "data: ")
                .contains("access-control-allow-origin")
        };
        assert!(asked(&here) && !asked("http://evil.test"), "{front}");
    }
}

/// Answers connections to this address with 502 and 503 in turn, like nginx and HAProxy when all servers are down.
struct BadGateway {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<usize>,
}

impl BadGateway {
    fn at(address: SocketAddr) -> BadGateway {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut refused = 0;
            while !stopped.load(Ordering::Relaxed) {
                let Ok((mut client, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(5));
                    continue;
                };
                // Reads the request first; otherwise the close would be a reset, which discards the answer.
                client.set_nonblocking(false).unwrap();
                client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                let _ = client.read(&mut [0; 4096]);
                let status = ["502 Bad Gateway", "503 Service Unavailable"][refused % 2];
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = client.write_all(answer.as_bytes());
                refused += 1;
            }
            refused
        });
        BadGateway { stop, thread }
    }

    /// Stops, and returns how many requests it refused.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn every_page_recovers_from_a_refused_connection_and_a_502_without_a_reload() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "200ms", "--retry", "300ms", "--threads", "16"]);
    let port = server.app.port();
    let pages =
        ["", "fixes/push", "fixes/partials", "fixes/leave", "fixes/short-stream", "fixes/shared-worker"]
            .into_iter()
            .chain(["fixes/reaper", "fixes/cable", "fixes/poll", "fixes/long-poll"]);
    let shows = |name: &str| format!("document.body.textContent.includes('{name}')");
    let tabs: Vec<_> = (1..)
        .zip(pages)
        .map(|(n, page)| {
            let tab = browser.new_tab();
            browser.goto(&tab, &format!("http://tab{n}.localhost:{port}/{page}"));
            browser.wait_for(&tab, "document.readyState === 'complete'");
            (page, tab)
        })
        .collect();
    let cap = browser.new_tab();
    browser.goto(&cap, &format!("http://tab{}.localhost:{port}/fixes/cap", tabs.len() + 1));
    browser.wait_for(&cap, "document.getElementById('polite')?.textContent === 'streams'");
    assert_eq!(create(server.app, "before-the-restart").0, 201);
    for (_, tab) in &tabs {
        browser.wait_for(tab, &shows("before-the-restart"));
    }

    // Connections are refused for a moment. Then a gateway answers with 502 until every page has received that
    // answer, and the server is started again.
    let address = server.app;
    let server = server.stopped();
    thread::sleep(Duration::from_millis(500));
    let gateway = BadGateway::at(address);
    browser.wait_for(&tabs[0].1, "document.body.dataset.state === 'closed'");
    browser.wait_for(&tabs[5].1, "document.getElementById('said').textContent.includes('reconnects')");
    browser.wait_for(&cap, "document.getElementById('polite').textContent.includes('reconnects')");
    thread::sleep(Duration::from_secs(2));
    assert!(gateway.stop() >= tabs.len());
    let server = server.start_again(&["--update-rate", "200ms", "--retry", "300ms", "--threads", "16"]);
    assert_eq!(create(server.app, "after-the-restart").0, 201);
    for (page, tab) in &tabs {
        browser.wait_for(tab, &shows("after-the-restart"));
        let twice = "document.body.textContent.split('after-the-restart').length > 2";
        let rows = if *page == "fixes/partials" { "false" } else { twice };
        assert_eq!(browser.eval(tab, rows), false, "{page}: a model is shown twice");
    }
    browser.wait_for(&cap, "document.getElementById('polite').textContent === 'streams'");
}

#[test]
fn a_page_restored_between_two_retries_opens_only_one_connection() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start(&[]);
    let tab = browser.first_tab();
    let said = |words: &str| format!("document.getElementById('said').textContent.includes('{words}')");
    let fire = |event: &str| {
        browser
            .run(&tab, &format!("dispatchEvent(new PageTransitionEvent('{event}', {{ persisted: true }}))"));
    };
    for (name, connected, lost) in
        [("cable", "Subscribed", "is lost"), ("long-poll", "waits for", "No answer")]
    {
        browser.goto(&tab, &server.url(&format!("/fixes/{name}")));
        browser.wait_for(&tab, &said(connected));
        let stopped = server.stopped();
        browser.wait_for(&tab, &said(lost));
        fire("pagehide");
        server = stopped.start_again(&[]);
        // A retry that was not canceled would happen within this time.
        thread::sleep(Duration::from_secs(4));
        fire("pageshow");
        browser.wait_for(&tab, &said(connected));
        assert_eq!(create(server.app, &format!("after-the-return-of-{name}")).0, 201);
        let row = format!("document.body.textContent.includes('after-the-return-of-{name}')");
        browser.wait_for(&tab, &row);
        thread::sleep(Duration::from_secs(1));
        let received = browser.eval(&tab, "document.getElementById('received').textContent");
        assert_eq!(received, "1", "{name}");
    }
}

#[test]
fn a_page_from_the_back_forward_cache_resumes_after_its_newest_model() {
    let Some(browser) = Browser::with_page_cache() else { return };
    let server = Server::start(&["--update-rate", "200ms"]);
    let tab = browser.first_tab();
    let streams = "document.getElementById('stream-state').textContent === 'streams'";
    for (name, is_ready) in [
        ("push", streams),
        ("partials", streams),
        ("cable", "document.getElementById('stream-state').textContent === 'subscribed'"),
        ("shared-worker", "document.getElementById('streams').textContent === '1'"),
        ("long-poll", "document.getElementById('requests').textContent === '1'"),
    ] {
        let created = |n: usize| assert_eq!(create(server.app, &format!("{name} {n}")).0, 201);
        let received = |n: usize| format!("document.getElementById('received').textContent === '{n}'");
        browser.goto(&tab, &server.url(&format!("/fixes/{name}")));
        browser.wait_for(&tab, is_ready);
        created(1);
        created(2);
        browser.wait_for(&tab, &received(2));
        browser.run(&tab, "window.stays = true");

        browser.goto(&tab, &server.url("/up"));
        browser.wait_for(&tab, "location.pathname === '/up'");
        created(3);
        browser.back(&tab);
        browser.wait_for(&tab, &format!("location.pathname === '/fixes/{name}'"));
        assert_eq!(browser.eval(&tab, "window.stays"), true, "the page was restored from the cache");
        created(4);
        browser.wait_for(&tab, &received(4));
        let names = "[...document.querySelectorAll('#models li')].map(row => row.textContent)";
        let shown = format!("{names}.filter(text => text.includes('{name} ')).length");
        assert_eq!(browser.eval(&tab, &shown), 4, "{name}");
    }
}

#[test]
fn lines_of_code_are_not_cut_off_in_print() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let tab = browser.first_tab();
    // The size of A4 inside its margins, at 96 pixels per inch.
    let size = json!({ "width": 718, "height": 1000, "deviceScaleFactor": 1, "mobile": false });
    for name in NAMES {
        browser.goto(&tab, &server.url(&format!("/fixes/{name}")));
        browser.devtools(&tab, "Emulation.setDeviceMetricsOverride", &size);
        browser.devtools(&tab, "Emulation.setEmulatedMedia", &json!({ "media": "print" }));
        browser.wait_for(&tab, "matchMedia('print').matches && innerWidth === 718");
        let cut =
            "[...document.querySelectorAll('pre')].filter(it => it.scrollWidth > it.clientWidth).length";
        assert_eq!(browser.eval(&tab, cut), 0, "{name}");
    }
}

#[test]
fn the_page_of_poll_reads_its_rung_from_the_address_and_can_pause_the_producer() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--produce-every", "100ms"]);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes/poll?rung=etag"));
    browser.wait_for(&tab, "Number(document.getElementById('received').textContent) > 0");
    assert_eq!(browser.eval(&tab, "document.querySelector('[name=rung]:checked').value"), "etag");
    browser.click(&tab, "#lull");
    browser
        .wait_for(&tab, "document.getElementById('lulled').textContent.startsWith('The producer is paused')");
    // With a new model every 100 ms, a page that polls every two seconds would never get a 304.
    browser.wait_for(&tab, "Number(document.getElementById('unchanged').textContent) > 0");
}
