//! The output of whole runs, on the terminal and in a pipe.

use std::num::NonZero;
use std::time::Duration;

use console::measure_text_width;

use super::super::super::signs::Signs;
use super::super::measured::{HeldConnections, PageAsk, PageOutcome, Unit};
use super::super::progress::ProbeProgress;
use super::super::thresholds::{FailedThreshold, FoundFigure, Threshold, ThresholdVerdict};
use super::conclusion;
use super::layout::{TextLook, WIDTH};
use super::narration::{Narration, PrintManner};
use super::rows;
use super::samples::{self, Sample};

const PLAIN: TextLook = TextLook { signs: Signs::Unicode, colors: false };

fn text(sample: &Sample, manner: PrintManner, look: TextLook, verdict: &ThresholdVerdict) -> String {
    let mut printed = Vec::new();
    let mut narration = Narration::new(&mut printed, manner, look);
    sample.tell(|progress| narration.hear(progress));
    narration.end(&sample.measured);
    narration.written().unwrap();
    let mut text = String::from_utf8(printed).unwrap();
    conclusion(&sample.run(verdict), look).iter().for_each(|line| text += &format!("{line}\n"));
    text
}

fn in_a_pipe(sample: &Sample) -> String {
    text(sample, PrintManner::Lines, PLAIN, &ThresholdVerdict::Holds)
}

#[test]
fn five_database_connections_on_eight_threads() {
    let expected = "\
baseline   /page 200 in 5 ms    /up 200 in 2 ms          Puma, 8 threads
tabs 1-4   ●●●●   first event 204-219 ms                 /page 3/3   /up 3/3
tab 5      ●      first event 208 ms                     /page 0/3   /up 3/3
tab 6      ○      read; empty 200 after 5.0 s, 3 of 3                /up 3/3
                  /page: 500 after 5.0 s                 Puma: 3 threads idle
a slot     5.4 s after its tab closed, one empty 200 in between (3 of 3)
all closed /page after 5.3 s, a stream after 5.5 s
10 idle    /page answers        5 kept   /page answers
sent       61 requests, 2 pages abandoned; watched for 33.0 s

5 streams at the same time; pages that use the database answer beside 4 of them.

limit   DATABASE POOL (database-pool)
        The next tab waits 5.0 s and gets an empty 200. /page fails after the
        same 5.0 s, /up answers, and Puma has 3 idle threads. Each stream
        holds a database connection.
remedy  Return the connection between queries (Rails 7.2 does), or set pool
        in database.yml to at least the number of threads.
        See it: ninetabs reproduce --act 6
note    late-first-event: 204-219 ms in each tab; Puma delays it (TCP_CORK)
note    stats-disagree: Puma reports 3 idle threads while the next tab waits
next    ninetabs tab http://127.0.0.1:3000/stream
        ninetabs top --control-url tcp://127.0.0.1:9293
";
    assert_eq!(in_a_pipe(&samples::rails()), expected);
}

#[test]
fn three_workers_that_are_killed() {
    let expected = "\
baseline   /page 200 in 2 ms                             gunicorn
tabs 1-2   ●●     first event 1 ms                       /page 3/3
tab 3      ●      first event 1 ms                       /page 0/3
tabs 4-5   ○○     no data in 3 s, not accepted (kernel)
at 9.4 s   ×××    tabs 1-3 ended by the server, 8.2-9.1 s old
           ●●     tabs 4-5 took their slots
all closed /page immediately, a stream immediately
3 idle     /page stops          3 kept   not testable: server closed them
sent       40 requests, 3 pages and 1 stream abandoned; watched for 9.8 s

3 streams at a time; pages answer beside 2. Each is cut off after 8 to 10 s.

limit   WORKERS (workers), or connections
        The fourth tab and the page wait in the kernel until a stream ends.
remedy  More workers, or threads: gunicorn -k gthread --threads N.
        See it: ninetabs reproduce --act 1
note    cut: 5 of 5 at 8.2-9.8 s, abrupt. gunicorn's --timeout kills a worker
        that streams, unless it uses threads or -k gevent.
next    ninetabs tab http://127.0.0.1:8000/stream
";
    assert_eq!(in_a_pipe(&samples::gunicorn()), expected);
}

#[test]
fn five_threads_behind_a_proxy_that_buffers() {
    let expected = "\
baseline   /page 200 in 1 ms    /static 200 in 0.2 ms    nginx
tabs 1-4   ◌◌◌◌   no event (first tab: 12 s)             /page 3/3   /static 3/3
tab 5      ◌      no event                               /page 0/3   /static 3/3
tab 6      ◌      read; no event                                     /static 3/3
all closed /page after 1.0 s
sent       43 requests, 3 pages and 6 streams abandoned; watched for 16.0 s

No stream delivers an event, yet 5 of them stop the pages.

limit   WORKERS (workers), behind the proxy
        /page stops at the fifth stream; /static never does.
note    BUFFERED (buffered): the application runs the streams, and nothing
        reaches the client.
remedy  Send X-Accel-Buffering: no, or set proxy_buffering off. Then probe
        again: the limit of five stays.
next    ninetabs tab http://127.0.0.1/stream
";
    assert_eq!(in_a_pipe(&samples::nginx()), expected);
}

/// The text that remains on a terminal after it has processed the narration's control sequences.
fn screen(output: &str) -> Vec<String> {
    let size = |cells| NonZero::new(cells).unwrap();
    let mut terminal = vt100::Parser::new(size(100), size(80), 0);
    terminal.process(output.replace('\n', "\r\n").as_bytes());
    let rows = terminal.screen().rows(0, 80).map(|row| row.trim_end().to_owned());
    let mut rows: Vec<String> = rows.collect();
    rows.truncate(rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1));
    rows
}

#[test]
fn a_terminal_ends_up_with_the_same_lines_as_a_pipe() {
    for sample in [samples::rails(), samples::gunicorn(), samples::nginx()] {
        let drawn = text(&sample, PrintManner::InPlace { columns: 80 }, PLAIN, &ThresholdVerdict::Holds);
        assert!(drawn.contains("\r\u{1b}[J"), "nothing was redrawn");
        assert!(drawn.contains("now        listening to the open streams (up to 33 s)"), "{drawn}");
        assert_eq!(screen(&drawn), in_a_pipe(&sample).lines().map(str::to_owned).collect::<Vec<_>>());
    }
}

#[test]
fn no_line_is_wider_than_eighty_columns() {
    for mut sample in samples::all() {
        if sample.measured.climbs.is_empty() {
            continue;
        }
        // Paths that are too long to fit beside the other columns.
        for page in &mut sample.measured.baseline {
            page.path = format!("/a/long/path/to/a/page/of/an/application{}", page.path);
        }
        for tab in sample.measured.climbs.iter_mut().flat_map(|climb| &mut climb.tabs) {
            for page in &mut tab.pages {
                page.path = format!("/a/long/path/to/a/page/of/an/application{}", page.path);
            }
        }
        let all = in_a_pipe(&sample);
        let widest = all.lines().max_by_key(|line| measure_text_width(line)).unwrap();
        assert!(measure_text_width(widest) <= WIDTH, "{widest}\n{all}");
    }
}

#[test]
fn control_characters_from_the_server_never_reach_the_terminal() {
    let mut sample = samples::gunicorn();
    sample.measured.target.server = Some("evil\u{1b}[2J\u{9b}31m".to_owned());
    sample.findings.notes[0].text = "a\u{1b}]0;title\u{7}b\u{202e}".to_owned();
    sample.measured.baseline[0].path = "/\u{1b}c".to_owned();
    let all = in_a_pipe(&sample);
    assert!(all.chars().all(|c| c == '\n' || ninetabs_server::escape::is_printable(c)), "{all:?}");
}

#[test]
fn without_utf_8_everything_is_ascii() {
    let look = TextLook { signs: Signs::Plain, colors: false };
    for sample in [samples::rails(), samples::gunicorn(), samples::nginx()] {
        let all = text(&sample, PrintManner::Lines, look, &ThresholdVerdict::Holds);
        assert!(all.is_ascii(), "{all}");
    }
}

#[test]
fn a_threshold_that_fails_is_named_with_its_figure() {
    let failure = FailedThreshold { threshold: Threshold::Streams(5), found: FoundFigure::PagesUntil(4) };
    let all = text(&samples::rails(), PrintManner::Lines, PLAIN, &ThresholdVerdict::Fails(vec![failure]));
    assert!(all.contains("\nfailed  --fail-below 5: pages are answered beside 4 streams\n"), "{all}");
}

#[test]
fn a_run_that_was_not_measured_has_a_sentence_and_advice() {
    let sample = samples::unreachable();
    let lines = conclusion(&sample.run(&ThresholdVerdict::NotMeasured(None)), PLAIN);
    let expected = "\
sent       no requests, none abandoned

Not measured: 127.0.0.1:1 refused the connection.

note    UNREACHABLE (unreachable): 127.0.0.1:1 refused the connection
advice  Start the server.";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn a_page_that_ends_after_the_count_is_printed_at_the_end() {
    let mut sample = samples::rails();
    let late = sample.measured.late_page.take().unwrap();
    let mut printed = Vec::new();
    let mut narration = Narration::new(&mut printed, PrintManner::Lines, PLAIN);
    sample.tell(|progress| narration.hear(progress));
    sample.measured.late_page = Some(late);
    narration.end(&sample.measured);
    let text = String::from_utf8(printed).unwrap();
    assert!(text.ends_with("late page  /page: 500 after 5.0 s\n"), "{text}");
}

#[test]
fn a_pipe_gets_each_fact_once_it_is_complete() {
    let sample = samples::rails();
    let tabs = &sample.measured.climbs[0].tabs;
    let mut printed = Vec::new();
    let mut narration = Narration::new(&mut printed, PrintManner::Lines, PLAIN);
    for tab in &tabs[..4] {
        narration.hear(ProbeProgress::TabJudged(tab));
    }
    drop(narration);
    assert_eq!(printed, b"");
    let mut narration = Narration::new(&mut printed, PrintManner::Lines, PLAIN);
    tabs.iter().for_each(|tab| narration.hear(ProbeProgress::TabJudged(tab)));
    drop(narration);
    assert!(String::from_utf8(printed).unwrap().starts_with("tabs 1-4   ●●●●   "));
}

#[test]
fn long_results_of_idle_and_kept_connections_have_lines_of_their_own() {
    let page = PageAsk { outcome: PageOutcome::Answered, time: Duration::from_millis(1700), place: None };
    let closed_for_a_page = |open_after| HeldConnections {
        n: 6,
        open_before: 6,
        open_after,
        pages: vec![("/page".to_owned(), page)],
        place: None,
    };
    let rows = rows::held(Some(&closed_for_a_page(0)), Some(&closed_for_a_page(5)), &["/page"]);
    let lines: Vec<String> = rows.iter().flat_map(|row| row.lines(PLAIN)).collect();
    assert_eq!(
        lines,
        [
            "6 idle     /page after 1.7 s, once 6 were closed",
            "6 kept     /page after 1.7 s, once 1 was closed",
        ]
    );
}

#[test]
fn what_was_counted_is_stated_if_it_is_not_an_event() {
    let mut sample = samples::gunicorn();
    assert!(!in_a_pipe(&sample).contains("counted:"));
    for (unit, counted) in [(Unit::Line, "counted: lines"), (Unit::SignOfLife, "comments and `retry:`")] {
        sample.measured.target.unit = Some(unit);
        let all = in_a_pipe(&sample);
        assert!(all.contains(counted), "{all}");
    }
}
