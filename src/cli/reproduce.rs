//! `reproduce`: the seed's story, played on a server of its own, each claim checked.
//!
//! What was typed becomes a [`Plan`]; the acts do the rest. Exit status 0 only if
//! every claim held, 1 if one did not or an act could not be played, 130 when it
//! was interrupted. The servers under test and the browser end with this process, however it ends.

use std::io::{self, BufRead};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use clap::{Args, ValueEnum};
use crossbeam_channel::{bounded, select};
use serde::Serialize;

use super::files::clash::{Use, same_file};
use super::keepsakes::Keepsakes;
use super::serve_args::FrontDoor;
use super::values;
use super::{failed, interrupt, misused, output};
use crate::lab::acts::{ACTS, Act, Outcome};
use crate::lab::claim::Verdict;
use crate::lab::interrupt::Interrupt;
use crate::lab::narrator::Narrator;
use crate::lab::report::Report;
use crate::lab::stage::{ActError, Pace, Plan};
use ninetabs_server::escape;
use ninetabs_server::thread_pool::PoolSize;
use ninetabs_server::threads;

pub(super) const EXAMPLES: &str = "\
Acts:
  1 nine tabs   2 one leaves   3 the browser's six
  4 zombies     5 the reaper   6 the database pool

Exit status: 0 if every claim held, 1 if one did not, 130 when interrupted.

Examples:
  ninetabs reproduce                          all six, in about 75 seconds
  ninetabs reproduce --fast                   all six, in about 20 seconds
  ninetabs reproduce 1 5 --step               two of them, for a class
  ninetabs reproduce --threads 16 --tabs 9    other numbers, other claims
  ninetabs reproduce --act 2 --svg lanes.svg  a picture of what the threads did
  ninetabs reproduce --report run.html        all of it on one page, to keep
  ninetabs reproduce --trace run.json         for https://ui.perfetto.dev";

#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// The acts to play, by number, such as 1 or 1,5 [default: all six].
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = values::act)]
    pub act: Vec<u8>,
    /// The same without a flag.
    #[arg(value_name = "ACT", value_delimiter = ',', value_parser = values::act)]
    pub more_acts: Vec<u8>,
    /// Wait for Enter between an act's expectation, its run and its verdict.
    #[arg(long, conflicts_with = "json")]
    pub step: bool,
    /// Least and most threads of the server's pool.
    #[arg(long, value_name = "MIN:MAX", default_value = "8:8", value_parser = values::pool_size)]
    pub threads: PoolSize,
    /// How many tabs are opened, a number from 1 to 100.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = values::number(1..=100_u16))]
    pub tabs: u16,
    /// The front door of the server.
    #[arg(long, value_name = "FRONT", default_value = "puma")]
    pub front: FrontDoor,
    /// Ten times as fast: every time of the server is a tenth.
    #[arg(long)]
    pub fast: bool,
    /// Print one JSON object with all claims, and nothing else, on standard output.
    #[arg(long)]
    pub json: bool,
    /// Another ninetabs to be the server under test [default: this program].
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
    /// A file to draw the lanes of the last act played into, as SVG [default: none is drawn].
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// A file for the whole run as one page of HTML, which needs no other file [default: none is written].
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// A file for what the servers recorded, as a trace that Perfetto opens [default: none is written].
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

impl ReproduceArgs {
    /// The acts that were asked for; none is all.
    pub fn acts(&self) -> Vec<u8> {
        [self.act.as_slice(), &self.more_acts].concat()
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct ClaimedActs<'a> {
    acts: &'a [Verdict],
    held: bool,
}

/// Plays the acts that were asked for.
pub fn run(args: &ReproduceArgs) -> ExitCode {
    let program = match args.program.clone().map_or_else(std::env::current_exe, Ok) {
        Ok(program) => program,
        Err(error) => {
            return failed(format_args!("this program cannot be found again, give --program: {error}"));
        }
    };
    let plan = Plan {
        program,
        threads: args.threads.min()..=args.threads.max(),
        tabs: args.tabs.into(),
        front: args.front.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
        pace: if args.fast { Pace::FAST } else { Pace::SEED },
    };
    let interrupted = match interrupt::ends_all() {
        Ok(interrupted) => interrupted,
        Err(error) => return failed(format_args!("cannot listen for signals: {error}")),
    };
    let [report, trace, svg] = [&args.report, &args.trace, &args.svg].map(|path| path.as_deref());
    if let Some(same) = same_file(&[
        ("--program", Use::File, Some(&plan.program)),
        ("--report", Use::File, report),
        ("--trace", Use::File, trace),
        ("--svg", Use::File, svg),
    ]) {
        return misused(same);
    }
    let files = match Keepsakes::at(report, trace, svg) {
        Ok(files) => files,
        Err(error) => return failed(error),
    };
    let (began, clock) = (SystemTime::now(), Instant::now());
    let mut narrator = if args.json { Narrator::silent() } else { Narrator::to_stdout() };
    narrator.key();
    let mut outcomes = Vec::new();
    let mut broken = None;
    let acts = args.acts();
    for act in ACTS.iter().filter(|act| acts.is_empty() || acts.contains(&(act.number as u8))) {
        match perform(act, &plan, &mut narrator, &interrupted, args.step) {
            Ok(outcome) => outcomes.push(outcome),
            Err(ActError::Interrupted) => {
                narrator.leave();
                return interrupt::interrupted();
            }
            Err(error) => {
                broken = Some(format!("act {}: {error}", act.number));
                break;
            }
        }
    }
    let report = Report {
        plan: &plan,
        outcomes: &outcomes,
        broken: broken.as_deref(),
        command: &typed(),
        began,
        took: clock.elapsed(),
    };
    let kept = files.write(&report);
    // One line says both, where both went wrong.
    match (broken, kept) {
        (Some(broken), Err(error)) => failed(format_args!("{broken}; {error}")),
        (Some(broken), Ok(())) => failed(broken),
        (None, Err(error)) => failed(error),
        (None, Ok(())) => {
            let verdicts: Vec<_> = outcomes.into_iter().map(|outcome| outcome.verdict).collect();
            let status = conclude(&verdicts, args.json, &mut narrator);
            narrator.say(&what_next(args, &verdicts));
            output::check(narrator.written()).map_or_else(failed, |()| status)
        }
    }
}

/// This command, as a shell takes it.
pub(super) fn typed() -> String {
    let quoted = |word: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@%".contains(c);
        let is_plain = !word.is_empty() && word.chars().all(plain);
        if is_plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    let words = std::env::args_os().skip(1).map(|word| quoted(word.to_string_lossy().into_owned()));
    std::iter::once("ninetabs".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn perform(
    act: &Act,
    plan: &Plan,
    narrator: &mut Narrator,
    interrupt: &Interrupt,
    step: bool,
) -> Result<Outcome, ActError> {
    act.perform(plan, narrator, interrupt, |narrator, next| {
        if step { wait_for_enter(narrator, next, interrupt) } else { Ok(()) }
    })
}

fn conclude(verdicts: &[Verdict], json: bool, narrator: &mut Narrator) -> ExitCode {
    let held = !verdicts.is_empty() && verdicts.iter().all(Verdict::held);
    if json {
        match serde_json::to_string(&ClaimedActs { acts: verdicts, held }) {
            Ok(line) => {
                if let Err(error) = output::write(format!("{}\n", escape::json(&line)).as_bytes()) {
                    return failed(error);
                }
            }
            Err(error) => return failed(error),
        }
    } else {
        let claims = || verdicts.iter().flat_map(|verdict| &verdict.claims);
        let (all, holding) = (claims().count(), claims().filter(|claim| claim.held).count());
        narrator.title(&format!("{holding} of {all} claims held."));
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Where the files are, and what can be done now.
fn what_next(args: &ReproduceArgs, verdicts: &[Verdict]) -> String {
    let files = [("the report", &args.report), ("the trace", &args.trace), ("the picture", &args.svg)];
    let written: Vec<String> = files
        .iter()
        .filter_map(|(what, path)| Some(format!("{what} is in {}", path.as_ref()?.display())))
        .collect();
    let next = match verdicts.iter().find(|verdict| !verdict.held()) {
        Some(Verdict { act, .. }) => {
            format!("ninetabs reproduce --act {act} plays the act that failed again")
        }
        None if args.report.is_some() => "open the report in a browser".to_owned(),
        None if args.trace.is_some() => "open the trace at https://ui.perfetto.dev".to_owned(),
        None if args.svg.is_some() => "open the picture in a browser".to_owned(),
        None => {
            "ninetabs serves the app to try it in a browser, and ninetabs reproduce --report run.html keeps \
                 all of this on one page"
                .to_owned()
        }
    };
    let written =
        if written.is_empty() { String::new() } else { format!("Written: {}. ", written.join(", ")) };
    format!("{written}Next: {next}.")
}

/// Reading a line cannot be interrupted, so a thread does it. Once standard input has ended
/// the story goes on.
fn wait_for_enter(narrator: &mut Narrator, next: &str, interrupt: &Interrupt) -> Result<(), ActError> {
    narrator.say(&format!("[Enter] {next}"));
    let (tell, pressed) = bounded(1);
    threads::spawn("stdin", move || {
        let read = io::stdin().lock().read_line(&mut String::new());
        // Nobody waits for it any more when the story was interrupted.
        let _ = tell.send(read.is_ok());
    })?;
    select! {
        recv(interrupt.receiver()) -> _ => Err(ActError::Interrupted),
        recv(pressed) -> _ => Ok(()),
    }
}
