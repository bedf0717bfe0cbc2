//! A record as a picture in SVG: one lane per pool thread, then one per action thread, and the queue below.
//!
//! In the lanes of the terminal ([`super::lanes`]), a column stands for a fraction of a second. Here, everything is
//! drawn at its exact time. The picture is a pure function of a [`Scene`]. The template defines the shapes.
//! [`STYLE`] and [`PALETTE`] define their colors.

mod actions;
mod legend;
mod paths;
mod scale;

use minijinja::{Environment, context};
use thiserror::Error;

use super::orders;
use super::record::Record;
use super::stage::Scene;
use super::story::Story;
use crate::words;
use actions::ActionLanes;
pub use legend::legend;
use legend::{LegendEntry, in_rows, legend_height, signs};
use paths::{Label, Shapes, across, cross, down, label, rect, round, stripes, strokes};
use scale::{NARROWEST, PictureScale};

const TEMPLATE: &str = include_str!("../../views/lanes.svg");
/// The style of the shapes, with the names of their colors. A page with pictures needs it and [`PALETTE`] once.
pub const STYLE: &str = include_str!("../../views/lanes.css");
/// The values of the named colors.
pub const PALETTE: &str = include_str!("../../views/palette.css");
/// The lanes' width and height and the margins around them, in pixels.
const SPAN: f64 = 760.0;
const LANE: usize = 25;
pub const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
/// The left edge of the lanes' names.
const NAMES: f64 = 16.0;
const TOP: usize = 68;
const BELOW: usize = 56;
/// The height of the time axis.
const AXIS: usize = 26;
const LEGEND_ROW: usize = 20;
/// The top of a picture whose title is in the page, and the height of the labels of orders.
const BELOW_TITLE: usize = TOP - 6;
const LABELS: usize = 16;
/// The width of a character, and the minimum distance between a name and the edge of its bar.
const CHARACTER: f64 = 7.3;
const MARGIN: f64 = 7.0;
/// A wait in the queue that is shorter than this fraction of the picture is not drawn.
const PASSING: u64 = 100;
/// With more lanes than this, those that show only short pages are folded.
const MOST_PAGE_LANES: usize = 16;
/// Maximum number of rows of the queue. Further requests are counted.
const MOST_WAITERS: usize = 16;

/// The picture could not be drawn.
#[derive(Debug, Error)]
#[error("cannot draw the picture: {0}")]
pub struct PictureError(#[from] minijinja::Error);

/// How a scene is drawn.
#[derive(Debug, Clone, Default)]
pub struct PictureLook<'a> {
    /// The title of a separate file, which contains its style. A picture in a page is drawn without one.
    pub title: Option<&'a str>,
    /// The text for screen readers.
    pub label: &'a str,
    /// The end of the picture on the server's clock, if it is not the end of the record.
    pub until_us: Option<u64>,
    /// Whether threads that were idle all the time are counted instead of drawn.
    pub folds_idle: bool,
    /// Whether the legend is left out, because several pictures share one ([`legend()`]).
    pub without_legend: bool,
    /// The minimum distance in pixels between two writes, or two pages, that are both drawn. It is at least a stroke's
    /// width.
    pub least_gap: f64,
    /// Lines below the title, all in the same place, and the style that shows them one after the other.
    pub lines: Vec<String>,
    pub animation: String,
}

/// Draws a scene as a separate file.
pub fn svg(title: &str, scene: &Scene) -> Result<String, PictureError> {
    let lines = vec![format!("{}; drawn by ninetabs from the record of a run", scene.caption)];
    draw(scene, &PictureLook { title: Some(title), label: title, lines, ..PictureLook::default() })
}

/// Draws a scene.
pub fn draw(scene: &Scene, look: &PictureLook<'_>) -> Result<String, PictureError> {
    let record = &scene.record;
    let scale = PictureScale::of(scene, look.until_us);
    let all: Vec<usize> = record.threads().collect();
    let is_drawn = |thread: &usize| !look.folds_idle || !is_idle(record, *thread, &scale);
    let mut rows: Vec<usize> = all.iter().copied().filter(is_drawn).collect();
    // If there are many threads, each has answered a page or two. Threads that did nothing else are counted as well.
    let folds_pages = look.folds_idle && rows.len() > MOST_PAGE_LANES;
    if folds_pages {
        rows.retain(|thread| has_bars(record, *thread, &scale));
    }
    let idle = all.len() - rows.len();
    let (waiters, crowd): (Vec<_>, Vec<_>) =
        waiters(record, &scale).into_iter().partition(|(row, _)| *row < MOST_WAITERS);
    let actions = ActionLanes::of(record, &scale);
    let action_row = rows.len() + usize::from(idle > 0);
    let queue_row = action_row + actions.rows();
    let queue_rows = waiters.iter().map(|(row, _)| row + 1).max().unwrap_or_default();
    let bottom = y(queue_row + queue_rows + usize::from(!crowd.is_empty()));
    let signs = if look.without_legend { Vec::new() } else { signs(record, &scale) };
    let legend = in_rows(signs);
    let ticks = scale.ticks();

    let mut shapes = Shapes::default();
    shapes.grid.extend(ticks.iter().map(|(x, _)| down(*x, TOP, bottom + 4 - TOP)));
    for (row, thread) in rows.iter().enumerate() {
        shapes.idle += &across(LEFT, y(row) as f64 + 12.0, SPAN);
        for (x, width) in unknown(record, &scale) {
            shapes.unknown += &stripes(x, width, y(row));
        }
        lane(&mut shapes, record, *thread, y(row), &scale, look.least_gap);
    }
    actions.draw(&mut shapes, record, action_row, &scale);
    for (row, story) in &waiters {
        let taken_by = story.started.and_then(|(_, thread)| rows.iter().position(|it| *it == thread));
        wait(&mut shapes, story, y(queue_row + row), taken_by.map(y), &scale);
    }
    let marks = marks(record, &scale);
    shapes.orders.extend(marks.iter().map(|mark| down(mark.x, TOP - 4, bottom + 4 - TOP)));
    for mark in &marks {
        if let Some((text, x, width)) = &mark.label {
            label(&mut shapes.plates, &mut shapes.labels, *x, TOP - 4, *width, text.clone());
        }
    }
    let labels = if marks.is_empty() { 0 } else { LABELS };
    let mut environment = Environment::new();
    environment.add_template("palette.css", PALETTE)?;
    environment.add_template("lanes.css", STYLE)?;
    environment.add_template("lanes.svg", TEMPLATE)?;
    Ok(environment.get_template("lanes.svg")?.render(context! {
        title => look.title,
        label => look.label,
        lines => look.lines.clone(),
        animation => look.animation.as_str(),
        from_y => if look.title.is_some() { 0 } else { BELOW_TITLE - labels },
        shapes => shapes.value(),
        threads => paths::values(lane_names(&rows).chain(actions.names(action_row))),
        folded => (idle > 0).then(|| {
            let more = if rows.is_empty() { "" } else { "more " };
            let threads = if idle == 1 { "thread" } else { "threads" };
            let pages = if folds_pages { " or with short pages only" } else { "" };
            format!("{idle} {more}{threads}, {}{pages}", words::IDLE)
        }),
        folded_y => y(rows.len()),
        more_actions => actions.count(&scale),
        more_actions_y => y(queue_row).saturating_sub(LANE),
        crowd => (!crowd.is_empty()).then(|| format!("{} more, {}", crowd.len(), words::WAITING)),
        crowd_y => y(queue_row + queue_rows),
        queue_y => (queue_rows > 0).then(|| y(queue_row)),
        ticks,
        left => LEFT,
        right => LEFT + SPAN,
        top => TOP,
        bottom,
        height => bottom + if look.without_legend { AXIS } else { BELOW + legend_height(&legend) },
        legend => legend.iter().map(LegendEntry::value).collect::<Vec<_>>(),
        legend_y => bottom + 32,
        legend_row => LEGEND_ROW,
        width => (LEFT + SPAN + RIGHT) as usize,
    })?)
}

/// Whether no request held the thread during the time of the picture.
fn is_idle(record: &Record, thread: usize, scale: &PictureScale) -> bool {
    !record
        .stories
        .values()
        .any(|story| story.started.is_some_and(|(_, of)| of == thread) && scale.shows(story))
}

/// Whether a request held the thread for long enough to be drawn as a bar.
fn has_bars(record: &Record, thread: usize, scale: &PictureScale) -> bool {
    let own = record.stories.values().filter(|story| story.started.is_some_and(|(_, of)| of == thread));
    own.into_iter().any(|story| scale.shows(story) && !is_short_page(story, scale))
}

/// The name of each drawn thread, and its baseline.
fn lane_names(rows: &[usize]) -> impl Iterator<Item = Label> {
    let name =
        |(row, thread): (usize, &usize)| Label { x: NAMES, y: y(row) + 16, text: format!("tp {thread:03}") };
    rows.iter().enumerate().map(name)
}

/// Draws one thread: its requests and their writes.
fn lane(
    shapes: &mut Shapes,
    record: &Record,
    thread: usize,
    top: usize,
    scale: &PictureScale,
    least_gap: f64,
) {
    let own = || record.stories.values().filter(|story| story.started.is_some_and(|(_, of)| of == thread));
    let shown = || own().filter(|story| scale.shows(story));
    let mut names = Vec::new();
    for story in own() {
        names.extend(stay(shapes, story, top, scale, least_gap));
    }
    let is_drawn = |story: &Story, at_us: u64| {
        !is_answered_page(story) && story.closed_us.is_none_or(|closed_us| at_us <= closed_us)
    };
    let writes = shown().flat_map(|story| {
        story.writes_us.iter().filter(|at_us| is_drawn(story, **at_us)).filter_map(|at_us| scale.x(*at_us))
    });
    // Writes are not drawn across a name.
    let is_covered = |x: f64| names.iter().any(|(from, to)| (*from..=*to).contains(&x));
    let writes = writes.map(|x| x + 1.5).filter(|x| !is_covered(*x));
    shapes.writes += &strokes(writes, top + 2, 20, least_gap);
    let pages = shown()
        .filter(|story| is_short_page(story, scale))
        .filter_map(|story| scale.x(story.started?.0.max(scale.from_us)));
    // An answered page is drawn lower than a held thread, so the two differ even without colors.
    shapes.pages += &strokes(pages.map(|x| x + 1.0), top + 8, 14, least_gap);
}

/// Whether this is an answered page that is so short that its bar has the minimum width.
fn is_short_page(story: &Story, scale: &PictureScale) -> bool {
    let width = |from_us: u64, until_us: u64| scale.bar(from_us, until_us).map(|(_, width)| width);
    let times = story.started.zip(story.finished_us);
    is_answered_page(story)
        && story.gone.is_none()
        && story.blocked_us.is_empty()
        && times.is_some_and(|((from_us, _), until_us)| width(from_us, until_us) == Some(NARROWEST))
}

/// Draws one request on a thread. Returns the edges of its name, if there is space for one.
fn stay(
    shapes: &mut Shapes,
    story: &Story,
    top: usize,
    scale: &PictureScale,
    least_gap: f64,
) -> Option<(f64, f64)> {
    if !scale.shows(story) || is_short_page(story, scale) {
        return None;
    }
    let (from_us, until_us) = (story.started?.0, story.finished_us.unwrap_or(scale.to_us));
    let (x, width) = scale.bar(from_us, until_us)?;
    let y = top as f64;
    let is_open = !is_answered_page(story);
    match is_open {
        true => shapes.held += &rect(x, y + 2.0, width, 20.0),
        false => shapes.answered += &rect(x, y + 8.0, width, 14.0),
    }
    for (from_us, until_us) in &story.blocked_us {
        shapes.hatching.extend(scale.bar(*from_us, *until_us).map(|(x, width)| stripes(x, width, top)));
    }
    let gone = story.closed_us.filter(|closed_us| *closed_us < until_us);
    // The client may have closed after the end of the picture.
    if let Some(bar) = gone.and_then(|closed_us| scale.bar(closed_us.max(from_us), until_us)) {
        hollow(shapes, story, top, bar, scale, least_gap);
    }
    if let Some(x) = story.reaped_us.and_then(|at_us| scale.x(at_us)) {
        shapes.reaped.add('R', x, top + 12);
    }
    let failed = story.gone.iter().filter_map(|gone| scale.x(gone.at_us));
    shapes.failed.extend(failed.map(|x| cross(x, top + 12)));
    let end_of_name = scale.x(story.closed_us.unwrap_or(until_us).min(scale.to_us)).unwrap_or(x);
    let name = name_that_fits(story, end_of_name.min(x + width) - x)?;
    let edges = (x + 8.0, x + 14.0 + text_width(&name));
    let down = if is_open { 16 } else { 19 };
    shapes.names.push(Label { x: round(x + 11.0), y: top + down, text: name });
    Some(edges)
}

/// Draws the end of a stream: the part after its client closed, during which its thread was still held.
fn hollow(
    shapes: &mut Shapes,
    story: &Story,
    top: usize,
    (x, width): (f64, f64),
    scale: &PictureScale,
    least_gap: f64,
) {
    shapes.gone += &rect(x + 1.5, top as f64 + 3.5, (width - 3.0).max(1.0), 17.0);
    let is_gone = |at_us: &u64| story.closed_us.is_some_and(|closed_us| *at_us > closed_us);
    let writes = story.writes_us.iter().copied().filter(is_gone).filter_map(|at_us| scale.x(at_us));
    shapes.gone_writes += &strokes(writes.map(|x| x + 1.5), top + 2, 20, least_gap);
    let gone = words::CLIENT_GONE.to_owned();
    let labels = [format!("{} {}, {gone}", story.name(), words::CLOSED), gone];
    if let Some(text) = labels.into_iter().find(|text| text_width(text) + 3.0 * MARGIN <= width) {
        let plate = text_width(&text) + 6.0;
        label(&mut shapes.plates, &mut shapes.labels, x + MARGIN + 3.0, top + 16, plate, text);
    }
}

/// Whether this is an answered request that is not a stream.
fn is_answered_page(story: &Story) -> bool {
    !story.is_stream && story.finished_us.is_some()
}

/// The requests that wait in the queue long enough to be drawn, each with a row in which it overlaps no other.
fn waiters<'a>(record: &'a Record, scale: &PictureScale) -> Vec<(usize, &'a Story)> {
    let stays = |story: &&Story| {
        let until_us = waits_until(story, scale);
        story.queued_us < scale.to_us
            && until_us >= scale.from_us
            && until_us.saturating_sub(story.queued_us) > scale.span_us() / PASSING
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
    story.left_todo_us().unwrap_or(scale.to_us).min(scale.to_us)
}

/// Whether this is a spare connection, which waits without a request.
fn is_spare(story: &Story) -> bool {
    story.target.is_empty()
}

fn wait(shapes: &mut Shapes, story: &Story, top: usize, taken_y: Option<usize>, scale: &PictureScale) {
    let bar = scale.bar(story.queued_us, waits_until(story, scale));
    let (x, width) = bar.unwrap_or((LEFT, 0.0));
    if is_spare(story) {
        shapes.spare += &rect(x, top as f64 + 8.0, width, 8.0);
    } else {
        shapes.waiting += &rect(x, top as f64 + 2.0, width, 20.0);
        shapes.stripes += &stripes(x, width, top);
        let is_taken = story.started.is_some_and(|(at_us, _)| at_us <= scale.to_us);
        if let Some(lane) = taken_y.filter(|_| is_taken) {
            // A line from the thread down to the end of the wait.
            shapes.taken += &down(x + width, lane + 22, (top + 2).saturating_sub(lane + 22));
        }
    }
    if let Some(name) = name_that_fits(story, width) {
        let plate = text_width(&name) + 6.0;
        label(&mut shapes.plates, &mut shapes.labels, x + 8.0, top + 16, plate, name);
    }
}

/// An order: the position of its line, and its label with its position and width.
struct OrderMark {
    x: f64,
    label: Option<(String, f64, f64)>,
}

/// The orders: a line through all lanes for each, and its label to the right or left of the line. The newest label has
/// precedence where the space is not enough for all of them.
fn marks(record: &Record, scale: &PictureScale) -> Vec<OrderMark> {
    let mut free = LEFT + SPAN;
    let labels = orders::labels(&record.orders).into_iter().rev();
    let shown = labels.filter_map(|(at_us, text)| Some((scale.x(at_us)?, text)));
    let mark = |(x, text): (f64, String)| {
        let width = text_width(&text) + 6.0;
        let left = if x + width < free { x + 4.0 } else { x - width };
        let fits = left >= LEFT - 60.0 && left + width - 4.0 <= free;
        if fits {
            free = left.min(x) - 6.0;
        }
        OrderMark { x, label: fits.then_some((text, left + 1.0, width - 2.0)) }
    };
    shown.map(mark).collect()
}

/// The bars of the times that were not recorded, except for times before the picture.
fn unknown(record: &Record, scale: &PictureScale) -> Vec<(f64, f64)> {
    let spans = record.unknown_us.iter().filter(|(_, until_us)| *until_us > scale.from_us);
    spans.filter_map(|(from_us, until_us)| scale.bar(*from_us, *until_us)).collect()
}

fn y(row: usize) -> usize {
    TOP + row * LANE
}

fn text_width(text: &str) -> f64 {
    console::measure_text_width(text) as f64 * CHARACTER
}

fn name_that_fits(story: &Story, width: f64) -> Option<String> {
    Some(story.name()).filter(|name| text_width(name) + 3.0 * MARGIN <= width)
}

#[cfg(test)]
mod tests;
