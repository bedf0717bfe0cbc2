//! Act 5: the reaper. The same zombies with a maximum age; then more tabs than
//! threads, that take turns, and miss no model.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Played, Theatre, answered, count, zombies};
use crate::lab::claim::Claims;
use crate::lab::record::Record;
use crate::lab::stage::{ActError, JUDGED_AT, Plan, Stage, in_seconds, spoken};
use crate::lab::tab::{Happens, Settings, Tab};

/// How many turns each tab is to have.
const TURNS: u64 = 2;

pub(super) fn title(plan: &Plan) -> String {
    format!("The reaper: no stream older than {}", spoken(plan.pace.max_stream_age))
}

/// No stream is older than this, but for a scheduling delay.
fn bound(plan: &Plan) -> Duration {
    plan.pace.max_stream_age + plan.pace.reap_every
}

/// How long all tabs need for their turns, or so.
fn rounds(plan: &Plan) -> Duration {
    let turns = plan.tabs.div_ceil(plan.most_threads()) as u32;
    (bound(plan) + plan.pace.retry) * turns * TURNS as u32
}

/// Whether tabs wait for each other's threads.
fn is_shared(plan: &Plan) -> bool {
    plan.tabs > plan.most_threads()
}

pub(super) fn expects(plan: &Plan) -> String {
    let turns = if is_shared(plan) { "take turns" } else { "come back at once each time" };
    format!(
        "Zombies lose their threads within {}, though every write to them succeeds, and a page is answered. {} on {} {turns}: \
         each gets {TURNS} streams or more, and none misses a model or gets one twice.",
        spoken(bound(plan)),
        count(plan.tabs, "tab"),
        count(plan.most_threads(), "thread"),
    )
}

pub(super) fn play(theatre: &mut Theatre<'_>) -> Result<Played, ActError> {
    let plan = theatre.plan;
    let pace = plan.pace;
    let flags = [
        ("--max-stream-age", in_seconds(pace.max_stream_age)),
        ("--reap-every", in_seconds(pace.reap_every)),
    ];
    let mut claims = Claims::default();

    let age = spoken(pace.max_stream_age);
    let mut stage = theatre
        .serve(&format!("{} with a maximum age of {age}:", count(plan.most_threads(), "zombie")), &flags)?;
    let threads = plan.most_threads();
    let raised = zombies::raise(&mut stage, threads)?;
    let began = Instant::now();
    let capacity = stage.wait_for_stat("/pool_capacity", threads as u64, bound(plan) * JUDGED_AT)?;
    claims.push(
        format!("pool_capacity with {} still connected", count(threads, "zombie")),
        format!("{threads}, within {}", spoken(bound(plan))),
        format!("{capacity}, after {}", spoken(began.elapsed())),
        capacity == threads as u64,
    );
    let ends = |record: &Record| {
        let streams = || record.stories.values().filter(|story| story.is_stream);
        (
            streams().filter(|it| it.reaped_us.is_some()).count(),
            streams().filter(|it| it.gone.is_some()).count(),
        )
    };
    // The record is asked for in rounds, and may be one behind the stats.
    stage.wait_until(bound(plan) * JUDGED_AT, |stage| (stage.record(ends).0 >= threads).then_some(()))?;
    let (reaped, failed) = stage.record(ends);
    claims.push(
        "zombies that the reaper ended, and those that a failed write ended",
        format!("{threads} and 0"),
        format!("{reaped} and {failed}"),
        (reaped, failed) == (threads, 0),
    );
    let patience = stage.a_while() * JUDGED_AT;
    let page = stage.page("/up", patience)?;
    claims.push("GET /up", "200", answered(page), page.is_some_and(|(status, _)| status == 200));
    stage.settle_lanes();
    drop(raised);
    drop(stage);

    let mut stage =
        theatre.serve(&format!("{} with the same maximum age:", count(plan.tabs, "tab")), &flags)?;
    let seen = take_turns(&mut stage)?;
    stage.settle_lanes();
    let fewest = seen.tabs.iter().map(|tab| tab.turns).min().unwrap_or_default();
    let served = seen.tabs.iter().filter(|tab| tab.turns >= TURNS).count();
    claims.equal(format!("tabs that had {TURNS} turns or more"), plan.tabs, served);
    let sum = |of: fn(&Turns) -> usize| seen.tabs.iter().map(of).sum::<usize>();
    claims.equal("models missed by any tab", 0, sum(|tab| tab.missed));
    claims.equal("models that any tab got twice", 0, sum(|tab| tab.repeated));
    let received = sum(|tab| tab.received);
    claims.push("models received, by all tabs", "some", received.to_string(), received > 0);
    claims.push(
        "the oldest stream that was seen",
        format!("no older than {}", spoken(bound(plan))),
        spoken(seen.oldest),
        !seen.oldest.is_zero() && seen.oldest < bound(plan) * JUDGED_AT,
    );

    let reaped = format!(
        "The reaper does not ask whether a client reads: at {} it wakes the sleeping loop, which writes retry: and ends",
        spoken(pace.max_stream_age)
    );
    let turns = format!("{fewest} streams in {}", spoken(seen.watched));
    let why = if is_shared(plan) {
        format!(
            "{reaped}, so its thread takes the next of todo. Each tab comes back at the end of the queue with its \
             Last-Event-ID, which is why the one that waited longest ({turns}) still got every model."
        )
    } else {
        format!(
            "{reaped}. There is a thread for every tab, so each comes back after its retry: without waiting for another, and \
             its Last-Event-ID is why the one with the fewest streams ({turns}) still got every model."
        )
    };
    Ok(Played { claims, why, record: stage.recorded() })
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

/// Opens the tabs, all of which are to get what comes after the same model.
fn take_turns(stage: &mut Stage<'_>) -> Result<SeenTurns, ActError> {
    let plan = stage.plan;
    let began = Instant::now();
    let mut tabs = Vec::new();
    for number in 1..=plan.tabs {
        // From the beginning, so that every tab's sequence is known whole.
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
