//! The claims of the rows, each with its measurement.

use super::super::claim::Claims;
use super::super::stage::spoken;
use super::super::wording::count;
use super::several::{Fanout, Several, SeveralFigures};
use super::{ComparePlan, POST_EVERY, Row, THREADS};

/// A time limit is multiplied by this before something counts as missing.
const JUDGED_AT: f64 = 10.0;
/// With more tabs than this, the delays of the tabs' own threads exceed those of the server.
const TABS_IN_TIME: usize = 100;

pub(super) fn naive(plan: &ComparePlan, row: &Row, claims: &mut Claims) {
    live(claims, row, plan.tabs.min(THREADS));
    dry(plan, claims, row, THREADS);
    stuck(claims, row);
}

pub(super) fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

pub(super) fn live(claims: &mut Claims, row: &Row, tabs: usize) {
    let live = row.tabs_live.unwrap_or_default();
    claims.equal("tabs that receive rows", tabs, live).says(format!("{} receive rows", count(live, "tab")));
}

/// Claims that no page is answered, because no thread is idle.
pub(super) fn dry(plan: &ComparePlan, claims: &mut Claims, row: &Row, threads: usize) {
    if plan.tabs >= threads {
        let page = row.page_ms.p50;
        let measured = page.map_or_else(|| "no answer".to_owned(), |ms| format!("{ms:.1} ms"));
        claims
            .push("a page while the tabs are open", "no answer", &measured, page.is_none())
            .says(format!("pages while the tabs are open: {measured}"));
    }
}

/// Claims that every page is answered, because there are fewer tabs than this.
pub(super) fn answered(plan: &ComparePlan, claims: &mut Claims, row: &Row, tabs: usize) {
    if plan.tabs < tabs {
        let page = row.page_ms.p99;
        let measured = page.map_or_else(|| "not all".to_owned(), |ms| format!("all, p99 {ms:.1} ms"));
        claims
            .push("pages answered while the tabs are open", "all", &measured, page.is_some())
            .says(format!("pages answered while the tabs are open: {measured}"));
    }
}

pub(super) fn held(claims: &mut Claims, row: &Row, threads: u64) {
    let held = row.pool_threads_held;
    let measured = held.map_or_else(not_measured, |held| held.to_string());
    claims
        .push("pool threads that the tabs hold", threads.to_string(), measured, held == Some(threads))
        .says(format!("the tabs hold {}", counted(held.map(|held| held as usize), "pool thread")));
}

pub(super) fn exact(claims: &mut Claims, row: &Row) {
    for (name, rows, what) in [
        ("rows missed", row.missed, "missed"),
        ("rows received twice", row.repeated, "received twice"),
        ("rows lost in a restart", row.lost_over_restart, "lost in a restart"),
    ] {
        let measured = rows.map_or_else(not_measured, |rows| rows.to_string());
        claims.push(name, "0", measured, rows == Some(0)).says(format!("{} {what}", counted(rows, "row")));
    }
}

pub(super) fn not_measured() -> String {
    "not measured".to_owned()
}

/// `3 rows`, or `an unknown number of rows` if it was not measured.
pub(super) fn counted(measured: Option<usize>, thing: &str) -> String {
    measured.map_or_else(|| format!("an unknown number of {thing}s"), |it| count(it, thing))
}

const ABANDONED: &str = "the pool with clients that never read";

pub(super) fn stuck(claims: &mut Claims, row: &Row) {
    let measured = row.pool_free_s.map_or_else(|| "not free".to_owned(), |s| format!("free after {s:.1} s"));
    claims
        .push(ABANDONED, "not free", &measured, row.pool_free_s.is_none())
        .says(format!("pool with clients that never read: {measured}"));
}

pub(super) fn free(claims: &mut Claims, row: &Row, bound_s: f64) {
    let measured = row.pool_free_s.map_or_else(|| "not free".to_owned(), |s| format!("free after {s:.2} s"));
    let is_free = row.pool_free_s.is_some_and(|s| s <= bound_s * JUDGED_AT);
    let bound = format!("free after about {bound_s:.1} s");
    claims
        .push(ABANDONED, bound, &measured, is_free)
        .says(format!("pool with clients that never read: {measured}"));
}

/// Claims that tabs lose nothing, however many there are, because no stream holds a pool thread.
pub(super) fn outside_the_pool(plan: &ComparePlan, claims: &mut Claims, row: &Row) {
    live(claims, row, plan.tabs);
    answered(plan, claims, row, usize::MAX);
    held(claims, row, 0);
    exact(claims, row);
    free(claims, row, 0.5);
}

/// Like `outside_the_pool`, and also claims that a commit is delivered immediately, with one query for all tabs.
pub(super) fn at_once(plan: &ComparePlan, row: &Row, claims: &mut Claims) {
    outside_the_pool(plan, claims, row);
    asks_once(plan, claims, row);
    if plan.tabs > TABS_IN_TIME {
        return;
    }
    let bound = plan.pace.update_rate;
    let median = row.event_ms.p50;
    let measured = median.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.1} ms"));
    let is_soon = median.is_some_and(|ms| ms < bound.as_secs_f64() * 1e3 / 2.0);
    let expected = format!("less than half of the {} between updates", spoken(bound));
    claims
        .push("from commit to tab, median", expected, &measured, is_soon)
        .says(format!("median from commit to tab: {measured}"));
}

/// Changes per second: rows that the server inserts itself, and rows that are posted.
pub(super) fn changes(plan: &ComparePlan) -> f64 {
    1.0 / plan.pace.produce_every.as_secs_f64() + 1.0 / POST_EVERY.as_secs_f64()
}

pub(super) fn asks_once(plan: &ComparePlan, claims: &mut Claims, row: &Row) {
    // Clients connect one after the other, and each requests the rows that exist.
    let most = changes(plan) * 2.0 + 1.0;
    let expected = format!("one per change, at most {most:.0}, for all tabs");
    queries(claims, row, expected, |measured| measured <= most);
}

pub(super) fn asks_for_each(plan: &ComparePlan, claims: &mut Claims, row: &Row) {
    let least = plan.tabs as f64 / plan.pace.update_rate.as_secs_f64() / 2.0;
    let expected = format!("one per tab and update, at least {least:.0}");
    queries(claims, row, expected, |measured| measured >= least);
}

pub(super) fn queries(claims: &mut Claims, row: &Row, expected: String, holds: impl Fn(f64) -> bool) {
    let measured = row.queries_per_s.map_or_else(not_measured, |measured| format!("{measured:.1}"));
    claims
        .push("queries per second", expected, &measured, row.queries_per_s.is_some_and(holds))
        .says(format!("queries per second: {measured}"));
}

/// The claims of a row on several servers.
pub(super) fn on_several(
    plan: &ComparePlan,
    several: Several,
    fanout: Fanout,
    row: &Row,
    claims: &mut Claims,
) {
    live(claims, row, plan.tabs);
    answered(plan, claims, row, usize::MAX);
    held(claims, row, 0);
    let figures = row.several.unwrap_or_default();
    if plan.tabs <= TABS_IN_TIME {
        across(plan, fanout, &figures, claims);
    }
    asks_on_several(plan, several, fanout, row, claims);
    over_a_kill(row, &figures, claims);
}

/// Claims how long a row takes to tabs of other servers.
fn across(plan: &ComparePlan, fanout: Fanout, figures: &SeveralFigures, claims: &mut Claims) {
    let rate = plan.pace.update_rate;
    let (bound, expected) = match fanout {
        Fanout::AtOnce => (rate / 2, format!("less than half of the {} between updates", spoken(rate))),
        // On average, half of the interval.
        Fanout::AskedForEach | Fanout::AskedOnce => {
            (rate * 2, format!("less than twice the {} between updates", spoken(rate)))
        }
    };
    let median = figures.cross_server_ms.p50;
    let measured = median.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.1} ms"));
    let is_soon = median.is_some_and(|ms| ms < bound.as_secs_f64() * 1e3);
    claims
        .push("to tabs of other servers, median", expected, &measured, is_soon)
        .says(format!("median to tabs of other servers: {measured}"));
}

/// Claims the number of queries. Rows are created through requests only.
fn asks_on_several(plan: &ComparePlan, several: Several, fanout: Fanout, row: &Row, claims: &mut Claims) {
    if fanout == Fanout::AskedForEach {
        return asks_for_each(plan, claims, row);
    }
    let most = (2.0 / plan.pace.produce_every.as_secs_f64() + 1.0) * several.servers as f64;
    let expected = format!("one per change and server, at most {most:.0}, for all tabs");
    queries(claims, row, expected, |measured| measured <= most);
}

/// Claims that nothing is lost or repeated although a server is killed, and that only its tabs are disturbed.
fn over_a_kill(row: &Row, figures: &SeveralFigures, claims: &mut Claims) {
    let SeveralFigures { tabs_of_killed_server: killed, tabs_of_other_servers: others, .. } = *figures;
    let all = format!("all {killed}, and at least 1");
    let (name, tabs, what) = match figures.moved_tabs {
        Some(tabs) => ("tabs that changed the server", tabs, "changed the server"),
        // Without a balancer, a tab keeps the address of its server.
        None => ("tabs that reconnected", figures.returned_tabs, "reconnected"),
    };
    claims
        .push(name, all, tabs.to_string(), tabs == killed && tabs > 0)
        .says(format!("{tabs} of {} of the killed server {what}", count(killed, "tab")));
    let undisturbed = figures.undisturbed_tabs;
    claims
        .equal("tabs of other servers that received further rows", others, undisturbed)
        .says(format!("{undisturbed} of {} of other servers received further rows", count(others, "tab")));
    for (name, rows, what) in [
        ("rows lost over the kill", Some(figures.lost), "lost over the kill"),
        ("rows received twice", row.repeated, "received twice"),
    ] {
        let measured = rows.map_or_else(not_measured, |rows| rows.to_string());
        claims.push(name, "0", measured, rows == Some(0)).says(format!("{} {what}", counted(rows, "row")));
    }
}
