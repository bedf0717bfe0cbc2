//! The command that repeats a run, without secrets, and the commands that show more.

use super::args::ProbeArgs;
use super::given::Wanted;
use crate::cli::command_line::{HIDDEN, quoted};
use crate::cli::control_client::ControlUrl;
use crate::lab::probe::plan::DEFAULT_TABS;

/// Headers whose values are not secret.
const OPEN: [&str; 10] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-type",
    "host",
    "last-event-id",
    "origin",
    "referer",
    "user-agent",
];

/// The command line, with every flag that was given. Values that may be secrets are left out.
pub fn again(args: &ProbeArgs) -> String {
    let mut words = vec!["ninetabs".to_owned(), "probe".to_owned(), quoted(args.url.clone())];
    let mut with = |flag: &str, value: Option<String>| {
        if let Some(value) = value {
            words.extend([flag.to_owned(), quoted(value)]);
        }
    };
    let hidden = |given: &Option<String>| given.as_ref().map(|_| HIDDEN.to_owned());
    let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs_f64().to_string());
    let number = |number: Option<usize>| number.map(|number| number.to_string());
    args.pages.iter().for_each(|page| with("--page", Some(page.clone())));
    with("--tabs", number(Some(args.tabs).filter(|tabs| *tabs != DEFAULT_TABS)));
    with("--patience", seconds(args.patience));
    args.headers.iter().for_each(|header| with("-H", Some(shown_header(header))));
    with("-X", args.method.clone());
    with("-d", hidden(&args.data));
    with("--cookie", hidden(&args.cookie));
    with("--other-cookie", hidden(&args.other_cookie));
    with("-u", hidden(&args.user));
    with("--control-url", args.control_url.as_ref().map(ToString::to_string));
    with("--control-token", args.control.token.0.as_ref().map(|_| HIDDEN.to_owned()));
    with("--zombies", number(args.zombies));
    with("--fail-below", number(args.fail_below));
    with("--fail-slot", seconds(args.fail_slot));
    args.fail_on.iter().for_each(|kind| with("--fail-on", Some(kind.name().to_owned())));
    with("--report", args.report.as_ref().map(|path| path.display().to_string()));
    let switches = [
        ("-k", args.insecure),
        ("--http2", args.http2),
        ("--http10", args.http10),
        ("--i-own-this-host", args.i_own_this_host),
    ];
    words.extend(switches.into_iter().filter(|(_, is_on)| *is_on).map(|(flag, _)| flag.to_owned()));
    words.join(" ")
}

fn shown_header(header: &str) -> String {
    match header.split_once(':') {
        Some((name, _)) if OPEN.iter().any(|open| open.eq_ignore_ascii_case(name)) => header.to_owned(),
        Some((name, _)) => format!("{name}: {HIDDEN}"),
        None => HIDDEN.to_owned(),
    }
}

/// Commands to continue with: one follows a single stream, the other shows the server from inside.
pub fn next(args: &ProbeArgs, wanted: &Wanted) -> Vec<String> {
    let mut commands = Vec::new();
    // `tab` sends what an EventSource sends.
    if wanted.method == "GET" && wanted.body.is_none() {
        let mut words = vec!["ninetabs tab".to_owned()];
        let cookie = args.cookie.as_ref().map(|_| "Cookie: ".to_owned());
        let user = args.user.as_ref().map(|_| "Authorization: ".to_owned());
        for header in args.headers.iter().cloned().chain(cookie).chain(user) {
            words.push(format!("-H {}", quoted(shown_header(&header))));
        }
        if args.insecure {
            words.push("-k".to_owned());
        }
        words.push(quoted(args.url.replace("{tab}", "1")));
        commands.push(words.join(" "));
    }
    if let Some(url @ ControlUrl::Tcp { .. }) = &args.control_url {
        let token =
            if args.control.token.0.is_some() { format!(" --control-token {HIDDEN}") } else { String::new() };
        commands.push(format!("ninetabs top --control-url {}{token}", quoted(url.to_string())));
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::super::given::tests::typed;
    use super::super::given::wanted;
    use super::*;

    #[test]
    fn the_command_has_every_flag_and_no_secret() {
        let words = "http://127.0.0.1:3000/s?tab={tab} --page /a --tabs 9 --patience 60 --zombies 3 --http10 --http2 \
                     -X POST -k --fail-below 4 --fail-slot 0.5 --fail-on leak --report x.html --i-own-this-host \
                     --control-url http://localhost:1 -d secret -u me:secret --control-token secret \
                     --cookie a=secret --other-cookie a=secret";
        let mut words: Vec<&str> = words.split_whitespace().collect();
        words.extend(["-H", "Authorization: secret", "-H", "X-Key: secret", "-H", "Accept: a/b"]);
        let args = typed(&words);
        let command = again(&args);
        assert!(!command.contains("secret") && !command.contains("me:"), "{command}");
        for seen in [
            "ninetabs probe 'http://127.0.0.1:3000/s?tab={tab}' --page /a --tabs 9 --patience 60",
            "-H 'Authorization: …' -H 'X-Key: …' -H 'Accept: a/b' -X POST -d … --cookie … --other-cookie … -u …",
            "--control-url tcp://localhost:1 --control-token … --zombies 3 --fail-below 4 --fail-slot 0.5 --fail-on leak",
            "--report x.html -k --http2 --http10 --i-own-this-host",
        ] {
            assert!(command.contains(seen), "{seen} in {command}");
        }
        let given = wanted(&args).unwrap();
        assert_eq!(next(&args, &given), ["ninetabs top --control-url tcp://localhost:1 --control-token …"]);
    }

    #[test]
    fn the_command_that_follows_one_stream_is_suggested() {
        let words = ["http://127.0.0.1/s?t={tab}", "-H", "X-Key: secret", "--cookie", "a=secret", "-k"];
        let args = typed(&words);
        let command = "ninetabs tab -H 'X-Key: …' -H 'Cookie: …' -k 'http://127.0.0.1/s?t=1'";
        assert_eq!(next(&args, &wanted(&args).unwrap()), [command]);
    }
}
