//! `completions` and `man`: print the definitions of `--help` in two more formats.

use std::io;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::output::print;
use super::typed;

pub(super) const COMPLETIONS_EXAMPLE: &str = "\
Example:
  ninetabs completions bash > ~/.local/share/bash-completion/completions/ninetabs";

pub(super) const MAN_EXAMPLE: &str = "\
Example:
  ninetabs man > ninetabs.1 && man ./ninetabs.1";

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell: bash, elvish, fish, powershell or zsh
    pub shell: Shell,
}

/// Prints the completions for a shell.
pub fn completions(arguments: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut typed::definition(), "ninetabs", &mut script);
    print(&script)
}

/// Prints the manual page: the program, then each of its commands with its own commands.
pub fn man() -> ExitCode {
    let mut page = Vec::new();
    let mut program = typed::definition();
    program.build();
    write_page(&program, &mut page).map_or_else(super::failed, |()| print(&page))
}

fn write_page(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    clap_mangen::Man::new(command.clone()).render(page)?;
    command
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
        .try_for_each(|command| write_page(command, page))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that the page has each argument of a command and of the commands below it.
    fn expect(command: &Command, page: &str) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        assert!(page.contains(&format!(".TH {name} ")), "{name}");
        for argument in command.get_arguments() {
            let words = match argument.get_long() {
                Some(long) => vec![long],
                None => argument.get_value_names().unwrap_or_default().iter().map(|it| it.as_str()).collect(),
            };
            let words = words.iter().map(|word| word.replace('-', "\\-"));
            let variable = argument.get_env().map(|variable| variable.to_string_lossy().into_owned());
            for word in words.chain(variable) {
                assert!(page.contains(&word), "{name}: {word}");
            }
        }
        command.get_subcommands().filter(|it| it.get_name() != "help").for_each(|it| expect(it, page));
    }

    #[test]
    fn the_manual_has_every_flag_and_variable_of_every_command() {
        let mut program = typed::definition();
        program.build();
        let mut page = Vec::new();
        write_page(&program, &mut page).unwrap();
        expect(&program, &String::from_utf8(page).unwrap());
    }
}
