//! docs/fixes.md contains the table that `compare --markdown` prints for the committed run, which `/fixes` shows.

use ninetabs::lab::claim::Claims;
use ninetabs::lab::compare::{ComparePace, ComparePlan, Row, Spread, report};
use serde_json::Value;

use super::root;
use crate::common::{Server, get};

/// The rows of the committed run.
fn committed() -> Vec<Row> {
    let run: Value = serde_json::from_str(include_str!("../../src/fixes/compared.json")).unwrap();
    run["rows"].as_array().unwrap().iter().map(row).collect()
}

fn row(row: &Value) -> Row {
    let count = |name: &str| row[name].as_u64();
    let size = |name: &str| count(name).map(|count| count as usize);
    let number = |name: &str| row[name].as_f64();
    let spread = |name: &str| Spread { p50: row[name]["p50"].as_f64(), p99: row[name]["p99"].as_f64() };
    let mut claims = Claims::default();
    for claim in row["claims"].as_array().unwrap() {
        let text = |name: &str| claim[name].as_str().unwrap().to_owned();
        claims.push(text("claim"), text("expected"), text("measured"), claim["held"] == true);
    }
    Row {
        fix: row["fix"].as_str().unwrap().to_owned().leak(),
        tabs_live: size("tabs_live"),
        page_ms: spread("page_ms"),
        pool_threads_held: count("pool_threads_held"),
        os_threads: count("os_threads"),
        connections: count("connections"),
        queries_per_s: number("queries_per_s"),
        event_ms: spread("event_ms"),
        pool_free_s: number("pool_free_s"),
        missed: size("missed"),
        repeated: size("repeated"),
        action_threads: count("action_threads"),
        db_connections_held: count("db_connections_held"),
        sender_worst_ms: number("sender_worst_ms"),
        blind_s: number("blind_s"),
        lost_over_restart: size("lost_over_restart"),
        stop_ends: row["stop_ends"].as_bool(),
        outside_writer_seen: row["outside_writer_seen"].as_bool(),
        several: None,
        note: row["note"].as_str().map(str::to_owned),
        claims: claims.into_vec(),
        scene: None,
    }
}

#[test]
fn the_table_of_the_fixes_is_the_committed_run() {
    let rows = committed();
    let plan = ComparePlan { program: "ninetabs".into(), tabs: 9, pace: ComparePace::ARTICLE, several: None };
    let document = std::fs::read_to_string(root().join("docs/fixes.md")).unwrap();
    let table = report::markdown(&rows, &plan);
    assert!(document.contains(&table), "docs/fixes.md lacks this table:\n{table}");

    // The page shows the date of the run.
    let server = Server::start(&[]);
    let (_, page) = get(server.app, "/fixes");
    let date = page.split("nine tabs and eight threads, on ").nth(1).unwrap().get(..10).unwrap();
    let claims = rows.iter().flat_map(|row| &row.claims);
    let claims = (claims.clone().filter(|claim| claim.held).count(), claims.count());
    assert_eq!(claims.0, claims.1, "every claim held");
    let says = format!(
        "Output of `ninetabs compare --markdown` on {date}: all {} claims of the seventeen rows held.",
        claims.1
    );
    assert!(document.contains(&says), "docs/fixes.md lacks: {says}");
}
