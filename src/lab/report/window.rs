//! A time window of a server's record as a page in the style of the other reports. It makes no claims. It shows the
//! record, and the server's state at the end of the window.

use std::time::{Duration, SystemTime};

use minijinja::{Environment, Value, context};

use super::size::{self, MOST_ROWS};
use super::{ReportError, TEMPLATES, date, figures};
use crate::lab::actions::action_name;
use crate::lab::picture::PictureLook;
use crate::lab::record::Record;
use crate::lab::stage::{Scene, spoken};
use crate::lab::story::Story;
use crate::lab::wording::{capitalized, spelled};
use crate::words;

const TEMPLATE: (&str, &str) = ("report/window.html", include_str!("../../../views/report/window.html"));
/// With more threads than this, idle threads are counted instead of drawn.
const MOST_IDLE: usize = 16;

/// The contents of the page.
pub struct WindowReport<'a> {
    /// The record up to the end of the window.
    pub record: Record,
    /// The start of the window on the server's clock.
    pub from_us: u64,
    /// The end of the window by the system's clock.
    pub until: SystemTime,
    pub max_threads: usize,
    /// The text and the remedy of each warning.
    pub warnings: Vec<(String, String)>,
    /// Names and values.
    pub configuration: Vec<(&'static str, String)>,
    /// The command line that started the server.
    pub command: &'a str,
}

impl WindowReport<'_> {
    /// The page.
    pub fn html(self) -> Result<String, ReportError> {
        let WindowReport { mut record, from_us, until, max_threads, warnings, configuration, command } = self;
        let until_us = record.now_us;
        let span_us = until_us.saturating_sub(from_us);
        let unknown_us = record.unknown_us.iter().map(|(_, until_us)| *until_us).max().unwrap_or_default();
        let missing_us = unknown_us.min(until_us).saturating_sub(from_us);
        record.forget_before(from_us, usize::MAX);
        if missing_us == 0 {
            record.forgotten = 0;
        }
        let seconds = |at_us: u64| format!("{:.1} s", at_us.saturating_sub(from_us) as f64 / 1e6);
        let orders = record.orders.iter().map(|(at_us, text)| (seconds(*at_us), text.clone()));
        let mut orders: Vec<_> = orders.collect();
        let older_orders = orders.len().saturating_sub(MOST_ROWS);
        let mut states = states(&record);
        let more_states = states.len().saturating_sub(MOST_ROWS);
        states.truncate(MOST_ROWS);
        let headline = headline(&record, max_threads);
        let folds_idle = record.threads().len() > MOST_IDLE;
        let scene = Scene { caption: "lanes and queue".to_owned(), record, from_us };
        let mut environment = Environment::new();
        for (name, source) in TEMPLATES.iter().chain([&TEMPLATE]) {
            environment.add_template(name, source)?;
        }
        let ours = [
            ("ninetabs", env!("CARGO_PKG_VERSION").to_owned()),
            ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ];
        let page = context! {
            headline,
            until => date(until),
            span => spoken(Duration::from_micros(span_us)),
            from => format!("{:.1}", from_us as f64 / 1e6),
            to => format!("{:.1}", until_us as f64 / 1e6),
            threads => spelled(max_threads, "thread"),
            missing => (missing_us > 0).then(|| spoken(Duration::from_micros(missing_us))),
            forgotten => scene.record.forgotten,
            warnings,
            states,
            more_states,
            orders => orders.split_off(older_orders),
            older_orders,
            figures => figures(&scene),
            configuration => configuration.into_iter().chain(ours).collect::<Vec<_>>(),
            command,
        };
        size::fitting(|detail| {
            let look = PictureLook { label: "Lanes of the server", folds_idle, ..PictureLook::default() };
            let svg = detail.draw(&scene, look)?;
            let left_out = detail.left_out();
            Ok(environment.get_template(TEMPLATE.0)?.render(context! { svg, left_out, ..page.clone() })?)
        })
    }
}

/// The state of the pool at the end, in one line. Actions without a client do not hold pool threads, so they are
/// counted separately.
fn headline(record: &Record, max_threads: usize) -> String {
    let held = record.held();
    let max = max_threads.max(record.threads().len());
    let pool = match (held, max) {
        (0, 1) => "The only thread is idle.".to_owned(),
        (0, _) => format!("All {max} threads are idle."),
        (_, 1) => "The only thread is held.".to_owned(),
        (1, _) => format!("1 of {max} threads is held."),
        _ => format!("{held} of {max} threads are held."),
    };
    // A spare connection has not sent a request.
    let waiting: Vec<_> = record.todo().filter(|story| !story.target.is_empty()).collect();
    let waits = match waiting.as_slice() {
        [] => "Nothing waits.".to_owned(),
        [one] => format!("{} has waited {}.", capitalized(&one.name()), lasts(record, one.queued_us)),
        [first, ..] => {
            format!("{} requests wait, the first for {}.", waiting.len(), lasts(record, first.queued_us))
        }
    };
    let orphaned = match record.actions.count() {
        (_, 0) => String::new(),
        (_, 1) => format!(" 1 {} action runs.", words::ORPHANED),
        (_, count) => format!(" {count} {} actions run.", words::ORPHANED),
    };
    format!("{pool} {waits}{orphaned}")
}

/// Maximum length of a target in the page, in characters.
const LONGEST_PATH: usize = 300;

/// The state of each thread, of the queue and of each action at the end: thread, state, request, how long, writes.
fn states(record: &Record) -> Vec<Value> {
    let path = |story: &Story| story.target.chars().take(LONGEST_PATH).collect::<String>();
    let of_thread = |thread: usize| {
        let is_on = |story: &&Story| story.is_running() && story.started.is_some_and(|(_, of)| of == thread);
        let story = record.stories.values().find(is_on);
        let name = format!("tp {thread:03}");
        let Some((story, (started_us, _))) = story.and_then(|story| Some((story, story.started?))) else {
            return context! { thread => name, state => "idle" };
        };
        let is_gone = story.closed_us.is_some();
        context! {
            thread => name,
            state => if is_gone { "held, client gone" } else { "held" },
            request => story.name(),
            path => path(story),
            lasts => lasts(record, started_us),
            writes => record.writes_on(thread),
        }
    };
    let in_queue = |story: &Story| {
        let state = if story.target.is_empty() { "no request yet" } else { "waiting" };
        let lasts = lasts(record, story.queued_us);
        context! { thread => "queue", state, request => story.name(), path => path(story), lasts }
    };
    let actions = record.actions.all().filter(|action| action.ended_us.is_none()).map(|action| {
        let state = if action.orphaned_us.is_some() { words::ORPHANED } else { words::ATTACHED };
        let lasts = lasts(record, action.began_us);
        context! { thread => action_name(action.worker), state, request => action.name.as_str(), lasts }
    });
    record.threads().map(of_thread).chain(record.todo().map(in_queue)).chain(actions).collect()
}

fn lasts(record: &Record, since_us: u64) -> String {
    format!("{:.1} s", record.now_us.saturating_sub(since_us) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::record::tests::two_threads;
    use ninetabs_server::timeline::{Subject, Timeline, What};

    fn page(record: Record, from_us: u64) -> String {
        let report = WindowReport {
            record,
            from_us,
            until: SystemTime::UNIX_EPOCH,
            max_threads: 2,
            warnings: vec![("1 > 0.".into(), "Set <it>.".into())],
            configuration: vec![("threads", "2:2".into())],
            command: "ninetabs serve --threads '2:2'",
        };
        report.html().unwrap()
    }

    fn assert_has(page: &str, all: &[&str]) {
        for seen in all {
            assert!(page.contains(seen), "{seen} in {page}");
        }
    }

    #[test]
    fn the_page_has_the_state_at_its_end_the_orders_and_the_command() {
        let mut record = two_threads();
        for story in record.stories.values_mut() {
            story.queued_us = 1_000_000;
            story.started = story.started.map(|(_, thread)| (1_000_000, thread));
        }
        record.orders = vec![(500_000, "opened tab <1>".into()), (2_000_000, "closed tab 2".into())];
        record.client_closed(40_002, 2_000_000);
        record.now_us = 9_000_000;
        let page = page(record, 1_000_000);
        let all = [
            "<h1>1 of 2 threads is held. &#x2f;up has waited 8.0 s.</h1>",
            "1 January 1970, 00:00 UTC",
            "1 &gt; 0.",
            "Set &lt;it&gt;.",
            ">held, client gone</td>",
            ">tab 2</td>",
            ">8.0 s</td>",
            ">idle</td>",
            ">1.0 s</th>",
            ">closed tab 2</td>",
            "tab 2 closed, client gone",
            "ninetabs serve --threads &#x27;2:2&#x27;",
        ];
        assert_has(&page, &all);
        // This order was given before the window.
        assert!(!page.contains("opened tab") && !page.contains("ot recorded"), "{page}");
    }

    #[test]
    fn the_page_says_which_part_of_its_time_was_not_recorded() {
        let mut record = two_threads();
        record.now_us = 9_000_000;
        (record.unknown_us, record.forgotten) = (vec![(0, 3_000_000)], 77);
        let said = page(record.clone(), 1_000_000);
        assert!(
            said.contains("The first 2.0 s were not recorded") && said.contains(">not recorded</text>"),
            "{said}"
        );
        assert!(said.contains("events not recorded") && said.contains(">77<"), "{said}");
        let complete = page(record, 4_000_000);
        assert!(!complete.contains("ot recorded"), "{complete}");
    }

    #[test]
    fn orphaned_actions_are_in_the_headline_the_lanes_and_the_table_within_the_size_of_a_page() {
        let timeline = Timeline::simulated();
        for worker in 1..=1_000 {
            let (request, target) = (worker as u64, "/models/live_stream?tab=1".into());
            let subject = Some(Subject { connection: request, port: 1, request });
            timeline.let_pass(Duration::from_millis(1));
            timeline.record(None, subject, What::ActionBegan { worker, target });
            timeline.let_pass(Duration::from_millis(1));
            timeline.record(None, subject, What::ActionOrphaned { worker });
        }
        let mut record = Record::default();
        record.take(timeline.after(0));
        record.now_us = 9_000_000;
        let page = page(record, 0);
        let all = [
            "<h1>All 2 threads are idle. Nothing waits. 1000 orphaned actions run.</h1>",
            ">action 1</text>",
            ">tab 1 orphaned</text>",
            ">992 more action threads, 992 orphaned at the end</text>",
            "<th scope=\"row\">action 200</th><td data-label=\"state\">orphaned</td>",
            "800 more rows are not listed.",
        ];
        assert_has(&page, &all);
        assert!(page.len() <= size::MOST_BYTES, "{}", page.len());
    }

    #[test]
    fn an_empty_record_can_be_rendered() {
        let mut record = Record::default();
        record.now_us = 1_000_000;
        let page = page(record, 0);
        assert!(page.contains("<h1>All 2 threads are idle. Nothing waits.</h1>"), "{page}");
    }
}
