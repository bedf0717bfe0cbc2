//! The command line: one call into [`ninetabs::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ninetabs::cli::run(std::env::args_os().collect())
}
