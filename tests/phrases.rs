//! Each state and event has exactly one name: no page, report, help text, terminal screen or document uses a retired
//! phrase. In addition, no page has more than 100,000 bytes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::chromedriver::{Browser, Tab};
use crate::common::{Server, get, json, wait_for};
use clap::CommandFactory;
use ninetabs::cli::Arguments;
use ninetabs::words;

/// Retired phrases that must not appear anywhere, in lower case, and the words that replace them (`src/words.rs`).
const RETIRED: &[(&str, &str)] = &[
    ("in todo", "in the queue"),
    ("in the todo", "in the queue"),
    ("first in line", "first in the queue"),
    ("nothing in line", "the queue is empty"),
    ("thread is busy", "thread is held"),
    ("threads are busy", "threads are held"),
    ("busy thread", "held thread"),
    ("thread is free", "thread is idle, or: the thread is freed"),
    ("threads are free", "threads are idle"),
    ("thread is taken", "thread is held"),
    ("threads are taken", "threads are held"),
    ("could take none", "every thread is held"),
    ("tab is live", "tab streams"),
    ("tabs are live", "tabs stream"),
    ("live tab", "tab that streams"),
    ("notch", "write"),
    ("waits for its client", "write blocked"),
    ("told to end", "reaped"),
    ("coming back", "reconnects"),
    ("comes back", "reconnects"),
    ("will ask again for its stream", "reconnects"),
    ("waits for a socket", "is in the browser"),
    ("waiting for a socket", "in the browser"),
    ("told at once", "refused"),
    ("stopped client", "zombie"),
    ("begun unseen", "not recorded"),
    ("way out", "fix"),
    ("ways out", "fixes"),
    ("way-out", "fix"),
    ("cure", "fix"),
    ("new model", "new row"),
    ("newest model", "newest row"),
    ("models of the table", "rows of the table"),
    ("did not hold", "not as expected"),
    ("the seed", "the article"),
];

fn assert_no_retired_phrase(place: &str, text: &str) {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    for (phrase, instead) in RETIRED {
        let is_of_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let is_phrase = |at: &usize| {
            !is_of_word(text[..*at].chars().next_back())
                && !is_of_word(text[at + phrase.len()..].chars().next())
        };
        if let Some(at) = text.match_indices(phrase).map(|(at, _)| at).find(is_phrase) {
            let around = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
            let context = around(floor(&text, at.saturating_sub(60)), at);
            panic!("{place}: …{context}»{phrase}«: use {instead:?}");
        }
    }
}

/// The index of the first byte of the character that contains this byte.
fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

fn run(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Paths of the app's pages.
fn pages_of_the_app(server: &Server) -> Vec<String> {
    let (_, list) = get(server.app, "/fixes");
    let links = list.split("href=\"/fixes/").skip(1);
    let mut fixes: Vec<_> =
        links.map(|rest| format!("/fixes/{}", rest.split(['"', '?', '#', '/']).next().unwrap())).collect();
    fixes.sort();
    fixes.dedup();
    assert!(fixes.len() >= 13, "{fixes:?}");
    [vec!["/".into(), "/?tab=3".into(), "/?tab=3&view=tile".into(), "/fixes".into()], fixes].concat()
}

/// Paths of the control server's pages.
fn pages_of_the_control_server() -> Vec<String> {
    let steps = (1..=7).map(|step| format!("/wall?tour=1&step={step}"));
    let walls = ["/", "/wall", "/wall?start=no", "/wall?beside=push"].map(str::to_owned);
    walls.into_iter().chain(steps).collect()
}

/// Checks each page as it is sent. The source of a page includes the text that it shows without scripts and every
/// text that its scripts may show.
#[test]
fn no_page_of_either_server_has_a_retired_phrase() {
    let server = Server::start(&[]);
    let app = pages_of_the_app(&server).into_iter().map(|path| (server.app, path));
    let control = pages_of_the_control_server().into_iter().map(|path| (server.control, path));
    for (address, path) in app.chain(control) {
        let (status, page) = get(address, &path);
        assert_eq!(status, 200, "{path}");
        assert_no_retired_phrase(&path, &page);
        if address == server.control {
            let entry = |word: &str| page.contains(&format!("<span>{word}"));
            let explained =
                [words::HELD, words::CLIENT_GONE, words::WAITING, words::WRITE_FAILED, words::REAPED];
            assert!(explained.into_iter().all(entry), "an entry is missing from the legend of {path}");
        }
    }
}

#[test]
fn no_page_is_larger_than_100_kilobytes() {
    let server = Server::start(&[]);
    for (address, path) in pages_of_the_app(&server)
        .into_iter()
        .map(|path| (server.app, path))
        .chain(pages_of_the_control_server().into_iter().map(|path| (server.control, path)))
    {
        let (_, page) = get(address, &path);
        // The style sheets and scripts that a page names are files of the same server, and count as well.
        let files = page.split(['"', '\'']).filter(|text| {
            text.starts_with('/') && !text.contains('{') && (text.ends_with(".js") || text.ends_with(".css"))
        });
        let weight = page.len() + files.map(|path| get(address, path).1.len()).sum::<usize>();
        assert!(weight < 100_000, "{path} has {weight} bytes");
    }
    // A step of the tour is loaded when it is opened.
    for step in 1..=7 {
        let (status, script) = get(server.control, &format!("/tour/{step}.js"));
        assert!(status == 200 && script.contains("STEPS["), "{step}: {script}");
        assert!(script.len() < 4_000, "step {step} has {} bytes", script.len());
    }
}

fn shown(browser: &Browser, tab: &Tab) -> String {
    let text = browser.eval(tab, "document.title + ' ' + document.body.innerText");
    let labels = browser.eval(
        tab,
        "[...document.querySelectorAll('[aria-label], [title]')].map(it => it.ariaLabel + ' ' + it.title).join(' ')",
    );
    format!("{} {}", text.as_str().unwrap(), labels.as_str().unwrap())
}

#[test]
fn no_screen_of_the_wall_the_dashboard_or_the_tour_has_a_retired_phrase() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "300ms", "--retry", "1"]);
    let tab = browser.first_tab();
    let look = |state: &str| assert_no_retired_phrase(state, &shown(&browser, &tab));
    let open = |path: &str| {
        browser.goto(&tab, &format!("http://{}{path}", server.control));
        browser.wait_for(&tab, "document.body.dataset.connection === 'live' && feed.state !== null");
    };
    let states = |count: usize| {
        browser.wait_for(
            &tab,
            &format!("document.querySelectorAll('.tab[data-state=\"streaming\"]').length === {count}"),
        );
    };
    open("/wall?start=no");
    look("an empty wall");
    open("/wall");
    browser
        .wait_for(&tab, "document.querySelector('[data-tab=\"9\"]').dataset.state === 'waiting-for-thread'");
    look("nine tabs");
    browser.run(&tab, "wall.tabs[2].close()");
    look("one tab closed");
    states(8);
    look("the closed tab's thread freed");
    browser.run(&tab, "wall.begin(9, 'one')");
    states(6);
    look("one host");
    assert_eq!(json(server.control, "POST", "/max-stream-age?secs=1").0, 200);
    browser.wait_for(&tab, "wall.tabs.some(tab => ['reaped', 'reconnecting'].includes(tab.state))");
    look("a maximum age");
    assert_eq!(json(server.control, "POST", "/lab/reset").0, 200);

    for step in 1..=7 {
        open(&format!("/wall?tour=1&step={step}"));
        browser.wait_for(&tab, "document.getElementById('guesses').children.length > 1");
        look(&format!("step {step} of the tour"));
    }

    open("/");
    for (path, state) in [
        ("/lab/tabs/open", "a tab"),
        ("/lab/zombies?count=8", "zombies"),
        ("/lab/page", "a page that waits"),
        ("/reap", "reaped"),
        ("/lab/tabs/close?tab=1", "a closed tab"),
    ] {
        assert_eq!(json(server.control, "POST", path).0, 200, "{path}");
        let seq = server_seq(&server);
        browser.wait_for(&tab, &format!("feed.seq >= {seq}"));
        look(state);
    }
    browser.click(&tab, "#as-table");
    browser.click(&tab, "#explain");
    look("tables and explanations");
}

/// The number of the newest event.
fn server_seq(server: &Server) -> u64 {
    let (_, timeline) = json(server.control, "GET", "/timeline?after=0");
    timeline["moments"].as_array().unwrap().last().map_or(0, |moment| moment["seq"].as_u64().unwrap())
}

#[test]
fn no_help_text_has_a_retired_phrase() {
    let mut commands = vec![String::new()];
    for command in Arguments::command().get_subcommands() {
        commands.push(command.get_name().to_owned());
        commands
            .extend(command.get_subcommands().map(|it| format!("{} {}", command.get_name(), it.get_name())));
    }
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        for flag in ["-h", "--help"] {
            let typed: Vec<&str> = command.split_whitespace().chain([flag]).collect();
            let help = run(&typed);
            assert!(help.contains("Usage"), "{typed:?}: {help}");
            assert_no_retired_phrase(&format!("{typed:?}"), &help);
        }
    }
}

#[test]
fn no_screen_of_the_terminal_and_no_report_has_a_retired_phrase() {
    let folder = tempfile::tempdir().unwrap();
    let report = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (run_report, compare_report) = (report("run.html"), report("compare.html"));
    let told = run(&["reproduce", "1", "2", "4", "5", "--fast", "--report", &run_report]);
    assert!(told.contains("claims held in"), "{told}");
    assert_no_retired_phrase("reproduce", &told);
    assert_no_retired_phrase("its report", &fs::read_to_string(run_report).unwrap());
    let told = run(&["compare", "--fast", "--only", "naive,push", "--report", &compare_report]);
    assert!(told.contains("Summary: "), "{told}");
    assert_no_retired_phrase("compare", &told);
    assert_no_retired_phrase("its report", &fs::read_to_string(compare_report).unwrap());

    let server = Server::start(&["--update-rate", "300ms"]);
    for path in ["/lab/tabs/open", "/lab/zombies?count=8", "/lab/page"] {
        assert_eq!(json(server.control, "POST", path).0, 200, "{path}");
    }
    wait_for("a queue", || (server.stats()["backlog"].as_u64() > Some(0)).then_some(()));
    assert_eq!(json(server.control, "POST", "/reap").0, 200);
    let screen = run(&["top", "--once", "--control-url", &format!("tcp://{}", server.control)]);
    assert!(screen.contains("threads held"), "{screen}");
    assert_no_retired_phrase("top", &screen);
    assert_no_retired_phrase("the log", &server.log());
}

#[test]
fn no_document_has_a_retired_phrase() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|it| it == "md"));
    for path in docs.chain([root.join("README.md")]) {
        assert_no_retired_phrase(&path.display().to_string(), &fs::read_to_string(&path).unwrap());
    }
}
