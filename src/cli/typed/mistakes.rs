//! Describes a usage error in one line. The line repeats what was typed, or names the variable that the value came
//! from, and names a valid value.

use std::error::Error;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, ValueEnum};

use super::environment::variable_of;
use super::invalid;
use crate::cli::serve_args::FixOption;
use crate::cli::{Arguments, values};
use crate::lab::compare::contenders;

/// The fixes that every server has at /fixes and that need no flag.
const FIXES_WITHOUT_FLAG: [&str; 8] =
    ["leave", "short-stream", "shared-worker", "push", "partials", "cable", "poll", "long-poll"];

/// One line about a usage error.
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
        (ErrorKind::MissingRequiredArgument, ..) => missing(error, &typed),
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
fn missing(error: &clap::Error, typed: &[String]) -> String {
    let Some(ContextValue::Strings(all)) = error.get(ContextKind::InvalidArg) else { return plain(error) };
    let bare = |it: &String| it.trim_matches(['<', '>']).replace(" <", " ").replace(">|", " or ");
    let wanted = all.iter().map(bare).collect::<Vec<_>>().join(" and ");
    let example = match wanted.as_str() {
        "URL" if typed.iter().any(|word| word == "probe") => {
            return "give the URL of a stream, such as http://127.0.0.1:3000/stream; `ninetabs probe --help` shows \
                    how to begin"
                .to_owned();
        }
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

/// The option of this program that corresponds to an option of Puma, with the typed value if it is valid.
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
        "-S" => format!(
            "To write a state file: --state {}",
            or("PATH", |value| !value.is_empty() && !value.starts_with('-'))
        ),
        "-C" | "--config" => {
            "There is no configuration file; give flags, or set NINETABS_ variables".to_owned()
        }
        "-e" | "--environment" => "There are no environments; leave the option out".to_owned(),
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

/// `--threads 'x'`, or `NINETABS_THREADS=x` if the value came from that variable.
fn source_of(argument: &str, value: &str, typed: &[String]) -> String {
    let flag = flag_of(argument);
    match variable_behind(flag, typed) {
        Some(variable) => format!("{variable}={value}"),
        None if flag.starts_with('-') => format!("{flag} '{value}'"),
        // Users do not type the name of a positional argument.
        None => format!("'{value}'"),
    }
}

/// `--threads`, or `NINETABS_THREADS` if the value came from that variable.
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

/// `puma or tiny-http`.
fn possible(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::Strings(all)) = error.get(ContextKind::ValidValue) else { return None };
    let (last, others) = all.split_last()?;
    Some(if others.is_empty() { last.clone() } else { format!("{} or {last}", others.join(", ")) })
}

/// clap's own message, without its usage lines.
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
    use crate::cli::typed::{parse, tests::typed};

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
            ("reproduce --act 12", "--act '12': give an act from 1 to 10"),
            ("reproduce 12", "'12': give an act from 1 to 10"),
            (
                "serve --fix push",
                "--fix 'push': this fix needs no flag; it runs on every server at /fixes/push. \
                 Flags exist for reaper, more-threads, cap, io-threads, other-server",
            ),
            ("compare --only naive push", "--only takes one list: --only naive,push"),
            ("serve --front nginx", "--front 'nginx': give puma or tiny-http"),
            ("tab", "give URL, such as http://127.0.0.1:9292/models/live_stream; see --help"),
            (
                "probe --tabs 9",
                "give the URL of a stream, such as http://127.0.0.1:3000/stream; `ninetabs probe --help` shows how to \
                 begin",
            ),
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
            "a negative number is refused in the same way as 0"
        );
    }

    #[test]
    fn an_option_of_puma_is_answered_with_the_equivalent_option() {
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
            ("serve -S --threads 5", "unknown option '-S'. To write a state file: --state PATH"),
            (
                "-w 4",
                "unknown option '-w'. There are no workers; to set the number of threads: --threads MIN:MAX",
            ),
            ("-e production", "unknown option '-e'. There are no environments; leave the option out"),
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
                    assert!(said.contains("give "), "{path} --{long}={value}: {said}");
                    assert!(!said.contains("invalid digit") && !said.contains("..="), "{said}");
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
}
