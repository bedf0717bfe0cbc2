//! Act 6: the database pool. Each stream keeps its database connection, and there are fewer connections than threads.
//! The next tab therefore gets an empty 200.

use std::time::Instant;

use super::{Played, answered, count, spelled};
use crate::lab::claim::Claims;
use crate::lab::stage::{ActError, JUDGED_AT, Placed, Plan, Stage, Theater, in_seconds, spoken};

/// The default pool size of ActiveRecord.
const CONNECTIONS: usize = 5;

pub(super) fn title(_: &Plan) -> String {
    format!("The pool behind the pool: {CONNECTIONS} database connections")
}

pub(super) fn heading(plan: &Plan) -> String {
    format!("{}, {}", spelled(CONNECTIONS, "database connection"), spelled(plan.most_threads(), "thread"))
}

/// Streams that get both a thread and a connection.
fn streaming(plan: &Plan) -> usize {
    CONNECTIONS.min(plan.most_threads())
}

pub(super) fn expects(plan: &Plan) -> String {
    let threads = plan.most_threads();
    let streaming = streaming(plan);
    if threads <= CONNECTIONS {
        return format!(
            "{} hold all {}, and no stream lacks a database connection. The next tab would wait for a thread; a page \
             gets no response.",
            count(streaming, "stream"),
            count(threads, "thread"),
        );
    }
    format!(
        "{streaming} tabs stream. Tab {} gets a 200 with an empty body after {}, and a page that needs a query gets 500. \
         /up is answered, and pool_capacity is {}.",
        streaming + 1,
        spoken(plan.pace.checkout_timeout),
        threads - CONNECTIONS,
    )
}

pub(super) fn play(theater: &mut Theater<'_>) -> Result<Played, ActError> {
    let plan = theater.plan;
    let pace = plan.pace;
    let mut claims = Claims::default();
    let caption = format!("tabs on {}", count(CONNECTIONS, "database connection"));
    let mut stage = Stage::serve(
        theater,
        &caption,
        &[
            ("--db-pool", CONNECTIONS.to_string()),
            ("--db-checkout-timeout", in_seconds(pace.checkout_timeout)),
        ],
    )?;
    let streaming = streaming(plan);
    let tabs = stage.open_tabs(streaming, "")?;
    let streams = tabs.iter().filter(|(_, placed)| *placed == Placed::Streams).count();
    claims.equal("tabs that stream", streaming, streams).says(format!(
        "{streams} of {} {}",
        count(streaming, "tab"),
        if streams == 1 { "streams" } else { "stream" }
    ));

    if plan.most_threads() <= CONNECTIONS {
        let patience = stage.a_while();
        let page = stage.page("/up", patience)?;
        claims
            .push("GET /up", "no response", answered(page), page.is_none())
            .says(format!("GET /up: {}", answered(page)));
        let idle = stage.stat("/database/size")? - stage.stat("/database/busy")?;
        claims
            .equal("database connections idle", (CONNECTIONS - streaming) as u64, idle)
            .says(format!("{} idle", count(idle as usize, "database connection")));
        stage.finish_picture(plan.most_threads());
        let why =
            "Streams hold every thread before the database pool is exhausted. The smaller of the two pools \
             determines what the next tab waits for."
                .to_owned();
        let conclusion = format!(
            "{} hold all {} before the database pool is exhausted",
            count(streams, "stream"),
            count(plan.most_threads(), "thread")
        );
        return Ok(Played { claims, why, conclusion, main: 0 });
    }

    let limit = pace.checkout_timeout * JUDGED_AT;
    let began = Instant::now();
    let next = CONNECTIONS + 1;
    // Reads the whole answer. If its body did not end immediately, this would wait until `limit`.
    let sixth = stage.page_body(&format!("/models/live_stream?tab={next}"), limit)?;
    let took = began.elapsed();
    let measured = sixth
        .as_ref()
        .map_or("incomplete".to_owned(), |(status, body)| format!("{status}, {}", count(body.len(), "byte")));
    claims
        .push(format!("tab {next}"), "200, 0 bytes", &measured, measured == "200, 0 bytes")
        .says(format!("tab {next}: {measured}"));
    let is_in_time = took >= pace.checkout_timeout && took < limit;
    claims
        .push(
            format!("tab {next} was answered"),
            format!("after the checkout timeout, {}", spoken(pace.checkout_timeout)),
            format!("after {}", spoken(took)),
            is_in_time,
        )
        .says(format!(
            "tab {next} was answered after {} (checkout timeout: {})",
            spoken(took),
            spoken(pace.checkout_timeout)
        ));
    let page = stage.page("/", limit)?;
    claims
        .push(
            "GET /, which needs a query",
            "500",
            answered(page),
            page.is_some_and(|(status, _)| status == 500),
        )
        .says(format!("GET /, which needs a query: {}", answered(page)));
    let page = stage.page("/up", limit)?;
    claims
        .push("GET /up", "200", answered(page), page.is_some_and(|(status, _)| status == 200))
        .says(format!("GET /up: {}", answered(page)));
    let stats = stage.stats()?;
    let stat = |pointer: &str| stats.pointer(pointer).and_then(|value| value.as_u64()).unwrap_or_default();
    let (busy, capacity) = (stat("/database/busy"), stat("/pool_capacity"));
    claims
        .equal("database connections busy in /stats", CONNECTIONS as u64, busy)
        .says(format!("{busy} of {CONNECTIONS} database connections are held"));
    claims
        .equal("pool_capacity in /stats", (plan.most_threads() - CONNECTIONS) as u64, capacity)
        .says(format!("pool_capacity {capacity}"));
    let timeouts = stat("/database/checkout_timeouts");
    claims
        .push("checkouts that timed out", "2", timeouts.to_string(), timeouts == 2)
        .says(format!("{} timed out", count(timeouts as usize, "checkout")));
    stage.finish_picture(plan.most_threads());

    let why = format!(
        "Each stream keeps the connection of its first query while it sleeps, as Rails up to 7.1 does, so tab {next} \
         held a thread and waited {} for the database. Its action failed before its first write, so the answer was an \
         empty 200, and an EventSource reconnects forever.",
        spoken(took),
    );
    let conclusion = format!(
        "tab {next} held a thread, and got {measured} after {} without a database connection",
        spoken(took)
    );
    Ok(Played { claims, why, conclusion, main: 0 })
}
