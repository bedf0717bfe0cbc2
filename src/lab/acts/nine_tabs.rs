//! Act 1: nine tabs, eight threads. Eight stream, the ninth waits in todo, and
//! then not even a page is answered.

use super::{Played, Theatre, answered, count};
use crate::lab::claim::Claims;
use crate::lab::stage::{ActError, JUDGED_AT, Placed, Plan, spoken};
use crate::lab::story::Story;

pub(super) fn title(plan: &Plan) -> String {
    format!("{}, {}", count(plan.tabs, "tab"), count(plan.most_threads(), "thread"))
}

/// How many stream, and how many wait.
pub(super) fn shares(plan: &Plan) -> (usize, usize) {
    let streaming = plan.tabs.min(plan.most_threads());
    (streaming, plan.tabs - streaming)
}

pub(super) fn expects(plan: &Plan) -> String {
    let (streaming, waiting) = shares(plan);
    let page = if plan.tabs < plan.most_threads() { "is answered" } else { "gets no byte" };
    format!(
        "{streaming} of {} get their stream and {waiting} {} in todo, since each stream holds one of {} until it ends. A plain page {page}.",
        count(plan.tabs, "tab"),
        if waiting == 1 { "waits" } else { "wait" },
        count(plan.most_threads(), "thread"),
    )
}

pub(super) fn play(theatre: &mut Theatre<'_>) -> Result<Played, ActError> {
    let plan = theatre.plan;
    let (streaming, waiting) = shares(plan);
    let mut claims = Claims::default();
    let mut stage = theatre.serve(&format!("{} and then a page:", count(plan.tabs, "tab")), &[])?;

    let tabs = stage.open_tabs(plan.tabs, "")?;
    let placed = |wanted| tabs.iter().filter(|(_, placed)| *placed == wanted).count();
    claims.equal("tabs that got their first byte", streaming, placed(Placed::Streams));
    claims.equal("tabs that wait in todo", waiting, placed(Placed::Queued));
    let stats = stage.stats()?;
    let stat = |name: &str| stats[name].as_u64().unwrap_or_default() as usize;
    // Puma counts what waits as busy, too.
    claims.equal("busy_threads in /stats", plan.tabs, stat("busy_threads"));
    claims.equal("pool_capacity in /stats", plan.most_threads() - streaming, stat("pool_capacity"));

    let events = || tabs.iter().map(|(tab, _)| tab.progress().events).collect::<Vec<_>>();
    let before = events();
    let patience = stage.a_while();
    let page = stage.page("/up", patience)?;
    let has_room = plan.tabs < plan.most_threads();
    let expected = if has_room { "200" } else { "no byte" };
    let what = format!("GET /up, for the {} that we watched", spoken(patience));
    claims.push(what, expected, answered(page), answered(page) == expected);
    if page.is_none() {
        let with_more = || before.iter().zip(events()).filter(|(before, after)| after > before).count();
        stage.wait_until(patience * JUDGED_AT, |_| (with_more() >= streaming).then_some(()))?;
        claims.equal("tabs that got more events meanwhile", streaming, with_more());
    }
    stage.settle_lanes();

    let first = stage.record(|record| record.todo().next().map(Story::name));
    let why = match (page, first) {
        (Some((_, took)), _) => format!(
            "{} of {} are held, one by each stream's loop of write and sleep, so {} were idle. \
             The page took one of those and was answered in {}.",
            streaming,
            count(plan.most_threads(), "thread"),
            plan.most_threads() - streaming,
            spoken(took),
        ),
        (None, first) => format!(
            "Threads puma srv tp 001 to {:03} each run live_stream, a loop of write and sleep that ends only when a write fails, \
             and no write fails while its client stays. So {}'s connection waits in todo, unread, with the page \
             behind it, and no thread comes back to take them out.",
            streaming,
            first.unwrap_or_else(|| "The page".to_owned()),
        ),
    };
    Ok(Played { claims, why, record: stage.recorded() })
}
