//! Lanes as a picture: the same drawing as in the terminal, in SVG, so that the
//! README shows what a run really did.

use minijinja::{Environment, context};
use thiserror::Error;

use super::lanes::{self, Cell};
use super::record::Record;

const TEMPLATE: &str = include_str!("../../views/lanes.svg");
const COLUMNS: usize = 96;
/// Pixels: a cell's width, a lane's height, and the room for labels at the sides.
const CELL: usize = 7;
const LANE: usize = 26;
const LEFT: usize = 64;
const TOP: usize = 56;

/// The picture could not be drawn.
#[derive(Debug, Error)]
#[error("the picture could not be drawn: {0}")]
pub struct PictureError(#[from] minijinja::Error);

/// Draws a record from this time on its clock to its end.
pub fn svg(title: &str, record: &Record, from_us: u64) -> Result<String, PictureError> {
    let lanes = lanes::draw(record, from_us, record.now_us, COLUMNS);
    let drawn: Vec<minijinja::Value> = lanes
        .iter()
        .enumerate()
        .map(|(number, lane)| {
            let mut column = 0;
            let mut spans = Vec::new();
            for run in lane.cells.chunk_by(|a, b| a == b) {
                let x = LEFT + column * CELL;
                spans.push(
                    context! { kind => kind(run[0]), x, width => run.len() * CELL, count => run.len() },
                );
                column += run.len();
            }
            context! {
                label => lane.label.as_str(),
                holder => lane.holder.as_str(),
                y => TOP + number * LANE,
                spans,
            }
        })
        .collect();
    let seconds = record.now_us.saturating_sub(from_us) as f64 / 1e6;
    let bottom = TOP + lanes.len() * LANE;
    let mut environment = Environment::new();
    environment.add_template("lanes.svg", TEMPLATE)?;
    Ok(environment.get_template("lanes.svg")?.render(context! {
        title,
        lanes => drawn,
        left => LEFT,
        right => LEFT + COLUMNS * CELL,
        width => LEFT + COLUMNS * CELL + 150,
        height => bottom + 52,
        bottom,
        seconds => format!("{seconds:.1}"),
    })?)
}

fn kind(cell: Cell) -> &'static str {
    match cell {
        Cell::Empty => "empty",
        Cell::Idle => "idle",
        Cell::Held => "held",
        Cell::Queued => "queued",
        Cell::Wrote => "wrote",
        Cell::Blocked => "blocked",
        Cell::Reaped => "reaped",
        Cell::Gone => "gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::record::tests::two_threads;

    #[test]
    fn every_lane_is_in_the_picture_and_names_are_escaped() {
        let mut record = two_threads();
        for story in record.stories.values_mut().filter(|story| story.target == "/up") {
            story.target = "/models/live_stream?tab=<b>".into();
        }
        let picture = svg("nine & eight", &record, 0).unwrap();
        assert!(picture.contains("tp 001") && picture.contains("tp 002") && picture.contains("todo"));
        assert!(picture.contains("&lt;b&gt;") && picture.contains("nine &amp; eight"));
        assert!(!picture.contains("<b>"));
    }
}
