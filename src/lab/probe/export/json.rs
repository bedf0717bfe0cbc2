//! A run as one JSON object, which `docs/probe.schema.json` describes.

use std::collections::BTreeMap;
use std::time::Duration;

use ninetabs_server::escape;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::findings::{Finding, pages_stop_at};
use super::super::measured::{
    Baseline, Climb, Free, HeldConnections, Http2, Http2Stop, Http10, Measured, PageAsks, PageOutcome,
    ProbedTab, TabOutcome, Unit, Zombies,
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
    notes: Vec<FindingJson<'a>>,
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
    #[serde(flatten)]
    finding: FindingJson<'a>,
    or: Vec<&'static str>,
    behind: bool,
}

/// What a limit and a note have in common.
#[derive(Debug, Serialize)]
struct FindingJson<'a> {
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
    /// Null for a request that was not answered.
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
    /// Null if the server closed the connections before a page could be requested.
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
    ended_s: Option<f64>,
    streams_after: Option<usize>,
}

#[derive(Debug, Serialize)]
struct AbandonedJson {
    pages: usize,
    streams: usize,
}

/// The run as one line that ends with a line break. Control characters from the server are escaped.
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
            finding: finding(limit.kind.name(), limit),
            or: findings.or.iter().map(|kind| kind.name()).collect(),
            behind: findings.behind,
        }),
        notes: findings.notes.iter().map(|note| finding(note.kind.name(), note)).collect(),
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
        http10: measured.http10.as_ref().map(http10),
        watched_s: (!measured.watched.is_zero()).then(|| seconds(measured.watched)),
        requests: measured.requests,
        abandoned: AbandonedJson { pages: measured.abandoned_pages, streams: measured.abandoned_streams },
        held: *run.verdict == ThresholdVerdict::Holds,
    }
}

/// The tabs of the first climb, and the tabs beyond the last one that streamed.
pub fn steps(measured: &Measured) -> impl Iterator<Item = &ProbedTab> + Clone {
    let climbed = measured.climbs.first().map_or(&[][..], |climb| &climb.tabs);
    let is_new = |tab: &&ProbedTab| climbed.iter().all(|it| it.number != tab.number);
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

/// `name` is the name of the finding's kind.
fn finding<'a, K>(name: &'static str, found: &'a Finding<K>) -> FindingJson<'a> {
    let Finding { kind: _, text, evidence, remedy, fix, act, see: _ } = found;
    FindingJson { kind: name, text, evidence, remedy, fix: *fix, act: *act }
}

fn step(tab: &ProbedTab) -> StepJson<'_> {
    StepJson {
        tab: tab.number,
        outcome: tab.outcome.name(),
        status: tab.status,
        first_event_ms: tab.first_event.map(milliseconds),
        ended_s: tab.ended.or(tab.first_byte.filter(|_| tab.outcome == TabOutcome::Status)).map(seconds),
        waits: tab.place.map(|place| place.name()),
        pages: tab.pages.iter().map(asked).collect(),
    }
}

fn asked(page: &PageAsks) -> AsksJson<'_> {
    let ms =
        page.asks.iter().map(|ask| (ask.outcome == PageOutcome::Answered).then(|| milliseconds(ask.time)));
    AsksJson { path: &page.path, answered: page.answered(), of: page.asks.len(), ms: ms.collect() }
}

/// A slot that was lost is null in the list. Void measurements are left out.
fn slot_returns(measured: &Measured) -> Option<Vec<Option<f64>>> {
    let valid = measured.slot_returns.iter().filter(|it| !it.is_void);
    let times: Vec<_> = valid.map(|it| it.after.map(seconds)).collect();
    (!times.is_empty()).then_some(times)
}

fn free(free: &Free) -> FreeJson {
    FreeJson { page: free.page.map(seconds), stream: free.stream.map(seconds) }
}

/// A page that was answered only because the server closed some of the held connections counts as unanswered.
fn held(held: &HeldConnections) -> HeldJson<'_> {
    let is_measured = !held.is_untestable() && !held.pages.is_empty();
    let all = held.leave_pages_answered();
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

fn http10(found: &Http10) -> Http10Json {
    Http10Json { flowed: found.flowed, ended_s: found.ended.map(seconds), streams_after: found.streams_after }
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

/// Milliseconds, rounded to a tenth.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Seconds, rounded to a hundredth.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests;
