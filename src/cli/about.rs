//! `completions` and `man`: the definitions of `--help` in two more forms.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Arguments;

pub(super) const COMPLETIONS_EXAMPLE: &str = "\
Example:
  ninetabs completions bash > ~/.local/share/bash-completion/completions/ninetabs";

pub(super) const MAN_EXAMPLE: &str = "\
Example:
  ninetabs man > ninetabs.1 && man ./ninetabs.1";

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to complete in.
    pub shell: Shell,
}

/// Prints the completions of a shell.
pub fn completions(arguments: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "ninetabs", &mut script);
    print(&script)
}

/// Prints the manual page: the program, then each of its commands.
pub fn man() -> ExitCode {
    let mut page = Vec::new();
    let mut program = Arguments::command();
    program.build();
    let rendered = clap_mangen::Man::new(program.clone()).render(&mut page).and_then(|()| {
        program
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
            .try_for_each(|command| clap_mangen::Man::new(command.clone()).render(&mut page))
    });
    rendered.map_or_else(super::failed, |()| print(&page))
}

/// A reader that has seen enough and closes the pipe is no error.
fn print(bytes: &[u8]) -> ExitCode {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => super::failed(error),
        _ => ExitCode::SUCCESS,
    }
}
