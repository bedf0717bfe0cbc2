//! Decides which environment variables are read, and records which values came from them.
//!
//! An empty variable counts as unset. A command reads only the variables of its own flags. The command line overrides
//! the environment. If a flag was typed, its variable is not read, and neither are the variables of flags that conflict
//! with it.

use std::ffi::OsString;

use clap::builder::{OsStr, Resettable};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory};

use crate::cli::Arguments;

/// The prefix of the names of all variables.
const PREFIX: &str = "NINETABS_";
/// Variables that only the project's own tests and benchmarks read.
const OF_THE_TESTS: [&str; 3] = ["NINETABS_TEST_", "NINETABS_SOAK_SECONDS", "NINETABS_SCHEDULES"];

/// Values that came from the environment: each flag, and its variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FromEnvironment(Vec<(String, String)>);

impl FromEnvironment {
    pub fn of(command: &Command, matches: &ArgMatches) -> FromEnvironment {
        let (command, matches) = match matches.subcommand() {
            Some((name, below)) => (command.find_subcommand(name).unwrap_or(command), below),
            None => (command, matches),
        };
        let is_from_it = |arg: &&Arg| {
            let id = arg.get_id().as_str();
            matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(ValueSource::EnvVariable)
        };
        let found = command.get_arguments().filter(is_from_it);
        FromEnvironment(
            found.filter_map(|arg| Some((format!("--{}", arg.get_long()?), variable_of(arg)?))).collect(),
        )
    }

    /// Whether the value of this flag came from the environment.
    pub fn sets(&self, flag: &str) -> bool {
        self.0.iter().any(|(name, _)| name == flag)
    }

    /// Appends to a message the variables that set the flags in it.
    pub fn named(&self, message: &str) -> String {
        let is_in_it = |flag: &str| {
            message.split(' ').any(|word| word.trim_end_matches([':', ',', ';', ')', '.']) == flag)
        };
        let found = self.0.iter().filter(|(flag, _)| is_in_it(flag));
        let found: Vec<_> = found.map(|(flag, variable)| format!("{variable} sets {flag}")).collect();
        if found.is_empty() { message.to_owned() } else { format!("{message} ({})", found.join(", ")) }
    }
}

/// The part of the typed words that decides which variables are read.
#[derive(Debug, Default)]
pub struct Overridden {
    /// Whether a command was typed. In that case, the flags of the program itself do not read variables.
    has_command: bool,
    /// The ids of the arguments that were typed.
    typed: Vec<String>,
}

impl Overridden {
    /// Reads what was typed from these matches, which must come from a command that read no variable.
    pub fn by(matches: &ArgMatches) -> Overridden {
        let mut typed = Vec::new();
        let mut level = Some(matches);
        while let Some(matches) = level {
            // A level also lists the ids of the global flags below it, but without their values.
            let is_typed = |id: &&clap::Id| {
                matches.try_contains_id(id.as_str()).is_ok()
                    && matches.value_source(id.as_str()) == Some(ValueSource::CommandLine)
            };
            typed.extend(matches.ids().filter(is_typed).map(ToString::to_string));
            level = matches.subcommand().map(|(_, below)| below);
        }
        Overridden { has_command: matches.subcommand().is_some(), typed }
    }

    /// Removes the variables that must not be read from a definition.
    pub fn without_variables(&self, command: Command) -> Command {
        let command = if self.has_command { command.mut_args(without_variable) } else { command };
        self.without_typed(command)
    }

    fn without_typed(&self, command: Command) -> Command {
        let is_typed = |arg: &Arg| self.typed.iter().any(|id| arg.get_id() == id);
        let mut unread: Vec<_> =
            command.get_arguments().filter(|arg| is_typed(arg)).map(Arg::get_id).collect();
        for arg in command.get_arguments() {
            // Only one of two conflicting flags names the other.
            for other in command.get_arg_conflicts_with(arg) {
                if is_typed(arg) {
                    unread.push(other.get_id());
                }
                if is_typed(other) {
                    unread.push(arg.get_id());
                }
            }
        }
        let unread: Vec<_> = unread.into_iter().cloned().collect();
        let command =
            command.mut_args(|arg| if unread.contains(arg.get_id()) { without_variable(arg) } else { arg });
        command.mut_subcommands(|below| self.without_typed(below))
    }
}

pub fn without_variable(arg: Arg) -> Arg {
    arg.env(Resettable::<OsStr>::Reset)
}

pub fn without_any_variable(command: Command) -> Command {
    command.mut_args(without_variable).mut_subcommands(without_any_variable)
}

pub fn variable_of(arg: &Arg) -> Option<String> {
    Some(arg.get_env()?.to_string_lossy().into_owned())
}

/// One line for each unknown variable with our prefix, such as a misspelled one. Such variables are not refused,
/// since an orchestrator names variables after its services.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut known = Vec::new();
    collect_variables(&Arguments::command(), &mut known);
    let names = names.filter_map(|name| name.into_string().ok());
    let unknown = names.filter(|name| {
        name.starts_with(PREFIX)
            && !known.contains(name)
            && !OF_THE_TESTS.iter().any(|prefix| name.starts_with(prefix))
    });
    let line = |name: String| {
        let nearest = known.iter().filter(|other| is_misspelled(&name, other));
        let nearest = nearest.min_by_key(|other| strsim::osa_distance(&name, other));
        let hint = nearest.map(|other| format!("; did you mean {other}?")).unwrap_or_default();
        format!("{name} is ignored: there is no such variable{hint}")
    };
    unknown.map(line).collect()
}

/// Whether a name is probably a misspelling of this variable: it differs by one or two letters, and by at most a
/// third of its letters.
fn is_misspelled(name: &str, variable: &str) -> bool {
    let letters = variable.len() - PREFIX.len();
    let edits = strsim::osa_distance(name, variable);
    edits <= 2 && edits * 3 <= letters
}

fn collect_variables(command: &Command, known: &mut Vec<String>) {
    known.extend(command.get_arguments().filter_map(variable_of));
    command.get_subcommands().for_each(|command| collect_variables(command, known));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_variable_is_reported_with_the_nearest_known_one() {
        let names = ["NINETABS_THREAD", "NINETABS_THREADS", "NINETABS_XYZ", "NINETABS_SOAK_SECONDS", "HOME"];
        assert_eq!(
            unknown_variables(names.iter().map(OsString::from)),
            [
                "NINETABS_THREAD is ignored: there is no such variable; did you mean NINETABS_THREADS?",
                "NINETABS_XYZ is ignored: there is no such variable"
            ]
        );
    }

    #[test]
    fn only_a_misspelled_variable_gets_a_hint() {
        for (name, hint) in [
            ("NINETABS_BNID", Some("NINETABS_BIND")),
            ("NINETABS_DATABSE", Some("NINETABS_DATABASE")),
            ("NINETABS_MAX_STREAMS_AGE", Some("NINETABS_MAX_STREAM_AGE")),
            ("NINETABS_TRHEDS", Some("NINETABS_THREADS")),
            // Kubernetes sets these for a service with this name.
            ("NINETABS_PORT", None),
            ("NINETABS_PORT_80_TCP", None),
            ("NINETABS_PORT_80_TCP_ADDR", None),
            ("NINETABS_SERVICE_HOST", None),
            ("NINETABS_SERVICE_PORT", None),
            ("NINETABS_FX", Some("NINETABS_FIX")),
            ("NINETABS_XI", None),
            ("NINETABS_", None),
        ] {
            let hint = hint.map(|other| format!("; did you mean {other}?")).unwrap_or_default();
            let wanted = format!("{name} is ignored: there is no such variable{hint}");
            assert_eq!(unknown_variables([OsString::from(name)].into_iter()), [wanted]);
        }
    }

    #[test]
    fn a_message_names_the_variable_that_set_a_flag() {
        let from = FromEnvironment(vec![("--bind".to_owned(), "NINETABS_BIND".to_owned())]);
        assert_eq!(from.named("--bind: x; --bind-x"), "--bind: x; --bind-x (NINETABS_BIND sets --bind)");
        assert_eq!(from.named("--bind-x: x"), "--bind-x: x");
    }
}
