//! A record as a picture in SVG: one lane per thread, and the queue below.
//!
//! The lanes of the terminal ([`super::lanes`]) have a column for a fraction of a second. Here everything is drawn
//! where it happened. It is a pure function of a [`Scene`]. The template has the shapes, and [`STYLE`] and
//! [`PALETTE`] have their colors.

use minijinja::{Environment, Value, context};
use thiserror::Error;

use super::orders;
use super::record::Record;
use super::stage::Scene;
use super::story::Story;
use crate::words;

const TEMPLATE: &str = include_str!("../../views/lanes.svg");
/// The shapes' colors by name. A page that contains pictures needs this once, and [`PALETTE`].
pub const STYLE: &str = include_str!("../../views/lanes.css");
/// The values of the colors.
pub const PALETTE: &str = include_str!("../../views/palette.css");
/// The lanes' width and height and the margins around them, in pixels.
const SPAN: f64 = 760.0;
const LANE: usize = 25;
pub const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
const TOP: usize = 68;
const BELOW: usize = 56;
const LEGEND_ROW: usize = 20;
/// The top of a picture whose title is in the page, and the height of the labels of orders.
const BELOW_TITLE: usize = TOP - 6;
const LABELS: usize = 16;
/// The width of a character, and the least distance between a name and the edge of its bar.
const CHARACTER: f64 = 7.3;
const MARGIN: f64 = 7.0;
/// The width of the narrowest bar.
const NARROWEST: f64 = 2.0;
/// A wait in the queue that is shorter than this fraction of the picture is not drawn.
const PASSING: u64 = 100;
/// Maximum number of ticks on the time axis.
const TICKS: u64 = 12;

/// The picture could not be drawn.
#[derive(Debug, Error)]
#[error("cannot draw the picture: {0}")]
pub struct PictureError(#[from] minijinja::Error);

/// How a scene is drawn.
#[derive(Debug, Clone, Default)]
pub struct PictureLook<'a> {
    /// The title of a separate file, which contains its style. A picture in a page is drawn without one.
    pub title: Option<&'a str>,
    /// What a screen reader says.
    pub label: &'a str,
    /// The end of the picture on the server's clock, if it is not the end of the record.
    pub until_us: Option<u64>,
    /// Whether threads that were idle all the time are counted, and not drawn.
    pub folds_idle: bool,
    /// Lines below the title, all in the same place, and the style that shows them one at a time.
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
    let Scene { record, from_us, .. } = scene;
    let until_us = look.until_us.unwrap_or(record.now_us);
    let scale = PictureScale { from_us: *from_us, to_us: until_us.max(from_us + 1) };
    let rows: Vec<usize> =
        record.threads().filter(|thread| !look.folds_idle || !is_idle(record, *thread, &scale)).collect();
    let idle = record.threads().len() - rows.len();
    let threads: Vec<Value> =
        rows.iter().enumerate().map(|(row, thread)| lane(record, *thread, row, &scale)).collect();
    let waiters = waiters(record, &scale);
    let queue_row = rows.len() + usize::from(idle > 0);
    let queue_rows = waiters.iter().map(|(row, _)| row + 1).max().unwrap_or_default();
    let wait = |(row, story): &(usize, &Story)| {
        let taken_by = story.started.and_then(|(_, thread)| rows.iter().position(|it| *it == thread));
        wait(story, queue_row + row, taken_by, &scale)
    };
    let waits: Vec<Value> = waiters.iter().map(wait).collect();
    let bottom = y(queue_row + queue_rows);
    let legend = legend(record, &waiters, &scale);
    let marks = marks(record, &scale);
    let unknown = unknown(record, &scale);
    let hatching = |(x, width): &(f64, f64)| {
        (0..rows.len()).map(|row| context! { hatching => stripes(*x, *width, y(row)) }).collect::<Vec<_>>()
    };
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
        unknown => unknown.iter().flat_map(hatching).collect::<Vec<_>>(),
        marks,
        threads,
        folded => (idle > 0).then(|| {
            let more = if rows.is_empty() { "" } else { "more " };
            format!("{idle} {more}{}, {}", if idle == 1 { "thread" } else { "threads" }, words::IDLE)
        }),
        folded_y => y(rows.len()),
        waits,
        queue_y => y(queue_row),
        ticks => scale.ticks(),
        left => LEFT,
        right => LEFT + SPAN,
        top => TOP,
        bottom,
        height => bottom + BELOW + (legend.last().map_or(0, |entry| entry.row) * LEGEND_ROW),
        legend => legend.iter().map(LegendEntry::value).collect::<Vec<_>>(),
        legend_y => bottom + 32,
        legend_row => LEGEND_ROW,
        width => LEFT + SPAN + RIGHT,
    })?)
}

/// Whether no request held the thread while it is drawn.
fn is_idle(record: &Record, thread: usize, scale: &PictureScale) -> bool {
    !record
        .stories
        .values()
        .any(|story| story.started.is_some_and(|(_, of)| of == thread) && scale.shows(story))
}

/// One thread: its requests, and what happened to each of their writes.
fn lane(record: &Record, thread: usize, row: usize, scale: &PictureScale) -> Value {
    let own = || record.stories.values().filter(|story| story.started.is_some_and(|(_, of)| of == thread));
    let stays: Vec<Value> = own().filter_map(|story| stay(story, row, scale)).collect();
    // Thousands of writes and of short pages share a path, so that a report stays small.
    let shown = || own().filter(|story| scale.shows(story));
    let is_drawn = |story: &Story, at_us: u64| {
        !is_answered_page(story) && story.closed_us.is_none_or(|closed_us| at_us <= closed_us)
    };
    let writes = shown().flat_map(|story| {
        story.writes_us.iter().filter(|at_us| is_drawn(story, **at_us)).filter_map(|at_us| scale.x(*at_us))
    });
    let pages = shown()
        .filter(|story| is_short_page(story, scale))
        .filter_map(|story| scale.x(story.started?.0.max(scale.from_us)));
    context! {
        label => format!("tp {thread:03}"),
        y => y(row),
        stays,
        writes => strokes(writes.map(|x| x + 1.5), y(row) + 2, 20),
        // Also without colors, a page that was answered is lower than a held thread.
        pages => strokes(pages.map(|x| x + 1.0), y(row) + 8, 14),
    }
}

/// A path of vertical strokes.
fn strokes(places: impl Iterator<Item = f64>, top: usize, height: usize) -> String {
    places.map(|x| format!("M{} {top}v{height}", round(x))).collect()
}

/// A page that was answered within the narrowest bar.
fn is_short_page(story: &Story, scale: &PictureScale) -> bool {
    let width = |from_us: u64, until_us: u64| scale.bar(from_us, until_us).map(|(_, width)| width);
    let times = story.started.zip(story.finished_us);
    is_answered_page(story)
        && story.gone.is_none()
        && story.blocked_us.is_empty()
        && times.is_some_and(|((from_us, _), until_us)| width(from_us, until_us) == Some(NARROWEST))
}

fn stay(story: &Story, row: usize, scale: &PictureScale) -> Option<Value> {
    if !scale.shows(story) || is_short_page(story, scale) {
        return None;
    }
    let (from_us, until_us) = (story.started?.0, story.finished_us.unwrap_or(scale.to_us));
    let (x, width) = scale.bar(from_us, until_us)?;
    let is_gone = |at_us: &u64| story.closed_us.is_some_and(|closed_us| *at_us > closed_us);
    let marks = |times: &mut dyn Iterator<Item = u64>| times.filter_map(|at| scale.x(at)).collect::<Vec<_>>();
    let hollow = story.closed_us.filter(|closed_us| *closed_us < until_us).and_then(|closed_us| {
        let (x, width) = scale.bar(closed_us.max(from_us), until_us)?;
        let writes = story.writes_us.iter().copied().filter(is_gone).filter_map(|at_us| scale.x(at_us));
        let writes = strokes(writes.map(|x| x + 1.5), y(row) + 2, 20);
        let gone = words::CLIENT_GONE.to_owned();
        let labels = [format!("{} {}, {gone}", story.name(), words::CLOSED), gone];
        let label = labels.into_iter().find(|label| text_width(label) + 3.0 * MARGIN <= width);
        let label_width = label.as_ref().map(|label| round(text_width(label) + 6.0));
        let label_x = round(x + MARGIN);
        Some(context! { x, width => round((width - 3.0).max(1.0)), writes, label, label_width, label_x })
    });
    let end_of_name = scale.x(story.closed_us.unwrap_or(until_us).min(scale.to_us)).unwrap_or(x);
    let is_open = !is_answered_page(story);
    let name = name_that_fits(story, end_of_name.min(x + width) - x);
    Some(context! {
        x, width,
        is_open,
        name_width => round(text_width(&name) + 6.0),
        name,
        blocked => blocked(story, row, scale),
        hollow,
        failed => marks(&mut story.gone.iter().map(|gone| gone.at_us)),
        reaped => marks(&mut story.reaped_us.into_iter()),
    })
}

/// A request other than a stream that got its response.
fn is_answered_page(story: &Story) -> bool {
    !story.is_stream && story.finished_us.is_some()
}

/// The writes that their readers delayed.
fn blocked(story: &Story, row: usize, scale: &PictureScale) -> Vec<Value> {
    let bars = story.blocked_us.iter().filter_map(|(from_us, until_us)| scale.bar(*from_us, *until_us));
    bars.map(|(x, width)| context! { hatching => stripes(x, width, y(row)) }).collect()
}

/// Diagonal lines that fill a bar.
fn stripes(x: f64, width: f64, y: usize) -> String {
    const STEP: f64 = 9.0;
    const HEIGHT: f64 = 16.0;
    let mut path = String::new();
    let mut at = x - HEIGHT;
    while at < x + width {
        // From the lower left to the upper right, cut at both edges of the bar.
        let (from, to) = (at.max(x + 1.0), (at + HEIGHT).min(x + width - 1.0));
        if to > from {
            let (low, high) = (y as f64 + 20.0 - (from - at), y as f64 + 20.0 - (to - at));
            path.push_str(&format!("M{} {}L{} {}", round(from), round(low), round(to), round(high)));
        }
        at += STEP;
    }
    path
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

/// A spare connection: it waits without a request.
fn is_spare(story: &Story) -> bool {
    story.target.is_empty()
}

fn wait(story: &Story, row: usize, taken_by: Option<usize>, scale: &PictureScale) -> Value {
    let bar = scale.bar(story.queued_us, waits_until(story, scale));
    let (x, width) = bar.unwrap_or((LEFT, 0.0));
    let is_taken = story.started.is_some_and(|(at_us, _)| at_us <= scale.to_us);
    let name = name_that_fits(story, width);
    context! {
        x, width,
        y => y(row),
        stripes => stripes(x, width, y(row)),
        is_spare => is_spare(story),
        name_width => round(text_width(&name) + 6.0),
        name,
        taken_y => taken_by.filter(|_| is_taken).map(y),
    }
}

/// The orders: a line through all lanes for each, and its label to the right or left of the line. The newest label has
/// precedence where there is no space for all of them.
fn marks(record: &Record, scale: &PictureScale) -> Vec<Value> {
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
        context! { x, label => fits.then_some(text), label_x => round(left), label_width => round(width - 2.0) }
    };
    shown.map(mark).collect()
}

/// The bars of the times that are not recorded. Those before the picture are not drawn.
fn unknown(record: &Record, scale: &PictureScale) -> Vec<(f64, f64)> {
    let spans = record.unknown_us.iter().filter(|(_, until_us)| *until_us > scale.from_us);
    spans.filter_map(|(from_us, until_us)| scale.bar(*from_us, *until_us)).collect()
}

/// What a sign means, and its place below the picture.
#[derive(Debug)]
struct LegendEntry {
    /// The name of its shape in the template.
    kind: &'static str,
    word: &'static str,
    x: f64,
    row: usize,
}

impl LegendEntry {
    fn value(&self) -> Value {
        context! { kind => self.kind, word => self.word, x => self.x, row => self.row }
    }
}

/// The legend: only what the picture shows.
fn legend(record: &Record, waiters: &[(usize, &Story)], scale: &PictureScale) -> Vec<LegendEntry> {
    let shown: Vec<&Story> = record.stories.values().filter(|story| scale.shows(story)).collect();
    let is_shown = |at_us: &u64| (scale.from_us..=scale.to_us).contains(at_us);
    let any = |has: &dyn Fn(&Story) -> bool| shown.iter().any(|story| has(story));
    let entries = [
        ("held", words::HELD, any(&|story| !is_answered_page(story))),
        ("write", words::WRITE, any(&|story| story.writes_us.iter().any(is_shown))),
        (
            "blocked",
            words::WRITE_BLOCKED,
            any(&|story| story.blocked_us.iter().any(|(_, until_us)| is_shown(until_us))),
        ),
        ("gone", words::CLIENT_GONE, any(&|story| story.closed_us.as_ref().is_some_and(is_shown))),
        (
            "failed",
            words::WRITE_FAILED,
            any(&|story| story.gone.as_ref().is_some_and(|gone| is_shown(&gone.at_us))),
        ),
        ("reaped", words::REAPED, any(&|story| story.reaped_us.as_ref().is_some_and(is_shown))),
        ("answered", words::ANSWERED, any(&is_answered_page)),
        ("idle", words::IDLE, true),
        ("waiting", words::WAITING, waiters.iter().any(|(_, story)| !is_spare(story))),
        ("spare", words::SPARE_CONNECTION, waiters.iter().any(|(_, story)| is_spare(story))),
        ("unrecorded", words::NOT_RECORDED, !unknown(record, scale).is_empty()),
    ];
    let (mut x, mut row) = (LEFT, 0);
    let mut legend = Vec::new();
    for (kind, word, _) in entries.into_iter().filter(|(_, _, is_there)| *is_there) {
        let width = text_width(word) + 40.0;
        if x + width > LEFT + SPAN {
            (x, row) = (LEFT, row + 1);
        }
        legend.push(LegendEntry { kind, word, x: round(x), row });
        x += width;
    }
    legend
}

fn y(row: usize) -> usize {
    TOP + row * LANE
}

fn text_width(text: &str) -> f64 {
    console::measure_text_width(text) as f64 * CHARACTER
}

fn name_that_fits(story: &Story, width: f64) -> String {
    let name = story.name();
    if text_width(&name) + 3.0 * MARGIN <= width { name } else { String::new() }
}

/// Maps a time to its place in the picture.
struct PictureScale {
    from_us: u64,
    to_us: u64,
}

impl PictureScale {
    fn span_us(&self) -> u64 {
        self.to_us - self.from_us
    }

    /// Whether the request held its thread while the picture is drawn.
    fn shows(&self, story: &Story) -> bool {
        story.started.is_some_and(|(at_us, _)| at_us <= self.to_us)
            && story.finished_us.is_none_or(|at_us| at_us >= self.from_us)
    }

    fn x(&self, at_us: u64) -> Option<f64> {
        let since = at_us.checked_sub(self.from_us).filter(|since| *since <= self.span_us())?;
        Some(round(LEFT + since as f64 * SPAN / self.span_us() as f64))
    }

    /// The left edge and the width of a bar. `None` if it ended before the picture begins.
    fn bar(&self, from_us: u64, until_us: u64) -> Option<(f64, f64)> {
        let (x, end) = (self.x(from_us.max(self.from_us))?, self.x(until_us.min(self.to_us))?);
        Some((x, round((end - x).max(NARROWEST))))
    }

    /// The ticks of the time axis, in whole steps.
    fn ticks(&self) -> Vec<Value> {
        let steps_us = [100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 30_000_000]
            .into_iter()
            .chain([1, 2, 5, 10, 30, 60, 120, 360].map(|minutes| minutes * 60_000_000));
        let fits = |step_us: &u64| self.span_us() / *step_us <= TICKS;
        let step_us = { steps_us }.find(fits).unwrap_or(self.span_us());
        let tick = |at_us: u64| {
            let x = self.x(self.from_us + at_us)?;
            Some(context! { x, seconds => format!("{} s", at_us as f64 / 1e6) })
        };
        (0..=self.span_us() / step_us).filter_map(|count| tick(count * step_us)).collect()
    }
}

/// Rounds to a tenth of a pixel.
fn round(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::record::tests::two_threads;

    /// The record of two threads over ten seconds, as a scene.
    fn spread() -> Scene {
        let mut record = two_threads();
        for story in record.stories.values_mut() {
            story.queued_us = story.request * 1_000_000;
            story.started = story.started.map(|(_, thread)| (story.request * 1_000_000, thread));
            story.finished_us = story.finished_us.map(|_| 5_000_000);
            story.writes_us = vec![story.request * 1_000_000];
            if let Some(gone) = &mut story.gone {
                gone.at_us = 5_000_000;
            }
        }
        record.now_us = 10_000_000;
        Scene { caption: "two tabs".into(), record, from_us: 0 }
    }

    #[test]
    fn every_lane_is_in_the_picture_and_names_are_escaped() {
        let mut scene = spread();
        for story in scene.record.stories.values_mut().filter(|story| story.target == "/up") {
            story.target = "/models/live_stream?tab=<b>".into();
        }
        let picture = svg("nine & eight", &scene).unwrap();
        for seen in ["tp 001", "tp 002", "queue", "tab 1", "tab 2", "&lt;b&gt;", "nine &amp; eight", ">10 s<"]
        {
            assert!(picture.contains(seen), "{seen} in {picture}");
        }
        assert!(!picture.contains("<b>"));
    }

    #[test]
    fn the_legend_lists_only_what_the_picture_shows() {
        let mut scene = spread();
        let has = |scene: &Scene, kind: &str| svg("", scene).unwrap().contains(&format!(">{kind}</text>"));
        for (kind, is_there) in [
            ("held", true),
            ("write", true),
            ("write failed", true),
            ("waiting", true),
            ("idle", true),
            ("client gone", false),
            ("reaped", false),
            ("write blocked", false),
            ("answered", false),
            ("spare connection", false),
        ] {
            assert_eq!(has(&scene, kind), is_there, "{kind}");
        }
        scene.record.client_closed(40_002, 6_000_000);
        let picture = svg("", &scene).unwrap();
        assert!(picture.contains("tab 2 closed, client gone") && has(&scene, "client gone"), "{picture}");
    }

    #[test]
    fn idle_threads_are_counted_where_they_are_folded() {
        let mut scene = spread();
        scene.record.stories.remove(&2);
        let look = PictureLook { folds_idle: true, ..PictureLook::default() };
        let picture = draw(&scene, &look).unwrap();
        assert!(picture.contains("1 more thread, idle") && !picture.contains("tp 002"), "{picture}");
    }

    #[test]
    fn requests_that_wait_at_the_same_time_have_separate_rows() {
        let mut record = spread().record;
        let mut fourth = record.stories[&3].clone();
        fourth.request = 4;
        record.stories.insert(4, fourth);
        let scale = PictureScale { from_us: 0, to_us: record.now_us };
        let rows: Vec<_> =
            waiters(&record, &scale).iter().map(|(row, story)| (*row, story.request)).collect();
        assert_eq!(rows, [(0, 3), (1, 4)]);

        // A request that left the queue before the picture begins is omitted.
        for story in record.stories.values_mut().filter(|story| story.started.is_none()) {
            story.started = Some((5_000_000, 1));
        }
        let scale = PictureScale { from_us: 6_000_000, to_us: record.now_us };
        assert!(waiters(&record, &scale).is_empty());
    }

    #[test]
    fn stripes_stay_inside_their_bar() {
        let path = stripes(100.0, 40.0, 0);
        let numbers = path.split(['M', 'L', ' ']).filter(|number| !number.is_empty());
        for (index, number) in numbers.enumerate() {
            let number: f64 = number.parse().unwrap();
            let bounds = if index % 2 == 0 { 100.0..=140.0 } else { 4.0..=20.0 };
            assert!(bounds.contains(&number), "{number} in {path}");
        }
        assert_eq!(stripes(0.0, 1.0, 0), "");
    }

    #[test]
    fn an_empty_record_is_a_picture_as_well() {
        let scene = Scene { caption: String::new(), record: Record::default(), from_us: 0 };
        assert!(svg("nothing", &scene).unwrap().ends_with("</svg>"));
    }
}
