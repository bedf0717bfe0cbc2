//! From what was typed, and the environment, to [`Arguments`]; and what is said of a mistake.
//!
//! Four rules hold for every variable:
//!
//! - An empty one is as good as unset.
//! - A command takes the variables of its own flags only.
//! - What is typed overrides the environment: the variable of a flag that was typed, or that
//!   conflicts with a flag that was typed, is not read.
//! - An error names the variable if the value came from it.
//!
//! A mistake is one line that names what was typed and a value that would do.

use std::error::Error;
use std::ffi::OsString;

use clap::builder::{OsStr, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

use super::Arguments;
use crate::lab::compare::contenders;

/// The widest that help is, also where no terminal says how wide it is.
const HELP_COLUMNS: usize = 80;
/// Fixes that are pages of every server, and no flags.
const FIXES_WITHOUT_FLAG: [&str; 8] =
    ["leave", "short-stream", "shared-worker", "push", "partials", "cable", "poll", "long-poll"];

/// Puma's flags, and what is typed here.
const PUMAS: [(&str, &str); 9] = [
    ("-p", "--bind tcp://127.0.0.1:PORT"),
    ("--port", "--bind tcp://127.0.0.1:PORT"),
    ("-t", "--threads MIN:MAX"),
    ("-b", "--bind tcp://HOST:PORT"),
    ("-S", "--state PATH"),
    ("-C", "flags and NINETABS_ variables, there is no configuration file"),
    ("--config", "flags and NINETABS_ variables, there is no configuration file"),
    ("-e", "no environments"),
    ("-w", "--threads, there are no workers"),
];

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

/// What was asked for.
pub fn parse(typed: Vec<OsString>) -> Result<(Arguments, FromEnvironment), clap::Error> {
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
        // `help --help` is a wish for help, too.
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
    let command = Arguments::command().max_term_width(HELP_COLUMNS);
    // Those of the server are in `ninetabs serve --help`: the commands come first.
    everywhere(command).mut_args(|arg| arg.hide(true))
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
        // `-1` is a wrong value, and no unknown flag.
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

/// A line for each of these variables that begins as ours do and is none of ours, such as a
/// misspelt one. They are not refused: an orchestrator names variables after its services.
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
        let nearest = known.iter().filter(|other| is_misspelt(&name, other));
        let nearest = nearest.min_by_key(|other| strsim::osa_distance(&name, other));
        let hint = nearest.map(|other| format!("; did you mean {other}?")).unwrap_or_default();
        format!("{name} is ignored: there is no such variable{hint}")
    };
    unknown.map(line).collect()
}

/// Whether a name differs from this variable by a slip of the fingers: one or two letters of
/// a name that has at least three times as many.
fn is_misspelt(name: &str, variable: &str) -> bool {
    let letters = variable.len() - PREFIX.len();
    let edits = strsim::osa_distance(name, variable);
    edits <= 2 && edits * 3 <= letters
}

fn collect_variables(command: &Command, known: &mut Vec<String>) {
    known.extend(command.get_arguments().filter_map(variable_of));
    command.get_subcommands().for_each(|command| collect_variables(command, known));
}

/// One line on what was wrong.
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
        // clap says this also of a flag that was given twice.
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
        // clap's own parser of a switch's variable does not say what would do.
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
            format!("{source}: {value} needs no flag: it runs at http://127.0.0.1:9292/fixes/{value}")
        }
        (ErrorKind::InvalidValue, Some(argument), Some(value)) => match possible(error) {
            Some(possible) => format!("{}: give {possible}", source_of(&argument, &value, &typed)),
            None => {
                let (flag, name) = argument.split_once(' ').unwrap_or((&argument, "a value"));
                let example = default_of(flag).map(|it| format!(", such as {it}")).unwrap_or_default();
                format!("{flag}: give {}{example}; --help shows what there is", name.trim_matches(['<', '>']))
            }
        },
        _ => plain(error),
    }
}

/// What was left out, with a value that would do.
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
    format!("give {wanted}{example}; --help shows what there is")
}

fn unknown(error: &clap::Error, argument: &str, typed: &[String]) -> String {
    let name = argument.split(['=', ' ']).next().unwrap_or(argument);
    if let Some((_, ours)) = PUMAS.iter().find(|(puma, _)| *puma == name) {
        return format!("unknown flag '{name}', which is Puma's; here it is: {ours}");
    }
    let is_row = |name: &str| contenders::ALL.iter().any(|it| it.name == name);
    if is_row(argument) && typed.iter().any(|word| word.starts_with("--only")) {
        let rows: Vec<_> =
            typed.iter().flat_map(|word| word.trim_start_matches("--only=").split(',')).collect();
        let rows: Vec<_> = rows.into_iter().filter(|name| is_row(name)).collect();
        return format!("--only takes names with commas: {}", rows.join(","));
    }
    if typed.iter().any(|word| word == "resize") && argument.parse::<u64>().is_ok() {
        return format!("unexpected '{argument}'; give --min {argument} or --max {argument}");
    }
    match invalid(error, ContextKind::SuggestedArg) {
        Some(other) => format!("unknown flag '{name}'. Did you mean '{other}'?"),
        None if name.starts_with('-') => format!("unknown flag '{name}'; --help lists the flags"),
        None => format!("unexpected '{argument}'; --help shows what there is"),
    }
}

/// `--threads x`, or `NINETABS_THREADS=x` if the value came from there.
fn source_of(argument: &str, value: &str, typed: &[String]) -> String {
    let flag = flag_of(argument);
    let shown = if value.is_empty() { "''" } else { value };
    match variable_behind(flag, typed) {
        Some(variable) => format!("{variable}={value}"),
        None if flag.starts_with('-') => format!("{flag} {shown}"),
        // What has no flag stands for itself.
        None => shown.to_owned(),
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

/// As clap says it, without its usage.
fn plain(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage") && !line.starts_with("For more"));
    let line = said.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    format!("{}; --help shows what there is", line.trim_start_matches("error: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_does_not_exist_is_named_with_the_nearest_one() {
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
    fn only_a_misspelt_variable_is_given_a_hint() {
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
    fn a_mistake_names_what_was_typed_and_what_would_do() {
        for (line, said) in [
            ("srve", "unknown command 'srve'. Did you mean 'serve'?"),
            ("reproduce --tabs nine", "--tabs nine: give a number from 1 to 100"),
            ("reproduce --tabs 0", "--tabs 0: give a number from 1 to 100"),
            ("tab --events 0 http://localhost/", "--events 0: give a number from 1"),
            ("reproduce --act 7", "--act 7: acts are 1 to 6"),
            ("reproduce 7", "7: acts are 1 to 6"),
            (
                "serve --fix push",
                "--fix push: push needs no flag: it runs at http://127.0.0.1:9292/fixes/push",
            ),
            ("compare --only naive push", "--only takes names with commas: naive,push"),
            ("serve --front nginx", "--front nginx: give puma or tiny-http"),
            ("tab", "give URL, such as http://127.0.0.1:9292/models/live_stream; --help shows what there is"),
            ("ctl resize 0", "unexpected '0'; give --min 0 or --max 0"),
            ("ctl resize --max 0", "--max 0: give a number from 1 to 10000"),
            ("compare --json --markdown", "--json cannot be used with --markdown: give only one of them"),
            (
                "tab --for 18446744073709551615 http://localhost/",
                "--for 18446744073709551615: give at most 10000000000000000000 seconds, such as 2, 0.5, 2s or 500ms",
            ),
            ("ctl resize", "give --min N or --max N; --help shows what there is"),
            ("ctl max-stream-age", "give SECS|off, such as 30 or off; --help shows what there is"),
            ("completions", "give SHELL: bash, elvish, fish, powershell or zsh; --help shows what there is"),
            ("serve --threads 3 --threads 4", "--threads: give it once"),
            ("--thread 5", "unknown flag '--thread'. Did you mean '--threads'?"),
            ("serve -p 3000", "unknown flag '-p', which is Puma's; here it is: --bind tcp://127.0.0.1:PORT"),
            ("serve -t 5:5", "unknown flag '-t', which is Puma's; here it is: --threads MIN:MAX"),
        ] {
            assert_eq!(wrong(line), said);
        }
        assert_eq!(
            wrong("serve --max-stream-age -1").replace("-1", "0"),
            wrong("serve --max-stream-age 0"),
            "a number below 0 is a wrong value, as 0 is"
        );
        for flag in ["-b", "-C", "-e", "-w"] {
            assert!(wrong(&format!("serve {flag} x")).contains("which is Puma's"), "{flag}");
        }
    }

    /// Every flag of every command.
    #[test]
    fn no_value_is_refused_without_one_that_would_do() {
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
    fn help_with_help_is_help() {
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
    fn a_message_names_the_variable_that_a_value_came_from() {
        let from = FromEnvironment(vec![("--bind".to_owned(), "NINETABS_BIND".to_owned())]);
        assert_eq!(from.named("--bind: x; --bind-x"), "--bind: x; --bind-x (NINETABS_BIND sets --bind)");
        assert_eq!(from.named("--bind-x: x"), "--bind-x: x");
    }

    #[test]
    fn help_fits_into_eighty_columns_and_the_first_page_into_two_screens() {
        for line in [
            "--help",
            "-h",
            "serve --help",
            "serve -h",
            "reproduce --help",
            "compare --help",
            "ctl --help",
            "tab --help",
            "top --help",
        ] {
            let help = parse(typed(line)).unwrap_err().render().to_string();
            let widest = help.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(HELP_COLUMNS), "{line}: {widest:?}\n{help}");
            if line == "--help" || line == "-h" {
                assert!(help.lines().count() <= 60, "{line}: {}\n{help}", help.lines().count());
            }
        }
        let short = parse(typed("serve -h")).unwrap_err().render().to_string();
        assert!(!short.contains("--max-body-bytes") && short.contains("--threads"), "{short}");
    }
}
