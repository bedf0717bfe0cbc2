//! `reproduce`, as a person and as a program run it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::{self, FRONTS, as_another_user, program, set_mode, wait_for, with_two_threads};
use ninetabs::cli::interrupt::REPEATS_WITHIN;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn reproduce(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.arg("reproduce").args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The command with these arguments, nothing to read and nothing to say, and its temporary files in this folder.
fn quiet(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(arguments).env("TMPDIR", folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn claims(report: &Value) -> impl Iterator<Item = &Value> {
    report["acts"].as_array().unwrap().iter().flat_map(|act| act["claims"].as_array().unwrap())
}

fn measured<'a>(report: &'a Value, claim: &str) -> &'a str {
    let found = claims(report).find(|it| it["claim"].as_str().unwrap().starts_with(claim));
    found.unwrap_or_else(|| panic!("no claim {claim:?} in {report}"))["measured"].as_str().unwrap()
}

#[test]
fn every_act_holds_on_both_fronts_and_says_so_in_json() {
    for tool in ["chromium", "curl", "ab"] {
        // Without them the acts go on and claim less; where CI is set they must be there.
        program(tool);
    }
    for front in FRONTS {
        let output = reproduce(&["--fast", "--json", "--front", front]);
        let report = report(&output);
        let failed: Vec<_> = claims(&report).filter(|claim| claim["held"] != true).collect();
        assert_eq!((&report["held"], failed), (&true.into(), vec![]), "{front}");
        assert_eq!(output.status.code(), Some(0), "{front}");
        let acts: Vec<_> =
            report["acts"].as_array().unwrap().iter().map(|act| act["act"].as_u64().unwrap()).collect();
        assert_eq!(acts, [1, 2, 3, 4, 5, 6], "{front}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    }
}

#[test]
fn write_against_poll_is_shown_by_default_and_missed_on_tiny_http() {
    let polled = |front: &[&str]| {
        let output = reproduce(&[&["--fast", "--json", "--act", "2"], front].concat());
        String::from_utf8_lossy(&output.stdout).contains("with --notice-close poll")
    };
    assert!(polled(&[]));
    assert!(!polled(&["--front", "tiny-http"]));
}

#[test]
fn what_is_claimed_follows_from_the_plan() {
    let output = reproduce(&["--fast", "--json", "--act", "1", "--threads", "16", "--tabs", "9"]);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(measured(&report, "tabs that got their first byte"), "9");
    assert_eq!(measured(&report, "GET /up"), "200");

    let output = reproduce(&["--fast", "--json", "--act", "1", "--threads", "3:3", "--tabs", "4"]);
    let report = self::report(&output);
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    assert_eq!(measured(&report, "tabs that wait in todo"), "1");
}

/// A server that is given fewer threads than the plan says is caught out: the
/// claims are measured, not repeated.
#[test]
fn a_claim_can_fail() {
    let folder = tempfile::tempdir().unwrap();
    let fewer = with_two_threads(folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["reproduce", "--fast", "--json", "--act", "1", "--tabs", "4", "--program"]).arg(&fewer);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!(report["held"], false);
    assert_eq!(measured(&report, "tabs that got their first byte"), "2");
}

#[test]
fn a_report_that_cannot_be_written_is_no_success() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["reproduce", "--fast", "--json", "--act", "1", "--tabs", "1"]).stdin(Stdio::null());
    let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("cannot write to standard output"),
        "{output:?}"
    );
}

#[test]
fn a_server_that_says_nothing_is_named_by_its_status() {
    let output = reproduce(&["--act", "1", "--program", "/bin/true"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("exit status: 0"), "{output:?}");
}

#[test]
fn piped_it_is_plain_and_no_wider_than_a_terminal() {
    let output = reproduce(&["--fast", "--act", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for word in ["Act 1.", "expects", "holds", "why", "tp 008", "todo", "claims held"] {
        assert!(text.contains(word), "{word} is missing in {text}");
    }
    assert!(text.find("expects") < text.find("holds"));
}

#[test]
fn the_text_explains_itself_and_names_who_the_acts_are_about() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("x.svg");
    let output = reproduce(&["--fast", "--act", "2,4,5", "--svg", svg.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let key = "─ held  ● wrote  ▓ blocked  R reaped  x client gone  · idle  ░ in todo";
    assert_eq!(text.matches(key).count(), 1, "{text}");
    assert!(text.find(key) < text.find("Act 2."), "{text}");
    // Each picture stands below its caption.
    let pictures = text.lines().filter(|line| line.trim_start().starts_with("0 s ")).count();
    let captions = [
        "Tab 3 closes, and tab 9 waits for its thread:",
        "One tab, and the same close with --notice-close poll:",
        "8 clients that never read:",
        "The same server: they are killed, then curl and ab come:",
        "8 zombies with a maximum age of 0.5 s:",
        "9 tabs with the same maximum age:",
    ];
    assert_eq!(pictures, captions.len(), "{text}");
    for caption in captions {
        assert_eq!(text.lines().filter(|line| *line == caption).count(), 1, "{caption}: {text}");
    }
    // The lane of a stream that has ended bears its name: act 2 is about tab 3.
    let lane = |of: &str| text.lines().any(|line| line.starts_with(" tp 0") && line.contains(of));
    assert!(lane("tab 3") && lane("tab 9") && lane("zombie-1"), "{text}");
    assert!(!text.contains('…'), "{text}");
    let end = text.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" ");
    assert!(end.contains("Written: the picture is in") && end.contains("Next: open the picture"), "{text}");
}

#[test]
fn a_picture_is_drawn_from_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lanes.svg");
    let output = reproduce(&["--fast", "--act", "1", "--svg", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let picture = fs::read_to_string(&path).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("tab 9") && picture.contains("tp 008"));

    let output = reproduce(&["--fast", "--act", "1", "--svg", "/no/such/folder/x.svg"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--svg /no/such/folder/x.svg"));
}

#[test]
fn asked_wrongly_it_says_what_would_do() {
    for (arguments, word) in [
        (["--act", "7"], "--act"),
        (["--tabs", "0"], "--tabs"),
        (["--threads", "9:1"], "MIN:MAX"),
        (["--step", "--json"], "--json"),
    ] {
        let output = reproduce(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(word) && said.lines().count() == 1, "{said}");
    }
}

/// At any time: before the server is up, among the tabs, with a browser open.
#[test]
fn an_interrupt_leaves_nothing_behind() {
    for (act, after_ms) in [("1", 0), ("1", 150), ("1", 600), ("3", 1500), ("4", 1500), ("5", 700)] {
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            quiet(folder.path(), &["reproduce", "--act", act]).stdout(Stdio::piped()).spawn().unwrap();
        // It listens for signals before it says a word.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(after_ms));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        drop(child.stdout.take());
        let status = wait_for("its end", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(130), "act {act} after {after_ms} ms");
        let mark = folder.path().to_str().unwrap();
        wait_for("the end of all", || processes_of(mark).is_empty().then_some(()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "act {act} after {after_ms} ms");
    }
}

#[test]
fn killed_it_leaves_no_server_and_no_browser() {
    let a_browser = program("chromium").map(|_| ("3", "kill -s KILL"));
    for (act, word) in [("1", "serve")].into_iter().chain(a_browser) {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().to_str().unwrap().to_owned();
        let mut child = quiet(folder.path(), &["reproduce", "--act", act]).spawn().unwrap();
        let is_it = |process: &String| {
            fs::read_to_string(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.contains(word))
        };
        wait_for(word, || processes_of(&mark).iter().any(is_it).then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        wait_for("the end of all", || processes_of(&mark).is_empty().then_some(()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "act {act} leaves something");
    }
}

/// From its first moment on: what is made is made after what clears it away.
#[test]
fn killed_at_any_moment_it_leaves_nothing() {
    for (command, after_ms) in [
        ("reproduce", 5),
        ("reproduce", 60),
        ("reproduce", 800),
        ("compare", 20),
        ("compare", 300),
        ("compare", 2000),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = quiet(folder.path(), &[command, "--fast"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(after_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        let mark = folder.path().to_str().unwrap();
        wait_for("the end of all", || processes_of(mark).is_empty().then_some(()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{command} after {after_ms} ms");
    }
}

/// The second one, at whatever the first has not ended yet.
#[test]
fn a_second_interrupt_ends_it_at_once_and_leaves_nothing() {
    for command in ["reproduce", "compare"] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = quiet(folder.path(), &[command]).spawn().unwrap();
        let mark = folder.path().to_str().unwrap().to_owned();
        wait_for("a server", || (!processes_of(&mark).is_empty()).then_some(()));
        std::thread::sleep(std::time::Duration::from_millis(500));
        for _ in 0..2 {
            kill_process(Pid::from_child(&child), Signal::INT).unwrap();
            // Two that come closer together count as one.
            std::thread::sleep(REPEATS_WITHIN * 3 / 2);
        }
        let status = wait_for("its end", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(130), "{command}");
        wait_for("the end of all", || processes_of(&mark).is_empty().then_some(()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{command}");
    }
}

#[test]
fn each_step_says_what_enter_does_and_an_interrupt_says_so() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ninetabs"))
        .args(["reproduce", "--fast", "--act", "1", "--tabs", "1", "--step"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    common::hear(&mut stdout, "[Enter] runs it");
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    common::hear(&mut stdout, "[Enter] shows the verdict");
    // The end of its standard input would be an Enter.
    let stdin = child.stdin.take();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("ninetabs: interrupted"), "{output:?}");
}

/// Processes whose environment names this folder.
fn processes_of(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environment).contains(folder) {
            found.insert(process.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// The arguments of a short run.
const SHORT: [&str; 6] = ["reproduce", "--fast", "--act", "1", "--tabs", "1"];

#[test]
fn a_picture_on_standard_output_replaces_nothing_in_the_file_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for is_appended in [true, false] {
        let before = if is_appended { "before\n".repeat(2000) } else { String::new() };
        fs::write(&path, &before).unwrap();
        let file = fs::OpenOptions::new().append(is_appended).write(true).open(&path).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        command.args(SHORT).args(["--svg", "/dev/stdout", "--trace", "/dev/stdout"]);
        let status = command.stdin(Stdio::null()).stdout(file).status().unwrap();
        assert_eq!(status.code(), Some(2), "two flags, one file");
        let file = fs::OpenOptions::new().append(is_appended).write(true).open(&path).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        command.args(SHORT).args(["--svg", "/dev/stdout", "--report", "/dev/null", "--trace", "/dev/null"]);
        let status = command.stdin(Stdio::null()).stdout(file).status().unwrap();
        assert_eq!(status.code(), Some(0));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&before), "{text}");
        let text = &text[before.len()..];
        assert!(text.contains("ACT 1") || text.contains("Act 1"), "{text}");
        let picture = &text[text.find("<svg").unwrap()..text.find("</svg>").unwrap()];
        assert!(!picture.contains("claims hold"), "the picture is whole: {picture}");
    }
}

#[test]
fn the_file_of_another_user_in_a_sticky_folder_is_written_in_place() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = as_another_user(folder.path()) else { return };
    let path = folder.path().join("report");
    fs::write(&path, "old").unwrap();
    set_mode(folder.path(), 0o1777);
    set_mode(&path, 0o666);
    command.args(SHORT).arg("--report").arg(&path).env("TMPDIR", folder.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let there = fs::metadata(&path).unwrap();
    assert_eq!((there.uid(), there.mode() & 0o777), (0, 0o666));
    assert!(fs::read_to_string(&path).unwrap().trim_end().ends_with("</html>"));

    set_mode(&path, 0o644);
    let mut command = as_another_user(folder.path()).expect("this is root");
    command.args(["reproduce", "--report"]).arg(&path).env("TMPDIR", folder.path());
    let output = command.output().unwrap();
    assert!(output.stdout.is_empty(), "it is refused before the first act: {output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
}

#[test]
fn a_temporary_folder_that_cannot_be_created_is_named() {
    for (name, value, wanted) in [
        ("TMPDIR", "/nowhere", "cannot create a temporary folder in /nowhere: No such file"),
        ("PATH", "/nowhere", "cannot start sh, which removes a temporary folder: No such file"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        let output = command.args(SHORT).env(name, value).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(wanted) && said.contains(name), "{said}");
        assert!(!said.contains("could not be started"), "{said}");
    }
}
