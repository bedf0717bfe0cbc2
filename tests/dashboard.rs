//! The dashboard shows the current state of the server, its buttons do what their labels announce, and only its own
//! pages can send their orders.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::axe::Axe;
use crate::common::chromedriver::{Browser, Tab};
use crate::common::{
    PATIENCE, Server, ask, create_large, get, json, open_stream, read_head, read_to_end, read_until, send,
    send_with_small_buffer, split, stopped_reader, trace, wait_for,
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// A viewer that has read the head of its answer.
struct Viewer(BufReader<TcpStream>);

impl Viewer {
    fn open(server: &Server, headers: &str) -> Viewer {
        let request = format!("GET /events HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let mut stream = send(server.control, request.as_bytes());
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-type: text/event-stream\r\n"), "{head}");
        Viewer(BufReader::new(stream))
    }

    /// The data of the next event of this name, and its id.
    fn next(&mut self, name: &str) -> (String, Value) {
        // Other events keep arriving, so a read timeout would not end the wait.
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "no {name} in {PATIENCE:?}");
            let mut event = String::new();
            while !event.ends_with("\n\n") {
                assert!(self.0.read_line(&mut event).unwrap() > 0, "the stream ended after {event:?}");
            }
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            if field("event: ") == Some(name) {
                let data = serde_json::from_str(field("data: ").unwrap()).unwrap();
                return (field("id: ").unwrap_or_default().to_owned(), data);
            }
        }
    }
}

fn order(server: &Server, path: &str) -> (u16, Value) {
    json(server.control, "POST", path)
}

fn errors(browser: &Browser, tab: &Tab) -> Vec<String> {
    browser.console(tab).into_iter().filter(|line| line.starts_with("SEVERE")).collect()
}

/// Opens the dashboard and waits until it is live.
fn dashboard(browser: &Browser, server: &Server) -> Tab {
    let tab = browser.first_tab();
    browser.goto(&tab, &format!("http://{}/", server.control));
    browser.wait_for(&tab, "document.body.dataset.connection === 'live' && feed.state !== null");
    tab
}

/// Presses a button, and waits for the answer that the page shows.
fn press(browser: &Browser, tab: &Tab, button: &str) {
    browser.run(tab, "document.getElementById('answer').textContent = ''");
    browser.click(tab, button);
    browser.wait_for(tab, "document.getElementById('answer').textContent !== ''");
}

/// Enters a value in a field and leaves the field, as a user does.
fn choose(browser: &Browser, tab: &Tab, field: &str, value: &str) {
    let script = format!(
        "document.getElementById('answer').textContent = '';
         const field = document.querySelector('{field}');
         field.value = '{value}';
         field.dispatchEvent(new Event('change', {{ bubbles: true }}))"
    );
    browser.run(tab, &script);
}

#[test]
fn a_viewer_gets_the_past_then_new_moments_and_numbers() {
    let server = Server::start(&["--update-rate", "60"]);
    let mut tab = send(server.app, b"GET /models/live_stream?tab=7 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    read_until(&mut tab, "data: ");
    let mut watches = Viewer::open(&server, "");
    let (_, state) = watches.next("state");
    assert_eq!(state["stats"]["streams"]["open"], 1);
    let paths: Vec<_> = state["threads"].as_array().unwrap().iter().map(|it| &it["path"]).collect();
    assert_eq!(paths.iter().filter(|path| **path == "/models/live_stream?tab=7").count(), 1);
    let (id, past) = watches.next("moments");
    let moments = past["moments"].as_array().unwrap();
    let kinds: Vec<_> = moments.iter().map(|moment| moment["kind"].as_str().unwrap()).collect();
    let at = |kind: &str| kinds.iter().rposition(|it| *it == kind);
    assert!(at("started") < at("accepted") && at("accepted") < at("streaming"), "{kinds:?}");
    assert!(at("streaming") < at("wrote") && at("wrote").is_some(), "{kinds:?}");
    assert_eq!(moments.last().unwrap()["seq"].as_u64(), Some(seq_of(&id)));
    let run = state["server"].as_str().unwrap();
    assert!(run.len() > 10 && id.starts_with(&format!("{run}-")), "{id} of {run}");

    assert_eq!(get(server.app, "/up").0, 200);
    let mut kinds = Vec::new();
    let mut last = id;
    // A connection that arrived before its request is queued twice.
    while !(kinds.contains(&json!("wrote")) && kinds.last() == Some(&json!("finished"))) {
        let (id, news) = watches.next("moments");
        kinds.extend(news["moments"].as_array().unwrap().iter().map(|moment| moment["kind"].clone()));
        last = id;
    }
    let at = |kind: &str| kinds.iter().rposition(|it| it == kind);
    assert!(at("queued") < at("started") && at("started") < at("accepted"), "{kinds:?}");
    assert!(at("accepted") < at("wrote"), "{kinds:?}");

    // A viewer that reconnects continues after its last event. An id from another server is ignored.
    assert_eq!(get(server.app, "/up").0, 200);
    let mut back = Viewer::open(&server, &format!("Last-Event-ID: {last}\r\n"));
    let news = back.next("moments").1;
    assert_eq!(news["moments"][0]["seq"].as_u64().unwrap(), seq_of(&last) + 1);
    for id in ["99999999".to_owned(), "2".to_owned(), format!("0.0-{}", seq_of(&last)), format!("{last}9999")]
    {
        let mut stranger = Viewer::open(&server, &format!("Last-Event-ID: {id}\r\n"));
        assert_eq!(stranger.next("moments").1["moments"][0]["seq"], 1, "{id}");
    }
}

/// The number of the moment in an id.
fn seq_of(id: &str) -> u64 {
    id.rsplit_once('-').unwrap().1.parse().unwrap()
}

/// Kills this server and starts another one with these flags at the same addresses.
fn replace(mut server: Server, flags: &[&str]) -> Server {
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plain = Server::command(folder.path());
    let (app, control) = (format!("tcp://{}", server.app), format!("tcp://{}", server.control));
    let mut args: Vec<_> = plain.get_args().map(|it| it.to_str().unwrap().to_owned()).collect();
    for (flag, address) in [("--bind", app), ("--control-url", control)] {
        let at = args.iter().position(|arg| arg == flag).unwrap();
        args[at + 1] = address;
    }
    let mut command = Command::new(plain.get_program());
    command.args(args).args(flags).stdin(Stdio::piped()).stdout(Stdio::null());
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
    Server::spawn(command, folder)
}

#[test]
fn a_page_reloads_when_another_server_takes_over_its_address() {
    let Some(browser) = Browser::start_with(&["--host-resolver-rules=MAP *.test 127.0.0.1"]) else { return };
    let flags = ["--allow-host", "ninetabs.test"];
    let mut server = Server::start(&flags);
    let tab = browser.first_tab();
    for (host, path) in [("ninetabs.test", "/"), ("127.0.0.1", "/"), ("ninetabs.test", "/wall?tabs=1")] {
        browser.goto(&tab, &format!("http://{host}:{}{path}", server.control.port()));
        browser.wait_for(&tab, "document.body.dataset.connection === 'live' && feed.state !== null");
        browser.run(&tab, "window.isOld = true");
        // The replacement nearly always starts within the same second.
        server = replace(server, &flags);
        browser.wait_for(
            &tab,
            "typeof isOld === 'undefined' && document.body?.dataset.connection === 'live' && feed.state !== null",
        );
        assert_eq!(browser.eval(&tab, "feed.state.server === feed.server"), true);
    }
    press_is_obeyed(&browser, &server);
}

/// Checks that the page has the token of the new server.
fn press_is_obeyed(browser: &Browser, server: &Server) {
    let tab = dashboard(browser, server);
    press(browser, &tab, "#reap");
    let words = browser.eval(&tab, "document.getElementById('answer').textContent");
    assert!(words.as_str().unwrap().ends_with(" reaped."), "{words}");
}

/// Requests `/up` from this port of another loopback address.
fn ask_from_the_same_port(server: &Server, port: u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], port)).into()).unwrap();
    socket.connect(&server.app.into()).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET /up HTTP/1.0\r\n\r\n").unwrap();
    let answer = read_to_end(&mut client);
    assert_eq!(split(&answer).0, 200);
}

#[test]
fn a_client_with_another_address_and_the_same_port_is_not_mistaken_for_the_labs() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--threads", "3:3", "--update-rate", "100ms", "--retry", "60"]);
    let tab = dashboard(&browser, &server);
    let text = |id: &str| format!("document.getElementById('{id}').textContent");
    let port = |said: &Value| u16::try_from(said["local_port"].as_u64().unwrap()).unwrap();
    let zombie = order(&server, "/lab/zombies?count=1").1["zombies"][0].clone();
    assert_eq!(zombie["target"], "/models/live_stream?tab=zombie-1");
    browser.wait_for(&tab, &format!("{} === '1 zombie connected, it holds a thread'", text("zombie-count")));
    let page = order(&server, "/lab/page").1;
    browser.wait_for(&tab, &format!("{}.includes('answered with 200 by thread')", text("pages")));
    let pages = browser.eval(&tab, &text("pages"));
    // This stream is on a different thread than the page.
    let _stream = open_stream(server.app);
    for port in [port(&zombie), port(&page)] {
        let before = server.stats()["requests_count"].as_u64();
        ask_from_the_same_port(&server, port);
        server.wait_for_stats("an answer", |stats| stats["requests_count"].as_u64() > before);
        let heard = "[...feed.stories.values()].findLast(it => it.target === '/up')";
        browser.wait_for(&tab, &format!("{heard}?.port === {port} && {heard}.state === 'ended'"));
        browser.run(&tab, "window.told = 0; feed.on(change => { told += change === 'state'; })");
        browser.wait_for(&tab, "told > 1");
        assert_eq!(browser.eval(&tab, &text("zombie-count")), "1 zombie connected, it holds a thread");
        assert_eq!(browser.eval(&tab, &text("pages")), pages);
    }
}

#[test]
fn the_page_shows_when_connected_zombies_hold_no_thread() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--front", "puma", "--update-rate", "200ms", "--retry", "60"]);
    let tab = dashboard(&browser, &server);
    let says = |words: &str| {
        browser.wait_for(&tab, &format!("document.getElementById('zombie-count').textContent === '{words}'"));
    };
    says("");
    press(&browser, &tab, "#zombies");
    says("3 zombies connected, each holds a thread");
    press(&browser, &tab, "#reap");
    says("3 zombies connected, none holds a thread");
}

#[test]
fn viewers_do_not_reset_numbers_that_pumactl_reads() {
    let server = Server::start(&["--threads", "1:1", "--update-rate", "50ms"]);
    let tab = open_stream(server.app);
    server.stats();
    let mut watches = Viewer::open(&server, "");
    let mut page = send(server.app, b"GET /up HTTP/1.0\r\n\r\n");
    wait_for("a queued page in the numbers", || {
        (watches.next("state").1["stats"]["backlog"] == 1).then_some(())
    });
    drop(tab);
    page.read_to_end(&mut Vec::new()).unwrap();
    for _ in 0..3 {
        assert_eq!(watches.next("state").1["stats"]["backlog_max"], 1);
    }
    let stats = server.stats();
    assert_eq!(stats["backlog_max"], 1);
    assert!(stats["reactor_max"].is_u64(), "{stats}");
}

#[test]
fn sixteen_viewers_hold_no_thread_and_a_seventeenth_is_refused() {
    let server = Server::start(&[]);
    let mut viewers: Vec<_> = (0..16).map(|_| Viewer::open(&server, "")).collect();
    let request = "GET /events HTTP/1.0\r\n\r\n";
    let (status, said) = split(&ask(server.control, request));
    assert_eq!((status, said.lines().count()), (503, 1), "{said}");
    // With four threads and sixteen viewers, each viewer is served, and other requests are answered.
    for viewer in &mut viewers {
        viewer.next("state");
    }
    assert_eq!(server.stats()["busy_threads"], 0);
    // After a viewer has closed, another one is admitted.
    viewers.pop();
    let mut late = wait_for("the admission of another viewer", || {
        let mut stream = send(server.control, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        read_head(&mut stream).starts_with("HTTP/1.1 200").then_some(stream)
    });
    read_until(&mut late, "event: state");
}

#[test]
fn a_viewer_that_does_not_read_is_dropped() {
    let server = Server::start(&[]);
    let request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stopped = send_with_small_buffer(server.control, request);
    let mut reads = Viewer::open(&server, "");
    // Long targets quickly fill the buffers of the stalled viewer.
    let end = Instant::now() + PATIENCE * 2;
    let path = format!("/up?{}", "x".repeat(1000));
    let was_dropped = || {
        let ours = stopped.local_addr().unwrap().port();
        !std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let (local, remote, state) =
                (fields.next().unwrap_or(""), fields.next().unwrap_or(""), fields.next().unwrap_or(""));
            local.ends_with(&format!(":{:04X}", server.control.port()))
                && remote.ends_with(&format!(":{ours:04X}"))
                && state == "01"
        })
    };
    while !was_dropped() {
        assert!(Instant::now() < end, "the stalled viewer is still connected");
        for _ in 0..50 {
            assert_eq!(get(server.app, &path).0, 200);
        }
        reads.next("state");
    }
    server.wait_for_stats("free threads", |stats| stats["busy_threads"] == 0);
    // The stalled viewer receives what was written before it was dropped, and nothing more.
    stopped.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 65536];
    loop {
        match stopped.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn pages_of_other_sites_cannot_press_a_button() {
    let server = Server::start(&["--update-rate", "60"]);
    let page = get(server.control, "/").1;
    let token = page.split_once("data-token=\"").unwrap().1.split('"').next().unwrap().to_owned();
    assert_eq!(token.len(), 32, "{token}");
    let _tab = open_stream(server.app);
    let own = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", server.control);
    let host = format!("Host: {}\r\n", server.control);
    let right = format!("X-Ninetabs-Token: {token}\r\n");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let (cross, same_site) =
        ("Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n", "Sec-Fetch-Site: same-site\r\n");
    let app = format!("Origin: http://{}\r\n{same_site}", server.app);
    for path in [
        "/lab/tabs/open",
        "/lab/tabs/close?tab=1",
        "/lab/zombies?count=3",
        "/lab/page",
        "/lab/threads?count=1",
        "/lab/database?size=1",
        "/lab/reset",
        "/reap",
        "/resize?max=9",
        "/max-stream-age?secs=1",
        "/stop",
    ] {
        let and = if path.contains('?') { '&' } else { '?' };
        for (query, headers) in [
            ("", format!("{host}{cross}")),
            ("", format!("{host}{cross}{form}")),
            ("", format!("{host}{cross}X-Ninetabs-Token: {}\r\n", "0".repeat(32))),
            ("", format!("{host}{cross}{right}")),
            ("", format!("{host}Origin: null\r\n{form}")),
            // The app's page, which is on the same site but has another origin.
            ("", format!("{host}{app}")),
            ("", format!("{host}{app}{form}")),
            // The dashboard's own page without its token, with the token only in the address, or with another
            // token.
            ("", format!("{host}{own}")),
            (&*format!("{and}token={token}"), format!("{host}{own}")),
            ("", format!("{host}{own}X-Ninetabs-Token: {token}0\r\n")),
            // A foreign host name that resolves to this address.
            ("", format!("Host: evil.example:{}\r\n{right}", server.control.port())),
            (
                "",
                format!(
                    "Host: evil.example\r\nOrigin: http://evil.example\r\nSec-Fetch-Site: same-origin\r\n{right}"
                ),
            ),
        ] {
            let request = format!("POST {path}{query} HTTP/1.0\r\n{headers}\r\n");
            assert_eq!(split(&ask(server.control, &request)).0, 403, "{request}");
        }
        let preflight = format!(
            "OPTIONS {path} HTTP/1.0\r\n{host}{cross}Access-Control-Request-Headers: x-ninetabs-token\r\n\r\n"
        );
        let answer = ask(server.control, &preflight);
        assert!(split(&answer).0 == 403 && !answer.contains("access-control"), "{answer}");
    }
    for path in ["/events", "/lab", "/threads", "/"] {
        let request = format!("GET {path} HTTP/1.0\r\n{host}{cross}\r\n");
        assert_eq!(split(&ask(server.control, &request)).0, 403, "{request}");
    }
    let stats = server.stats();
    assert_eq!((&stats["streams"]["open"], &stats["max_threads"]), (&json!(1), &json!(8)));
    assert_eq!(json(server.control, "GET", "/lab").1, json!({"tabs": [], "zombies": [], "pages": []}));

    let request = format!("POST /reap HTTP/1.0\r\n{host}{own}{right}\r\n");
    assert_eq!(split(&ask(server.control, &request)), (200, "{\"reaped\":1}".into()));
    // A link from another site may lead to the page, but no frame may show it.
    let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let answer = ask(server.control, &format!("GET / HTTP/1.0\r\n{host}{link}\r\n"));
    assert!(split(&answer).0 == 200 && answer.contains("frame-ancestors 'none'"), "{answer}");
    let request = format!("GET /threads HTTP/1.0\r\n{host}{link}\r\n");
    assert_eq!(
        split(&ask(server.control, &request)).0,
        403,
        "a link from another site may lead only to pages"
    );
}

#[test]
fn the_lab_opens_real_clients_up_to_its_limits_and_a_reset_closes_them() {
    let server = Server::start(&[
        "--front",
        "puma",
        "--update-rate",
        "100ms",
        "--threads",
        "2:4",
        "--max-stream-age",
        "60",
    ]);
    assert_eq!(order(&server, "/lab/tabs/open?tab=7").1["tab"], 7);
    assert_eq!(order(&server, "/lab/tabs/open").1["tab"], 1);
    let (status, zombies) = order(&server, "/lab/zombies?count=2");
    assert_eq!((status, zombies["zombies"].as_array().unwrap().len()), (200, 2));
    server.wait_for_stats("four streams", |stats| stats["streams"]["open"] == 4);
    let (status, page) = order(&server, "/lab/page");
    assert_eq!((status, &page["answered"]), (200, &Value::Null));
    server.wait_for_stats("queued page", |stats| stats["backlog"] == 1);
    let threads = json(server.control, "GET", "/threads").1;
    let mut paths: Vec<_> =
        threads.as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap().to_owned()).collect();
    paths.sort();
    let wanted = ["1", "7", "zombie-1", "zombie-2"].map(|tab| format!("/models/live_stream?tab={tab}"));
    assert_eq!(paths, wanted);
    // The page's port identifies its request on the timeline.
    let timeline = json(server.control, "GET", "/timeline").1;
    let peeked = timeline["moments"].as_array().unwrap().iter().find(|it| it["peeked"] == true).unwrap();
    assert_eq!((&peeked["port"], &peeked["target"]), (&page["local_port"], &json!("/?tab=page-3")));

    for (path, words) in [
        ("/lab/tabs/open?tab=7", "tab 7 is already open"),
        ("/lab/tabs/open?tab=65", "1 to 64"),
        ("/lab/tabs/open?tab=0", "1 to 64"),
        ("/lab/tabs/open?tab=x", "1 to 64"),
        ("/lab/tabs/close?tab=3", "tab 3 is not open"),
        ("/lab/tabs/close", "1 to 64"),
        ("/lab/zombies?count=65", "1 to 64"),
        ("/lab/zombies?count=63", "exceed the maximum of 64"),
        ("/lab/zombies?count=0", "1 to 64"),
        ("/lab/zombies?count=x", "1 to 64"),
        ("/lab/threads", "count"),
        ("/lab/threads?count=0", "maximum"),
        ("/lab/threads?count=x", "threads"),
    ] {
        let (status, said) = order(&server, path);
        let said = said.as_str().unwrap();
        assert!(
            status == 422 && said.contains(words) && said.lines().count() == 1,
            "{path}: {status} {said}"
        );
    }
    for _ in 1..16 {
        assert_eq!(order(&server, "/lab/page").0, 200);
    }
    assert_eq!(order(&server, "/lab/page").0, 422);

    assert_eq!(order(&server, "/lab/tabs/close?tab=7"), (200, json!({"closed": 7})));
    let lab = wait_for("sixteen answers", || {
        let lab = json(server.control, "GET", "/lab").1;
        lab["pages"].as_array().unwrap().iter().all(|page| page["answered"] == 200).then_some(lab)
    });
    assert_eq!((lab["pages"].as_array().unwrap().len(), lab["tabs"].as_array().unwrap().len()), (16, 1));

    assert_eq!(order(&server, "/lab/threads?count=3"), (200, json!({"min": 3, "max": 3})));
    assert_eq!(order(&server, "/max-stream-age?secs=30").0, 200);
    assert_eq!(order(&server, "/lab/reset"), (200, json!({"min": 2, "max": 4, "max_stream_age_s": 60.0})));
    server.wait_for_stats("free pool", |stats| {
        stats["busy_threads"] == 0 && stats["running"].as_u64() <= Some(3) && stats["max_threads"] == 4
    });
    assert_eq!(json(server.control, "GET", "/lab").1, json!({"tabs": [], "zombies": [], "pages": []}));
}

#[test]
fn viewers_and_the_labs_clients_end_with_the_server() {
    let mut server = Server::start(&["--threads", "2:2", "--force-shutdown-after", "1"]);
    let mut watches = Viewer::open(&server, "");
    // An order is answered before the lab's client has sent its request. Both streams must have threads before the
    // page is requested, or the page would be served.
    for path in ["/lab/tabs/open", "/lab/zombies"] {
        assert_eq!(order(&server, path).0, 200);
    }
    server.wait_for_stats("two streams", |stats| stats["streams"]["open"] == 2);
    for path in ["/lab/tabs/open", "/lab/page"] {
        assert_eq!(order(&server, path).0, 200);
    }
    server.wait_for_stats("two queued requests", |stats| stats["backlog"] == 2);
    assert_eq!(order(&server, "/stop").0, 200);
    let status = server.wait_for_exit();
    assert!(status.success(), "{status}: {}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
    // The viewer's stream ends, with or without an error.
    let _ = watches.0.read_to_end(&mut Vec::new());
}

#[test]
fn surplus_threads_end_as_soon_as_they_are_idle() {
    let server = Server::start(&["--update-rate", "50ms"]);
    let tabs: Vec<_> = (0..5).map(|_| open_stream(server.app)).collect();
    assert_eq!(order(&server, "/lab/threads?count=3").0, 200);
    server.wait_for_stats("only the threads that are held", |stats| stats["running"] == 5);
    drop(tabs);
    server.wait_for_stats("three threads", |stats| stats["running"] == 3 && stats["busy_threads"] == 0);
    assert_eq!(order(&server, "/lab/threads?count=8").0, 200);
    let _tabs: Vec<_> = (0..8).map(|_| open_stream(server.app)).collect();
    assert_eq!(server.stats()["running"], 8);
}

/// Compares the lanes and the numbers of the page with those of the server. Nothing changes during the comparison.
fn agree(browser: &Browser, tab: &Tab, server: &Server) {
    let threads = json(server.control, "GET", "/threads").1;
    let stats = server.stats();
    let busy: Vec<_> = threads.as_array().unwrap().iter().filter(|it| it["state"] == "busy").collect();
    for thread in &busy {
        let lane = format!("document.querySelector('[data-lane=\"{}\"]').dataset", thread["number"]);
        let is_stream = thread["path"].as_str().unwrap().starts_with("/models/live_stream");
        browser.wait_for(
            tab,
            &format!("{lane}.state === '{}'", if is_stream { "streaming" } else { "running" }),
        );
        browser.wait_for(tab, &format!("{lane}.path === {}", thread["path"]));
        browser.wait_for(tab, &format!("{lane}.request === '{}'", thread["request"]));
    }
    let held =
        "document.querySelectorAll('.lane[data-state=\"streaming\"], .lane[data-state=\"running\"]').length";
    browser.wait_for(tab, &format!("{held} === {}", busy.len()));
    let lanes = "document.querySelectorAll('.lane:not([data-state=\"absent\"])').length";
    browser.wait_for(tab, &format!("{lanes} === {}", stats["running"]));
    for key in ["backlog", "running", "busy_threads", "pool_capacity", "max_threads", "requests_count"] {
        browser.wait_for(tab, &format!("document.getElementById('{key}').textContent === '{}'", stats[key]));
    }
    let open = &stats["streams"]["open"];
    browser.wait_for(tab, &format!("document.getElementById('streams_open').textContent === '{open}'"));
    let waiting = format!("document.querySelectorAll('#todo .waiting').length === {}", stats["backlog"]);
    browser.wait_for(tab, &waiting);
}

#[test]
fn lanes_and_numbers_match_the_server_and_the_buttons_work() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "200ms", "--retry", "60"]);
    let tab = dashboard(&browser, &server);
    agree(&browser, &tab, &server);
    for open in 1..=8 {
        press(&browser, &tab, "#open-tab");
        server.wait_for_stats("one more stream", |stats| stats["streams"]["open"] == open);
    }
    agree(&browser, &tab, &server);
    press(&browser, &tab, "#open-tab");
    browser.wait_for(&tab, "document.querySelector('#todo .waiting')?.dataset.tab === '9'");
    browser.wait_for(&tab, "document.querySelector('.chip[data-tab=\"9\"]').dataset.state === 'waiting'");
    press(&browser, &tab, "#ask-page");
    browser.wait_for(
        &tab,
        "/waits in the queue for [0-9.]+ s, 1 ahead/.test(document.getElementById('pages').textContent)",
    );
    browser.wait_for(
        &tab,
        "document.getElementById('headline').textContent.startsWith('All 8 threads are held. 2 wait, the first for ')",
    );
    agree(&browser, &tab, &server);

    press(&browser, &tab, ".chip[data-tab=\"3\"] .close");
    browser.wait_for(&tab, "document.querySelector('.lane[data-tab=\"9\"]')?.dataset.state === 'streaming'");
    browser.wait_for(&tab, "document.getElementById('log').textContent.includes('failed (EPIPE)')");
    agree(&browser, &tab, &server);
    press(&browser, &tab, ".chip[data-tab=\"4\"] .close");
    browser.wait_for(
        &tab,
        "/answered with 200 by thread \\d after/.test(document.getElementById('pages').textContent)",
    );
    agree(&browser, &tab, &server);

    press(&browser, &tab, "#reap");
    server.wait_for_stats("reaped streams", |stats| stats["streams"]["reaped"] == 7);
    browser.wait_for(&tab, "document.getElementById('answer').textContent === '7 streams were reaped.'");
    browser.wait_for(&tab, "document.querySelectorAll('.lane[data-state=\"idle\"]').length === 8");
    press(&browser, &tab, "#zombies");
    server.wait_for_stats("zombies", |stats| stats["streams"]["open"] == 3);
    agree(&browser, &tab, &server);
    choose(&browser, &tab, "#threads select", "8");
    browser.wait_for(
        &tab,
        "document.getElementById('answer').textContent === '8 threads, minimum and maximum.'",
    );
    choose(&browser, &tab, "#threads select", "other");
    choose(&browser, &tab, "#threads input", "4");
    server.wait_for_stats("four threads", |stats| stats["max_threads"] == 4 && stats["running"] == 4);
    browser.wait_for(&tab, "document.querySelectorAll('.lane:not([data-state=\"absent\"])').length === 4");
    press(&browser, &tab, "#age-on");
    browser.wait_for(&tab, "document.getElementById('max_stream_age').textContent === '5 s'");
    press(&browser, &tab, "#age-on");
    browser.wait_for(&tab, "document.getElementById('max_stream_age').textContent === 'off'");
    for (form, wrong, words) in [
        ("age", "soon", "Give seconds, such as 5, or off."),
        ("age", "0", "Give seconds, such as 5, or off."),
        ("threads", "0", "The number of threads must be 1 or more."),
        ("threads", "10001", "Give a number of threads from 1 to 10,000."),
        ("threads", "", "Give a number of threads from 1 to 10,000."),
    ] {
        if form == "threads" {
            choose(&browser, &tab, "#threads select", "other");
        }
        choose(&browser, &tab, &format!("#{form} input:not([type=checkbox])"), wrong);
        browser.wait_for(&tab, &format!("document.getElementById('answer').textContent === '{words}'"));
    }
    assert_eq!(server.stats()["max_threads"], 4);
    choose(&browser, &tab, "#age input:not([type=checkbox])", "off");
    browser.wait_for(&tab, "document.getElementById('answer').textContent === 'The maximum age is off.'");
    press(&browser, &tab, "#reset");
    server.wait_for_stats("initial limits", |stats| stats["max_threads"] == 8 && stats["busy_threads"] == 0);
    agree(&browser, &tab, &server);
    assert_eq!(errors(&browser, &tab), [""; 0]);
}

/// Calls `look` with an idle server, with a full pool and a queue, and after the server was killed.
fn in_each_state(browser: &Browser, tab: &Tab, mut server: Server, mut look: impl FnMut(&str)) {
    look("idle");
    for _ in 0..8 {
        assert_eq!(order(&server, "/lab/tabs/open").0, 200);
    }
    server.wait_for_stats("eight streams", |stats| stats["streams"]["open"] == 8);
    for path in ["/lab/zombies?count=30", "/lab/page", "/lab/page"] {
        assert_eq!(order(&server, path).0, 200);
    }
    browser.wait_for(tab, "document.querySelectorAll('#todo .waiting').length === 24 && document.querySelector('#pages li') !== null");
    look("full");
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    browser.wait_for(tab, "document.body.dataset.connection === 'lost'");
    look("lost");
}

#[test]
fn the_longest_headline_leaves_space_for_the_meter() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let tab = dashboard(&browser, &server);
    for path in ["/lab/zombies?count=8", "/lab/page"] {
        assert_eq!(order(&server, path).0, 200);
    }
    browser.wait_for(
        &tab,
        "document.getElementById('headline').textContent.startsWith('8 zombies hold all 8 threads. A page')",
    );
    // The width without and with a scroll bar.
    for width in [1280, 1265] {
        browser.devtools(
            &tab,
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": 720, "deviceScaleFactor": 1, "mobile": false }),
        );
        browser.wait_for(&tab, &format!("innerWidth === {width}"));
        let over = "(edge => edge('.meter-waits') - edge('.summary'))
             (selector => document.querySelector(selector).getBoundingClientRect().right)";
        let over = browser.eval(&tab, over).as_f64().unwrap();
        assert!(over <= 0.5, "at a width of {width} px, the meter is cut off by {over} px");
    }
}

#[test]
fn axe_finds_nothing_serious_in_any_color_scheme() {
    let Some(browser) = Browser::start() else { return };
    let Some(axe) = Axe::fetch() else { return };
    let server = Server::start(&[]);
    let tab = dashboard(&browser, &server);
    in_each_state(&browser, &tab, server, |state| {
        axe.expect_nothing_serious(&browser, &tab, state);
    });
}

#[test]
fn nothing_overflows_in_a_narrow_window() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let tab = dashboard(&browser, &server);
    in_each_state(&browser, &tab, server, |state| {
        for width in [280, 390, 700, 1280] {
            browser.devtools(
                &tab,
                "Emulation.setDeviceMetricsOverride",
                &json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false }),
            );
            browser.wait_for(&tab, &format!("innerWidth === {width}"));
            let over = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.eval(&tab, over), 0, "{state}, {width}");
        }
    });
}

#[test]
fn the_legend_keeps_its_patterns_with_forced_colors_and_in_print() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let tab = dashboard(&browser, &server);
    let forced = json!({ "features": [{ "name": "forced-colors", "value": "active" }] });
    browser.devtools(&tab, "Emulation.setEmulatedMedia", &forced);
    browser.wait_for(&tab, "matchMedia('(forced-colors: active)').matches");
    // Each key differs from the others and from the paper in its fill, pattern, border or sign.
    let looks = browser.eval(
        &tab,
        "[...document.querySelectorAll('.key')].map(key =>
           (style => [style.backgroundColor, style.backgroundImage, style.borderTopWidth, style.borderTopStyle, style.width, key.textContent].join())(getComputedStyle(key)))",
    );
    let looks: Vec<String> = serde_json::from_value(looks).unwrap();
    let different: std::collections::BTreeSet<_> = looks.iter().collect();
    assert_eq!(different.len(), looks.len(), "{looks:?}");
    let blank = "[...document.querySelectorAll('.key')].filter(key => (style =>
        style.backgroundColor === getComputedStyle(document.body).backgroundColor && style.backgroundImage === 'none' && style.borderTopWidth === '0px')(getComputedStyle(key))).length";
    assert_eq!(browser.eval(&tab, blank), 0);
    // The picture must use the system's colors as well.
    let held = "(probe => { probe.style.color = 'Highlight'; document.body.append(probe); return getComputedStyle(probe).color })(document.createElement('i')) === picture.drawing.colors.held";
    assert_eq!(browser.eval(&tab, held), true);

    // Browsers do not print backgrounds unless the page sets `print-color-adjust: exact`.
    browser.devtools(&tab, "Emulation.setEmulatedMedia", &json!({ "media": "print", "features": [] }));
    browser.wait_for(&tab, "matchMedia('print').matches");
    let kept = "[...document.querySelectorAll('.key')].every(key => getComputedStyle(key).printColorAdjust === 'exact')";
    assert_eq!(browser.eval(&tab, kept), true);
    let cut = "(log => log.scrollHeight > log.clientHeight + 1)(document.querySelector('.log'))";
    assert_eq!(browser.eval(&tab, cut), false, "the log is cut off in print");
    let controls = "document.querySelector('.sticky').getClientRects().length";
    assert_eq!(browser.eval(&tab, controls), 0, "the buttons appear in print");
}

#[test]
fn a_lane_can_be_read_by_keyboard() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--threads", "1:1", "--update-rate", "50ms"]);
    let tab = dashboard(&browser, &server);
    for (number, then) in [(3, "/lab/tabs/close?tab=3"), (4, "/lab")] {
        assert_eq!(order(&server, &format!("/lab/tabs/open?tab={number}")).0, 200);
        browser.wait_for(
            &tab,
            &format!("document.querySelector('.lane[data-tab=\"{number}\"]').dataset.state === 'streaming'"),
        );
        // A shorter stream would not get its own band.
        browser.wait_for(&tab, "feed.now() - feed.lanes.get(1).current.from > 2 * SHORT_US");
        order(&server, then);
    }
    let tip = "document.querySelector('[role=tooltip]:not([hidden])').textContent";
    // Without this, a window in the background gets no focus events.
    browser.devtools(&tab, "Emulation.setFocusEmulationEnabled", &json!({ "enabled": true }));
    browser.run(&tab, "document.querySelector('.lane-strip').focus()");
    browser.wait_for(
        &tab,
        &format!("{tip}.includes('tab 4, a streamGET /models/live_stream?tab=4held the thread for ')"),
    );
    browser.press(&tab, "\u{e012}");
    browser.wait_for(&tab, &format!("{tip}.includes('tab 3') && {tip}.includes('failed (EPIPE)')"));
    let described = "document.activeElement.getAttribute('aria-describedby') === document.querySelector('[role=tooltip]').id";
    assert_eq!(browser.eval(&tab, described), true);
    browser.press(&tab, "\u{e00c}");
    browser.wait_for(&tab, "document.querySelector('[role=tooltip]').hidden");
}

#[test]
fn the_name_of_a_client_is_truncated_and_cannot_reverse_the_text_after_it() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--front", "puma", "--threads", "1:1"]);
    let tab = dashboard(&browser, &server);
    let name = format!("%E2%80%AE%3Cimg%20src=x%20onerror=alert(1)%3E%0A{}", "x".repeat(900));
    let request = format!("GET /models/live_stream?tab={name} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let _two = [(); 2].map(|()| send(server.app, request.as_bytes()));
    for text in [
        "document.querySelector(\".lane[data-state='streaming'] .lane-strip\").getAttribute('aria-label')",
        "document.querySelector('#todo .waiting').textContent",
        "document.querySelector(\"#log [data-kind='streaming']\").textContent",
    ] {
        browser.wait_for(&tab, &format!("{text}.includes('<img src=x onerror=')"));
        let shown = browser.eval(&tab, text);
        let shown = shown.as_str().unwrap();
        assert!(shown.chars().count() < 100 && !shown.contains(['\u{202e}', '\n']), "{shown:?}");
    }
    assert_eq!(browser.eval(&tab, "document.querySelectorAll('img').length"), 0);
    browser.wait_for(&tab, "document.documentElement.scrollWidth === document.documentElement.clientWidth");
    assert_eq!(errors(&browser, &tab), [""; 0]);
}

#[test]
fn the_queue_keeps_its_order_and_an_incomplete_record_stays_bounded() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let tab = dashboard(&browser, &server);
    browser.run(
        &tab,
        "window.told = new Record();
         window.list = document.createElement('ol');
         const waiting = new Waiting(list, document.createElement('div'), { record: told });
         let seq = 0;
         window.tell = (...kinds) => {
           const moments = kinds.map(([kind, request, thread]) => ({ seq: ++seq, at_us: seq, kind, request, thread, connection: request }));
           told.hear({ now_us: seq, forgotten: 0, moments });
           waiting.arrange();
         }",
    );
    // A connection that a thread has taken and queued again is at the end of the queue.
    let order = "[...list.querySelectorAll('.waiting')].map(item => item.dataset.request).join()";
    browser.run(&tab, "tell(['queued', 1], ['queued', 2])");
    assert_eq!(browser.eval(&tab, order), "1,2");
    browser.run(&tab, "tell(['started', 1, 7], ['queued', 1], ['finished', 1, 7])");
    assert_eq!(browser.eval(&tab, order), "2,1");
    // The record has only the ends of these requests.
    browser.run(&tab, "for (let n = 10; n < 5000; n += 1) tell(['wrote', n, 7], ['finished', n, 7])");
    let kept = browser.eval(&tab, "told.stories.size");
    assert!(kept.as_u64() < Some(600), "{kept}");
}

#[test]
fn the_requests_of_a_page_carry_the_operators_token() {
    let Some(browser) = Browser::start() else { return };
    // The token has characters that an address may contain with or without percent-encoding.
    let server = Server::start(&["--control-token", "s3+c/r%65t=="]);
    assert_eq!(get(server.control, "/").0, 403);
    let tab = browser.first_tab();
    browser.goto(&tab, &format!("http://{}/?token=s3+c/r%65t==", server.control));
    let is_live = "document.body.dataset.connection === 'live'";
    browser.wait_for(&tab, is_live);
    press(&browser, &tab, "#open-tab");
    browser.wait_for(&tab, "document.querySelector('.lane[data-tab=\"1\"]')?.dataset.state === 'streaming'");
    browser.click(&tab, "nav a[href^='/wall']");
    browser.wait_for(&tab, &format!("{is_live} && location.search.endsWith('&tabs=9&hosts=many')"));
    browser.run(&tab, "window.isOld = true; location.reload()");
    browser.wait_for(&tab, &format!("typeof isOld === 'undefined' && {is_live}"));
    assert_eq!(errors(&browser, &tab), [""; 0]);
}

#[test]
fn the_page_contacts_only_its_own_server_and_shows_when_the_connection_is_lost() {
    let Some(browser) = Browser::start() else { return };
    let mut server = Server::start(&[]);
    let page = get(server.control, "/").1;
    assert!(page.len() < 100_000, "{} bytes", page.len());
    let tab = dashboard(&browser, &server);
    browser.run(
        &tab,
        "window.violations = []; document.addEventListener('securitypolicyviolation', e => violations.push(e.violatedDirective))",
    );
    press(&browser, &tab, "#open-tab");
    browser.wait_for(&tab, "document.querySelector('.lane[data-tab=\"1\"]')?.dataset.state === 'streaming'");
    // All requests of the page go to its own server.
    let asked = "performance.getEntriesByType('resource').map(it => new URL(it.name)).filter(it => it.protocol !== 'data:').every(it => it.host === location.host)";
    assert_eq!(browser.eval(&tab, asked), true);
    assert_eq!(browser.eval(&tab, "violations.length"), 0);
    // An image from another server and code in attributes are blocked.
    browser.run(
        &tab,
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.2:9/x.png\"><b id=b style=\"color: red\" onclick=\"window.ran = 1\">b</b>');
         document.getElementById('b').click()",
    );
    browser.wait_for(&tab, "violations.length >= 3");
    assert_eq!(browser.eval(&tab, "typeof window.ran"), "undefined");
    browser.console(&tab);

    server.child.kill().unwrap();
    server.child.wait().unwrap();
    browser.wait_for(&tab, "document.body.dataset.connection === 'lost'");
    browser.wait_for(&tab, "document.querySelector('#connection').textContent.includes('out of date')");
    press(&browser, &tab, "#reap");
    browser.wait_for(&tab, "document.getElementById('answer').textContent.includes('cannot be reached')");
    // The page's clock stops while no news arrives.
    let now = browser.eval(&tab, "feed.now()");
    browser.wait_for(&tab, "performance.now() - feed.heardAt > 1500");
    assert_eq!(browser.eval(&tab, "feed.now()"), now);
}

#[test]
fn a_flood_of_events_does_not_grow_the_page() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "50ms"]);
    let tab = dashboard(&browser, &server);
    let _streams: Vec<_> = (0..4).map(|_| open_stream(server.app)).collect();
    let heap = "(window.gc && gc(), performance.memory.usedJSHeapSize)";
    // A busy page receives about 60,000 moments in twenty minutes.
    let feed_until = |wanted: u64| {
        let end = Instant::now() + PATIENCE * 4;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        get(server.app, "/up");
                    }
                });
            }
            while browser.eval(&tab, "feed.seq").as_u64() < Some(wanted) && Instant::now() < end {
                thread::sleep(Duration::from_millis(200));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert!(browser.eval(&tab, "feed.seq").as_u64() >= Some(wanted), "the feed fell behind");
    };
    feed_until(10_000);
    let before = browser.eval(&tab, heap).as_f64().unwrap();
    feed_until(60_000);
    let after = browser.eval(&tab, heap).as_f64().unwrap();
    assert!(after < before + 20e6, "the heap grew from {before} to {after} bytes");
    let nodes = browser.eval(&tab, "document.querySelectorAll('*').length").as_u64().unwrap();
    assert!(nodes < 700, "{nodes} nodes");
    let kept = browser.eval(&tab, "[feed.stories.size, feed.log.length, feed.queue.size]");
    let kept: Vec<u64> = serde_json::from_value(kept).unwrap();
    assert!(kept[0] < 1000 && kept[1] <= 120, "{kept:?}");
    // The page is correct again once the flood has ended.
    agree(&browser, &tab, &server);
    assert_eq!(errors(&browser, &tab), [""; 0]);
}

/// A page of another site that makes the browser send requests to `TARGET` in every way that needs no permission.
/// Each way has a different query.
const ATTACK: &str = r#"<!doctype html><title>loading</title><meta name=referrer content=no-referrer>
<img referrerpolicy=no-referrer src="TARGET?img"><script src="TARGET?script"></script>
<link rel=stylesheet href="TARGET?style"><iframe src="TARGET?iframe"></iframe>
<video src="TARGET?video"></video><object data="TARGET?object"></object><embed src="TARGET?embed">
<form id=form method=get action="TARGET" target=frame></form><iframe name=frame></iframe>
<form id=post method=post action="TARGET" target=other></form><iframe name=other></iframe>
<script>
const tried = [fetch('TARGET?fetch', { mode: 'no-cors', referrerPolicy: 'no-referrer' }),
  fetch('TARGET?post', { method: 'POST', mode: 'no-cors', body: '' })];
navigator.sendBeacon('TARGET?beacon', '');
form.submit(); post.submit();
addEventListener('load', () => Promise.allSettled(tried).then(() => setTimeout(() => { document.title = 'done'; }, 500)));
</script>"#;

/// Serves this page to every client, on a separate port, until the test ends.
fn attacker(page: String) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length:";
            let _ = stream.write_all(format!("{head} {}\r\n\r\n{page}", page.len()).as_bytes());
        }
    });
    port
}

#[test]
fn a_page_of_another_site_cannot_halt_the_server_under_an_allowed_name() {
    let Some(browser) = Browser::start_with(&["--host-resolver-rules=MAP *.test 127.0.0.1"]) else { return };
    let server = Server::start(&["--allow-host", "ninetabs.test", "--update-rate", "60"]);
    let _stream = open_stream(server.app);
    let tab = browser.first_tab();
    for host in ["ninetabs.test", "localhost", "127.0.0.1"] {
        for order in ["halt", "stop", "reap", "max-stream-age"] {
            let target = format!("http://{host}:{}/{order}", server.control.port());
            let port = attacker(ATTACK.replace("TARGET", &target));
            browser.goto(&tab, &format!("http://attacker.test:{port}/"));
            browser.wait_for(&tab, &format!("location.port === '{port}' && document.title === 'done'"));
        }
    }
    let stats = server.stats();
    assert_eq!((&stats["streams"]["open"], &stats["streams"]["reaped"]), (&json!(1), &json!(0)));

    // A user may open the page under the allowed name. Without a token, the page can read, but cannot change
    // anything.
    browser.goto(&tab, &format!("http://ninetabs.test:{}/", server.control.port()));
    browser.wait_for(&tab, "document.body.dataset.connection === 'live'");
    let press =
        "fetch('/reap', { method: 'POST', headers: { 'x-ninetabs-token': document.body.dataset.token } })";
    browser.run(&tab, &format!("{press}.then(it => {{ window.status_of_order = it.status; }})"));
    browser.wait_for(&tab, "window.status_of_order === 403");
    assert_eq!(server.stats()["streams"]["open"], 1);
}

#[test]
fn lanes_and_controls_fit_on_one_screen_and_a_long_queue_does_not_move_them() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "200ms"]);
    let tab = dashboard(&browser, &server);
    let size = json!({ "width": 1280, "height": 720, "deviceScaleFactor": 1, "mobile": false });
    browser.devtools(&tab, "Emulation.setDeviceMetricsOverride", &size);
    browser.wait_for(&tab, "innerWidth === 1280 && document.querySelectorAll('.lane').length === 8");
    let top = |part: &str| {
        let top = format!("document.querySelector('{part}').getBoundingClientRect().top");
        browser.eval(&tab, &top).as_f64().unwrap()
    };
    assert_eq!(browser.eval(&tab, "document.getElementById('first').hidden"), false);
    press(&browser, &tab, "#first-nine");
    browser.wait_for(&tab, "document.getElementById('answer').textContent === 'Nine tabs are open.'");
    browser.wait_for(&tab, "document.getElementById('first').hidden && feed.todo().length === 1");
    let before = (top(".lane"), top(".legend"));
    for part in [".controls", ".lane:nth-child(8)", ".queue", ".legend"] {
        let bottom = format!("document.querySelector('{part}').getBoundingClientRect().bottom <= 720");
        assert_eq!(browser.eval(&tab, &bottom), true, "{part}");
    }
    assert_eq!(order(&server, "/lab/zombies?count=30").0, 200);
    browser.wait_for(&tab, "feed.todo().length === 31");
    assert_eq!((top(".lane"), top(".legend")), before);
    browser.wait_for(&tab, "document.querySelector('.queue-more').textContent === '+28'");
    // The controls stay visible when the page is scrolled.
    browser.run(&tab, "scrollTo(0, 400)");
    browser.wait_for(
        &tab,
        "scrollY > 100 && document.querySelector('.sticky').getBoundingClientRect().top === 0",
    );
    assert_eq!(errors(&browser, &tab), [""; 0]);
}

#[test]
fn orders_closed_clients_and_warnings_are_sent_and_shown() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "6", "--threads", "1:1"]);
    let tab = dashboard(&browser, &server);
    for path in ["/lab/tabs/open?tab=3", "/lab/tabs/open?tab=4"] {
        assert_eq!(order(&server, path).0, 200);
    }
    let warns = |words: &str| {
        browser
            .wait_for(&tab, &format!("document.getElementById('warnings').textContent.includes('{words}')"));
    };
    warns("The only thread is held by a stream; 1 request waits, for ");
    warns("/fixes/push holds no thread.");
    assert_eq!(order(&server, "/lab/tabs/close?tab=3").0, 200);
    warns("Tab 3 has closed; its thread is held until the second write fails.");
    browser.wait_for(&tab, "document.querySelectorAll('.meter [data-state=\"gone\"]').length === 1");
    browser.wait_for(&tab, "document.querySelector('.lane[data-tab=\"4\"]')?.dataset.state === 'streaming'");
    let marks = browser.eval(&tab, "feed.marks().map(it => it.text)");
    assert_eq!(marks, json!(["opened tab 3", "opened tab 4", "closed tab 3"]));
    // A viewer that connects later gets the closed client and the orders from the record.
    let mut viewer = Viewer::open(&server, "");
    let (_, past) = viewer.next("moments");
    let of = |kind: &str| {
        let moments = past["moments"].as_array().unwrap().iter();
        moments.filter(|moment| moment["kind"] == kind).cloned().collect::<Vec<_>>()
    };
    let closed = &of("client_closed")[0];
    let asked = |moment: &Value| (moment["request"].clone(), moment["target"].clone());
    assert_eq!(
        of("accepted").iter().map(asked).find(|(request, _)| *request == closed["request"]).unwrap().1,
        "/models/live_stream?tab=3"
    );
    assert!(closed["at_us"].as_u64() <= past["now_us"].as_u64() && closed["thread"].is_null());
    let orders: Vec<_> = of("ordered").iter().map(|moment| moment["text"].clone()).collect();
    assert_eq!(orders, ["opened tab 3", "opened tab 4", "closed tab 3"]);
    assert!(
        browser
            .eval(&tab, "document.getElementById('log').textContent")
            .as_str()
            .unwrap()
            .contains("order: closed tab 3")
    );
    let others = order(&server, "/lab/database?size=9999");
    assert!(others.0 == 422 && others.1.as_str().unwrap().starts_with("size: "), "{others:?}");
    assert_eq!(errors(&browser, &tab), [""; 0]);
}

#[test]
fn a_frozen_picture_moves_through_the_record_and_returns_to_the_live_state() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "60", "--threads", "2:2"]);
    let tab = dashboard(&browser, &server);
    // Collects the state of the live page after each of these orders, with the number of its last event.
    let state = "JSON.stringify([[...shown.record.lanes.values()].map(lane => [lane.number, lane.state, lane.current?.story.name]), shown.record.todo().map(story => story.name)])";
    let mut seen = Vec::new();
    for (path, streams, waiting) in
        [("/lab/tabs/open?tab=1", 1, 0), ("/lab/tabs/open?tab=2", 2, 0), ("/lab/tabs/open?tab=3", 2, 1)]
    {
        assert_eq!(order(&server, path).0, 200);
        browser.wait_for(
            &tab,
            &format!(
                "document.querySelectorAll('.lane[data-state=\"streaming\"]').length === {streams} && feed.todo().filter(it => !it.isSpare).length === {waiting} && [...feed.lanes.values()].every(lane => !lane.current || lane.current.story.writes > 0)"
            ),
        );
        let seq = browser.eval(&tab, "feed.seq").as_u64().unwrap();
        seen.push((seq, browser.eval(&tab, state)));
    }
    browser.click(&tab, "#freeze");
    browser.wait_for(&tab, "freeze.isFrozen && freeze.moments.length > 0");
    let headline = "document.getElementById('headline').textContent";
    for (seq, known) in seen.iter().rev() {
        browser.run(&tab, &format!("freeze.goTo(freeze.moments.findIndex(it => it.seq === {seq}))"));
        assert_eq!(browser.eval(&tab, state), *known, "after event {seq}");
        let says = "document.getElementById('scrub-says').textContent";
        let said = browser.eval(&tab, says);
        assert!(said.as_str().unwrap().starts_with("Frozen, "), "{said}");
    }
    browser.wait_for(&tab, &format!("{headline} === '1 of 2 threads is held. Nothing waits.' || {headline} === '1 of 2 threads are held. Nothing waits.'"));
    browser.wait_for(&tab, "document.getElementById('backlog').textContent === 'not recorded'");
    let at = browser.eval(&tab, "freeze.index").as_u64().unwrap();
    browser.run(&tab, "document.activeElement.blur()");
    browser.press(&tab, "\u{e014}");
    assert_eq!(browser.eval(&tab, "freeze.index").as_u64().unwrap(), at + 1);
    browser.press(&tab, "\u{e010}");
    browser.wait_for(&tab, "!freeze.isFrozen");
    browser.wait_for(&tab, &format!("{headline}.startsWith('All 2 threads are held. Tab 3 has waited ')"));
    assert_eq!(browser.eval(&tab, state), seen[2].1);
    assert_eq!(errors(&browser, &tab), [""; 0]);
}

/// A file that the page saves in the browser: its name, its text and the address that it was fetched from.
fn saved_file(browser: &Browser, tab: &Tab, button: &str) -> (String, String, String) {
    browser.run(
        tab,
        "window.file = null;
         const fetched = window.fetched ??= window.fetch;
         window.fetch = (path, how) => { window.asked = path; return fetched(path, how); };
         const made = window.made ??= URL.createObjectURL;
         URL.createObjectURL = blob => { window.blob = blob; return made(blob); };
         HTMLAnchorElement.prototype.click = function () {
           window.blob.text().then(text => { window.file = [this.download, text, window.asked]; });
         }",
    );
    press(browser, tab, button);
    browser.wait_for(tab, "window.file !== null");
    let said = browser.eval(tab, "document.getElementById('answer').textContent");
    let file: Vec<String> = serde_json::from_value(browser.eval(tab, "window.file")).unwrap();
    assert_eq!(said, format!("{} is saved.", file[0]));
    (file[0].clone(), file[1].clone(), file[2].clone())
}

#[test]
fn the_last_minute_or_the_frozen_picture_can_be_saved() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "60", "--threads", "2:2"]);
    let tab = dashboard(&browser, &server);
    assert_eq!(order(&server, "/lab/tabs/open?tab=1").0, 200);
    browser.wait_for(&tab, "feed.orders.length === 1");
    let (name, page, path) = saved_file(&browser, &tab, "#save-report");
    assert!(name.starts_with("ninetabs-report-2") && name.ends_with(".html"), "{name}");
    assert!(page.contains("<h1>1 of 2 threads is held. Nothing waits.</h1>"), "{page}");
    assert_eq!(path, "/report?last=60");

    // The frozen picture shows the state at its event, regardless of what happened later.
    browser.click(&tab, "#freeze");
    browser.wait_for(&tab, "freeze.isFrozen && freeze.moments.length > 0");
    assert_eq!(order(&server, "/lab/tabs/open?tab=2").0, 200);
    server.wait_for_stats("two streams", |stats| stats["streams"]["open"] == 2);
    let (_, page, path) = saved_file(&browser, &tab, "#save-report");
    assert!(path.starts_with("/report?from=") && path.contains("&to="), "{path}");
    assert!(page.contains("<h1>1 of 2 threads is held. Nothing waits.</h1>"), "{page}");
    browser.run(&tab, "freeze.goTo(freeze.moments.findIndex(it => it.kind === 'spawned'))");
    let (_, page, _) = saved_file(&browser, &tab, "#save-report");
    assert!(page.contains("<h1>All 2 threads are idle. Nothing waits.</h1>"), "{page}");
    let (name, text, path) = saved_file(&browser, &tab, "#save-trace");
    assert!(name.starts_with("ninetabs-trace-2") && path.starts_with("/trace?from="), "{name} {path}");
    let events: Vec<Value> = serde_json::from_str(&text).unwrap();
    trace::check(&events, true);
    assert!(events.iter().all(|event| event["ph"] != "B"), "{text}");
    assert_eq!(errors(&browser, &tab), [""; 0]);
}

#[test]
fn a_write_blocked_by_its_reader_is_a_warning() {
    let server = Server::start(&["--threads", "2:2", "--write-timeout", "60"]);
    create_large(server.app, 500);
    let _reader = stopped_reader(&server);
    server.wait_for_stats("the warning", |stats| {
        stats["warnings"].as_array().unwrap().iter().any(|warning| {
            let text = warning["text"].as_str().unwrap();
            text.starts_with("A write to ") && text.contains(" has been blocked for ")
        })
    });
}

#[test]
fn frames_that_wait_in_the_browser_are_a_warning_while_the_wall_reports_them() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "60", "--threads", "16:16"]);
    let wall = browser.first_tab();
    browser.goto(&wall, &format!("http://{}/wall?tabs=9&hosts=one", server.control));
    let warns = |words: &str| {
        server.wait_for_stats(words, |stats| {
            let warnings = stats["warnings"].as_array().unwrap();
            warnings.iter().any(|warning| warning["text"].as_str().unwrap() == words)
        });
    };
    warns("3 tabs are in the browser: 6 connections to one host are in use.");
    browser.goto(&wall, &format!("http://{}/", server.control));
    server.wait_for_stats("no warning", |stats| stats["warnings"].as_array().unwrap().is_empty());
}

#[test]
fn the_lanes_are_one_tab_stop_and_a_table_shows_the_same() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "60", "--threads", "16:16"]);
    let tab = dashboard(&browser, &server);
    assert_eq!(order(&server, "/lab/tabs/open?tab=5").0, 200);
    browser.wait_for(&tab, "document.querySelector('.lane[data-tab=\"5\"]') !== null");
    let stops = "[...document.querySelectorAll('a[href], button, input, select, [tabindex]')].filter(it => it.tabIndex >= 0 && it.getClientRects().length && !it.disabled).findIndex(it => it.id === 'log')";
    let count = browser.eval(&tab, stops).as_u64().unwrap();
    assert!(count <= 13, "{count} tab stops before the log");
    browser.devtools(&tab, "Emulation.setFocusEmulationEnabled", &json!({ "enabled": true }));
    browser.run(&tab, "document.querySelector('.lane-strip').focus()");
    browser.press(&tab, "\u{e015}");
    let lane = "document.activeElement.closest('.lane')?.dataset.lane";
    assert_eq!(browser.eval(&tab, lane), "2");
    browser.press(&tab, "\u{e00c}");
    assert_eq!(browser.eval(&tab, "document.activeElement === document.body"), true);
    browser.click(&tab, "#as-table");
    browser.wait_for(&tab, "[...document.querySelectorAll('#rows tr')].some(row => row.cells[1].textContent === 'held' && row.cells[2].textContent === 'tab 5')");
    assert_eq!(browser.eval(&tab, "document.querySelectorAll('#rows tr').length"), 16);
    // Every number has an explanation.
    browser.click(&tab, "#explain");
    let open = "[...document.querySelectorAll('.large div, .gauges div')].every(it => !it.querySelector('.says').hidden)";
    assert_eq!(browser.eval(&tab, open), true);
}
