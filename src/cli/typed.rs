//! Converts the typed words and the environment to [`Arguments`], and prints the help.
//!
//! `environment` decides which variables are read, and `mistakes` describes a usage error in one line.

mod environment;
mod mistakes;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

pub use environment::{FromEnvironment, unknown_variables};
use environment::{Overridden, variable_of, without_any_variable, without_variable};
pub use mistakes::mistake;

use super::Arguments;

/// The maximum width of help, and its width without a terminal.
const HELP_COLUMNS: usize = 100;

/// Parses the typed words. Help and version are errors here, as in clap.
pub fn parse(typed: Vec<OsString>) -> Result<(Arguments, FromEnvironment), clap::Error> {
    let command = || if is_short_help(&typed) { brief(command()) } else { command() };
    // Which variables are read depends on what was typed.
    let overridden = match matches(&mut without_any_variable(command()), &typed) {
        Ok(without_variables) => Overridden::by(&without_variables),
        // Help shows all variables.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => Overridden::default(),
        Err(error) => return Err(error),
    };
    let mut command = overridden.without_variables(command());
    let parsed = matches(&mut command, &typed)?;
    let from_environment = FromEnvironment::of(&command, &parsed);
    Ok((Arguments::from_arg_matches(&parsed)?, from_environment))
}

/// Why words are not flags of a server.
#[derive(Debug)]
pub enum NoServerFlags {
    /// They ask for the help.
    Help,
    /// One line about what is wrong.
    Mistake(String),
}

/// Parses the flags of a server that this process is about to start, and that does not read variables.
pub fn server_flags(flags: &[String]) -> Result<ArgMatches, NoServerFlags> {
    let words = ["ninetabs", "serve"].into_iter().chain(flags.iter().map(String::as_str));
    let words: Vec<_> = words.map(OsString::from).collect();
    match matches(&mut without_any_variable(command()), &words) {
        Ok(mut matches) => match matches.remove_subcommand() {
            Some((_, of_serve)) => Ok(of_serve),
            None => Ok(matches),
        },
        Err(error) if error.use_stderr() => Err(NoServerFlags::Mistake(mistake(&error, &words))),
        Err(_) => Err(NoServerFlags::Help),
    }
}

fn matches(command: &mut Command, typed: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let unparsed = command.clone();
    command.try_get_matches_from_mut(typed).or_else(|error| {
        // clap mistakes `--help` after `help` for the name of a command.
        let is_help = |word: &OsString| word == "--help" || word == "-h";
        let asks_for_help =
            invalid(&error, ContextKind::InvalidSubcommand).is_some_and(|it| it.starts_with('-'));
        if !asks_for_help || !typed.iter().any(is_help) {
            return Err(error);
        }
        let without: Vec<_> = typed.iter().filter(|word| !is_help(word)).collect();
        unparsed.try_get_matches_from(without)
    })
}

/// The definition of the command line, for parsing and for help.
fn command() -> Command {
    let command = definition().max_term_width(HELP_COLUMNS);
    // The help of the program lists the commands; the flags of the server are in the help of `serve`.
    everywhere(command).mut_args(|arg| arg.hide(true))
}

/// The definition of the command line. clap's own defaults are hidden, because each flag's text states
/// its default beside its unit.
pub fn definition() -> Command {
    fn without_defaults(command: Command) -> Command {
        let hidden = |arg: Arg| {
            let takes_value = arg.get_action().takes_values();
            arg.hide_default_value(takes_value)
        };
        command.mut_args(hidden).mut_subcommands(without_defaults)
    }
    without_defaults(Arguments::command())
}

fn is_short_help(typed: &[OsString]) -> bool {
    let has = |flag: &str| typed.iter().any(|word| word == flag);
    has("-h") && !has("--help") && !has("help")
}

/// For `-h`: one line per flag. Only `--help` shows the variables and the meaning of each value.
fn brief(command: Command) -> Command {
    let briefly = |arg: Arg| {
        let takes_value = arg.get_action().takes_values();
        arg.hide_env(true).hide_possible_values(takes_value)
    };
    command.mut_args(briefly).mut_subcommands(brief)
}

fn everywhere(command: Command) -> Command {
    let one = |mut arg: Arg| {
        if variable_of(&arg).is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()))
        {
            arg = without_variable(arg);
        }
        if arg.get_help_heading() == Some("Limits") {
            arg = arg.hide_short_help(true);
        }
        // `-1` is a wrong value, not an unknown flag.
        let takes_value = arg.get_action().takes_values();
        if takes_value { arg.allow_negative_numbers(true) } else { arg }
    };
    command.mut_args(one).mut_subcommands(everywhere)
}

fn invalid(error: &clap::Error, what: ContextKind) -> Option<String> {
    match error.get(what)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn typed(line: &str) -> Vec<OsString> {
        std::iter::once("ninetabs")
            .chain(line.split(' ').filter(|it| !it.is_empty()))
            .map(OsString::from)
            .collect()
    }

    #[test]
    fn help_is_printed_for_help_with_a_help_flag() {
        for line in ["help --help", "help -h", "help tab --help", "ctl help --help"] {
            assert_eq!(parse(typed(line)).unwrap_err().kind(), ErrorKind::DisplayHelp, "{line}");
        }
    }

    #[test]
    fn acts_may_be_given_without_a_flag() {
        for line in ["reproduce 1", "reproduce --act 1"] {
            let (arguments, _) = parse(typed(line)).unwrap();
            let Some(super::super::Command::Reproduce(args)) = arguments.command else { panic!("{line}") };
            assert_eq!(args.acts(), [1], "{line}");
        }
    }

    /// Prints the help of each command in both lengths.
    fn all_help() -> Vec<(String, String)> {
        let mut all = Vec::new();
        let program = Arguments::command();
        let names = program.get_subcommands().map(|it| it.get_name().to_owned());
        for name in std::iter::once(String::new()).chain(names) {
            for flag in ["-h", "--help"] {
                let line = format!("{name} {flag}");
                all.push((line.clone(), parse(typed(&line)).unwrap_err().render().to_string()));
            }
        }
        all
    }

    #[test]
    fn help_is_at_most_a_hundred_columns_wide() {
        for (line, help) in all_help() {
            let widest = help.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(HELP_COLUMNS), "{line}: {widest:?}\n{help}");
            // A hyphen at the end of a line of a doc comment would be followed by a space in the help.
            let letters: Vec<char> = help.chars().collect();
            let broken = letters.windows(4).find(|it| {
                it[0].is_alphanumeric() && (it[1], it[2]) == ('-', ' ') && it[3].is_alphanumeric()
            });
            assert_eq!(broken, None, "{line}: {help}");
        }
    }

    #[test]
    fn the_programs_help_has_at_most_forty_lines_and_that_of_serve_at_most_sixty() {
        let lines = |line: &str| {
            let help = parse(typed(line)).unwrap_err().render().to_string();
            (help.lines().count(), help)
        };
        for (line, most) in [("--help", 40), ("-h", 40), ("help", 40), ("serve -h", 60)] {
            let (count, help) = lines(line);
            assert!(count <= most, "{line}: {count}\n{help}");
        }
    }

    #[test]
    fn the_limits_are_in_the_long_help_of_serve_only() {
        let help = |line: &str| parse(typed(line)).unwrap_err().render().to_string();
        let (short, long) = (help("serve -h"), help("serve --help"));
        assert!(!short.contains("--max-body-bytes") && short.contains("--threads"), "{short}");
        assert!(long.contains("\nLimits:\n") && long.contains("--max-body-bytes"), "{long}");
        for heading in ["Addresses", "Pool", "Streams", "Database", "Development"] {
            assert!(short.contains(&format!("\n{heading}:\n")), "{heading}: {short}");
        }
        assert!(!long.contains("Looking"), "{long}");
    }

    #[test]
    fn every_flags_text_states_its_default() {
        fn each(command: &Command, seen: &mut usize) {
            for arg in command.get_arguments() {
                let Some(default) = arg.get_default_values().first().map(|it| it.to_string_lossy()) else {
                    continue;
                };
                if !arg.get_action().takes_values() || default.is_empty() {
                    continue;
                }
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                let stated = format!("default: {default}]");
                assert!(help.ends_with(&stated), "{} {}: {help}", command.get_name(), arg.get_id());
                *seen += 1;
            }
            command.get_subcommands().for_each(|below| each(below, seen));
        }
        let mut seen = 0;
        each(&Arguments::command(), &mut seen);
        assert!(seen > 50, "{seen}");
    }
}
