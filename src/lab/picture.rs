//! A record as a picture, in SVG: a lane a thread, todo below them, so that the
//! README shows what a run really did.
//!
//! The terminal's lanes ([`super::lanes`]) have a column for a fifth of a second;
//! here a thing stands where it happened, and every stay bears its visitor's name.
//! A pure drawing of a [`Record`], with a template for its shapes and colours.

use minijinja::{Environment, Value, context};
use thiserror::Error;

use super::record::Record;
use super::story::Story;

const TEMPLATE: &str = include_str!("../../views/lanes.svg");
/// The shapes' colours, light and dark; whoever puts the picture into a page needs them once.
pub const STYLE: &str = include_str!("../../views/lanes.css");
/// Pixels: the lanes' width and height, and the room around them.
const SPAN: f64 = 760.0;
const LANE: usize = 28;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
const TOP: usize = 72;
const BELOW: usize = 66;
/// Where a picture begins that stands below a title of its page.
const BELOW_TITLE: usize = TOP - 8;
/// A character's width, and the least room between a bar's edge and its name.
const CHARACTER: f64 = 7.3;
const MARGIN: f64 = 7.0;
/// Who waits for less than this part of the picture only passes through todo.
const PASSING: u64 = 100;
/// Most ticks of the time below the lanes.
const TICKS: u64 = 12;

/// The picture could not be drawn.
#[derive(Debug, Error)]
#[error("the picture could not be drawn: {0}")]
pub struct PictureError(#[from] minijinja::Error);

/// Draws a record from this time on its clock to its end, as a file of its own.
pub fn svg(title: &str, record: &Record, from_us: u64) -> Result<String, PictureError> {
    draw(title, record, from_us, Frame::File)
}

/// The same as a part of a page that has [`STYLE`]: without colours, paper and title.
pub fn inline(title: &str, record: &Record, from_us: u64) -> Result<String, PictureError> {
    draw(title, record, from_us, Frame::Page)
}

/// Where a picture stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// In a file of its own.
    File,
    /// In a page, which has the style and the title.
    Page,
}

fn draw(title: &str, record: &Record, from_us: u64, frame: Frame) -> Result<String, PictureError> {
    let alone = frame == Frame::File;
    let scale = PictureScale { from_us, to_us: record.now_us.max(from_us + 1) };
    let threads: Vec<Value> =
        record.threads().enumerate().map(|(row, thread)| lane(record, thread, row, &scale)).collect();
    let waiters = waiters(record, &scale);
    let rows = record.threads().len() + waiters.iter().map(|(row, _)| row + 1).max().unwrap_or(1);
    let waits: Vec<Value> = waiters.iter().map(|(row, story)| wait(record, story, *row, &scale)).collect();
    let bottom = y(rows);
    let mut environment = Environment::new();
    environment.add_template("lanes.css", STYLE)?;
    environment.add_template("lanes.svg", TEMPLATE)?;
    Ok(environment.get_template("lanes.svg")?.render(context! {
        title,
        alone,
        from_y => if alone { 0 } else { BELOW_TITLE },
        threads,
        waits,
        todo_y => y(record.threads().len()),
        ticks => scale.ticks(),
        left => LEFT,
        right => LEFT + SPAN,
        top => TOP,
        bottom,
        width => LEFT + SPAN + RIGHT,
        height => bottom + BELOW,
    })?)
}

/// A thread's lane: who held it, from when to when, and what became of each write.
fn lane(record: &Record, thread: usize, row: usize, scale: &PictureScale) -> Value {
    let mine = record.stories.values().filter(|story| story.started.is_some_and(|(_, of)| of == thread));
    let stays: Vec<Value> = mine
        .filter_map(|story| {
            let (from_us, until_us) = (story.started?.0, story.finished_us.unwrap_or(scale.to_us));
            let (x, width) = scale.bar(from_us, until_us)?;
            let marks = |times: &[u64]| times.iter().filter_map(|at| scale.x(*at)).collect::<Vec<_>>();
            let gone: Vec<u64> = story.gone.iter().map(|gone| gone.at_us).collect();
            let reaped: Vec<u64> = story.reaped_us.into_iter().collect();
            Some(context! {
                x, width,
                name => name_that_fits(story, width),
                writes => marks(&story.writes_us),
                blocked => blocked(story, scale),
                gone => marks(&gone),
                reaped => marks(&reaped),
            })
        })
        .collect();
    context! { label => format!("tp {thread:03}"), y => y(row), stays }
}

/// Where its writes waited for the client to read.
fn blocked(story: &Story, scale: &PictureScale) -> Vec<Value> {
    let bars = story.blocked_us.iter().filter_map(|(from_us, until_us)| scale.bar(*from_us, *until_us));
    bars.map(|(x, width)| context! { x, width }).collect()
}

/// Those who are seen to wait in todo, each with a row in which it overlaps nobody.
fn waiters<'a>(record: &'a Record, scale: &PictureScale) -> Vec<(usize, &'a Story)> {
    let stays = |story: &&Story| {
        let until_us = waits_until(story, scale);
        until_us >= scale.from_us && until_us.saturating_sub(story.queued_us) > scale.span_us() / PASSING
    };
    let mut free_from: Vec<u64> = Vec::new();
    let mut placed = Vec::new();
    for story in record.stories.values().filter(stays) {
        let row = free_from.iter().position(|free| *free <= story.queued_us).unwrap_or(free_from.len());
        free_from.resize(free_from.len().max(row + 1), 0);
        free_from[row] = waits_until(story, scale);
        placed.push((row, story));
    }
    placed
}

fn waits_until(story: &Story, scale: &PictureScale) -> u64 {
    story.left_todo_us().unwrap_or(scale.to_us)
}

fn wait(record: &Record, story: &Story, row: usize, scale: &PictureScale) -> Value {
    let bar = scale.bar(story.queued_us, waits_until(story, scale));
    let (x, width) = bar.unwrap_or((LEFT, 0.0));
    let taken_by = story.started.and_then(|(_, thread)| record.threads().position(|it| it == thread));
    context! {
        x, width,
        y => y(record.threads().len() + row),
        name => name_that_fits(story, width),
        taken_y => taken_by.map(y),
    }
}

fn y(row: usize) -> usize {
    TOP + row * LANE
}

fn name_that_fits(story: &Story, width: f64) -> String {
    let name = story.name();
    let fits = name.chars().count() as f64 * CHARACTER + 2.0 * MARGIN <= width;
    if fits { name } else { String::new() }
}

/// Where a time is in the picture.
struct PictureScale {
    from_us: u64,
    to_us: u64,
}

impl PictureScale {
    fn span_us(&self) -> u64 {
        self.to_us - self.from_us
    }

    fn x(&self, at_us: u64) -> Option<f64> {
        let since = at_us.checked_sub(self.from_us)?;
        Some(round(LEFT + since.min(self.span_us()) as f64 * SPAN / self.span_us() as f64))
    }

    /// A bar's left edge and its width; None if it was over before the picture begins.
    fn bar(&self, from_us: u64, until_us: u64) -> Option<(f64, f64)> {
        let (x, end) = (self.x(from_us.max(self.from_us))?, self.x(until_us)?);
        Some((x, round((end - x).max(1.0))))
    }

    /// Whole steps of time, as many as have room.
    fn ticks(&self) -> Vec<Value> {
        let steps_us = [100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 60_000_000];
        let fits = |step_us: &&u64| self.span_us() / **step_us <= TICKS;
        let step_us = steps_us.iter().find(fits).copied().unwrap_or(self.span_us());
        let tick = |at_us: u64| {
            let x = self.x(self.from_us + at_us)?;
            Some(context! { x, seconds => format!("{} s", at_us as f64 / 1e6) })
        };
        (0..=self.span_us() / step_us).filter_map(|count| tick(count * step_us)).collect()
    }
}

/// A tenth of a pixel is seen by nobody, and fifteen digits are read by nobody.
fn round(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::record::tests::two_threads;

    /// The record with one second between any two things that happened.
    fn spread(mut record: Record) -> Record {
        for story in record.stories.values_mut() {
            story.queued_us = story.request * 1_000_000;
            story.started = story.started.map(|(_, thread)| (story.request * 1_000_000, thread));
            story.finished_us = story.finished_us.map(|_| 5_000_000);
        }
        record.now_us = 10_000_000;
        record
    }

    #[test]
    fn every_lane_is_in_the_picture_and_names_are_escaped() {
        let mut record = spread(two_threads());
        for story in record.stories.values_mut().filter(|story| story.target == "/up") {
            story.target = "/models/live_stream?tab=<b>".into();
        }
        let picture = svg("nine & eight", &record, 0).unwrap();
        for seen in ["tp 001", "tp 002", "todo", "tab 1", "tab 2", "&lt;b&gt;", "nine &amp; eight", ">10 s<"]
        {
            assert!(picture.contains(seen), "{seen} in {picture}");
        }
        assert!(!picture.contains("<b>"));
    }

    #[test]
    fn who_waits_at_the_same_time_has_a_row_each() {
        let mut record = spread(two_threads());
        let mut fourth = record.stories[&3].clone();
        fourth.request = 4;
        record.stories.insert(4, fourth);
        let scale = PictureScale { from_us: 0, to_us: record.now_us };
        let rows: Vec<_> =
            waiters(&record, &scale).iter().map(|(row, story)| (*row, story.request)).collect();
        assert_eq!(rows, [(0, 3), (1, 4)]);

        // Who has left todo before the picture begins has no row in it.
        for story in record.stories.values_mut().filter(|story| story.started.is_none()) {
            story.started = Some((5_000_000, 1));
        }
        let scale = PictureScale { from_us: 6_000_000, to_us: record.now_us };
        assert!(waiters(&record, &scale).is_empty());
    }

    #[test]
    fn an_empty_record_is_a_picture_too() {
        assert!(svg("nothing", &Record::default(), 0).unwrap().ends_with("</svg>"));
    }
}
