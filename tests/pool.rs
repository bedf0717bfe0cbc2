//! `GET /pool`, and the strip on the fix pages that shows the numbers of the pool.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::common::chromedriver::Browser;
use crate::common::{self, FRONTS, Server, ask, get, open_stream, send, split};
use crate::fixes::NAMES;

/// The answer to `GET /pool`.
fn pool(server: &Server) -> Value {
    let (status, pool) = common::json(server.control, "GET", "/pool");
    assert_eq!(status, 200, "{pool}");
    pool
}

/// The value of a header field of an answer.
fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Sends a request as a browser would for a page of this origin, and returns the answer.
fn asked_by(to: SocketAddr, method: &str, path: &str, origin: &str) -> String {
    let host = format!("Host: {to}\r\nUser-Agent: Mozilla/5.0\r\nOrigin: {origin}\r\n");
    ask(to, &format!("{method} {path} HTTP/1.0\r\n{host}Sec-Fetch-Site: cross-site\r\n\r\n"))
}

#[test]
fn it_counts_held_threads_and_waiting_requests_but_not_spare_connections() {
    for front in FRONTS {
        let server = Server::on(front, &["--threads", "2"]);
        assert_eq!(pool(&server), json!({ "threads": 2, "held": 0, "waiting": 0 }));
        let streams = [open_stream(server.app), open_stream(server.app)];
        let waiting = send(server.app, b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let spare = TcpStream::connect(server.app).unwrap();
        let connections = if front == "puma" { 2 } else { 1 };
        server.wait_for_stats("queue", |stats| stats["backlog"] == connections);
        common::wait_for("the numbers", || {
            (pool(&server) == json!({ "threads": 2, "held": 2, "waiting": 1 })).then_some(())
        });
        assert_eq!(common::json(server.control, "POST", "/resize?max=4").0, 200);
        assert_eq!(pool(&server)["threads"], 4, "/pool must report the new maximum");
        drop((streams, waiting, spare));
    }
}

#[test]
fn pages_of_the_app_may_read_the_pool_but_nothing_else_of_the_control_server() {
    let server = Server::start(&["--allow-host", "app.test"]);
    let port = server.app.port();
    let allow = "access-control-allow-origin";
    for host in ["localhost", "127.0.0.1", "tab3.localhost", "app.test"] {
        let origin = format!("http://{host}:{port}");
        let answer = asked_by(server.control, "GET", "/pool", &origin);
        assert_eq!((split(&answer).0, field(&answer, allow)), (200, Some(origin.as_str())), "{answer}");
        assert_eq!((field(&answer, "vary"), field(&answer, "connection")), (Some("origin"), Some("close")));
        assert_eq!(field(&answer, "cache-control"), Some("no-store"));
        for (method, path) in [
            ("GET", "/stats"),
            ("GET", "/threads"),
            ("GET", "/timeline"),
            ("GET", "/lab"),
            ("GET", "/events"),
            ("GET", "/"),
            ("GET", "/x/pool"),
            ("POST", "/pool"),
            ("OPTIONS", "/pool"),
            ("POST", "/reap"),
        ] {
            let answer = asked_by(server.control, method, path, &origin);
            assert_eq!((split(&answer).0, field(&answer, allow)), (403, None), "{method} {path}: {answer}");
        }
    }
    let control = server.control.port();
    for origin in [
        format!("http://localhost:{control}"),
        "http://localhost".to_owned(),
        format!("https://localhost:{port}"),
        format!("http://evil.test:{port}"),
        format!("http://localhost:{port}.evil.test"),
        "null".to_owned(),
    ] {
        let answer = asked_by(server.control, "GET", "/pool", &origin);
        assert_eq!((split(&answer).0, field(&answer, allow)), (403, None), "{origin}: {answer}");
    }
    let rebound = ask(
        server.control,
        &format!("GET /pool HTTP/1.0\r\nHost: evil.test\r\nOrigin: http://localhost:{port}\r\n\r\n"),
    );
    assert_eq!((split(&rebound).0, field(&rebound, allow)), (403, None), "{rebound}");
    let program = ask(server.control, "GET /pool HTTP/1.0\r\n\r\n");
    assert_eq!((split(&program).0, field(&program, allow)), (200, None), "{program}");
    assert_eq!(get(server.control, "/pool?x=1").0, 400);
}

/// The page at this path as a browser receives it, and the sources to which its policy allows connections.
fn page(server: &Server, path: &str) -> (String, String) {
    let answer = ask(server.app, &format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", server.app));
    let policy = field(&answer, "content-security-policy").unwrap();
    let sources = policy.split("connect-src ").nth(1).unwrap().split(';').next().unwrap().to_owned();
    (split(&answer).1, sources)
}

#[test]
fn only_the_fix_pages_have_the_strip_and_may_connect_to_the_control_server() {
    let server = Server::start(&[]);
    let control = format!("http://{}", server.control);
    let fixes = NAMES.map(|name| format!("/fixes/{name}"));
    for path in fixes.iter().map(String::as_str).chain(["/fixes", "/fixes/leave/1"]) {
        let (page, sources) = page(&server, path);
        assert_eq!(sources, format!("'self' {control}"), "{path}");
        assert!(page.contains("<p id=\"pool\" data-at=\"http:"), "{path}: {page}");
    }
    let (index, sources) = page(&server, "/?tab=1");
    assert_eq!(sources, "'self'");
    assert!(!index.contains("id=\"pool\""), "{index}");
}

#[test]
fn with_a_control_token_there_is_no_strip_and_no_page_names_the_control_server() {
    let server = Server::start(&["--control-token", "s3cret-s3cret-s3cret"]);
    let origin = format!("http://localhost:{}", server.app.port());
    for path in ["/pool", "/pool?token=s3cret-s3cret-s3cret"] {
        let answer = asked_by(server.control, "GET", path, &origin);
        assert_eq!(field(&answer, "access-control-allow-origin"), None, "{answer}");
    }
    assert_eq!(split(&asked_by(server.control, "GET", "/pool", &origin)).0, 403);
    assert_eq!(
        get(server.control, "/pool?token=s3cret-s3cret-s3cret").0,
        200,
        "a program with the token may read the pool"
    );
    for path in ["/", "/fixes", "/fixes/push"] {
        let (page, sources) = page(&server, path);
        assert_eq!(sources, "'self'", "{path}");
        assert!(
            !page.contains("id=\"pool\"") && !page.contains("s3cret") && !page.contains("/wall"),
            "{page}"
        );
    }
}

#[test]
fn the_strip_follows_the_pool_and_pauses_while_its_page_is_hidden() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--threads", "4", "--update-rate", "200ms"]);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes"));
    let says = |words: &str| format!("document.getElementById('pool-count').textContent === '{words}'");
    let blocks =
        |state: &str| format!("document.querySelectorAll('#pool-blocks [data-state={state}]').length");
    browser.wait_for(&tab, &says("0 of 4 · 0 waiting"));
    assert_eq!(browser.eval(&tab, &blocks("idle")), 4);
    let mut streams: Vec<_> = (0..3).map(|_| open_stream(server.app)).collect();
    browser.wait_for(&tab, &says("3 of 4 · 0 waiting"));
    assert_eq!(browser.eval(&tab, &format!("[{}, {}].join()", blocks("held"), blocks("idle"))), "3,1");
    streams.push(open_stream(server.app));
    let waiting = send(server.app, b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    browser.wait_for(&tab, &says("4 of 4 · 1 waiting"));

    // The strip sends no requests while the page is hidden, and sends one immediately when the page is shown again.
    let hide = |hidden: bool| {
        browser.run(
            &tab,
            &format!(
                "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});
                 document.dispatchEvent(new Event('visibilitychange'))"
            ),
        );
    };
    let asked = "performance.getEntriesByType('resource').filter(it => it.name.endsWith('/pool')).length";
    hide(true);
    // A request may still be in flight.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let before = browser.eval(&tab, asked).as_u64().unwrap();
    drop((streams, waiting));
    server.wait_for_stats("free threads", |stats| stats["pool_capacity"] == 4);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(browser.eval(&tab, asked), before);
    assert_eq!(
        browser.eval(&tab, &says("4 of 4 · 1 waiting")),
        true,
        "a hidden page must keep its last numbers"
    );
    hide(false);
    browser.wait_for(&tab, &says("0 of 4 · 0 waiting"));
    browser.wait_for(&tab, &format!("{asked} > {before} + 2"));
    let severe: Vec<_> =
        browser.console(&tab).into_iter().filter(|line| line.starts_with("SEVERE")).collect();
    assert_eq!(severe, [""; 0]);

    // With more threads than blocks, the strip shows a bar instead.
    assert_eq!(common::json(server.control, "POST", "/resize?max=40").0, 200);
    browser.wait_for(&tab, &says("0 of 40 · 0 waiting"));
    assert_eq!(browser.eval(&tab, "document.querySelectorAll('#pool-blocks.pool-bar i').length"), 1);
}

#[test]
fn the_strip_reports_that_the_control_server_does_not_answer_and_recovers() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes"));
    let says =
        |words: &str| format!("document.getElementById('pool-count').textContent.startsWith('{words}')");
    browser.wait_for(&tab, &says("0 of 8"));
    browser.run(&tab, "window.wasFetch = fetch; window.fetch = () => Promise.reject(new TypeError('gone'))");
    browser.wait_for(&tab, &says("no answer"));
    browser.run(&tab, "window.fetch = wasFetch");
    browser.wait_for(&tab, &says("0 of 8"));
}
