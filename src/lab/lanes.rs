//! Lanes: what each pool thread did, over time, in as many columns as there is room.
//!
//! A pure drawing of a [`Record`]: a row a thread, and one for todo. The terminal
//! prints the cells, the picture draws them; neither knows more than stands here.

use std::collections::BTreeMap;

use super::record::Record;
use super::story::Story;

/// What a thread did in one column's time; of several things the last in this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// No such thread, nothing in todo, or nothing known.
    Empty,
    /// It waited for work.
    Idle,
    /// It held a request, and wrote nothing: a stream asleep.
    Held,
    /// A request waited in todo.
    Queued,
    /// It wrote.
    Wrote,
    /// A write waited for the client to read.
    Blocked,
    /// Its stream was told to end.
    Reaped,
    /// A write failed: the client was gone.
    Gone,
}

impl Cell {
    /// As one character.
    pub fn glyph(self) -> char {
        match self {
            Cell::Empty => ' ',
            Cell::Idle => '·',
            Cell::Held => '─',
            Cell::Queued => '░',
            Cell::Wrote => '●',
            Cell::Blocked => '▓',
            Cell::Reaped => 'R',
            Cell::Gone => 'x',
        }
    }
}

/// Those that need an explanation, with their word.
pub const LEGEND: [(Cell, &str); 7] = [
    (Cell::Held, "held"),
    (Cell::Wrote, "wrote"),
    (Cell::Blocked, "blocked"),
    (Cell::Reaped, "reaped"),
    (Cell::Gone, "client gone"),
    (Cell::Idle, "idle"),
    (Cell::Queued, "in todo"),
];

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// A thread's name without its pool, as `tp 003`, or `todo`.
    pub label: String,
    pub cells: Vec<Cell>,
    /// Who holds it, or waits in it, at the end.
    pub holder: String,
    /// Who held it, or waited in it, from which column to which.
    pub bands: Vec<Band>,
}

/// A stay in a lane, as long as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Band {
    pub from: usize,
    /// Its last column.
    pub to: usize,
    pub name: String,
}

/// A name inside its band.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePlace<'a> {
    pub column: usize,
    /// Columns that it takes.
    pub width: usize,
    pub name: &'a str,
}

impl Lane {
    /// The names that fit into their bands, from left to right, none over another. A name
    /// goes between two writes if it fits there, else over the band's beginning.
    pub fn names(&self) -> Vec<NamePlace<'_>> {
        let mut placed: Vec<NamePlace<'_>> = Vec::new();
        for band in &self.bands {
            let width = console::measure_text_width(&band.name);
            let is_free = |column: &usize| {
                let clear = |it: &NamePlace<'_>| column + width < it.column || it.column + it.width < *column;
                placed.iter().all(clear)
            };
            // A cell of the band stays on either side.
            let last = (band.to + 1).saturating_sub(width + 1);
            let mut columns = (band.from + 1..=last).filter(is_free);
            let is_quiet = |column: &usize| {
                let cells = self.cells.get(*column..column + width).unwrap_or_default();
                cells.iter().all(|cell| matches!(cell, Cell::Held | Cell::Queued))
            };
            let column = columns.clone().find(is_quiet).or_else(|| columns.next());
            if let Some(column) = column.filter(|_| width > 0) {
                placed.push(NamePlace { column, width, name: &band.name });
            }
        }
        placed.sort_by_key(|it| it.column);
        placed
    }
}

/// The lanes of a record between two times on its clock, threads first, todo last.
pub fn draw(record: &Record, from_us: u64, to_us: u64, columns: usize) -> Vec<Lane> {
    let scale = Scale { from_us, span_us: to_us.saturating_sub(from_us).max(1), columns };
    let lane = |thread: usize| {
        let mut cells = vec![Cell::Idle; columns];
        for (from_us, until_us) in &record.unknown_us {
            scale.clear(&mut cells, *from_us, *until_us);
        }
        (thread, Lane { label: format!("tp {thread:03}"), cells, holder: String::new(), bands: Vec::new() })
    };
    let mut lanes: BTreeMap<usize, Lane> = record.threads().map(lane).collect();
    for story in record.stories.values() {
        let Some(lane) = story.started.and_then(|(_, thread)| lanes.get_mut(&thread)) else { continue };
        hold(&mut lane.cells, story, &scale, to_us);
        let started_us = story.started.map_or(to_us, |(at_us, _)| at_us);
        lane.bands.extend(scale.band(started_us, story.finished_us.unwrap_or(to_us), story));
        if story.is_running() {
            lane.holder = story.name();
        }
    }
    lanes.into_values().chain([todo(record, &scale, to_us)]).collect()
}

fn hold(cells: &mut [Cell], story: &Story, scale: &Scale, to_us: u64) {
    let Some((started_us, _)) = story.started else { return };
    scale.fill(cells, started_us, story.finished_us.unwrap_or(to_us), Cell::Held);
    for at_us in &story.writes_us {
        scale.mark(cells, *at_us, Cell::Wrote);
    }
    for (from_us, to_us) in &story.blocked_us {
        scale.fill(cells, *from_us, *to_us, Cell::Blocked);
    }
    if let Some(at_us) = story.reaped_us {
        scale.mark(cells, at_us, Cell::Reaped);
    }
    if let Some(gone) = &story.gone {
        scale.mark(cells, gone.at_us, Cell::Gone);
    }
}

fn todo(record: &Record, scale: &Scale, to_us: u64) -> Lane {
    let (mut cells, mut bands) = (vec![Cell::Empty; scale.columns], Vec::new());
    for story in record.stories.values() {
        let until_us = story.left_todo_us().unwrap_or(to_us);
        // Every request passes through todo: the ones to be seen are those that stay.
        if until_us.saturating_sub(story.queued_us) > scale.span_us / scale.columns.max(1) as u64 {
            scale.fill(&mut cells, story.queued_us, until_us, Cell::Queued);
            bands.extend(scale.band(story.queued_us, until_us, story));
        }
    }
    let holder = record.todo().map(Story::name).collect::<Vec<_>>().join(", ");
    Lane { label: "todo".into(), cells, holder, bands }
}

/// Which column a time falls into.
struct Scale {
    from_us: u64,
    span_us: u64,
    columns: usize,
}

impl Scale {
    fn column(&self, at_us: u64) -> Option<usize> {
        let since = at_us.checked_sub(self.from_us)?;
        let column = since as u128 * self.columns as u128 / u128::from(self.span_us);
        Some((column as usize).min(self.columns.checked_sub(1)?))
    }

    fn fill(&self, cells: &mut [Cell], from_us: u64, to_us: u64, with: Cell) {
        let (Some(from), Some(to)) = (self.column(from_us.max(self.from_us)), self.column(to_us)) else {
            return;
        };
        // A server that someone else wrote may tell of an end before its begin.
        for cell in cells.get_mut(from..=to).unwrap_or_default() {
            *cell = with.max(*cell);
        }
    }

    /// A stay from this time to that, with its name.
    fn band(&self, from_us: u64, to_us: u64, story: &Story) -> Option<Band> {
        let (from, to) = (self.column(from_us.max(self.from_us))?, self.column(to_us)?);
        (from <= to).then(|| Band { from, to, name: story.name() })
    }

    /// Empties those that are in this time from their begin to their end.
    fn clear(&self, cells: &mut [Cell], from_us: u64, to_us: u64) {
        let Some(to) = self.column(to_us) else { return };
        let from =
            if from_us <= self.from_us { Some(0) } else { self.column(from_us).map(|column| column + 1) };
        if let Some(cells) = from.and_then(|from| cells.get_mut(from..to)) {
            cells.fill(Cell::Empty);
        }
    }

    fn mark(&self, cells: &mut [Cell], at_us: u64, with: Cell) {
        if let Some(column) = self.column(at_us) {
            cells[column] = with.max(cells[column]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::two_threads;
    use super::*;

    #[test]
    fn a_row_a_thread_and_todo_last() {
        let mut record = two_threads();
        let spread = |at_us: u64| at_us * 1000;
        for (number, story) in record.stories.values_mut().enumerate() {
            story.queued_us = spread(10 * number as u64);
            story.started = story.started.map(|(_, thread)| (spread(10 * number as u64), thread));
            story.writes_us = vec![spread(10 * number as u64)];
            story.finished_us = story.finished_us.map(|_| spread(30));
            if let Some(gone) = &mut story.gone {
                gone.at_us = spread(30);
            }
        }
        let lanes = draw(&record, 0, spread(40), 8);
        let text = |lane: &Lane| lane.cells.iter().map(|cell| cell.glyph()).collect::<String>();
        assert_eq!(lanes.iter().map(text).collect::<Vec<_>>(), ["●─────x·", "··●─────", "    ░░░░"]);
        let named = |lane: &Lane| (lane.label.clone(), lane.holder.clone());
        let names: Vec<_> = lanes.iter().map(named).collect();
        let expected = [("tp 001", ""), ("tp 002", "tab 2"), ("todo", "/up")];
        assert_eq!(names, expected.map(|(label, holder)| (label.to_owned(), holder.to_owned())));
    }

    #[test]
    fn what_is_not_known_is_empty_and_an_end_before_its_begin_is_no_panic() {
        let mut record = two_threads();
        (record.unknown_us, record.now_us) = (vec![(0, 10_000), (15_000, 30_000)], 40_000);
        record.stories.retain(|request, _| *request == 1);
        for story in record.stories.values_mut() {
            (story.started, story.finished_us) = (Some((35_000, 1)), Some(10_000));
            (story.writes_us, story.gone) = (Vec::new(), None);
        }
        let cells = &draw(&record, 0, 40_000, 4)[0].cells;
        assert_eq!(*cells, [Cell::Empty, Cell::Idle, Cell::Empty, Cell::Idle]);
    }

    #[test]
    fn names_stand_in_their_bands_between_the_writes_if_they_fit() {
        let lane = |cells: &str, bands: &[(usize, usize, &str)]| {
            let cell = |glyph| match glyph {
                '●' => Cell::Wrote,
                '─' => Cell::Held,
                'x' => Cell::Gone,
                _ => Cell::Idle,
            };
            let bands =
                bands.iter().map(|(from, to, name)| Band { from: *from, to: *to, name: (*name).into() });
            let cells = cells.chars().map(cell).collect();
            Lane { label: String::new(), cells, holder: String::new(), bands: bands.collect() }
        };
        let names =
            |lane: &Lane| lane.names().iter().map(|it| (it.column, it.name.to_owned())).collect::<Vec<_>>();
        let two = lane("●───────●──x·●──────", &[(0, 11, "tab 3"), (13, 19, "tab 9")]);
        assert_eq!(names(&two), [(1, "tab 3".into()), (14, "tab 9".into())]);
        // Where the writes are close together the name stands over some of them.
        let busy = lane("·●─●─●─●─●", &[(1, 9, "tab 3")]);
        assert_eq!(names(&busy), [(2, "tab 3".into())]);
        assert_eq!(names(&lane("·●──x·····", &[(1, 4, "tab 3")])), []);
        // Those that wait at the same time share a lane.
        let todo =
            lane("──────────────────", &[(0, 17, "tab 9"), (1, 17, "/up"), (2, 17, "tab 10 and more")]);
        assert_eq!(names(&todo), [(1, "tab 9".into()), (7, "/up".into())]);
        // A character of two columns takes two.
        assert_eq!(names(&lane("──────", &[(0, 5, "模型")])), [(1, "模型".into())]);
        assert_eq!(names(&lane("─────", &[(0, 4, "模型")])), []);
    }

    #[test]
    fn no_room_is_no_panic() {
        for columns in [0, 1] {
            assert_eq!(draw(&two_threads(), 5, 5, columns).len(), 3);
        }
    }
}
