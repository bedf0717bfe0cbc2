//! A run as one JSON object, which `docs/probe.schema.json` describes.

use std::collections::BTreeMap;
use std::time::Duration;

use ninetabs_server::escape;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::findings::{Finding, pages_stop_at};
use super::super::measured::{
    Baseline, Climb, Free, HeldConnections, Http2, Http2Stop, Measured, Outcome, PageAsks, PageOutcome, Tab,
    Unit, Zombies,
};
use super::super::thresholds::ThresholdVerdict;
use super::ProbedRun;

/// The version of the format. It changes when a field is renamed or removed.
const VERSION: u32 = 1;

/// The whole object. A figure that was not measured is null.
#[derive(Debug, Serialize)]
struct ProbeJson<'a> {
    version: u32,
    target: TargetJson<'a>,
    baseline: Vec<BaselineJson<'a>>,
    streams: Option<ExtentJson>,
    pages_until: Option<ExtentJson>,
    /// The stream at which each path stops, or null if it never does.
    pages_stop_at: BTreeMap<&'a str, Option<usize>>,
    limit: Option<LimitJson<'a>>,
    notes: Vec<NoteJson<'a>>,
    advice: &'a [String],
    verdict: &'a str,
    steps: Vec<StepJson<'a>>,
    slot_return_s: Option<Vec<Option<f64>>>,
    free_s: Option<FreeJson>,
    idle: Vec<HeldJson<'a>>,
    kept: Option<HeldJson<'a>>,
    climbs: Vec<ClimbJson>,
    zombies: Option<ZombiesJson>,
    http2: Option<Http2Json<'a>>,
    http10: Option<Http10Json>,
    watched_s: Option<f64>,
    requests: usize,
    abandoned: AbandonedJson,
    held: bool,
}

#[derive(Debug, Serialize)]
struct TargetJson<'a> {
    url: &'a str,
    method: &'a str,
    http: Option<&'a str>,
    event: Option<&'static str>,
    server: Option<&'a str>,
    address: Option<String>,
    tabs: usize,
}

#[derive(Debug, Serialize)]
struct BaselineJson<'a> {
    path: &'a str,
    status: u16,
    ms: f64,
}

#[derive(Debug, Serialize)]
struct ExtentJson {
    low: usize,
    high: usize,
}

#[derive(Debug, Serialize)]
struct LimitJson<'a> {
    kind: &'static str,
    or: Vec<&'static str>,
    behind: bool,
    text: &'a str,
    evidence: &'a Map<String, Value>,
    remedy: &'a str,
    fix: Option<&'static str>,
    act: Option<u8>,
}

#[derive(Debug, Serialize)]
struct NoteJson<'a> {
    kind: &'static str,
    text: &'a str,
    evidence: &'a Map<String, Value>,
    remedy: &'a str,
    fix: Option<&'static str>,
    act: Option<u8>,
}

#[derive(Debug, Serialize)]
struct StepJson<'a> {
    tab: usize,
    outcome: &'static str,
    status: Option<u16>,
    first_event_ms: Option<f64>,
    ended_s: Option<f64>,
    waits: Option<&'static str>,
    pages: Vec<AsksJson<'a>>,
}

#[derive(Debug, Serialize)]
struct AsksJson<'a> {
    path: &'a str,
    answered: usize,
    of: usize,
    /// Null for an ask that was not answered.
    ms: Vec<Option<f64>>,
}

#[derive(Debug, Serialize)]
struct FreeJson {
    page: Option<f64>,
    stream: Option<f64>,
}

#[derive(Debug, Serialize)]
struct HeldJson<'a> {
    n: usize,
    open_before: usize,
    open_after: usize,
    /// Null if the server closed them before a page could be asked.
    answered: Option<bool>,
    ms: Option<f64>,
    waits: Option<&'static str>,
    pages: BTreeMap<&'a str, bool>,
}

#[derive(Debug, Serialize)]
struct ClimbJson {
    streams: usize,
    pages_until: usize,
}

#[derive(Debug, Serialize)]
struct ZombiesJson {
    n: usize,
    watched_s: f64,
    tab_s: Option<f64>,
    page_s: Option<f64>,
    unsent: Option<u64>,
    free_s: Option<FreeJson>,
}

#[derive(Debug, Serialize)]
struct Http2Json<'a> {
    error: Option<&'a str>,
    announced: Option<u32>,
    reached: usize,
    stopped_by: Option<&'static str>,
    page: Option<bool>,
    second_connection: Option<bool>,
    after_cancel: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Http10Json {
    flowed: bool,
    streams_after: Option<usize>,
}

#[derive(Debug, Serialize)]
struct AbandonedJson {
    pages: usize,
    streams: usize,
}

/// The run as one line, with a line break at its end. Control characters of the server are escaped.
pub fn json(run: &ProbedRun<'_>) -> Result<String, serde_json::Error> {
    Ok(format!("{}\n", escape::json(&serde_json::to_string(&object(run))?)))
}

fn object<'a>(run: &ProbedRun<'a>) -> ProbeJson<'a> {
    let ProbedRun { measured, findings, sentence, .. } = *run;
    let target = &measured.target;
    let extent = |count: fn(&Climb) -> usize| {
        let counts = || measured.climbs.iter().map(count);
        Some(ExtentJson { low: counts().min()?, high: counts().max()? })
    };
    let stops = |page: &'a Baseline| (page.path.as_str(), pages_stop_at(measured, &page.path));
    ProbeJson {
        version: VERSION,
        target: TargetJson {
            url: &target.url,
            method: &target.method,
            http: (!target.http.is_empty()).then_some(&target.http),
            event: target.unit.map(unit),
            server: target.server.as_deref(),
            address: target.address.map(|address| address.to_string()),
            tabs: target.tabs,
        },
        baseline: measured.baseline.iter().map(page).collect(),
        streams: extent(|climb| climb.streams),
        pages_until: extent(|climb| climb.pages_until),
        pages_stop_at: measured.baseline.iter().map(stops).collect(),
        limit: findings.limit.as_ref().map(|limit| LimitJson {
            kind: limit.kind.name(),
            or: findings.or.iter().map(|kind| kind.name()).collect(),
            behind: findings.behind,
            text: &limit.text,
            evidence: &limit.evidence,
            remedy: &limit.remedy,
            fix: limit.fix,
            act: limit.act,
        }),
        notes: findings.notes.iter().map(note).collect(),
        advice: &findings.advice,
        verdict: sentence,
        steps: steps(measured).map(step).collect(),
        slot_return_s: slot_returns(measured),
        free_s: measured.free.as_ref().map(free),
        idle: measured.idle.iter().map(held).collect(),
        kept: measured.kept.as_ref().map(held),
        climbs: measured.climbs.iter().map(counted).collect(),
        zombies: measured.zombies.as_ref().map(zombies),
        http2: measured.http2.as_ref().map(http2),
        http10: measured
            .http10
            .as_ref()
            .map(|found| Http10Json { flowed: found.flowed, streams_after: found.streams_after }),
        watched_s: (!measured.watched.is_zero()).then(|| seconds(measured.watched)),
        requests: measured.requests,
        abandoned: AbandonedJson { pages: measured.abandoned_pages, streams: measured.abandoned_streams },
        held: *run.verdict == ThresholdVerdict::Holds,
    }
}

/// The tabs of the first climb, and those beyond the last that flowed.
pub fn steps(measured: &Measured) -> impl Iterator<Item = &Tab> + Clone {
    let climbed = measured.climbs.first().map_or(&[][..], |climb| &climb.tabs);
    let is_new = |tab: &&Tab| climbed.iter().all(|it| it.number != tab.number);
    climbed.iter().chain(measured.waiting.iter().filter(is_new))
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Sse => "sse",
        Unit::SignOfLife => "sign-of-life",
        Unit::Line => "line",
        Unit::Chunk => "chunk",
    }
}

fn page(page: &Baseline) -> BaselineJson<'_> {
    BaselineJson { path: &page.path, status: page.status, ms: milliseconds(page.time) }
}

fn note(note: &Finding<super::super::findings::NoteKind>) -> NoteJson<'_> {
    let Finding { kind, text, evidence, remedy, fix, act, see: _ } = note;
    NoteJson { kind: kind.name(), text, evidence, remedy, fix: *fix, act: *act }
}

fn step(tab: &Tab) -> StepJson<'_> {
    StepJson {
        tab: tab.number,
        outcome: tab.outcome.name(),
        status: tab.status,
        first_event_ms: tab.first_event.map(milliseconds),
        ended_s: tab.ended.or(tab.first_byte.filter(|_| tab.outcome == Outcome::Status)).map(seconds),
        waits: tab.place.map(|place| place.name()),
        pages: tab.pages.iter().map(asked).collect(),
    }
}

fn asked(page: &PageAsks) -> AsksJson<'_> {
    let ms =
        page.asks.iter().map(|ask| (ask.outcome == PageOutcome::Answered).then(|| milliseconds(ask.time)));
    AsksJson { path: &page.path, answered: page.answered(), of: page.asks.len(), ms: ms.collect() }
}

/// Null in the list for a slot that was lost. Those that say nothing are left out.
fn slot_returns(measured: &Measured) -> Option<Vec<Option<f64>>> {
    let valid = measured.slot_returns.iter().filter(|it| !it.is_void);
    let times: Vec<_> = valid.map(|it| it.after.map(seconds)).collect();
    (!times.is_empty()).then_some(times)
}

fn free(free: &Free) -> FreeJson {
    FreeJson { page: free.page.map(seconds), stream: free.stream.map(seconds) }
}

/// A page that was answered only because the server closed some of them counts as unanswered.
fn held(held: &HeldConnections) -> HeldJson<'_> {
    let is_measured = !held.is_untestable() && !held.pages.is_empty();
    let all = held.pages.iter().all(|(_, ask)| ask.outcome == PageOutcome::Answered);
    let slowest = held.pages.iter().map(|(_, ask)| ask.time).max();
    HeldJson {
        n: held.n,
        open_before: held.open_before,
        open_after: held.open_after,
        answered: is_measured.then_some(all && !held.were_closed_for_the_page()),
        ms: slowest.filter(|_| is_measured && all).map(milliseconds),
        waits: held.place.map(|place| place.name()),
        pages: held
            .pages
            .iter()
            .map(|(path, ask)| (path.as_str(), ask.outcome == PageOutcome::Answered))
            .collect(),
    }
}

fn counted(climb: &Climb) -> ClimbJson {
    ClimbJson { streams: climb.streams, pages_until: climb.pages_until }
}

fn zombies(found: &Zombies) -> ZombiesJson {
    ZombiesJson {
        n: found.n,
        watched_s: seconds(found.watched),
        tab_s: found.tab.map(seconds),
        page_s: found.page.map(seconds),
        unsent: found.unsent,
        free_s: found.free.as_ref().map(free),
    }
}

fn http2(found: &Http2) -> Http2Json<'_> {
    let stopped_by = found.stopped_by.map(|stop| match stop {
        Http2Stop::Settings => "settings",
        Http2Stop::RefusedStream => "refused-stream",
        Http2Stop::Waits => "waits",
        Http2Stop::Reset => "reset",
    });
    Http2Json {
        error: found.error.as_deref(),
        announced: found.announced,
        reached: found.reached,
        stopped_by,
        page: found.page,
        second_connection: found.second_connection,
        after_cancel: found.after_cancel,
    }
}

/// To a tenth.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// To a hundredth.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::findings::{FindingKind, LimitKind, NoteKind};
    use super::super::super::measured::{CloseBy, LateEvents};
    use super::super::super::measured::{
        Compression, Http10, OtherAddress, PageAsk, Place, SharedStream, SlotReturn, Stopped, Tries,
        UncachedPage,
    };
    use super::super::samples::{self, Sample, ms, s};
    use super::*;

    const SCHEMA: &str = include_str!("../../../../docs/probe.schema.json");

    fn parsed(sample: &Sample, verdict: &ThresholdVerdict) -> Value {
        serde_json::from_str(&super::json(&sample.run(verdict)).unwrap()).unwrap()
    }

    /// Measurements in which everything is there that others lack, and in which everything is missing.
    fn unusual() -> Vec<Sample> {
        let mut full = samples::rails();
        let ask = PageAsk { outcome: PageOutcome::Reset, time: ms(3.0), place: Some(Place::AcceptQueueFull) };
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
        measured.http10 = Some(Http10 { flowed: true, streams_after: Some(4) });
        measured.kept = measured.kept.take().map(|kept| HeldConnections {
            open_after: 2,
            place: Some(Place::Kernel),
            pages: vec![("/page".to_owned(), ask)],
            ..kept
        });
        measured.free = free;
        measured.slot_returns.push(SlotReturn {
            by: CloseBy::Rst,
            after: None,
            ends_between: 0,
            is_void: false,
        });
        measured.other_cookie = Some(Tries { flowed: 3, of: 3 });
        measured.other_address = Some(OtherAddress::default());
        measured.uncached_pages =
            vec![UncachedPage { path: "/page".to_owned(), plain: true, uncached: false }];
        measured.shared_stream = Some(SharedStream::default());
        measured.late_events = Some(LateEvents::default());
        measured.compression = Some(Compression {
            accepted: "gzip".to_owned(),
            coding: None,
            first_event: None,
            identity_flows: true,
            bytes: 10,
        });
        let outcomes = [
            Outcome::Late,
            Outcome::Waits,
            Outcome::NoEvent,
            Outcome::Status,
            Outcome::Closed,
            Outcome::Reset,
            Outcome::NotConnected,
            Outcome::Cut,
        ];
        measured.waiting = outcomes
            .into_iter()
            .zip(6..)
            .map(|(outcome, number)| Tab { number, outcome, first_byte: Some(ms(2.0)), ..Tab::default() })
            .collect();
        let empty = Sample {
            measured: Measured { stopped: Some(Stopped::Interrupted), ..Measured::default() },
            ..samples::unreachable()
        };
        // Every kind.
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
    fn every_output_is_valid_by_the_schema() {
        let schema = serde_json::from_str(SCHEMA).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        for sample in samples::all().into_iter().chain(unusual()) {
            for verdict in
                [ThresholdVerdict::Holds, ThresholdVerdict::NotMeasured(None), ThresholdVerdict::Interrupted]
            {
                let object = parsed(&sample, &verdict);
                let errors: Vec<String> = validator
                    .iter_errors(&object)
                    .map(|it| format!("{it} at {}", it.instance_path()))
                    .collect();
                assert!(errors.is_empty(), "{errors:#?} in {object:#}");
            }
        }
    }

    #[test]
    fn the_schema_refuses_what_it_does_not_know() {
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
}
