//! The rows: how the server of each fix is started, how the tabs listen to it, and which claims the row makes.

use super::super::claim::Claims;
use super::super::stage::{in_seconds, spoken};
use super::super::wording::count;
use super::listeners::{Hosts, Way, Words};
use super::{ComparePlan, POST_EVERY, Row, THREADS};

/// A time limit is multiplied by this before something counts as missing.
const JUDGED_AT: f64 = 10.0;
/// With more tabs than this, the delays of the tabs' own threads exceed those of the server.
const TABS_IN_TIME: usize = 100;
/// The threads of `more-threads`.
const MORE_THREADS: usize = 64;
/// The streams that `cap` accepts.
const CAP: usize = 6;
/// The quota of `io-threads`.
const IO_THREADS: usize = 5;

const STREAM: Way = Way::Stream("/models/live_stream", Words::Json);

/// One row.
pub struct Contender {
    pub name: &'static str,
    /// Flags of its server, in addition to the flags of all servers.
    pub flags: fn(&ComparePlan) -> Vec<String>,
    pub way: Way,
    /// Whether the tabs listen to a second server.
    pub has_other_server: bool,
    /// Whether it can serve more tabs than it has threads.
    pub bears_many: bool,
    claims: fn(&ComparePlan, &Row, &mut Claims),
}

const PLAIN: Contender = Contender {
    name: "",
    flags: |_| Vec::new(),
    way: STREAM,
    has_other_server: false,
    bears_many: false,
    claims: |_, _, _| (),
};

/// All rows, in order.
pub const ALL: &[Contender] = &[
    Contender { name: "naive", flags: |_| words("--loop faithful"), claims: naive, ..PLAIN },
    Contender {
        // `naive` with the threads of Rails: a stream holds two.
        name: "naive-rails",
        flags: |_| words("--loop faithful --live rails"),
        claims: |plan, row, claims| {
            naive(plan, row, claims);
            let (streams, threads) = (plan.tabs.min(THREADS) as u64, row.action_threads);
            let measured = threads.map_or_else(not_measured, |threads| threads.to_string());
            claims
                .push("additional action threads", streams.to_string(), measured, threads == Some(streams))
                .says(format!("the tabs hold {}", counted(threads.map(|it| it as usize), "action thread")));
        },
        ..PLAIN
    },
    Contender {
        name: "reaper",
        flags: |plan| {
            let ComparePlan { pace, .. } = plan;
            let (age, every) = (in_seconds(pace.max_stream_age), in_seconds(pace.reap_every));
            words(&format!("--max-stream-age {age} --reap-every {every}"))
        },
        claims: |plan, row, claims| {
            // With many more tabs than threads, some tabs get their turn only after the measurement.
            if plan.tabs <= 2 * THREADS {
                live(claims, row, plan.tabs);
            }
            exact(claims, row);
            let turns = plan.tabs.div_ceil(THREADS) as f64;
            let bound = plan.pace.max_stream_age.as_secs_f64() * turns + plan.pace.reap_every.as_secs_f64();
            free(claims, row, bound);
        },
        ..PLAIN
    },
    Contender {
        name: "more-threads",
        flags: |_| words("--fix more-threads"),
        claims: |plan, row, claims| {
            live(claims, row, plan.tabs.min(MORE_THREADS));
            answered(plan, claims, row, MORE_THREADS);
            held(claims, row, plan.tabs.min(MORE_THREADS) as u64);
            exact(claims, row);
            let most = 8;
            let held = number(row.db_connections_held);
            claims
                .push(
                    "database connections held",
                    format!("at most {most}"),
                    &held,
                    row.db_connections_held.is_some_and(|held| held <= most),
                )
                .says(format!("database connections held: {held}"));
            stuck(claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "leave",
        way: Way::Page("/fixes/leave", Hosts::Many),
        claims: |plan, row, claims| {
            // This fix helps when tabs close, but here all of them stay open.
            live(claims, row, plan.tabs.min(THREADS));
            dry(plan, claims, row, THREADS);
            stuck(claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "cap",
        flags: |_| words("--fix cap"),
        claims: |plan, row, claims| {
            live(claims, row, plan.tabs.min(CAP));
            answered(plan, claims, row, THREADS + plan.tabs);
            exact(claims, row);
            stuck(claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "io-threads",
        flags: |_| words("--fix io-threads"),
        claims: |plan, row, claims| {
            live(claims, row, plan.tabs.min(THREADS + IO_THREADS));
            answered(plan, claims, row, THREADS + IO_THREADS);
            exact(claims, row);
            stuck(claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "short-stream",
        way: Way::Stream("/fixes/short-stream/stream", Words::Json),
        bears_many: true,
        claims: |plan, row, claims| {
            outside_the_pool(plan, claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "other-server",
        has_other_server: true,
        claims: |plan, row, claims| {
            live(claims, row, plan.tabs.min(THREADS));
            answered(plan, claims, row, THREADS + plan.tabs);
            // These are the threads of the second server.
            held(claims, row, plan.tabs.min(THREADS) as u64);
            exact(claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "shared-worker",
        way: Way::Page("/fixes/shared-worker", Hosts::One),
        claims: |plan, row, claims| {
            live(claims, row, plan.tabs);
            answered(plan, claims, row, THREADS + plan.tabs);
            held(claims, row, 1);
            exact(claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "push",
        way: Way::Stream("/fixes/push/stream", Words::Json),
        bears_many: true,
        claims: at_once,
        ..PLAIN
    },
    Contender {
        name: "partials",
        way: Way::Stream("/fixes/partials/stream", Words::Html),
        bears_many: true,
        claims: at_once,
        ..PLAIN
    },
    Contender { name: "cable", way: Way::Cable, bears_many: true, claims: at_once, ..PLAIN },
    Contender {
        name: "poll",
        way: Way::Poll("naive"),
        bears_many: true,
        claims: |plan, row, claims| {
            outside_the_pool(plan, claims, row);
            asks_for_each(plan, claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "poll-etag",
        way: Way::Poll("etag"),
        bears_many: true,
        claims: |plan, row, claims| {
            outside_the_pool(plan, claims, row);
            asks_for_each(plan, claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "poll-shared",
        way: Way::Poll("shared"),
        bears_many: true,
        claims: |plan, row, claims| {
            outside_the_pool(plan, claims, row);
            asks_once(plan, claims, row);
        },
        ..PLAIN
    },
    Contender { name: "long-poll", way: Way::LongPoll, bears_many: true, claims: at_once, ..PLAIN },
];

impl Contender {
    /// The claims of this row, with their measurements.
    pub fn judge(&self, plan: &ComparePlan, row: &Row) -> Claims {
        let mut claims = Claims::default();
        (self.claims)(plan, row, &mut claims);
        let told = |seen: Option<bool>| match seen {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not measured",
        };
        let seen = told(row.outside_writer_seen);
        claims
            .push("a row of another program is seen", "yes", seen, row.outside_writer_seen == Some(true))
            .says(format!("a row of another program is seen: {seen}"));
        let stops = told(row.stop_ends);
        claims
            .push("the server stops by itself", "yes", stops, row.stop_ends == Some(true))
            .says(format!("the server stops by itself: {stops}"));
        claims
    }
}

fn naive(plan: &ComparePlan, row: &Row, claims: &mut Claims) {
    live(claims, row, plan.tabs.min(THREADS));
    dry(plan, claims, row, THREADS);
    stuck(claims, row);
}

fn words(flags: &str) -> Vec<String> {
    flags.split_whitespace().map(str::to_owned).collect()
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn live(claims: &mut Claims, row: &Row, tabs: usize) {
    let live = row.tabs_live.unwrap_or_default();
    claims.equal("tabs that receive rows", tabs, live).says(format!("{} receive rows", count(live, "tab")));
}

/// Claims that no page is answered, because no thread is idle.
fn dry(plan: &ComparePlan, claims: &mut Claims, row: &Row, threads: usize) {
    if plan.tabs >= threads {
        let page = row.page_ms.p50;
        let measured = page.map_or_else(|| "no answer".to_owned(), |ms| format!("{ms:.1} ms"));
        claims
            .push("a page while the tabs are open", "no answer", &measured, page.is_none())
            .says(format!("pages while the tabs are open: {measured}"));
    }
}

/// Claims that every page is answered, because there are fewer tabs than this.
fn answered(plan: &ComparePlan, claims: &mut Claims, row: &Row, tabs: usize) {
    if plan.tabs < tabs {
        let page = row.page_ms.p99;
        let measured = page.map_or_else(|| "not all".to_owned(), |ms| format!("all, p99 {ms:.1} ms"));
        claims
            .push("pages answered while the tabs are open", "all", &measured, page.is_some())
            .says(format!("pages answered while the tabs are open: {measured}"));
    }
}

fn held(claims: &mut Claims, row: &Row, threads: u64) {
    let held = row.pool_threads_held;
    let measured = held.map_or_else(not_measured, |held| held.to_string());
    claims
        .push("pool threads that the tabs hold", threads.to_string(), measured, held == Some(threads))
        .says(format!("the tabs hold {}", counted(held.map(|held| held as usize), "pool thread")));
}

fn exact(claims: &mut Claims, row: &Row) {
    for (name, rows, what) in [
        ("rows missed", row.missed, "missed"),
        ("rows received twice", row.repeated, "received twice"),
        ("rows lost in a restart", row.lost_over_restart, "lost in a restart"),
    ] {
        let measured = rows.map_or_else(not_measured, |rows| rows.to_string());
        claims.push(name, "0", measured, rows == Some(0)).says(format!("{} {what}", counted(rows, "row")));
    }
}

fn not_measured() -> String {
    "not measured".to_owned()
}

/// `3 rows`, or `an unknown number of rows` if it was not measured.
fn counted(measured: Option<usize>, thing: &str) -> String {
    measured.map_or_else(|| format!("an unknown number of {thing}s"), |it| count(it, thing))
}

const ABANDONED: &str = "the pool with clients that never read";

fn stuck(claims: &mut Claims, row: &Row) {
    let measured = row.pool_free_s.map_or_else(|| "not free".to_owned(), |s| format!("free after {s:.1} s"));
    claims
        .push(ABANDONED, "not free", &measured, row.pool_free_s.is_none())
        .says(format!("pool with clients that never read: {measured}"));
}

fn free(claims: &mut Claims, row: &Row, bound_s: f64) {
    let measured = row.pool_free_s.map_or_else(|| "not free".to_owned(), |s| format!("free after {s:.2} s"));
    let is_free = row.pool_free_s.is_some_and(|s| s <= bound_s * JUDGED_AT);
    let bound = format!("free after about {bound_s:.1} s");
    claims
        .push(ABANDONED, bound, &measured, is_free)
        .says(format!("pool with clients that never read: {measured}"));
}

/// Claims that tabs lose nothing, however many there are, because no stream holds a pool thread.
fn outside_the_pool(plan: &ComparePlan, claims: &mut Claims, row: &Row) {
    live(claims, row, plan.tabs);
    answered(plan, claims, row, usize::MAX);
    held(claims, row, 0);
    exact(claims, row);
    free(claims, row, 0.5);
}

/// Like `outside_the_pool`, and also claims that a commit is delivered immediately, with one query for all tabs.
fn at_once(plan: &ComparePlan, row: &Row, claims: &mut Claims) {
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
fn changes(plan: &ComparePlan) -> f64 {
    1.0 / plan.pace.produce_every.as_secs_f64() + 1.0 / POST_EVERY.as_secs_f64()
}

fn asks_once(plan: &ComparePlan, claims: &mut Claims, row: &Row) {
    // Clients connect one after the other, and each requests the rows that exist.
    let most = changes(plan) * 2.0 + 1.0;
    let expected = format!("one per change, at most {most:.0}, for all tabs");
    queries(claims, row, expected, |measured| measured <= most);
}

fn asks_for_each(plan: &ComparePlan, claims: &mut Claims, row: &Row) {
    let least = plan.tabs as f64 / plan.pace.update_rate.as_secs_f64() / 2.0;
    let expected = format!("one per tab and update, at least {least:.0}");
    queries(claims, row, expected, |measured| measured >= least);
}

fn queries(claims: &mut Claims, row: &Row, expected: String, holds: impl Fn(f64) -> bool) {
    let measured = row.queries_per_s.map_or_else(not_measured, |measured| format!("{measured:.1}"));
    claims
        .push("queries per second", expected, &measured, row.queries_per_s.is_some_and(holds))
        .says(format!("queries per second: {measured}"));
}
