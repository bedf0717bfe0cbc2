//! `reproduce --report`: one page that needs nothing else, and says first what failed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::axe::Axe;
use crate::common::chromedriver::Browser;
use crate::common::{self, names, wait_for, with_two_threads};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn reproduce(path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["reproduce", "--fast", "--json", "--act", "1", "--report"]).arg(path).args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn one_page_has_all_of_it_and_loads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run <1>.html");
    let output = reproduce(&path, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(names(folder.path()), ["run <1>.html"]);
    let page = fs::read_to_string(&path).unwrap();
    for seen in [
        "<h1 class=\"holds\">All 6 claims held.</h1>",
        "Act 1. 9 tabs, 8 threads",
        "8 of 9 tabs get their stream and 1 waits in todo",
        "tabs that got their first byte",
        ">tp 008<",
        ">tab 9<",
        "longest in todo",
        "<dd>8:8</dd>",
        "run &lt;1&gt;.html&#x27;",
    ] {
        assert!(page.contains(seen), "{seen} is missing in {page}");
    }
    for loads in ["<script", "@import", "url(", "src=", "<link rel=\"stylesheet\"", "<iframe", "<base"] {
        assert!(!page.contains(loads), "{loads} in {page}");
    }
    for target in page.split("href=\"").skip(1) {
        assert!(target.starts_with('#') || target.starts_with("data:,\""), "{target:.40}");
    }
    // The one address is the name of a format, and is asked for by nobody.
    let addresses = page.matches("://").count();
    assert_eq!(addresses, page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
}

#[test]
fn what_failed_stands_first() {
    let folder = tempfile::tempdir().unwrap();
    let (program, path) = (with_two_threads(folder.path()), folder.path().join("run.html"));
    let output = reproduce(&path, &["--tabs", "4", "--program", program.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let page = fs::read_to_string(&path).unwrap();
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text} in {page}"));
    let (verdict, failures, act) = (at("claims failed.</h1>"), at("class=\"failures\""), at("<article"));
    assert!(verdict < failures && failures < act);
    let failed = &page[failures..act];
    assert!(failed.contains("<h2>tabs that got their first byte</h2>"), "{failed}");
    assert!(failed.contains("<dd>4</dd>") && failed.contains("<strong>2</strong>"), "{failed}");
}

#[test]
fn a_run_that_broke_off_is_told_of_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.html");
    let output = reproduce(&path, &["--program", "/bin/true"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{output:?}");
    let page = fs::read_to_string(&path).unwrap();
    assert!(
        page.contains("The run broke off.</h1>") && page.contains("act 1: the server did not start"),
        "{page}"
    );
}

#[test]
fn a_path_that_cannot_be_written_is_said_before_the_first_act() {
    let folder = tempfile::tempdir().unwrap();
    let new_folder = format!("{}/new/", folder.path().display());
    let too_long = folder.path().join("x".repeat(300));
    let paths =
        ["/no/such/folder/x", folder.path().to_str().unwrap(), &new_folder, too_long.to_str().unwrap()];
    for flag in ["--report", "--trace", "--svg"] {
        for path in paths {
            // Plainly, so that an act that began would have said so.
            let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
            command.args(["reproduce", "--fast", "--act", "1", flag, path]).stdin(Stdio::null());
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(output.stdout.is_empty() && said.lines().count() == 1, "{output:?}");
            assert!(said.contains(&format!("{flag} {path}: ")), "{said}");
        }
    }
    assert!(names(folder.path()).is_empty());

    let path = folder.path().join("x");
    let path = path.to_str().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    let output = command.args(["reproduce", "--report", path, "--trace", path]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--report and --trace"), "{output:?}");
}

#[test]
fn an_interrupted_run_leaves_what_was_there() {
    for signal in [Signal::INT, Signal::KILL] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.html");
        fs::write(&path, "the run before").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ninetabs"))
            .args(["reproduce", "--act", "1", "--report"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Its first word is that of the act.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        drop(child.stdout.take());
        wait_for("its end", || child.try_wait().unwrap());
        assert_eq!(names(folder.path()), ["run.html"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "the run before");
    }
}

/// Wider than the window nothing is but the lanes, which have a box of their own to be moved in.
#[test]
fn a_report_can_be_read_by_everybody_on_a_phone_too() {
    let (Some(browser), Some(axe)) = (Browser::start(), Axe::fetch()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (program, path) = (with_two_threads(folder.path()), folder.path().join("run.html"));
    reproduce(&path, &["--program", program.to_str().unwrap()]);
    let tab = browser.first_tab();
    browser.goto(&tab, &format!("file://{}", path.display()));
    browser.wait_for(&tab, "document.readyState === 'complete' && document.querySelector('svg') !== null");
    for (width, lanes_move) in [(1280, false), (390, true), (280, true)] {
        let size = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        browser.devtools(&tab, "Emulation.setDeviceMetricsOverride", &size);
        browser.wait_for(&tab, &format!("innerWidth === {width}"));
        let fits = "(it => it.scrollWidth <= it.clientWidth)(document.documentElement)";
        assert_eq!(browser.eval(&tab, fits), true, "{width}");
        let box_is_wider = "(it => it.scrollWidth > it.clientWidth)(document.querySelector('.box'))";
        assert_eq!(browser.eval(&tab, box_is_wider), Value::Bool(lanes_move), "{width}");
        for scheme in ["light", "dark"] {
            browser.prefer(&tab, scheme);
            assert_eq!(axe.serious(&browser, &tab), [""; 0], "{width}, {scheme}");
        }
    }
    let loaded = browser.eval(&tab, "performance.getEntriesByType('resource').length");
    assert_eq!(loaded, 0);
    assert_eq!(browser.console(&tab), [""; 0]);
}

/// The pages of a document as Chromium prints it.
fn printed_pages(chromium: &Path, document: &Path) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let pdf = folder.path().join("printed.pdf");
    let mut command = Command::new(chromium);
    command.args(ninetabs::lab::chromium::switches(folder.path())).arg("--no-pdf-header-footer");
    command.arg(format!("--print-to-pdf={}", pdf.display()));
    command.arg(format!("file://{}", document.display())).stdin(Stdio::null());
    let output = command.output().unwrap();
    let printed = fs::read(&pdf).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let lines = printed.split(|byte| *byte == b'\n');
    lines.filter(|line| line.ends_with(b"/Type /Page")).count()
}

#[test]
fn a_printed_act_needs_no_more_than_a_page_and_the_last_section_is_whole() {
    let Some(chromium) = common::program("chromium") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.html");
    reproduce(&path, &[]);
    // The verdict with the act, and what it was played with.
    let pages = printed_pages(&chromium, &path);
    assert!((1..=2).contains(&pages), "{pages} pages");
}

/// On paper nothing can be scrolled, so every column must fit.
#[test]
fn the_printed_comparison_has_all_its_columns() {
    let Some(browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("compare.html");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["compare", "--fast", "--json", "--only", "poll", "--report"]).arg(&path);
    assert!(command.stdin(Stdio::null()).output().unwrap().status.success());
    let tab = browser.first_tab();
    browser.goto(&tab, &format!("file://{}", path.display()));
    browser.wait_for(&tab, "document.readyState === 'complete' && document.querySelector('.wide') !== null");
    browser.devtools(&tab, "Emulation.setEmulatedMedia", &json!({ "media": "print" }));
    // A4, lying, without its margins, at 96 pixels to the inch.
    let width = (297 - 20) * 96 * 10 / 254;
    let size = json!({ "width": width, "height": 700, "deviceScaleFactor": 1, "mobile": false });
    browser.devtools(&tab, "Emulation.setDeviceMetricsOverride", &size);
    browser.wait_for(&tab, &format!("innerWidth === {width}"));
    let columns = "document.querySelectorAll('.wide thead th').length";
    assert_eq!(browser.eval(&tab, columns), 17);
    let beyond = "[...document.querySelectorAll('.wide :is(th, td)')].filter(cell => \
                  cell.getBoundingClientRect().right > innerWidth || cell.scrollWidth > cell.clientWidth + 1).length";
    assert_eq!(browser.eval(&tab, beyond), 0);
}
