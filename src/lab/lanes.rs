//! Lanes: what each pool thread did over time, in a given number of columns.
//!
//! A pure drawing of a [`Record`]: one row per pool thread, one per action thread, and one for the queue. The terminal
//! prints the cells. [`super::picture`] draws the same record as SVG.

use std::collections::BTreeMap;

use super::record::Record;
use super::story::Story;
use crate::words;

/// What a thread did during one column. If it did several things, the last one in this list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// No such thread, an empty queue, or not recorded.
    Empty,
    /// The thread was idle.
    Idle,
    /// The thread was held by a request and wrote nothing: a sleeping stream.
    Held,
    /// The thread was held by a request whose client had closed.
    ClientGone,
    /// A request waited in the queue.
    Queued,
    /// A write.
    Wrote,
    /// A write that was blocked because the client did not read.
    Blocked,
    /// The stream reached its maximum age.
    Reaped,
    /// A write failed.
    Failed,
}

impl Cell {
    /// The cell as one character.
    pub fn glyph(self) -> char {
        match self {
            Cell::Empty => ' ',
            Cell::Idle => '·',
            Cell::Held => '─',
            Cell::ClientGone => '╌',
            Cell::Queued => '░',
            Cell::Wrote => '●',
            Cell::Blocked => '▓',
            Cell::Reaped => 'R',
            Cell::Failed => '×',
        }
    }

    /// The same in ASCII.
    pub fn plain_glyph(self) -> char {
        match self {
            Cell::Empty => ' ',
            Cell::Idle => '.',
            Cell::Held => '-',
            Cell::ClientGone => '~',
            Cell::Queued => ':',
            Cell::Wrote => 'o',
            Cell::Blocked => '#',
            Cell::Reaped => 'R',
            Cell::Failed => 'x',
        }
    }
}

/// The cells that a legend explains, each with its description.
pub const LEGEND: [(Cell, &str); 8] = [
    (Cell::Wrote, words::WRITE),
    (Cell::Held, words::HELD),
    (Cell::ClientGone, words::CLIENT_GONE),
    (Cell::Idle, words::IDLE),
    (Cell::Queued, words::WAITING),
    (Cell::Failed, words::WRITE_FAILED),
    (Cell::Reaped, words::REAPED),
    (Cell::Blocked, words::WRITE_BLOCKED),
];

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The thread's name without its pool, such as `tp 003`, or [`QUEUE`].
    pub label: String,
    pub cells: Vec<Cell>,
    /// The request that holds the thread at the end, or the requests that are in the queue at the end.
    pub holder: String,
    /// Every request that was in the lane.
    pub bands: Vec<Band>,
}

/// The prefixes of the labels of lanes, each with its description.
pub const LABELS: [(&str, &str); 2] = [("tp", "pool thread"), ("act", "action thread")];

/// The label of the queue's lane.
pub const QUEUE: &str = words::QUEUE;

/// The prefix of the label of an action's lane.
const ACTION: &str = "act ";

/// The columns that one request occupies in a lane.
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
    /// Columns between the name and the cells, on either side.
    pub pad: usize,
    /// Columns in total.
    pub width: usize,
    pub name: &'a str,
}

impl Lane {
    /// The names that fit into their bands, from left to right, without overlaps. A name is placed at the start
    /// of its band, after the first cell, so it does not move while the band grows.
    pub fn names(&self) -> Vec<NamePlace<'_>> {
        let mut placed: Vec<NamePlace<'_>> = Vec::new();
        for band in &self.bands {
            let own = console::measure_text_width(&band.name);
            if own == 0 {
                continue;
            }
            let place = |pad: usize| {
                let width = own + 2 * pad;
                let is_free = |column: &usize| {
                    let clear =
                        |it: &NamePlace<'_>| column + width < it.column || it.column + it.width < *column;
                    placed.iter().all(clear)
                };
                // A cell of the band stays visible on either side.
                let mut columns = band.from + 1..=band.to.saturating_sub(width);
                let column = columns.find(is_free)?;
                let cells = self.cells.get(column..column + width)?;
                let is_quiet = |cell: &Cell| matches!(cell, Cell::Held | Cell::Queued);
                let is_end = |cell: &Cell| matches!(cell, Cell::Reaped | Cell::Failed);
                let fits = if pad > 0 { cells.iter().all(is_quiet) } else { !cells.iter().any(is_end) };
                fits.then_some(NamePlace { column, pad, width, name: &band.name })
            };
            if let Some(place) = place(1).or_else(|| place(0)) {
                placed.push(place);
            }
        }
        placed.sort_by_key(|it| it.column);
        placed
    }

    /// The requests whose bands reach the last column and whose names are not in the lane.
    pub fn unnamed(&self) -> Vec<&str> {
        let named = self.names();
        let is_named = |band: &&Band| named.iter().any(|place| place.name == band.name);
        let is_last = |band: &&Band| band.to + 1 == self.cells.len();
        self.bands.iter().filter(is_last).filter(|band| !is_named(band)).map(|it| it.name.as_str()).collect()
    }

    /// Whether nothing happened in the lane.
    pub fn is_empty(&self) -> bool {
        self.cells.iter().all(|cell| *cell == Cell::Empty)
    }

    /// What happened in it, in order but without times. One of several lanes with the same course can represent
    /// the others.
    fn course(&self) -> Vec<Cell> {
        let state = |cell: &Cell| if *cell == Cell::Wrote { Cell::Held } else { *cell };
        let mut course: Vec<Cell> = self.cells.iter().map(state).collect();
        course.dedup();
        course
    }
}

/// Splits lanes into at most `most` that are shown and those that are folded, each in order. Of the lanes with the same
/// course, at least one is shown if there are enough rows.
pub fn fold(lanes: &[Lane], most: usize) -> (Vec<&Lane>, Vec<&Lane>) {
    if lanes.len() <= most {
        return (lanes.iter().collect(), Vec::new());
    }
    let courses: Vec<Vec<Cell>> = lanes.iter().map(Lane::course).collect();
    let is_first = |index: &usize| !courses[..*index].contains(&courses[*index]);
    let (mut firsts, others): (Vec<usize>, Vec<usize>) = (0..lanes.len()).partition(is_first);
    // Idle lanes come last. Action threads come first, because there may be many pool threads before them.
    firsts.sort_by_key(|index| {
        let is_idle = courses[*index].iter().all(|cell| matches!(cell, Cell::Idle | Cell::Empty));
        (is_idle, !lanes[*index].label.starts_with(ACTION))
    });
    let shown: Vec<usize> = firsts.into_iter().chain(others).take(most).collect();
    let (shown, folded): (Vec<_>, Vec<_>) =
        lanes.iter().enumerate().partition(|(index, _)| shown.contains(index));
    let lanes = |numbered: Vec<(usize, _)>| numbered.into_iter().map(|(_, lane)| lane).collect();
    (lanes(shown), lanes(folded))
}

/// The lanes of a record between two times on its clock: the pool threads, the action threads, then the queue.
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
        lane.bands.extend(scale.band(started_us, story.finished_us.unwrap_or(to_us), story.name()));
        if story.is_running() {
            lane.holder = story.name();
        }
    }
    let actions = actions(record, &scale, to_us);
    lanes.into_values().chain(actions).chain([queue(record, &scale, to_us)]).collect()
}

/// The lanes of action threads, which are below those of the pool. Idle threads are left out.
fn actions(record: &Record, scale: &Scale, to_us: u64) -> impl Iterator<Item = Lane> {
    let mut lanes: BTreeMap<usize, Lane> = BTreeMap::new();
    for story in record.actions.all() {
        let until_us = story.ended_us.unwrap_or(to_us);
        if until_us < scale.from_us {
            continue;
        }
        let lane = lanes.entry(story.worker).or_insert_with(|| Lane {
            label: format!("{ACTION}{:03}", story.worker),
            cells: vec![Cell::Idle; scale.columns],
            holder: String::new(),
            bands: Vec::new(),
        });
        scale.fill(&mut lane.cells, story.began_us, until_us, Cell::Held);
        if let Some(orphaned_us) = story.orphaned_us {
            scale.fill(&mut lane.cells, orphaned_us, until_us, Cell::ClientGone);
        }
        let name = match story.orphaned_us {
            Some(_) => format!("{} {}", story.name, words::ORPHANED),
            None => story.name.clone(),
        };
        if story.ended_us.is_none() {
            lane.holder.clone_from(&name);
        }
        lane.bands.extend(scale.band(story.began_us, until_us, name));
    }
    lanes.into_values()
}

fn hold(cells: &mut [Cell], story: &Story, scale: &Scale, to_us: u64) {
    let Some((started_us, _)) = story.started else { return };
    let until_us = story.finished_us.unwrap_or(to_us);
    scale.fill(cells, started_us, until_us, Cell::Held);
    if let Some(closed_us) = story.closed_us.filter(|closed_us| *closed_us < until_us) {
        scale.fill(cells, closed_us.max(started_us), until_us, Cell::ClientGone);
    }
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
        scale.mark(cells, gone.at_us, Cell::Failed);
    }
}

fn queue(record: &Record, scale: &Scale, to_us: u64) -> Lane {
    let (mut cells, mut bands) = (vec![Cell::Empty; scale.columns], Vec::new());
    for story in record.stories.values() {
        let until_us = story.left_todo_us().unwrap_or(to_us);
        // Every request passes through the queue. Only requests that stay for more than a column are drawn.
        if until_us.saturating_sub(story.queued_us) > scale.span_us / scale.columns.max(1) as u64 {
            scale.fill(&mut cells, story.queued_us, until_us, Cell::Queued);
            bands.extend(scale.band(story.queued_us, until_us, story.name()));
        }
    }
    let holder = record.todo().map(Story::name).collect::<Vec<_>>().join(", ");
    Lane { label: QUEUE.into(), cells, holder, bands }
}

/// Maps a time to its column.
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
        // Another program's record may have an end before its start.
        for cell in cells.get_mut(from..=to).unwrap_or_default() {
            *cell = with.max(*cell);
        }
    }

    /// The band of a request between two times.
    fn band(&self, from_us: u64, to_us: u64, name: String) -> Option<Band> {
        let (from, to) = (self.column(from_us.max(self.from_us))?, self.column(to_us)?);
        (from <= to).then_some(Band { from, to, name })
    }

    /// Empties the cells that lie completely within this time.
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
mod tests;
