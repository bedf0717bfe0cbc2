//! What goes on inside a server of ours: a lane a thread, todo and who waits in it, and
//! what happened last.

use ratatui::style::{Color, Style};

use super::canvas::{Canvas, LABEL, dim};
use super::look::{HEAD, Look, Scrolled};
use super::view::TopView;
use super::words::span;
use crate::lab::lanes::{self, Lane};
use crate::lab::record::Record;
use crate::lab::story::Story;

/// How much time a column of a lane is.
const COLUMN_US: u64 = 500_000;
/// Columns of who holds a lane.
const HOLDER: u16 = 18;
/// The most rows that are given to those who wait.
const MOST_WAITERS: usize = 8;

/// How many rows it takes to show all threads, those who wait, and so many events.
pub fn height_of_all(view: &TopView, record: &Record, events: usize) -> usize {
    let waiters = waiters(view, record).len().min(MOST_WAITERS);
    // The lanes' title and todo are two rows, the legend and what is above it two more.
    record.threads().len() + waiters + events.min(view.events.len()) + 4
}

impl Canvas<'_> {
    pub fn inside(&mut self, view: &TopView, record: &Record, look: &Look<'_>, bottom: u16) -> Scrolled {
        let waiters = waiters(view, record);
        let room = usize::from(bottom.saturating_sub(HEAD + 2));
        let shares = share(room, record.threads().len(), waiters.len(), view.events.len());
        let scrolled = Scrolled { rows: record.threads().len(), shown: shares.rows };
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
        let now = LABEL + columns as u16 - 3;
        if pen.x < now {
            pen.tab(now).put("now", dim());
        }
    }
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

/// The lanes of the last moments, a column for [`COLUMN_US`]; fewer columns of a young server.
fn recent(record: &Record, columns: usize) -> Vec<Lane> {
    // In whole columns, so that what has been drawn moves on and does not flicker.
    let end = record.now_us / COLUMN_US + 1;
    let columns = (columns as u64).min(end);
    let at = |column: u64| column.saturating_mul(COLUMN_US);
    lanes::draw(record, at(end - columns), at(end), columns as usize)
}

/// Who waits in todo, for how long, for what.
fn waiters(view: &TopView, record: &Record) -> Vec<String> {
    let line = |story: &Story| {
        let waits = span(record.now_us.saturating_sub(story.queued_us));
        match story.target.as_str() {
            "" => format!("{} waits {waits}, without a whole request yet", story.name()),
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
    use super::*;

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
