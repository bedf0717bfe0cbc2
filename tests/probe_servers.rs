//! `ninetabs probe` against ten real servers, and its optional experiments against three. Only counts, kinds, places
//! and classes are checked, because times depend on how busy the machine is.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common::batch::{Batch, batch};
use crate::common::probed::Probed;

// Each run takes up to a minute, and sleeps most of the time.
static BATCH: Batch = Batch::new(13, 3, &[], &[BODIES]);

batch! { super::BATCH:
    an_event_loop_has_no_limit,
    five_threads_of_puma,
    four_threads_of_gunicorn,
    four_threads_of_waitress,
    three_workers_that_gunicorn_kills,
    one_thread_of_flask,
    five_database_connections_of_rails,
    five_threads_behind_a_proxy_that_buffers,
    four_connections_per_client,
    forty_descriptors,
    zombies_on_two_threads_of_gunicorn,
    eight_http2_streams_of_nginx,
    http10_to_rails,
}

/// The expected result of a run.
#[derive(Default)]
struct Expected {
    streams: u64,
    pages_until: u64,
    /// Where the first tab that is not served waits.
    waits: Option<&'static str>,
    limit: &'static str,
    or: &'static [&'static str],
    notes: &'static [&'static str],
}

/// Notes that must not appear for any of the ten servers.
const NEVER: &[&str] = &["leak", "several-queues", "own-limit", "not-a-stream", "unreachable", "cached"];

/// Arguments that shorten the second run, which only has to show that every slot has returned.
const SHORT: &[&str] = &["--patience", "4"];

impl Expected {
    /// Probes the server, checks the result, and probes it again.
    fn of(&self, server: &Probed, args: &[&str]) -> Value {
        let found = probe(server, args);
        self.check(&found);
        // The server notices the end of the last stream at a write, or through a timeout of five seconds.
        std::thread::sleep(Duration::from_secs(10));
        let again = probe(server, &[args, SHORT].concat());
        assert_eq!(again["streams"]["low"], self.streams, "the second run: {again:#}");
        assert_eq!(again["pages_until"]["low"], self.pages_until, "the second run: {again:#}");
        for note in self.notes {
            // On a busy machine, the times of one of the two runs may be too inaccurate for a note.
            let was_found = notes(&found).contains(note) || notes(&again).contains(note);
            assert!(was_found, "no {note}: {found:#}\nand {again:#}");
        }
        found
    }

    fn check(&self, found: &Value) {
        for key in ["low", "high"] {
            assert_eq!(found["streams"][key], self.streams, "{found:#}");
            assert_eq!(found["pages_until"][key], self.pages_until, "{found:#}");
        }
        assert_eq!(found["limit"]["kind"], self.limit, "{found:#}");
        assert_eq!(words(&found["limit"]["or"]), self.or, "{found:#}");
        assert_eq!(place(found), self.waits, "{found:#}");
        let notes = notes(found);
        for note in NEVER {
            assert!(!notes.contains(note), "{note}: {found:#}");
        }
    }
}

fn an_event_loop_has_no_limit() {
    let Some(server) = Probed::node() else { return };
    let expected = Expected {
        streams: 40,
        pages_until: 40,
        limit: "none-found",
        notes: &["browsers-six"],
        ..Expected::default()
    };
    let found = expected.of(&server, &["--tabs", "40"]);
    assert_eq!(found["pages_stop_at"]["/page"], Value::Null);
    assert_eq!((&found["idle"], &found["kept"]), (&Value::Array(Vec::new()), &Value::Null));
}

fn five_threads_of_puma() {
    let Some(server) = Probed::puma("5:5") else { return };
    let expected = Expected {
        streams: 5,
        pages_until: 4,
        waits: Some("kernel"),
        limit: "workers",
        notes: &["late-first-event", "slot-return"],
        ..Expected::default()
    };
    let found = expected.of(&server, &[]);
    assert_eq!(found["pages_stop_at"]["/page"], 5);
    assert_eq!(class_of_returns(&found), "at-a-write");
    assert_eq!(page_beside(&found["idle"][0]), (&Value::Bool(true), true), "{found:#}");
    assert_eq!(page_beside(&found["kept"]), (&Value::Bool(true), true), "{found:#}");
}

fn four_threads_of_gunicorn() {
    let Some(server) = Probed::gunicorn(&["-k", "gthread", "-w", "1", "--threads", "4"]) else { return };
    let expected = Expected {
        streams: 4,
        pages_until: 3,
        waits: Some("unread"),
        limit: "workers",
        notes: &["slot-return"],
        ..Expected::default()
    };
    let found = expected.of(&server, &[]);
    assert_eq!(class_of_returns(&found), "at-a-write");
    // gunicorn closes an idle connection after five seconds. On a busy machine, that may be before the probe stops
    // waiting for the page.
    let idle = found["idle"].as_array().unwrap();
    assert!(idle.iter().any(|held| held["answered"] == false), "{found:#}");
    assert_eq!(found["kept"]["answered"], true, "{found:#}");
}

fn four_threads_of_waitress() {
    let Some(server) = Probed::waitress(4) else { return };
    let expected = Expected {
        streams: 4,
        pages_until: 3,
        waits: Some("read"),
        limit: "workers",
        notes: &["slot-return"],
        ..Expected::default()
    };
    let found = expected.of(&server, &[]);
    assert_eq!(class_of_returns(&found), "at-a-write");
    assert_eq!(found["idle"][0]["answered"], true, "{found:#}");
    assert_eq!(found["kept"]["answered"], true, "{found:#}");
}

fn three_workers_that_gunicorn_kills() {
    let Some(server) = Probed::gunicorn(&["-w", "3", "-t", "8"]) else { return };
    let expected = Expected {
        streams: 3,
        pages_until: 2,
        waits: Some("kernel"),
        limit: "workers",
        or: &["connections"],
        notes: &["cut"],
    };
    let found = expected.of(&server, &[]);
    assert_eq!(note(&found, "cut")["evidence"]["how"], "abrupt", "{found:#}");
}

fn one_thread_of_flask() {
    let Some(server) = Probed::flask() else { return };
    let expected = Expected {
        streams: 1,
        pages_until: 0,
        waits: Some("kernel"),
        limit: "one-at-a-time",
        notes: &["slot-return"],
        ..Expected::default()
    };
    let found = expected.of(&server, &[]);
    assert_eq!(class_of_returns(&found), "at-a-write");
}

fn five_database_connections_of_rails() {
    let Some(server) = Probed::rails() else { return };
    let expected = Expected {
        streams: 5,
        pages_until: 4,
        waits: Some("read"),
        limit: "database-pool",
        notes: &["late-first-event", "slot-return", "stats-disagree"],
        ..Expected::default()
    };
    let found = expected.of(&server, &["--page", &server.url("/up")]);
    assert_eq!((&found["pages_stop_at"]["/page"], &found["pages_stop_at"]["/up"]), (&5.into(), &Value::Null));
    assert_eq!(first_that_is_not_served(&found).unwrap()["outcome"], "empty", "{found:#}");
    assert_eq!(class_of_returns(&found), "slow");
    let ends = note(&found, "slot-return")["evidence"]["ends_between"].as_u64();
    assert!(ends.is_some_and(|ends| ends >= 1), "{found:#}");
    assert_eq!(found["limit"]["act"], 6);
}

fn five_threads_behind_a_proxy_that_buffers() {
    let Some(server) = Probed::puma("5:5").and_then(|puma| puma.behind_nginx("")) else { return };
    let expected = Expected {
        streams: 0,
        pages_until: 4,
        waits: Some("read"),
        limit: "workers",
        notes: &["buffered"],
        ..Expected::default()
    };
    let found = expected.of(&server, &["--page", &server.url("/static")]);
    let stops = &found["pages_stop_at"];
    assert_eq!((&stops["/page"], &stops["/static"]), (&5.into(), &Value::Null), "{found:#}");
    assert_eq!(found["limit"]["behind"], true, "{found:#}");
}

fn four_connections_per_client() {
    let directives = "proxy_buffering off; limit_conn a 4;";
    let Some(server) = Probed::node().and_then(|node| node.behind_nginx(directives)) else { return };
    let expected =
        Expected { streams: 4, pages_until: 3, limit: "refused-per-client", ..Expected::default() };
    let found = expected.of(&server, &["--page", &server.url("/static")]);
    let refused = first_that_is_not_served(&found).unwrap();
    assert_eq!((&refused["outcome"], &refused["status"]), (&"status".into(), &503.into()), "{found:#}");
    assert_eq!(found["pages_stop_at"]["/static"], Value::Null, "{found:#}");
    assert_eq!(class_of_returns(&found), "at-once");
}

fn forty_descriptors() {
    let Some(server) = Probed::puma_with_descriptors("60:60", 40) else { return };
    let found = probe(&server, &[]);
    let streams = found["streams"]["low"].as_u64().unwrap();
    // Descriptors that the server inherits from the test process count as well.
    assert!((24..=28).contains(&streams), "{found:#}");
    let expected = Expected {
        streams,
        pages_until: streams - 1,
        waits: Some("kernel"),
        limit: "descriptors",
        ..Expected::default()
    };
    expected.check(&found);
    note(&found, "stats-silent");
    note(&found, "browsers-six");
    assert_eq!(found["idle"][0]["answered"], false, "{found:#}");
    assert_eq!(found["kept"]["answered"], false, "{found:#}");
    std::thread::sleep(Duration::from_secs(10));
    let again = probe(&server, SHORT);
    assert_eq!(again["streams"]["low"], streams, "the second run: {again:#}");
}

/// The small events of two threads never fill a buffer, so gunicorn cannot notice that its clients do not read.
fn zombies_on_two_threads_of_gunicorn() {
    let Some(server) = Probed::gunicorn(&["-k", "gthread", "-w", "1", "--threads", "2"]) else { return };
    let found = probe(&server, &["--zombies", "2", "--patience", "13"]);
    assert_eq!(
        (&found["streams"]["low"], &found["limit"]["kind"]),
        (&2.into(), &"workers".into()),
        "{found:#}"
    );
    let zombies = &found["zombies"];
    assert_eq!(
        (&zombies["n"], &zombies["tab_s"], &zombies["page_s"]),
        (&2.into(), &Value::Null, &Value::Null)
    );
    assert!(zombies["free_s"]["stream"].is_number(), "{found:#}");
    let text = note(&found, "zombies-stay")["text"].as_str().unwrap();
    assert!(
        text.contains("neither the next tab nor the page was served: the server has not noticed yet"),
        "{text}"
    );
    // With one zombie, the other thread serves the tab, which proves nothing.
    let found = probe(&server, &["--zombies", "1", "--patience", "10"]);
    let notes = notes(&found);
    assert!(!notes.contains(&"zombies-freed") && !notes.contains(&"zombies-stay"), "{found:#}");
    assert!(
        words(&found["advice"]).iter().any(|line| line.contains("give --zombies 2 or more")),
        "{found:#}"
    );
}

/// A browser would use HTTP/2 with this server, so it would not stop at six streams.
fn eight_http2_streams_of_nginx() {
    let Some(server) = Probed::node().and_then(|node| node.behind_nginx_with_http2(8)) else { return };
    let found = probe(&server, &["-k", "--http2", "--tabs", "12", "--patience", "4"]);
    let http2 = &found["http2"];
    assert_eq!((&http2["announced"], &http2["reached"]), (&8.into(), &8.into()), "{found:#}");
    assert_eq!((&http2["stopped_by"], &http2["error"]), (&"settings".into(), &Value::Null), "{found:#}");
    assert_eq!(
        (&http2["second_connection"], &http2["after_cancel"]),
        (&true.into(), &true.into()),
        "{found:#}"
    );
    assert_eq!((&found["limit"]["kind"], &found["streams"]["low"]), (&"http2-streams".into(), &12.into()));
    assert!(!notes(&found).contains(&"browsers-six"), "{found:#}");
}

/// ActionController::Live ends the response to an HTTP/1.0 client after the first event.
fn http10_to_rails() {
    let Some(server) = Probed::rails() else { return };
    let found = probe(&server, &["--http10", "--patience", "8"]);
    let http10 = &found["http10"];
    assert_eq!(http10["flowed"], true, "{found:#}");
    assert!(http10["ended_s"].is_number(), "{found:#}");
    assert!(http10["streams_after"].is_number(), "{found:#}");
}

/// Runs `ninetabs probe --json` with `/page` and these arguments, and with the control server if there is one.
fn probe(server: &Probed, args: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["probe", &server.url("/stream"), "--page", &server.url("/page"), "--json"]).args(args);
    if let Some(url) = server.control_url() {
        command.args(["--control-url", &url]);
    }
    command.stdin(Stdio::null());
    // If the answers of a page varied, nothing was measured. This can happen on a busy machine, so the run is repeated.
    let mut output = command.output().unwrap();
    for _ in 0..2 {
        if output.status.code() == Some(3) {
            output = command.output().unwrap();
        }
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}\n{}", server.said());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// The first tab that did not stream.
fn first_that_is_not_served(found: &Value) -> Option<&Value> {
    let steps = found["steps"].as_array().unwrap();
    steps.iter().find(|step| !["flows", "late", "cut"].contains(&step["outcome"].as_str().unwrap()))
}

/// Where the request of the first tab that is not served waits.
fn place(found: &Value) -> Option<&str> {
    first_that_is_not_served(found).and_then(|step| step["waits"].as_str())
}

/// Whether the page was answered beside these held connections, and whether all of them stayed open.
fn page_beside(held: &Value) -> (&Value, bool) {
    (&held["answered"], held["open_before"] == held["open_after"])
}

fn class_of_returns(found: &Value) -> &str {
    note(found, "slot-return")["evidence"]["class"].as_str().unwrap()
}

fn note<'a>(found: &'a Value, kind: &str) -> &'a Value {
    let notes = found["notes"].as_array().unwrap();
    notes.iter().find(|note| note["kind"] == kind).unwrap_or_else(|| panic!("no {kind}: {found:#}"))
}

fn notes(found: &Value) -> Vec<&str> {
    found["notes"].as_array().unwrap().iter().map(|note| note["kind"].as_str().unwrap()).collect()
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}
