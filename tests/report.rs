//! `reproduce --report` and `compare --report` write self-contained pages that begin with the failures. `GET /report`
//! returns a page of the same kind about a running server.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::axe::Axe;
use crate::common::chromedriver::Browser;
use crate::common::{
    self, Server, call, get, json, names, read_head, read_to_end, send, wait_for, with_two_threads,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json as object};

fn reproduce(path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["reproduce", "--fast", "--json", "--act", "1", "--report"]).arg(path).args(arguments);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn one_page_contains_the_whole_run_and_loads_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run <1>.html");
    let output = reproduce(&path, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(names(folder.path()), ["run <1>.html"]);
    let page = fs::read_to_string(&path).unwrap();
    for seen in [
        "<h1 class=\"as-expected\">All 6 claims held.</h1>",
        "Nine browser tabs, each with an event stream, were opened on a model of Puma with eight threads.",
        "8 of 9 tabs stream; tab 9 waits in the queue, and a page got no response within 0.5 s.</li>",
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
        assert!(page.contains(seen), "{seen} is missing from {page}");
    }
    for loads in ["<script", "@import", "url(", "src=", "<link rel=\"stylesheet\"", "<iframe", "<base"] {
        assert!(!page.contains(loads), "{loads} in {page}");
    }
    for target in page.split("href=\"").skip(1) {
        assert!(target.starts_with('#') || target.starts_with("data:,\""), "{target:.40}");
    }
    // The only URL is the XML namespace of SVG, which browsers do not request.
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
            // The command runs without --json, so an act that had begun would have printed something.
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
        // The program checks the paths before it prints anything.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        drop(child.stdout.take());
        wait_for("the end of the run", || child.try_wait().unwrap());
        assert_eq!(names(folder.path()), ["run.html"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "the run before");
    }
}

/// Only the lanes may be wider than the window, because they scroll in their own box.
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
        let size = object!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        browser.devtools(&tab, "Emulation.setDeviceMetricsOverride", &size);
        browser.wait_for(&tab, &format!("innerWidth === {width}"));
        let fits = "(it => it.scrollWidth <= it.clientWidth)(document.documentElement)";
        assert_eq!(browser.eval(&tab, fits), true, "{width}");
        let box_is_wider = "(it => it.scrollWidth > it.clientWidth)(document.querySelector('.box'))";
        assert_eq!(browser.eval(&tab, box_is_wider), Value::Bool(lanes_move), "{width}");
        axe.expect_nothing_serious(&browser, &tab, &format!("{width}"));
    }
    let loaded = browser.eval(&tab, "performance.getEntriesByType('resource').length");
    assert_eq!(loaded, 0);
    assert_eq!(browser.console(&tab), [""; 0]);
}

/// The number of pages that Chromium prints for a document.
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
    let Some(chromium) = common::chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.html");
    reproduce(&path, &[]);
    // The verdict and the act fit on one page. The configuration may need a second one.
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
    browser.devtools(&tab, "Emulation.setEmulatedMedia", &object!({ "media": "print" }));
    // A4 landscape without its margins, at 96 pixels per inch.
    let width = (297 - 20) * 96 * 10 / 254;
    let size = object!({ "width": width, "height": 700, "deviceScaleFactor": 1, "mobile": false });
    browser.devtools(&tab, "Emulation.setDeviceMetricsOverride", &size);
    browser.wait_for(&tab, &format!("innerWidth === {width}"));
    let columns = "document.querySelectorAll('.wide thead tr:last-child th').length";
    assert_eq!(browser.eval(&tab, columns), 17);
    let beyond = "[...document.querySelectorAll('.wide :is(th, td)')].filter(cell => \
                  cell.getBoundingClientRect().right > innerWidth || cell.scrollWidth > cell.clientWidth + 1).length";
    assert_eq!(browser.eval(&tab, beyond), 0);
}

/// The head and the body of the control server's answer.
fn saved(server: &Server, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut stream = send(server.control, request.as_bytes());
    let (head, body) = (read_head(&mut stream), read_to_end(&mut stream));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}{body}");
    (head, body)
}

/// The rows of the table of threads: thread, state, path.
fn states(page: &str) -> Vec<(String, String, String)> {
    let table = page.split("<table class=\"states\">").nth(1).unwrap().split("</table>").next().unwrap();
    let text = |row: &str, from: &str, to: &str| {
        let found = row.split_once(from).map_or("", |(_, rest)| rest.split(to).next().unwrap());
        found.replace("&#x2f;", "/").replace("&amp;", "&")
    };
    let rows = table.split("<tbody>").nth(1).unwrap().split("</tr>").filter(|row| row.contains("<th"));
    rows.map(|row| {
        let name = text(row, "<th scope=\"row\">", "<");
        (name, text(row, "data-label=\"state\">", "<"), text(row, "data-path=\"", "\""))
    })
    .collect()
}

#[test]
fn the_saved_report_of_a_server_agrees_with_its_threads_and_its_record() {
    let server = Server::start(&["--threads", "2:2", "--update-rate", "60", "--control-token", "none"]);
    let order = |path: &str| assert_eq!(json(server.control, "POST", path).0, 200, "{path}");
    for tab in [1, 2] {
        order(&format!("/lab/tabs/open?tab={tab}"));
        server.wait_for_stats("stream of the new tab", |stats| stats["streams"]["open"] == tab);
    }
    order("/lab/tabs/open?tab=3");
    server.wait_for_stats("queued third tab", |stats| stats["backlog"] == 1);
    order("/max-stream-age?secs=99");
    order("/lab/tabs/close?tab=2");

    let (head, page) = saved(&server, "/report?last=60");
    assert!(head.contains("\r\ncontent-type: text/html; charset=utf-8\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-disposition: attachment; filename=\"ninetabs-report-2"), "{head}");
    for seen in [
        "<h1>2 of 2 threads are held. Tab 3 has waited ",
        ">tp 001<",
        ">client gone</text>",
        "Tab 2 has closed; its thread is held until the second write fails.",
        "<dd>99 s</dd>",
        "--threads 2:2",
        "--control-token …",
    ] {
        assert!(page.contains(seen), "{seen} is missing from {page}");
    }
    for loads in
        ["<script", "@import", "url(", "src=", "<link rel=\"stylesheet\"", "<iframe", "<base", "href=\"http"]
    {
        assert!(!page.contains(loads), "{loads} in {page}");
    }
    // The page shows the threads and the queue as they were at the end of its window.
    let threads = json(server.control, "GET", "/threads").1;
    let rows = states(&page);
    let (rows, queue): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.0 != "queue");
    let paths: Vec<_> = rows.iter().map(|row| row.2.as_str()).collect();
    let held: Vec<_> = threads.as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect();
    assert_eq!(paths, held);
    let states: Vec<_> = rows.iter().map(|row| row.1.as_str()).collect();
    assert_eq!(states.iter().filter(|state| **state == "held, client gone").count(), 1, "{rows:?}");
    let waits: Vec<_> = queue.iter().map(|row| (row.1.as_str(), row.2.as_str())).collect();
    assert_eq!(waits, [("waiting", "/models/live_stream?tab=3")]);
    // The page lists the orders of the record.
    let moments = json(server.control, "GET", "/timeline").1["moments"].clone();
    let moments = moments.as_array().unwrap();
    let orders: Vec<_> = moments.iter().filter(|it| it["kind"] == "ordered").collect();
    let texts: Vec<_> = orders.iter().map(|it| it["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["opened tab 1", "opened tab 2", "opened tab 3", "max age 99 s", "closed tab 2"]);
    let listed = page.matches("<td data-label=\"order\">").count();
    assert_eq!(listed, texts.len());

    // A window in the past has the state at its end, and no later orders.
    let wrote: Vec<_> = moments.iter().filter(|it| it["kind"] == "wrote").collect();
    let to = wrote[1]["at_us"].as_f64().unwrap() / 1e6;
    let (_, past) = saved(&server, &format!("/report?from=0&to={to}"));
    assert!(past.contains("<h1>2 of 2 threads are held. Nothing waits.</h1>"), "{past}");
    assert!(past.contains(">opened tab 1</td>") && !past.contains("opened tab 3"), "{past}");
    assert!(!past.contains("client gone") && !past.contains("has closed"), "{past}");
}

#[test]
fn saved_files_require_the_token_and_check_their_parameters() {
    let server = Server::start(&["--control-token", "secret-of-the-test"]);
    for path in ["/report", "/trace"] {
        let (status, said) = get(server.control, path);
        assert_eq!((status, said.trim()), (403, "Invalid auth token"));
        let with = |query: &str| format!("{path}?token=secret-of-the-test{query}");
        assert_eq!(call(server.control, "HEAD", &with("")).0, 200);
        assert_eq!(call(server.control, "POST", &with("")).0, 405);
        for (query, status, words) in [
            ("&older=60", 400, "unknown parameter \"older\"; "),
            ("&last=60&last=60", 400, "last: give it once"),
            ("&last=soon", 422, "last: give a number of seconds above 0, such as 30 or 0.5, not \"soon\""),
            ("&last=-1", 422, "last: give a number of seconds"),
            ("&last=5&from=2", 422, "last: give last alone, or from and to"),
            ("&from=9&to=1", 422, "from: give a number of seconds below "),
        ] {
            let answer = get(server.control, &with(query));
            assert_eq!(answer.0, status, "{query}: {}", answer.1);
            assert!(answer.1.starts_with(words) && answer.1.trim().lines().count() == 1, "{}", answer.1);
        }
        let (status, file) = get(server.control, &with(""));
        assert_eq!(status, 200);
        assert!(!file.contains("secret-of-the-test") && file.contains("--control-token …"), "{file}");
    }
}

/// Waits until the server has had more events than its record keeps.
pub fn overflow(server: &Server) {
    wait_for("more events than the record keeps", || {
        // Each answer contains the whole record, so the requests are a second apart.
        thread::sleep(Duration::from_secs(1));
        let after = json(server.control, "GET", "/timeline?after=0").1;
        (after["forgotten"].as_u64().unwrap() > 1_000).then_some(())
    });
}

#[test]
fn a_saved_report_states_what_the_record_has_lost_and_shows_older_streams() {
    let server = Server::start(&["--threads", "3:3", "--update-rate", "0.001", "--produce-every", "off"]);
    let _streams: Vec<_> = (1..=3)
        .map(|tab| {
            let path = format!("GET /models/live_stream?tab={tab} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let stream = send(server.app, path.as_bytes());
            let mut reads = stream.try_clone().unwrap();
            thread::spawn(move || io::copy(&mut reads, &mut io::sink()));
            stream
        })
        .collect();
    overflow(&server);
    let (_, page) = saved(&server, "/report?last=3600");
    assert!(
        page.contains(" were not recorded: there were more events than the record keeps."),
        "{page:.2000}"
    );
    assert!(page.contains(">not recorded</text>") && page.contains("events not recorded"), "{page:.2000}");
    let mut paths: Vec<_> = states(&page).into_iter().map(|row| row.2).collect();
    paths.sort();
    assert_eq!(paths, [1, 2, 3].map(|tab| format!("/models/live_stream?tab={tab}")));
    // The size of the record limits the size of the page.
    assert!(page.len() < 8_000_000, "{} bytes", page.len());
    let (_, page) = saved(&server, "/report?last=0.05");
    assert!(!page.contains("ot recorded") && page.contains(">tab 3</text>"), "{page:.2000}");
}

#[test]
fn a_saved_report_is_accessible_fits_a_phone_and_prints_on_a4() {
    let (Some(browser), Some(axe)) = (Browser::start(), Axe::fetch()) else { return };
    let server = Server::start(&["--threads", "2:2", "--update-rate", "0.5"]);
    for path in ["/lab/tabs/open", "/lab/tabs/open", "/lab/zombies?count=3", "/lab/tabs/close?tab=1"] {
        assert_eq!(json(server.control, "POST", path).0, 200);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.html");
    fs::write(&path, saved(&server, "/report").1).unwrap();
    let tab = browser.first_tab();
    browser.goto(&tab, &format!("file://{}", path.display()));
    browser.wait_for(&tab, "document.readyState === 'complete' && document.querySelector('svg') !== null");
    let size = |width: usize| {
        let size = object!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        browser.devtools(&tab, "Emulation.setDeviceMetricsOverride", &size);
        browser.wait_for(&tab, &format!("innerWidth === {width}"));
    };
    for width in [1280, 390] {
        size(width);
        let fits = "(it => it.scrollWidth <= it.clientWidth)(document.documentElement)";
        assert_eq!(browser.eval(&tab, fits), true, "{width}");
        axe.expect_nothing_serious(&browser, &tab, &format!("{width}"));
    }
    // A4 without its margins, at 96 pixels per inch.
    browser.devtools(&tab, "Emulation.setEmulatedMedia", &object!({ "media": "print" }));
    size((210 - 28) * 96 * 10 / 254);
    let cut = "[...document.querySelectorAll('body *:not(svg *)')].filter(it => \
               it.getBoundingClientRect().right > innerWidth + 1 || it.scrollWidth > it.clientWidth + 1 && getComputedStyle(it).display !== 'inline').map(it => it.outerHTML.slice(0, 80))";
    assert_eq!(browser.eval(&tab, cut), object!([]));
    assert_eq!(browser.console(&tab), [""; 0]);
    let Some(chromium) = common::chromium() else { return };
    let pages = printed_pages(&chromium, &path);
    assert!((1..=2).contains(&pages), "{pages} pages");
}
