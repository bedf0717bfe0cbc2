//! The settings with which `/wall?beside=NAME` starts a second server: the database of this server, and the
//! flags that decide how its pool and its streams behave.

use std::fmt::Display;

use clap::ValueEnum;

use super::serve_args::ServeArgs;
use super::storage::Storage;
use crate::app::database_place::DatabasePlace;
use crate::control::BesideSettings;
use crate::lab::stage::in_seconds;

/// The settings for a second server beside a server with these arguments and this database.
pub fn settings(args: &ServeArgs, storage: &Storage) -> BesideSettings {
    BesideSettings {
        database: storage.place(),
        cable_database: match &args.cable_database {
            Some(DatabasePlace::Server(url)) => Some(url.clone()),
            _ => None,
        },
        flags: flags(args),
        token: args.control.token.0.clone(),
        own_fix: args.fix.map(name),
        is_local: [args.bind, args.control_url].iter().all(|it| it.ip().to_canonical().is_loopback()),
    }
}

fn flags(args: &ServeArgs) -> Vec<(&'static str, String)> {
    let mut flags = vec![
        ("--threads", format!("{}:{}", args.threads.min(), args.threads.max())),
        ("--max-io-threads", args.max_io_threads.to_string()),
        ("--auto-trim-time", in_seconds(args.auto_trim_time)),
        ("--front", name(args.front)),
        ("--update-rate", in_seconds(args.update_rate)),
        ("--max-stream-age", or(args.max_stream_age.0.map(in_seconds), "off")),
        ("--max-stream-age-jitter", format!("{}%", args.max_stream_age_jitter * 100.0)),
        ("--reap-every", in_seconds(args.reap_every)),
        ("--stream-cap", or(args.stream_cap.0, "off")),
        ("--notice-close", name(args.notice_close)),
        ("--live", name(args.live)),
        ("--retry", in_seconds(args.retry)),
        ("--loop", name(args.stream_loop)),
        ("--keep-models", args.keep_models.to_string()),
        ("--db-pool", or(args.db_pool.0, "auto")),
        ("--db-checkout-timeout", in_seconds(args.db_checkout_timeout)),
        ("--db-query-timeout", in_seconds(args.db_query_timeout)),
        ("--db-lease", name(args.db_lease)),
        ("--tcp-user-timeout", or(args.tcp_user_timeout.0.map(in_seconds), "off")),
        ("--write-timeout", in_seconds(args.write_timeout)),
    ];
    flags.extend(args.push_buffer.map(|bytes| ("--push-buffer", bytes.to_string())));
    flags.extend(args.views.iter().map(|folder| ("--views", folder.display().to_string())));
    flags
}

/// A value as it is written on the command line.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn or(value: Option<impl Display>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Arguments, Command};
    use clap::Parser;

    #[test]
    fn the_passed_flags_give_a_second_server_the_same_settings() {
        let given = "--threads 2:5 --max-io-threads 3 --auto-trim-time 7 --update-rate 200ms --max-stream-age 1.5 \
                     --max-stream-age-jitter 25% --tcp-user-timeout 9 --push-buffer 4096 --reap-every 0.5 --stream-cap 4 --notice-close write --live rails --retry 0.25 --loop faithful \
                     --keep-models 7 --db-pool 4 --db-checkout-timeout 2 --db-query-timeout 4 --db-lease query --write-timeout 3";
        for given in ["", given, "--front tiny-http"] {
            let once = parse(given.split_whitespace().map(str::to_owned).collect());
            let again = flags(&once).into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
            let twice = parse(again);
            assert_eq!(format!("{once:?}"), format!("{twice:?}"));
        }
    }

    /// Flags whose values belong to one server: its addresses, files and tokens, the hosts and origins that may
    /// reach it, and how it stops.
    const OF_ONE_SERVER: [&str; 23] = [
        "bind",
        "control-url",
        "control-token",
        "control-token-file",
        "allow-host",
        "allow-origin",
        "streams-at",
        "state",
        "trace",
        "database",
        "cable-database",
        "produce-every",
        "fix",
        "stop-with-stdin",
        "force-shutdown-after",
        // Limits of single requests and of memory, which the wall does not show.
        "first-data-timeout",
        "head-timeout",
        "persistent-timeout",
        "max-head-bytes",
        "max-pending-bytes",
        "max-connections",
        "max-answer-time",
        "max-body-bytes",
    ];

    #[test]
    fn every_flag_that_changes_pool_or_streams_is_passed_on() {
        let given = "--push-buffer 4096 --views /tmp";
        let passed = flags(&parse(given.split_whitespace().map(str::to_owned).collect()));
        let command = <Arguments as clap::CommandFactory>::command();
        let serve = command.find_subcommand("serve").unwrap();
        for flag in serve.get_arguments().filter_map(clap::Arg::get_long) {
            let is_passed = passed.iter().any(|(name, _)| *name == format!("--{flag}"));
            let is_global = matches!(flag, "help" | "version");
            assert!(is_passed != OF_ONE_SERVER.contains(&flag) || is_global, "--{flag}");
        }
    }

    fn parse(flags: Vec<String>) -> ServeArgs {
        let all = ["ninetabs".to_owned(), "serve".to_owned()].into_iter().chain(flags);
        match Arguments::try_parse_from(all).unwrap().command {
            Some(Command::Serve(args)) => *args,
            _ => unreachable!("the command is serve"),
        }
    }
}
