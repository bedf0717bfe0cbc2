//! Every trace can be opened: the trace of a `reproduce` run, the trace of a server (however it ended), and the trace
//! of a window of a server's record.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{Server, get, json, open_stream, send, trace, wait_for};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn an_act_is_a_process_with_one_thread_per_pool_thread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.json");
    let output = Command::new(env!("CARGO_BIN_EXE_ninetabs"))
        .args(["reproduce", "--fast", "--json", "--act", "1", "--trace"])
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with('[') && text.ends_with("]\n"), "{text}");

    let events = trace::read(&path);
    let names = trace::check(&events, true);
    let name = &trace::events_of(&events, "M", "process_name")[0]["args"]["name"];
    assert_eq!(name, "Act 1: nine tabs, eight threads");
    for number in 1..=8 {
        let wanted = format!("puma srv tp {number:03}");
        assert!(names.values().any(|name| *name == wanted), "no {wanted} in {names:?}");
    }
    // Eight tabs stream, each on its own thread, and the ninth waits until the end.
    for tab in 1..=8 {
        let begin = trace::events_of(&events, "B", &format!("tab {tab}"))[0];
        assert_eq!(begin["args"]["path"], format!("/models/live_stream?tab={tab}"));
        assert_eq!(begin["args"]["tab"], tab.to_string());
        let end = trace::events_of(&events, "E", &format!("tab {tab}"))[0];
        assert!(end["args"]["writes"].as_u64().unwrap() > 1 && end["args"]["stream"] == true, "{end}");
        assert!(end["args"]["ended"].as_str().unwrap().contains("still open"), "{end}");
    }
    assert_eq!(trace::events_of(&events, "i", "streaming").len(), 8);
    assert!(trace::events_of(&events, "i", "write").len() >= 16);
    assert!(trace::events_of(&events, "B", "tab 9").is_empty());
    let (begin, end) =
        (trace::events_of(&events, "b", "todo: tab 9")[0], trace::events_of(&events, "e", "todo: tab 9")[0]);
    assert!(end["args"]["ended"].as_str().unwrap().contains("still open"), "{end}");
    assert!(end["ts"].as_u64() > begin["ts"].as_u64());
}

/// A server with this many threads, and the path of its trace.
fn traced_server(threads: &str) -> (Server, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let mut command = Server::command(folder.path());
    command.args(["--threads", threads, "--update-rate", "0.05", "--trace"]).arg(&path);
    (Server::spawn(command, folder), path)
}

#[test]
fn the_trace_of_a_stopped_server_is_complete() {
    let (mut server, path) = traced_server("2:2");
    assert_eq!(get(server.app, "/up").0, 200);
    let streams = [open_stream(server.app), open_stream(server.app)];
    let _waits = send(server.app, b"GET /up?tab=late HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_for("the queued page in the trace", || {
        fs::read_to_string(&path).unwrap().contains("todo: late").then_some(())
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    drop(streams);

    assert!(fs::read_to_string(&path).unwrap().ends_with("]\n"));
    let events = trace::read(&path);
    let names = trace::check(&events, true);
    assert!(names.values().any(|name| name == "puma srv tp 002"), "{names:?}");
    let begun = trace::events_of(&events, "B", "/models/live_stream");
    assert_eq!(begun.len(), 2);
    // The streams were interrupted, so the queued page got a thread.
    assert_eq!(trace::events_of(&events, "i", "interrupted").len(), 2);
    let end = trace::events_of(&events, "E", "/models/live_stream")[0];
    assert!(end["args"]["ended"].as_str().unwrap().starts_with("interrupted"), "{end}");
    assert_eq!(trace::events_of(&events, "B", "late").len(), 1);
}

#[test]
fn the_trace_of_a_killed_server_can_be_opened() {
    let (mut server, path) = traced_server("1:1");
    let _stream = open_stream(server.app);
    wait_for("writes in the trace", || {
        (fs::read_to_string(&path).unwrap().matches("\"write\"").count() > 5).then_some(())
    });
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert!(!fs::read_to_string(&path).unwrap().trim_end().ends_with(']'));
    let events = trace::read(&path);
    trace::check(&events, false);
    assert_eq!(trace::events_of(&events, "B", "/models/live_stream").len(), 1);
}

#[test]
fn a_trace_that_cannot_be_written_is_reported_before_the_server_listens() {
    for path in ["/no/such/folder/trace.json", "/dev/full"] {
        let folder = tempfile::tempdir().unwrap();
        let output =
            Server::command(folder.path()).args(["--trace", path]).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let line = said.lines().find(|line| line.starts_with("ninetabs: ")).unwrap();
        assert!(line.contains("--trace") && line.contains(path), "{said}");
        assert!(!folder.path().join("state").exists());
    }
}

#[test]
fn a_trace_is_not_written_over_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("models.sqlite3");
    fs::write(&database, "existing models").unwrap();
    let mut command = Server::command(folder.path());
    command
        .arg("--trace")
        .arg(folder.path().join("../").join(folder.path().file_name().unwrap()).join("models.sqlite3"));
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--database and --trace name the same file"), "{said}");
    assert_eq!(fs::read_to_string(&database).unwrap(), "existing models");
}

/// A limit on the file size simulates a full disk: the write fails in the same way.
#[test]
fn a_disk_that_fills_up_ends_the_trace_and_not_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let plain = Server::command(folder.path());
    let mut command = Command::new("sh");
    // The limit is in blocks of 512 or 1,024 bytes, and is enough for the database. SIGXFSZ is ignored, so that the
    // write fails instead.
    command.args(["-c", "trap '' XFSZ; ulimit -f 256 && exec \"$@\"", "sh"]);
    command.arg(plain.get_program()).args(plain.get_args()).arg("--trace").arg(&path);
    command.args(["--update-rate", "0.01"]);
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.env("RUST_LOG", "error").stdin(Stdio::piped()).stdout(Stdio::null());
    command.stderr(fs::File::create(folder.path().join("log")).unwrap());
    let mut server = Server::spawn(command, folder);
    let _streams: Vec<_> = (0..7).map(|_| open_stream(server.app)).collect();
    wait_for("the end of the trace", || server.log().contains("the trace ends here").then_some(()));
    assert_eq!(server.log().matches("the trace ends here").count(), 1);
    assert_eq!(get(server.app, "/up").0, 200);
    let events = trace::read(&path);
    trace::check(&events, false);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
}

/// A full named pipe. Writes to it block until it is read.
fn full_pipe(folder: &Path) -> (PathBuf, fs::File) {
    let path = folder.join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut pipe = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    rustix::io::ioctl_fionbio(&pipe, true).unwrap();
    while pipe.write(&[b' '; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&pipe, false).unwrap();
    (path, pipe)
}

/// Such a pipe may lead to a paused terminal, or to a reader that is slow to start.
#[test]
fn a_start_does_not_wait_for_the_reader_of_a_full_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut pipe) = full_pipe(folder.path());
    let mut command = Server::command(folder.path());
    command.arg("--trace").arg(&path);
    let mut server = Server::spawn(command, folder);
    assert_eq!(get(server.app, "/up").0, 200);
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\n]\n") {
            let mut piece = [0; 4096];
            let read = pipe.read(&mut piece).unwrap();
            bytes.extend_from_slice(&piece[..read]);
        }
        String::from_utf8(bytes).unwrap()
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    let text = reading.join().unwrap();
    let events: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert!(events[0]["name"] == "process_name", "{events}");
}

#[test]
fn a_server_whose_trace_is_not_read_stops_and_leaves_no_state_file_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _pipe) = full_pipe(folder.path());

    let mut command = Server::command(folder.path());
    command.arg("--trace").arg(&path);
    let mut server = Server::spawn(command, folder);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    assert!(server.log().contains("nothing reads this pipe"), "{}", server.log());
    assert!(!server.folder.path().join("state").exists());
}

/// The trace of a window of this server's record.
fn saved(server: &Server, query: &str) -> Vec<Value> {
    let (status, text) = get(server.control, &format!("/trace{query}"));
    assert_eq!(status, 200, "{text}");
    assert!(text.starts_with("[\n") && text.ends_with("]\n"), "{text:.200}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_saved_trace_agrees_with_the_threads_and_the_record() {
    let server = Server::start(&["--threads", "2:2", "--update-rate", "60"]);
    let order = |path: &str| assert_eq!(json(server.control, "POST", path).0, 200, "{path}");
    for tab in [1, 2] {
        order(&format!("/lab/tabs/open?tab={tab}"));
        server.wait_for_stats("stream of the new tab", |stats| stats["streams"]["open"] == tab);
    }
    order("/lab/page");
    server.wait_for_stats("queued page", |stats| stats["backlog"] == 1);
    order("/lab/tabs/close?tab=2");
    let events = saved(&server, "?last=60");
    let names = trace::check(&events, true);
    assert!(names.values().any(|name| name == "puma srv tp 002"), "{names:?}");
    let labels = &trace::events_of(&events, "M", "process_labels")[0]["args"]["labels"];
    assert!(labels.as_str().unwrap().contains("--threads 2:2"), "{labels}");
    // In the trace, each thread has the request that /threads reports.
    for held in json(server.control, "GET", "/threads").1.as_array().unwrap() {
        let is_its = |event: &&Value| event["ph"] == "B" && event["args"]["request"] == held["request"];
        let begin = events.iter().find(is_its).unwrap();
        assert_eq!(begin["args"]["path"], held["path"]);
        assert_eq!(names[&(begin["pid"].as_u64().unwrap(), begin["tid"].as_u64().unwrap())], held["name"]);
    }
    // The trace contains every order, write and close in the record, each at its recorded time.
    let moments = json(server.control, "GET", "/timeline").1["moments"].clone();
    let times = |wanted: &str| {
        let moments = moments.as_array().unwrap().iter().filter(|moment| moment["kind"] == wanted);
        moments.map(|moment| moment["at_us"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let of = |is_one: &dyn Fn(&Value) -> bool| {
        events
            .iter()
            .filter(|event| is_one(event))
            .map(|event| event["ts"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&|event| event["cat"] == "order"), times("ordered"));
    assert_eq!(of(&|event| event["name"] == "write"), times("wrote"));
    assert_eq!(of(&|event| event["name"] == "client closed"), times("client_closed"));
    assert_eq!(trace::events_of(&events, "i", "closed tab 2").len(), 1);
    // A window after all these moments begins with the streams that are still open.
    let last = times("ordered").pop().unwrap() as f64 / 1e6;
    let events = saved(&server, &format!("?from={}", last + 0.000_001));
    trace::check(&events, true);
    let begun: Vec<_> = events.iter().filter(|event| event["ph"] == "B").collect();
    assert_eq!(begun.len(), 2);
    for begin in begun {
        assert!(begin["args"]["since_us"].as_u64() < begin["ts"].as_u64(), "{begin}");
    }
    assert!(events.iter().all(|event| event["cat"] != "order"), "{events:?}");
}

#[test]
fn a_saved_trace_states_how_much_the_record_has_lost() {
    let server = Server::start(&["--threads", "2:2", "--update-rate", "0.001", "--produce-every", "off"]);
    let streams = [open_stream(server.app), open_stream(server.app)];
    for stream in streams {
        std::thread::spawn(move || std::io::copy(&mut { stream }, &mut std::io::sink()));
    }
    crate::report::overflow(&server);
    let events = saved(&server, "?last=3600");
    trace::check(&events, true);
    let forgotten = trace::events_of(&events, "M", "forgotten");
    assert!(forgotten[0]["args"]["moments"].as_u64() > Some(1_000), "{forgotten:?}");
    assert_eq!(trace::events_of(&events, "B", "/models/live_stream").len(), 2);
    assert!(trace::events_of(&events, "i", "write").len() > 10_000);
    let recent = saved(&server, "?last=0.05");
    trace::check(&recent, true);
    assert!(trace::events_of(&recent, "M", "forgotten").is_empty());
    assert_eq!(trace::events_of(&recent, "B", "/models/live_stream").len(), 2);
}

#[test]
fn the_trace_of_a_quiet_server_is_valid() {
    let server = Server::start(&["--threads", "0:2"]);
    let events = saved(&server, "");
    trace::check(&events, true);
    assert!(events.iter().all(|event| event["ph"] == "M"), "{events:?}");
}
