//! Act 6: the pool behind the pool. A stream keeps its database connection, there
//! are fewer of those than threads, and the next tab gets an empty 200.

use std::time::Instant;

use super::{Played, Theatre, answered, count};
use crate::lab::claim::Claims;
use crate::lab::stage::{ActError, JUDGED_AT, Placed, Plan, in_seconds, spoken};

/// ActiveRecord's own default.
const CONNECTIONS: usize = 5;

pub(super) fn title(_: &Plan) -> String {
    format!("The pool behind the pool: {CONNECTIONS} database connections")
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
            "With {} there are connections to spare: {streaming} tabs stream, the next waits in todo for a thread, and a page \
             gets no byte.",
            count(threads, "thread")
        );
    }
    format!(
        "{streaming} tabs stream. The next is answered after {} with 200 and an empty body, a page that needs a query with 500, \
         /up at once, while Puma's pool_capacity says {}.",
        spoken(plan.pace.checkout_timeout),
        threads - CONNECTIONS,
    )
}

pub(super) fn play(theatre: &mut Theatre<'_>) -> Result<Played, ActError> {
    let plan = theatre.plan;
    let pace = plan.pace;
    let mut claims = Claims::default();
    let caption = format!("Tabs on {CONNECTIONS} database connections:");
    let mut stage = theatre.serve(
        &caption,
        &[
            ("--db-pool", CONNECTIONS.to_string()),
            ("--db-checkout-timeout", in_seconds(pace.checkout_timeout)),
        ],
    )?;
    let streaming = streaming(plan);
    let tabs = stage.open_tabs(streaming, "")?;
    let streams = tabs.iter().filter(|(_, placed)| *placed == Placed::Streams).count();
    claims.equal("tabs that stream", streaming, streams);

    if plan.most_threads() <= CONNECTIONS {
        let patience = stage.a_while();
        let page = stage.page("/up", patience)?;
        claims.push("GET /up", "no byte", answered(page), page.is_none());
        let idle = stage.stat("/database/size")? - stage.stat("/database/busy")?;
        claims.equal("database connections idle", (CONNECTIONS - streaming) as u64, idle);
        stage.settle_lanes();
        let why = "Every thread is held by a stream before the database pool is empty. Which of the two pools is the \
                   smaller decides what the next tab meets."
            .to_owned();
        return Ok(Played { claims, why, record: stage.recorded() });
    }

    let limit = pace.checkout_timeout * JUDGED_AT;
    let began = Instant::now();
    let next = CONNECTIONS + 1;
    // The whole answer: its body ends at once, or this would wait for its limit.
    let sixth = stage.page_body(&format!("/models/live_stream?tab={next}"), limit)?;
    let took = began.elapsed();
    let measured = sixth
        .as_ref()
        .map_or("no end".to_owned(), |(status, body)| format!("{status}, {}", count(body.len(), "byte")));
    claims.push(format!("tab {next}"), "200, 0 bytes", &measured, measured == "200, 0 bytes");
    claims.push(
        format!("tab {next} was answered"),
        format!("after the checkout timeout, {}", spoken(pace.checkout_timeout)),
        format!("after {}", spoken(took)),
        took >= pace.checkout_timeout && took < limit,
    );
    let page = stage.page("/", limit)?;
    claims.push(
        "GET /, which needs a query",
        "500",
        answered(page),
        page.is_some_and(|(status, _)| status == 500),
    );
    let page = stage.page("/up", limit)?;
    claims.push("GET /up", "200", answered(page), page.is_some_and(|(status, _)| status == 200));
    let stats = stage.stats()?;
    let stat = |pointer: &str| stats.pointer(pointer).and_then(|value| value.as_u64()).unwrap_or_default();
    claims.equal("database connections busy in /stats", CONNECTIONS as u64, stat("/database/busy"));
    claims.equal(
        "pool_capacity meanwhile",
        (plan.most_threads() - CONNECTIONS) as u64,
        stat("/pool_capacity"),
    );
    let timeouts = stat("/database/checkout_timeouts");
    claims.push("checkouts that timed out", "2", timeouts.to_string(), timeouts == 2);
    stage.settle_lanes();

    let why = format!(
        "Each stream took a connection for its first query and keeps it while it sleeps, as Rails up to 7.1 does, so tab {next} had \
         a thread and waited {} in vain for the database. Its action failed before its first write and was closed, which \
         is a 200 with nothing in it: an EventSource comes back and waits again, for ever.",
        spoken(took),
    );
    Ok(Played { claims, why, record: stage.recorded() })
}
