//! The rows: how the server of each fix is started, how the tabs listen to it, and which claims the row makes.

use super::super::claim::Claims;
use super::super::stage::in_seconds;
use super::claims::{
    answered, asks_for_each, asks_once, at_once, counted, dry, exact, free, held, live, naive, not_measured,
    number, outside_the_pool, stuck,
};
use super::listeners::{Hosts, Way, Words};
use super::{ComparePlan, Row, THREADS};

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

fn words(flags: &str) -> Vec<String> {
    flags.split_whitespace().map(str::to_owned).collect()
}
