//! The command line of `ninetabs probe`: wrong usage is refused before anything is sent.

use std::process::{Command, Output, Stdio};

fn probe(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command
        .arg("probe")
        .args(args)
        .stdin(Stdio::null())
        .env_remove("NINETABS_CONTROL_TOKEN")
        .output()
        .unwrap()
}

/// Returns the error message. Checks that it is the only output, and that it is one line on standard error.
fn refusal(args: &[&str]) -> String {
    let output = probe(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{args:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

const URL: &str = "http://127.0.0.1:1/stream";

#[test]
fn a_usage_error_is_one_line_that_names_a_valid_value() {
    for (args, says) in [
        (&[][..], "give the URL of a stream, such as http://127.0.0.1:3000/stream"),
        (&["localhost:3000/stream"], "has no scheme; give http://localhost:3000/stream"),
        (&[URL, "--tabs", "nine"], "--tabs 'nine': give a number from 2 to 1000"),
        (&[URL, "--tabs", "1"], "--tabs '1': give a number from 2 to 1000"),
        (&[URL, "--patience", "0"], "--patience '0': give seconds above 0"),
        (&[URL, "--patience", "4000"], "give at most 3600 seconds"),
        (&[URL, "--fail-on", "worker"], "Did you mean workers? If not, give one of session-lock, "),
        (&[URL, "--fail-on", "help"], "--fail-on 'help': give one of session-lock, blocked-loop, "),
        (&[URL, "--fail-below", "41"], "--fail-below 41: give a number up to the value of --tabs, 40"),
        (&[URL, "--json", "--markdown"], "--json cannot be used with --markdown: give only one of them"),
        (&[URL, "--page", "http://127.0.0.1:2/"], "it is on another host; give a page of http://127.0.0.1:1"),
        (&[URL, "-X", "HEAD"], "-X 'HEAD': "),
        (&[URL, "--control-token", "s3cret"], "--control-token: give --control-url as well"),
        (&["http://me:s3cret@127.0.0.1:1/"], "give -u USER:PASSWORD"),
        (&[URL, "--tab", "9"], "unknown option '--tab'. Did you mean '--tabs'?"),
    ] {
        let said = refusal(args);
        assert!(said.contains(says) && !said.contains("s3cret"), "{args:?}: {said}");
    }
}

#[test]
fn another_machine_is_refused_unless_its_owner_confirms() {
    let rule = "it is not this machine; a probe makes its pages hang for up to a minute, so confirm with \
                --i-own-this-host";
    let said = refusal(&["http://192.0.2.7/stream"]);
    assert_eq!(said, format!("ninetabs: cannot probe 192.0.2.7: {rule}\n"));
    let said = refusal(&[URL, "--control-url", "tcp://192.0.2.7:9293"]);
    assert_eq!(said, format!("ninetabs: cannot probe 192.0.2.7: {rule}\n"));
}

#[test]
fn the_help_shows_a_first_run_and_the_exit_statuses() {
    let output = probe(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for seen in [
        "ninetabs probe http://127.0.0.1:3000/stream --page / --page /up",
        "bundle exec puma -p 3000",
        "3 if the server could not be measured",
        "Requests:",
        "Thresholds:",
        "NINETABS_CONTROL_TOKEN",
        "may hang for everyone",
    ] {
        assert!(help.contains(seen), "{seen} in {help}");
    }
}
