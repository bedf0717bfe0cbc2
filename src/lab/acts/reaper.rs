//! Act 5: the reaper. First, the zombies of act 4 with a maximum stream age. Then more tabs than threads, which take
//! turns without losing a row.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Played, answered, count, spelled, zombies};
use crate::lab::claim::Claims;
use crate::lab::record::Record;
use crate::lab::stage::{ActError, JUDGED_AT, Plan, Stage, Theater, in_seconds, spoken};
use crate::lab::tab::{Happens, Settings, Tab};

/// How many streams each tab has to open.
const TURNS: u64 = 2;

pub(super) fn title(plan: &Plan) -> String {
    format!("The reaper: no stream older than {}", spoken(plan.pace.max_stream_age))
}

/// The maximum age that a stream can reach, apart from scheduling delays.
fn bound(plan: &Plan) -> Duration {
    plan.pace.max_stream_age + plan.pace.reap_every
}

/// Roughly how long it takes until every tab has had its turns.
fn rounds(plan: &Plan) -> Duration {
    let turns = plan.tabs.div_ceil(plan.most_threads()) as u32;
    (bound(plan) + plan.pace.retry) * turns * TURNS as u32
}

/// Whether there are fewer threads than tabs, so that tabs take turns.
fn is_shared(plan: &Plan) -> bool {
    plan.tabs > plan.most_threads()
}

pub(super) fn heading(plan: &Plan) -> String {
    format!("the reaper, with a maximum age of {}", spoken(plan.pace.max_stream_age))
}

pub(super) fn expects(plan: &Plan) -> String {
    let tabs = count(plan.tabs, "tab");
    let turns = if is_shared(plan) {
        format!("{tabs} on {} take turns: each streams", count(plan.most_threads(), "thread"))
    } else {
        format!("{tabs} reconnect without waiting: each streams")
    };
    format!(
        "Zombies lose their threads within {}. {turns} {}, and none misses or repeats a row.",
        spoken(bound(plan)),
        at_least_turns(),
    )
}

fn at_least_turns() -> String {
    if TURNS == 2 { "at least twice".to_owned() } else { format!("at least {TURNS} times") }
}

pub(super) fn play(theater: &mut Theater<'_>) -> Result<Played, ActError> {
    let plan = theater.plan;
    let pace = plan.pace;
    let flags = [
        ("--max-stream-age", in_seconds(pace.max_stream_age)),
        ("--reap-every", in_seconds(pace.reap_every)),
    ];
    let mut claims = Claims::default();

    let age = spoken(pace.max_stream_age);
    let threads = plan.most_threads();
    let caption = format!("{}, maximum age {age}", count(threads, "zombie"));
    let mut stage = Stage::serve(theater, &caption, &flags)?;
    let raised = zombies::raise(&mut stage, threads)?;
    let began = Instant::now();
    let capacity = stage.wait_for_stat("/pool_capacity", threads as u64, bound(plan) * JUDGED_AT)?;
    let freed_after = spoken(began.elapsed());
    claims
        .push(
            format!("pool_capacity with {} still connected", count(threads, "zombie")),
            format!("{threads}, within {}", spoken(bound(plan))),
            format!("{capacity}, after {freed_after}"),
            capacity == threads as u64,
        )
        .says(format!(
            "pool_capacity {capacity} after {freed_after}, {} still connected",
            count(threads, "zombie")
        ));
    let ends = |record: &Record| {
        let streams = || record.stories.values().filter(|story| story.is_stream);
        (
            streams().filter(|it| it.reaped_us.is_some()).count(),
            streams().filter(|it| it.gone.is_some()).count(),
        )
    };
    // The record is fetched periodically, so it may lag behind the stats.
    stage.wait_until(bound(plan) * JUDGED_AT, |stage| (stage.record(ends).0 >= threads).then_some(()))?;
    let (reaped, failed) = stage.record(ends);
    claims
        .push(
            "zombies ended by the reaper, and by a failed write",
            format!("{threads} and 0"),
            format!("{reaped} and {failed}"),
            (reaped, failed) == (threads, 0),
        )
        .says(format!("{} reaped, {failed} ended by a failed write", count(reaped, "zombie")));
    let patience = stage.a_while() * JUDGED_AT;
    let page = stage.page("/up", patience)?;
    claims
        .push("GET /up", "200", answered(page), page.is_some_and(|(status, _)| status == 200))
        .says(format!("GET /up: {}", answered(page)));
    stage.finish_picture(2);
    drop(raised);
    drop(stage);

    let caption = format!("{}, maximum age {age}", count(plan.tabs, "tab"));
    let mut stage = Stage::serve(theater, &caption, &flags)?;
    let seen = take_turns(&mut stage)?;
    stage.finish_picture(5);
    let fewest = seen.tabs.iter().map(|tab| tab.turns).min().unwrap_or_default();
    let served = seen.tabs.iter().filter(|tab| tab.turns >= TURNS).count();
    claims.equal(format!("tabs that had {TURNS} turns or more"), plan.tabs, served).says(format!(
        "{served} of {} streamed {}",
        count(plan.tabs, "tab"),
        at_least_turns()
    ));
    let sum = |of: fn(&Turns) -> usize| seen.tabs.iter().map(of).sum::<usize>();
    let (missed, repeated) = (sum(|tab| tab.missed), sum(|tab| tab.repeated));
    claims.equal("rows missed by any tab", 0, missed).says(format!("{} missed", count(missed, "row")));
    claims
        .equal("rows that any tab received twice", 0, repeated)
        .says(format!("{} received twice", count(repeated, "row")));
    let received = sum(|tab| tab.received);
    claims
        .push("rows received by all tabs together", "some", received.to_string(), received > 0)
        .says(format!("{} received by all tabs together", count(received, "row")));
    claims
        .push(
            "age of the oldest stream",
            format!("about {} at most", spoken(bound(plan))),
            spoken(seen.oldest),
            !seen.oldest.is_zero() && seen.oldest < bound(plan) * JUDGED_AT,
        )
        .says(format!("oldest stream: {}", spoken(seen.oldest)));

    let reaped = format!("At {age} the reaper wakes the sleeping loop, which writes retry: and ends");
    let turns = format!("{fewest} streams in {}", spoken(seen.watched));
    let why = if is_shared(plan) {
        format!(
            "{reaped}. The thread takes the next request; the tab reconnects at the end of the queue with its \
             Last-Event-ID. Even the tab with the fewest turns ({turns}) received every row."
        )
    } else {
        format!(
            "{reaped}. There is a thread for every tab, so each tab reconnects after its retry time with its \
             Last-Event-ID. Even the tab with the fewest streams ({turns}) received every row."
        )
    };
    let conclusion = format!(
        "{} lost their threads within {freed_after}; {} of {} streamed {}, and {} missed",
        spelled(threads, "zombie"),
        served,
        count(plan.tabs, "tab"),
        at_least_turns(),
        count(missed, "row"),
    );
    Ok(Played { claims, why, conclusion, main: 1 })
}

struct SeenTurns {
    tabs: Vec<Turns>,
    oldest: Duration,
    watched: Duration,
}

#[derive(Default)]
struct Turns {
    turns: u64,
    received: usize,
    missed: usize,
    repeated: usize,
}

/// Opens the tabs, which all begin after the same row, and waits until each has had its turns.
fn take_turns(stage: &mut Stage<'_>) -> Result<SeenTurns, ActError> {
    let plan = stage.plan;
    let began = Instant::now();
    let mut tabs = Vec::new();
    for number in 1..=plan.tabs {
        // Every tab begins with the first row, so the rows that it must receive are known.
        let url = stage.url(&format!("/models/live_stream?tab={number}&last_event_id=0"));
        tabs.push(Tab::open(&url, Settings { name: format!("tab {number}"), ..Settings::default() })?);
        stage.watch(Duration::from_millis(20))?;
    }
    let mut oldest = Duration::ZERO;
    let had_turns = |tab: &Tab| tab.progress().opened >= TURNS && tab.progress().events > 0;
    stage.wait_until(rounds(plan) * JUDGED_AT, |stage| {
        let age = stage
            .stats()
            .ok()
            .and_then(|stats| stats["streams"]["oldest_age_s"].as_f64())
            .unwrap_or_default();
        oldest = oldest.max(Duration::from_secs_f64(age));
        tabs.iter().all(had_turns).then_some(())
    })?;
    let tabs = tabs.iter().map(turns).collect();
    Ok(SeenTurns { tabs, oldest, watched: began.elapsed() })
}

fn turns(tab: &Tab) -> Turns {
    tab.close();
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for happening in tab.happenings().try_iter() {
        let Happens::Event(event) = happening.what else { continue };
        let models: Vec<Value> = serde_json::from_str(&event.data).unwrap_or_default();
        for id in models.iter().filter_map(|model| model["id"].as_u64()) {
            *times.entry(id).or_default() += 1;
        }
    }
    let last = times.last_key_value().map_or(0, |(id, _)| *id);
    Turns {
        turns: tab.progress().opened,
        received: times.len(),
        missed: (1..=last).filter(|id| !times.contains_key(id)).count(),
        repeated: times.values().filter(|times| **times > 1).count(),
    }
}
