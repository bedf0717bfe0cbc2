//! Debian's pumactl with our control server: its requests, its output, and its exit status.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::{
    Server, create_large, get, hear, names, open_stream, program, read_until, send, start_and_hear,
    stopped_reader, wait_for,
};
use rustix::process::Signal;
use serde_json::Value;

/// Runs pumactl in a folder that contains no configuration file.
fn pumactl(program: &Path, folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    for name in ["APP_ENV", "RACK_ENV", "RAILS_ENV"] {
        command.env_remove(name);
    }
    command.output().unwrap()
}

/// The standard output of pumactl, which must have ended with this status.
fn said(output: &Output, status: i32) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{stdout}{stderr}");
    stdout
}

/// The last line of pumactl's output, parsed as JSON.
fn answer(said: &str) -> Value {
    serde_json::from_str(said.lines().last().unwrap()).unwrap_or_else(|error| panic!("{error} in {said:?}"))
}

#[test]
fn it_shows_the_numbers_and_the_threads() {
    let Some(program) = program("pumactl") else { return };
    let server = Server::start(&["--threads", "3:3", "--update-rate", "60"]);
    let _tab = open_stream(server.app);
    let (url, folder) = (format!("tcp://{}", server.control), tempfile::tempdir().unwrap());
    let ask = |command: &str| pumactl(&program, folder.path(), &["-C", &url, command]);

    let stats = said(&ask("stats"), 0);
    assert!(stats.starts_with("Command stats sent success\n{\"started_at\":\""), "{stats}");
    let numbers = answer(&stats);
    assert_eq!([&numbers["busy_threads"], &numbers["max_threads"]], [1, 3]);

    let threads = answer(&said(&ask("thread-backtraces"), 0));
    let threads = threads.as_array().unwrap();
    assert_eq!((threads.len(), &threads[0]["name"]), (3, &Value::from("Thread: puma srv tp 001")));
    let serves = |thread: &&Value| thread["backtrace"][0].as_str().unwrap().starts_with("serving /models/");
    assert_eq!(threads.iter().filter(serves).count(), 1);

    assert_eq!(said(&ask("status"), 0), "Puma is started\n");
    assert_eq!(get(server.app, "/up").0, 200, "none of these commands may stop the server");
}

#[test]
fn commands_that_ninetabs_lacks_are_errors() {
    let Some(program) = program("pumactl") else { return };
    let server = Server::start(&[]);
    let (url, folder) = (format!("tcp://{}", server.control), tempfile::tempdir().unwrap());
    for (command, name) in
        [("restart", "restart"), ("phased-restart", "phased_restart"), ("refork", "refork"), ("gc", "gc")]
    {
        let said = said(&pumactl(&program, folder.path(), &["-C", &url, command]), 1);
        assert_eq!(said, format!("Command error: {{ \"error\": \"{name} not available\" }}\n"));
    }
    assert_eq!(
        get(server.app, "/up").0,
        200,
        "the server must keep running, although Puma would have restarted"
    );
}

#[test]
fn it_stops_the_server_in_the_same_way_as_a_signal() {
    let Some(program) = program("pumactl") else { return };
    let flags = ["--threads", "1:1", "--update-rate", "60", "--retry", "1234ms"];
    let (mut server, mut stdout, _) = start_and_hear(&flags, "Ctrl-C stops.");
    let mut stream = open_stream(server.app);
    let mut queued = send(server.app, b"GET /up HTTP/1.0\r\n\r\n");
    server.wait_for_stats("queued page", |stats| stats["backlog"] == 1);
    let (url, folder) = (format!("tcp://{}", server.control), tempfile::tempdir().unwrap());
    let stop = pumactl(&program, folder.path(), &["-C", &url, "stop"]);
    assert_eq!(said(&stop, 0), "Command stop sent success\n");
    let goodbye = read_until(&mut stream, "0\r\n\r\n");
    assert!(goodbye.contains(": the server is stopping\nretry: 1234\n\n"), "{goodbye:?}");
    read_until(&mut queued, "up\n");
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    let lines = hear(&mut stdout, "Goodbye!");
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines[0], "- Gracefully stopping, waiting for requests to finish");
    assert!(lines[1].starts_with("=== puma shutdown: 2") && lines[1].ends_with(" +0000 ==="), "{lines:?}");
    assert_eq!(lines[2..], ["- Goodbye!"]);
    assert_eq!(names(server.folder.path()), ["log", "models.sqlite3"]);

    let gone = pumactl(&program, folder.path(), &["-C", &url, "status"]);
    assert!(said(&gone, 1).contains("refused"), "the port must be closed");
}

#[test]
fn it_halts_the_server_in_the_middle_of_a_stream() {
    let Some(program) = program("pumactl") else { return };
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = Server::command(folder.path());
    command.env("NINETABS_DATABASE", ":memory:").env("TMPDIR", &temporary).stdout(Stdio::piped());
    command.args(["--update-rate", "60", "--produce-every", "10ms"]);
    let mut server = Server::spawn(command, folder);
    let mut stream = open_stream(server.app);
    let url = format!("tcp://{}", server.control);
    let halt = pumactl(&program, &temporary, &["-C", &url, "halt"]);
    assert_eq!(said(&halt, 0), "Command halt sent success\n");
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    let mut rest = Vec::new();
    // The client may see the closed connection as an end of the stream or as a reset.
    let _ = stream.read_to_end(&mut rest);
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains("stopping") && !rest.ends_with("0\r\n\r\n"), "{rest:?}");
    let mut lines = String::new();
    server.child.stdout.take().unwrap().read_to_string(&mut lines).unwrap();
    let said: Vec<_> = lines.lines().rev().take(3).collect();
    assert_eq!((said[0], said[2]), ("- Goodbye!", "* Stopping immediately!"), "{lines}");
    assert!(said[1].starts_with("=== puma shutdown: "), "{lines}");
    assert_eq!(names(&temporary), [""; 0]);
    assert!(!server.folder.path().join("state").exists());
}

#[test]
fn a_halt_ends_a_stop_that_is_blocked() {
    let Some(program) = program("pumactl") else { return };
    // On the puma front, the stop would cut off the write and end immediately.
    let front = ["--front", "tiny-http"];
    let long = ["--threads", "1:1", "--write-timeout", "600", "--force-shutdown-after", "600"];
    let flags = [&front[..], &long].concat();
    for by_signal in [true, false] {
        let (mut server, mut stdout, _) = start_and_hear(&flags, "Ctrl-C stops.");
        create_large(server.app, 500);
        let reader = stopped_reader(&server);
        let (url, folder) = (format!("tcp://{}", server.control), tempfile::tempdir().unwrap());
        let ask = |command: &str| pumactl(&program, folder.path(), &["-C", &url, command]);
        if by_signal {
            server.signal(Signal::TERM);
        } else {
            // Repeating the order has no effect and does not fill a queue.
            for _ in 0..4 {
                assert_eq!(said(&ask("stop"), 0), "Command stop sent success\n");
            }
        }
        hear(&mut stdout, "Gracefully stopping");
        wait_for("a refused connection", || std::net::TcpStream::connect(server.app).is_err().then_some(()));
        assert_eq!(
            answer(&said(&ask("stats"), 0))["busy_threads"],
            1,
            "the control server must answer during the stop"
        );
        assert!(server.child.try_wait().unwrap().is_none());
        assert_eq!(said(&ask("halt"), 0), "Command halt sent success\n");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
        assert!(hear(&mut stdout, "Goodbye!").contains("* Stopping immediately!\n"));
        drop(reader);
    }
}

#[test]
fn a_token_is_required_by_flag_or_state_file() {
    let Some(program) = program("pumactl") else { return };
    // In Puma's state file, unquoted digits are a number, and 007 would be read as 7.
    for token in ["s3cret_-+/=", "007", "1.50"] {
        let mut server = Server::start(&["--control-token", token]);
        let (url, folder) = (format!("tcp://{}", server.control), tempfile::tempdir().unwrap());
        let state = server.folder.path().join("state");
        let state = state.to_str().unwrap();
        let ask = |args: &[&str]| pumactl(&program, folder.path(), args);
        let refused = "Unauthorized access to server (wrong auth token)\n";
        assert_eq!(said(&ask(&["-C", &url, "stats"]), 1), refused);
        assert_eq!(said(&ask(&["-C", &url, "-T", "wrong", "halt"]), 1), refused);
        assert_eq!(answer(&said(&ask(&["-C", &url, "-T", token, "stats"]), 0))["running"], 8);
        assert_eq!(answer(&said(&ask(&["-S", state, "stats"]), 0))["running"], 8);
        assert_eq!(said(&ask(&["-S", state, "status"]), 0), "Puma is started\n");
        assert_eq!(said(&ask(&["-S", state, "stop"]), 0), "Command stop sent success\n");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
        assert!(said(&ask(&["-S", state, "stop"]), 1).contains("State file not found"));
    }
}

#[test]
fn without_a_token_the_state_file_is_enough_for_pumactl() {
    let Some(program) = program("pumactl") else { return };
    let mut server = Server::start(&[]);
    let state = server.folder.path().join("state");
    let state = state.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ask = |command: &str| pumactl(&program, folder.path(), &["-S", state, command]);
    assert_eq!(answer(&said(&ask("stats"), 0))["running"], 8);
    assert_eq!(said(&ask("halt"), 0), "Command halt sent success\n");
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
}
