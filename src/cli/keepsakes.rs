//! The files that `reproduce` writes when it ends: `--report`, `--trace` and `--svg`.

use std::path::Path;

use thiserror::Error;

use super::files::whole::{Unwritable, WholeFile};
use crate::lab::acts::Outcome;
use crate::lab::animation;
use crate::lab::picture::{self, PictureError};
use crate::lab::report::{Report, ReportError};
use crate::lab::stage::Scene;
use crate::lab::trace::{Encoder, TraceProcess};

/// Why a file was not written.
#[derive(Debug, Error)]
pub enum KeepError {
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    #[error("--report: {0}")]
    Report(#[from] ReportError),
    #[error("--svg: {0}")]
    Picture(#[from] PictureError),
    #[error("--trace: {0}")]
    Trace(#[from] serde_json::Error),
}

/// The files that the arguments name.
#[derive(Debug)]
pub struct Keepsakes {
    report: Option<WholeFile>,
    trace: Option<WholeFile>,
    svg: Option<WholeFile>,
    animate: bool,
}

impl Keepsakes {
    /// Checks, before the first act, that all of the files can be written.
    pub fn at(
        report: Option<&Path>,
        trace: Option<&Path>,
        svg: Option<&Path>,
        animate: bool,
    ) -> Result<Keepsakes, Unwritable> {
        let at = |flag, path: Option<&Path>| path.map(|path| WholeFile::at(flag, path)).transpose();
        Ok(Keepsakes {
            report: at("--report", report)?,
            trace: at("--trace", trace)?,
            svg: at("--svg", svg)?,
            animate,
        })
    }

    /// Writes the files. An error with one file does not prevent the others from being written.
    pub fn write(self, run: &Report<'_>) -> Result<(), KeepError> {
        let report = self.report.map_or(Ok(()), |file| report(file, run));
        let trace = self.trace.map_or(Ok(()), |file| trace(file, run.outcomes));
        // A picture is written only if an act has finished.
        let animate = self.animate;
        let svg = self.svg.zip(run.outcomes.last()).map_or(Ok(()), |(file, last)| svg(file, last, animate));
        report.and(trace).and(svg)
    }
}

fn report(file: WholeFile, run: &Report<'_>) -> Result<(), KeepError> {
    Ok(file.write(run.html()?.as_bytes())?)
}

fn svg(file: WholeFile, outcome: &Outcome, animate: bool) -> Result<(), KeepError> {
    let Some(scene) = outcome.main_scene() else { return Ok(()) };
    let picture =
        if animate { animation::svg(&outcome.heading, scene) } else { picture::svg(&outcome.heading, scene) };
    Ok(file.write(picture?.as_bytes())?)
}

/// The acts as a trace, one process per act.
fn trace(file: WholeFile, outcomes: &[Outcome]) -> Result<(), KeepError> {
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    for outcome in outcomes {
        let Some(Scene { record, .. }) = outcome.main_scene() else { continue };
        let number = outcome.verdict.act;
        let mut process = TraceProcess::new(number as u32, &format!("Act {number}: {}", outcome.heading));
        record.moments.iter().for_each(|moment| process.take(moment));
        process.end(record.now_us);
        bytes.extend(encoder.encode(&process.drain())?);
    }
    bytes.extend_from_slice(encoder.end());
    Ok(file.write(&bytes)?)
}
