//! Every connection of a run on one time axis, in SVG.
//!
//! Each stream has its own lane: events are ticks, the wait is hatched and labeled with the place, and a letter marks
//! the end. The requests for one page share a lane, and so do the connections that carried nothing. The colors are
//! those of the lanes in the other reports. Each state also has a shape or a letter.

use std::time::Duration;

use minijinja::{Environment, Value, context};

use super::super::super::report::ReportError;
use super::super::measured::{LaneEnd, LaneKind, ProbeLane, WaitPlace};
use super::words;

const TEMPLATE: &str = include_str!("../../../../views/report/probe.svg");

/// Width of the time axis and of the margins to its left and right, in pixels.
const SPAN: f64 = 720.0;
const LEFT: f64 = 124.0;
const RIGHT: f64 = 24.0;
/// Height of a lane and of the margins above and below all lanes, in pixels.
const LANE: usize = 18;
const TOP: usize = 8;
const BELOW: usize = 60;
/// Approximate width of a character, in pixels.
const CHARACTER: f64 = 7.3;
/// Maximum length of a lane's name, in characters.
const LONGEST_NAME: usize = 14;
/// Maximum number of streams that are drawn. Further streams are only counted.
const MOST_STREAMS: usize = 60;
/// Maximum number of lanes that are shared by several connections.
const MOST_SHARED: usize = 12;
/// Maximum number of bars in one shared lane.
const MOST_BARS: usize = 150;
/// Maximum number of ticks in all lanes together. A tick takes about eight bytes, so a page stays below 100,000 bytes.
const MOST_TICKS: f64 = 3_500.0;
/// Minimum distance between two ticks, in pixels.
const LEAST_GAP: f64 = 3.0;
/// Minimum width of a bar, in pixels.
const NARROWEST: f64 = 2.0;
/// Possible intervals between the ticks of the time axis, in seconds.
const STEPS: [f64; 10] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Maximum number of ticks on the time axis.
const MOST_STEPS: f64 = 12.0;

/// The picture.
pub struct ProbePicture {
    /// The picture as SVG. It takes its colors from the style sheet of the page.
    pub svg: String,
    /// Number of streams without a lane.
    pub left_out: usize,
    /// Whether some events are drawn without a tick.
    pub is_thinned: bool,
}

/// Draws the lanes of a run.
pub fn draw(lanes: &[ProbeLane], label: &str) -> Result<ProbePicture, ReportError> {
    let end = lanes.iter().map(|lane| lane.to).max().unwrap_or_default();
    let scale = TimeScale { seconds: end.as_secs_f64().max(0.001) };
    let streams: Vec<&ProbeLane> = lanes.iter().filter(|lane| lane.kind == LaneKind::Stream).collect();
    let shown = &streams[..streams.len().min(MOST_STREAMS)];
    let gap = (shown.len() as f64 * SPAN / MOST_TICKS).max(LEAST_GAP);
    let mut is_thinned = false;
    let mut rows = Vec::new();
    for lane in shown {
        let y = TOP + rows.len() * LANE;
        rows.push(stream(lane, y, &scale, gap, &mut is_thinned));
    }
    for (name, lanes) in shared(lanes) {
        let y = TOP + rows.len() * LANE;
        rows.push(together(&name, &lanes, y, &scale));
    }
    let bottom = TOP + rows.len() * LANE;
    let mut environment = Environment::new();
    environment.add_template("probe.svg", TEMPLATE)?;
    let svg = environment.get_template("probe.svg")?.render(context! {
        label,
        rows,
        ticks => scale.ticks(),
        top => TOP,
        left => LEFT,
        right => LEFT + SPAN,
        bottom,
        width => LEFT + SPAN + RIGHT,
        height => bottom + BELOW,
    })?;
    Ok(ProbePicture { svg, left_out: streams.len() - shown.len(), is_thinned })
}

/// The connections that share a lane, grouped by name. Pages come first; within each kind, the order is that of the
/// first connection.
fn shared(lanes: &[ProbeLane]) -> Vec<(String, Vec<&ProbeLane>)> {
    let mut shared: Vec<(String, Vec<&ProbeLane>)> = Vec::new();
    let of = |kind: LaneKind| lanes.iter().filter(move |lane| lane.kind == kind);
    for lane in of(LaneKind::Page).chain(of(LaneKind::Held)) {
        // `idle 3` belongs to the lane `idle`.
        let name = match lane.kind {
            LaneKind::Held => lane.name.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' '),
            LaneKind::Page | LaneKind::Stream => lane.name.as_str(),
        };
        match shared.iter_mut().find(|(other, _)| other == name) {
            Some((_, all)) => all.push(lane),
            None => shared.push((name.to_owned(), vec![lane])),
        }
    }
    shared.truncate(MOST_SHARED);
    shared
}

fn stream(lane: &ProbeLane, y: usize, scale: &TimeScale, gap: f64, is_thinned: &mut bool) -> Value {
    let (x, width) = scale.bar(lane.from, lane.to);
    let flows_from = lane.ticks.first().map(|first| scale.x(*first));
    let flows =
        flows_from.map(|from| context! { x => from, width => round((x + width - from).max(NARROWEST)) });
    let (mut ticks, mut last) = (String::new(), None);
    for tick in lane.ticks.iter().map(|tick| scale.x(*tick).round()) {
        match last {
            None => ticks = format!("M{tick} {}v8", y + 5),
            Some(last) if tick - last < gap => {
                *is_thinned = true;
                continue;
            }
            Some(last) => ticks += &format!("m{}-8v8", tick - last),
        }
        last = Some(tick);
    }
    let wait = lane.wait.map(|(from, to, place)| {
        let (x, width) = scale.bar(from, to);
        let word = place.map(WaitPlace::name).unwrap_or_default();
        let fits = !word.is_empty() && word.len() as f64 * CHARACTER + 12.0 < width;
        let word = fits.then_some(word);
        context! { x, width, word, word_width => word.map(|word| round(word.len() as f64 * CHARACTER + 4.0)) }
    });
    context! {
        name => words::short(&lane.name, LONGEST_NAME),
        y, x, width, flows, ticks, wait,
        end => letter(lane.end).map(|(letter, class)| {
            context! { letter, class, x => round((x + width).min(LEFT + SPAN)) }
        }),
    }
}

/// Draws several connections in one lane.
fn together(name: &str, lanes: &[&ProbeLane], y: usize, scale: &TimeScale) -> Value {
    let mut bars: Vec<Value> = Vec::new();
    let mut free_from = f64::MIN;
    let is_held = lanes.iter().all(|lane| lane.kind == LaneKind::Held);
    let mut letters = Vec::new();
    for lane in lanes {
        let (x, width) = scale.bar(lane.from, lane.to);
        let class = match lane.end {
            _ if is_held => "spare",
            LaneEnd::Answered => "answered",
            _ => "waiting",
        };
        // An answer that an earlier bar covers is not drawn.
        let is_covered = x + width <= free_from && class != "waiting";
        if !is_covered && bars.len() < MOST_BARS {
            bars.push(context! { x, width, class });
            free_from = free_from.max(x + width);
        }
        if let (Some((letter, class)), true) = (letter(lane.end), lane.end != LaneEnd::ClosedByUs)
            && letters.len() < MOST_BARS
        {
            letters.push(context! { letter, class, x => round((x + width).min(LEFT + SPAN)) });
        }
    }
    let number = lanes.len();
    let name = if is_held { format!("{number} {name}") } else { name.to_owned() };
    context! { name => words::short(&name, LONGEST_NAME), y, bars, letters }
}

/// The letter at the end of a lane, and its CSS class.
fn letter(end: LaneEnd) -> Option<(&'static str, &'static str)> {
    match end {
        LaneEnd::ClosedByUs => Some(("C", "closed")),
        LaneEnd::Cut => Some(("X", "cut")),
        LaneEnd::Refused(_) => Some(("R", "cut")),
        LaneEnd::Answered => None,
    }
}

/// Maps times to positions on the time axis.
struct TimeScale {
    seconds: f64,
}

impl TimeScale {
    fn x(&self, at: Duration) -> f64 {
        round(LEFT + (at.as_secs_f64() / self.seconds).min(1.0) * SPAN)
    }

    fn bar(&self, from: Duration, to: Duration) -> (f64, f64) {
        let x = self.x(from);
        (x, round((self.x(to) - x).max(NARROWEST)))
    }

    fn ticks(&self) -> Vec<Value> {
        let step = STEPS.into_iter().find(|step| self.seconds / step <= MOST_STEPS).unwrap_or(self.seconds);
        let at = |number: usize| number as f64 * step;
        let numbers = (0..).map(at).take_while(|at| *at <= self.seconds);
        numbers
            .map(|at| context! { x => self.x(Duration::from_secs_f64(at)), text => format!("{at} s") })
            .collect()
    }
}

/// Rounds to a tenth of a pixel.
fn round(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}
