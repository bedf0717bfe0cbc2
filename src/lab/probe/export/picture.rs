//! Every connection of a run on one time axis, in SVG.
//!
//! A stream has a lane of its own: events as ticks, its wait hatched with the place, and a letter at its end. The
//! asks of one page share a lane, and so do the connections that carried nothing. Colors are those of the other
//! reports' lanes; each state also has a shape or a letter.

use std::time::Duration;

use minijinja::{Environment, Value, context};

use super::super::super::report::ReportError;
use super::super::measured::{LaneEnd, LaneKind, ProbeLane, WaitPlace};
use super::words;

const TEMPLATE: &str = include_str!("../../../../views/report/probe.svg");

/// Pixels of the time axis, and left and right of it.
const SPAN: f64 = 720.0;
const LEFT: f64 = 124.0;
const RIGHT: f64 = 24.0;
/// Pixels of a lane, and above and below all lanes.
const LANE: usize = 18;
const TOP: usize = 8;
const BELOW: usize = 60;
/// Pixels of a character.
const CHARACTER: f64 = 7.3;
/// Characters of a lane's name.
const LONGEST_NAME: usize = 14;
/// Streams that have lanes. The rest is counted.
const MOST_STREAMS: usize = 60;
/// Lanes that several connections share.
const MOST_SHARED: usize = 12;
/// Bars in one shared lane.
const MOST_BARS: usize = 150;
/// Ticks of all lanes, of about eight bytes each, so that a page stays below 100,000 bytes.
const MOST_TICKS: f64 = 3_500.0;
/// Pixels between two ticks at least.
const LEAST_GAP: f64 = 3.0;
/// The narrowest bar.
const NARROWEST: f64 = 2.0;
/// Steps of the time axis, in seconds.
const STEPS: [f64; 10] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Ticks of the time axis.
const MOST_STEPS: f64 = 12.0;

/// The picture.
pub struct ProbePicture {
    /// In SVG. Its colors are those of the page.
    pub svg: String,
    /// Number of streams without a lane.
    pub left_out: usize,
    /// Whether ticks of some events are left out.
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

/// Lanes that share one, by name, in the order in which they begin: pages first.
fn shared(lanes: &[ProbeLane]) -> Vec<(String, Vec<&ProbeLane>)> {
    let mut shared: Vec<(String, Vec<&ProbeLane>)> = Vec::new();
    let of = |kind: LaneKind| lanes.iter().filter(move |lane| lane.kind == kind);
    for lane in of(LaneKind::Page).chain(of(LaneKind::Held)) {
        // `idle 3` is one of the idle ones.
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

/// Connections that follow each other, or that are alike, in one lane.
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
        // Answers that would cover each other are drawn once.
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

/// The letter at the end of a lane, and its color.
fn letter(end: LaneEnd) -> Option<(&'static str, &'static str)> {
    match end {
        LaneEnd::ClosedByUs => Some(("C", "closed")),
        LaneEnd::Cut => Some(("X", "cut")),
        LaneEnd::Refused(_) => Some(("R", "cut")),
        LaneEnd::Answered => None,
    }
}

/// Maps a time to its place.
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
