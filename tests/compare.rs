//! `compare`: the table of all fixes, as a person and as a program read it.

use std::fs;
use std::process::{Command, Output, Stdio};

use crate::common::with_two_threads;
use serde_json::Value;

fn compare(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.arg("compare").args(args).stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_loop_runs_dry_and_a_cure_does_not_and_a_program_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("compare.html");
    let output = compare(&[
        "--fast",
        "--only",
        "naive,cap,push,poll-shared",
        "--json",
        "--report",
        page.to_str().unwrap(),
    ]);
    let compared: Value = serde_json::from_str(&text(&output.stdout)).unwrap_or_else(|error| {
        panic!("{error}: {output:?}");
    });
    let rows = compared["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["fix"].as_str().unwrap()).collect();
    assert_eq!(names, ["naive", "cap", "push", "poll-shared"]);
    for row in rows {
        for key in [
            "tabs_live",
            "page_ms",
            "pool_threads_held",
            "os_threads",
            "connections",
            "queries_per_s",
            "event_ms",
            "pool_free_s",
            "missed",
            "repeated",
            "db_connections_held",
            "sender_worst_ms",
            "blind_s",
            "lost_over_restart",
            "stop_ends",
            "outside_writer_seen",
        ] {
            assert!(row.get(key).is_some(), "{key}: {row}");
        }
        for claim in row["claims"].as_array().unwrap() {
            assert_eq!(claim["held"], true, "{}: {claim}", row["fix"]);
        }
    }
    assert_eq!((&compared["held"], output.status.code()), (&true.into(), Some(0)));
    let of = |row: usize, keys: &str| rows[row].pointer(keys).unwrap().clone();
    assert_eq!(
        (of(0, "/tabs_live"), of(0, "/page_ms/p50"), of(0, "/pool_free_s")),
        (8.into(), Value::Null, Value::Null)
    );
    assert_eq!((of(1, "/tabs_live"), of(1, "/pool_threads_held")), (6.into(), 6.into()));
    assert_eq!((of(2, "/tabs_live"), of(2, "/pool_threads_held")), (9.into(), 0.into()));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("claims held.") && page.contains("id=\"poll-shared\""), "{page}");
    for elsewhere in ["src=", "href=\"http", "url(", "@import"] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
}

#[test]
fn with_hundreds_of_tabs_only_those_are_measured_that_can_bear_it() {
    let output = compare(&["--fast", "--only", "naive,push", "--tabs", "300"]);
    let said = text(&output.stdout);
    assert!(said.contains("naive: its tabs hold threads, and 300 are more than there can be"), "{said}");
    let push = said.lines().find(|line| line.starts_with("push")).unwrap();
    assert_eq!(push.split_whitespace().nth(1), Some("300"), "{said}");
    assert!(output.status.success(), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 110), "{said}");
}

#[test]
fn a_server_with_fewer_threads_than_it_says_meets_no_claim() {
    let folder = tempfile::tempdir().unwrap();
    let other = with_two_threads(folder.path());
    let output = compare(&["--fast", "--only", "cap", "--program", other.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cap: tabs that get models: 2, expected 6: FAILS"), "{said}");
}

#[test]
fn what_cannot_be_compared_is_said_in_one_line() {
    for (args, status, words) in [
        (&["--only", "nothing"][..], 2, "--only"),
        (&["--tabs", "0"], 2, "--tabs"),
        (&["--json", "--markdown"], 2, "--markdown"),
        (&["--report", "/nowhere/at/all.html"], 1, "--report /nowhere/at/all.html"),
        (&["--only", "push", "--program", "/nowhere"], 1, "/nowhere could not be started"),
    ] {
        let output = compare(args);
        let said = text(&output.stderr);
        let complaint = said.lines().find(|line| line.starts_with("ninetabs: ")).unwrap_or_default();
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(complaint.contains(words), "{args:?}: {said}");
    }
}
