//! `probe URL`: how many streams a server can hold, and what limits it.
//!
//! The arguments become a [`ProbePlan`](crate::lab::probe::plan::ProbePlan); [`crate::lab::probe`] does the rest. Facts
//! are printed as they become known, through a queue, so a paused terminal does not make the probe hold its streams for
//! longer. With `--json` and `--markdown`, standard output has only the result.
//!
//! Exit status: 0 if every threshold holds, 1 if one does not or output was lost, 2 for wrong usage, 3 if the server
//! was not measured, 130 after a signal. In each case, every connection is closed first.

mod announcement;
mod args;
mod command;
mod given;
mod mistake;
mod output;
mod target;

use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use super::files::whole::WholeFile;
use super::typed::FromEnvironment;
use super::{failed, interrupt, misused};
use crate::lab::probe;
use crate::lab::probe::export::{ProbedRun, html};
use crate::lab::probe::findings::{infer, verdict};
use crate::lab::probe::measured::{Measured, Stopped};
use crate::lab::probe::thresholds::{ThresholdVerdict, held};

pub(super) use args::EXAMPLES;
pub use args::ProbeArgs;

use mistake::ProbeError;
use output::ProbeOutput;

/// Probes the server.
pub fn run(args: &ProbeArgs, from_environment: &FromEnvironment) -> ExitCode {
    if args.control.token.0.is_some()
        && args.control_url.is_none()
        && !from_environment.sets("--control-token")
    {
        return misused("--control-token: give --control-url as well");
    }
    let thresholds = match args.thresholds() {
        Ok(thresholds) => thresholds,
        Err(mistake) => return misused(mistake),
    };
    let wanted = match given::wanted(args) {
        Ok(wanted) => wanted,
        Err(mistake) => return misused(mistake),
    };
    let file = match args.report.as_deref().map(|path| WholeFile::at("--report", path)).transpose() {
        Ok(file) => file,
        Err(error) => return failed(error),
    };
    let stop = match interrupt::stop_signal() {
        Ok(stop) => stop,
        Err(error) => return failed(format_args!("cannot listen for signals: {error}")),
    };
    let (began, clock) = (SystemTime::now(), Instant::now());
    let mut printed = match ProbeOutput::start(args) {
        Ok(printed) => printed,
        Err(error) => return failed(error),
    };
    let next = command::next(args, &wanted);
    let unreached = target::unreached(&wanted);
    let measured = match target::plan(wanted) {
        Ok(plan) => {
            announcement::print(&plan);
            let plan = plan.connected();
            probe::run(&plan, &stop, &mut |progress| printed.hear(progress))
        }
        Err(ProbeError::Misused(mistake)) => return misused(mistake),
        // A name that does not resolve counts as a server that cannot be reached.
        Err(ProbeError::Unreachable { why }) => {
            Measured { target: unreached, stopped: Some(Stopped::Unreachable { why }), ..Measured::default() }
        }
    };
    printed.end(&measured);
    let findings = infer(&measured);
    let verdict_on = held(&measured, &findings, &thresholds);
    if verdict_on == ThresholdVerdict::Interrupted {
        super::complain("interrupted; every connection was closed");
        return ExitCode::from(interrupt::INTERRUPTED);
    }
    let run = ProbedRun {
        measured: &measured,
        findings: &findings,
        sentence: &verdict(&measured, &findings),
        verdict: &verdict_on,
        command: &command::again(args),
        next: if is_reached(&measured) { &next } else { &[] },
    };
    if let Some(file) = file {
        let written = html::html(&run, began, clock.elapsed()).map_err(|error| format!("--report: {error}"));
        let written = written.and_then(|page| file.write(page.as_bytes()).map_err(|error| error.to_string()));
        if let Err(error) = written {
            return failed(error);
        }
    }
    match printed.conclude(&run) {
        Ok(()) => ExitCode::from(verdict_on.status()),
        Err(error) => failed(error),
    }
}

/// Whether the server answered at all, so that another command can show more.
fn is_reached(measured: &Measured) -> bool {
    !matches!(measured.stopped, Some(Stopped::Unreachable { .. } | Stopped::Certificate { .. }))
}
