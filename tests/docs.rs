//! Tests the documentation: command lines are accepted, commands print the output that is shown below them, and
//! links resolve.
//!
//! A block marked `console` contains commands after `$ `, each followed by its output. The commands of a document
//! run in order in one shell, with a separate server on free ports. README, the tour and the page for operators run
//! in bash and in zsh; the other documents run in bash. Output is compared line by line: `…` matches anything
//! (alone on a line, any number of lines), and ids, ports and times are masked.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{self, PATIENCE, Server};
use clap::Parser;
use ninetabs::cli::Arguments;
use tempfile::TempDir;

#[path = "docs/compared.rs"]
mod compared;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/matching.rs"]
mod matching;
#[path = "docs/pictures.rs"]
mod pictures;

use matching::{is_complete, prints};

/// A documented command, and the output below it.
#[derive(Debug, Clone)]
struct Shown {
    command: String,
    output: String,
}

/// The first words of commands that are not run here, because they build, test, measure or install.
const LEFT_OUT: [&str; 8] =
    ["cargo", "apt-get", "alias", "benches/", "docs/", "NINETABS_SOAK_SECONDS", "FRONT", "ROUNDS"];

/// Documents whose commands must work in bash and in zsh, because users type them in their own shell.
const IN_EVERY_SHELL: [&str; 3] = ["README.md", "docs/tour.md", "docs/your-server.md"];

/// Shorter times for servers and clients, which make the tests faster and do not change the output.
const FASTER: [(&str, &str); 5] = [
    ("NINETABS_UPDATE_RATE", "0.4"),
    ("NINETABS_PRODUCE_EVERY", "0.2"),
    ("NINETABS_REAP_EVERY", "0.1"),
    ("NINETABS_MAX_STREAM_AGE_JITTER", "0"),
    ("NINETABS_DB_CHECKOUT_TIMEOUT", "1"),
];

/// The shell prints this after each command.
const MARK: &str = "--status-of-the-command--";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = docs.filter(|path| path.extension().is_some_and(|it| it == "md")).collect();
    all.extend(["README.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    all.sort();
    all
}

fn runs_in_every_shell(document: &Path) -> bool {
    IN_EVERY_SHELL.iter().any(|name| root().join(name) == document)
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

/// The arguments of a `ninetabs` command, split as a shell does. Returns `None` for another program.
fn ninetabs_arguments(command: &str) -> Option<Vec<String>> {
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

/// A shell that runs the commands of one document, and the server that the last `ninetabs serve` started.
struct Terminal {
    shell: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    server: Server,
    _folder: TempDir,
}

impl Terminal {
    fn open(shell: &str) -> Terminal {
        let folder = tempfile::tempdir().unwrap();
        symlink(env!("CARGO_BIN_EXE_ninetabs"), folder.path().join("ninetabs")).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(shell);
        command.args(if shell == "zsh" { ["-f", "-s"] } else { ["--norc", "-s"] });
        let mut shell = command
            .current_dir(folder.path())
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .envs(FASTER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = shell.stdin.take().unwrap();
        writeln!(input, "exec 2>&1").unwrap();
        let mut pipe = shell.stdout.take().unwrap();
        let (sender, output) = channel();
        // This thread ends when no process has the pipe open any more.
        thread::spawn(move || {
            let mut bytes = [0; 64 * 1024];
            while let Ok(count @ 1..) = pipe.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { shell, input, output, server: serve(&[], ""), _folder: folder }
    }

    /// Replaces the documented addresses in a command with those of the running server.
    fn with_addresses(&self, command: &str) -> String {
        command
            .replace("127.0.0.1:9292", &self.server.app.to_string())
            .replace("127.0.0.1:9293", &self.server.control.to_string())
    }

    /// Runs a command and returns its combined standard output and standard error. If the expected output ends with
    /// `…` on its own line, the command is stopped as soon as the rest has matched.
    fn run(&mut self, command: &str, expected: &str) -> String {
        let command = self.with_addresses(command);
        let before = self.children();
        let control = self.server.control;
        writeln!(self.input, "export NINETABS_CONTROL_URL=tcp://{control}").unwrap();
        writeln!(self.input, "{{ {command}\n}} < /dev/null; echo {MARK}").unwrap();
        let (mut seen, mut is_ended, end) = (Vec::new(), false, Instant::now() + PATIENCE);
        loop {
            match self.output.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) => seen.extend(bytes),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("the shell ended at {command}"),
            }
            let text = String::from_utf8_lossy(&seen);
            if let Some((text, _)) = text.split_once(MARK) {
                return without_notices(text);
            }
            let is_late = Instant::now() > end;
            if !is_ended && (is_late || is_complete(expected, &without_notices(&text))) {
                is_ended = true;
                let new: Vec<_> =
                    self.children().into_iter().filter(|child| !before.contains(child)).collect();
                let _ = Command::new("kill").args(new).stderr(Stdio::null()).status();
            }
            assert!(Instant::now() < end + PATIENCE, "{command} does not end: {text}");
        }
    }

    /// The running processes that the shell has started.
    fn children(&self) -> Vec<String> {
        let found = Command::new("pgrep").args(["-P", &self.shell.id().to_string()]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(self.children()).stderr(Stdio::null()).status();
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Starts a server with these flags. Waits until it has printed the expected output.
fn serve(flags: &[&str], expected: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let printed = folder.path().join("printed");
    let mut command = Server::command(folder.path());
    command.envs(FASTER).args(flags).stdout(File::create(&printed).unwrap());
    let server = Server::spawn(command, folder);
    let end = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(&printed).unwrap();
        if expected.is_empty() || prints(expected, &text) {
            return server;
        }
        assert!(Instant::now() < end, "ninetabs serve {flags:?} printed\n{text}\ninstead of\n{expected}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The text without the shell's messages about background jobs.
fn without_notices(text: &str) -> String {
    let is_notice =
        |line: &str| line.contains("erminated") && (line.contains("curl") || line.contains("ninetabs"));
    text.split_inclusive('\n').filter(|line| !is_notice(line)).collect()
}

/// Runs the commands of a document in order.
fn run_through(document: &Path, shell: &str) {
    let mut terminal = Terminal::open(shell);
    for shown in shown_in(document) {
        let Shown { command, output } = &shown;
        let first = command.split_whitespace().next().unwrap_or_default();
        let words = ninetabs_arguments(command).unwrap_or_default();
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            // The next command is repeated until its output matches, so no sleep is needed.
            _ if first == "sleep" => {}
            _ if LEFT_OUT.iter().any(|it| first.starts_with(it)) => {}
            [_] => terminal.server = serve(&[], output),
            // These need a second server or files. Another test checks their flags.
            [_, "serve", ref flags @ ..] => {
                if !flags.iter().any(|it| ["--trace", "--views", "other-server"].contains(it)) {
                    terminal.server = serve(flags, output);
                }
            }
            [] | [_, "ctl", ..] => check(document, &mut terminal, &shown),
            // Commands without expected output run for a long time or draw on the terminal. Other tests check them.
            _ if output.is_empty() => {}
            _ => check(document, &mut terminal, &shown),
        }
    }
}

/// Repeats a command until its output matches, since the state that it shows may take a moment.
fn check(document: &Path, terminal: &mut Terminal, Shown { command, output }: &Shown) {
    if command.contains(" jq ") && common::program("jq").is_none() {
        return;
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = terminal.run(command, output);
        let failed = seen.contains("curl: ") && !output.contains("curl: ");
        if !failed && (output.is_empty() || prints(output, &seen)) {
            return;
        }
        assert!(
            Instant::now() < end,
            "{}: {command} printed\n{seen}\ninstead of\n{output}",
            document.display()
        );
        thread::sleep(Duration::from_millis(200));
    }
}

fn run_all(documents: &[PathBuf], shell: &str) {
    if ["curl", "pkill", "ab"].iter().any(|program| common::program(program).is_none()) {
        return;
    }
    // A missing shell is not a failure, even if CI is set: bash covers every document.
    if Command::new(shell).args(["-c", "true"]).status().is_err() {
        eprintln!("skipped: {shell} is not installed");
        return;
    }
    thread::scope(|scope| {
        for document in documents.iter().filter(|document| !shown_in(document).is_empty()) {
            scope.spawn(move || run_through(document, shell));
        }
    });
}

#[test]
fn every_documented_command_line_is_accepted() {
    let mut seen = 0;
    for document in documents() {
        for Shown { command, .. } in shown_in(&document) {
            let Some(words) = ninetabs_arguments(&command) else { continue };
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
fn documented_commands_print_the_documented_output_in_bash() {
    run_all(&documents(), "bash");
}

#[test]
fn readme_tour_and_your_server_print_the_documented_output_in_zsh() {
    let all: Vec<_> = documents().into_iter().filter(|document| runs_in_every_shell(document)).collect();
    assert_eq!(all.len(), IN_EVERY_SHELL.len());
    run_all(&all, "zsh");
}

/// By default, an interactive zsh does not accept comments, and passes them to the command as arguments.
#[test]
fn commands_for_every_shell_have_no_comments() {
    for document in documents().iter().filter(|document| runs_in_every_shell(document)) {
        let text = fs::read_to_string(document).unwrap();
        let comment = text.lines().find(|line| line.starts_with("$ ") && line.contains(" # "));
        assert_eq!(comment, None, "{}", document.display());
    }
}

#[test]
fn the_readme_is_at_most_130_lines() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 130, "{lines}");
}
