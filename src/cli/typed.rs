//! Converts the typed words and the environment to [`Arguments`], and makes one line of a mistake.
//!
//! Four rules hold for every variable:
//!
//! - An empty variable counts as unset.
//! - A command takes the variables of its own flags only.
//! - What is typed overrides the environment: the variable of a flag that was typed, or that
//!   conflicts with a flag that was typed, is not read.
//! - An error names the variable if the value came from it.
//!
//! A mistake is one line that repeats what was typed and names a valid value.

use std::error::Error;
use std::ffi::OsString;

use clap::builder::{OsStr, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches, ValueEnum};

use super::serve_args::FixOption;
use super::{Arguments, values};
use crate::lab::compare::contenders;

/// The maximum width of help, and its width without a terminal.
const HELP_COLUMNS: usize = 100;
/// The fixes that every server has at /fixes and that need no flag.
const FIXES_WITHOUT_FLAG: [&str; 8] =
    ["leave", "short-stream", "shared-worker", "push", "partials", "cable", "poll", "long-poll"];

/// Values that came from the environment: each flag, and its variable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FromEnvironment(Vec<(String, String)>);

impl FromEnvironment {
    fn of(command: &Command, matches: &ArgMatches) -> FromEnvironment {
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

    /// This message, and at its end the variables that the flags in it came from.
    pub fn named(&self, message: &str) -> String {
        let is_in_it = |flag: &str| {
            message.split(' ').any(|word| word.trim_end_matches([':', ',', ';', ')', '.']) == flag)
        };
        let found = self.0.iter().filter(|(flag, _)| is_in_it(flag));
        let found: Vec<_> = found.map(|(flag, variable)| format!("{variable} sets {flag}")).collect();
        if found.is_empty() { message.to_owned() } else { format!("{message} ({})", found.join(", ")) }
    }
}

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

fn matches(command: &mut Command, typed: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let unparsed = command.clone();
    command.try_get_matches_from_mut(typed).or_else(|error| {
        // clap takes `--help` behind `help` for the name of a command.
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

/// The definition, as it is parsed and shown.
fn command() -> Command {
    let command = definition().max_term_width(HELP_COLUMNS);
    // The help of the program lists the commands; the flags of the server are in the help of `serve`.
    everywhere(command).mut_args(|arg| arg.hide(true))
}

/// The definition of what can be typed. Each flag's text states its default, beside its unit.
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

/// For `-h`: one line per flag. The variables and the meaning of each value are in `--help`.
fn brief(command: Command) -> Command {
    let briefly = |arg: Arg| {
        let takes_value = arg.get_action().takes_values();
        arg.hide_env(true).hide_possible_values(takes_value)
    };
    command.mut_args(briefly).mut_subcommands(brief)
}

fn without_variable(arg: Arg) -> Arg {
    arg.env(Resettable::<OsStr>::Reset)
}

fn without_any_variable(command: Command) -> Command {
    command.mut_args(without_variable).mut_subcommands(without_any_variable)
}

/// The part of the typed words that decides which variables are read.
#[derive(Debug, Default)]
struct Overridden {
    /// A command was typed, so the flags of the program without a command take no variables.
    has_command: bool,
    /// The ids of the arguments that were typed.
    typed: Vec<String>,
}

impl Overridden {
    /// What is in these matches, which must be of a command that read no variable.
    fn by(matches: &ArgMatches) -> Overridden {
        let mut typed = Vec::new();
        let mut level = Some(matches);
        while let Some(matches) = level {
            // A level also has the ids of the global flags below it, and knows nothing about them.
            let is_typed = |id: &&clap::Id| {
                matches.try_contains_id(id.as_str()).is_ok()
                    && matches.value_source(id.as_str()) == Some(ValueSource::CommandLine)
            };
            typed.extend(matches.ids().filter(is_typed).map(ToString::to_string));
            level = matches.subcommand().map(|(_, below)| below);
        }
        Overridden { has_command: matches.subcommand().is_some(), typed }
    }

    /// This definition without the variables that must not be read.
    fn without_variables(&self, command: Command) -> Command {
        let command = if self.has_command { command.mut_args(without_variable) } else { command };
        self.without_typed(command)
    }

    fn without_typed(&self, command: Command) -> Command {
        let is_typed = |arg: &Arg| self.typed.iter().any(|id| arg.get_id() == id);
        let mut unread: Vec<_> =
            command.get_arguments().filter(|arg| is_typed(arg)).map(Arg::get_id).collect();
        for arg in command.get_arguments() {
            // Only one of the two names the other.
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

fn variable_of(arg: &Arg) -> Option<String> {
    Some(arg.get_env()?.to_string_lossy().into_owned())
}

/// What the names of all variables begin with.
const PREFIX: &str = "NINETABS_";
/// Variables that only the project's own tests and benches read.
const OF_THE_TESTS: [&str; 3] = ["NINETABS_TEST_", "NINETABS_SOAK_SECONDS", "NINETABS_SCHEDULES"];

/// One line for each variable that has our prefix and is unknown, such as a misspelled one. They are
/// not refused, since an orchestrator names variables after its services.
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

/// Whether a name differs from this variable by a typing error: by one or two letters, and by at most
/// a third of its letters.
fn is_misspelled(name: &str, variable: &str) -> bool {
    let letters = variable.len() - PREFIX.len();
    let edits = strsim::osa_distance(name, variable);
    edits <= 2 && edits * 3 <= letters
}

fn collect_variables(command: &Command, known: &mut Vec<String>) {
    known.extend(command.get_arguments().filter_map(variable_of));
    command.get_subcommands().for_each(|command| collect_variables(command, known));
}

/// One line on a mistake.
pub fn mistake(error: &clap::Error, typed: &[OsString]) -> String {
    let typed: Vec<String> = typed.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let value = invalid(error, ContextKind::InvalidValue);
    let argument = invalid(error, ContextKind::InvalidArg);
    let why = error.source().map(ToString::to_string);
    match (error.kind(), argument, value) {
        (ErrorKind::InvalidSubcommand, _, _) => {
            let name = invalid(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            match invalid(error, ContextKind::SuggestedSubcommand) {
                Some(other) => format!("unknown command '{name}'. Did you mean '{other}'?"),
                None => format!("unknown command '{name}'; --help lists the commands"),
            }
        }
        (ErrorKind::MissingRequiredArgument, ..) => missing(error),
        // clap reports a flag that was given twice as a conflict as well.
        (ErrorKind::ArgumentConflict, Some(argument), _)
            if invalid(error, ContextKind::PriorArg).is_none_or(|prior| prior == argument) =>
        {
            format!("{}: give it once", flag_of(&argument))
        }
        (ErrorKind::ArgumentConflict, Some(argument), _) => {
            let prior = invalid(error, ContextKind::PriorArg).unwrap_or_default();
            let (one, other) = (origin_of(&argument, &typed), origin_of(&prior, &typed));
            format!("{one} cannot be used with {other}: give only one of them")
        }
        (ErrorKind::UnknownArgument, Some(argument), _) => unknown(error, &argument, &typed),
        // clap's own parser of a switch's variable does not name the valid values.
        (ErrorKind::ValueValidation, Some(argument), Some(value))
            if argument.starts_with("--stop-with-stdin") =>
        {
            format!("{}: give true or false", source_of(&argument, &value, &typed))
        }
        (ErrorKind::ValueValidation, Some(argument), Some(value)) => {
            format!(
                "{}: {}",
                source_of(&argument, &value, &typed),
                why.unwrap_or_else(|| "give another value".to_owned())
            )
        }
        // The value of a secret is not repeated.
        (ErrorKind::ValueValidation, Some(argument), None) => {
            let what = invalid(error, ContextKind::Custom).unwrap_or_else(|| "give another value".to_owned());
            format!("{}: {what}", origin_of(&argument, &typed))
        }
        (ErrorKind::InvalidValue, Some(argument), Some(value))
            if argument.starts_with("--fix ") && FIXES_WITHOUT_FLAG.contains(&value.as_str()) =>
        {
            let source = source_of(&argument, &value, &typed);
            let others = FixOption::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let others: Vec<_> = others.map(|it| it.get_name().to_owned()).collect();
            format!(
                "{source}: this fix needs no flag; it runs on every server at /fixes/{value}. Flags exist for {}",
                others.join(", ")
            )
        }
        (ErrorKind::InvalidValue, Some(argument), Some(value)) => match possible(error) {
            Some(possible) => format!("{}: give {possible}", source_of(&argument, &value, &typed)),
            None => {
                let (flag, name) = argument.split_once(' ').unwrap_or((&argument, "a value"));
                let example = default_of(flag).map(|it| format!(", such as {it}")).unwrap_or_default();
                format!("{flag}: give {}{example}; see --help", name.trim_matches(['<', '>']))
            }
        },
        _ => plain(error),
    }
}

/// The missing arguments, with an example of a value.
fn missing(error: &clap::Error) -> String {
    let Some(ContextValue::Strings(all)) = error.get(ContextKind::InvalidArg) else { return plain(error) };
    let bare = |it: &String| it.trim_matches(['<', '>']).replace(" <", " ").replace(">|", " or ");
    let wanted = all.iter().map(bare).collect::<Vec<_>>().join(" and ");
    let example = match wanted.as_str() {
        "URL" => ", such as http://127.0.0.1:9292/models/live_stream",
        "SHELL" => ": bash, elvish, fish, powershell or zsh",
        "SECS|off" => ", such as 30 or off",
        _ => "",
    };
    format!("give {wanted}{example}; see --help")
}

fn unknown(error: &clap::Error, argument: &str, typed: &[String]) -> String {
    let name = argument.split(['=', ' ']).next().unwrap_or(argument);
    if let Some(instead) = instead_of_pumas(name, typed) {
        return format!("unknown option '{name}'. {instead}");
    }
    let is_row = |name: &str| contenders::ALL.iter().any(|it| it.name == name);
    if is_row(argument) && typed.iter().any(|word| word.starts_with("--only")) {
        let rows: Vec<_> =
            typed.iter().flat_map(|word| word.trim_start_matches("--only=").split(',')).collect();
        let rows: Vec<_> = rows.into_iter().filter(|name| is_row(name)).collect();
        return format!("--only takes one list: --only {}", rows.join(","));
    }
    if typed.iter().any(|word| word == "resize") && argument.parse::<u64>().is_ok() {
        return format!("unexpected '{argument}'; give --min {argument} or --max {argument}");
    }
    match invalid(error, ContextKind::SuggestedArg) {
        Some(other) => format!("unknown option '{name}'. Did you mean '{other}'?"),
        None if name.starts_with('-') => format!("unknown option '{name}'; --help lists the options"),
        None => format!("unexpected '{argument}'; see --help"),
    }
}

/// The option of this program that does what this option of Puma's does, with its value if that is one.
fn instead_of_pumas(name: &str, typed: &[String]) -> Option<String> {
    let given = value_of(name, typed);
    let or = |placeholder: &str, is_valid: fn(&str) -> bool| {
        given.filter(|value| is_valid(value)).unwrap_or(placeholder).to_owned()
    };
    Some(match name {
        "-p" | "--port" => {
            let port = or("PORT", |value| value.parse::<u16>().is_ok());
            format!("To listen on port {port}: --bind tcp://127.0.0.1:{port}")
        }
        "-b" => {
            let address = or("tcp://HOST:PORT", |value| values::address(value).is_ok());
            format!("To listen on an address: --bind {address}")
        }
        "-t" => {
            let size = or("MIN:MAX", |value| values::pool_size(value).is_ok());
            format!("To set the number of threads: --threads {size}")
        }
        "-S" => format!("To write a state file: --state {}", or("PATH", |value| !value.is_empty())),
        "-C" | "--config" => {
            "There is no configuration file; give flags, or set NINETABS_ variables".to_owned()
        }
        "-e" | "--environment" => "There are no environments; leave it out".to_owned(),
        "-w" | "--workers" => {
            "There are no workers; to set the number of threads: --threads MIN:MAX".to_owned()
        }
        _ => return None,
    })
}

/// The value that was typed for an option that clap does not know: `-p 3000`, `-p3000`, `--port=3000`.
fn value_of<'a>(name: &str, typed: &'a [String]) -> Option<&'a str> {
    let (at, rest) = typed.iter().enumerate().find_map(|(at, word)| Some((at, word.strip_prefix(name)?)))?;
    if rest.is_empty() {
        return typed.get(at + 1).map(String::as_str);
    }
    Some(rest.strip_prefix('=').unwrap_or(rest))
}

/// `--threads 'x'`, or `NINETABS_THREADS=x` if the value came from there.
fn source_of(argument: &str, value: &str, typed: &[String]) -> String {
    let flag = flag_of(argument);
    match variable_behind(flag, typed) {
        Some(variable) => format!("{variable}={value}"),
        None if flag.starts_with('-') => format!("{flag} '{value}'"),
        // A positional argument has no name that users type.
        None => format!("'{value}'"),
    }
}

/// `--threads`, or `NINETABS_THREADS` if the value came from there.
fn origin_of(argument: &str, typed: &[String]) -> String {
    let flag = flag_of(argument);
    variable_behind(flag, typed).unwrap_or_else(|| flag.to_owned())
}

/// The variable that the value of this flag came from.
fn variable_behind(flag: &str, typed: &[String]) -> Option<String> {
    if typed.iter().any(|word| word.split('=').next() == Some(flag)) {
        return None;
    }
    let variable = find(flag, &Arguments::command()).and_then(|arg| variable_of(&arg))?;
    std::env::var_os(&variable).is_some().then_some(variable)
}

/// `--threads` of `--threads <MIN:MAX>`, as clap names an argument.
fn flag_of(argument: &str) -> &str {
    argument.split(' ').next().unwrap_or(argument)
}

fn default_of(flag: &str) -> Option<String> {
    let arg = find(flag, &Arguments::command())?;
    Some(arg.get_default_values().first()?.to_string_lossy().into_owned())
}

fn find(flag: &str, command: &Command) -> Option<Arg> {
    let long = flag.strip_prefix("--")?;
    let here = command.get_arguments().find(|arg| arg.get_long() == Some(long)).cloned();
    here.or_else(|| command.get_subcommands().find_map(|below| find(flag, below)))
}

fn invalid(error: &clap::Error, what: ContextKind) -> Option<String> {
    match error.get(what)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

/// `puma or tiny-http`.
fn possible(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::Strings(all)) = error.get(ContextKind::ValidValue) else { return None };
    let (last, others) = all.split_last()?;
    Some(if others.is_empty() { last.clone() } else { format!("{} or {last}", others.join(", ")) })
}

/// clap's own text, without its usage.
fn plain(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage") && !line.starts_with("For more"));
    let line = said.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    format!("{}; see --help", line.trim_start_matches("error: "))
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
            // Those that Kubernetes sets for a service of this name.
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

    fn typed(line: &str) -> Vec<OsString> {
        std::iter::once("ninetabs")
            .chain(line.split(' ').filter(|it| !it.is_empty()))
            .map(OsString::from)
            .collect()
    }

    fn wrong(line: &str) -> String {
        let typed = typed(line);
        mistake(&parse(typed.clone()).unwrap_err(), &typed)
    }

    #[test]
    fn a_mistake_repeats_what_was_typed_and_names_a_valid_value() {
        for (line, said) in [
            ("srve", "unknown command 'srve'. Did you mean 'serve'?"),
            ("reproduce --tabs nine", "--tabs 'nine': give a number from 1 to 100"),
            ("reproduce --tabs 0", "--tabs '0': give a number from 1 to 100"),
            ("tab --events 0 http://localhost/", "--events '0': give 1 or more"),
            ("reproduce --act 12", "--act '12': acts are 1 to 6"),
            ("reproduce 12", "'12': acts are 1 to 6"),
            (
                "serve --fix push",
                "--fix 'push': this fix needs no flag; it runs on every server at /fixes/push. \
                 Flags exist for reaper, more-threads, cap, io-threads, other-server",
            ),
            ("compare --only naive push", "--only takes one list: --only naive,push"),
            ("serve --front nginx", "--front 'nginx': give puma or tiny-http"),
            ("tab", "give URL, such as http://127.0.0.1:9292/models/live_stream; see --help"),
            ("ctl resize 0", "unexpected '0'; give --min 0 or --max 0"),
            ("ctl resize --max 0", "--max '0': give a number from 1 to 10000"),
            ("compare --json --markdown", "--json cannot be used with --markdown: give only one of them"),
            (
                "tab --for 18446744073709551615 http://localhost/",
                "--for '18446744073709551615': give at most 10000000000000000000 seconds, such as 5 or 500ms",
            ),
            ("ctl resize", "give --min N or --max N; see --help"),
            ("ctl max-stream-age", "give SECS|off, such as 30 or off; see --help"),
            ("completions", "give SHELL: bash, elvish, fish, powershell or zsh; see --help"),
            ("serve --threads 3 --threads 4", "--threads: give it once"),
            ("--thread 5", "unknown option '--thread'. Did you mean '--threads'?"),
            (
                "--max-stream-age -1",
                "--max-stream-age '-1': give seconds above 0, such as 5 or 500ms, or off",
            ),
        ] {
            assert_eq!(wrong(line), said);
        }
        assert_eq!(
            wrong("serve --max-stream-age -1").replace("-1", "0"),
            wrong("serve --max-stream-age 0"),
            "a number below 0 is a wrong value, as 0 is"
        );
    }

    #[test]
    fn an_option_of_pumas_is_answered_with_the_one_that_is_meant() {
        for (line, said) in [
            ("-p 3000", "unknown option '-p'. To listen on port 3000: --bind tcp://127.0.0.1:3000"),
            ("serve -p3000", "unknown option '-p'. To listen on port 3000: --bind tcp://127.0.0.1:3000"),
            ("--port=3000", "unknown option '--port'. To listen on port 3000: --bind tcp://127.0.0.1:3000"),
            ("serve -p", "unknown option '-p'. To listen on port PORT: --bind tcp://127.0.0.1:PORT"),
            ("serve -t 5:5", "unknown option '-t'. To set the number of threads: --threads 5:5"),
            (
                "-b tcp://127.0.0.1:80",
                "unknown option '-b'. To listen on an address: --bind tcp://127.0.0.1:80",
            ),
            ("-b unix:///x", "unknown option '-b'. To listen on an address: --bind tcp://HOST:PORT"),
            (
                "-C config/puma.rb",
                "unknown option '-C'. There is no configuration file; give flags, or set NINETABS_ variables",
            ),
            ("serve -S state", "unknown option '-S'. To write a state file: --state state"),
            (
                "-w 4",
                "unknown option '-w'. There are no workers; to set the number of threads: --threads MIN:MAX",
            ),
            ("-e production", "unknown option '-e'. There are no environments; leave it out"),
        ] {
            assert_eq!(wrong(line), said);
        }
    }

    /// Every flag of every command.
    #[test]
    fn every_refusal_of_a_value_names_a_valid_one() {
        fn each(path: &str, command: &Command, seen: &mut usize) {
            for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let Some(long) = arg.get_long() else { continue };
                for value in ["", "\u{2603} "] {
                    let mut line = typed(path);
                    line.push(format!("--{long}={value}").into());
                    let Err(error) = parse(line.clone()) else { continue };
                    if error.kind() == ErrorKind::MissingRequiredArgument
                        || error.kind() == ErrorKind::MissingSubcommand
                    {
                        continue;
                    }
                    let said = mistake(&error, &line);
                    *seen += 1;
                    assert!(said.contains(&format!("--{long}")), "{path} --{long}={value}: {said}");
                    assert!(
                        said.contains("give ") || said.contains("acts are"),
                        "{path} --{long}={value}: {said}"
                    );
                    assert!(!said.contains("invalid digit") && !said.contains(".."), "{said}");
                }
            }
            for below in command.get_subcommands() {
                each(&format!("{path} {}", below.get_name()), below, seen);
            }
        }
        let mut seen = 0;
        each("", &Arguments::command(), &mut seen);
        assert!(seen > 60, "only {seen}");
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

    #[test]
    fn a_message_names_the_variable_that_set_a_flag() {
        let from = FromEnvironment(vec![("--bind".to_owned(), "NINETABS_BIND".to_owned())]);
        assert_eq!(from.named("--bind: x; --bind-x"), "--bind: x; --bind-x (NINETABS_BIND sets --bind)");
        assert_eq!(from.named("--bind-x: x"), "--bind-x: x");
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
