//! `compare`: the table of all fixes, for users and for programs.

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
fn json_shows_that_the_plain_loop_exhausts_the_pool_and_fixes_do_not() {
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
fn with_hundreds_of_tabs_only_fixes_that_hold_no_thread_are_measured() {
    let output = compare(&["--fast", "--only", "naive,push", "--tabs", "300"]);
    let said = text(&output.stdout);
    assert!(
        said.contains("naive: not measured, because its tabs hold threads; 300 tabs need too many"),
        "{said}"
    );
    let push = said.lines().find(|line| line.starts_with("push")).unwrap();
    assert_eq!(push.split_whitespace().nth(1), Some("300"), "{said}");
    assert!(output.status.success(), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
}

#[test]
fn the_tables_end_with_a_summary_and_other_server_counts_the_threads_of_both_servers() {
    let output = compare(&["--fast", "--only", "naive,other-server,push"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let summary = "Summary: 2 of 3 keep pages answered with nine tabs open; naive does not.";
    for part in
        [summary, "push: events after ", " sooner than naive, no thread held.", "The same in every row: "]
    {
        assert!(words.contains(part), "{part} is missing in {said}");
    }
    assert!(words.contains("Fewest queries among fixes that hold no thread: push, "), "{said}");
    let rows = |name: &str| said.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>().join(" ");
    assert!(rows("naive ").contains(" never ") && !rows("push ").contains("never"), "{said}");
    let heads = said.lines().find(|line| line.starts_with("fix ") && line.contains(" held")).unwrap();
    let column = heads.replace(" ms", "").split_whitespace().position(|head| head == "held").unwrap();
    let table = said.lines().skip_while(|line| *line != heads);
    let row = table.clone().find(|line| line.starts_with("other-server")).unwrap().replace(" / ", "/");
    assert_eq!(row.split_whitespace().nth(column), Some("8"), "{said}");
}

#[test]
fn a_server_with_fewer_threads_than_planned_fails_its_claims() {
    let folder = tempfile::tempdir().unwrap();
    let other = with_two_threads(folder.path());
    let output = compare(&["--fast", "--only", "cap", "--program", other.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("✗ cap: 2 tabs receive rows (expected 6)"), "{said}");
}

#[test]
fn an_impossible_comparison_is_reported_in_one_line() {
    for (args, status, words) in [
        (&["--only", "nothing"][..], 2, "--only"),
        (&["--tabs", "0"], 2, "--tabs"),
        (&["--json", "--markdown"], 2, "--markdown"),
        (&["--report", "/nowhere/at/all.html"], 1, "--report /nowhere/at/all.html"),
        (&["--only", "push", "--program", "/nowhere"], 1, "cannot start /nowhere"),
    ] {
        let output = compare(args);
        let said = text(&output.stderr);
        let complaint = said.lines().find(|line| line.starts_with("ninetabs: ")).unwrap_or_default();
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(complaint.contains(words), "{args:?}: {said}");
    }
}
