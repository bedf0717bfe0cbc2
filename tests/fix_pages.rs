//! The pages of the fixes: the list with its measurements and its arithmetic, the commands, and what each page
//! shows.

use std::fs::File;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::chromedriver::{Browser, Tab};
use crate::common::{Server, ask, get, split};
use crate::fixes::NAMES;

/// The errors on a tab's console.
fn errors(browser: &Browser, tab: &Tab) -> Vec<String> {
    browser.console(tab).into_iter().filter(|line| line.starts_with("SEVERE")).collect()
}

/// The groups of the list, each with its fixes, as a rendered page has them.
fn groups(list: &str) -> Vec<(String, Vec<String>)> {
    let text = |rest: &str, end: &str| rest.split(end).next().unwrap().to_owned();
    let groups = list.split("scope=\"rowgroup\" colspan=\"5\">").skip(1);
    groups
        .map(|group| {
            let fixes = group.split("<th scope=\"row\"><a href=\"/fixes/").skip(1);
            let fixes = fixes.map(|fix| text(fix, "\"")).collect();
            (text(group, "<"), fixes)
        })
        .collect()
}

#[test]
fn the_list_has_five_groups_with_the_numbers_of_a_run_and_links_to_the_wall() {
    let server = Server::start(&["--fix", "cap"]);
    let answer = ask(server.app, &format!("GET /fixes HTTP/1.0\r\nHost: {}\r\n\r\n", server.app));
    let list = answer.split("id=\"arithmetic\"").next().unwrap();
    let expected = [
        ("Move the limit", &["more-threads", "io-threads", "other-server"][..]),
        ("Bound the streams", &["reaper", "cap"]),
        ("Open fewer streams", &["leave", "shared-worker"]),
        ("Free the thread", &["push", "partials", "cable", "long-poll"]),
        ("Do not stream", &["short-stream", "poll"]),
    ];
    let groups = groups(list);
    assert_eq!(groups.len(), expected.len(), "{groups:?}");
    for ((group, fixes), (name, wanted)) in groups.iter().zip(expected) {
        assert_eq!(
            (group.as_str(), fixes.iter().map(String::as_str).collect::<Vec<_>>()),
            (name, wanted.to_vec())
        );
    }
    assert!(
        list.find("Which one?").unwrap() < list.find("Move the limit").unwrap(),
        "the decision tree is above the list"
    );

    // The cells show the numbers of the committed run.
    let run: Value = serde_json::from_str(include_str!("../src/fixes/compared.json")).unwrap();
    let entry = |name: &str| {
        let entry = list.split(&format!("<th scope=\"row\"><a href=\"/fixes/{name}\">")).nth(1).unwrap();
        entry.split("</tr>").next().unwrap().to_owned()
    };
    for name in NAMES {
        let row = if name == "poll" { "poll-shared" } else { name };
        let row = run["rows"].as_array().unwrap().iter().find(|it| it["fix"] == row).unwrap();
        let entry = entry(name);
        let cells: Vec<_> = entry.split("<td ").skip(1).map(|cell| cell.split_once('>').unwrap().1).collect();
        assert_eq!(cells.len(), 4, "{entry}");
        assert!(cells[0].starts_with(&format!("{} of 9<", row["tabs_live"])), "{name}: {entry}");
        assert!(cells[3].starts_with(&format!("{}<", row["pool_threads_held"])), "{name}: {entry}");
        let has_answer = !row["page_ms"]["p50"].is_null();
        assert_eq!(cells[1].starts_with("no answer"), !has_answer, "{name}: {entry}");

        let beside = format!("href=\"http:&#x2f;&#x2f;{}&#x2f;wall?beside={name}\"", server.control);
        let has_beside = !["leave", "other-server"].contains(&name);
        assert_eq!(entry.contains(&beside), has_beside, "{name}: {entry}");
        let is_off = ["reaper", "more-threads", "io-threads", "other-server"].contains(&name);
        assert_eq!(entry.contains("class=\"badge\">on<"), !is_off, "{name}: {entry}");
        assert_eq!(entry.matches("</p>").count(), 1, "an entry has one paragraph: {entry}");
    }
    assert!(list.contains("on 2026-"), "the list shows the date of the run");
    // tiny_http cannot hand over a connection.
    let tiny = Server::on("tiny-http", &[]);
    let list = get(tiny.app, "/fixes").1;
    for name in ["push", "partials", "cable", "long-poll"] {
        let entry = list.split(&format!("<a href=\"/fixes/{name}\">{name}</a>")).nth(1).unwrap();
        assert!(!entry.split("</tr>").next().unwrap().contains("class=\"badge\">on<"), "{name}");
    }
}

#[test]
fn the_costs_follow_the_number_of_viewers() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let costs = "[...document.querySelectorAll('[data-cost]')].map(it => it.textContent).join('|')";
    let without_script = get(server.app, "/fixes").1;
    let static_costs: Vec<_> = without_script
        .split("data-cost=\"")
        .skip(1)
        .map(|rest| rest.split_once('>').unwrap().1.split('<').next().unwrap().replace("&#x2f;", "/"))
        .collect();
    assert_eq!(
        static_costs.join("|"),
        "120 s blind for 5 s of stream|200 threads|100 requests/s|200 requests per change|no thread"
    );
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes"));
    browser.wait_for(&tab, "document.getElementById('n')?.disabled === false");
    let give = |text: &str| {
        browser.run(
            &tab,
            &format!(
                "document.getElementById('n').value = '{text}'; document.getElementById('n').dispatchEvent(new Event('input'))"
            ),
        );
    };
    let wrong = "document.getElementById('wrong').textContent";
    // The script computes the same costs as the server.
    give("200");
    assert_eq!(browser.eval(&tab, costs), static_costs.join("|"));
    give("9");
    let nine = "0.6 s blind for 5 s of stream|9 threads|4.5 requests/s|9 requests per change|no thread";
    assert_eq!(browser.eval(&tab, costs), nine);
    assert_eq!(browser.eval(&tab, "document.getElementById('of').textContent"), "9");
    for text in ["", "0", "-3", "1.5", "x", "1000001", "1e3"] {
        give(text);
        assert_eq!(browser.eval(&tab, wrong), "Give a number of viewers from 1 to 1000000.", "{text}");
        assert_eq!(browser.eval(&tab, "document.getElementById('n').ariaInvalid"), "true");
        assert_eq!(browser.eval(&tab, costs), nine, "{text}: the last valid number stays");
    }
    give(" 1 ");
    let one = "no tab waits|1 thread|0.5 requests/s|1 request per change|no thread";
    assert_eq!((browser.eval(&tab, costs), browser.eval(&tab, wrong)), (one.into(), "".into()));

    // The number of threads and the maximum age are those of the server.
    let server = Server::start(&["--threads", "4", "--max-stream-age", "10"]);
    assert!(get(server.app, "/fixes").1.contains("490 s blind for 10 s of stream"));
}

#[test]
fn a_page_of_a_fix_that_is_off_has_the_command_that_starts_it_and_a_button_that_copies_it() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let tab = browser.first_tab();
    for name in ["reaper", "more-threads", "io-threads", "cap", "other-server"] {
        browser.goto(&tab, &server.url(&format!("/fixes/{name}")));
        browser.wait_for(&tab, "document.querySelector('[data-command] + button') !== null");
        let command = format!(
            "ninetabs serve --fix {name} --bind tcp://{} --control-url tcp://{} --database {}",
            server.app,
            server.control,
            server.database().display()
        );
        assert_eq!(
            browser.eval(&tab, "document.querySelector('[data-command]').textContent"),
            command.as_str()
        );
        let works = browser.eval(&tab, "document.getElementById('works').parentElement.textContent");
        assert!(works.as_str().unwrap().contains("Not enabled on this server. Start one with:"), "{works}");
        browser.run(&tab, "navigator.clipboard.writeText = async text => { window.copied = text }");
        browser.click(&tab, "[data-command] + button");
        browser.wait_for(&tab, "document.querySelector('.command [role=status]').textContent === 'Copied.'");
        assert_eq!(browser.eval(&tab, "copied"), command.as_str());
    }
}

/// Does the exercise on the page of `other-server` as a reader would.
#[test]
fn the_commands_on_the_page_of_another_server_start_both_and_every_tab_streams() {
    let Some(browser) = Browser::start() else { return };
    let streams_at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let first = Server::start(&["--streams-at", &format!("http://{streams_at}"), "--update-rate", "200ms"]);
    let tab = browser.first_tab();
    browser.goto(&tab, &first.url("/fixes/other-server"));
    browser.wait_for(&tab, "document.querySelector('[data-command]') !== null");
    let command = browser.eval(&tab, "document.querySelector('[data-command]').textContent");
    let command = command.as_str().unwrap();
    assert!(command.contains(&format!("--bind tcp://{streams_at} ")), "{command}");
    // The command gives the control server the next port, which may be in use on this machine.
    let (before, rest) = command.split_once("--control-url tcp://127.0.0.1:").unwrap();
    let command = format!("{before}--control-url tcp://127.0.0.1:0 {}", rest.split_once(' ').unwrap().1);
    let command = command.replacen("ninetabs", concat!("exec ", env!("CARGO_BIN_EXE_ninetabs")), 1);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        &format!("{command} --stop-with-stdin --produce-every off --state {}", state.display()),
    ]);
    shell.stdin(Stdio::piped()).stdout(Stdio::null());
    shell.stderr(File::create(folder.path().join("log")).unwrap());
    let second = Server::spawn(shell, folder);
    browser.wait_for(&tab, "document.getElementById('stream-state').textContent === 'streams'");
    let tabs = [browser.new_tab(), browser.new_tab(), browser.new_tab()];
    for (number, tab) in (1..).zip(&tabs) {
        let port = first.app.port();
        browser.goto(tab, &format!("http://tab{number}.localhost:{port}/?tab={number}"));
        browser.wait_for(tab, "document.body.dataset.state === 'streaming'");
    }
    assert_eq!(second.stats()["streams"]["open"], 4);
    assert_eq!(first.stats()["streams"]["opened"], 0);
    tabs.into_iter().for_each(|tab| browser.close_tab(tab));
}

#[test]
fn on_tiny_http_the_pages_of_unavailable_fixes_send_nothing_and_explain_why() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::on("tiny-http", &[]);
    let tab = browser.first_tab();
    for name in ["push", "partials", "cable", "long-poll"] {
        browser.goto(&tab, &server.url(&format!("/fixes/{name}")));
        browser.wait_for(&tab, "document.getElementById('pool-count').textContent !== '–'");
        let why = browser.eval(&tab, "document.getElementById('unavailable').textContent");
        assert!(why.as_str().unwrap().contains("501"), "{name}: {why}");
        let asked = "performance.getEntriesByType('resource').map(it => new URL(it.name).pathname)
            .filter(path => !['/up', '/pool'].includes(path)).join()";
        assert_eq!(browser.eval(&tab, asked), "", "{name}");
        let controls =
            "[...document.querySelectorAll('main form :is(input, button)')].map(it => it.disabled).join()";
        assert_eq!(browser.eval(&tab, controls), if name == "push" { "true,true" } else { "" }, "{name}");
        assert_eq!(errors(&browser, &tab), [""; 0], "{name}");
    }
    let said = browser.eval(&tab, "document.getElementById('said').textContent");
    assert!(said.as_str().unwrap().contains("501"), "{said}");
}

#[test]
fn the_page_of_a_short_stream_draws_each_connection_of_the_last_20_seconds() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "500ms"]);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes/short-stream"));
    browser.wait_for(&tab, "Number(document.getElementById('connections').textContent) >= 4");
    browser.wait_for(&tab, "document.querySelectorAll('#bar i').length >= 4");
    let share = browser.eval(&tab, "document.getElementById('share').textContent");
    let share: f64 = share.as_str().unwrap().strip_suffix(" %").unwrap().parse().unwrap();
    assert!(share > 0.0 && share < 100.0, "{share}");
    // Newer marks are to the right of older ones, and all marks are within the bar.
    let lefts =
        browser.eval(&tab, "[...document.querySelectorAll('#bar i')].map(it => parseFloat(it.style.left))");
    let lefts: Vec<f64> = lefts.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
    assert!(lefts.is_sorted() && lefts.iter().all(|it| (0.0..=100.0).contains(it)), "{lefts:?}");
}

#[test]
fn code_that_is_too_wide_fades_at_its_edge_until_it_is_scrolled() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let tab = browser.first_tab();
    let size = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": false });
    browser.goto(&tab, &server.url("/fixes/reaper"));
    browser.devtools(&tab, "Emulation.setDeviceMetricsOverride", &size);
    let code = "document.querySelector('[data-code=ruby]')";
    browser.wait_for(&tab, &format!("innerWidth === 390 && {code}.hasAttribute('data-more')"));
    assert_eq!(
        browser.eval(&tab, &format!("getComputedStyle({code}).maskImage.startsWith('linear-gradient')")),
        true
    );
    browser.run(&tab, &format!("{code}.scrollLeft = 10000"));
    browser.wait_for(&tab, &format!("!{code}.hasAttribute('data-more')"));
    assert_eq!(browser.eval(&tab, &format!("getComputedStyle({code}).maskImage")), "none");
}

#[test]
fn links_to_more_tabs_lead_to_separate_hosts() {
    let server = Server::start(&["--fix", "cap", "--allow-host", "app.test"]);
    let port = server.app.port();
    let page = |name: &str, host: &str| {
        split(&ask(server.app, &format!("GET /fixes/{name} HTTP/1.0\r\nHost: {host}\r\n\r\n"))).1
    };
    for (name, path) in
        [("reaper", "?tab=1"), ("cap", "?tab=1"), ("push", "fixes/push"), ("cable", "fixes/cable")]
    {
        let link = format!("<a href=\"http:&#x2f;&#x2f;tab1.localhost:{port}/{path}\"");
        assert!(
            page(name, &server.app.to_string()).contains(&link),
            "{name}: {}",
            page(name, &server.app.to_string())
        );
        assert!(
            !page(name, "app.test").contains("tab1.localhost"),
            "{name}: subdomains of localhost do not lead to app.test"
        );
    }
}
