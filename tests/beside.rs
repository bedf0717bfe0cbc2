//! Two servers side by side: `/wall?beside=NAME` and the second server that it starts.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::axe::Axe;
use crate::common::chromedriver::{Browser, Tab};
use crate::common::{self, Server, ask, json, send, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// How long a second server may run without a viewer, on the slowest machine.
const UNWATCHED_WITHIN: Duration = Duration::from_secs(180);

fn server(flags: &[&str]) -> Server {
    Server::start(&[&["--update-rate", "300ms"], flags].concat())
}

/// Starts a second server with this fix. Returns the port of its control server.
fn start(server: &Server, fix: &str) -> u16 {
    let (status, said) = json(server.control, "POST", &format!("/lab/beside?fix={fix}"));
    assert_eq!(status, 200, "{said}");
    assert_eq!((&said["fix"], &said["ended"]), (&fix.into(), &Value::Null));
    let control = said["control"].as_str().unwrap();
    control.strip_prefix("http://127.0.0.1:").unwrap().parse().unwrap()
}

/// The running servers that this server has started: their process ids and command lines.
fn children(server: &Server) -> Vec<(i32, String)> {
    children_of(server.child.id())
}

fn children_of(parent: u32) -> Vec<(i32, String)> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbers = processes.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |number: &i32| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        // The process name in parentheses may contain any character.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        fields.next() != Some("Z") && fields.next() == Some(&parent.to_string())
    };
    let command = |number: i32| {
        let line = fs::read(format!("/proc/{number}/cmdline")).ok()?;
        Some((number, String::from_utf8_lossy(&line).replace('\0', " ")))
    };
    let commands = numbers.filter(is_child).filter_map(command);
    commands.filter(|(_, line)| line.contains(" serve ")).collect()
}

fn runs(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// The second server as the first one describes it to its viewers.
fn shown(server: &Server, query: &str) -> Value {
    let request = format!("GET /events{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut viewer = send(server.control, request.as_bytes());
    let text = common::read_until(&mut viewer, "}\n\n");
    let state = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str::<Value>(state).unwrap()["beside"].clone()
}

#[test]
fn a_second_server_has_the_fix_and_the_database_and_ends_with_a_reset() {
    let server = server(&[]);
    assert_eq!(children(&server), []);
    let control = start(&server, "more-threads");
    let [(process, line)] = &children(&server)[..] else { panic!("{:?}", children(&server)) };
    assert!(line.contains(" --fix more-threads ") && line.contains(" --update-rate 0.3s "), "{line}");
    assert!(line.contains(server.database().to_str().unwrap()), "{line}");
    let stats = json(([127, 0, 0, 1], control).into(), "GET", "/stats").1;
    assert_eq!(stats["max_threads"], 64);
    assert_eq!(server.stats()["max_threads"], 8);
    assert_eq!(shown(&server, "")["control"], format!("http://127.0.0.1:{control}"));

    // The same fix again changes nothing, and another one replaces it.
    assert_eq!(start(&server, "more-threads"), control);
    assert_ne!(start(&server, "push"), control);
    assert!(!runs(*process));
    let [(process, line)] = &children(&server)[..] else { panic!("{:?}", children(&server)) };
    assert!(!line.contains(" --fix "), "{line}");

    assert_eq!(json(server.control, "POST", "/lab/reset").0, 200);
    assert!(!runs(*process));
    assert_eq!(children(&server), []);
    assert_eq!(shown(&server, "")["ended"], "it was reset");
}

#[test]
fn a_second_server_that_cannot_be_shown_is_refused_with_the_reason() {
    let plain = server(&[]);
    for (path, status, reason) in [
        ("/lab/beside", 422, "fix: give one of reaper, more-threads, cap, "),
        ("/lab/beside?fix=pusch", 422, "not \"pusch\""),
        ("/lab/beside?fix=leave", 422, "every page stays open"),
        ("/lab/beside?fix=other-server", 422, "need a third server"),
        ("/lab/beside?fix=push&fix=push", 400, "once"),
    ] {
        let (answered, said) = common::call(plain.control, "POST", path);
        assert_eq!(answered, status, "{path}: {said}");
        assert!(said.contains(reason) && said.lines().count() == 1, "{path}: {said}");
    }
    let page = "POST /lab/beside?fix=push HTTP/1.0\r\nHost: localhost\r\nOrigin: http://evil.test\r\n\r\n";
    assert!(ask(plain.control, page).starts_with("HTTP/1.0 403 "));
    assert_eq!(children(&plain), []);

    let open = Server::bound_to("0.0.0.0:0", &[]);
    let (status, said) = common::call(open.control, "POST", "/lab/beside?fix=push");
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("loopback"), "{said}");
    assert_eq!(children(&open), []);
}

#[test]
fn a_second_server_ends_when_the_first_is_killed_or_stopped() {
    for signal in [Signal::KILL, Signal::TERM] {
        // The first server's database is in a temporary folder, which is removed with that server.
        let mut first = server(&["--database", ":memory:"]);
        start(&first, "cap");
        let [(process, _)] = children(&first)[..] else { panic!("{:?}", children(&first)) };
        first.signal(signal);
        assert_eq!(first.wait_for_exit().success(), signal == Signal::TERM, "{}", first.log());
        wait_for("the end of the second server", || (!runs(process)).then_some(()));
    }
}

#[test]
fn a_second_server_that_ends_by_itself_is_noticed_and_can_be_started_again() {
    let server = server(&["--control-token", "s3cret-s3cret"]);
    let post = |path: &str| json(server.control, "POST", &format!("{path}token=s3cret-s3cret"));
    let (status, said) = post("/lab/beside?fix=poll&");
    assert_eq!(status, 200, "{said}");
    let [(process, line)] = &children(&server)[..] else { panic!("{:?}", children(&server)) };
    assert!(!line.contains("s3cret"), "the token is in the command line, which other users can read: {line}");
    // The second server has the same token, and refuses requests without it.
    let control: std::net::SocketAddr = said["control"].as_str().unwrap()[7..].parse().unwrap();
    assert_eq!(common::get(control, "/stats").0, 403);
    assert_eq!(common::get(control, "/stats?token=s3cret-s3cret").0, 200);

    rustix::process::kill_process(rustix::process::Pid::from_raw(*process).unwrap(), Signal::KILL).unwrap();
    let ended = wait_for("the news that the second server has ended", || {
        shown(&server, "?token=s3cret-s3cret")["ended"].as_str().map(str::to_owned)
    });
    assert!(ended.starts_with("its process ended by itself (signal: 9"), "{ended}");
    assert_eq!(post("/lab/beside?fix=poll&").0, 200);
    assert_eq!(children(&server).len(), 1);
}

#[test]
fn a_second_server_without_a_viewer_ends_after_half_a_minute_and_one_with_a_viewer_does_not() {
    let server = server(&[]);
    let control = start(&server, "cable");
    let [(process, _)] = children(&server)[..] else { panic!("{:?}", children(&server)) };
    let second = ([127, 0, 0, 1], control).into();
    let viewer = send(second, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_for("the viewer of the second server", || {
        (json(second, "GET", "/lab/viewers").1["viewers"] == 1).then_some(())
    });
    let began = Instant::now();
    let mut reader = viewer.try_clone().unwrap();
    // The viewer reads its events; otherwise it would be cut off.
    let reads = thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    while began.elapsed() < Duration::from_secs(33) {
        assert!(runs(process), "{}", server.log());
        thread::sleep(Duration::from_millis(500));
    }
    viewer.shutdown(std::net::Shutdown::Both).unwrap();
    let _ = reads.join().unwrap();
    let left = Instant::now();
    while runs(process) {
        assert!(left.elapsed() < UNWATCHED_WITHIN, "the second server is still running");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(shown(&server, "")["ended"], "no page has shown it for 30 s");
}

#[test]
fn only_pages_of_the_first_server_may_show_the_wall_of_the_second() {
    let server = server(&[]);
    let control = start(&server, "push");
    let framed = |from: std::net::SocketAddr| {
        let request = "GET /wall?bare=yes HTTP/1.0\r\nHost: 127.0.0.1\r\nSec-Fetch-Site: same-site\r\n\
                       Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n\r\n";
        ask(from, request)
    };
    let own = framed(server.control);
    assert!(own.starts_with("HTTP/1.0 403 "), "{own}");
    let second = framed(([127, 0, 0, 1], control).into());
    let port = server.control.port();
    let policy = format!(
        "frame-ancestors http://127.0.0.1:{port} http://localhost:{port} http://*.localhost:{port}\r\n"
    );
    assert!(second.starts_with("HTTP/1.0 200 ") && second.contains(&policy), "{second}");
    let page = ask(server.control, "GET /wall?beside=push HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert!(page.contains(" http://127.0.0.1:*; frame-ancestors 'none'\r\n"), "{page}");
    for page in [page, second] {
        assert!(page.len() < 100_000, "{} bytes", page.len());
    }
}

#[test]
fn page_latency_is_measured_with_one_request_in_flight() {
    let server = server(&["--threads", "1"]);
    let _stream = common::open_stream(server.app);
    let measure = || json(server.control, "POST", "/lab/latency").1["waits"].clone();
    assert_eq!(measure(), false);
    server.wait_for_stats("queued page", |stats| stats["backlog"] == 1);
    assert_eq!(measure(), true);
    assert_eq!(server.stats()["backlog"], 1);
    assert_eq!(json(server.control, "POST", "/reap").1["reaped"], 1);
    server.wait_for_stats("answered page", |stats| stats["backlog"] == 0);
    wait_for("the next measurement", || (measure() == false).then_some(()));
}

fn open(browser: &Browser, server: &Server, query: &str) -> Tab {
    let tab = browser.first_tab();
    browser.goto(&tab, &format!("http://{}/wall{query}", server.control));
    browser.wait_for(&tab, "document.body.dataset.connection === 'live'");
    tab
}

fn text(browser: &Browser, tab: &Tab, id: &str) -> String {
    let text = browser.eval(tab, &format!("document.getElementById('{id}').textContent"));
    text.as_str().unwrap_or_default().to_owned()
}

/// The latest state that the wall in the frame has reported.
const RIGHT: &str = "second.heard.side";

#[test]
fn beside_push_eight_threads_are_held_on_the_left_and_none_on_the_right() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--produce-every", "1"]);
    let wall = open(&browser, &server, "?beside=push");
    browser
        .wait_for(&wall, &format!("{RIGHT}.streaming === 9 && {RIGHT}.held === 0 && {RIGHT}.waiting === 0"));
    browser.wait_for(
        &wall,
        "document.getElementById('meter').textContent === '8 / 8+1 waiting' &&
         document.querySelectorAll('.tab[data-state=\"streaming\"]').length === 8 &&
         document.querySelector('[data-tab=\"9\"]').dataset.state === 'waiting-for-thread'",
    );
    let sentence = "Plain: 8 threads held, tab 9 waits. push: no thread held, 9 of 9 tabs stream. ";
    browser.wait_for(&wall, &format!("document.getElementById('sentence').textContent === '{sentence}'"));
    browser
        .wait_for(&wall, "document.getElementById('latency').textContent.startsWith('page: no answer for ')");

    // The servers report the same numbers.
    let second: u16 = browser.eval(&wall, "Number(new URL(second.origin).port)").as_u64().unwrap() as u16;
    let stats = json(([127, 0, 0, 1], second).into(), "GET", "/stats").1;
    assert_eq!((&stats["streams"]["open"], &stats["listeners"]["open"]), (&0.into(), &9.into()), "{stats}");
    assert_eq!(server.stats()["streams"]["open"], 8);

    // The frame shows neither links nor controls, and both walls have the same width.
    let frame = browser.eval_in_frame_of(&wall, "#second iframe", "window.innerWidth");
    assert_eq!(browser.eval(&wall, "document.querySelector('.half').clientWidth"), frame);
    let shows = "[...document.querySelectorAll('header, .controls, .legend')].every(it => !it.offsetHeight)";
    assert_eq!(browser.eval_in_frame_of(&wall, "#second iframe", shows), true);
    let latency =
        browser.eval_in_frame_of(&wall, "#second iframe", "document.getElementById('latency').textContent");
    assert!(latency.as_str().unwrap().ends_with("ms"), "{latency}");

    // One row of controls acts on both servers.
    browser.click(&wall, "#close-all");
    browser.wait_for(&wall, &format!("{RIGHT}.open === 0 && !wall.tabs.some(tab => tab.isOpen)"));
    browser.run(
        &wall,
        "const field = document.querySelector('#threads select');
         field.value = '3';
         field.dispatchEvent(new Event('change', { bubbles: true }))",
    );
    for control in [server.control, ([127, 0, 0, 1], second).into()] {
        wait_for("three threads", || (json(control, "GET", "/stats").1["max_threads"] == 3).then_some(()));
    }
    let told = browser.console(&wall);
    let loud: Vec<_> =
        told.iter().filter(|line| line.starts_with("SEVERE") || line.contains("Policy")).collect();
    assert!(loud.is_empty(), "{loud:?}");

    browser.click(&wall, "#reset");
    browser
        .wait_for(&wall, "document.getElementById('why').textContent.endsWith('has ended: it was reset.')");
    assert_eq!(children(&server), []);
    assert_eq!(server.stats()["max_threads"], 8);
    browser.click(&wall, "#again");
    browser.wait_for(&wall, &format!("{RIGHT}.tabs === 9"));
    assert_eq!(children(&server).len(), 1);
}

#[test]
fn each_fix_is_shown_beside_a_plain_server_with_the_expected_numbers() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--produce-every", "1"]);
    for (fix, expected) in [
        ("more-threads", "held === 9 && right.streaming === 9"),
        ("cap", "held === 6 && right.streaming === 6"),
        ("io-threads", "held === 9 && right.streaming === 9"),
        ("reaper", "streaming > 0 && feed.state.beside.fix === 'reaper'"),
        ("short-stream", "answered === 9"),
        ("shared-worker", "held === 1 && right.streaming === 9"),
        ("partials", "held === 0 && right.streaming === 9"),
        ("cable", "held === 0 && right.streaming === 9"),
        ("poll", "answered === 9"),
        ("long-poll", "answered === 9"),
    ] {
        let wall = open(&browser, &server, &format!("?beside={fix}"));
        browser.wait_for(&wall, &format!("(right => right.{expected})({RIGHT})"));
        let hosts = if fix == "shared-worker" { "one" } else { "many" };
        assert_eq!(browser.eval(&wall, "wall.hosts"), hosts);
        assert_eq!(children(&server).len(), 1, "{fix}");
    }
}

#[test]
fn a_page_that_cannot_have_a_second_server_explains_why_and_shows_the_first() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    for (fix, reason) in [("leave", "every page stays open"), ("pusch", "fix: give one of ")] {
        let wall = open(&browser, &server, &format!("?beside={fix}&tabs=2"));
        browser.wait_for(&wall, &format!("document.getElementById('why').textContent.includes('{reason}')"));
        browser.wait_for(&wall, "document.querySelectorAll('.tab[data-state=\"streaming\"]').length === 2");
        assert!(text(&browser, &wall, "sentence").contains(": not running."));
        browser.click(&wall, "#reset");
        browser.wait_for(
            &wall,
            "document.getElementById('said').textContent.startsWith('Everything is closed.')",
        );
        assert!(
            !text(&browser, &wall, "said").contains("second server"),
            "there was no second server to end"
        );
    }
    assert_eq!(children(&server), []);
}

#[test]
fn axe_finds_nothing_serious_on_two_walls_and_nothing_overflows() {
    let Some(browser) = Browser::start() else { return };
    let Some(axe) = Axe::fetch() else { return };
    let server = server(&["--produce-every", "1"]);
    let wall = open(&browser, &server, "?beside=push");
    browser.wait_for(&wall, &format!("{RIGHT}.streaming === 9"));
    browser.wait_for(&wall, "document.querySelectorAll('.tab[data-state=\"streaming\"]').length === 8");
    axe.expect_nothing_serious(&browser, &wall, "the two walls");
    for (width, height) in [(1280, 720), (1024, 768), (1920, 1080), (390, 844)] {
        browser.devtools(
            &wall,
            "Emulation.setDeviceMetricsOverride",
            &serde_json::json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
        let fits = "document.documentElement.scrollWidth <= innerWidth";
        browser.wait_for(&wall, &format!("innerWidth === {width} && {fits}"));
        if width > 390 {
            // The axis is the lowest part of the left wall, and the legend must be below it.
            browser.wait_for(
                &wall,
                "document.documentElement.scrollHeight <= innerHeight &&
                 document.querySelector('.axis').getBoundingClientRect().bottom <= document.querySelector('.legend').getBoundingClientRect().top",
            );
        }
    }
}
