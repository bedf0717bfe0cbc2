//! What `reproduce` leaves when it is over: `--report`, `--trace` and `--svg`.

use std::path::Path;

use thiserror::Error;

use super::files::whole::{Unwritable, WholeFile};
use crate::lab::acts::Outcome;
use crate::lab::picture::{self, PictureError};
use crate::lab::report::{Report, ReportError};
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

/// The files that were asked for.
#[derive(Debug)]
pub struct Keepsakes {
    report: Option<WholeFile>,
    trace: Option<WholeFile>,
    svg: Option<WholeFile>,
}

impl Keepsakes {
    /// Tries whether all can be written, before the first act.
    pub fn at(
        report: Option<&Path>,
        trace: Option<&Path>,
        svg: Option<&Path>,
    ) -> Result<Keepsakes, Unwritable> {
        let at = |flag, path: Option<&Path>| path.map(|path| WholeFile::at(flag, path)).transpose();
        Ok(Keepsakes {
            report: at("--report", report)?,
            trace: at("--trace", trace)?,
            svg: at("--svg", svg)?,
        })
    }

    /// Writes them. One that cannot be written keeps none of the others away.
    pub fn write(self, run: &Report<'_>) -> Result<(), KeepError> {
        let report = self.report.map_or(Ok(()), |file| report(file, run));
        let trace = self.trace.map_or(Ok(()), |file| trace(file, run.outcomes));
        // Of a run that broke off in its first act there is nothing to be drawn.
        let svg = self.svg.zip(run.outcomes.last()).map_or(Ok(()), |(file, last)| svg(file, last));
        report.and(trace).and(svg)
    }
}

fn report(file: WholeFile, run: &Report<'_>) -> Result<(), KeepError> {
    Ok(file.write(run.html()?.as_bytes())?)
}

fn svg(file: WholeFile, Outcome { verdict, record, began_us, .. }: &Outcome) -> Result<(), KeepError> {
    Ok(file.write(picture::svg(&verdict.title, record, *began_us)?.as_bytes())?)
}

/// The acts as a trace, a process each.
fn trace(file: WholeFile, outcomes: &[Outcome]) -> Result<(), KeepError> {
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    for Outcome { verdict, record, .. } in outcomes {
        let mut process =
            TraceProcess::new(verdict.act as u32, &format!("Act {}. {}", verdict.act, verdict.title));
        record.moments.iter().for_each(|moment| process.take(moment));
        process.end(record.now_us);
        bytes.extend(encoder.encode(&process.drain())?);
    }
    bytes.extend_from_slice(encoder.end());
    Ok(file.write(&bytes)?)
}
