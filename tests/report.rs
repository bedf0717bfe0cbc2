//! `reproduce --report` and `compare --report`: pages that need nothing else and begin with what failed.

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
fn one_page_contains_the_whole_run_and_loads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run <1>.html");
    let output = reproduce(&path, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(names(folder.path()), ["run <1>.html"]);
    let page = fs::read_to_string(&path).unwrap();
    for seen in [
        "<h1 class=\"as-expected\">All 6 claims held.</h1>",
        "Nine browser tabs, each with an event stream, were opened on a model of Puma with eight threads.",
        "8 of 9 tabs stream; tab 9 waits in the queue, and a page got no byte within 0.5 s.</li>",
        "Act 1: nine tabs, eight threads",
        "As expected ✓",
        "8 of 9 tabs stream and 1 waits in the queue",
        "8 of 9 tabs received their first byte",
        ">tp 008<",
        ">tab 9<",
        "longest in the queue",
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
    // The only address is the name of a format, which is not requested.
    let addresses = page.matches("://").count();
    assert_eq!(addresses, page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
}

#[test]
fn failures_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let (program, path) = (with_two_threads(folder.path()), folder.path().join("run.html"));
    let output = reproduce(&path, &["--tabs", "4", "--program", program.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let page = fs::read_to_string(&path).unwrap();
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text} in {page}"));
    let (verdict, failures, act) = (at("claims failed.</h1>"), at("class=\"failures\""), at("<article"));
    assert!(verdict < failures && failures < act);
    let failed = &page[failures..act];
    assert!(failed.contains("<h2>2 of 4 tabs received their first byte (expected 4)</h2>"), "{failed}");
    assert!(failed.contains("<dd>4</dd>") && failed.contains("<strong>2</strong>"), "{failed}");
}

#[test]
fn an_unfinished_run_has_a_report_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.html");
    let output = reproduce(&path, &["--program", "/bin/true"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{output:?}");
    let page = fs::read_to_string(&path).unwrap();
    assert!(
        page.contains("The run was not finished.</h1>") && page.contains("act 1: the server did not start"),
        "{page}"
    );
}

#[test]
fn a_path_that_cannot_be_written_is_reported_before_the_first_act() {
    let folder = tempfile::tempdir().unwrap();
    let new_folder = format!("{}/new/", folder.path().display());
    let too_long = folder.path().join("x".repeat(300));
    let paths =
        ["/no/such/folder/x", folder.path().to_str().unwrap(), &new_folder, too_long.to_str().unwrap()];
    for flag in ["--report", "--trace", "--svg"] {
        for path in paths {
            // The command runs without --json, so that an act that began would have printed something.
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
fn an_interrupted_run_leaves_the_file_as_it_was() {
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
        // The first output is printed after the paths were checked.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        drop(child.stdout.take());
        wait_for("its end", || child.try_wait().unwrap());
        assert_eq!(names(folder.path()), ["run.html"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "the run before");
    }
}

/// Only the lanes may be wider than the window: they scroll in a box of their own.
#[test]
fn a_report_is_accessible_and_fits_a_phone() {
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
fn a_printed_act_takes_at_most_a_page_and_the_last_section_is_whole() {
    let Some(chromium) = common::program("chromium") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.html");
    reproduce(&path, &[]);
    // The verdict with the act, and the configuration.
    let pages = printed_pages(&chromium, &path);
    assert!((1..=2).contains(&pages), "{pages} pages");
}

/// Paper cannot scroll, so every column must fit.
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
    // A4 landscape without its margins, at 96 pixels per inch.
    let width = (297 - 20) * 96 * 10 / 254;
    let size = json!({ "width": width, "height": 700, "deviceScaleFactor": 1, "mobile": false });
    browser.devtools(&tab, "Emulation.setDeviceMetricsOverride", &size);
    browser.wait_for(&tab, &format!("innerWidth === {width}"));
    let columns = "document.querySelectorAll('.wide thead tr:last-child th').length";
    assert_eq!(browser.eval(&tab, columns), 17);
    let beyond = "[...document.querySelectorAll('.wide :is(th, td)')].filter(cell => \
                  cell.getBoundingClientRect().right > innerWidth || cell.scrollWidth > cell.clientWidth + 1).length";
    assert_eq!(browser.eval(&tab, beyond), 0);
}
