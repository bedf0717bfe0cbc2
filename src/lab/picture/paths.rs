//! The shapes of a picture. Shapes that look the same are one path, so that a report with many pictures stays small.

use minijinja::{Value, context};

/// The minimum distance between two strokes, in pixels. Closer strokes would touch each other.
const CLOSEST: f64 = 3.0;

/// The paths of a picture, each drawn over the one before, and the labels.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    pub grid: String,
    pub idle: String,
    pub unknown: String,
    pub held: String,
    pub answered: String,
    pub pages: String,
    pub writes: String,
    pub hatching: String,
    pub gone: String,
    pub gone_writes: String,
    pub reaped: SignShapes,
    pub failed: String,
    pub spare: String,
    pub taken: String,
    pub waiting: String,
    pub stripes: String,
    pub orders: String,
    /// Behind the labels.
    pub plates: String,
    pub names: Vec<Label>,
    pub labels: Vec<Label>,
}

/// A text, and the position of its left end.
#[derive(Debug)]
pub(super) struct Label {
    pub x: f64,
    pub y: usize,
    pub text: String,
}

/// The same letter in several places.
#[derive(Debug, Default)]
pub(super) struct SignShapes {
    pub boxes: String,
    pub x: String,
    pub y: String,
    /// One letter for each place.
    pub letters: String,
}

impl Shapes {
    /// All shapes, as values for the template.
    pub fn value(self) -> Value {
        let Shapes {
            grid, idle, unknown, held, answered, pages, writes, hatching, gone, gone_writes, ..
        } = self;
        let Shapes { reaped, failed, spare, taken, waiting, stripes, orders, plates, names, labels, .. } =
            self;
        let SignShapes { boxes, x, y, letters } = reaped;
        context! {
            grid, idle, unknown, held, answered, pages, writes, hatching, gone, gone_writes, failed, spare, taken,
            waiting, stripes, orders, plates,
            reaped => context! { boxes, x, y, letters },
            names => values(names),
            labels => values(labels),
        }
    }
}

/// Labels for the template.
pub(super) fn values(labels: impl IntoIterator<Item = Label>) -> Vec<Value> {
    labels.into_iter().map(|Label { x, y, text }| context! { x, y, text }).collect()
}

impl SignShapes {
    /// Adds a letter in a box around this place.
    pub fn add(&mut self, letter: char, x: f64, y: usize) {
        self.boxes += &rect(x - 7.0, y as f64 - 8.0, 14.0, 16.0);
        let gap = if self.x.is_empty() { "" } else { " " };
        self.x += &format!("{gap}{}", round(x));
        self.y += &format!("{gap}{}", y + 4);
        self.letters.push(letter);
    }
}

/// Adds a label to `labels`, with a plate behind it.
pub(super) fn label(
    plates: &mut String,
    labels: &mut Vec<Label>,
    x: f64,
    y: usize,
    width: f64,
    text: String,
) {
    *plates += &rect(x - 3.0, y as f64 - 11.0, width, 14.0);
    labels.push(Label { x: round(x), y, text });
}

/// A rectangle as a part of a path.
pub(super) fn rect(x: f64, y: f64, width: f64, height: f64) -> String {
    let width = round(width);
    format!("M{} {}h{width}v{}h-{width}z", round(x), round(y), round(height))
}

/// A line from left to right.
pub(super) fn across(x: f64, y: f64, width: f64) -> String {
    format!("M{} {}h{}", round(x), round(y), round(width))
}

/// A line from top to bottom.
pub(super) fn down(x: f64, y: usize, height: usize) -> String {
    format!("M{} {y}v{height}", round(x))
}

/// Lines from top to bottom. Of several lines that would touch each other, or are closer than `least_gap` pixels, only
/// the first is drawn.
pub(super) fn strokes(
    places: impl Iterator<Item = f64>,
    top: usize,
    height: usize,
    least_gap: f64,
) -> String {
    let mut places: Vec<f64> = places.collect();
    places.sort_by(f64::total_cmp);
    let mut last = f64::NEG_INFINITY;
    let mut path = String::new();
    for x in places {
        if x - last >= least_gap.max(CLOSEST) {
            path += &down(x, top, height);
            last = x;
        }
    }
    path
}

/// A cross around this place.
pub(super) fn cross(x: f64, y: usize) -> String {
    format!("M{} {}l10 10m0-10l-10 10", round(x - 5.0), y - 5)
}

/// Diagonal lines that fill a bar.
pub(super) fn stripes(x: f64, width: f64, y: usize) -> String {
    const STEP: f64 = 9.0;
    const HEIGHT: f64 = 16.0;
    let mut path = String::new();
    let mut at = x - HEIGHT;
    while at < x + width {
        // From the lower left to the upper right, clipped at both edges of the bar.
        let (from, to) = (at.max(x + 1.0), (at + HEIGHT).min(x + width - 1.0));
        if to > from {
            let low = y as f64 + 20.0 - (from - at);
            let across = round(to - from);
            path += &format!("M{} {}l{across}-{across}", round(from), round(low));
        }
        at += STEP;
    }
    path
}

/// Rounds to a tenth of a pixel.
pub(super) fn round(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_stay_inside_their_bar() {
        let path = stripes(100.0, 40.0, 0);
        for line in path.split('M').skip(1) {
            let numbers = line.split(['l', ' ', '-']).map(|number| number.parse().unwrap());
            let [x, y, right, up] = numbers.collect::<Vec<f64>>().try_into().unwrap();
            assert!((100.0..=140.0).contains(&x) && (100.0..=140.0).contains(&(x + right)), "{line}");
            assert!((4.0..=20.0).contains(&y) && (4.0..=20.0).contains(&(y - up)), "{line}");
        }
        assert_eq!(stripes(0.0, 1.0, 0), "");
    }

    #[test]
    fn strokes_that_would_touch_each_other_are_drawn_once() {
        let places = || [9.0, 1.0, 2.0, 4.0, 12.0].into_iter();
        assert_eq!(strokes(places(), 5, 20, 0.0), "M1 5v20M4 5v20M9 5v20M12 5v20");
        assert_eq!(strokes(places(), 5, 20, 8.0), "M1 5v20M9 5v20");
    }
}
