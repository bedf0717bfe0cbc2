//! `reproduce`, as run by users and by programs.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::terminal::Terminal;
use crate::common::{self, FRONTS, as_another_user, program, set_mode, wait_for, with_two_threads};
use ninetabs::cli::interrupt::REPEATS_WITHIN;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn reproduce(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.arg("reproduce").args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The command with these arguments, without input and output. It creates its temporary files in this folder.
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
fn every_act_goes_as_expected_on_both_fronts_and_is_reported_as_json() {
    // Without these programs the acts make fewer claims. If CI is set, they must be installed.
    common::chromium();
    for tool in ["curl", "ab"] {
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
        assert_eq!(acts, [1, 2, 3, 4, 5, 6, 7], "{front}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    }
}

#[test]
fn act_2_compares_write_and_poll_except_on_tiny_http() {
    let polled = |front: &[&str]| {
        let output = reproduce(&[&["--fast", "--json", "--act", "2"], front].concat());
        String::from_utf8_lossy(&output.stdout).contains("with --notice-close poll")
    };
    assert!(polled(&[]));
    assert!(!polled(&["--front", "tiny-http"]));
}

#[test]
fn the_claims_follow_from_the_plan() {
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

/// Claims are measured, so they fail if the server has fewer threads than the plan says.
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
fn output_that_cannot_be_written_is_a_failure() {
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
fn a_server_that_ends_silently_is_reported_with_its_status() {
    let output = reproduce(&["--act", "1", "--program", "/bin/true"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("exit status: 0"), "{output:?}");
}

#[test]
fn in_a_pipe_the_output_is_plain_and_at_most_80_columns_wide() {
    let output = reproduce(&["--fast", "--act", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for word in ["Act 1 of 7:", "Expected", " ✓ ", "Why", "tp 008", "queue", "claims held in"] {
        assert!(text.contains(word), "{word} is missing from {text}");
    }
    assert!(text.find("Expected") < text.find("✓"));
}

#[test]
fn the_text_has_one_legend_and_a_caption_per_picture_and_lanes_of_ended_streams_keep_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("x.svg");
    let output = reproduce(&["--fast", "--act", "2,4,5", "--svg", svg.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let legend = " ● write  ─ held  ╌ client gone  · idle  ░ waiting  × write failed  R reaped\n";
    assert_eq!(text.matches(legend).count(), 1, "{text}");
    assert!(text.find(legend) < text.find("Act 2 of 7:"), "{text}");
    // Each picture has its caption on its time axis.
    let pictures: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("0 s ")).collect();
    let captions = [
        "tab 3 closes, tab 9 waits for a thread",
        "with --notice-close poll: × is the close",
        "8 zombies, then GET /up",
        "the zombies are killed, then curl and ab connect",
        "8 zombies, maximum age 0.5 s",
        "9 tabs, maximum age 0.5 s",
    ];
    assert_eq!(pictures.len(), captions.len(), "{text}");
    for (picture, caption) in pictures.iter().zip(captions) {
        assert!(picture.contains(caption), "{caption}: {text}");
    }
    // The lane of an ended stream keeps its name.
    let lane = |of: &str| text.lines().any(|line| line.starts_with(" tp 0") && line.contains(of));
    assert!(lane("tab 3") && lane("tab 9"), "{text}");
    let is_hollow = |line: &str| line.contains("tab 3") && line.contains('╌') && line.contains('×');
    assert!(text.lines().any(is_hollow), "{text}");
    assert!(text.contains("zombie-1") && !text.contains('…'), "{text}");
    let end: Vec<&str> = text.lines().rev().take(3).collect();
    assert!(end[2].contains(" claims held in ") && end[2].ends_with(" s."), "{text}");
    assert_eq!(end[1], format!("Picture: {}", svg.display()));
    assert_eq!(end[0], "See it live: run `ninetabs` and open http://127.0.0.1:9293/wall");
    let rows = acts(&text);
    assert_eq!(rows.len(), 3, "{text}");
    assert!(rows.iter().all(|rows| *rows <= 24), "{rows:?}: {text}");
}

/// The number of rows of each act, from its title to the end of its explanation.
fn acts(text: &str) -> Vec<usize> {
    let acts = text.split("\nAct ").skip(1);
    acts.map(|act| act.lines().take_while(|line| !line.is_empty()).count()).collect()
}

#[test]
fn every_act_fits_on_a_screen_of_24_rows() {
    let Some(mut terminal) = Terminal::start(&["reproduce", "--fast", "--step"], &[], (80, 24)) else {
        return;
    };
    for act in 1..=7 {
        terminal.wait_for("the expectation", |screen| screen.contains(&format!("[Enter] run act {act}")));
        terminal.press("\r");
        terminal.wait_for("the end of the run", |screen| screen.contains("[Enter] show the verdict"));
        terminal.press("\r");
        let is_over = |screen: &str| match act {
            7 => screen.contains("claims held in"),
            _ => screen.contains("[Enter] next act  [q] quit"),
        };
        terminal.wait_for("the verdict", is_over);
        let text = terminal.text();
        // On a busy machine, a run that is repeated adds a line about the first one.
        let was_repeated = text.contains("is opened again");
        if act < 7 && !was_repeated {
            for part in
                [format!("Act {act} of 7:"), "Expected".into(), "✓".into(), "Why".into(), "0 s ".into()]
            {
                assert!(text.contains(&part), "{part} is not on the screen: {text}");
            }
            assert!(!text.contains("[Enter] run") && !text.contains("[Enter] show"), "{text}");
        }
        terminal.press("\r");
    }
}

#[test]
fn q_quits_at_the_end_of_an_act() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["reproduce", "--fast", "--act", "1,2", "--tabs", "1", "--step"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n\nq\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("[Enter] next act  [q] quit") && text.contains("claims held in"), "{text}");
    assert!(!text.contains("Act 2 of 7"), "{text}");
}

#[test]
fn output_is_ascii_without_utf_8_or_on_a_dumb_terminal_and_no_color_disables_colors() {
    for (name, value) in [("LC_ALL", "C"), ("TERM", "dumb")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        command.args(["reproduce", "--fast", "--act", "2"]).env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
        let output = command.env(name, value).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.is_ascii(), "{name}={value}: {text}");
        for sign in [" o write  - held  ~ client gone  . idle  : waiting  x write failed", " ok   "] {
            assert!(text.contains(sign), "{sign}: {text}");
        }
    }
    let arguments = ["reproduce", "--fast", "--act", "1", "--tabs", "1"];
    for (variables, is_colored) in [(&[("NO_COLOR", "1")][..], false), (&[], true)] {
        let Some(terminal) = Terminal::start(&arguments, variables, (80, 24)) else { return };
        terminal.wait_for("the end of the run", |screen| screen.contains("claims held in"));
        assert_eq!(terminal.has_colors(), is_colored, "{variables:?}");
    }
}

#[test]
fn the_text_follows_the_plan() {
    let output = reproduce(&["--fast", "--act", "1,2,3,5", "--threads", "16", "--tabs", "9"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for word in ["turn", "queue"] {
        // On a slow machine a page may wait for a moment, and the picture then has a row for the queue.
        let is_drawn = |line: &str| line.starts_with(" ● write") || line.starts_with(" queue ");
        let sentences = text.lines().filter(|line| !is_drawn(line) && line.contains(word));
        assert_eq!(sentences.collect::<Vec<_>>(), [""; 0], "{word}: {text}");
    }

    let unread = "connection is in the queue, accepted and unread, with /up behind it.";
    let read = "request has been read and is in the queue, with /up behind it.";
    for (front, says, omits) in [("puma", unread, read), ("tiny-http", read, unread)] {
        let output = reproduce(&["--fast", "--act", "1", "--front", front]);
        let text = String::from_utf8(output.stdout).unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(says) && !text.contains(omits), "{front}: {text}");
    }
}

#[test]
fn an_animated_picture_shows_the_second_act() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lanes.svg");
    let output = reproduce(&["--fast", "--act", "2", "--animate", "--svg", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let picture = fs::read_to_string(&path).unwrap();
    for seen in [
        "<title>Nine tabs, eight threads: tab 9 waits for tab 3&#x27;s thread</title>",
        ">Nine tabs open, each with an event stream.<",
        ">All 8 threads are held. Tab 9 waits in the queue.<",
        ">Tab 3 closed. The server has not noticed: its thread stays held.<",
        // How many writes precede the failed one depends on the speed of the machine.
        " fails with EPIPE: the thread is freed.<",
        ">Tab 9 takes the thread of tab 3, and streams.<",
        "prefers-reduced-motion: no-preference",
        "class=\"client-gone\"",
    ] {
        assert!(picture.contains(seen), "{seen} is missing from {picture}");
    }
    for other in ["<script", "<animate", "url(", "http://www.w3.org/1999"] {
        assert!(!picture.contains(other), "{other} in {picture}");
    }
    let output = reproduce(&["--animate"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
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
fn an_invalid_argument_is_reported_with_what_is_accepted() {
    for (arguments, word) in [
        (["--act", "11"], "--act"),
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

/// Interrupts runs at different times: before the server listens, while the tabs are being opened, and with an open
/// browser.
#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    for (act, after_ms) in [("1", 0), ("1", 150), ("1", 600), ("3", 1500), ("4", 1500), ("5", 700)] {
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            quiet(folder.path(), &["reproduce", "--act", act]).stdout(Stdio::piped()).spawn().unwrap();
        // The program handles signals before it prints anything.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(after_ms));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        drop(child.stdout.take());
        let status = wait_for("the end of the run", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(130), "act {act} after {after_ms} ms");
        let mark = folder.path().to_str().unwrap();
        wait_for("the end of every process of the run", || processes_of(mark).is_empty().then_some(()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "act {act} after {after_ms} ms");
    }
}

#[test]
fn a_killed_run_leaves_no_server_and_no_browser_behind() {
    let a_browser = common::chromium().map(|_| ("3", "kill -s KILL"));
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
        wait_for("the end of every process of the run", || processes_of(&mark).is_empty().then_some(()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "act {act} left a file behind");
    }
}

/// Even an early kill leaves nothing behind, because the process that cleans up is started before anything else is
/// created.
#[test]
fn a_run_killed_at_any_moment_leaves_nothing_behind() {
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
        wait_for("the end of every process of the run", || processes_of(mark).is_empty().then_some(()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{command} after {after_ms} ms");
    }
}

/// The second interrupt arrives while the first one is still being handled.
#[test]
fn a_second_interrupt_ends_the_run_immediately_and_leaves_nothing_behind() {
    for command in ["reproduce", "compare"] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = quiet(folder.path(), &[command]).spawn().unwrap();
        let mark = folder.path().to_str().unwrap().to_owned();
        wait_for("a server", || (!processes_of(&mark).is_empty()).then_some(()));
        std::thread::sleep(std::time::Duration::from_millis(500));
        for _ in 0..2 {
            kill_process(Pid::from_child(&child), Signal::INT).unwrap();
            // Two interrupts that are closer together count as one.
            std::thread::sleep(REPEATS_WITHIN * 3 / 2);
        }
        let status = wait_for("the end of the run", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(130), "{command}");
        wait_for("the end of every process of the run", || processes_of(&mark).is_empty().then_some(()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{command}");
    }
}

#[test]
fn each_prompt_states_what_enter_does_and_an_interrupt_is_reported() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ninetabs"))
        .args(["reproduce", "--fast", "--act", "1", "--tabs", "1", "--step"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    common::hear(&mut stdout, "[Enter] run act 1");
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    common::hear(&mut stdout, "[Enter] show the verdict");
    // Standard input stays open, because its end would count as Enter.
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
fn a_picture_on_standard_output_overwrites_nothing_in_the_redirected_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for is_appended in [true, false] {
        let before = if is_appended { "before\n".repeat(2000) } else { String::new() };
        fs::write(&path, &before).unwrap();
        let file = fs::OpenOptions::new().append(is_appended).write(true).open(&path).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        command.args(SHORT).args(["--svg", "/dev/stdout", "--trace", "/dev/stdout"]);
        let status = command.stdin(Stdio::null()).stdout(file).status().unwrap();
        assert_eq!(status.code(), Some(2), "two flags that name the same file must be refused");
        let file = fs::OpenOptions::new().append(is_appended).write(true).open(&path).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        command.args(SHORT).args(["--svg", "/dev/stdout", "--report", "/dev/null", "--trace", "/dev/null"]);
        let status = command.stdin(Stdio::null()).stdout(file).status().unwrap();
        assert_eq!(status.code(), Some(0));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&before), "{text}");
        let text = &text[before.len()..];
        assert!(text.contains("Act 1 of 7:"), "{text}");
        let picture = &text[text.find("<svg").unwrap()..text.find("</svg>").unwrap()];
        assert!(!picture.contains("claims held"), "the picture contains other output: {picture}");
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
    assert!(output.stdout.is_empty(), "the file must be refused before the first act: {output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("permission denied"), "{output:?}");
}

#[test]
fn the_error_names_a_temporary_folder_that_cannot_be_created() {
    for (name, value, wanted) in [
        ("TMPDIR", "/nowhere", "cannot create a temporary folder in /nowhere: No such file"),
        ("PATH", "/nowhere", "cannot start sh to clean up a temporary folder: No such file"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        let output = command.args(SHORT).env(name, value).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(wanted) && said.contains(name), "{said}");
        assert!(!said.contains("cannot start /"), "{said}");
    }
}
