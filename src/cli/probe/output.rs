//! Prints a run: facts while it is in progress, then the result in the requested format.

use std::io::{self, Write};
use std::time::Duration;

use console::Term;
use ninetabs_server::threads::SpawnError;
use thiserror::Error;

use super::args::ProbeArgs;
use crate::cli::outlet::Outlet;
use crate::cli::output::{self, Unwritten};
use crate::lab::probe::export::narration::{Narration, PrintManner};
use crate::lab::probe::export::{ProbedRun, conclusion, json, markdown};
use crate::lab::probe::export::{Signs, TextLook};
use crate::lab::probe::measured::Measured;
use crate::lab::probe::progress::ProbeProgress;
use crate::lab::probe::thresholds::ThresholdVerdict;

/// How long the last facts wait for a paused terminal. Every connection is closed by then.
const LAST_FACTS: Duration = Duration::from_secs(24 * 3600);

/// Why output was lost.
#[derive(Debug, Error)]
pub enum OutputError {
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
    #[error("cannot serialize the result as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The format of the result on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
    Markdown,
}

/// The output of a run.
pub struct ProbeOutput {
    format: Format,
    look: TextLook,
    /// The facts, and the queue that writes them. With `--json` and `--markdown` they are on standard error, and only
    /// if that is a terminal.
    facts: Option<(Narration<Outlet>, Outlet)>,
}

impl ProbeOutput {
    /// Starts the thread that writes.
    pub fn start(args: &ProbeArgs) -> Result<ProbeOutput, SpawnError> {
        let format = match (args.json, args.markdown) {
            (true, _) => Format::Json,
            (_, true) => Format::Markdown,
            _ => Format::Text,
        };
        if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            console::set_colors_enabled(false);
            console::set_colors_enabled_stderr(false);
        }
        let (term, colors) = match format {
            Format::Text => (Term::stdout(), console::colors_enabled()),
            Format::Json | Format::Markdown => (Term::stderr(), console::colors_enabled_stderr()),
        };
        let look = TextLook { signs: Signs::from_environment(), colors };
        let manner = manner(&term);
        let outlet = match format {
            Format::Text => Some(Outlet::start("facts", io::stdout(), |_| {})?),
            _ if manner != PrintManner::Lines => Some(Outlet::start("facts", io::stderr(), |_| {})?),
            _ => None,
        };
        let facts = outlet.map(|outlet| (Narration::new(outlet.clone(), manner, look), outlet));
        Ok(ProbeOutput { format, look, facts })
    }

    /// Prints newly known facts. Does not block.
    pub fn hear(&mut self, progress: ProbeProgress<'_>) {
        if let Some((narration, _)) = &mut self.facts {
            narration.hear(progress);
        }
    }

    /// Prints the rest of the facts.
    pub fn end(&mut self, measured: &Measured) {
        if let Some((mut narration, outlet)) = self.facts.take() {
            narration.end(measured);
            outlet.flush(LAST_FACTS);
        }
    }

    /// Prints the result.
    pub fn conclude(&self, run: &ProbedRun<'_>) -> Result<(), OutputError> {
        let text = match self.format {
            Format::Text => conclusion(run, self.look).iter().map(|line| format!("{line}\n")).collect(),
            Format::Json => json::json(run)?,
            Format::Markdown => markdown::markdown(run),
        };
        output::write(text.as_bytes())?;
        if self.format != Format::Text {
            complain(run);
        }
        Ok(())
    }
}

/// Prints the reason for the exit status to standard error, for people; standard output has the result, for programs.
/// A failed write is ignored.
fn complain(run: &ProbedRun<'_>) {
    let lines = match run.verdict {
        ThresholdVerdict::Fails(failures) => failures.iter().map(ToString::to_string).collect(),
        ThresholdVerdict::NotMeasured(None) => vec![run.sentence.to_owned()],
        ThresholdVerdict::NotMeasured(Some(threshold)) => {
            vec![format!("{threshold}: its figure was not measured")]
        }
        ThresholdVerdict::Holds | ThresholdVerdict::Interrupted => Vec::new(),
    };
    let text: String = lines.iter().map(crate::cli::complaint).collect();
    let _ = io::stderr().write_all(text.as_bytes());
}

fn manner(term: &Term) -> PrintManner {
    let is_dumb = std::env::var_os("TERM").is_none_or(|name| name.is_empty() || name == "dumb");
    match term.is_term() && !is_dumb {
        true => PrintManner::InPlace { columns: usize::from(term.size().1) },
        false => PrintManner::Lines,
    }
}
