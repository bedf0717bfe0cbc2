//! Checks the JSON output against its schema and its documentation.

use serde_json::json;

use super::super::super::findings::{FindingKind, LimitKind, NoteKind};
use super::super::super::measured::{CloseBy, LateEvents};
use super::super::super::measured::{
    Compression, Http10, OtherAddress, PageAsk, SharedStream, SlotReturn, Stopped, Tries, UncachedPage,
    WaitPlace,
};
use super::super::samples::{self, Sample, ms, s};
use super::*;

const SCHEMA: &str = include_str!("../../../../../docs/probe.schema.json");

fn parsed(sample: &Sample, verdict: &ThresholdVerdict) -> Value {
    serde_json::from_str(&super::json(&sample.run(verdict)).unwrap()).unwrap()
}

/// One run with every optional measurement, one run with none, and one run per kind of finding.
fn unusual() -> Vec<Sample> {
    let mut full = samples::rails();
    let ask = PageAsk { outcome: PageOutcome::Reset, time: ms(3.0), place: Some(WaitPlace::AcceptQueueFull) };
    let free = Some(Free { page: None, stream: None });
    let measured = &mut full.measured;
    measured.zombies = Some(Zombies {
        n: 5,
        watched: s(60.0),
        tab: Some(s(5.0)),
        unsent: Some(1 << 20),
        free,
        ..Zombies::default()
    });
    measured.http2 = Some(Http2 {
        announced: Some(100),
        reached: 40,
        stopped_by: Some(Http2Stop::RefusedStream),
        page: Some(true),
        ..Http2::default()
    });
    measured.http10 = Some(Http10 { flowed: true, streams_after: Some(4), ..Http10::default() });
    measured.kept = measured.kept.take().map(|kept| HeldConnections {
        open_after: 2,
        place: Some(WaitPlace::Kernel),
        pages: vec![("/page".to_owned(), ask)],
        ..kept
    });
    measured.free = free;
    measured.slot_returns.push(SlotReturn { by: CloseBy::Rst, after: None, ends_between: 0, is_void: false });
    measured.other_cookie = Some(Tries { flowed: 3, of: 3 });
    measured.other_address = Some(OtherAddress::default());
    measured.uncached_pages = vec![UncachedPage { path: "/page".to_owned(), plain: true, uncached: false }];
    measured.shared_stream = Some(SharedStream::default());
    measured.late_events = Some(LateEvents::default());
    measured.compression = Some(Compression {
        accepted: "gzip".to_owned(),
        coding: None,
        first_event: None,
        within: Duration::from_secs(5),
        identity_flows: true,
        bytes: 10,
    });
    let outcomes = [
        TabOutcome::Late,
        TabOutcome::Waits,
        TabOutcome::NoEvent,
        TabOutcome::Status,
        TabOutcome::Closed,
        TabOutcome::Reset,
        TabOutcome::NotConnected,
        TabOutcome::Cut,
    ];
    measured.waiting = outcomes
        .into_iter()
        .zip(6..)
        .map(|(outcome, number)| ProbedTab {
            number,
            outcome,
            first_byte: Some(ms(2.0)),
            ..ProbedTab::default()
        })
        .collect();
    let empty = Sample {
        measured: Measured { stopped: Some(Stopped::Interrupted), ..Measured::default() },
        ..samples::unreachable()
    };
    // One run per kind of finding.
    let kinds = FindingKind::all().map(|kind| {
        let mut sample = samples::gunicorn();
        match kind {
            FindingKind::Limit(kind) => sample.findings.limit.as_mut().unwrap().kind = kind,
            FindingKind::Note(kind) => sample.findings.notes[0].kind = kind,
        }
        sample
    });
    [full, empty].into_iter().chain(kinds).collect()
}

#[test]
fn every_output_is_valid_under_the_schema() {
    let schema = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for sample in samples::all().into_iter().chain(unusual()) {
        for verdict in
            [ThresholdVerdict::Holds, ThresholdVerdict::NotMeasured(None), ThresholdVerdict::Interrupted]
        {
            let object = parsed(&sample, &verdict);
            let errors: Vec<String> =
                validator.iter_errors(&object).map(|it| format!("{it} at {}", it.instance_path())).collect();
            assert!(errors.is_empty(), "{errors:#?} in {object:#}");
        }
    }
}

#[test]
fn the_schema_rejects_unknown_values() {
    let schema = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let object = parsed(&samples::rails(), &ThresholdVerdict::Holds);
    for (pointer, wrong) in [
        ("", json!({})),
        ("/limit/kind", json!("worker")),
        ("/notes/0/kind", json!("workers")),
        ("/steps/0/outcome", json!("fine")),
        ("/steps/5/waits", json!("somewhere")),
        ("/free_s/page", json!("soon")),
        ("/requests", json!(null)),
    ] {
        let mut other = object.clone();
        *other.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&other), "{pointer}");
    }
}

#[test]
fn the_schema_lists_every_kind() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let names = |pointer: &str| {
        let names = schema.pointer(pointer).unwrap().as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let limit = "/properties/limit/anyOf/0/properties/kind/enum";
    let limit =
        if schema.pointer(limit).is_some() { limit } else { "/properties/limit/properties/kind/enum" };
    assert_eq!(names(limit), LimitKind::ALL.map(|kind| kind.name().to_owned()));
    let note = "/properties/notes/items/properties/kind/enum";
    assert_eq!(names(note), NoteKind::ALL.map(|kind| kind.name().to_owned()));
}

#[test]
fn the_object_has_the_figures_of_the_documentation() {
    let object = parsed(&samples::rails(), &ThresholdVerdict::Holds);
    assert_eq!(object["streams"], json!({"low": 5, "high": 5}));
    assert_eq!(object["pages_until"], json!({"low": 4, "high": 4}));
    assert_eq!(object["pages_stop_at"], json!({"/page": 5, "/up": null}));
    assert_eq!((&object["limit"]["kind"], &object["limit"]["act"]), (&json!("database-pool"), &json!(6)));
    assert_eq!(
        (&object["steps"][5]["outcome"], &object["steps"][5]["waits"]),
        (&json!("empty"), &json!("read"))
    );
    assert_eq!(object["steps"][4]["pages"][0]["ms"], json!([null, null, null]));
    assert_eq!(object["slot_return_s"], json!([5.4, 5.4, 5.4]));
    assert_eq!(object["free_s"], json!({"page": 5.3, "stream": 5.5}));
    assert_eq!((&object["idle"][1]["n"], &object["kept"]["answered"]), (&json!(10), &json!(true)));
    assert_eq!(object["held"], json!(true));
    let keys: Vec<&str> = ["version", "target", "baseline", "streams"].into();
    let text = super::json(&samples::rails().run(&ThresholdVerdict::Holds)).unwrap();
    let places: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn void_returns_and_pages_for_which_the_server_closed_connections_do_not_count() {
    let object = parsed(&samples::gunicorn(), &ThresholdVerdict::Holds);
    assert_eq!((&object["slot_return_s"], &object["kept"]["answered"]), (&Value::Null, &Value::Null));
    let mut sample = samples::rails();
    sample.measured.idle[1].open_after = 8;
    assert_eq!(parsed(&sample, &ThresholdVerdict::Holds)["idle"][1]["answered"], json!(false));
}

#[test]
fn the_figures_of_a_run_that_was_not_measured_are_null() {
    let object = parsed(&samples::unreachable(), &ThresholdVerdict::NotMeasured(None));
    for key in ["limit", "streams", "pages_until", "slot_return_s", "free_s", "kept", "watched_s"] {
        assert_eq!(object[key], Value::Null, "{key}");
    }
    assert_eq!((&object["held"], &object["idle"]), (&json!(false), &json!([])));
}

#[test]
fn control_characters_of_the_server_are_escaped() {
    let mut sample = samples::rails();
    sample.measured.target.server = Some("a\u{1b}[31m\u{9b}".to_owned());
    let text = super::json(&sample.run(&ThresholdVerdict::Holds)).unwrap();
    assert!(text.chars().all(|c| c == '\n' || ninetabs_server::escape::is_printable(c)), "{text:?}");
    assert_eq!(parsed(&sample, &ThresholdVerdict::Holds)["target"]["server"], "a\u{1b}[31m\u{9b}");
}
