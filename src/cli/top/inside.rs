//! The screen of a ninetabs: one lane per thread, the queue and the requests in it, and the latest events.

use ratatui::style::{Color, Style};

use super::canvas::{Canvas, LABEL, dim};
use super::look::{Look, Scrolled};
use super::view::TopView;
use super::words::{Tone, span};
use crate::lab::lanes::{self, Lane};
use crate::lab::record::Record;
use crate::lab::story::Story;

/// The time that one column of a lane shows.
const COLUMN_US: u64 = 500_000;
/// Columns for the name of the request that holds a lane.
const HOLDER: u16 = 18;
/// The maximum number of rows for waiting requests.
const MOST_WAITERS: usize = 8;

/// The number of rows that show all threads, the waiting requests and this many events.
pub fn height_of_all(view: &TopView, record: &Record, events: usize) -> usize {
    let waiters = waiters(view, record).len().min(MOST_WAITERS);
    // The title and the queue are two rows, the legend and the keys two more.
    let lanes = record.threads().len() + record.actions.count().0;
    lanes + waiters + events.min(view.events.len()) + 4
}

impl Canvas<'_> {
    /// The style of an event's text.
    fn tone(&self, tone: Tone) -> Style {
        let color = match tone {
            Tone::Plain => return Style::new(),
            Tone::Held => Color::Cyan,
            Tone::Waiting => Color::Yellow,
            Tone::Reaped => Color::Magenta,
            Tone::Error => Color::Red,
            Tone::Answered => Color::Green,
        };
        self.color(Style::new(), color)
    }

    /// Draws from the row `top` up to the row `bottom`.
    pub fn inside(
        &mut self,
        view: &TopView,
        record: &Record,
        look: &Look<'_>,
        top: u16,
        bottom: u16,
    ) -> Scrolled {
        let waiters = waiters(view, record);
        let room = usize::from(bottom.saturating_sub(top + 2));
        let columns = usize::from(self.area.width.saturating_sub(LABEL + HOLDER + 1));
        let lanes = recent(record, columns);
        let (threads, todo) = lanes.split_at(lanes.len().saturating_sub(1));
        let shares = share(room, threads.len(), waiters.len(), view.events.len());
        let scrolled = Scrolled { rows: threads.len(), shown: shares.rows };
        let first = look.scroll.min(scrolled.last());

        self.lanes_title(top, columns, scrolled, first);
        let mut y = top + 1;
        for lane in threads.iter().skip(first).take(shares.rows).chain(todo) {
            self.lane(y, lane, columns);
            y += 1;
        }
        for (number, line) in waiters.iter().take(shares.waiters).enumerate() {
            let hidden = waiters.len() - number - 1;
            let is_last = number + 1 == shares.waiters && hidden > 0;
            let style = self.color(Style::new(), Color::Yellow);
            let line = if is_last { format!("and {} more", hidden + 1) } else { line.clone() };
            self.pen(y).tab(LABEL).put(&line, style);
            y += 1;
        }
        for event in view.events.iter().skip(view.events.len() - shares.events) {
            let at = format!("{:>7} ", format!("{:.1}", event.at_us as f64 / 1e6));
            let tone = self.tone(event.tone);
            self.pen(y).put(&at, dim()).put(&event.text, tone);
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

/// The rows for threads, waiting requests and events.
#[derive(Debug, PartialEq, Eq)]
struct Shares {
    rows: usize,
    waiters: usize,
    events: usize,
}

/// The threads have priority, but at least two waiting requests and three events are shown if they fit.
fn share(room: usize, rows: usize, waiters: usize, events: usize) -> Shares {
    let some_waiters = waiters.min(2).min(room.saturating_sub(1));
    let some_events = if room >= 10 { events.min(3) } else { 0 };
    let rows = rows.min(room.saturating_sub(some_waiters + some_events));
    let left = room - rows;
    let waiters = waiters.min(MOST_WAITERS).min(left.saturating_sub(some_events));
    Shares { rows, waiters, events: events.min(left - waiters) }
}

/// The lanes up to now, one column per [`COLUMN_US`]. A server that started recently has fewer columns.
fn recent(record: &Record, columns: usize) -> Vec<Lane> {
    // Aligned to whole columns, so that drawn cells move left without flicker.
    let end = record.now_us / COLUMN_US + 1;
    let columns = (columns as u64).min(end);
    let at = |column: u64| column.saturating_mul(COLUMN_US);
    lanes::draw(record, at(end - columns), at(end), columns as usize)
}

/// The waiting requests: how long each has waited, and for what.
fn waiters(view: &TopView, record: &Record) -> Vec<String> {
    let line = |story: &Story| {
        let waits = span(record.now_us.saturating_sub(story.queued_us));
        match story.target.as_str() {
            "" => format!("{} has waited {waits}; its request is unread", story.name()),
            target => format!("{} has waited {waits} for {target}", story.name()),
        }
    };
    let mut lines: Vec<String> = record.todo().map(line).collect();
    let unknown = view.stats.pool.backlog.unwrap_or_default().saturating_sub(lines.len() as u64);
    if unknown > 0 && record.forgotten > 0 {
        lines.push(format!("and {unknown} more, whose names are no longer recorded"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_threads_first_then_to_waiting_requests_then_to_events() {
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
