//! The rows: how the server of each fix is started, how the tabs listen to it, and which claims the row makes.

use super::super::claim::Claims;
use super::super::stage::in_seconds;
use super::claims::{
    answered, asks_for_each, asks_once, at_once, counted, dry, exact, free, held, live, naive, not_measured,
    number, on_several, outside_the_pool, stuck,
};
use super::listeners::{Hosts, Way, Words};
use super::several::{Fanout, Several};
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
    /// How it serves the tabs of several servers. `None` if a tab holds a thread: such a fix can only serve as many tabs
    /// as it has threads.
    pub fanout: Option<Fanout>,
    claims: fn(&ComparePlan, &Row, &mut Claims),
}

const PLAIN: Contender = Contender {
    name: "",
    flags: |_| Vec::new(),
    way: STREAM,
    has_other_server: false,
    fanout: None,
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
        fanout: Some(Fanout::AskedForEach),
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
        fanout: Some(Fanout::AtOnce),
        claims: at_once,
        ..PLAIN
    },
    Contender {
        name: "partials",
        way: Way::Stream("/fixes/partials/stream", Words::Html),
        fanout: Some(Fanout::AtOnce),
        claims: at_once,
        ..PLAIN
    },
    Contender { name: "cable", way: Way::Cable, fanout: Some(Fanout::AtOnce), claims: at_once, ..PLAIN },
    Contender {
        name: "poll",
        way: Way::Poll("naive"),
        fanout: Some(Fanout::AskedForEach),
        claims: |plan, row, claims| {
            outside_the_pool(plan, claims, row);
            asks_for_each(plan, claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "poll-etag",
        way: Way::Poll("etag"),
        fanout: Some(Fanout::AskedForEach),
        claims: |plan, row, claims| {
            outside_the_pool(plan, claims, row);
            asks_for_each(plan, claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "poll-shared",
        way: Way::Poll("shared"),
        fanout: Some(Fanout::AskedOnce),
        claims: |plan, row, claims| {
            outside_the_pool(plan, claims, row);
            asks_once(plan, claims, row);
        },
        ..PLAIN
    },
    Contender {
        name: "long-poll",
        way: Way::LongPoll,
        fanout: Some(Fanout::AtOnce),
        claims: at_once,
        ..PLAIN
    },
];

impl Contender {
    /// Whether it can serve more tabs than it has threads, on any number of servers.
    pub fn bears_many(&self) -> bool {
        self.fanout.is_some()
    }

    /// The claims of this row on several servers, with their measurements.
    pub fn judge_several(&self, plan: &ComparePlan, several: Several, row: &Row) -> Claims {
        let mut claims = Claims::default();
        if let Some(fanout) = self.fanout {
            on_several(plan, several, fanout, row, &mut claims);
        }
        claims
    }

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

#[cfg(test)]
mod tests {
    use super::super::Spread;
    use super::super::several::{CrossDelay, SeveralFigures, SharedEngine};
    use super::*;

    const SEVERAL: Several = Several { servers: 3, engine: SharedEngine::Sqlite3 };

    /// The names of the claims that do not hold.
    fn failed(contender: &Contender, change: impl FnOnce(&mut Row, &mut SeveralFigures)) -> Vec<String> {
        let mut figures = SeveralFigures {
            cross_server_ms: CrossDelay { p50: Some(1.9), max: Some(7.0) },
            tabs_of_killed_server: 3,
            returned_tabs: 3,
            moved_tabs: Some(3),
            tabs_of_other_servers: 6,
            undisturbed_tabs: 6,
            lost: 0,
        };
        let mut row = Row {
            fix: contender.name,
            tabs_live: Some(9),
            page_ms: Spread { p50: Some(0.5), p99: Some(1.0) },
            pool_threads_held: Some(0),
            queries_per_s: Some(4.5),
            repeated: Some(0),
            ..Row::default()
        };
        change(&mut row, &mut figures);
        row.several = Some(figures);
        let claims = contender.judge_several(&super::super::tests::plan(), SEVERAL, &row).into_vec();
        claims.into_iter().filter(|claim| !claim.held).map(|claim| claim.claim).collect()
    }

    #[test]
    fn a_row_on_several_servers_fails_for_one_lost_or_repeated_row_or_one_tab_that_stays_away() {
        let rows: Vec<_> = ALL.iter().filter(|contender| contender.bears_many()).collect();
        let names: Vec<_> = rows.iter().map(|contender| contender.name).collect();
        let expected =
            ["short-stream", "push", "partials", "cable", "poll", "poll-etag", "poll-shared", "long-poll"];
        assert_eq!(names, expected);
        for row in rows {
            assert_eq!(failed(row, |_, _| ()), [""; 0], "{}", row.name);
            assert_eq!(failed(row, |_, figures| figures.lost = 1), ["rows lost over the kill"]);
            assert_eq!(failed(row, |row, _| row.repeated = Some(1)), ["rows received twice"]);
            assert_eq!(failed(row, |row, _| row.repeated = None), ["rows received twice"]);
            let moved = failed(row, |_, figures| figures.moved_tabs = Some(2));
            assert_eq!(moved, ["tabs that changed the server"]);
            let undisturbed = failed(row, |_, figures| figures.undisturbed_tabs = 5);
            assert_eq!(undisturbed, ["tabs of other servers that received further rows"]);
            let late = failed(row, |_, figures| figures.cross_server_ms.p50 = Some(4_000.0));
            assert_eq!(late, ["to tabs of other servers, median"]);
            assert_eq!(
                failed(row, |row, _| row.pool_threads_held = Some(1)),
                ["pool threads that the tabs hold"]
            );
        }
    }

    #[test]
    fn a_kill_shows_nothing_if_the_killed_server_had_no_tab() {
        let without_tabs = |moved_tabs| {
            failed(&ALL[ALL.len() - 1], |_, figures| {
                (figures.tabs_of_killed_server, figures.returned_tabs, figures.moved_tabs) =
                    (0, 0, moved_tabs);
            })
        };
        assert_eq!(without_tabs(Some(0)), ["tabs that changed the server"]);
        assert_eq!(without_tabs(None), ["tabs that reconnected"]);
    }
}
