//! The command line: what was typed, what it means, and one file a command.
//!
//! [`Arguments`] is what was typed; the same definitions give `--help`, the man
//! page and the shells' completions. Each command's file turns its own part into
//! what it means and runs it. Exit status: 0 it did what was asked, 1 it could
//! not, or a claim did not hold, 2 it was asked wrongly, 130 interrupted.

pub mod about;
pub mod boot;
pub mod duration;
pub mod interrupt;
pub mod reproduce;
pub mod serve;
pub mod serve_args;
pub mod tab;
pub mod values;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Nine tabs, eight threads: a model of Puma that a person can watch run dry.
///
/// Without a command it is `ninetabs serve`.
#[derive(Debug, Parser)]
#[command(name = "ninetabs", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: serve_args::ServeArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the app, and the control server beside it.
    Serve(Box<serve_args::ServeArgs>),
    /// Play the story of nine tabs and eight threads, and check every claim of it.
    Reproduce(reproduce::ReproduceArgs),
    // Its own file says what it is, with an example: words here would hide those.
    Tab(tab::TabArgs),
    /// Print the completions of a shell.
    Completions(about::CompletionsArgs),
    /// Print the manual page, in roff.
    Man,
}

/// Runs what was typed.
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        None => serve::run(arguments.serve),
        Some(Command::Serve(serve)) => serve::run(*serve),
        Some(Command::Reproduce(reproduce)) => reproduce::run(&reproduce),
        Some(Command::Tab(tab)) => {
            interrupt::first_of_two().map_or_else(failed, |signal| tab::run(tab, signal))
        }
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

/// In one line, also where a library said it in several. The status says it too,
/// where nobody reads stderr.
fn complain(error: impl std::fmt::Display) {
    let error = error.to_string();
    let line = error.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let _ = writeln!(io::stderr(), "ninetabs: {line}");
}

/// Help and version as they are; of a mistake one line, which names the flag, the
/// value and what would do.
pub fn explain(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A reader that has seen enough and closes the pipe is no error.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let said = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage") && !line.starts_with("For more"));
    let line = said.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    misused(format_args!("{}; --help shows what there is", line.trim_start_matches("error: ")))
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
    fn every_flag_has_a_sentence() {
        for command in Arguments::command().get_subcommands() {
            for flag in command.get_arguments() {
                let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.len() > 10, "{} {}", command.get_name(), flag.get_id());
            }
        }
    }
}
