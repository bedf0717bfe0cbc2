//! The ways to end `ninetabs serve`: one signal, two signals, or the end of its standard input. The tests include
//! streams whose clients reconnect, and clients that would delay the end forever.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::{
    self, FRONTS, Server, create, create_large, get, hear, names, open_stream, read_answer, read_until, send,
    start_and_hear, stopped_reader, wait_for, wait_until_blocked,
};
use ninetabs::cli::interrupt::REPEATS_WITHIN;
use rustix::process::Signal;
use serde_json::Value;

/// Flags of a server whose only thread a stalled reader can hold until it disconnects, because this front cannot cut
/// off a blocked write.
const HELD_UP: [&str; 8] =
    ["--front", "tiny-http", "--threads", "1:1", "--write-timeout", "600", "--force-shutdown-after", "600"];

#[test]
fn a_signal_stops_the_server_and_its_streams_send_a_retry() {
    for (signal, front) in
        [Signal::INT, Signal::TERM, Signal::HUP].into_iter().zip(FRONTS.into_iter().cycle())
    {
        let flags = ["--front", front, "--update-rate", "60", "--retry", "1234ms"];
        let (mut server, mut stdout, _) = start_and_hear(&flags, "Ctrl-C stops.");
        let mut streams: Vec<_> = (0..3).map(|_| open_stream(server.app)).collect();
        server.signal(signal);
        for stream in &mut streams {
            let goodbye = read_until(stream, "0\r\n\r\n");
            assert!(goodbye.contains(": the server is stopping\nretry: 1234\n\n"), "{signal:?}: {goodbye:?}");
        }
        assert_eq!(server.wait_for_exit().code(), Some(0), "{signal:?}: {}", server.log());
        assert!(hear(&mut stdout, "Goodbye!").contains("Gracefully stopping"));
        assert_eq!(names(server.folder.path()), ["log", "models.sqlite3"], "{signal:?}");
    }
}

#[test]
fn a_second_signal_ends_the_server_immediately() {
    for (first, second) in [(Signal::INT, Signal::INT), (Signal::TERM, Signal::HUP)] {
        expect_immediate_end(|server| server.signal(first), second);
    }
}

/// Ctrl-C after any other request to stop ends the process immediately.
#[test]
fn the_first_signal_after_another_request_to_stop_ends_the_server_immediately() {
    expect_immediate_end(|server| assert_eq!(get(server.control, "/stop").0, 200), Signal::INT);
    expect_immediate_end(|server| drop(server.child.stdin.take()), Signal::TERM);
}

/// Calls `stop` on a server, and sends it the signal while it waits for a reader. The signal must end it.
fn expect_immediate_end(stop: impl FnOnce(&mut Server), signal: Signal) {
    let (mut server, mut stdout, _) = start_and_hear(&HELD_UP, "Ctrl-C stops.");
    create_large(server.app, 500);
    let reader = stopped_reader(&server);
    stop(&mut server);
    hear(&mut stdout, "Gracefully stopping");
    thread::sleep(REPEATS_WITHIN * 2);
    server.signal(signal);
    assert_eq!(server.wait_for_exit().code(), Some(130));
    drop(reader);
}

/// A server with everything that a stop must remove or complete, and the parent folder of its temporary database.
fn with_state_folder_and_trace(flags: &[&str]) -> (Server, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = Server::command(folder.path());
    command.args(flags).arg("--trace").arg(folder.path().join("trace"));
    command.env("NINETABS_DATABASE", ":memory:").env("TMPDIR", &temporary).stdout(Stdio::piped());
    let mut server = Server::spawn(command, folder);
    hear(&mut BufReader::new(server.child.stdout.take().unwrap()), "Ctrl-C stops.");
    assert_eq!(names(&temporary).len(), 1);
    (server, temporary)
}

fn expect_nothing_left(server: &Server, temporary: &Path) {
    assert_eq!(names(temporary), [""; 0], "the folder of the database was left behind");
    assert_eq!(names(server.folder.path()), ["log", "tmp", "trace"], "the state file was left behind");
    let trace = std::fs::read(server.folder.path().join("trace")).unwrap();
    let events: Value = serde_json::from_slice(&trace).expect("the trace must be complete");
    assert!(!events.as_array().unwrap().is_empty());
}

/// npm, foreman and nested `timeout` commands deliver a signal twice in this way.
#[test]
fn two_signals_within_milliseconds_count_as_one() {
    for second in [Signal::TERM, Signal::INT] {
        let (mut server, temporary) = with_state_folder_and_trace(&["--update-rate", "60"]);
        let mut stream = open_stream(server.app);
        server.signal(Signal::TERM);
        thread::sleep(Duration::from_millis(3));
        server.signal(second);
        read_until(&mut stream, "retry: 3000\n");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{second:?}: {}", server.log());
        expect_nothing_left(&server, &temporary);
    }
}

#[test]
fn a_second_signal_leaves_no_state_file_no_temporary_folder_and_a_complete_trace() {
    let (mut server, temporary) = with_state_folder_and_trace(&HELD_UP);
    create_large(server.app, 500);
    let reader = stopped_reader(&server);
    server.signal(Signal::TERM);
    thread::sleep(REPEATS_WITHIN * 3);
    assert!(server.child.try_wait().unwrap().is_none(), "the server must wait for its reader");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(130), "{}", server.log());
    expect_nothing_left(&server, &temporary);
    drop(reader);
}

/// A stop that is waiting for a lock does not notice a second signal, but the signal still ends the process.
#[test]
fn a_second_signal_ends_a_stop_that_is_blocked() {
    let mut server = Server::start(&["--produce-every", "1ms", "--force-shutdown-after", "600"]);
    let mut other = rusqlite::Connection::open(server.database()).unwrap();
    other.busy_timeout(common::PATIENCE).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    wait_for("a failed write", || server.log().contains("database is locked").then_some(()));
    server.signal(Signal::TERM);
    thread::sleep(REPEATS_WITHIN * 3);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(130), "{}", server.log());
    assert!(!server.folder.path().join("state").exists(), "the state file was left behind");
    drop(lock);
}

#[test]
fn the_time_for_a_stop_is_limited_whatever_clients_do() {
    // These requests are queued behind a stalled reader: one on the reader's connection, the others on their own.
    let huge = b"GET /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70368744177664\r\n\r\n";
    let plain = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut server = Server::start(&[&HELD_UP[..6], &["--force-shutdown-after", "500ms"]].concat());
    create_large(server.app, 500);
    let mut reader = stopped_reader(&server);
    reader.write_all(plain).unwrap();
    let mut others = Vec::new();
    for (queued, request) in (2..).zip([&plain[..], huge, huge]) {
        others.push(send(server.app, request));
        server.wait_for_stats("additional queued request", |stats| stats["backlog"] == queued);
    }
    // The reader's last packets announced a slightly larger window, so the write may have continued.
    wait_until_blocked(&server, &reader);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    assert!(server.log().contains("had not finished after 500ms"), "{}", server.log());
    drop((reader, others));
}

#[test]
fn a_stop_does_not_wait_for_another_program_that_holds_the_write_lock() {
    let flags = ["--produce-every", "1ms", "--force-shutdown-after", "100ms"];
    let mut server = Server::start(&flags);
    let mut other = rusqlite::Connection::open(server.database()).unwrap();
    other.busy_timeout(common::PATIENCE).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    // The server has failed to get the lock once, and waits for it again a millisecond later.
    wait_for("a failed write", || server.log().contains("database is locked").then_some(()));
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    assert!(server.log().contains("a write is still waiting"), "{}", server.log());
    drop(lock);
}

#[test]
fn a_connection_during_a_stop_is_refused() {
    let mut server = Server::start(&HELD_UP);
    create_large(server.app, 500);
    let reader = stopped_reader(&server);
    server.signal(Signal::TERM);
    wait_for("a refused connection", || TcpStream::connect(server.app).is_err().then_some(()));
    assert!(server.child.try_wait().unwrap().is_none(), "the server must still wait for its reader");
    drop(reader);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn every_client_that_is_sending_its_head_at_a_stop_gets_503() {
    let mut server = Server::start(&["--threads", "2:2"]);
    let mut clients: Vec<TcpStream> =
        (0..100).map(|_| send(server.app, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")).collect();
    server.wait_for_stats("incomplete requests", |stats| stats["reactor_max"].as_u64() >= Some(100));
    let mut senders: Vec<TcpStream> = clients.iter().map(|client| client.try_clone().unwrap()).collect();
    let is_answered = Arc::new(AtomicBool::new(false));
    let sending = thread::spawn({
        let is_answered = Arc::clone(&is_answered);
        move || {
            while !is_answered.load(Ordering::Relaxed) && !senders.is_empty() {
                senders.retain_mut(|client| client.write_all(b"x").is_ok());
            }
        }
    });
    server.signal(Signal::TERM);
    let statuses = clients.iter_mut().map(|client| {
        let status = read_answer(client).status;
        is_answered.store(true, Ordering::Relaxed);
        status
    });
    assert_eq!(statuses.collect::<Vec<u16>>(), [503; 100]);
    drop(clients);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    sending.join().unwrap();
}

#[test]
fn requests_that_are_queued_at_a_stop_are_still_answered() {
    for front in FRONTS {
        let mut server = Server::on(front, &["--threads", "1:1", "--update-rate", "60"]);
        let mut stream = open_stream(server.app);
        let mut page = send(server.app, b"GET /up HTTP/1.0\r\n\r\n");
        let mut next = send(server.app, b"GET /models/live_stream HTTP/1.0\r\n\r\n");
        server.wait_for_stats("two queued requests", |stats| stats["backlog"] == 2);
        server.signal(Signal::TERM);
        read_until(&mut stream, "0\r\n\r\n");
        read_until(&mut page, "up\n");
        read_until(&mut next, "retry: 3000\n");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    }
}

#[test]
fn the_end_of_standard_input_stops_the_server_only_with_the_flag() {
    let mut server = Server::start(&["--update-rate", "60"]);
    let mut stream = open_stream(server.app);
    server.child.stdin.as_mut().unwrap().write_all(b"still here\n").unwrap();
    assert_eq!(get(server.app, "/up").0, 200);
    drop(server.child.stdin.take());
    read_until(&mut stream, "retry: 3000\n");
    assert_eq!(server.wait_for_exit().code(), Some(0));

    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["serve", "--bind", "tcp://127.0.0.1:0", "--control-url", "tcp://127.0.0.1:0"]);
    command.args(["--database", ":memory:", "--state", "state"]).current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = Server::spawn(command, folder);
    assert_eq!(create(server.app, "x").0, 201);
    server.signal(Signal::INT);
    assert_eq!(server.wait_for_exit().code(), Some(0), "without the flag, only the signal stops the server");
}

/// Another process that shares the pipe or the terminal may have made it nonblocking.
#[test]
fn a_nonblocking_standard_input_without_data_has_not_ended() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Server::command(folder.path());
    command.stdin(reader);
    let mut server = Server::spawn(command, folder);
    let mut stream = open_stream(server.app);
    writer.write_all(b"still here\n").unwrap();
    assert_eq!(create(server.app, "x").0, 201);
    assert!(server.child.try_wait().unwrap().is_none());
    drop(writer);
    read_until(&mut stream, "retry: 3000\n");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn a_memory_database_leaves_no_files_behind() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = Server::command(folder.path());
    command.env("NINETABS_DATABASE", ":memory:").env("TMPDIR", &temporary);
    let mut server = Server::spawn(command, folder);
    let mut streams: Vec<_> = (0..8).map(|_| open_stream(server.app)).collect();
    assert_eq!(names(&temporary).len(), 1);
    server.signal(Signal::INT);
    read_until(&mut streams[0], "retry: ");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_eq!(names(&temporary), [""; 0]);
    assert!(!names(server.folder.path()).contains(&":memory:".to_owned()));
}

#[test]
fn a_signal_or_the_end_of_standard_input_ends_a_start_that_is_blocked() {
    let mut before = Server::start(&[]);
    let database = before.database();
    before.signal(Signal::TERM);
    assert_eq!(before.wait_for_exit().code(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    let mut lock = rusqlite::Connection::open(&database).unwrap();
    lock.execute_batch("PRAGMA locking_mode = EXCLUSIVE").unwrap();
    let lock = lock.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let mut command = Server::command(folder.path());
        command.env("NINETABS_DATABASE", &database).env("RUST_LOG", "off");
        let mut child = command.spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        // The program handles signals before it creates this thread.
        let takes_them = || threads_of(child.id()).contains(&"start".to_owned()).then_some(());
        wait_for("the thread that starts", takes_them);
        rustix::process::kill_process(pid, signal).unwrap();
        let status = wait_for("the end of the program", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(130), "{signal:?} must end the start, which waits for the lock");
    }
    // With --stop-with-stdin, the end of standard input has the same effect.
    let mut command = Server::command(folder.path());
    command.env("NINETABS_DATABASE", &database);
    let mut child = command.spawn().unwrap();
    wait_for("the thread that starts", || threads_of(child.id()).contains(&"start".to_owned()).then_some(()));
    drop(child.stdin.take());
    let status = wait_for("the end of the program", || child.try_wait().unwrap());
    assert_eq!(
        status.code(),
        Some(130),
        "the end of standard input must end the start, which waits for the lock"
    );
    drop(lock);
}

/// If a signal arrives during a start, and the start completes within its grace time, the server ends in the way that
/// the signal requests.
#[test]
fn a_halt_during_a_start_does_not_become_a_stop() {
    let mut before = Server::start(&[]);
    let database = before.database();
    before.signal(Signal::TERM);
    assert_eq!(before.wait_for_exit().code(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    for (signals, said) in [
        (&[Signal::TERM][..], "Gracefully stopping"),
        (&[Signal::QUIT], "Stopping immediately!"),
        (&[Signal::QUIT, Signal::TERM], "Stopping immediately!"),
    ] {
        // On a slow machine, a start may exceed its grace time. It is then repeated.
        wait_for("a start that completes within its grace time", || {
            let mut lock = rusqlite::Connection::open(&database).unwrap();
            lock.execute_batch("PRAGMA locking_mode = EXCLUSIVE").unwrap();
            let held = lock.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
            let mut command = Server::command(folder.path());
            command.env("NINETABS_DATABASE", &database).env("RUST_LOG", "off").stdout(Stdio::piped());
            let child = command.spawn().unwrap();
            let takes_them = || threads_of(child.id()).contains(&"start".to_owned()).then_some(());
            wait_for("the thread that starts", takes_them);
            for signal in signals {
                rustix::process::kill_process(rustix::process::Pid::from_child(&child), *signal).unwrap();
                // The program needs this time to receive the signal before the next one.
                thread::sleep(Duration::from_millis(20));
            }
            drop(held);
            drop(lock);
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.code() == Some(130) || text.contains(said), "{signals:?}: {text}");
            (output.status.code() == Some(0)).then_some(())
        });
    }
}

/// The names of a process's threads.
fn threads_of(process: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

#[test]
fn each_signal_has_the_documented_effect() {
    let mut server = Server::start(&[]);
    let numbers = [
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::IO,
        Signal::POWER,
        Signal::TTIN,
        Signal::TTOU,
        Signal::XFSZ,
        Signal::PIPE,
        Signal::CHILD,
        Signal::URG,
        Signal::WINCH,
        Signal::CONT,
    ];
    for signal in numbers {
        server.signal(signal);
        assert_eq!(get(server.app, "/up").0, 200, "{signal:?}");
    }
    // Real-time signals have no name.
    let pid = server.child.id().to_string();
    for number in ["34", "64"] {
        assert!(Command::new("kill").args(["-s", number, &pid]).status().unwrap().success());
        assert_eq!(get(server.app, "/up").0, 200, "{number}");
    }
    wait_for("a log line for each of the two signals", || {
        let log = server.log();
        let said = |name: &str| log.contains(&format!("{name}: a restart is not available"));
        (said("SIGUSR1") && said("SIGUSR2")).then_some(())
    });
    server.signal(Signal::QUIT);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
    assert!(!server.folder.path().join("state").exists(), "QUIT must remove the state file");

    let mut server = Server::start(&["--update-rate", "60"]);
    let mut stream = open_stream(server.app);
    server.signal(Signal::XCPU);
    read_until(&mut stream, "retry: 3000\n");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// QUIT has the effect of `/halt`: it cuts off every connection that a stop would wait for, even during a stop.
#[test]
fn quit_does_not_wait_for_readers() {
    for stop_first in [false, true] {
        let (mut server, mut stdout, _) = start_and_hear(&HELD_UP, "Ctrl-C stops.");
        create_large(server.app, 500);
        let reader = stopped_reader(&server);
        if stop_first {
            server.signal(Signal::TERM);
            hear(&mut stdout, "Gracefully stopping");
        }
        server.signal(Signal::QUIT);
        assert_eq!(server.wait_for_exit().code(), Some(0));
        hear(&mut stdout, "Stopping immediately!");
        drop(reader);
    }
}

#[test]
fn an_unread_log_blocks_nothing() {
    let (reader, mut filler) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&filler, true).unwrap();
    // The pipe is full before the start, so no line can be written.
    while filler.write(&[b'\n'; 4096]).is_ok() {}
    while filler.write(b"\n").is_ok() {}
    rustix::io::ioctl_fionbio(&filler, false).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Server::command(folder.path());
    command.args(["--update-rate", "10ms", "--max-stream-age", "300ms", "--reap-every", "100ms"]);
    // This variable causes a log line before the server starts.
    command.env("NINETABS_PORT", "tcp://10.0.0.1:80");
    command.env("RUST_LOG", "debug").stdout(filler.try_clone().unwrap()).stderr(filler);
    let mut server = Server::spawn(command, folder);
    let mut streams: Vec<_> = (0..3).map(|_| open_stream(server.app)).collect();
    for stream in &mut streams {
        read_until(stream, "0\r\n\r\n");
    }
    // These requests cause further log lines.
    let bad = b"GET /models/live_stream HTTP/1.0\r\nHost: localhost\r\n\r\n";
    for _ in 0..3 {
        read_until(&mut send(server.app, bad), "retry: ");
    }
    let stats = server.wait_for_stats("end of all streams", |stats| stats["streams"]["open"] == 0);
    assert!(stats["streams"]["reaped"].as_u64() >= Some(3), "{stats}");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    drop(reader);
}

#[test]
fn a_write_beyond_the_file_size_limit_fails_only_its_request() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Server::command(folder.path());
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -f 300 && exec \"$@\"", "sh"])
        .arg(plain.get_program())
        .args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
    let mut server = Server::spawn(command, folder);
    // This body is buffered on disk, and exceeds the limit whatever block size the shell uses.
    assert_eq!(create(server.app, &"x".repeat(900_000)).0, 503, "{}", server.log());
    // The database cannot grow either.
    let name = "x".repeat(16_000);
    let refused = (0..200).map(|_| create(server.app, &name).0).find(|status| *status != 201);
    assert_eq!(refused, Some(500), "{}", server.log());
    assert_eq!(get(server.app, "/models.json?since=0").0, 200, "{}", server.log());
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{}", server.log());
}
