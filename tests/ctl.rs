//! `ninetabs ctl` as a command: every order sent to our server and, where possible, to the real Puma, with the
//! output and the exit status.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::common::puma::Puma;
use crate::common::{Server, get, open_stream, read_until, wait_for};
use serde_json::{Value, json};

fn ctl(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.arg("ctl").args(args).stdin(Stdio::null());
    command.env_remove("NINETABS_CONTROL_URL").env_remove("NINETABS_CONTROL_TOKEN");
    command.output().unwrap()
}

fn url(server: &Server) -> String {
    format!("tcp://{}", server.control)
}

/// The output of `ctl`, which must be one line of JSON, with nothing on stderr.
fn line(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{stdout}");
    let line = stdout.strip_suffix('\n').unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    line.to_owned()
}

fn answer(output: &Output) -> Value {
    serde_json::from_str(&line(output)).unwrap()
}

/// Checks the error of `ctl`, which must be one line with these words, with nothing on stdout.
fn complaint(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("ninetabs: ") && !said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
}

#[test]
fn ctl_prints_the_answer_of_the_server() {
    let server = Server::start(&["--threads", "2:2", "--update-rate", "60"]);
    let _tab = open_stream(server.app);
    let url = url(&server);
    let ask = |args: &[&str]| ctl(&[&["--control-url", &url], args].concat());

    let stats = line(&ask(&["stats"]));
    assert!(stats.starts_with("{\"started_at\":\""), "the answer is printed unchanged: {stats}");
    assert_eq!(answer(&ask(&["stats"]))["busy_threads"], 1);
    let threads = answer(&ask(&["threads"]));
    let states = threads.as_array().unwrap().iter().filter(|it| it["state"] == "busy").count();
    assert_eq!(states, 1, "{threads}");
    let backtraces = answer(&ask(&["thread-backtraces"]));
    assert_eq!((backtraces.as_array().unwrap().len(), backtraces[0]["backtrace"].is_array()), (2, true));
    assert_eq!(answer(&ask(&["status"])), json!({"status": "started"}));

    let all = answer(&ask(&["timeline"]));
    let rest = answer(&ask(&["timeline", "--after", "1"]));
    let count = |it: &Value| it["moments"].as_array().unwrap().len();
    assert_eq!(count(&all), count(&rest) + 1);
}

#[test]
fn ctl_sends_the_orders_that_only_ninetabs_has() {
    let server = Server::start(&["--update-rate", "60"]);
    let mut tab = open_stream(server.app);
    let url = url(&server);
    let ask = |args: &[&str]| answer(&ctl(&[&["--control-url", &url], args].concat()));
    assert_eq!(ask(&["reap", "--older-than", "1000"]), json!({"reaped": 0}));
    assert_eq!(ask(&["reap", "--older-than", "1ms"]), json!({"reaped": 1}));
    read_until(&mut tab, "0\r\n\r\n");
    let mut tab = open_stream(server.app);
    assert_eq!(ask(&["reap"]), json!({"reaped": 1}));
    read_until(&mut tab, "0\r\n\r\n");
    assert_eq!(ask(&["resize", "--max", "12"]), json!({"min": 8, "max": 12}));
    assert_eq!(ask(&["resize", "--min", "2", "--max", "9"]), json!({"min": 2, "max": 9}));
    assert_eq!(ask(&["max-stream-age", "2500ms"]), json!({"max_stream_age_s": 2.5}));
    assert_eq!(ask(&["max-stream-age", "off"]), json!({"max_stream_age_s": null}));
}

#[test]
fn ctl_stops_and_halts_the_server() {
    for order in ["stop", "halt"] {
        let mut server = Server::start(&[]);
        let output = ctl(&["--control-url", &url(&server), order]);
        assert_eq!(line(&output), "{ \"status\": \"ok\" }");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{order}: {}", server.log());
        complaint(&ctl(&["--control-url", &url(&server), order]), 1, &[&url(&server), "--control-url"]);
    }
}

#[test]
fn the_server_and_its_token_come_from_flags_variables_or_a_state_file() {
    let server = Server::start(&["--control-token", "s3cret"]);
    let (url, state) = (url(&server), server.folder.path().join("state"));
    let state = state.to_str().unwrap();
    for args in [
        &["--control-url", &url, "--control-token", "s3cret", "stats"][..],
        &["stats", "--control-token", "s3cret", "--control-url", &url],
        &["--state", state, "stats"],
        // As with pumactl, the state file takes precedence.
        &["--state", state, "stats", "--control-url", "tcp://127.0.0.1:1", "--control-token", "wrong"],
    ] {
        assert_eq!(answer(&ctl(args))["running"], 8, "{args:?}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["ctl", "max-stream-age", "off"]);
    command.env("NINETABS_CONTROL_URL", &url).env("NINETABS_CONTROL_TOKEN", "s3cret");
    assert_eq!(answer(&command.output().unwrap()), json!({"max_stream_age_s": null}));

    for token in ["none", "wrong"] {
        let refused = ctl(&["--control-url", &url, "--control-token", token, "halt"]);
        complaint(&refused, 1, &[&url, "Invalid auth token", "--control-token"]);
    }
    assert_eq!(get(server.app, "/up").0, 200);
}

#[test]
fn a_refusal_of_the_server_is_reported_in_one_line() {
    let server = Server::start(&[]);
    let url = url(&server);
    for (args, words) in [
        (&["resize", "--min", "9"][..], &["resize", "422", "minimum"][..]),
        (&["restart"], &["restart", "not available", "--help"]),
        (&["phased-restart"], &["phased_restart not available"]),
        (&["gc"], &["gc not available"]),
        (&["gc-stats"], &["gc-stats not available"]),
    ] {
        complaint(&ctl(&[&["--control-url", &url], args].concat()), 1, words);
    }
}

#[test]
fn a_mistake_is_reported_in_one_line() {
    for (args, words) in [
        (&[][..], &["stats"][..]),
        (&["nonsense"], &["nonsense", "--help"]),
        (&["resize"], &["--min", "--max"]),
        (&["resize", "--min", "3", "--max", "2"], &["--min 3", "--max 2"]),
        (&["resize", "--max", "10001"], &["--max", "10001", "10000"]),
        (&["resize", "--max", "0"], &["--max '0'", "from 1 to 10000"]),
        (&["resize", "0"], &["'0'", "--min", "--max"]),
        (&["max-stream-age"], &["SECS|off"]),
        (&["max-stream-age", "0"], &["0", "off"]),
        (&["reap", "--older-than", "x"], &["--older-than", "500ms"]),
        (&["timeline", "--after", "-1"], &["-1"]),
        (
            &["--control-url", "http://h:1/x", "stats"],
            &["--control-url", "http://h:1/x", "tcp://127.0.0.1:9293"],
        ),
        (&["--control-url", "ssl://h:1", "stats"], &["--control-url", "tcp://127.0.0.1:9293"]),
        (&["--control-token", "a b", "stats"], &["--control-token: give a token"]),
    ] {
        complaint(&ctl(args), 2, words);
    }
}

#[test]
fn an_unreachable_server_or_another_program_is_reported_in_one_line() {
    // Port 1 is below the ephemeral ports, and nothing listens there.
    complaint(
        &ctl(&["--control-url", "tcp://127.0.0.1:1", "stats"]),
        1,
        &[
            "cannot connect to tcp://127.0.0.1:1: connection refused. ",
            "`ninetabs`",
            "--control-url or --state",
        ],
    );
    complaint(
        &ctl(&["--control-url", "unix:///nowhere/at/all", "status"]),
        1,
        &["unix:///nowhere", "no such"],
    );

    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let path = state.to_str().unwrap();
    complaint(&ctl(&["--state", path, "stats"]), 1, &["--state", path, "no such file"]);
    fs::write(&state, "---\npid: 1\n").unwrap();
    complaint(&ctl(&["--state", path, "stats"]), 1, &["--state", path, "control_url"]);
    fs::write(&state, "---\ncontrol_url: ssl://127.0.0.1:1\n").unwrap();
    complaint(&ctl(&["--state", path, "stats"]), 1, &["ssl://127.0.0.1:1", "tcp://HOST:PORT"]);

    for said in ["", "SSH-2.0-OpenSSH\r\n", "HTTP/1.0 200 OK\r\ncontent-length: 9\r\n\r\n{}"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        let other = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Reads the request, since closing with unread data would be a reset.
            let asked = read_until(&mut stream, "\r\n\r\n");
            std::io::Write::write_all(&mut stream, said.as_bytes()).unwrap();
            asked
        });
        complaint(&ctl(&["--control-url", &url, "stats"]), 1, &[&url, "control server"]);
        assert_eq!(other.join().unwrap(), "GET /stats HTTP/1.0\r\n\r\n");
    }
}

const APP: &str = "run ->(_) { [200, {}, ['hello']] }\n";

#[test]
fn the_real_puma_understands_the_orders_of_ctl() {
    for (order, last) in [("stop", "- Gracefully stopping"), ("halt", "* Stopping immediately!")] {
        let Some(mut puma) = Puma::start(APP, &["-t", "2:2"]) else { return };
        let (url, state) = (puma.control.clone(), puma.path("state").display().to_string());
        let ask =
            |args: &[&str]| ctl(&[&["--control-url", &url, "--control-token", "s3cret"], args].concat());
        let stats = answer(&ask(&["stats"]));
        assert_eq!((&stats["running"], &stats["max_threads"]), (&json!(2), &json!(2)), "{stats}");
        assert_eq!(answer(&ctl(&["--state", &state, "stats"]))["max_threads"], 2);
        let threads = answer(&ask(&["thread-backtraces"]));
        assert!(threads[0]["name"].as_str().unwrap().starts_with("Thread: TID-"), "{threads}");
        assert!(answer(&ask(&["gc-stats"]))["count"].is_u64());
        assert_eq!(line(&ask(&["gc"])), "{ \"status\": \"ok\" }");
        assert_eq!(answer(&ask(&["status"])), json!({"status": "started"}));
        for order in ["threads", "timeline", "reap"] {
            complaint(&ask(&[order]), 1, &[&url, order, "Unsupported action", "Puma"]);
        }
        complaint(&ctl(&["--control-url", &url, order]), 1, &["Invalid auth token", "--control-token"]);

        assert_eq!(line(&ask(&[order])), "{ \"status\": \"ok\" }");
        let child = &mut puma.child;
        let status = wait_for("Puma's end", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", puma.said());
        assert!(puma.said().contains(last), "{}", puma.said());
    }
}

#[test]
fn a_reader_that_closes_the_pipe_is_not_an_error() {
    let server = Server::start(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["ctl", "--control-url", &url(&server), "stats"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), &*said), (Some(0), ""));
}

/// Clients send control characters in every text that the output of some command repeats.
#[test]
fn control_characters_of_clients_never_reach_the_output() {
    const STEERING: &str = "\u{7}\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{ad}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}";
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let mut command = Server::command(folder.path());
    command
        .env("RUST_LOG", "trace")
        .args(["--threads", "9:9", "--update-rate", "100ms", "--trace"])
        .arg(&trace);
    let server = Server::spawn(command, folder);

    let ask = |bytes: &[u8]| {
        use std::io::Write;
        let mut client = std::net::TcpStream::connect(server.app).unwrap();
        client.write_all(bytes).unwrap();
        client
    };
    let mut clients = Vec::new();
    let encoded: String = STEERING.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let visible: String = STEERING.chars().filter(|c| !c.is_ascii()).collect();
    // Control characters in the name of a model, percent-encoded and literal.
    for body in [format!("name={encoded}"), format!("name={STEERING}")] {
        let head = "Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nConnection: close";
        let request =
            format!("POST /models HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let answer = std::io::read_to_string(ask(request.as_bytes())).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201") || answer.starts_with("HTTP/1.1 303"), "{answer}");
    }
    // Control characters in a method, a path, a query and each header. The streams stay open so that they appear in
    // lists of threads.
    for (method, target) in [
        ("GET", format!("/models/live_stream?tab={encoded}")),
        ("GET", format!("/models/live_stream?tab={visible}")),
        ("GET", format!("/{visible}")),
        ("GET", format!("/{encoded}")),
        (visible.as_str(), "/up".to_owned()),
    ] {
        for protocol in ["HTTP/1.1", "HTTP/1.0"] {
            let names = ["User-Agent", "Referer", "Origin", "Last-Event-ID", "Accept", "Cookie", "X-Any"];
            let headers: String = names.map(|name| format!("{name}: {visible}\r\n")).concat();
            clients.push(ask(format!("{method} {target} {protocol}\r\nHost: localhost\r\n\r\n").as_bytes()));
            let request = format!("{method} {target} {protocol}\r\nHost: localhost\r\n{headers}\r\n");
            clients.push(ask(request.as_bytes()));
        }
    }
    clients.push(ask(format!("GET /up HTTP/1.1\r\nHost: {visible}\r\n\r\n").as_bytes()));
    server.wait_for_stats("the streams", |stats| stats["streams"]["open"].as_u64() >= Some(4));

    let url = url(&server);
    let mut outputs = Vec::new();
    for args in [
        &["ctl", "timeline"][..],
        &["ctl", "threads"],
        &["ctl", "thread-backtraces"],
        &["ctl", "stats"],
        &["top", "--once"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        let output = command.args(args).args(["--control-url", &url]).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        outputs.push((args.join(" "), output.stdout));
    }
    let stream = format!("http://{}/models/live_stream", server.app);
    let mut tab = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    tab.args(["tab", "--events", "1", "--for", "60", "--last-event-id", "0"]);
    let output = tab.arg(stream).stdin(Stdio::null()).output().unwrap();
    assert!(!output.stdout.is_empty(), "{output:?}");
    outputs.extend([("tab".to_owned(), output.stdout), ("notes of `tab`".to_owned(), output.stderr)]);
    // The error message of `tab` repeats parts of the answer.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let said = format!("HTTP/1.1 200 OK\r\nContent-Type: {STEERING}\r\n\r\n");
    let answering = thread::spawn(move || {
        use std::io::Write;
        let (mut client, _) = other.accept().unwrap();
        read_until(&mut client, "\r\n\r\n");
        client.write_all(said.as_bytes()).unwrap();
    });
    let mut tab = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    let output = tab.args(["tab", "--for", "60", &format!("http://{address}/")]).output().unwrap();
    answering.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    outputs.push(("error of `tab`".to_owned(), output.stderr));
    drop(clients);
    let traced = server.folder.path().join("trace.json");
    wait_for("a trace of the streams", || {
        fs::read_to_string(&traced).ok()?.contains("live_stream").then_some(())
    });
    outputs.push(("log".to_owned(), server.log().into_bytes()));
    outputs.push(("trace".to_owned(), fs::read(&traced).unwrap()));

    for (name, bytes) in outputs {
        let text = String::from_utf8(bytes).unwrap_or_else(|_| panic!("{name} is not UTF-8"));
        let steering = text.chars().find(|c| *c != '\n' && !ninetabs_server::escape::is_printable(*c));
        assert_eq!(steering, None, "{name}: {}", text.escape_debug());
    }
}
