//! The time axis of a picture. Times are in microseconds on the server's clock, positions in pixels.

use super::paths::round;
use super::{LEFT, SPAN};
use crate::lab::stage::Scene;
use crate::lab::story::Story;

/// The width of the narrowest bar.
pub(super) const NARROWEST: f64 = 2.0;
/// Maximum number of ticks.
const TICKS: u64 = 12;

/// Maps a time to its position in the picture.
pub(super) struct PictureScale {
    pub from_us: u64,
    pub to_us: u64,
}

impl PictureScale {
    /// The scale of a picture that ends at this time, or at the end of the record.
    pub fn of(scene: &Scene, until_us: Option<u64>) -> PictureScale {
        let until_us = until_us.unwrap_or(scene.record.now_us);
        PictureScale { from_us: scene.from_us, to_us: until_us.max(scene.from_us + 1) }
    }

    /// The length of the picture, at least 1.
    pub fn span_us(&self) -> u64 {
        self.to_us - self.from_us
    }

    /// Whether the request held its thread during the time of the picture.
    pub fn shows(&self, story: &Story) -> bool {
        story.started.is_some_and(|(at_us, _)| at_us <= self.to_us)
            && story.finished_us.is_none_or(|at_us| at_us >= self.from_us)
    }

    /// The position of a time. `None` if the time is not in the picture.
    pub fn x(&self, at_us: u64) -> Option<f64> {
        let since = at_us.checked_sub(self.from_us).filter(|since| *since <= self.span_us())?;
        Some(round(LEFT + since as f64 * SPAN / self.span_us() as f64))
    }

    /// The left edge and the width of a bar. `None` if none of it is in the picture.
    pub fn bar(&self, from_us: u64, until_us: u64) -> Option<(f64, f64)> {
        let (x, end) = (self.x(from_us.max(self.from_us))?, self.x(until_us.min(self.to_us))?);
        Some((x, round((end - x).max(NARROWEST))))
    }

    /// The ticks of the time axis, in whole steps, and their labels.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let steps_us = [100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 30_000_000]
            .into_iter()
            .chain([1, 2, 5, 10, 30, 60, 120, 360].map(|minutes| minutes * 60_000_000));
        let fits = |step_us: &u64| self.span_us() / *step_us <= TICKS;
        let step_us = { steps_us }.find(fits).unwrap_or(self.span_us());
        let tick = |at_us: u64| Some((self.x(self.from_us + at_us)?, format!("{} s", at_us as f64 / 1e6)));
        (0..=self.span_us() / step_us).filter_map(|count| tick(count * step_us)).collect()
    }
}
