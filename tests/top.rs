//! `ninetabs top` in a terminal: the contents of its screen, the effects of its keys, and the state in which it
//! leaves the terminal.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use crate::common::puma::Puma;
use crate::common::terminal::Terminal;
use crate::common::{self, Server, get, open_stream, read_until, send, wait_for};
use rustix::process::Signal;

fn url(server: &Server) -> String {
    format!("tcp://{}", server.control)
}

/// Requests the stream of a tab without reading the answer.
fn tab(app: SocketAddr, number: usize) -> TcpStream {
    let request = format!("GET /models/live_stream?tab={number} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    send(app, request.as_bytes())
}

/// Opens nine tabs, of which eight stream and the ninth waits.
fn nine_tabs(server: &Server) -> Vec<TcpStream> {
    let mut tabs = Vec::new();
    for number in 1..=8 {
        let mut stream = tab(server.app, number);
        read_until(&mut stream, "data: ");
        tabs.push(stream);
    }
    tabs.push(tab(server.app, 9));
    server.wait_for_stats("queued ninth tab", |stats| stats["backlog"] == 1);
    tabs
}

/// The row that begins with this label.
fn row<'a>(screen: &'a str, label: &str) -> Option<&'a str> {
    screen.lines().find(|line| line.starts_with(label))
}

/// Whether eight lanes are held by eight tabs, and the ninth tab is queued.
fn is_full(screen: &str) -> bool {
    let holds = |number: usize| {
        let row = row(screen, &format!("tp {number:03}"));
        row.is_some_and(|row| row.contains('─') && row.contains("tab "))
    };
    (1..=8).all(holds)
        && (1..=8).all(|number| screen.lines().any(|line| line.ends_with(&format!("tab {number}"))))
        && row(screen, "queue").is_some_and(|row| row.ends_with("tab 9"))
        && ["8 of 8", "backlog 1", "capacity 0", "streams open 8", "tab 9 has waited"]
            .iter()
            .all(|it| screen.contains(it))
}

/// The output of the command without a terminal.
fn output(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.arg("top").args(args).stdin(Stdio::null());
    command.env_remove("NINETABS_CONTROL_URL").env_remove("NINETABS_CONTROL_TOKEN");
    command.output().unwrap()
}

/// Checks that the command printed nothing on stdout, reported one line with these words, and ended with this status.
fn complaint(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
}

#[test]
fn nine_tabs_are_eight_held_lanes_and_one_in_the_queue() {
    let server = Server::start(&["--threads", "8:8"]);
    let url = url(&server);
    let started = Terminal::start(&["top", "--every", "100ms", "--control-url", &url], &[], (100, 32));
    let Some(mut terminal) = started else { return };
    terminal.wait_for_text("0 of 8");
    assert!(terminal.is_taken());
    let mut tabs = nine_tabs(&server);
    terminal.wait_for("eight held lanes and one queued tab", is_full);
    assert!(terminal.has_colors());

    // One tab closes, and the ninth tab gets its thread. The log shows a line for each.
    drop(tabs.remove(0));
    terminal.wait_for("the ninth tab on a thread", |screen| {
        screen.lines().any(|line| line.starts_with("tp ") && line.ends_with("tab 9"))
            && ["backlog 0", "to tab 1 failed (E", "took tab 9 after"].iter().all(|it| screen.contains(it))
    });
    terminal.press("q");
    assert_eq!(terminal.wait_for_exit().code(), Some(0));
}

#[test]
fn top_shows_the_same_lanes_if_it_is_started_late() {
    let server = Server::start(&["--threads", "9:9", "--update-rate", "60"]);
    let mut tabs = Vec::new();
    for number in 1..=8 {
        tabs.push(tab(server.app, number));
        read_until(&mut tabs[number - 1], "data: ");
    }
    // The server handles more requests than its timeline keeps, so the timeline no longer contains the start of the
    // tabs.
    let page = "GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /up HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    common::wait_for("a loss of old moments", || {
        for _ in 0..20 {
            let answers = common::ask(server.app, &(page.repeat(50) + last));
            assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 51);
        }
        let said = common::json(server.control, "GET", "/timeline").1;
        (said["forgotten"].as_u64()? > 100).then_some(())
    });
    let url = url(&server);
    let started = Terminal::start(&["top", "--control-url", &url], &[("NO_COLOR", "1")], (100, 32));
    let Some(terminal) = started else { return };
    terminal.wait_for("eight lanes with their tabs", |screen| {
        screen.contains("8 of 9 threads held")
            && (1..=8).all(|number| screen.lines().any(|line| line.ends_with(&format!("tab {number}"))))
    });
    assert!(!terminal.has_colors());
}

#[test]
fn it_adapts_to_the_terminal_and_scrolls() {
    let server = Server::start(&["--threads", "40:40"]);
    let url = url(&server);
    let started = Terminal::start(&["top", "--every", "100ms", "--control-url", &url], &[], (80, 24));
    let Some(mut terminal) = started else { return };
    terminal.wait_for_text("threads 1 to ");
    assert!(row(&terminal.text(), "tp 040").is_none());
    terminal.press("\x1b[F");
    terminal.wait_for_text(" to 40 of 40");
    assert!(row(&terminal.text(), "tp 001").is_none() && row(&terminal.text(), "tp 040").is_some());
    terminal.press("\x1b[A");
    terminal.wait_for_text(" to 39 of 40");
    terminal.press("\x1b[H");
    terminal.wait_for_text("threads 1 to ");
    terminal.press("\x1b[6~");
    terminal.wait_for("the next page", |screen| row(screen, "tp 001").is_none());
    terminal.press("\x1b[5~");
    terminal.wait_for_text("threads 1 to ");

    terminal.resize(30, 6);
    terminal.wait_for_text("30 x 6 is too small");
    terminal.resize(120, 70);
    terminal.wait_for("all forty lanes", |screen| {
        (1..=40).all(|number| row(screen, &format!("tp {number:03}")).is_some())
            && !screen.contains("threads 1 to")
    });

    terminal.press("?");
    terminal.wait_for_text("back to the lanes");
    terminal.press("?");
    terminal.wait_for("the lanes again", |screen| row(screen, "tp 001").is_some());

    terminal.press("p");
    terminal.wait_for_text("paused");
    assert_eq!(get(server.app, "/up").0, 200);
    server.wait_for_stats("request", |stats| stats["requests_count"] == 1);
    assert!(terminal.text().contains("requests 0"), "{}", terminal.text());
    terminal.press("p");
    terminal.wait_for_text("requests 1");
    terminal.press("\x03");
    assert_eq!(terminal.wait_for_exit().code(), Some(0));
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    let server = Server::start(&[]);
    let url = url(&server);
    for signal in [Signal::INT, Signal::TERM] {
        let Some(mut terminal) = Terminal::start(&["top", "--control-url", &url], &[], (80, 24)) else {
            return;
        };
        terminal.wait_for_text("0 of 8");
        terminal.signal(signal);
        assert_eq!(terminal.wait_for_exit().code(), Some(130), "{signal:?}");
    }
}

#[test]
fn top_follows_a_server_that_stops_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut first = Server::start(&["--threads", "5:5"]);
    symlink(first.folder.path().join("state"), &state).unwrap();
    let path = state.to_str().unwrap();
    let started = Terminal::start(&["top", "--every", "100ms", "--state", path], &[], (100, 30));
    let Some(mut terminal) = started else { return };
    let _stream = open_stream(first.app);
    terminal.wait_for_text("1 of 5");

    // While the server is suspended, it does not answer, but the keys of `top` still work.
    first.signal(Signal::STOP);
    terminal.press("?");
    terminal.wait_for_text("back to the lanes");
    terminal.press("?");
    terminal.wait_for_text("no complete answer within 5s");
    first.signal(Signal::CONT);
    terminal.wait_for("an answer", |screen| !screen.contains("no answer for"));

    first.child.kill().unwrap();
    first.wait_for_exit();
    terminal.wait_for("last screen with a note that the server does not answer", |screen| {
        ["no answer for", "retrying: cannot connect to tcp://", "1 of 5"].iter().all(|it| screen.contains(it))
    });

    let second = Server::start(&["--threads", "3:3"]);
    std::fs::remove_file(&state).unwrap();
    symlink(second.folder.path().join("state"), &state).unwrap();
    terminal.wait_for("screen with only the second server", |screen| {
        let has_lanes = row(screen, "tp 003").is_some() && row(screen, "tp 005").is_none();
        let is_new = screen.contains("0 of 3") && screen.contains(&url(&second));
        is_new && has_lanes && !screen.contains("no answer") && !screen.contains("live_stream")
    });
    terminal.press("\x1b");
    assert_eq!(terminal.wait_for_exit().code(), Some(0));
}

#[test]
fn top_shows_the_numbers_of_the_real_puma() {
    let app = "run ->(_) { sleep 0.05 until File.exist?('go'); [200, {}, ['hello']] }\n";
    let Some(puma) = Puma::start(app, &["-t", "2:2"]) else { return };
    let args = ["top", "--every", "100ms", "--control-url", &puma.control, "--control-token", "s3cret"];
    let Some(mut terminal) = Terminal::start(&args, &[], (100, 30)) else { return };
    terminal.wait_for_text("0 of 2 threads held");
    let _clients = [(); 2].map(|()| send(puma.app(), b"GET / HTTP/1.0\r\n\r\n"));
    terminal.wait_for("the numbers of a full Puma", |screen| {
        let words =
            ["2 of 2 threads held", "requests 2", "Puma", "backlog 0", "capacity 0", "running 2", "up "];
        words.iter().all(|it| screen.contains(it)) && row(screen, "held").is_some_and(|row| row.contains('█'))
    });
    // The warning appears after ten answers without a free thread.
    terminal.wait_for_text("▲ All 2 threads are held; the next request waits.");
    std::fs::write(puma.path("go"), "").unwrap();
    terminal.wait_for("a free Puma without a warning", |screen| {
        screen.contains("0 of 2 threads held") && !screen.contains('▲')
    });
    terminal.press("q");
    assert_eq!(terminal.wait_for_exit().code(), Some(0));

    let Some(puma) = Puma::start("run ->(_) { [200, {}, ['hello']] }\n", &["-t", "2:2", "-w", "2"]) else {
        return;
    };
    let args = ["top", "--every", "100ms", "--control-url", &puma.control, "--control-token", "s3cret"];
    let Some(terminal) = Terminal::start(&args, &[], (100, 30)) else { return };
    // A worker reports its numbers every five seconds.
    terminal.wait_for("two workers", |screen| {
        screen.contains("0 of 4 threads held")
            && ["worker 0 (pid ", "worker 1 (pid "]
                .iter()
                .all(|it| row(screen, it).is_some_and(|row| row.contains("0 of 2")))
    });
}

#[test]
fn once_prints_one_screen_as_text() {
    let server = Server::start(&["--threads", "8:8", "--update-rate", "60"]);
    let _tabs = nine_tabs(&server);
    // Waits until the lanes are long enough to be seen.
    let state = server.folder.path().join("state");
    let printed = common::wait_for("a full picture", || {
        let output = output(&["--once", "--state", state.to_str().unwrap()]);
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
        let text = String::from_utf8(output.stdout).unwrap();
        is_full(&text).then_some(text)
    });
    assert!(!printed.contains('\x1b') && printed.lines().all(|line| line.trim_end() == line), "{printed}");
    assert!(printed.contains("tab 8 streams on tp 00"), "{printed}");
}

#[test]
fn the_warnings_of_the_server_are_shown_above_the_lanes() {
    let server = Server::start(&["--threads", "1:1", "--update-rate", "60"]);
    let url = url(&server);
    let screen = || String::from_utf8(output(&["--once", "--control-url", &url]).stdout).unwrap();
    assert!(!screen().contains('▲'));
    for tab in [1, 2] {
        let path = format!("/lab/tabs/open?tab={tab}");
        assert_eq!(crate::common::json(server.control, "POST", &path).0, 200);
    }
    let screen = wait_for("the warning", || {
        let screen = screen();
        screen.contains("▲ The only thread is held by a stream; 1 request waits, for ").then_some(screen)
    });
    assert!(screen.contains("/fixes/push holds no thread."), "{screen}");
    assert!(screen.find('▲') < screen.find("lanes "), "{screen}");
    assert!(screen.contains("order: opened tab 2"), "{screen}");
}

#[test]
fn the_name_of_a_tab_is_decoded_and_truncated_by_its_display_width() {
    let server = Server::start(&["--update-rate", "60"]);
    let named = |name: &str| {
        let request = format!("GET /models/live_stream?tab={name} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut stream = send(server.app, request.as_bytes());
        read_until(&mut stream, "data: ");
        stream
    };
    let _tabs = [
        named("%e6%a8%a1%e5%9e%8b"),
        named("a+b%20c"),
        named(&"%e6%a8%a1".repeat(30)),
        named("%c2%9b%e2%80%ae"),
    ];
    let output = output(&["--once", "--control-url", &url(&server)]);
    let text = String::from_utf8(output.stdout).unwrap();
    for name in ["模型", "a b c", "\u{fffd}\u{fffd}"] {
        let mut rows = text.lines().filter(|line| line.starts_with("tp "));
        assert!(rows.any(|row| row.ends_with(name)), "{name}: {text}");
    }
    assert!(!text.contains("%e6"), "{text}");
}

/// Starts a listener that answers one request with `answer`. Returns its URL and its thread.
fn another_program(answer: &'static str) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let answering = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        read_until(&mut client, "\r\n\r\n");
        client.write_all(format!("HTTP/1.0 {answer}").as_bytes()).unwrap();
    });
    (url, answering)
}

#[test]
fn a_mistake_or_an_unusable_server_is_reported_in_one_line() {
    let server = Server::start(&["--control-token", "s3cret"]);
    let url = url(&server);
    complaint(
        &output(&["--control-url", &url, "--control-token", "s3cret"]),
        2,
        &["not a terminal", "--once"],
    );
    let refused = output(&["--once", "--control-url", &url]);
    complaint(&refused, 1, &[&url, "Invalid auth token", "--control-token"]);
    complaint(&output(&["--once", "--state", "/nowhere/state"]), 1, &["/nowhere/state", "--state"]);
    complaint(&output(&["--every", "0"]), 2, &["--every", "above 0"]);

    let app = format!("tcp://{}", server.app);
    complaint(&output(&["--once", "--control-url", &app]), 1, &[&app, "stats"]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unused = format!("tcp://{free}");
    complaint(
        &output(&["--once", "--control-url", &unused]),
        1,
        &[&unused, "cannot connect to", "--control-url"],
    );

    // Control characters from another program must not reach the terminal.
    for (answer, words) in [
        ("200 OK\r\n\r\n{\"uptime\":7}", ["stats", "none of Puma's numbers"]),
        ("404 Not Found\r\n\r\n\x1b]0;title\x07no\nsuch \x1b[31mpage", ["has no stats", "such"]),
    ] {
        let (other, listener) = another_program(answer);
        let said = output(&["--once", "--control-url", &other]);
        complaint(&said, 1, &[&other, words[0], words[1]]);
        assert!(!said.stderr.contains(&0x1b) && !said.stderr.contains(&0x07), "{said:?}");
        listener.join().unwrap();
    }

    // In a terminal, the error is the same, and the terminal is restored afterward.
    let Some(mut terminal) = Terminal::start(&["top", "--control-url", &unused], &[], (80, 24)) else {
        return;
    };
    assert_eq!(terminal.wait_for_exit().code(), Some(1));
    terminal.wait_for_text("cannot connect to");
}

/// Numbers and texts that ninetabs never sends result in a screen, or in an error and status 1.
#[test]
fn no_answer_of_a_server_causes_a_panic() {
    let most = u64::MAX;
    let pool = |max: u64, capacity: u64| {
        format!(
            r#""backlog":{most},"running":{most},"pool_capacity":{capacity},"busy_threads":{most},"io_threads":{most},"max_threads":{max},"requests_count":{most}"#
        )
    };
    let moments = format!(
        r#"[{{"seq":{most},"at_us":{most},"thread":{most},"connection":{most},"request":{most},"kind":"started"}},
            {{"seq":1,"at_us":0,"thread":{most},"connection":{most},"request":{most},"kind":"blocked","us":{most}}},
            {{"seq":1,"at_us":0,"thread":0,"connection":1,"request":{most},"kind":"reaped","age_ms":{most},"why":"\u001b"}},
            {{"seq":0,"at_us":{most},"connection":1,"request":0,"kind":"queued"}},
            {{"seq":0,"at_us":1,"thread":7,"connection":1,"request":0,"kind":"finished"}}]"#
    );
    let threads = format!(
        r#"[{{"number":{most},"request":{most},"connection":{most},"path":"/\u009b","age":1e308}},{{"number":0}}]"#
    );
    let stats = [
        format!(
            "{{{},\"versions\":{{\"ninetabs\":\"\\u001b[2J\"}},\"streams\":{{\"open\":{most},\"oldest_age_s\":1e308}},\"database\":{{\"busy\":{most}}},\"started_at\":\"\\u202e\"}}",
            pool(most, 0)
        ),
        format!("{{{},\"versions\":{{\"ninetabs\":\"1\"}}}}", pool(0, most)),
        format!(
            "{{\"worker_status\":[{{\"pid\":{most},\"last_status\":{{{}}}}},{{\"last_status\":{{{}}}}}]}}",
            pool(most, 1),
            pool(most, most)
        ),
        "[".repeat(100_000),
        "{\"backlog\":-1}".to_owned(),
        "\u{9b}".to_owned(),
    ];
    for stats in stats {
        let timeline = format!(r#"{{"now_us":{most},"forgotten":{most},"moments":{moments}}}"#);
        let answers = [stats.clone(), timeline, threads.clone()];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        let serving = thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let asked = read_until(&mut client, "\r\n\r\n");
                let body = match asked {
                    _ if asked.contains("/stats") => &answers[0],
                    _ if asked.contains("/timeline") => &answers[1],
                    _ if asked.contains("/threads") => &answers[2],
                    _ => return,
                };
                let _ = client.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes());
            }
        });
        let ctl = |order: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
            command
                .arg("ctl")
                .args(order)
                .args(["--control-url", &url])
                .stdin(Stdio::null())
                .output()
                .unwrap()
        };
        let said = [output(&["--once", "--control-url", &url]), ctl(&["stats"]), ctl(&["timeline"])];
        let _ = ctl(&["gc"]);
        serving.join().unwrap();
        for said in said {
            assert!(matches!(said.status.code(), Some(0 | 1)), "{said:?}");
            let text = String::from_utf8(said.stderr).unwrap() + &String::from_utf8(said.stdout).unwrap();
            assert!(!text.contains("panicked"), "{text}");
            assert!(
                text.chars().all(|c| c == '\n' || ninetabs_server::escape::is_printable(c)),
                "{}",
                text.escape_debug()
            );
        }
    }
}
