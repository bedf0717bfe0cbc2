//! The flags after `--`, which each server of a cluster gets. They are checked before anything is started.

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::cli::typed;

/// The flag that keeps more models than any run creates, so that the comparison with the table is complete.
const KEEP_ALL: [&str; 2] = ["--keep-models", "1000000"];

const FREE_PORT: &str = "each server of a cluster listens on a free port; leave the flag out";
const NO_TOKEN: &str = "a cluster reads the statistics of its servers without a token; leave the flag out";
const STOPS_THEM: &str = "a cluster stops its servers itself; leave the flag out";

/// Flags that a cluster sets itself or cannot work with, by their ids, and why.
const REFUSED: [(&str, &str); 9] = [
    ("bind", FREE_PORT),
    ("control_url", FREE_PORT),
    ("control_token", NO_TOKEN),
    ("control_token_file", NO_TOKEN),
    ("database", "all servers of a cluster share one database; give --database before --"),
    ("state", "each server of a cluster has a state file of its own; leave the flag out"),
    ("trace", "all servers of a cluster would write the same file; leave the flag out"),
    ("stop_with_stdin", STOPS_THEM),
    ("force_shutdown_after", STOPS_THEM),
];

/// The flags of each server. They keep all models until the comparison.
pub fn of(given: &[String]) -> Vec<String> {
    let [keep, all] = KEEP_ALL;
    let is_given = given.iter().any(|flag| flag == keep || flag.starts_with(&format!("{keep}=")));
    let ours = if is_given { Vec::new() } else { vec![keep.to_owned(), all.to_owned()] };
    [ours, given.to_vec()].concat()
}

/// One line about the first mistake in the flags.
pub fn mistake(given: &[String]) -> Option<String> {
    match typed::server_flags(given) {
        Ok(matches) => {
            let (id, why) = REFUSED.iter().find(|(id, _)| is_typed(&matches, id))?;
            Some(format!("--{} after --: {why}", id.replace('_', "-")))
        }
        Err(typed::NoServerFlags::Help) => {
            Some("after --, give flags of `ninetabs serve`; `ninetabs serve --help` explains them".to_owned())
        }
        Err(typed::NoServerFlags::Mistake(mistake)) => {
            Some(format!("after --: {}", mistake.replace("--help", "`ninetabs serve --help`")))
        }
    }
}

fn is_typed(flags: &ArgMatches, id: &str) -> bool {
    flags.value_source(id) == Some(ValueSource::CommandLine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(given: &[&str]) -> Vec<String> {
        given.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn all_models_are_kept_unless_a_number_is_given() {
        assert_eq!(of(&words(&["--threads", "2"])), ["--keep-models", "1000000", "--threads", "2"]);
        assert_eq!(of(&words(&["--keep-models=5"])), ["--keep-models=5"]);
    }

    #[test]
    fn flags_that_no_server_of_a_cluster_can_get_are_refused() {
        for (given, said) in [
            (
                &["--threads", "2", "--bind", "tcp://127.0.0.1:1"][..],
                "--bind after --: each server of a cluster listens on a free port; leave the flag out",
            ),
            (&["--control-url=tcp://[::1]:0"], "--control-url after --: each server of a cluster listens"),
            (&["--control-token", "secret"], "--control-token after --: a cluster reads the statistics"),
            (&["--control-token-file", "x"], "--control-token-file after --: a cluster reads"),
            (
                &["--database", "x"],
                "--database after --: all servers of a cluster share one database; give --database",
            ),
            (
                &["--state", "x"],
                "--state after --: each server of a cluster has a state file of its own; leave",
            ),
            (
                &["--trace", "x"],
                "--trace after --: all servers of a cluster would write the same file; leave",
            ),
            (&["--stop-with-stdin"], "--stop-with-stdin after --: a cluster stops its servers itself; leave"),
            (&["--force-shutdown-after", "9"], "--force-shutdown-after after --: a cluster stops"),
            (&["--help"], "after --, give flags of `ninetabs serve`; `ninetabs serve --help` explains them"),
            (&["-h"], "after --, give flags of `ninetabs serve`; "),
            (&["--version"], "after --: unknown option '--version'; `ninetabs serve --help` lists"),
            (
                &["--nonsense"],
                "after --: unknown option '--nonsense'; `ninetabs serve --help` lists the options",
            ),
            (&["--thread", "3"], "after --: unknown option '--thread'. Did you mean '--threads'?"),
            (&["--threads", "x"], "after --: --threads 'x': give "),
            (&["3"], "after --: unexpected '3'; see `ninetabs serve --help`"),
        ] {
            let mistake = mistake(&words(given)).unwrap_or_default();
            assert!(mistake.starts_with(said), "{given:?}: {mistake}");
        }
        for given in [&[][..], &["--produce-every", "0.1", "--keep-models=5", "--allow-host", "a,b"]] {
            assert_eq!(mistake(&words(given)), None);
        }
    }
}
