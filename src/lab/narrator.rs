//! How `reproduce` tells its story: on a terminal with lanes that move in place,
//! elsewhere with plain lines, for a program not at all.

use std::io::{self, Write};

use console::{Style, Term};

use super::claim::Claim;
use super::lanes::{self, Cell, LEGEND, Lane};
use super::record::Record;
use super::story::Story;
use ninetabs_server::escape::printable;

/// The widest that lanes are drawn.
const MOST_COLUMNS: usize = 100;
/// What a row needs besides its cells: its label, and who holds it.
const BESIDE_CELLS: usize = 8 + 20;
/// The most threads that are drawn one by one.
const MOST_LANES: usize = 16;

/// Where the story goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Lanes are drawn again and again in the same place.
    InPlace,
    /// A line at each change, and the lanes once.
    Plain,
    /// Nothing: the verdict goes elsewhere.
    Silent,
}

/// Tells what happens, as it happens.
#[derive(Debug)]
pub struct Narrator {
    term: Term,
    manner: Manner,
    /// Lines of the last drawing, which the next one replaces.
    drawn: usize,
    last_line: String,
    /// The first write that failed.
    failed: Option<io::Error>,
}

impl Narrator {
    /// In place on a terminal, plain elsewhere.
    pub fn to_stdout() -> Narrator {
        let term = Term::stdout();
        let moves = term.is_term() && std::env::var_os("TERM").is_some_and(|name| name != "dumb");
        if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            console::set_colors_enabled(false);
        }
        Narrator::new(term, if moves { Manner::InPlace } else { Manner::Plain })
    }

    pub fn silent() -> Narrator {
        Narrator::new(Term::stdout(), Manner::Silent)
    }

    fn new(term: Term, manner: Manner) -> Narrator {
        Narrator { term, manner, drawn: 0, last_line: String::new(), failed: None }
    }

    /// A line of text, wrapped at the terminal's width.
    pub fn say(&mut self, text: &str) {
        self.settle();
        for line in wrapped(text, self.width()) {
            self.line(&line);
        }
    }

    pub fn title(&mut self, text: &str) {
        self.settle();
        self.line("");
        self.line(&Style::new().bold().apply_to(text).to_string());
    }

    /// What the next picture shows.
    pub fn caption(&mut self, text: &str) {
        self.settle();
        self.last_line.clear();
        for line in wrapped(text, self.width()) {
            self.line(&Style::new().underlined().apply_to(line).to_string());
        }
    }

    /// The key to the pictures, once at the top.
    pub fn key(&mut self) {
        let text = "In the pictures each row is a thread of the pool, tp 001 and so on, or todo, its queue; \
                    time goes from left to right:";
        wrapped(text, self.width()).iter().for_each(|line| self.line(line));
        let (mut line, mut used) = (String::new(), 0);
        for (cell, word) in LEGEND {
            let width = console::measure_text_width(word) + 4;
            if used + width > self.width() {
                self.line(&std::mem::take(&mut line));
                used = 0;
            }
            line.push_str(&format!(" {} {word} ", style(cell).apply_to(cell.glyph())));
            used += width;
        }
        self.line(&line);
    }

    /// A word in the margin and what it introduces.
    pub fn entry(&mut self, word: &str, text: &str) {
        self.settle();
        let indent = 10;
        let lines = wrapped(text, self.width().saturating_sub(indent));
        for (number, line) in lines.iter().enumerate() {
            let margin = if number == 0 { word } else { "" };
            self.line(&format!("{:<indent$}{line}", margin));
        }
    }

    /// What was claimed and measured, with its verdict in front.
    pub fn claims(&mut self, claims: &[Claim]) {
        for claim in claims {
            let (mark, style) = match claim.held {
                true => ("holds", Style::new().green()),
                false => ("FAILS", Style::new().red().bold()),
            };
            let Claim { claim: what, expected, measured, .. } = claim;
            self.settle();
            let text = format!("{what}: {measured} (expected {expected})");
            for (number, line) in wrapped(&text, self.width().saturating_sub(10)).iter().enumerate() {
                let margin = if number == 0 {
                    style.apply_to(format!("{mark:<10}")).to_string()
                } else {
                    " ".repeat(10)
                };
                self.line(&format!("{margin}{line}"));
            }
        }
    }

    /// The lanes as they are now: again in the same place, or, plainly, one line
    /// where something has changed.
    pub fn watch(&mut self, record: &Record, from_us: u64) {
        match self.manner {
            Manner::InPlace => {
                let rows = self.rows(record, from_us);
                self.replace(&rows);
            }
            Manner::Plain => {
                let line = summary(record);
                if line != self.last_line {
                    let at = record.now_us.saturating_sub(from_us) as f64 / 1e6;
                    for (number, part) in wrapped(&line, self.width().saturating_sub(10)).iter().enumerate() {
                        let margin = if number == 0 { format!("{at:>6.1} s") } else { String::new() };
                        self.line(&format!("{margin:<8}  {part}"));
                    }
                    self.last_line = line;
                }
            }
            Manner::Silent => {}
        }
    }

    /// The lanes for good, below everything so far.
    pub fn lanes(&mut self, record: &Record, from_us: u64) {
        if self.manner == Manner::Silent {
            return;
        }
        let rows = self.rows(record, from_us);
        self.replace(&rows);
        self.settle();
        self.last_line.clear();
    }

    fn rows(&self, record: &Record, from_us: u64) -> Vec<String> {
        let width = self.width();
        let columns = width.saturating_sub(BESIDE_CELLS).clamp(10, MOST_COLUMNS);
        let lanes = lanes::draw(record, from_us, record.now_us, columns);
        let (threads, todo) = lanes.split_at(lanes.len().saturating_sub(1));
        let shown = &threads[..threads.len().min(MOST_LANES)];
        let mut rows: Vec<String> = shown.iter().map(|lane| row(lane, &lane.holder, width)).collect();
        if threads.len() > shown.len() {
            rows.push(format!("  …     and {} threads more", threads.len() - shown.len()));
        }
        for lane in todo {
            // Those that wait have lines of their own where they do not fit beside the lane.
            let fits = console::measure_text_width(&lane.holder) <= room_beside(lane, width);
            rows.push(row(lane, if fits { &lane.holder } else { "" }, width));
            if !fits {
                rows.extend(waiting(&lane.holder, width));
            }
        }
        let seconds = record.now_us.saturating_sub(from_us) as f64 / 1e6;
        rows.push(format!("        0 s{:>1$}", format!("{seconds:.1} s"), columns.saturating_sub(3)));
        rows
    }

    /// Whether all that was told could be written; the first error otherwise.
    pub fn written(&mut self) -> io::Result<()> {
        let flushed = io::stdout().flush();
        self.failed.take().map_or(flushed, Err)
    }

    /// The story ends here, in the middle: what comes next begins on a line of its own.
    pub fn leave(&mut self) {
        self.settle();
        if self.manner == Manner::InPlace {
            self.line("");
        }
    }

    fn replace(&mut self, rows: &[String]) {
        // A terminal that is gone is noticed when the story ends.
        let _ = self.term.clear_last_lines(self.drawn);
        self.drawn = 0;
        for row in rows {
            self.line(row);
        }
        self.drawn = if self.manner == Manner::InPlace { rows.len() } else { 0 };
    }

    /// What is drawn stays where it is.
    fn settle(&mut self) {
        self.drawn = 0;
    }

    fn line(&mut self, text: &str) {
        if self.manner == Manner::Silent {
            return;
        }
        // The claims are judged all the same; the command's end says what was lost.
        if let Err(error) = writeln!(io::stdout(), "{text}") {
            self.failed.get_or_insert(error);
        }
    }

    fn width(&self) -> usize {
        let columns = usize::from(self.term.size().1);
        if self.manner == Manner::InPlace { columns.clamp(40, MOST_COLUMNS + BESIDE_CELLS) } else { 80 }
    }
}

/// A row, or two, for those that wait in todo.
fn waiting(names: &str, width: usize) -> Vec<String> {
    let width = width.saturating_sub(8);
    let mut lines = wrapped(&format!("waiting: {names}"), width);
    if lines.len() > 2 {
        lines.truncate(1);
        let named = lines[0].matches(',').count();
        lines.push(format!("and {} more", (names.matches(", ").count() + 1).saturating_sub(named)));
    }
    lines.into_iter().map(|line| format!("        {line}")).collect()
}

fn room_beside(lane: &Lane, width: usize) -> usize {
    width.saturating_sub(lane.cells.len() + 9)
}

fn row(lane: &Lane, beside: &str, width: usize) -> String {
    let glyphs = |from: usize, to: usize| {
        let runs = lane.cells.get(from..to).unwrap_or_default().chunk_by(|a, b| a == b);
        let run = |run: &[Cell]| {
            let text: String = run.iter().map(|cell| cell.glyph()).collect();
            style(run[0]).apply_to(text).to_string()
        };
        runs.map(run).collect::<String>()
    };
    let (mut cells, mut column) = (String::new(), 0);
    for name in lane.names() {
        cells.push_str(&glyphs(column, name.column));
        cells.push_str(name.name);
        column = name.column + name.width;
    }
    cells.push_str(&glyphs(column, lane.cells.len()));
    format!(" {:<7}{cells} {}", lane.label, console::truncate_str(beside, room_beside(lane, width), "…"))
}

fn style(cell: Cell) -> Style {
    match cell {
        Cell::Empty => Style::new(),
        Cell::Idle => Style::new().dim(),
        Cell::Held => Style::new().cyan(),
        Cell::Wrote => Style::new().cyan().bold(),
        Cell::Queued | Cell::Blocked => Style::new().yellow(),
        Cell::Reaped => Style::new().magenta().bold(),
        Cell::Gone => Style::new().red().bold(),
    }
}

fn summary(record: &Record) -> String {
    let held = record.held();
    let idle = record.threads().len().saturating_sub(held);
    let todo: Vec<String> = record.todo().map(Story::name).collect();
    let todo = if todo.is_empty() { "empty".to_owned() } else { todo.join(", ") };
    format!("threads: {held} held, {idle} idle; todo: {todo}")
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    // What is said may repeat words of the server under test.
    for word in text.split_whitespace().map(printable) {
        if !line.is_empty()
            && console::measure_text_width(&line) + 1 + console::measure_text_width(&word) > width
        {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::record::tests::two_threads;

    #[test]
    fn the_plain_line_says_who_waits() {
        assert_eq!(summary(&two_threads()), "threads: 1 held, 1 idle; todo: /up");
    }

    #[test]
    fn a_lane_bears_the_name_of_each_stay() {
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
        let lanes = lanes::draw(&record, 0, record.now_us, 20);
        let rows: Vec<String> = lanes.iter().map(|lane| row(lane, &lane.holder, 80)).collect();
        let plain: Vec<_> = rows.iter().map(|row| console::strip_ansi_codes(row).into_owned()).collect();
        assert_eq!(
            plain,
            [
                " tp 001 ●tab 1────x········· ",
                " tp 002 ●tab 2────────────── tab 2",
                " todo   ░/up░░░░░░░░░░░░░░░░ /up",
            ]
        );
    }

    #[test]
    fn those_that_wait_are_named_and_not_cut() {
        let names = "tab 9, connection 19";
        assert_eq!(waiting(names, 80), ["        waiting: tab 9, connection 19"]);
        let many = (1..=40).map(|tab| format!("tab {tab}")).collect::<Vec<_>>().join(", ");
        let lines = waiting(&many, 80);
        assert!(lines.len() == 2 && lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
        assert!(lines[1].contains("and 31 more"), "{lines:?}");
    }

    #[test]
    fn words_are_never_cut() {
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("incomprehensible", 4), ["incomprehensible"]);
    }
}
