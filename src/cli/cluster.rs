//! `cluster`: several servers on one database, a balancer, and tabs that check what arrives.
//!
//! The arguments become a [`ClusterPlan`]; [`crate::lab::cluster`] does the rest. The exit status is 0 if each tab
//! received each model once and in order, 1 if not or if something could not be started, and 130 if a first interrupt
//! came before the tabs listened, or after a second interrupt. All started processes end with this one, however it
//! ends.

mod server_flags;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use console::Term;

use super::interrupt::FirstOfTwo;
use super::{NO_POSTGRESQL, descriptors, failed, interrupt, misused, output, values};
use crate::app::database_place::DatabaseUrl;
use crate::lab::cluster::run::{self, ClusterInterrupts};
use crate::lab::cluster::{ClusterDatabase, ClusterError, ClusterNews, ClusterPlan, ClusterReport};
use crate::lab::interrupt::Interrupt;
use crate::lab::signs::Signs;
use ninetabs_server::escape;
use ninetabs_server::threads::{self, SpawnError};

pub(super) const EXAMPLES: &str = "\
A server, HAProxy or the private PostgreSQL that ends is started again. Kill or
stop any of them, by the process ids that are printed, and see what the tabs
get. The first Ctrl-C ends the time in which the tabs listen. What they received
is then compared with the table. A second Ctrl-C ends that as well.

Exit status: 0 if each tab received each model once and in order, 1 if not,
130 if interrupted before the tabs listened, or twice.

Examples:
  ninetabs cluster                            3 servers, 9 tabs, until Ctrl-C
  ninetabs cluster --servers 9 --tabs 0       one server too many for PostgreSQL
  ninetabs cluster --engine sqlite3 --for 10
  ninetabs cluster --database postgresql://me@db.internal/models
  ninetabs cluster -- --produce-every 0.1     flags for each server";

/// The engine of the database that the servers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClusterEngine {
    /// PostgreSQL: a private one in a temporary folder, or the one of --database.
    Postgresql,
    /// A file in a temporary folder.
    Sqlite3,
}

#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Number of servers, from 1 to 20 [default: 3]
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = values::number(1..=20_u16))]
    pub servers: u16,
    /// Number of tabs, from 0 to 1000 [default: 9]
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = values::number(0..=1000_u16))]
    pub tabs: u16,
    /// Engine of the database [postgresql or sqlite3; default: postgresql]
    #[arg(long, value_name = "ENGINE", default_value = "postgresql")]
    pub engine: ClusterEngine,
    /// PostgreSQL URL of an existing database [default: a private PostgreSQL]
    ///
    /// Its newest 1,000,000 models are kept, unless `--keep-models` is given after `--`. Put the password into
    /// PGPASSWORD to keep it out of the list of processes.
    #[arg(long, value_name = "URL", value_parser = database_url)]
    pub database: Option<DatabaseUrl>,
    /// End after this time [seconds; default: Ctrl-C]
    #[arg(long = "for", value_name = "SECS", value_parser = values::some_time)]
    pub duration: Option<Duration>,
    /// Print only one JSON object, at the end
    #[arg(long)]
    pub json: bool,
    /// Flags of `ninetabs serve` for each server, after `--`
    #[arg(last = true, value_name = "FLAG")]
    pub server_flags: Vec<String>,
}

fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    DatabaseUrl::of(text).ok_or_else(|| "give a URL such as postgresql://USER@HOST/DATABASE".to_owned())
}

/// Runs the cluster.
pub fn run(args: &ClusterArgs) -> ExitCode {
    let database = match (&args.database, args.engine) {
        (Some(_), ClusterEngine::Sqlite3) => {
            return misused("--database is a PostgreSQL URL; leave out --engine sqlite3 or --database");
        }
        (Some(url), ClusterEngine::Postgresql) => ClusterDatabase::Url(url.reveal().to_owned()),
        (None, ClusterEngine::Postgresql) => ClusterDatabase::PrivatePostgres,
        (None, ClusterEngine::Sqlite3) => ClusterDatabase::TemporaryFile,
    };
    if args.engine == ClusterEngine::Postgresql && cfg!(not(feature = "postgresql")) {
        return failed(format_args!("--engine postgresql: {NO_POSTGRESQL}, or give --engine sqlite3"));
    }
    if let Some(mistake) = server_flags::mistake(&args.server_flags) {
        return misused(mistake);
    }
    // HAProxy inherits the limit.
    if let Err(error) = descriptors::for_tabs(descriptors::raise_limit(), args.tabs) {
        return failed(error);
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(format_args!("cannot find this program: {error}")),
    };
    let interrupts = match interrupt::first_of_two() {
        Ok(signals) => match interrupts(signals) {
            Ok(interrupts) => interrupts,
            Err(error) => return failed(error),
        },
        Err(error) => return failed(format_args!("cannot listen for signals: {error}")),
    };
    let plan = ClusterPlan {
        program,
        servers: args.servers.into(),
        tabs: args.tabs.into(),
        database,
        server_flags: server_flags::of(&args.server_flags),
        duration: args.duration,
    };
    let mut printer = ClusterPrinter { is_silent: args.json, numbers_to: Term::stderr() };
    let ended = run::run(&plan, &interrupts, &mut |news| printer.tell(&news));
    printer.clear();
    match ended {
        Ok(report) => match output::check(print(&report, args.json)) {
            Ok(()) if report.held => ExitCode::SUCCESS,
            Ok(()) => ExitCode::FAILURE,
            Err(error) => failed(error),
        },
        Err(ClusterError::Interrupted) => interrupt::interrupted(),
        Err(ClusterError::Output(error)) => {
            output::check(Err(error)).map_or_else(failed, |()| ExitCode::SUCCESS)
        }
        Err(error) => failed(error),
    }
}

/// Two interrupts, one per signal.
fn interrupts(signals: FirstOfTwo) -> Result<ClusterInterrupts, SpawnError> {
    let (first_asks, first) = Interrupt::new();
    let (second_asks, second) = Interrupt::new();
    threads::spawn("signals", move || {
        // The handler stays installed as long as the process runs.
        let _ = signals.first.recv();
        drop(first_asks);
        let _ = signals.second.recv();
        drop(second_asks);
    })?;
    Ok(ClusterInterrupts { first, second })
}

/// Prints lines to standard output. On a terminal, the current numbers are below them.
struct ClusterPrinter {
    is_silent: bool,
    numbers_to: Term,
}

impl ClusterPrinter {
    fn tell(&mut self, news: &ClusterNews) -> io::Result<()> {
        match news {
            ClusterNews::Line(_) if self.is_silent => Ok(()),
            ClusterNews::Line(text) => {
                self.clear();
                let mut out = io::stdout().lock();
                writeln!(out, "{}", escape::printable(text))?;
                out.flush()
            }
            ClusterNews::Numbers(text) => {
                if self.numbers_to.is_term() {
                    self.clear();
                    // A longer line would wrap, and only its last row could be cleared.
                    let columns = usize::from(self.numbers_to.size().1);
                    let text = console::truncate_str(text, columns.saturating_sub(1), "…");
                    // The cluster keeps running even if its numbers cannot be shown.
                    let _ = self.numbers_to.write_str(&text);
                }
                Ok(())
            }
        }
    }

    fn clear(&self) {
        if self.numbers_to.is_term() {
            let _ = self.numbers_to.clear_line();
        }
    }
}

fn print(report: &ClusterReport, as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        return writeln!(out, "{}", escape::json(&serde_json::to_string(report)?));
    }
    let signs = Signs::from_environment();
    writeln!(
        out,
        "{:.0} s: {} models; the tabs reconnected {} times",
        report.seconds, report.models, report.reconnects
    )?;
    for claim in &report.claims {
        writeln!(out, "{} {}", signs.mark(claim.held), signs.text(&claim.sentence()))?;
    }
    out.flush()
}
