//! Act 7: `ab`, as in the article. ab speaks HTTP/1.0. In Rails, an action of ActionController::Live runs on its own
//! thread, which is not notified when an HTTP/1.0 client has received its answer and left. The action continues
//! without a client, and none of Puma's numbers show it.

use std::time::Duration;

use super::{Played, answered, count};
use crate::lab::claim::Claims;
use crate::lab::program::find;
use crate::lab::stage::{ActError, JUDGED_AT, Pace, Plan, Stage, Theater, in_seconds, spoken};
use crate::lab::visitors::{self, Benchmark, VisitError};

/// The article's test: `ab -n 100 -c 4`.
const REQUESTS: usize = 100;
const CONCURRENCY: usize = 4;
/// The default pool size of ActiveRecord.
const CONNECTIONS: usize = 5;

pub(super) fn title(_: &Plan) -> String {
    format!("ab, as in the article: {REQUESTS} requests over HTTP/1.0")
}

pub(super) fn heading(_: &Plan) -> String {
    "ab, as in the article".to_owned()
}

pub(super) fn expects(plan: &Plan) -> String {
    format!(
        "With a thread per action, as on Rails, ab -n {REQUESTS} -c {CONCURRENCY} completes and leaves {REQUESTS} \
         actions without a client, and {}. Five such actions can hold all {CONNECTIONS} database connections. A maximum \
         age ends them.",
        count(plan.most_threads(), "idle thread"),
    )
}

/// The checkout timeout of this act. All requests except the first few wait for it, [`CONCURRENCY`] at a time.
fn checkout_timeout(pace: &Pace) -> Duration {
    pace.checkout_timeout / 20
}

pub(super) fn play(theater: &mut Theater<'_>) -> Result<Played, ActError> {
    let mut claims = Claims::default();
    if find("ab").is_none() {
        theater.narrator.say(
            "(ab is not installed: it is in the package apache2-utils. Built-in clients send the same requests.)",
        );
    }
    let rate = endless_loops(theater, &mut claims)?;
    exhausted_database_pool(theater, &mut claims)?;
    maximum_age(theater, &mut claims)?;
    let why = format!(
        "An HTTP/1.0 client gets the first write and a clean end, but the actions do not notice. Their later writes \
         succeed and go nowhere, with {rate} queries per second, until a maximum age interrupts them.",
    );
    let conclusion =
        format!("ab finished, the pool was idle, and {REQUESTS} actions queried {rate} times per second");
    Ok(Played { claims, why, conclusion, main: 0 })
}

/// Rails 7.2 and later: an action has a database connection only while it queries. Returns the queries per second.
fn endless_loops(theater: &mut Theater<'_>, claims: &mut Claims) -> Result<u64, ActError> {
    let mut stage = serve(theater, "ab, a connection per query", &[("--db-lease", "query".to_owned())])?;
    complete(&mut stage, claims, ["ab", "ab"], |_| Duration::ZERO)?;
    let limit = stage.a_while() * JUDGED_AT;
    stage.wait_for_stat("/live_threads/orphaned", REQUESTS as u64, limit)?;
    idle_pool(&mut stage, claims, "")?;
    let page = stage.page("/", limit)?;
    is_status(claims, "GET /", 200, page);

    let (before, began_us) = (stage.stat("/queries")?, stage.clock_us());
    // Each action queries twice within two and a half updates.
    let least = 2 * REQUESTS as u64;
    let made = stage.wait_until(limit, |stage| {
        let made = stage.stat("/queries").ok()?.saturating_sub(before);
        (made >= least).then_some(made)
    })?;
    let took_us = stage.clock_us().saturating_sub(began_us).max(1);
    let made = made.unwrap_or_default();
    let rate = made.saturating_mul(1_000_000) / took_us;
    claims
        .push("queries without a client", format!("{least} or more"), made.to_string(), made >= least)
        .says(format!("{made} queries, {rate} per second"));
    let orphaned = stage.stat("/live_threads/orphaned")?;
    claims
        .equal("orphaned actions after these queries", REQUESTS as u64, orphaned)
        .says(format!("{} orphaned", count(orphaned as usize, "action")));
    stage.finish_picture(1);
    Ok(rate)
}

/// Rails up to 7.1: an action keeps the connection of its first query until it ends.
fn exhausted_database_pool(theater: &mut Theater<'_>, claims: &mut Claims) -> Result<(), ActError> {
    let mut stage = serve(theater, "ab, a connection per action", &kept_connections(theater.plan))?;
    complete(&mut stage, claims, ["ab on 5 database connections", "5 connections"], rounds)?;
    let limit = stage.a_while() * JUDGED_AT;
    let orphaned = stage.wait_for_stat("/live_threads/running", CONNECTIONS as u64, limit)?;
    claims
        .equal("orphaned actions that keep a connection", CONNECTIONS as u64, orphaned)
        .says(format!("{} orphaned", count(orphaned as usize, "action")));
    let stats = stage.stats()?;
    let stat = |pointer: &str| stats.pointer(pointer).and_then(|value| value.as_u64()).unwrap_or_default();
    let (busy, timeouts) = (stat("/database/busy"), stat("/database/checkout_timeouts"));
    claims
        .equal("database connections busy", CONNECTIONS as u64, busy)
        .says(format!("{busy} of {CONNECTIONS} connections are held"));
    let others = (REQUESTS - CONNECTIONS) as u64;
    claims
        .equal("checkouts that timed out", others, timeouts)
        .says(format!("{} timed out", count(timeouts as usize, "checkout")));
    idle_pool(&mut stage, claims, " while these actions run")?;
    let page = stage.page("/", limit)?;
    is_status(claims, "GET /, which needs a query", 500, page);
    let page = stage.page("/up", limit)?;
    is_status(claims, "GET /up", 200, page);
    stage.finish_picture(1);
    Ok(())
}

fn maximum_age(theater: &mut Theater<'_>, claims: &mut Claims) -> Result<(), ActError> {
    let plan = theater.plan;
    let age = plan.pace.max_stream_age;
    let mut flags = kept_connections(plan);
    flags.push(("--max-stream-age", in_seconds(age)));
    flags.push(("--reap-every", in_seconds(plan.pace.reap_every)));
    let mut stage = serve(theater, &format!("the same, maximum age {}", spoken(age)), &flags)?;
    complete(&mut stage, claims, ["ab with a maximum age", "maximum age"], rounds)?;
    let limit = (age + plan.pace.reap_every) * JUDGED_AT;
    let left = stage.wait_for_stat("/live_threads/running", 0, limit)?;
    claims
        .equal(format!("actions, {} later", spoken(age)), 0, left)
        .says(format!("{} left", count(left as usize, "action")));
    let reaped = stage.stat("/streams/reaped")?;
    claims
        .push(
            "orphaned actions that were interrupted",
            format!("{CONNECTIONS} or more"),
            reaped.to_string(),
            reaped >= CONNECTIONS as u64,
        )
        .says(format!("{reaped} interrupted"));
    let page = stage.page("/", limit)?;
    is_status(claims, "GET / after that", 200, page);
    stage.finish_picture(1);
    Ok(())
}

/// Starts a server with an action thread per stream and the article's own loop, whose first event is always the same.
fn serve<'a>(
    theater: &'a mut Theater<'_>,
    caption: &str,
    flags: &[(&str, String)],
) -> Result<Stage<'a>, ActError> {
    let ours = [("--live", "rails".to_owned()), ("--loop", "faithful".to_owned())];
    Stage::serve(theater, caption, &[&ours, flags].concat())
}

fn kept_connections(plan: &Plan) -> Vec<(&'static str, String)> {
    vec![
        ("--db-lease", "action".to_owned()),
        ("--db-pool", CONNECTIONS.to_string()),
        ("--db-checkout-timeout", in_seconds(checkout_timeout(&plan.pace))),
    ]
}

/// How long the requests that get no database connection take in total.
fn rounds(pace: &Pace) -> Duration {
    checkout_timeout(pace) * (REQUESTS / CONCURRENCY) as u32
}

/// Runs ab, or built-in clients if ab is not installed, and claims that all requests completed. `claim` is the name
/// of the claim, and `label` its label on screen. `takes` is how long the run takes in addition to the requests
/// themselves.
fn complete(
    stage: &mut Stage<'_>,
    claims: &mut Claims,
    [claim, label]: [&str; 2],
    takes: impl Fn(&Pace) -> Duration,
) -> Result<(), ActError> {
    let url = stage.url("/models/live_stream?tab=ab");
    let limit = (stage.a_while() + takes(&stage.plan.pace)) * JUDGED_AT;
    let benchmark = Benchmark { requests: REQUESTS, concurrency: CONCURRENCY, limit };
    let completed = match visitors::ab(&url, REQUESTS, CONCURRENCY, limit) {
        Ok(mut visitor) => {
            stage.wait_until(limit, |_| (!visitor.is_there()).then_some(()))?;
            visitor.wait().ok().and_then(|visit| Benchmark::completed(&visit.stdout))
        }
        Err(error) => {
            // If ab is not installed, this was printed at the start of the act.
            if let VisitError::NotRun { .. } = error {
                stage.say(&format!("({error}. Built-in clients send the same requests.)"));
            }
            let running = benchmark.start_own_clients(&url)?;
            stage.wait_until(limit, |_| running.try_recv().ok())?
        }
    };
    let measured = completed.map_or_else(
        || "not completed".to_owned(),
        |it| format!("{} complete, {} failed", it.complete, it.failed),
    );
    let expected = format!("{REQUESTS} complete, 0 failed");
    let took = completed.map_or_else(String::new, |it| format!(", in {}", spoken(it.took)));
    let is_held = measured == expected;
    claims.push(claim, expected, &measured, is_held).begin_scene().says(format!("{label}: {measured}{took}"));
    Ok(())
}

/// Claims that the pool looks idle in Puma's own numbers.
fn idle_pool(stage: &mut Stage<'_>, claims: &mut Claims, when: &str) -> Result<(), ActError> {
    let threads = stage.plan.most_threads();
    let limit = stage.a_while() * JUDGED_AT;
    // A pool thread is freed a moment after its client has seen the end of the answer.
    stage.wait_for_stat("/busy_threads", 0, limit)?;
    let stats = stage.stats()?;
    let stat = |key: &str| stats[key].as_u64().unwrap_or_default();
    let show = |busy: u64, backlog: u64, capacity: u64| {
        format!("busy_threads {busy}, backlog {backlog}, pool_capacity {capacity}")
    };
    let measured = show(stat("busy_threads"), stat("backlog"), stat("pool_capacity"));
    let expected = show(0, 0, threads as u64);
    let is_held = measured == expected;
    let says = format!("busy {}, capacity {}", stat("busy_threads"), stat("pool_capacity"));
    claims.push(format!("Puma's numbers{when}"), expected, measured, is_held).says(says);
    Ok(())
}

fn is_status(claims: &mut Claims, what: &str, wanted: u16, page: Option<(u16, Duration)>) {
    let is_held = page.is_some_and(|(status, _)| status == wanted);
    let path = what.split(',').next().unwrap_or(what).trim_end_matches(" after that");
    claims
        .push(what, wanted.to_string(), answered(page), is_held)
        .says(format!("{path}: {}", answered(page)));
}
