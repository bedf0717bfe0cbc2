//! The output of the command.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn simulate(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.arg("simulate").args(arguments.split_whitespace()).stdin(Stdio::null());
    command.output().unwrap()
}

fn printed(arguments: &str) -> String {
    let output = simulate(arguments);
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names in a JSON value, including those in nested objects.
fn names(value: &Value, before: &str, all: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let name = format!("{before}{name}");
        names(value, &format!("{name}."), all);
        all.push(name);
    }
}

const SPREAD: [&str; 5] = ["count", "max_s", "mean_s", "p50_s", "p99_s"];

#[test]
fn the_json_has_every_figure_and_is_the_same_each_time() {
    let arguments = "--tabs 64 --max-stream-age 5 --for 300 --seed 7 --json";
    let text = printed(arguments);
    assert_eq!(printed(arguments), text);
    let json: Value = serde_json::from_str(&text).unwrap();
    let mut found = Vec::new();
    names(&json, "", &mut found);
    let mut expected: Vec<String> = "scenario scenario.tabs scenario.servers scenario.threads scenario.streams \
        scenario.balance scenario.max_stream_age_s scenario.max_stream_age_jitter scenario.reap_every_s \
        scenario.retry_s scenario.update_rate_s scenario.pages_per_second scenario.for_s scenario.seed \
        predicted_period_s wait period turns turns.all turns.per_tab turns.fewest turns.most turns.tabs_without \
        pages pages.asked pages.answered pages.failed pages.wait backlog backlog.mean backlog.longest \
        backlog.at_end joins joins.all joins.most_in_a_second joins.in_second silence tabs_at_end \
        tabs_at_end.waiting tabs_at_end.streaming tabs_at_end.reconnecting gave_up cuts streams_failed claims held \
        verdict"
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    for spread in ["wait", "period", "pages.wait", "silence"] {
        expected.extend(SPREAD.map(|name| format!("{spread}.{name}")));
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!((&json["predicted_period_s"], &json["held"]), (&40.0.into(), &true.into()));
    assert!((30.0..50.0).contains(&json["period"]["p50_s"].as_f64().unwrap()), "{text}");
    let claim = &json["claims"][0];
    assert!(["claim", "expected", "measured"].iter().all(|name| claim[name].is_string()), "{claim}");
    let other = printed("--tabs 64 --max-stream-age 5 --for 300 --seed 8 --json");
    assert_ne!(other, text, "another seed");
}

#[test]
fn the_table_fits_eighty_columns_and_ends_with_the_answer() {
    for (arguments, answer) in [
        ("", "8 tabs held every thread, and 1 had no turn"),
        ("--tabs 20000 --max-stream-age 5", "The formula N/T × age predicts one every 3 h 28 min"),
        ("--tabs 64 --max-stream-age 5", "Each tab gets a turn every 40 s (median)"),
        ("--tabs 3", "There is a thread for every tab"),
        (
            "--tabs 9000 --servers 3 --held-by event-loop --kill 1@60 --stop 2@100..120 --engine-gone 200..230",
            "No tab holds a thread.",
        ),
    ] {
        let text = printed(arguments);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(answer), "{text}");
    }
}

#[test]
fn a_broken_rule_is_status_1_and_a_wrong_value_is_one_line() {
    let broken = simulate("--tabs 64 --max-stream-age 5 --break-rule lifo");
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&broken.stdout).contains("overtook another one (expected 0)"));
    for (arguments, says) in [
        ("--tabs 0", "--tabs"),
        ("--kill 2@30", "--kill: there is no server 2"),
        ("--stop 1@30", "--stop"),
        ("--engine-gone 9..3", "--engine-gone"),
        ("--pages-per-second -1", "--pages-per-second"),
        ("--for 99999999999", "--for"),
        ("--balance random", "--balance"),
    ] {
        let output = simulate(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{arguments}: {said}");
        assert!(said.contains(says), "{arguments}: {said}");
    }
}

#[test]
fn the_picture_has_the_lanes_of_the_first_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lanes.svg");
    printed(&format!("--tabs 12 --max-stream-age 5 --for 60 --svg {}", path.display()));
    let svg = std::fs::read_to_string(path).unwrap();
    assert!(svg.contains("tp 008") && svg.contains("simulated by ninetabs, not measured"), "{svg}");
}
