//! The screen: a pure drawing of a [`View`] into cells.
//!
//! From above: which server, its gauge and numbers, a lane a thread, todo and who
//! waits in it, what happened last. Rows that do not fit scroll. The lanes' cells
//! are those of [`lanes`], which `reproduce` draws, too.

use std::time::Instant;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use super::canvas::{Canvas, LABEL, bar, bold, dim, level};
use super::numbers::{Pool, Worker};
use super::view::View;
use super::words::{long_span, span};
use crate::lab::lanes::{self, Lane};
use crate::lab::record::{Record, Story};

/// The smallest terminal on which there is something to see.
pub const LEAST: (u16, u16) = (40, 10);
/// How much time a column of a lane is.
const COLUMN_US: u64 = 500_000;
/// Columns of who holds a lane.
const HOLDER: u16 = 18;
/// Rows above the lanes, and the most that are given to those who wait.
const HEAD: u16 = 4;
const MOST_WAITERS: usize = 8;

const HELP: [&str; 19] = [
    "q, Esc, Ctrl-C  leave",
    "p  pause: the picture stands still, the server goes on",
    "?  back to the lanes",
    "arrows, PageUp, PageDown, Home, End  scroll the threads",
    "",
    "threads   those that hold a request; of a Puma, those",
    "          that could take none",
    "busy      threads at work and what waits in todo: above",
    "          the most threads, the excess waits",
    "backlog   requests in todo, which no thread has taken",
    "capacity  requests that could start now: at 0 they wait",
    "running   threads that exist; io: marked as IO-bound",
    "requests  begun since the server started",
    "streams   open; opened, gone (a write failed) and reaped",
    "          since the server started",
    "database  connections lent out; waiting: actions for one",
    "",
    "It reads /stats, which resets backlog_max and reactor_max",
    "for the next who asks. Neither is shown here.",
];

/// How the view is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// The first row of the lanes that is shown.
    pub scroll: usize,
    pub paused: bool,
    pub help: bool,
    pub colours: bool,
    /// Whether there is a keyboard: its keys are named.
    pub keys: bool,
    pub now: Instant,
}

/// How many rows of lanes there are, and how many of them were drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scrolled {
    pub rows: usize,
    pub shown: usize,
}

impl Scrolled {
    /// The last row that may be the first one shown.
    pub fn last(self) -> usize {
        self.rows.saturating_sub(self.shown)
    }
}

/// Draws it all.
pub fn draw(view: &View, look: &Look, area: Rect, buffer: &mut Buffer) -> Scrolled {
    let mut canvas = Canvas { buffer, area, colours: look.colours };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        canvas.too_small();
        return Scrolled::default();
    }
    canvas.title(view);
    canvas.gauge(view);
    canvas.numbers(view);
    canvas.ours(view);
    let legend = area.height > LEAST.1 + 3 && view.record.is_some();
    let foot = u16::from(look.keys || view.trouble.is_some()) + u16::from(legend);
    let bottom = area.height - foot;
    if legend {
        canvas.legend(bottom);
    }
    canvas.foot(view, look, area.height - 1);
    if look.help {
        for (y, line) in (HEAD + 1..bottom).zip(HELP) {
            canvas.pen(y).put(line, Style::new());
        }
        return Scrolled::default();
    }
    match (&view.record, &view.stats.worker_status) {
        (Some(record), _) => canvas.inside(view, record, look, bottom),
        (None, Some(workers)) => canvas.workers(view, workers, look, bottom),
        (None, None) => {
            canvas.history(view, HEAD);
            Scrolled::default()
        }
    }
}

/// How high a screen must be that shows all rows and these many events.
pub fn height_of_all(view: &View, events: usize) -> u16 {
    let rows = match (&view.record, &view.stats.worker_status) {
        (Some(record), _) => record.threads.len() + record.todo().count() + 4 + events.min(view.events.len()),
        (None, Some(workers)) => workers.len() + 3,
        (None, None) => 3,
    };
    LEAST.1.max(u16::try_from(rows + usize::from(HEAD) + 2).unwrap_or(u16::MAX))
}

/// Rows as they are shared out among threads, those who wait, and events.
#[derive(Debug, PartialEq, Eq)]
struct Shares {
    rows: usize,
    waiters: usize,
    events: usize,
}

/// The threads come first, but not without two who wait and three events where there is room.
fn share(room: usize, rows: usize, waiters: usize, events: usize) -> Shares {
    let some_waiters = waiters.min(2).min(room.saturating_sub(1));
    let some_events = if room >= 10 { events.min(3) } else { 0 };
    let rows = rows.min(room.saturating_sub(some_waiters + some_events));
    let left = room - rows;
    let waiters = waiters.min(MOST_WAITERS).min(left.saturating_sub(some_events));
    Shares { rows, waiters, events: events.min(left - waiters) }
}

impl Canvas<'_> {
    fn too_small(&mut self) {
        let (width, height) = LEAST;
        let lines = [
            format!("{} x {} is too small:", self.area.width, self.area.height),
            format!("{width} x {height} are needed"),
        ];
        for (y, line) in (0..self.area.height).zip(lines) {
            self.pen(y).put(&line, Style::new());
        }
    }

    fn title(&mut self, view: &View) {
        let puma = view.stats.versions.puma.as_deref();
        let what = match (&view.stats.versions.ninetabs, puma) {
            (Some(ninetabs), puma) => format!("ninetabs {ninetabs}, as Puma {}", puma.unwrap_or_default()),
            (None, puma) => format!("Puma {}", puma.unwrap_or_default()).trim_end().to_owned(),
        };
        let mut pen = self.pen(0);
        pen.put(&view.address, bold());
        pen.put_if_it_fits(&format!("  {what}"), Style::new());
        if let Some(up_us) = view.up_us {
            pen.put_if_it_fits(&format!("  up {}", long_span(up_us / 1_000_000)), Style::new());
        }
    }

    fn gauge(&mut self, view: &View) {
        let pool = view.stats.whole();
        let held = view
            .record
            .as_ref()
            .map(|record| record.stories.values().filter(|story| story.is_running()).count() as u64);
        let (Some(count), Some(max)) = (held.or_else(|| pool.taken()), pool.max_threads) else { return };
        let words = if held.is_some() { "hold a request" } else { "could take none" };
        let is_full = pool.pool_capacity == Some(0);
        let style = self.colour(Style::new(), if is_full { Color::Yellow } else { Color::Cyan });
        let width = (self.area.width / 4).clamp(8, 32);
        let mut pen = self.pen(1);
        pen.put("threads", dim()).tab(LABEL + 1).put(&bar(count, max, width), style);
        pen.put(&format!(" {count} of {max}"), bold()).put_if_it_fits(&format!(" {words}"), Style::new());
    }

    fn numbers(&mut self, view: &View) {
        let pool = view.stats.whole();
        let items = [
            ("busy", pool.busy_threads, pool.busy_threads > pool.max_threads),
            ("backlog", pool.backlog, pool.backlog > Some(0)),
            ("capacity", pool.pool_capacity, pool.pool_capacity == Some(0)),
            ("requests", pool.requests_count, false),
            ("running", pool.running, false),
            ("io", pool.io_threads, false),
        ];
        let items = items.into_iter().filter_map(|(name, value, alarm)| Some((name, value?, alarm)));
        self.items(2, "stats", items.collect());
    }

    /// What only ours tells: the other two limits.
    fn ours(&mut self, view: &View) {
        let (Some(streams), Some(database)) = (view.stats.streams, view.stats.database) else { return };
        let mut items = vec![
            ("streams", streams.open, false),
            ("opened", streams.opened, false),
            ("gone", streams.disconnected, false),
            ("reaped", streams.reaped, false),
            ("database", database.busy, database.busy == database.size),
            ("of", database.size, database.busy == database.size),
        ];
        if database.waiting > 0 {
            items.push(("waiting", database.waiting, true));
        }
        if let Some(open) = view.stats.connections.and_then(|connections| connections.open) {
            items.push(("connections", open, false));
        }
        self.items(3, "", items);
    }

    fn inside(&mut self, view: &View, record: &Record, look: &Look, bottom: u16) -> Scrolled {
        let waiters = waiters(view, record);
        let room = usize::from(bottom.saturating_sub(HEAD + 2));
        let shares = share(room, record.threads.len(), waiters.len(), view.events.len());
        let scrolled = Scrolled { rows: record.threads.len(), shown: shares.rows };
        let first = look.scroll.min(scrolled.last());

        let columns = usize::from(self.area.width.saturating_sub(LABEL + HOLDER + 1));
        let lanes = recent(record, columns);
        let (threads, todo) = lanes.split_at(lanes.len().saturating_sub(1));
        self.lanes_title(HEAD, columns, scrolled, first);
        let mut y = HEAD + 1;
        for lane in threads.iter().skip(first).take(shares.rows).chain(todo) {
            self.lane(y, lane, columns);
            y += 1;
        }
        for (number, line) in waiters.iter().take(shares.waiters).enumerate() {
            let hidden = waiters.len() - number - 1;
            let is_last = number + 1 == shares.waiters && hidden > 0;
            let style = self.colour(Style::new(), Color::Yellow);
            let line = if is_last { format!("and {} more wait", hidden + 1) } else { line.clone() };
            self.pen(y).tab(LABEL).put(&line, style);
            y += 1;
        }
        for event in view.events.iter().skip(view.events.len() - shares.events) {
            let at = format!("{:>7} ", format!("{:.1}", event.at_us as f64 / 1e6));
            self.pen(y).put(&at, dim()).put(&event.text, Style::new());
            y += 1;
        }
        scrolled
    }

    fn lanes_title(&mut self, y: u16, columns: usize, scrolled: Scrolled, first: usize) {
        let seconds = columns as u64 * COLUMN_US / 1_000_000;
        let mut pen = self.pen(y);
        pen.put("lanes", dim()).tab(LABEL).put(&format!("the last {seconds} s"), dim());
        if scrolled.last() > 0 {
            let Scrolled { rows, shown } = scrolled;
            let text = format!("  threads {} to {} of {rows}", first + 1, first + shown);
            pen.put_if_it_fits(&text, Style::new());
        }
        pen.tab(LABEL + columns as u16 - 3).put_if_it_fits("now", dim());
    }

    fn workers(&mut self, view: &View, workers: &[Worker], look: &Look, bottom: u16) -> Scrolled {
        let y = self.history(view, HEAD);
        let scrolled = Scrolled { rows: workers.len(), shown: workers.len().min(usize::from(bottom - y)) };
        let shown = workers.iter().skip(look.scroll.min(scrolled.last())).take(scrolled.shown);
        for (y, worker) in (y..bottom).zip(shown) {
            let Pool { backlog, pool_capacity, max_threads, requests_count, .. } = worker.last_status;
            let mut line = format!("worker {} (pid {}, phase {})", worker.index, worker.pid, worker.phase);
            if !worker.booted {
                line.push_str("  is not up yet");
            }
            let taken = worker.last_status.taken().zip(max_threads);
            let taken = taken.map(|(taken, max)| format!("  {taken} of {max}"));
            let item = |name, value: Option<u64>| value.map(|value| format!("  {name} {value}"));
            let items =
                [item("backlog", backlog), item("capacity", pool_capacity), item("requests", requests_count)];
            let style = self.alarm(backlog > Some(0) || pool_capacity == Some(0));
            let mut pen = self.pen(y);
            pen.put(&line, Style::new());
            for text in taken.into_iter().chain(items.into_iter().flatten()) {
                pen.put_if_it_fits(&text, style);
            }
        }
        scrolled
    }

    /// Of a server that does not tell what goes on inside: its numbers, a column an answer.
    fn history(&mut self, view: &View, y: u16) -> u16 {
        let columns = usize::from(self.area.width - LABEL - 1);
        let shown = || view.samples.iter().skip(view.samples.len().saturating_sub(columns));
        let most_backlog = shown().filter_map(|pool| pool.backlog).max().unwrap_or_default();
        let in_use: String =
            shown().map(|pool| level(pool.taken(), pool.max_threads.unwrap_or_default())).collect();
        let backlog: String = shown().map(|pool| level(pool.backlog, most_backlog)).collect();
        let (cyan, yellow) =
            (self.colour(Style::new(), Color::Cyan), self.colour(Style::new(), Color::Yellow));
        self.pen(y).put("in use", dim()).tab(LABEL + 1).put(&in_use, cyan);
        self.pen(y + 1).put("backlog", dim()).tab(LABEL + 1).put(&backlog, yellow);
        y + 2
    }

    fn foot(&mut self, view: &View, look: &Look, y: u16) {
        let keys = "q leave  p pause  ? help";
        let (text, style) = match &view.trouble {
            Some(why) => {
                let silent = look.now.saturating_duration_since(view.answered).as_secs();
                let text = format!("no answer for {}, asking again: {why}", long_span(silent));
                (text, self.colour(bold(), Color::Red))
            }
            None if look.paused => ("paused: p goes on  q leave  ? help".to_owned(), bold()),
            None if look.keys => (keys.to_owned(), dim()),
            None => return,
        };
        self.pen(y).put(&text, style);
    }
}

/// The lanes of the last moments, a column for [`COLUMN_US`]; fewer columns of a young server.
fn recent(record: &Record, columns: usize) -> Vec<Lane> {
    // In whole columns, so that what has been drawn moves on and does not flicker.
    let end = record.now_us / COLUMN_US + 1;
    let columns = (columns as u64).min(end);
    lanes::draw(record, (end - columns) * COLUMN_US, end * COLUMN_US, columns as usize)
}

/// Who waits in todo, for how long, for what.
fn waiters(view: &View, record: &Record) -> Vec<String> {
    let line = |story: &Story| {
        let waits = span(record.now_us.saturating_sub(story.queued_us));
        match story.target.as_str() {
            "" => format!("connection {} waits {waits}, and has said nothing yet", story.connection),
            target => format!("{} waits {waits} for {target}", story.name()),
        }
    };
    let mut lines: Vec<String> = record.todo().map(line).collect();
    let unknown = view.stats.pool.backlog.unwrap_or_default().saturating_sub(lines.len() as u64);
    if unknown > 0 && record.forgotten > 0 {
        lines.push(format!("and {unknown} of which the timeline has forgotten the names"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::asker::{Answers, Inside};
    use super::super::numbers::Stats;
    use super::*;
    use crate::lab::record::Seat;
    use crate::timeline::{Subject, Timeline, What};

    fn look() -> Look {
        Look { scroll: 0, paused: false, help: false, colours: true, keys: true, now: Instant::now() }
    }

    /// So many threads, the first two of which stream; a page waits.
    fn ours(threads: usize) -> View {
        let timeline = Timeline::default();
        let say = |thread, request, what| {
            let subject = Some(Subject { connection: 40_000 + request, request });
            timeline.record(thread, subject, what);
        };
        for tab in [1, 2] {
            let thread = Some(tab as usize);
            say(None, tab, What::accepted("GET", &format!("/models/live_stream?tab={tab}")));
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
        let stats: Stats = serde_json::from_str(&said).unwrap();
        let seats = (1..=threads).map(|thread| Seat { thread, held: None }).collect();
        let url = "tcp://127.0.0.1:9293".parse().unwrap();
        let answers = Answers { url, anew: true, stats, inside: Some(Inside { excerpt, seats }) };
        let mut view = View::new(answers, Instant::now());
        view.up_us = Some(8_000_000);
        view
    }

    fn drawn(view: &View, look: &Look, width: u16, height: u16) -> (Vec<String>, Scrolled) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut scrolled = Scrolled::default();
        terminal.draw(|frame| scrolled = draw(view, look, frame.area(), frame.buffer_mut())).unwrap();
        let cells = terminal.backend().buffer().content();
        let rows = cells.chunks(usize::from(width).max(1));
        let rows = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
        (rows.map(|row| row.trim_end().to_owned()).collect(), scrolled)
    }

    #[test]
    fn the_whole_screen() {
        let (rows, scrolled) = drawn(&ours(2), &look(), 80, 20);
        assert_eq!(
            rows[..10],
            [
                "tcp://127.0.0.1:9293  ninetabs 0.1.0, as Puma 8.0.2  up 8 s",
                "threads  ████████████████████ 2 of 2 hold a request",
                "stats    busy 3  backlog 1  capacity 0  requests 2  running 2  io 0",
                "streams 2  opened 2  gone 0  reaped 0  database 2 of 2  connections 3",
                "lanes   the last 26 s                                     now",
                "tp 001                                      ●──────────────── tab 1",
                "tp 002                                      ●──────────────── tab 2",
                "todo                                        ░░░░░░░░░░░░░░░░░ /up",
                "        /up waits 8.1 s for /up",
                "    0.0 tab 1 streams, and holds tp 001",
            ]
        );
        assert_eq!(rows[18], "─ held  ● wrote  ▓ blocked  R reaped  x client gone  · idle  ░ in todo");
        assert_eq!(rows[19], "q leave  p pause  ? help");
        assert_eq!(scrolled, Scrolled { rows: 2, shown: 2 });
    }

    #[test]
    fn no_size_is_a_panic() {
        let views = [ours(0), ours(40)];
        for view in &views {
            for (width, height) in
                (0..60).flat_map(|width| [0, 1, 3, 9, 10, 11, 14, 40].map(|height| (width, height)))
            {
                for help in [false, true] {
                    drawn(view, &Look { scroll: 1_000, help, ..look() }, width, height);
                }
            }
        }
        assert_eq!(drawn(&views[0], &look(), 39, 10).0[0], "39 x 10 is too small:");
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
    fn a_server_that_is_silent_is_told_with_the_last_picture() {
        let mut view = ours(2);
        view.trouble = Some("nobody".into());
        let look = Look { now: view.answered + Duration::from_secs(65), ..look() };
        let (rows, _) = drawn(&view, &look, 80, 20);
        assert_eq!(rows[19], "no answer for 1 min 5 s, asking again: nobody");
        assert!(rows[5].ends_with("tab 1"), "{}", rows[5]);
    }

    #[test]
    fn a_puma_has_its_numbers_and_their_past() {
        let answers = |said: &str| {
            let url = "tcp://127.0.0.1:9293".parse().unwrap();
            Answers { url, anew: false, stats: serde_json::from_str(said).unwrap(), inside: None }
        };
        let single = |capacity: u64| {
            format!(
                r#"{{"backlog":0,"running":4,"pool_capacity":{capacity},"max_threads":4,"requests_count":7}}"#
            )
        };
        let mut view = View::new(answers(&single(4)), Instant::now());
        view.take(answers(&single(2)), Instant::now());
        view.take(answers(&single(0)), Instant::now());
        let (rows, _) = drawn(&view, &look(), 80, 20);
        let expected = [
            "tcp://127.0.0.1:9293  Puma",
            "threads  ████████████████████ 4 of 4 could take none",
            "stats    backlog 0  capacity 0  requests 7  running 4",
            "",
            "in use   ·▄█",
            "backlog  ···",
        ];
        assert_eq!(rows[..6], expected);
    }

    #[test]
    fn threads_first_then_who_waits_then_events() {
        let shares = |room, rows, waiters, events| {
            let Shares { rows, waiters, events } = share(room, rows, waiters, events);
            (rows, waiters, events)
        };
        assert_eq!(shares(15, 8, 1, 100), (8, 1, 6));
        assert_eq!(shares(10, 40, 30, 100), (5, 2, 3));
        assert_eq!(shares(4, 40, 30, 100), (2, 2, 0));
        assert_eq!(shares(30, 3, 30, 100), (3, 8, 19));
        assert_eq!(shares(0, 3, 3, 3), (0, 0, 0));
    }
}
