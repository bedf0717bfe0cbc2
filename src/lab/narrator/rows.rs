//! The rows of one picture: lanes with names inside, the queue, and the time axis with the caption.

use std::borrow::Borrow;

use console::{Style, measure_text_width};

use super::super::lanes::{self, Cell, Lane};
use super::super::record::Record;
use super::super::signs::Signs;
use super::wrapped;
use crate::words;

/// Columns of a lane's label.
pub const LABEL: usize = 10;
/// Columns to the right of the cells, for a waiting request whose name is not in the lane.
const BESIDE: usize = 8;
/// Maximum number of columns of a lane.
const MOST_CELLS: usize = 100;
/// Maximum number of threads that are drawn separately.
pub const MOST_LANES: usize = 16;

/// How a picture is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    pub signs: Signs,
    pub caption: &'a str,
    /// Columns of the terminal.
    pub width: usize,
}

impl Picture<'_> {
    /// The rows of a record, starting at this time, with at most `most` lanes of threads. Further lanes are folded.
    pub fn rows(&self, record: &Record, from_us: u64, most: usize) -> Vec<String> {
        let columns = self.width.saturating_sub(LABEL + BESIDE).clamp(10, MOST_CELLS);
        let lanes = lanes::draw(record, from_us, record.now_us, columns);
        let (threads, queue) = lanes.split_at(lanes.len().saturating_sub(1));
        let rows_of_others = usize::from(threads.len() > most);
        let (shown, folded) = lanes::fold(threads, most.saturating_sub(rows_of_others).max(1));
        let mut rows: Vec<String> = shown.into_iter().map(|lane| self.row(lane)).collect();
        if !folded.is_empty() {
            rows.push(self.folded(&folded));
        }
        for lane in queue.iter().filter(|lane| !lane.is_empty()) {
            rows.extend(self.queue(lane));
        }
        let seconds = record.now_us.saturating_sub(from_us) as f64 / 1e6;
        rows.extend(self.axis(&format!("{seconds:.1} s"), columns));
        rows
    }

    fn row(&self, lane: &Lane) -> String {
        let glyphs = |from: usize, to: usize| {
            let runs = lane.cells.get(from..to).unwrap_or_default().chunk_by(|a, b| a == b);
            let run = |run: &[Cell]| {
                let text: String = run.iter().map(|cell| self.signs.glyph(*cell)).collect();
                style(run[0]).apply_to(text).to_string()
            };
            runs.map(run).collect::<String>()
        };
        let (mut cells, mut column) = (String::new(), 0);
        for name in lane.names() {
            cells.push_str(&glyphs(column, name.column));
            let pad = " ".repeat(name.pad);
            cells.push_str(&format!("{pad}{}{pad}", name.name));
            column = name.column + name.width;
        }
        cells.push_str(&glyphs(column, lane.cells.len()));
        format!(" {:<1$}{cells}", lane.label, LABEL - 1).trim_end().to_owned()
    }

    /// One row for the folded lanes: how many they are, which requests hold them at the end, and how many are idle at
    /// the end.
    fn folded(&self, lanes: &[&Lane]) -> String {
        let mut holders: Vec<(&str, usize)> = Vec::new();
        for lane in lanes.iter().filter(|lane| !lane.holder.is_empty()) {
            match holders.iter_mut().find(|(name, _)| *name == lane.holder) {
                Some((_, count)) => *count += 1,
                None => holders.push((&lane.holder, 1)),
            }
        }
        let held: usize = holders.iter().map(|(_, count)| count).sum();
        let counted = |(name, count): (&str, usize)| match count {
            1 => name.to_owned(),
            _ => format!("{count} {name}"),
        };
        let names: Vec<String> = holders.into_iter().map(counted).collect();
        let idle = match lanes.len() - held {
            0 => String::new(),
            idle if held > 0 => format!(", {idle} {}", words::IDLE),
            _ => words::IDLE.to_owned(),
        };
        let label = format!("{} more", lanes.len());
        let width = self.width.saturating_sub(LABEL + measure_text_width(&idle));
        let whose = if names.is_empty() { idle } else { first_line(&names, width) + &idle };
        format!(" {label:<0$}{whose}", LABEL - 1)
    }

    /// The queue's row, and below it the requests whose names do not fit.
    fn queue(&self, lane: &Lane) -> Vec<String> {
        let row = self.row(lane);
        let unnamed = lane.unnamed();
        if unnamed.is_empty() {
            return vec![row];
        }
        let beside = format!(" + {}", unnamed.join(", "));
        if measure_text_width(&beside) <= BESIDE {
            return vec![format!("{row}{beside}")];
        }
        let blank = " ".repeat(LABEL);
        let mut lines = wrapped(&format!("+ {}", unnamed.join(", ")), self.width.saturating_sub(LABEL));
        if lines.len() > 2 {
            lines = vec![format!("+ {}", first_line(&unnamed, self.width.saturating_sub(LABEL + 2)))];
        }
        let lines = lines.into_iter().map(|line| format!("{blank}{line}"));
        [row].into_iter().chain(lines).collect()
    }

    /// The time axis, with the caption in the middle if it fits there.
    fn axis(&self, end: &str, columns: usize) -> Vec<String> {
        let caption = self.signs.text(self.caption);
        let blank = " ".repeat(LABEL);
        let between = columns.saturating_sub("0 s".len() + end.len());
        if measure_text_width(&caption) + 2 <= between {
            return vec![format!("{blank}0 s{caption:^between$}{end}")];
        }
        let captions = wrapped(&caption, columns).into_iter().map(|line| format!("{blank}{line}"));
        [format!("{blank}0 s{:between$}{end}", "")].into_iter().chain(captions).collect()
    }
}

/// As many names as fit into a line, and how many more there are.
fn first_line<S: Borrow<str>>(names: &[S], width: usize) -> String {
    let all = names.join(", ");
    if measure_text_width(&all) <= width {
        return all;
    }
    let line = |count: usize| {
        let more = names.len() - count;
        format!("{} and {more} more", names[..count].join(", "))
    };
    let fits = |count: &usize| measure_text_width(&line(*count)) <= width;
    (1..names.len()).rev().find(fits).map_or_else(|| format!("{} requests", names.len()), line)
}

/// The color of a cell.
pub fn style(cell: Cell) -> Style {
    match cell {
        Cell::Empty => Style::new(),
        Cell::Idle => Style::new().dim(),
        Cell::Held | Cell::ClientGone | Cell::Blocked => Style::new().cyan(),
        Cell::Wrote => Style::new().cyan().bold(),
        Cell::Queued => Style::new().yellow(),
        Cell::Reaped => Style::new().magenta().bold(),
        Cell::Failed => Style::new().red().bold(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::record::tests::two_threads;

    const PICTURE: Picture<'_> = Picture { signs: Signs::Unicode, caption: "2 threads", width: 40 };

    fn plain(rows: Vec<String>) -> Vec<String> {
        rows.iter().map(|row| console::strip_ansi_codes(row).trim_end().to_owned()).collect()
    }

    /// The record of two threads, spread over one second.
    fn second() -> Record {
        let mut record = two_threads();
        for story in record.stories.values_mut() {
            (story.queued_us, story.writes_us) = (0, vec![0]);
            story.started = story.started.map(|(_, thread)| (0, thread));
            story.finished_us = story.finished_us.map(|_| 500_000);
            if let Some(gone) = &mut story.gone {
                gone.at_us = 500_000;
            }
        }
        record.now_us = 1_000_000;
        record
    }

    #[test]
    fn each_band_bears_its_name_at_its_start() {
        assert_eq!(
            plain(PICTURE.rows(&second(), 0, 8)),
            [
                " tp 001   ● tab 1 ───×··········",
                " tp 002   ● tab 2 ──────────────",
                " queue    ░ /up ░░░░░░░░░░░░░░░░",
                "          0 s  2 threads   1.0 s",
            ]
        );
    }

    #[test]
    fn plain_signs_are_ascii() {
        let picture = Picture { signs: Signs::Plain, ..PICTURE };
        let rows = plain(picture.rows(&second(), 0, 8));
        assert_eq!(rows[0], " tp 001   o tab 1 ---x..........");
        assert!(rows.iter().all(|row| row.is_ascii()));
    }

    #[test]
    fn folded_lanes_are_counted_and_named() {
        let rows = plain(PICTURE.rows(&second(), 0, 1));
        assert_eq!(rows[..2], [" tp 001   ● tab 1 ───×··········", " 1 more   tab 2"]);
    }

    #[test]
    fn an_empty_queue_is_omitted_and_a_long_caption_is_wrapped_below_the_axis() {
        let mut record = second();
        record.stories.remove(&3);
        let picture = Picture { caption: "a caption that is longer than the axis", ..PICTURE };
        let rows = plain(picture.rows(&record, 0, 8));
        assert_eq!(
            rows[2..],
            [
                "          0 s              1.0 s",
                "          a caption that is",
                "          longer than the axis"
            ]
        );
    }

    #[test]
    fn requests_that_wait_are_named_or_counted() {
        let mut record = second();
        for tab in 4..=40 {
            let mut story = record.stories[&3].clone();
            (story.request, story.target) = (tab, format!("/models/live_stream?tab={tab}"));
            record.stories.insert(tab, story);
        }
        let rows = plain(PICTURE.rows(&record, 0, 8));
        assert!(rows[2].starts_with(" queue    ░ /up ░"), "{rows:?}");
        assert!(rows[3].starts_with("          + tab ") && rows[3].ends_with(" more"), "{rows:?}");
        assert!(rows.iter().all(|row| measure_text_width(row) <= 40), "{rows:?}");
    }
}
