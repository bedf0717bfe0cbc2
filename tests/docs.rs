//! The commands that the documentation shows: each is accepted, each request is answered, and the
//! tour prints what it says it prints.
//!
//! A block marked `console` has commands behind `$ ` and below them what they print. Numbers are
//! compared by pattern, and `…` stands for anything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::{self, Server};
use clap::Parser;
use ninetabs::cli::Arguments;
use tempfile::TempDir;

/// A command as it is shown, and what is shown below it.
#[derive(Debug)]
struct Shown {
    command: String,
    output: String,
}

/// Programs that build, test, measure or install: other tests, or a person, run those.
const LEFT_OUT: [&str; 8] =
    ["cargo", "apt-get", "alias", "benches/", "docs/", "NINETABS_SOAK_SECONDS", "FRONT", "ROUNDS"];

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = docs.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    all.push(root.join("README.md"));
    all.sort();
    all
}

fn shown_in(document: &Path) -> Vec<Shown> {
    let text = fs::read_to_string(document).unwrap();
    let mut all: Vec<Shown> = Vec::new();
    let mut is_console = false;
    for line in text.lines() {
        match line {
            _ if line.starts_with("```") => is_console = line == "```console",
            _ if !is_console => {}
            _ => match line.strip_prefix("$ ") {
                Some(command) => {
                    let command = command.split("  #").next().unwrap_or(command).trim().to_owned();
                    all.push(Shown { command, output: String::new() });
                }
                None => {
                    let last =
                        all.last_mut().unwrap_or_else(|| panic!("{document:?}: output without a command"));
                    last.output += line;
                    last.output += "\n";
                }
            },
        }
    }
    all
}

/// The words of a `ninetabs` command, split as a shell does; None for another program.
fn words_of_ours(command: &str) -> Option<Vec<String>> {
    let command = command.split(" | ").next().unwrap_or(command);
    let command = match command.strip_prefix("cargo run --release") {
        Some(rest) => format!("ninetabs {}", rest.trim_start().strip_prefix("--").unwrap_or(rest)),
        None => command.to_owned(),
    };
    if command.split_whitespace().next() != Some("ninetabs") {
        return None;
    }
    let output = Command::new("sh").args(["-c", &format!("printf '%s\\n' {command}")]).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    Some(words.lines().map(str::to_owned).collect())
}

/// A place to run commands in: a folder where `ninetabs` is this program, and the server that the
/// last `ninetabs serve` started.
struct Terminal {
    folder: TempDir,
    server: Server,
}

impl Terminal {
    fn open() -> Terminal {
        let folder = tempfile::tempdir().unwrap();
        symlink(env!("CARGO_BIN_EXE_ninetabs"), folder.path().join("ninetabs")).unwrap();
        Terminal { folder, server: Server::start(&["--produce-every", "1"]) }
    }

    /// Starts a server with these flags in the place of the one before.
    fn serve(&mut self, flags: &[&str]) {
        self.server = Server::start(&[&["--produce-every", "1"], flags].concat());
    }

    /// What a command prints on both outputs. One that does not end is ended.
    fn run(&self, command: &str) -> String {
        let command = command
            .replace("127.0.0.1:9292", &self.server.app.to_string())
            .replace("127.0.0.1:9293", &self.server.control.to_string());
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("timeout")
            .args(["20", "bash", "-c", &command])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env("NINETABS_CONTROL_URL", format!("tcp://{}", self.server.control))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

/// The same text with every number replaced by 0, and lines that end as in the documents.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('0') => {}
            '0'..='9' => out.push('0'),
            '\r' => {}
            _ => out.push(c),
        }
    }
    // A whole number and one with a fraction are the same here.
    out.replace("0.0", "0")
}

/// Whether a text has the pieces that stand between `…`, in their order, from its beginning on.
fn prints(expected: &str, text: &str) -> bool {
    let (expected, text) = (without_numbers(expected), without_numbers(text));
    let mut rest = text.trim();
    for (at, piece) in expected.trim().split('…').enumerate() {
        let Some(found) = rest.find(piece.trim()) else { return false };
        if at == 0 && found > 0 {
            return false;
        }
        rest = &rest[found + piece.trim().len()..];
    }
    expected.trim().ends_with('…') || rest.trim().is_empty()
}

#[test]
fn every_documented_command_line_is_accepted() {
    let mut seen = 0;
    for document in documents() {
        for Shown { command, .. } in shown_in(&document) {
            let Some(words) = words_of_ours(&command) else { continue };
            if let Err(error) = Arguments::try_parse_from(&words)
                && error.use_stderr()
            {
                panic!("{}: {command}: {error}", document.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn every_documented_request_is_answered_and_the_tour_prints_what_it_shows() {
    if common::program("curl").is_none() {
        return;
    }
    for document in documents() {
        let mut terminal = Terminal::open();
        for Shown { command, output } in shown_in(&document) {
            let first = command.split_whitespace().next().unwrap_or_default();
            match words_of_ours(&command) {
                Some(words) => {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    match words[1..] {
                        [] => terminal.serve(&[]),
                        // A second server, or files: the flags are checked by the other test.
                        ["serve", ref flags @ ..]
                            if !flags
                                .iter()
                                .any(|it| ["--trace", "--views", "other-server"].contains(it)) =>
                        {
                            terminal.serve(flags);
                        }
                        ["ctl", ..] => check(&document, &terminal, &command, &output),
                        // These run for long; tests of their own hold what they print.
                        _ => {}
                    }
                }
                None if LEFT_OUT.iter().any(|it| first.starts_with(it)) => {}
                None => check(&document, &terminal, &command, &output),
            }
        }
    }
}

/// Runs a command until it prints what is shown; what it asks about may take a moment.
fn check(document: &Path, terminal: &Terminal, command: &str, expected: &str) {
    if command.contains(" jq ") && common::program("jq").is_none() {
        return;
    }
    let mut last = String::new();
    let is_seen = (0..4).any(|round| {
        if round > 0 {
            thread::sleep(Duration::from_secs(1));
        }
        last = terminal.run(command);
        let failed = last.contains("curl: ") && !expected.contains("curl: ");
        !failed && (expected.is_empty() || prints(expected, &last))
    });
    assert!(is_seen, "{}: {command} prints\n{last}\nand not\n{expected}", document.display());
}

#[test]
fn patterns_compare_words_and_not_numbers() {
    assert!(prints("a 12 b", "a 7 b\n"));
    assert!(prints("{\"age\":2.4,…}", "{\"age\":2.40014981,\"x\":[]}"));
    assert!(prints("…\n\"open\": 8,\n…", "{\n\"x\": 1,\n\"open\": 9,\n}"));
    assert!(!prints("a 12 b", "a 7 c"));
    assert!(!prints("a", "ba"));
    assert!(!prints("a", "ab"));
}
