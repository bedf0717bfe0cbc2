//! The result of a run as text: a table for a terminal, and one JSON object.

use serde::Serialize;

use super::Simulated;
use super::figures::Figures;
use super::laws::predicted_period_s;
use super::scenario::{Balance, HeldBy, Scenario};
use super::spread::DurationSpread;
use super::words::{many, number, time};
use crate::lab::claim::Claim;

/// The output of `--json`. It contains nothing that differs between two runs of the same command.
#[derive(Debug, Serialize)]
pub struct SimulationReport<'a> {
    pub scenario: ScenarioShown,
    /// N/T × age, if there are more tabs than threads and the tabs take turns.
    pub predicted_period_s: Option<f64>,
    #[serde(flatten)]
    pub figures: &'a Figures,
    pub claims: &'a [Claim],
    pub held: bool,
    pub verdict: String,
}

/// The scenario in JSON. Times are in seconds.
#[derive(Debug, Serialize)]
pub struct ScenarioShown {
    tabs: u32,
    servers: u16,
    threads: String,
    streams: HeldBy,
    balance: Balance,
    max_stream_age_s: Option<f64>,
    max_stream_age_jitter: f64,
    reap_every_s: f64,
    retry_s: f64,
    update_rate_s: f64,
    pages_per_second: f64,
    for_s: f64,
    seed: u64,
}

impl SimulationReport<'_> {
    pub fn of<'a>(scenario: &Scenario, run: &'a Simulated) -> SimulationReport<'a> {
        SimulationReport {
            scenario: ScenarioShown {
                tabs: scenario.tabs,
                servers: scenario.servers,
                threads: scenario.threads.to_string(),
                streams: scenario.held_by,
                balance: scenario.balance,
                max_stream_age_s: scenario.max_stream_age.map(|age| age.as_secs_f64()),
                max_stream_age_jitter: scenario.max_stream_age_jitter,
                reap_every_s: scenario.reap_every.as_secs_f64(),
                retry_s: scenario.retry.as_secs_f64(),
                update_rate_s: scenario.update_rate.as_secs_f64(),
                pages_per_second: scenario.pages_per_second,
                for_s: scenario.length.as_secs_f64(),
                seed: scenario.seed,
            },
            predicted_period_s: predicted_period_s(scenario),
            figures: &run.figures,
            claims: &run.laws,
            held: held(run),
            verdict: verdict(scenario, &run.figures),
        }
    }
}

/// Whether every law held.
pub fn held(run: &Simulated) -> bool {
    run.laws.iter().all(|claim| claim.held)
}

/// The scenario in one line.
pub fn title(scenario: &Scenario) -> String {
    let Scenario { tabs, servers, threads, .. } = scenario;
    let servers = match servers {
        1 => String::new(),
        _ => format!("{} × ", many(u64::from(*servers), "server")),
    };
    let held_by = match (scenario.held_by, scenario.max_stream_age) {
        (HeldBy::EventLoop, _) => "streams on the event loop".to_owned(),
        (HeldBy::Thread, None) => "no maximum age".to_owned(),
        (HeldBy::Thread, Some(age)) => format!("maximum age {}", time(age.as_secs_f64())),
    };
    format!(
        "{}, {servers}{}, {held_by}; {} simulated, seed {}",
        many(u64::from(*tabs), "tab"),
        many(threads.max() as u64, "thread"),
        time(scenario.length.as_secs_f64()),
        scenario.seed
    )
}

/// The lines of the table, at most 80 columns wide.
pub fn table(figures: &Figures) -> Vec<String> {
    let row = |name: &str, spread: &DurationSpread| {
        let cell = |seconds: Option<f64>| seconds.map_or_else(|| "none".to_owned(), time);
        let [p50, p99] = [50.0, 99.0].map(|percent| cell(spread.percentile_s(percent)));
        format!("{name:<22}{p50:>14}{p99:>14}{:>14}{:>14}", cell(spread.max_s()), number(spread.count()))
    };
    let Figures { turns, pages, backlog, joins, tabs_at_end, .. } = figures;
    let mut lines = vec![
        format!("{:<22}{:>14}{:>14}{:>14}{:>14}", "", "p50", "p99", "longest", "of"),
        row("wait for a turn", &figures.wait),
        row("time between turns", &figures.period),
        row("wait of a page", &pages.wait),
        row("time without news", &figures.silence),
        String::new(),
    ];
    let mut say = |name: &str, text: String| lines.push(format!("{name:<22}  {text}"));
    say(
        "turns of a tab",
        format!(
            "{:.1}, from {} to {}",
            turns.per_tab,
            number(turns.fewest.into()),
            number(turns.most.into())
        ),
    );
    say("tabs without a turn", number(turns.tabs_without.into()));
    say(
        "pages",
        format!(
            "{} asked, {} answered, {} failed",
            number(pages.asked),
            number(pages.answered),
            number(pages.failed)
        ),
    );
    say(
        "requests in the queue",
        format!(
            "{:.1} on average, {} at the end; longest {}",
            backlog.mean,
            number(backlog.at_end as u64),
            number(backlog.longest as u64)
        ),
    );
    say(
        "joins in a second",
        format!(
            "at most {} reconnected, in second {}",
            number(joins.most_in_a_second),
            number(joins.in_second)
        ),
    );
    say(
        "tabs at the end",
        format!(
            "{} stream, {} wait, {} reconnect",
            number(tabs_at_end.streaming.into()),
            number(tabs_at_end.waiting.into()),
            number(tabs_at_end.reconnecting.into())
        ),
    );
    for (name, count) in [
        ("connections cut", figures.cuts),
        ("answers 502 or 503", figures.gave_up),
        ("streams that failed", figures.streams_failed),
    ] {
        if count > 0 {
            say(name, number(count));
        }
    }
    lines
}

/// The result in one or two sentences.
pub fn verdict(scenario: &Scenario, figures: &Figures) -> String {
    let tabs = u64::from(scenario.tabs);
    let threads = scenario.all_threads();
    let Figures { turns, pages, joins, .. } = figures;
    let cell = |seconds: Option<f64>| seconds.map_or_else(|| "no time".to_owned(), time);
    let page = match pages.wait.percentile_s(99.0) {
        None if pages.asked == 0 => String::new(),
        None => format!(" None of {} got a thread.", many(pages.asked, "page")),
        Some(wait_s) if pages.answered < pages.asked => format!(
            " {} of {} were answered; 99% of those that got a thread waited at most {}.",
            number(pages.answered),
            many(pages.asked, "page"),
            time(wait_s)
        ),
        Some(wait_s) => format!(" 99% of the pages waited at most {}.", time(wait_s)),
    };
    let main = match predicted_period_s(scenario) {
        _ if scenario.held_by == HeldBy::EventLoop => format!(
            "No tab holds a thread. At most {} reconnected in a second, and the longest time without news was {}.",
            many(joins.most_in_a_second, "tab"),
            cell(figures.silence.max_s())
        ),
        Some(predicted_s) if turns.tabs_without > 0 => format!(
            "{} of {} had a turn. The formula N/T × age predicts one every {}.",
            number(tabs - u64::from(turns.tabs_without)),
            many(tabs, "tab"),
            time(predicted_s)
        ),
        Some(predicted_s) => format!(
            "Each tab gets a turn every {} (median). The formula N/T × age predicts {}.",
            cell(figures.period.percentile_s(50.0)),
            time(predicted_s)
        ),
        None if tabs > threads && scenario.max_stream_age.is_none() => format!(
            "{} held every thread, and {} had no turn: without a maximum age, a tab keeps its thread.",
            many(tabs - u64::from(turns.tabs_without), "tab"),
            number(turns.tabs_without.into())
        ),
        None => match figures.wait.percentile_s(99.0) {
            Some(wait_s) => {
                format!("There is a thread for every tab: 99% of the turns waited at most {}.", time(wait_s))
            }
            None => "There is a thread for every tab, but no tab had a turn.".to_owned(),
        },
    };
    main + &page
}
