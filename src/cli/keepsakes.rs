//! What `reproduce` leaves when it is over: `--report`, `--trace` and `--svg`.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::whole_file::{Unwritable, WholeFile};
use crate::lab::acts::Outcome;
use crate::lab::picture::{self, PictureError};
use crate::lab::report::{Report, ReportError};
use crate::lab::trace::{Encoder, Process};

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

    /// Writes them; one that cannot be written keeps none of those before it away.
    pub fn write(self, run: &Report<'_>) -> Result<(), KeepError> {
        if let Some(file) = self.report {
            file.write(run.html()?.as_bytes())?;
        }
        if let Some(file) = self.trace {
            file.write(&traced(run.outcomes)?)?;
        }
        if let (Some(file), Some(last)) = (self.svg, run.outcomes.last()) {
            file.write(picture::svg(&last.verdict.title, &last.record, last.began_us)?.as_bytes())?;
        }
        Ok(())
    }
}

/// Two flags of which one would write over the other.
pub fn same_path<'a>(files: &[(&'a str, &Option<PathBuf>)]) -> Option<(&'a str, &'a str)> {
    let given: Vec<_> = files.iter().filter(|(_, path)| path.is_some()).collect();
    let pairs =
        given.iter().enumerate().flat_map(|(at, one)| given[..at].iter().map(move |other| (other, one)));
    let mut same = pairs.filter(|((_, path), (_, other))| path == other);
    same.next().map(|((flag, _), (other, _))| (*flag, *other))
}

/// The acts as a trace, a process each.
fn traced(outcomes: &[Outcome]) -> Result<Vec<u8>, serde_json::Error> {
    let mut encoder = Encoder::default();
    let mut bytes = Vec::new();
    for Outcome { verdict, record, .. } in outcomes {
        let mut process =
            Process::new(verdict.act as u32, &format!("Act {}. {}", verdict.act, verdict.title));
        record.moments.iter().for_each(|moment| process.take(moment));
        process.end(record.now_us);
        bytes.extend(encoder.encode(&process.drain())?);
    }
    bytes.extend_from_slice(encoder.end());
    Ok(bytes)
}
