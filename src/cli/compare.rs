//! `compare`: measures every fix with the same nine tabs, and prints one table.
//!
//! The arguments become a [`ComparePlan`]; [`crate::lab::compare`] does the rest. The exit status is 0 if every row met
//! its claims, 1 if one did not or could not be measured, and 130 after an interrupt. The servers and the browser end
//! with this process, however it ends.

mod several;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use clap::Args;
use clap::builder::PossibleValuesParser;
use console::Term;
use serde::Serialize;

use super::command_line;
use super::files::clash::{Use, same_file};
use super::files::whole::WholeFile;
use super::{failed, interrupt, misused, output, values};
use crate::lab::compare::contenders::{self, Contender};
use crate::lab::compare::report::{self, CompareReport};
use crate::lab::compare::several::round as several_round;
use crate::lab::compare::several::servers::SharedDatabase;
use crate::lab::compare::{CompareError, ComparePace, ComparePlan, Row, round, summary};
use crate::lab::interrupt::Interrupt;
use crate::lab::narrator::wrapped;
use crate::lab::signs::Signs;
use several::{CompareEngine, GivenServers, ServersInJson};

pub(super) const EXAMPLES: &str = "\
Exit status: 0 if every row meets its claims, 1 if not, 130 if interrupted.

Examples:
  ninetabs compare                            all rows, about eight minutes
  ninetabs compare --fast                     all rows, about four minutes
  ninetabs compare --only naive,push,poll     three rows
  ninetabs compare --only push --tabs 2000    a fix that holds no thread
  ninetabs compare --servers 3                three servers; one is killed
  ninetabs compare --report compare.html      a page with the lanes of each row
  ninetabs compare --markdown                 only the table";

/// With more tabs than this, only the fixes whose tabs hold no thread are measured.
const TABS_FOR_ALL: usize = 60;

/// The number of terminal columns that are used.
const WIDTH: usize = 80;

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Rows to measure, as one list such as naive,push [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = PossibleValuesParser::new(contenders::ALL.iter().map(|it| it.name)))]
    pub only: Vec<String>,
    /// Number of tabs, from 1 to 5000 [default: 9]
    ///
    /// Above 60, only the fixes whose tabs hold no thread are measured.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = values::number(1..=5000_u16))]
    pub tabs: u16,
    /// Number of servers that share one database, from 1 to 9 [default: 1]
    ///
    /// With 2 or more, only the fixes whose tabs hold no thread are measured. Their tabs connect through HAProxy, if it
    /// is installed. One server is killed while rows are created.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::number(1..=9_u16))]
    pub servers: u16,
    /// Engine of the database that several servers share [postgresql or sqlite3; default: postgresql if installed]
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<CompareEngine>,
    /// Use shorter intervals and observe each row for less time
    #[arg(long)]
    pub fast: bool,
    /// Print only one JSON object with all rows
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print only the table, in Markdown
    #[arg(long)]
    pub markdown: bool,
    /// HTML file for the whole comparison, on one page
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// ninetabs executable to measure [default: this program]
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Compared<'a> {
    rows: &'a [Row],
    held: bool,
    #[serde(flatten)]
    several: Option<ServersInJson>,
}

/// Measures the rows.
pub fn run(args: &CompareArgs) -> ExitCode {
    let program = match args.program.clone().map_or_else(std::env::current_exe, Ok) {
        Ok(program) => program,
        Err(error) => {
            return failed(format_args!("cannot find this program: {error}; name it with --program"));
        }
    };
    let given = match several::given(args) {
        Ok(given) => given,
        Err(mistake) => return misused(mistake),
    };
    let interrupted = match interrupt::ends_all() {
        Ok(interrupted) => interrupted,
        Err(error) => return failed(format_args!("cannot listen for signals: {error}")),
    };
    if let Some(same) = same_file(&[
        ("--program", Use::File, Some(&program)),
        ("--report", Use::File, args.report.as_deref()),
    ]) {
        return misused(same);
    }
    let file = match args.report.as_deref().map(|path| WholeFile::at("--report", path)).transpose() {
        Ok(file) => file,
        Err(error) => return failed(error),
    };
    let plan = ComparePlan {
        program,
        tabs: args.tabs.into(),
        pace: if args.fast { ComparePace::FAST } else { ComparePace::ARTICLE },
        several: given.map(|given| given.several),
    };
    let (began, clock) = (SystemTime::now(), Instant::now());
    let (compared, broken) = match measure(args, &plan, given, &interrupted) {
        Ok(ended) => ended,
        Err(CompareError::Interrupted) => return interrupt::interrupted(),
        Err(error) => return failed(error),
    };
    let report = CompareReport {
        plan: &plan,
        rows: &compared.rows,
        notes: &compared.notes,
        broken: broken.as_deref(),
        command: &command_line::typed(),
        began,
        took: clock.elapsed(),
    };
    if let Some(file) = file {
        let written = report.html().map_err(|error| format!("--report: {error}"));
        let written = written.and_then(|page| file.write(page.as_bytes()).map_err(|error| error.to_string()));
        if let Err(error) = written {
            return failed(error);
        }
    }
    let in_json = given.map(|given| given.in_json(args));
    if let Err(error) = output::check(print(args, &plan, &compared, broken.is_none(), in_json)) {
        return failed(error);
    }
    match broken {
        Some(broken) => failed(broken),
        None if held(&compared.rows) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

/// The measured rows, and how several servers are set up.
#[derive(Default)]
struct MeasuredRows {
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// Measures one row after the other. Also returns why a row could not be measured, which ends the comparison.
fn measure(
    args: &CompareArgs,
    plan: &ComparePlan,
    given: Option<GivenServers>,
    interrupted: &Interrupt,
) -> Result<(MeasuredRows, Option<String>), CompareError> {
    let is_measured = |it: &&Contender| given.is_none() || it.bears_many();
    let is_asked = |it: &&Contender| args.only.is_empty() || args.only.iter().any(|name| name == it.name);
    let asked: Vec<&Contender> = contenders::ALL.iter().filter(is_measured).filter(is_asked).collect();
    let progress = CompareProgress { to: Term::stderr(), of: asked.len() };
    let mut compared = MeasuredRows::default();
    let shared = given.map(|given| {
        progress.say(1, asked.first().map_or("", |it| it.name), "the database starts");
        let database = SharedDatabase::start(given.several.engine, interrupted)?;
        compared.notes = given.notes(args, &database);
        if let Some(text) = given.without_postgresql.filter(|_| args.json || args.markdown) {
            progress.note(text);
        }
        Ok::<_, CompareError>((given.several, database))
    });
    let shared = shared.transpose().inspect_err(|_| progress.clear())?;
    for (number, contender) in asked.into_iter().enumerate() {
        if plan.tabs > TABS_FOR_ALL && !contender.bears_many() {
            let note =
                format!("not measured, because its tabs hold threads; {} tabs need too many", plan.tabs);
            compared.rows.push(Row { fix: contender.name, note: Some(note), ..Row::default() });
            continue;
        }
        let tell = |what: &str| progress.say(number + 1, contender.name, what);
        let row = match &shared {
            None => round::measure(plan, contender, interrupted, tell),
            Some((several, database)) => {
                several_round::measure(plan, *several, contender, database, interrupted, tell)
            }
        };
        match row {
            Ok(row) => compared.rows.push(row),
            Err(CompareError::Interrupted) => {
                progress.clear();
                return Err(CompareError::Interrupted);
            }
            Err(error) => {
                progress.clear();
                return Ok((compared, Some(format!("{}: {error}", contender.name))));
            }
        }
    }
    progress.clear();
    Ok((compared, None))
}

fn held(rows: &[Row]) -> bool {
    rows.iter().any(|row| !row.claims.is_empty()) && rows.iter().all(Row::held)
}

fn print(
    args: &CompareArgs,
    plan: &ComparePlan,
    compared: &MeasuredRows,
    is_whole: bool,
    several: Option<ServersInJson>,
) -> io::Result<()> {
    let MeasuredRows { rows, notes } = compared;
    let mut out = io::stdout().lock();
    if args.json {
        let compared = Compared { rows, held: is_whole && held(rows), several };
        return writeln!(out, "{}", serde_json::to_string(&compared)?);
    }
    if args.markdown {
        return write!(out, "{}", report::markdown(rows, plan));
    }
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        console::set_colors_enabled(false);
    }
    let signs = Signs::from_environment();
    writeln!(out, "{}", signs.text(&report::text(rows, plan)).trim_end())?;
    let mut say =
        |text: &str| wrapped(&signs.text(text), WIDTH).iter().try_for_each(|line| writeln!(out, "{line}"));
    say("")?;
    notes.iter().try_for_each(|note| say(note))?;
    for row in rows {
        if let Some(note) = &row.note {
            say(&format!("{}: {note}", row.fix))?;
        }
        for claim in row.claims.iter().filter(|claim| !claim.held) {
            say(&format!("{} {}: {}", signs.mark(false), row.fix, claim.sentence()))?;
        }
    }
    for (number, line) in summary::lines(rows, plan).iter().enumerate() {
        say(&if number == 0 { format!("Summary: {line}") } else { line.clone() })?;
    }
    let claims = || rows.iter().flat_map(|row| &row.claims);
    let (all, holding) = (claims().count(), claims().filter(|claim| claim.held).count());
    say(&format!("{holding} of {all} claims held."))?;
    out.flush()
}

/// Shows the current step. On a terminal, one line is overwritten; other output gets one line per step.
struct CompareProgress {
    to: Term,
    of: usize,
}

impl CompareProgress {
    fn say(&self, number: usize, name: &str, what: &str) {
        let text = format!("{number} of {}: {name}: {what}", self.of);
        // The comparison continues even if its progress cannot be shown.
        let _ = if self.to.is_term() {
            self.to.clear_line().and_then(|()| self.to.write_str(&text))
        } else {
            self.to.write_line(&text)
        };
    }

    /// Shows a line that stays.
    fn note(&self, text: &str) {
        self.clear();
        // As above.
        let _ = self.to.write_line(text);
    }

    fn clear(&self) {
        if self.to.is_term() {
            let _ = self.to.clear_line();
        }
    }
}
