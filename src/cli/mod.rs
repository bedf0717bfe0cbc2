//! The command line: what was typed, what it means, and one file a command.
//!
//! [`Arguments`] is what was typed; the same definitions give `--help`, the man
//! page and the shells' completions. Each command's file turns its own part into
//! what it means and runs it. Exit status: 0 it did what was asked, 1 it could
//! not, or a claim did not hold, 2 it was asked wrongly, 130 interrupted.

pub mod about;
pub mod addresses;
pub mod boot;
pub mod compare;
pub mod control_client;
pub mod control_server;
pub mod ctl;
pub mod descriptors;
pub mod duration;
pub mod files;
mod greeting;
pub mod interrupt;
pub mod keepsakes;
pub mod outlet;
pub mod output;
pub mod pretty;
pub mod reproduce;

pub mod serve;
pub mod serve_args;
pub mod signals;
pub mod state_file;
pub mod tab;
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

const EXAMPLES: &str = "\
Examples:
  ninetabs                       serve, then open http://127.0.0.1:9292
  ninetabs --max-stream-age 5    more tabs than threads take turns
  ninetabs reproduce             watch the pool run dry, each claim checked
  ninetabs reproduce 1 --step    for a class: Enter between its three parts
  ninetabs serve --help          all flags of the server
  ninetabs help tab              what a command can do";

/// Nine tabs, eight threads: a model of Puma that a person can watch run dry.
///
/// Without a command it is `ninetabs serve`.
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
    /// Serve the app, and the control server beside it, until Ctrl-C.
    #[command(after_help = serve::EXAMPLES)]
    Serve(Box<serve_args::ServeArgs>),
    /// Play the story of nine tabs and eight threads, and check every claim of it.
    #[command(after_help = reproduce::EXAMPLES)]
    Reproduce(reproduce::ReproduceArgs),
    /// Put every way out under the same nine tabs, and say in one table what it buys and costs.
    #[command(after_help = compare::EXAMPLES)]
    Compare(compare::CompareArgs),
    /// Be one EventSource: print every event of a stream as a line of JSON.
    #[command(after_help = tab::EXAMPLES)]
    Tab(tab::TabArgs),
    /// See lanes, todo and numbers of a server live in the terminal, of ninetabs or of Puma.
    #[command(after_help = top::EXAMPLES)]
    Top(top::TopArgs),
    /// Ask a control server, of ninetabs or of Puma, or give it an order.
    Ctl(ctl::CtlArgs),
    /// Print the address of the wall: nine tabs in frames, each with what it waits for.
    Wall(addresses::AddressArgs),
    /// Print the address of the dashboard: lanes, todo, numbers and buttons.
    Dashboard(addresses::AddressArgs),
    /// Print the address of the fixes: what helps against nine tabs, each at work.
    Fixes(addresses::AddressArgs),
    /// Print the completions of a shell.
    #[command(after_help = about::COMPLETIONS_EXAMPLE)]
    Completions(about::CompletionsArgs),
    /// Print the manual page, in roff.
    #[command(after_help = about::MAN_EXAMPLE)]
    Man,
}

/// Runs what was typed.
pub fn run(typed: Vec<OsString>) -> ExitCode {
    // An empty variable is as good as unset.
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
        Some(Command::Tab(tab)) => {
            interrupt::first_of_two().map_or_else(failed, |signals| tab::run(tab, &signals))
        }
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

/// One line on stderr, and exit status 1.
pub fn failed(error: impl std::fmt::Display) -> ExitCode {
    complain(error);
    ExitCode::FAILURE
}

/// One line on stderr, and exit status 2: what was asked for cannot be.
pub fn misused(error: impl std::fmt::Display) -> ExitCode {
    complain(error);
    ExitCode::from(2)
}

/// The status says it too, where nobody reads stderr.
fn complain(error: impl std::fmt::Display) {
    let _ = io::stderr().write_all(complaint(error).as_bytes());
}

/// The line that a command ends with if it could not do what was asked.
fn complaint(error: impl std::fmt::Display) -> String {
    format!("ninetabs: {}\n", one_line(&error.to_string()))
}

/// In one line, also where a library said it in several; and what another program has
/// said does not steer the terminal.
fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    line.replace(|c| !is_printable(c), " ")
}

/// Help and version as they are; of a mistake one line.
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
    fn the_definitions_agree_with_themselves() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_complaint_is_one_line_and_steers_no_terminal() {
        assert_eq!(one_line("a\n  b \u{1b}[31m\u{9b}2J\u{202e}c\r\n"), "a b  [31m 2J c");
    }

    #[test]
    fn every_flag_has_a_sentence() {
        for command in Arguments::command().get_subcommands() {
            for flag in command.get_arguments() {
                let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.len() > 10, "{} {}", command.get_name(), flag.get_id());
            }
        }
    }
}
