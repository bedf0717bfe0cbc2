use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::asker::Answers;
use super::super::canvas::text_of;
use super::super::numbers::{StatsAnswer, WarningAnswer};
use super::*;
use ninetabs_server::timeline::{Subject, Timeline, What};

fn look() -> Look<'static> {
    Look { scroll: 0, paused: false, help: false, colors: true, keys: true, silence: None }
}

/// This many threads, the first two of which stream; a page waits.
fn answers(threads: usize) -> Answers {
    let timeline = Timeline::default();
    let say = |thread, request, what| {
        let subject = Some(Subject { connection: 40_000 + request, port: 0, request });
        timeline.record(thread, subject, what);
    };
    for thread in 1..=threads {
        timeline.record(Some(thread), None, What::Spawned);
    }
    for tab in [1, 2] {
        let thread = Some(tab as usize);
        say(None, tab, What::accepted("GET", format!("/models/live_stream?tab={tab}")));
        say(None, tab, What::Queued);
        say(thread, tab, What::Started);
        say(thread, tab, What::Streaming);
        say(thread, tab, What::Wrote { bytes: 9 });
    }
    say(None, 3, What::accepted("GET", "/up"));
    say(None, 3, What::Queued);
    let mut excerpt = timeline.after(0);
    excerpt.now_us = 8_100_000;
    let said = format!(
        r#"{{"started_at":"2026-11-25T23:19:25Z","backlog":1,"running":{threads},"pool_capacity":0,
        "busy_threads":3,"io_threads":0,"max_threads":{threads},"requests_count":2,
        "versions":{{"puma":"8.0.2","ninetabs":"0.1.0"}},"streams":{{"open":2,"opened":2}},
        "database":{{"size":2,"busy":2}},"connections":{{"open":3}}}}"#
    );
    let stats: StatsAnswer = serde_json::from_str(&said).unwrap();
    let url = "tcp://127.0.0.1:9293".parse().unwrap();
    Answers { url, anew: true, stats, inside: Some(excerpt) }
}

fn ours(threads: usize) -> TopView {
    let mut view = TopView::new(answers(threads), Instant::now());
    view.up_us = Some(8_000_000);
    view
}

fn drawn(view: &TopView, look: &Look<'_>, width: u16, height: u16) -> (Vec<String>, Scrolled) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut scrolled = Scrolled::default();
    terminal.draw(|frame| scrolled = draw(view, look, frame.area(), frame.buffer_mut())).unwrap();
    let cells = terminal.backend().buffer().content();
    let rows = cells.chunks(usize::from(width).max(1));
    let rows = rows.map(text_of);
    (rows.map(|row| row.trim_end().to_owned()).collect(), scrolled)
}

#[test]
fn the_screen_of_a_ninetabs_from_top_to_bottom() {
    let (rows, scrolled) = drawn(&ours(2), &look(), 80, 20);
    assert_eq!(
        rows[..10],
        [
            "tcp://127.0.0.1:9293  ninetabs 0.1.0, as Puma 8.0.2  up 8 s",
            "threads ████████████████████ 2 of 2 threads held",
            "stats   busy 3  backlog 1  capacity 0  requests 2  running 2  io 0",
            "streams open 2  opened 2  failed 0  reaped 0  database 2 of 2  connections 3",
            "lanes   the last 26 s                                     now",
            "tp 001                                      ●──────────────── tab 1",
            "tp 002                                      ●──────────────── tab 2",
            "queue                                       ░░░░░░░░░░░░░░░░░ /up",
            "        /up has waited 8.1 s for /up",
            "    0.0 tp 001 started",
        ]
    );
    assert_eq!(rows[18], "● write  ─ held  ╌ client gone  · idle  ░ waiting  × write failed  R reaped");
    assert_eq!(rows[19], "q quit  p pause  ? help");
    assert_eq!(scrolled, Scrolled { rows: 2, shown: 2 });
}

fn warned(threads: usize) -> TopView {
    let warning = |text: &str, remedy: &str| WarningAnswer { text: text.into(), remedy: remedy.into() };
    let mut view = ours(threads);
    view.stats.warnings = vec![
        warning(
            "All 8 threads are held by streams; 12 requests wait, the first for 120 s.",
            "Set a maximum age, or use a fix that holds no thread.",
        ),
        warning(
            "2 clients have closed; their threads are held until the second write fails.",
            "With --notice-close poll a thread is freed within milliseconds.",
        ),
        warning("A write to zombie-2 has been blocked for 7 s.", "Lower --write-timeout."),
        warning("A fourth.", "It is left out."),
    ];
    view
}

#[test]
fn warnings_are_above_the_lanes_with_their_remedies_if_there_is_space() {
    let (rows, _) = drawn(&warned(8), &look(), 80, 40);
    assert_eq!(
        rows[4..10],
        [
            "▲ All 8 threads are held by streams; 12 requests wait, the first for 120 s. Set",
            "  a maximum age, or use a fix that holds no thread.",
            "▲ 2 clients have closed; their threads are held until the second write fails.",
            "  With --notice-close poll a thread is freed within milliseconds.",
            "▲ A write to zombie-2 has been blocked for 7 s. Lower --write-timeout.",
            "lanes   the last 26 s                                     now",
        ]
    );
    // All threads and the queue are on a screen of 24 rows.
    let (rows, scrolled) = drawn(&warned(8), &look(), 80, 24);
    assert_eq!(
        rows[4..8],
        [
            "▲ All 8 threads are held by streams; 12 requests wait, the first for 120 s.",
            "▲ 2 clients have closed; their threads are held until the second write fails.",
            "▲ A write to zombie-2 has been blocked for 7 s.",
            "lanes   the last 26 s                                     now",
        ]
    );
    assert_eq!((scrolled.rows, scrolled.shown), (8, 8));
    assert!(rows.iter().all(|row| console::measure_text_width(row) <= 80), "{rows:?}");
    let (rows, _) = drawn(&warned(2), &look(), 80, 14);
    assert!(rows[4].starts_with("lanes "), "{rows:?}");
    assert!(usize::from(height_of_all(&warned(8), 10, 80)) > usize::from(height_of_all(&ours(8), 10, 80)));
}

#[test]
fn every_size_of_a_terminal_is_drawn_without_a_panic() {
    let views = [ours(0), ours(40), warned(3)];
    for view in &views {
        for (width, height) in
            (0..60).flat_map(|width| [0, 1, 3, 9, 10, 11, 14, 40].map(|height| (width, height)))
        {
            for help in [false, true] {
                drawn(view, &Look { scroll: 1_000, help, ..look() }, width, height);
                let silence = Some("no answer for 1 min, retrying: a reason of a few words 模型");
                drawn(view, &Look { scroll: 1_000, help, silence, ..look() }, width, height);
            }
        }
    }
    assert_eq!(drawn(&views[0], &look(), 39, 10).0[0], "39 x 10 is too small:");
    // Neighboring texts do not run together.
    assert_eq!(drawn(&ours(2), &look(), 40, 12).0[4], "lanes   the last 6 s");
}

#[test]
fn the_usual_terminal_shows_all_of_the_help() {
    let (rows, _) = drawn(&ours(8), &Look { help: true, ..look() }, 80, 24);
    assert_eq!(rows[usize::from(HEAD)..23], HELP);
}

#[test]
fn threads_beyond_the_maximum_of_the_pool_are_counted() {
    let mut view = ours(2);
    view.stats.pool.running = Some(3);
    let (rows, _) = drawn(&view, &look(), 80, 20);
    assert!(rows[1].ends_with("2 of 3 threads held"), "{}", rows[1]);
}

#[test]
fn text_from_a_client_cannot_control_the_terminal() {
    let mut answers = answers(2);
    for moment in &mut answers.inside.as_mut().unwrap().moments {
        if let What::Accepted { target, .. } = &mut moment.what {
            *target = "/\u{1b}[2J\u{9b}31m\r\n<script>?tab=\u{7}".into();
        }
    }
    let (rows, _) = drawn(&TopView::new(answers, Instant::now()), &look(), 100, 30);
    assert!(!rows.concat().contains(char::is_control), "{rows:?}");
}

#[test]
fn threads_that_do_not_fit_scroll() {
    let view = ours(40);
    let (rows, scrolled) = drawn(&view, &Look { scroll: 5, ..look() }, 80, 24);
    assert!(rows[4].contains(&format!("threads 6 to {} of 40", 5 + scrolled.shown)), "{}", rows[4]);
    assert!(rows[5].starts_with("tp 006"), "{}", rows[5]);
    let (rows, _) = drawn(&view, &Look { scroll: 1_000, ..look() }, 80, 24);
    assert!(rows.iter().any(|row| row.starts_with("tp 040")), "{rows:?}");
}

#[test]
fn a_silent_server_is_reported_under_the_last_screen() {
    let now = Instant::now();
    let mut view = TopView::new(answers(2), now);
    assert_eq!(view.silence(now), None);
    view.miss("a reason".into());
    let still = view.clone();
    let silence = view.silence(now + Duration::from_secs(65));
    let foot = |view: &TopView, paused, silence: Option<&str>| {
        let (mut rows, _) = drawn(view, &Look { paused, silence, ..look() }, 80, 20);
        assert!(rows[5].ends_with("tab 1"), "{}", rows[5]);
        rows.pop().unwrap()
    };
    assert_eq!(foot(&view, false, silence.as_deref()), "no answer for 1 min 5 s, retrying: a reason");
    assert!(foot(&still, true, silence.as_deref()).starts_with("paused: p resumes; no answer for 1 min"));
    // Answers arrive again, but the paused picture stays.
    view.take(answers(2), now);
    assert_eq!(foot(&still, true, view.silence(now).as_deref()), "paused: p resumes  q quit  ? help");
}

#[test]
fn without_answers_the_numbers_are_dim_and_the_reason_is_wrapped() {
    let view = ours(2);
    let why = "no answer for 1 min 5 s, retrying: cannot connect to tcp://127.0.0.1:9293: connection \
               refused. Start a server with `ninetabs`, or name one with --control-url or --state";
    let look = Look { silence: Some(why), ..look() };
    let mut terminal = Terminal::new(TestBackend::new(80, 20)).unwrap();
    let mut dims = |look: &Look<'_>| {
        terminal
            .draw(|frame| {
                draw(&view, look, frame.area(), frame.buffer_mut());
            })
            .unwrap();
        let buffer = terminal.backend().buffer();
        let is_dim = |x, y| buffer[(x, y)].modifier.contains(Modifier::DIM);
        let is_bold = |x, y| buffer[(x, y)].modifier.contains(Modifier::BOLD);
        // The address, the gauge, numbers, a lane, and the foot.
        (
            [(0, 0), (10, 1), (10, 2), (10, 3), (50, 5)].map(|(x, y)| is_dim(x, y) && !is_bold(x, y)),
            is_bold(0, 18),
        )
    };
    assert_eq!(dims(&look), ([true; 5], true));
    assert!(dims(&self::look()).0.contains(&false));
    let (rows, _) = drawn(&view, &look, 80, 20);
    assert_eq!(rows[17..].join(" "), why);
    // A narrower terminal shows all of it.
    let (rows, _) = drawn(&view, &look, 50, 20);
    assert_eq!(rows[16..].join(" "), why);
    assert_eq!(wrapped(&"x".repeat(25), 10), ["x".repeat(10), "x".repeat(10), "x".repeat(5)]);
    assert_eq!(wrapped("a模型b", 3), ["a模", "型b"]);
}

#[test]
fn the_screen_of_a_puma_has_its_numbers_and_their_history() {
    let answers = |said: &str| {
        let url = "tcp://127.0.0.1:9293".parse().unwrap();
        Answers { url, anew: false, stats: serde_json::from_str(said).unwrap(), inside: None }
    };
    let single = |capacity: u64| {
        format!(
            r#"{{"backlog":0,"running":4,"pool_capacity":{capacity},"max_threads":4,"requests_count":7}}"#
        )
    };
    let mut view = TopView::new(answers(&single(4)), Instant::now());
    view.take(answers(&single(2)), Instant::now());
    view.take(answers(&single(0)), Instant::now());
    let (rows, _) = drawn(&view, &look(), 80, 20);
    let expected = [
        "tcp://127.0.0.1:9293  Puma",
        "threads ████████████████████ 4 of 4 threads held",
        "stats   backlog 0  capacity 0  requests 7  running 4",
        "",
        "held    ·▄█",
        "backlog ···",
    ];
    assert_eq!(rows[..6], expected);
}
