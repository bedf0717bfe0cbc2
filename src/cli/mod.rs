//! The command line: one file per command.
//!
//! [`Arguments`] defines what can be typed. `--help`, the manual page and the completions are generated from the
//! same definitions. Each command's file converts its arguments and runs the command. Exit statuses: 0 done, 1
//! failed, or a claim did not hold, 2 wrong usage, 3 not measured (`probe`), 130 interrupted.

pub mod about;
pub mod addresses;
pub mod boot;
pub mod cluster;
mod command_line;
pub mod compare;
pub mod control_client;
pub mod control_server;
pub mod ctl;
pub mod descriptors;
pub mod duration;
mod earlier_rows;
pub mod files;
mod greeting;
pub mod interrupt;
pub mod keepsakes;
pub mod logging;
pub mod outlet;
pub mod output;
pub mod probe;
pub mod reproduce;
mod second_server;
pub mod serve;
pub mod serve_args;
pub mod signals;
pub mod simulate;
pub mod state_file;
pub mod storage;
pub mod tab;
mod tab_notes;
mod temporary_folder;
pub mod token_file;
pub mod top;
pub mod trace_file;
pub mod typed;
pub mod values;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use ninetabs_server::escape::is_printable;

/// The error of a build without PostgreSQL. It ends without a period, so that another way can be named after it.
const NO_POSTGRESQL: &str = "this build does not support PostgreSQL; build it with the feature postgresql (cargo build --features postgresql)";

const EXAMPLES: &str = "\
Examples:
  ninetabs                         serve, then open http://127.0.0.1:9293/wall
  ninetabs --max-stream-age 5      the same; more tabs than threads take turns
  ninetabs reproduce               play all acts and check each claim
  ninetabs probe http://HOST/PATH  find the limit of your own server
  ninetabs tab http://HOST/PATH    follow one of its streams

Flags: `ninetabs serve -h` lists the server's; `ninetabs COMMAND --help` explains
those of a command.";

/// Shows why the ninth tab hangs when a Rails page streams through eight Puma threads.
#[derive(Debug, Parser)]
#[command(name = "ninetabs", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: serve_args::ServeArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the app and the control server until Ctrl-C (the default)
    #[command(after_help = serve::EXAMPLES)]
    Serve(Box<serve_args::ServeArgs>),
    /// Play the story of nine tabs in acts, and check every claim
    #[command(after_help = reproduce::EXAMPLES)]
    Reproduce(reproduce::ReproduceArgs),
    /// Measure every fix with the same nine tabs, in one table
    #[command(after_help = compare::EXAMPLES)]
    Compare(compare::CompareArgs),
    /// Find out how many streams a server can hold, and what limits it
    #[command(after_help = probe::EXAMPLES)]
    Probe(Box<probe::ProbeArgs>),
    /// Simulate many tabs on many servers with the rules of the real pool
    #[command(after_help = simulate::EXAMPLES)]
    Simulate(Box<simulate::SimulateArgs>),
    /// Run several servers on one database, with a balancer and tabs
    #[command(after_help = cluster::EXAMPLES)]
    Cluster(cluster::ClusterArgs),
    /// Follow one event stream as a browser's EventSource does
    #[command(after_help = tab::EXAMPLES)]
    Tab(tab::TabArgs),
    /// Watch the threads and queue of ninetabs or Puma in the terminal
    #[command(after_help = top::EXAMPLES)]
    Top(top::TopArgs),
    /// Query or control a running ninetabs or Puma
    Ctl(ctl::CtlArgs),
    /// Print the address of the wall
    Wall(addresses::AddressArgs),
    /// Print the address of the dashboard
    Dashboard(addresses::AddressArgs),
    /// Print the address of the list of fixes
    Fixes(addresses::AddressArgs),
    /// Print shell completions
    #[command(after_help = about::COMPLETIONS_EXAMPLE)]
    Completions(about::CompletionsArgs),
    /// Print the manual page, in roff
    #[command(after_help = about::MAN_EXAMPLE)]
    Man,
}

/// Runs what was typed.
pub fn run(typed: Vec<OsString>) -> ExitCode {
    // An empty variable counts as unset.
    if std::env::var_os("TMPDIR").is_some_and(|folder| folder.is_empty()) {
        let _ = tempfile::env::override_temp_dir(Path::new("/tmp"));
    }
    match typed::parse(typed.clone()) {
        Ok((arguments, from_environment)) => run_command(arguments, &from_environment),
        Err(error) => explain(&error, &typed),
    }
}

fn run_command(arguments: Arguments, from_environment: &typed::FromEnvironment) -> ExitCode {
    if let Err(error) = signals::survive_file_size_limit() {
        return failed(format_args!("cannot set the signal mask: {error}"));
    }
    match arguments.command {
        None => serve::run(arguments.serve, from_environment),
        Some(Command::Serve(serve)) => serve::run(*serve, from_environment),
        Some(Command::Reproduce(reproduce)) => reproduce::run(&reproduce),
        Some(Command::Compare(compare)) => compare::run(&compare),
        Some(Command::Simulate(args)) => simulate::run(&args),
        Some(Command::Cluster(args)) => cluster::run(&args),
        Some(Command::Tab(tab)) => {
            interrupt::first_of_two().map_or_else(failed, |signals| tab::run(tab, &signals))
        }
        Some(Command::Probe(probe)) => probe::run(&probe, from_environment),
        Some(Command::Top(top)) => top::run(top, from_environment),
        Some(Command::Ctl(ctl)) => ctl::run(&ctl, from_environment),
        Some(Command::Wall(args)) => addresses::run(addresses::NamedPage::Wall, &args, from_environment),
        Some(Command::Dashboard(args)) => {
            addresses::run(addresses::NamedPage::Dashboard, &args, from_environment)
        }
        Some(Command::Fixes(args)) => addresses::run(addresses::NamedPage::Fixes, &args, from_environment),
        Some(Command::Completions(shell)) => about::completions(&shell),
        Some(Command::Man) => about::man(),
    }
}

/// Prints one line to standard error. Exit status 1.
pub fn failed(error: impl std::fmt::Display) -> ExitCode {
    complain(error);
    ExitCode::FAILURE
}

/// Prints one line to standard error. Exit status 2, wrong usage.
pub fn misused(error: impl std::fmt::Display) -> ExitCode {
    complain(error);
    ExitCode::from(2)
}

/// A failed write is ignored: the exit status reports the failure as well.
fn complain(error: impl std::fmt::Display) {
    let _ = io::stderr().write_all(complaint(error).as_bytes());
}

/// The last line that a failed command prints.
fn complaint(error: impl std::fmt::Display) -> String {
    format!("ninetabs: {}\n", one_line(&error.to_string()))
}

/// Joins the lines of a library's message, and replaces control characters that another program sent.
fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    line.replace(|c| !is_printable(c), " ")
}

/// Prints help and version unchanged, and a usage error as one line.
fn explain(error: &clap::Error, typed: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        let printed = error.print().and_then(|()| io::stdout().flush());
        return output::check(printed).map_or_else(failed, |()| ExitCode::SUCCESS);
    }
    misused(typed::mistake(error, typed))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_pass_claps_own_checks() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_complaint_is_one_line_without_control_characters() {
        assert_eq!(one_line("a\n  b \u{1b}[31m\u{9b}2J\u{202e}c\r\n"), "a b  [31m 2J c");
    }

    #[test]
    fn every_flag_has_a_help_text() {
        for command in Arguments::command().get_subcommands() {
            for flag in command.get_arguments() {
                let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.len() > 10, "{} {}", command.get_name(), flag.get_id());
            }
        }
    }
}
