//! The command line: one call into [`ninetabs::cli`].

use std::process::ExitCode;

use clap::Parser;
use ninetabs::cli::{self, Arguments};

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => cli::run(arguments),
        Err(error) => cli::explain(&error),
    }
}
