//! `reproduce`: plays the article's story on its own servers, and checks each claim.
//!
//! The arguments become a [`Plan`]; the acts do the rest. The exit status is 0 if every claim held, 1 if one did not or
//! an act could not be played, and 130 after an interrupt. The servers under test and the browser end with this
//! process, however it ends.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, ValueEnum};
use crossbeam_channel::{bounded, select};
use serde::Serialize;

use super::command_line;
use super::files::clash::{Use, same_file};
use super::keepsakes::Keepsakes;
use super::serve_args::FrontDoor;
use super::values;
use super::{NO_POSTGRESQL, failed, interrupt, misused, output};
use crate::lab::acts::{ACTS, Act, Outcome};
use crate::lab::claim::Verdict;
use crate::lab::interrupt::Interrupt;
use crate::lab::narrator::Narrator;
use crate::lab::program::is_everything_required;
use crate::lab::report::Report;
use crate::lab::stage::{ActError, Pace, Plan};
use ninetabs_server::escape;
use ninetabs_server::thread_pool::PoolSize;
use ninetabs_server::threads;

pub(super) const EXAMPLES: &str = "\
Acts:
  1 nine tabs   2 one tab closes   3 the browser's own limit
  4 zombies     5 the reaper       6 the database pool
  7 ab
  Only if named; PostgreSQL must be installed:
  8 several servers    9 rows that become visible late
  10 the third pool: PostgreSQL's connections

Exit status: 0 if every claim held, 1 if one did not, 130 if interrupted.

Examples:
  ninetabs reproduce                          all acts, about 105 s
  ninetabs reproduce --fast                   all acts, about 25 s
  ninetabs reproduce 1 5 --step               two acts, step by step, for a class
  ninetabs reproduce --threads 16 --tabs 9    different numbers and claims
  ninetabs reproduce --act 2 --svg lanes.svg  a picture of the threads
  ninetabs reproduce --act 2 --svg lanes.svg --animate
  ninetabs reproduce --report run.html        the whole run on one page
  ninetabs reproduce --trace run.json         for https://ui.perfetto.dev";

#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// Acts to play, as one list such as 1 or 1,5 [default: 1 to 7]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = values::act)]
    pub act: Vec<u8>,
    /// Acts to play, as with --act
    #[arg(value_name = "ACT", value_delimiter = ',', value_parser = values::act)]
    pub more_acts: Vec<u8>,
    /// Wait for Enter before each act's run and its verdict
    #[arg(long, conflicts_with = "json")]
    pub step: bool,
    /// The server's minimum and maximum pool threads [default: 8:8]
    #[arg(long, value_name = "MIN:MAX", default_value = "8:8", value_parser = values::pool_size)]
    pub threads: PoolSize,
    /// Number of tabs, from 1 to 100 [default: 9]
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = values::number(1..=100_u16))]
    pub tabs: u16,
    /// Front door of the server [puma or tiny-http; default: puma]
    #[arg(long, value_name = "FRONT", default_value = "puma")]
    pub front: FrontDoor,
    /// Shorten all of the server's intervals to a tenth
    #[arg(long)]
    pub fast: bool,
    /// Print only one JSON object with all claims
    #[arg(long)]
    pub json: bool,
    /// ninetabs executable to test [default: this program]
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
    /// SVG file for the lanes of the last act played
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Animate the picture of --svg, as one loop of 10 to 12 s
    #[arg(long, requires = "svg")]
    pub animate: bool,
    /// HTML file for the whole run, on one page
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Trace file of the servers' events, to open in Perfetto
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

impl ReproduceArgs {
    /// The acts that were named. If none was named, all are played.
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

/// Plays the acts.
pub fn run(args: &ReproduceArgs) -> ExitCode {
    let program = match args.program.clone().map_or_else(std::env::current_exe, Ok) {
        Ok(program) => program,
        Err(error) => {
            return failed(format_args!("cannot find this program: {error}; name it with --program"));
        }
    };
    let plan = Plan {
        program,
        threads: args.threads.min()..=args.threads.max(),
        tabs: args.tabs.into(),
        front: args.front.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
        pace: if args.fast { Pace::FAST } else { Pace::ARTICLE },
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
    let files = match Keepsakes::at(report, trace, svg, args.animate) {
        Ok(files) => files,
        Err(error) => return failed(error),
    };
    let (began, clock) = (SystemTime::now(), Instant::now());
    let mut narrator = if args.json { Narrator::silent() } else { Narrator::to_stdout() };
    let named = args.acts();
    let acts: Vec<&Act> = ACTS.iter().filter(|act| is_played(act, &named)).collect();
    narrator.say(&announcement(&acts, args));
    // Acts on request draw no lanes.
    if acts.iter().any(|act| !act.is_on_request) {
        narrator.legend();
    }
    let mut outcomes = Vec::new();
    let (mut broken, mut skipped) = (None, 0);
    for (index, act) in acts.iter().enumerate() {
        let played = check_support(act, args)
            .and_then(|()| perform(act, &plan, &mut narrator, &interrupted, args.step))
            .and_then(|outcome| {
                for part in &outcome.skipped {
                    super::complain(format_args!("act {}: a part is skipped: {part}", act.number));
                }
                outcomes.push(outcome);
                let is_last = index + 1 == acts.len();
                if !args.step || is_last {
                    return Ok(PromptAnswer::Continue);
                }
                ask(&mut narrator, "[Enter] next act  [q] quit", &interrupted)
            });
        match played {
            Ok(PromptAnswer::Continue) => {}
            Ok(PromptAnswer::Quit) => break,
            Err(ActError::Interrupted) => {
                narrator.leave();
                return interrupt::interrupted();
            }
            Err(error @ (ActError::NotInstalled(_) | ActError::Unsupported(_)))
                if !is_everything_required() =>
            {
                skipped += 1;
                super::complain(format_args!("act {} is skipped: {error}", act.number));
            }
            Err(error) => {
                broken = Some(format!("act {}: {error}", act.number));
                break;
            }
        }
    }
    let took = clock.elapsed();
    let report = Report {
        plan: &plan,
        outcomes: &outcomes,
        broken: broken.as_deref(),
        command: &command_line::typed(),
        began,
        took,
    };
    let kept = files.write(&report);
    // One line reports both errors.
    match (broken, kept) {
        (Some(broken), Err(error)) => failed(format_args!("{broken}; {error}")),
        (Some(broken), Ok(())) => failed(broken),
        (None, Err(error)) => failed(error),
        (None, Ok(())) => {
            let has_picture = outcomes.last().is_some_and(|outcome| outcome.main_scene().is_some());
            let picture = args.svg.as_deref().filter(|_| has_picture);
            let verdicts: Vec<_> = outcomes.into_iter().map(|outcome| outcome.verdict).collect();
            if verdicts.is_empty() && skipped > 0 && !args.json {
                return output::check(narrator.written()).map_or_else(failed, |()| ExitCode::SUCCESS);
            }
            let status = conclude(&verdicts, args, picture, took, &mut narrator);
            output::check(narrator.written()).map_or_else(failed, |()| status)
        }
    }
}

/// Whether an act is played if these acts are named.
fn is_played(act: &Act, named: &[u8]) -> bool {
    if named.is_empty() { !act.is_on_request } else { named.contains(&(act.number as u8)) }
}

/// The line that announces the acts to be played. Their time is known only for the default numbers.
fn announcement(acts: &[&Act], args: &ReproduceArgs) -> String {
    let what = match acts {
        [act] if act.is_on_request => format!("{}, on servers of its own", act.name()),
        [act] => format!("{}, on a server of its own", act.name()),
        acts => format!("{} acts, each on {} of its own", acts.len(), stages(acts)),
    };
    let is_default = args.tabs == 9 && (args.threads.min(), args.threads.max()) == (8, 8);
    let took_s: u64 = acts.iter().map(|act| act.took_s[usize::from(args.fast)]).sum();
    // Rounded to five seconds, unless it is short.
    let took_s = if took_s > 20 { took_s.saturating_add(2) / 5 * 5 } else { took_s };
    let time = if is_default && !args.step { format!(", about {took_s} s") } else { String::new() };
    format!("ninetabs reproduce: {what}{time}")
}

/// Acts on request have several servers each, and the others have one at a time.
fn stages(acts: &[&Act]) -> &'static str {
    let on_request = acts.iter().filter(|act| act.is_on_request).count();
    match on_request {
        0 => "a server",
        _ if on_request == acts.len() => "servers",
        _ => "one or more servers",
    }
}

/// Refuses an act whose servers would not support PostgreSQL, which all acts on request need.
fn check_support(act: &Act, args: &ReproduceArgs) -> Result<(), ActError> {
    if act.is_on_request && args.program.is_none() && cfg!(not(feature = "postgresql")) {
        return Err(ActError::Unsupported(format!(
            "{NO_POSTGRESQL}, or name another program with --program"
        )));
    }
    Ok(())
}

fn perform(
    act: &Act,
    plan: &Plan,
    narrator: &mut Narrator,
    interrupt: &Interrupt,
    step: bool,
) -> Result<Outcome, ActError> {
    act.perform(plan, narrator, interrupt, |narrator, next| {
        if step { ask(narrator, &format!("[Enter] {next}"), interrupt).map(drop) } else { Ok(()) }
    })
}

fn conclude(
    verdicts: &[Verdict],
    args: &ReproduceArgs,
    picture: Option<&Path>,
    took: Duration,
    narrator: &mut Narrator,
) -> ExitCode {
    let held = !verdicts.is_empty() && verdicts.iter().all(Verdict::held);
    if args.json {
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
        narrator.title(&format!("{holding} of {all} claims held in {:.0} s.", took.as_secs_f64().ceil()));
        last_lines(args, picture, verdicts).iter().for_each(|line| narrator.say(line));
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lines that name the written files, and what to do next. `picture` is the path of --svg if the last act has a picture.
fn last_lines(args: &ReproduceArgs, picture: Option<&Path>, verdicts: &[Verdict]) -> Vec<String> {
    let files = [("Report", args.report.as_deref()), ("Trace", args.trace.as_deref()), ("Picture", picture)];
    let mut lines: Vec<String> = files
        .iter()
        .filter_map(|(what, path)| Some(format!("{what}: {}", path.as_ref()?.display())))
        .collect();
    if args.svg.is_some() && picture.is_none() {
        lines.push("Picture: none, because the last act draws no lanes".to_owned());
    }
    let failed = || verdicts.iter().filter(|verdict| !verdict.held());
    let numbers: Vec<String> = failed().map(|verdict| verdict.act.to_string()).collect();
    lines.push(match numbers.as_slice() {
        [] => "See it live: run `ninetabs` and open http://127.0.0.1:9293/wall".to_owned(),
        [one] => format!("Not as expected: act {one}. To play it again: {} {one}", again(args)),
        acts => format!(
            "Not as expected: acts {}. To play them again: {} {}",
            acts.join(", "),
            again(args),
            acts.join(" ")
        ),
    });
    lines
}

/// The command that plays acts with the same plan, to which the acts are appended.
fn again(args: &ReproduceArgs) -> String {
    let mut words = vec!["ninetabs reproduce".to_owned()];
    if args.fast {
        words.push("--fast".to_owned());
    }
    if (args.threads.min(), args.threads.max()) != (8, 8) {
        words.push(format!("--threads {}:{}", args.threads.min(), args.threads.max()));
    }
    if args.tabs != 9 {
        words.push(format!("--tabs {}", args.tabs));
    }
    if args.front == FrontDoor::TinyHttp {
        words.push("--front tiny-http".to_owned());
    }
    if let Some(program) = &args.program {
        words.push(format!("--program {}", command_line::quoted(program.to_string_lossy().into_owned())));
    }
    words.join(" ")
}

/// The answer to a prompt.
#[derive(Debug, PartialEq, Eq)]
enum PromptAnswer {
    Continue,
    Quit,
}

/// Waits for a line of standard input. The read cannot be interrupted, so it runs on a separate thread. If standard
/// input has ended, the run continues.
fn ask(narrator: &mut Narrator, prompt: &str, interrupt: &Interrupt) -> Result<PromptAnswer, ActError> {
    narrator.prompt(prompt);
    let (tell, entered) = bounded(1);
    threads::spawn("stdin", move || {
        let mut line = String::new();
        // A read error counts as the end of the input. The receiver may be gone, if an interrupt has ended the wait.
        let _ = io::stdin().lock().read_line(&mut line);
        let _ = tell.send(line);
    })?;
    let line = select! {
        recv(interrupt.receiver()) -> _ => return Err(ActError::Interrupted),
        recv(entered) -> line => line.unwrap_or_default(),
    };
    narrator.answered(line.ends_with('\n'));
    Ok(if line.trim().eq_ignore_ascii_case("q") { PromptAnswer::Quit } else { PromptAnswer::Continue })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_announcement_counts_the_acts_and_states_a_measured_time() {
        let args = |words: &[&str]| {
            let parsed = crate::cli::Arguments::try_parse_from([&["ninetabs", "reproduce"], words].concat());
            match parsed.unwrap().command {
                Some(crate::cli::Command::Reproduce(args)) => args,
                other => panic!("{other:?}"),
            }
        };
        let all: Vec<&Act> = ACTS.iter().filter(|act| is_played(act, &[])).collect();
        let said = announcement(&all, &args(&[]));
        assert!(
            said.starts_with("ninetabs reproduce: 7 acts, each on a server of its own, about "),
            "{said}"
        );
        let on_request: Vec<&Act> = ACTS.iter().filter(|act| act.is_on_request).collect();
        let [several, mixed] =
            [&on_request[..], &[all[0], on_request[0]]].map(|acts| announcement(acts, &args(&[])));
        assert!(
            several.contains(&format!("{} acts, each on servers of its own", on_request.len())),
            "{several}"
        );
        assert!(mixed.contains("2 acts, each on one or more servers of its own, about "), "{mixed}");
        let said = announcement(&all[1..2], &args(&["2", "--threads", "16"]));
        assert_eq!(said, "ninetabs reproduce: act 2 of 7, on a server of its own");
    }
}
