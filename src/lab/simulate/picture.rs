//! The beginning of a run as a picture: the lanes of the first server, drawn like those of a real server.

use super::report::title;
use super::{Kept, Scenario, Simulated};
use crate::lab::picture::{self, PictureError, PictureLook};
use crate::lab::record::Record;
use crate::lab::stage::Scene;
use ninetabs_server::timeline::Excerpt;

/// The events that a run must record for its picture. More requests could not be distinguished in it.
pub const KEPT: Kept = Kept::First(120);

/// Draws the run as an SVG file, up to the time when a thread takes a request that was not recorded.
pub fn svg(scenario: &Scenario, run: Simulated) -> Result<String, PictureError> {
    let length_us = u64::try_from(scenario.length.as_micros()).unwrap_or(u64::MAX);
    let now_us = run.kept_until_us.unwrap_or(length_us);
    let mut record = Record::default();
    record.take(Excerpt { now_us, forgotten: 0, moments: run.moments, snapshot: None });
    let title = title(scenario);
    let scene = Scene { caption: title.clone(), record, from_us: 0 };
    let part = if run.kept_until_us.is_some() { "the beginning of the run" } else { "the whole run" };
    let lines = vec![format!("server 1, {part}; simulated by ninetabs, not measured")];
    let look = PictureLook {
        title: Some(&title),
        label: &title,
        lines,
        folds_idle: true,
        least_gap: 1.0,
        ..PictureLook::default()
    };
    picture::draw(&scene, &look)
}
