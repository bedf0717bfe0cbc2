//! Act 1: nine tabs, eight threads. Eight tabs stream, the ninth waits in the queue, and no page is answered.

use super::{Played, answered, capitalized, count, spelled};
use crate::lab::claim::Claims;
use crate::lab::stage::{ActError, JUDGED_AT, Placed, Plan, Stage, Theater, spoken};
use crate::lab::story::Story;

/// The front that reads a request before queuing it.
pub(super) const READS_FIRST: &str = "tiny-http";

pub(super) fn title(plan: &Plan) -> String {
    format!("{}, {}", count(plan.tabs, "tab"), count(plan.most_threads(), "thread"))
}

pub(super) fn heading(plan: &Plan) -> String {
    format!("{}, {}", spelled(plan.tabs, "tab"), spelled(plan.most_threads(), "thread"))
}

/// How many tabs stream, and how many wait.
pub(super) fn shares(plan: &Plan) -> (usize, usize) {
    let streaming = plan.tabs.min(plan.most_threads());
    (streaming, plan.tabs - streaming)
}

pub(super) fn expects(plan: &Plan) -> String {
    let (streaming, waiting) = shares(plan);
    let threads = count(plan.most_threads(), "thread");
    let tabs = count(plan.tabs, "tab");
    let page = if plan.tabs < plan.most_threads() { "is answered" } else { "gets no response" };
    let what = match waiting {
        0 if plan.tabs == 1 => format!("The tab streams, and holds one of {threads} until its stream ends."),
        0 => format!("All {tabs} stream. Each stream holds one of the {threads} until it ends."),
        _ => format!(
            "{streaming} of {tabs} {} and {waiting} {} in the queue, because each stream holds one of the {threads} \
             until it ends.",
            if streaming == 1 { "streams" } else { "stream" },
            if waiting == 1 { "waits" } else { "wait" },
        ),
    };
    format!("{what} A plain page {page}.")
}

pub(super) fn play(theater: &mut Theater<'_>) -> Result<Played, ActError> {
    let plan = theater.plan;
    let (streaming, waiting) = shares(plan);
    let mut claims = Claims::default();
    let caption = format!("{}, then GET /up", count(plan.tabs, "tab"));
    let mut stage = Stage::serve(theater, &caption, &[])?;

    let tabs = stage.open_tabs(plan.tabs, "")?;
    let placed = |wanted| tabs.iter().filter(|(_, placed)| *placed == wanted).count();
    let (came, queued) = (placed(Placed::Streams), placed(Placed::Queued));
    claims
        .equal("tabs that got their first byte", streaming, came)
        .says(format!("{came} of {} received their first byte", count(plan.tabs, "tab")));
    claims.equal("tabs that wait in todo", waiting, queued).says(match queued {
        0 => "no tab waits for a thread".to_owned(),
        1 => "1 tab waits in the queue".to_owned(),
        _ => format!("{queued} tabs wait in the queue"),
    });
    let stats = stage.stats()?;
    let stat = |name: &str| stats[name].as_u64().unwrap_or_default() as usize;
    let (busy, capacity) = (stat("busy_threads"), stat("pool_capacity"));
    // Puma's `busy_threads` includes the requests in the queue.
    claims
        .equal("busy_threads in /stats", plan.tabs, busy)
        .says(format!("busy_threads {busy}: Puma counts held threads and waiting requests"));
    claims
        .equal("pool_capacity in /stats", plan.most_threads() - streaming, capacity)
        .says(format!("pool_capacity {capacity}"));

    let events = || tabs.iter().map(|(tab, _)| tab.progress().events).collect::<Vec<_>>();
    let before = events();
    let patience = stage.a_while();
    let page = stage.page("/up", patience)?;
    let has_room = plan.tabs < plan.most_threads();
    let expected = if has_room { "200" } else { "no response" };
    let what = format!("GET /up, watched for {}", spoken(patience));
    let sentence = match page {
        Some((status, took)) => format!("GET /up: {status} after {}", spoken(took)),
        None => format!("GET /up: no response within {}", spoken(patience)),
    };
    claims.push(what, expected, answered(page), answered(page) == expected).says(sentence);
    if page.is_none() {
        let with_more = || before.iter().zip(events()).filter(|(before, after)| after > before).count();
        stage.wait_until(patience * JUDGED_AT, |_| (with_more() >= streaming).then_some(()))?;
        let more = with_more();
        claims
            .equal("tabs that got more events while /up was watched", streaming, more)
            .says(format!("{} received more events in that time", count(more, "tab")));
    }
    stage.finish_picture(plan.most_threads());

    let first = stage.record(|record| record.todo().next().map(Story::name));
    let (why, conclusion) = match page {
        Some((_, took)) => {
            let idle = plan.most_threads() - streaming;
            let why = format!(
                "Each stream holds a thread with its loop of write and sleep, which left {} idle. The page took one of \
                 these, and was answered in {}.",
                count(idle, "thread"),
                spoken(took),
            );
            let conclusion = format!(
                "{came} of {} stream, and a page is answered in {}",
                count(plan.tabs, "tab"),
                spoken(took)
            );
            (why, conclusion)
        }
        None => {
            let first = first.unwrap_or_else(|| "/up".to_owned());
            let why = format!(
                "Each thread runs live_stream, a loop of write and sleep that ends only when a write fails, and no write \
                 fails while the tab stays open. {}",
                in_the_queue(&first, &plan.front),
            );
            let waits =
                if queued > 0 { format!("{first} waits in the queue, and a page") } else { "a page".into() };
            let conclusion = format!(
                "{came} of {} stream; {waits} got no response within {}",
                count(plan.tabs, "tab"),
                spoken(patience)
            );
            (why, conclusion)
        }
    };
    Ok(Played { claims, why, conclusion, main: 0 })
}

/// Describes where the first waiting request is, which depends on the front.
fn in_the_queue(first: &str, front: &str) -> String {
    let behind = if first == "/up" { "" } else { ", with /up behind it" };
    let first = capitalized(first);
    if front == READS_FIRST {
        format!("{first}'s request has been read and is in the queue{behind}.")
    } else {
        format!("{first}'s connection is in the queue, accepted and unread{behind}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_puma_front_queues_a_connection_unread_and_tiny_http_a_request_that_was_read() {
        assert_eq!(
            in_the_queue("tab 9", "puma"),
            "Tab 9's connection is in the queue, accepted and unread, with /up behind it."
        );
        assert_eq!(
            in_the_queue("tab 9", "tiny-http"),
            "Tab 9's request has been read and is in the queue, with /up behind it."
        );
        assert_eq!(in_the_queue("/up", "puma"), "/up's connection is in the queue, accepted and unread.");
    }
}
