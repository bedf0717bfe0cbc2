//! `compare --servers`: fixes on several servers that share one database, one of which is killed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::thread;

use ninetabs::lab::cluster::haproxy::HaProxy;
#[cfg(feature = "postgresql")]
use ninetabs::lab::cluster::postgres::installed;
use ninetabs::lab::http;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::batch::batch;
use crate::common::{PATIENCE, hear, names, program, set_mode, wait_for};

batch! {
    crate::several::BATCH:
    tabs_of_two_servers_on_one_file_lose_and_repeat_nothing_when_one_is_killed,
    #[cfg(feature = "postgresql")]
    tabs_of_servers_on_postgresql_lose_and_repeat_nothing_when_one_is_killed,
    an_interrupt_leaves_nothing_behind,
    a_comparison_that_is_impossible_on_several_servers_is_refused_in_one_line,
    haproxy_repeats_a_get_that_a_server_did_not_answer_and_does_not_repeat_a_post,
}

/// The command, with its temporary files in this folder.
fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    // If the tests run as root, PostgreSQL runs as another user.
    set_mode(folder.path(), 0o711);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.arg("compare").args(arguments).env("TMPDIR", folder.path()).stdin(Stdio::null());
    command
}

/// Runs the command, and waits until its temporary files are removed.
fn output(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let output = command(&folder, arguments).output().unwrap();
    expect_nothing_left(&folder);
    output
}

fn expect_nothing_left(folder: &TempDir) {
    wait_for("the removal of all temporary files", || names(folder.path()).is_empty().then_some(()));
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Checks the row of a comparison in which every claim held. On a busy machine, requests that create rows may be in
/// progress whenever busy threads are counted, but the tabs would hold nine.
fn expect_complete(row: &Value) {
    assert!(row["pool_threads_held"].as_u64().unwrap() < 9, "{row}");
    let claims = row["claims"].as_array().unwrap();
    for claim in claims.iter().filter(|claim| claim["claim"] != "pool threads that the tabs hold") {
        assert_eq!(claim["held"], true, "{}: {claim}", row["fix"]);
    }
    assert_eq!(
        (&row["lost"], &row["repeated"], &row["tabs_live"]),
        (&0.into(), &0.into(), &9.into()),
        "{row}"
    );
    let (p50, max) = (&row["cross_server_ms"]["p50"], &row["cross_server_ms"]["max"]);
    assert!(p50.as_f64().unwrap() <= max.as_f64().unwrap(), "{row}");
    let [killed, others] =
        ["tabs_of_killed_server", "tabs_of_other_servers"].map(|name| row[name].as_u64().unwrap());
    assert!(killed > 0 && killed + others == 9, "{row}");
    // Without HAProxy, the tabs keep the addresses of their servers.
    let moved = if program("haproxy").is_some() { killed.into() } else { Value::Null };
    assert_eq!((&row["moved_tabs"], &row["returned_tabs"]), (&moved, &killed.into()), "{row}");
    assert_eq!(row["undisturbed_tabs"], others, "{row}");
}

fn tabs_of_two_servers_on_one_file_lose_and_repeat_nothing_when_one_is_killed() {
    let pages = tempfile::tempdir().unwrap();
    let page = pages.path().join("compare.html");
    let arguments = ["--servers", "2", "--engine", "sqlite3", "--only", "push,poll", "--fast", "--json"];
    let output = output(&[&arguments[..], &["--report", page.to_str().unwrap()]].concat());
    let compared = json(&output);
    let rows = compared["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| &row["fix"]).collect::<Vec<_>>(), ["push", "poll"]);
    rows.iter().for_each(expect_complete);
    assert_eq!((&compared["servers"], &compared["engine"]), (&2.into(), &"sqlite3".into()), "{compared}");
    assert_eq!((&compared["held"], output.status.code()), (&true.into(), Some(0)));
    let page = fs::read_to_string(page).unwrap();
    for words in ["2 servers share an SQLite file", "tabs that changed the server", "id=\"poll\""] {
        assert!(page.contains(words), "{words} is missing in {page}");
    }
}

#[cfg(feature = "postgresql")]
fn tabs_of_servers_on_postgresql_lose_and_repeat_nothing_when_one_is_killed() {
    if installed().is_none() {
        assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed, and CI is set");
        eprintln!("skipped: PostgreSQL is not installed");
        return;
    }
    let output = output(&["--servers", "3", "--only", "push", "--fast", "--json"]);
    let compared = json(&output);
    assert_eq!((&compared["servers"], &compared["engine"]), (&3.into(), &"postgresql".into()), "{compared}");
    expect_complete(&compared["rows"][0]);
    assert_eq!(output.status.code(), Some(0));
}

fn an_interrupt_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--servers", "2", "--engine", "sqlite3", "--only", "push"];
    let mut child = command(&folder, &arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    hear(&mut stderr, "push: tabs listen");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    hear(&mut stderr, "interrupted");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    expect_nothing_left(&folder);
}

fn a_comparison_that_is_impossible_on_several_servers_is_refused_in_one_line() {
    for (arguments, words) in [
        (&["--servers", "3", "--only", "push,naive"][..], "--only naive: the tabs of naive hold threads"),
        (&["--servers", "2", "--only", "shared-worker"], "leave out shared-worker or --servers"),
        (&["--engine", "sqlite3"], "give --servers 2 or more"),
        (&["--servers", "1", "--engine", "postgresql"], "give --servers 2 or more"),
        (&["--servers", "0"], "--servers"),
        (&["--servers", "10"], "--servers"),
        (&["--servers", "2", "--engine", "mysql"], "--engine"),
    ] {
        let output = output(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        let complaint = said.lines().find(|line| line.starts_with("ninetabs: ")).unwrap_or_default();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(complaint.contains(words), "{arguments:?}: {said}");
    }
}

#[cfg(not(feature = "postgresql"))]
#[test]
fn a_build_without_postgresql_refuses_that_engine_before_anything_is_started() {
    let output = output(&["--servers", "2", "--engine", "postgresql"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("this build does not support PostgreSQL"), "{said}");
}

/// A server that answers what `answer` returns for the first line of a request, or closes the connection.
fn server(answer: fn(&str) -> Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut first = String::new();
            // A connection without a request has nothing to be answered.
            if matches!(stream.read_line(&mut first), Ok(1..))
                && let Some(answer) = answer(&first)
            {
                let _ = stream.get_mut().write_all(answer.as_bytes());
            }
        }
    });
    address
}

fn haproxy_repeats_a_get_that_a_server_did_not_answer_and_does_not_repeat_a_post() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    if program("haproxy").is_none() {
        return;
    }
    // It answers only the checks of HAProxy.
    let silent = server(|first| first.starts_with("GET /up ").then_some(ANSWER));
    let haproxy = HaProxy::start(&[silent, server(|_| Some(ANSWER))]).unwrap().unwrap();
    let url = format!("{}/stream", haproxy.url());
    let gets: Vec<u16> = (0..6).map(|_| http::get(&url, PATIENCE).unwrap().status()).collect();
    assert_eq!(gets, [200; 6]);
    let posts = (0..6).map(|_| http::post(&url, "text/plain", String::new(), PATIENCE).unwrap().status());
    assert!(posts.collect::<Vec<_>>().contains(&502), "no POST reached the server that does not answer");
}
