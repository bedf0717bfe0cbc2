//! `leave`: a page that the user leaves does not leave a stream behind, whichever library swaps the pages.

use crate::common::chromedriver::{Browser, Tab};
use crate::common::{Server, create, npm};

const STREAMS: &str = "document.getElementById('stream-state').textContent === 'streams'";
/// How many pages are visited, one after the other.
const VISITS: usize = 20;

/// A library that swaps pages: where it is fetched from, and the script that makes it visit a page.
struct Swapper {
    package: &'static str,
    file: &'static str,
    visit: &'static str,
    /// Whether the library runs the scripts of a page from its cache with their nonce.
    knows_nonces: bool,
}

const TURBO: Swapper = Swapper {
    package: "@hotwired/turbo@8.0.23",
    file: "dist/turbo.es2017-umd.js",
    visit: "Turbo.visit",
    knows_nonces: true,
};
const TURBOLINKS: Swapper = Swapper {
    package: "turbolinks@5.2.0",
    file: "dist/turbolinks.js",
    visit: "Turbolinks.visit",
    knows_nonces: false,
};

fn server() -> Server {
    Server::start(&["--update-rate", "50ms", "--threads", "32:32"])
}

/// Opens the first page and loads the library in it. Returns false if the library cannot be fetched.
fn open(browser: &Browser, tab: &Tab, server: &Server, swapper: &Swapper, query: &str) -> bool {
    let Some(source) = npm::fetch(swapper.package, swapper.file) else { return false };
    let anything_runs = serde_json::json!({ "enabled": !swapper.knows_nonces });
    browser.devtools(tab, "Page.setBypassCSP", &anything_runs);
    browser.goto(tab, &server.url(&format!("/fixes/leave{query}")));
    browser.wait_for(tab, STREAMS);
    browser.run(
        tab,
        &format!(
            "(function() {{ {source} }}).call(window);
             if (window.Turbolinks && !Turbolinks.controller.started) {{ Turbolinks.start(); }}
             window.stays = true;"
        ),
    );
    true
}

fn go(browser: &Browser, tab: &Tab, how: &str, to: &str) {
    browser.run(tab, how);
    // The address changes before the body does, and the address of the first page is a prefix of all others.
    browser.wait_for(
        tab,
        &format!(
            "location.pathname === '{to}' && document.querySelector('.ways [aria-current]').getAttribute('href').split('?')[0] === '{to}'"
        ),
    );
}

#[test]
fn twenty_visits_and_going_back_and_forward_leave_no_stream_behind() {
    let Some(browser) = Browser::start() else { return };
    let home = browser.first_tab();
    for swapper in [TURBO, TURBOLINKS] {
        browser.goto(&home, "about:blank");
        let server = server();
        let tab = browser.new_tab();
        if !open(&browser, &tab, &server, &swapper, "") {
            return;
        }
        let mut pages = vec!["/fixes/leave".to_owned()];
        let mut at = 0;
        for visit in 1..=VISITS {
            match visit % 5 {
                3 => {
                    at -= 1;
                    go(&browser, &tab, "history.back()", &pages[at]);
                }
                4 => {
                    at += 1;
                    go(&browser, &tab, "history.forward()", &pages[at]);
                }
                _ => {
                    let next = format!("/fixes/leave/{}", visit % 3 + 1);
                    let next = if next == pages[at] { "/fixes/leave".to_owned() } else { next };
                    go(&browser, &tab, &format!("{}('{next}')", swapper.visit), &next);
                    pages.truncate(at + 1);
                    pages.push(next);
                    at += 1;
                }
            }
            browser.wait_for(&tab, STREAMS);
        }
        assert_eq!(browser.eval(&tab, "stays"), true, "the window was reloaded");
        server.wait_for_stats("one stream", |stats| stats["streams"]["open"] == 1);
        assert!(server.stats()["streams"]["opened"].as_u64() > Some(VISITS as u64));
        assert_eq!(create(server.app, "seen").0, 201);
        browser.wait_for(&tab, "document.getElementById('models').textContent.includes('seen')");
        browser.close_tab(tab);
        server.wait_for_stats("no stream", |stats| stats["streams"]["open"] == 0);
    }
}

#[test]
fn a_page_first_shown_as_a_preview_has_one_stream_after_the_browsers_cache() {
    let Some(browser) = Browser::with_page_cache() else { return };
    let server = server();
    let tab = browser.first_tab();
    // With this query, the page also handles `visibilitychange` events.
    if !open(&browser, &tab, &server, &TURBO, "?hidden=close") {
        return;
    }
    for page in ["/fixes/leave/1", "/fixes/leave/2", "/fixes/leave/1", "/fixes/leave/2"] {
        go(&browser, &tab, &format!("Turbo.visit('{page}?hidden=close')"), page);
        browser.wait_for(&tab, STREAMS);
    }
    for _ in 0..2 {
        browser.goto(&tab, &server.url("/up"));
        server.wait_for_stats("no stream", |stats| stats["streams"]["open"] == 0);
        // The stream ends before the browser has the new entry in its history.
        browser.wait_for(&tab, "location.pathname === '/up'");
        browser.back(&tab);
        browser.wait_for(&tab, "location.pathname === '/fixes/leave/2'");
        assert_eq!(browser.eval(&tab, "window.stays"), true, "the page was not restored from the cache");
        browser.wait_for(&tab, STREAMS);
        server.wait_for_stats("one stream", |stats| stats["streams"]["open"] == 1);
        let opened = server.stats()["streams"]["opened"].clone();
        std::thread::sleep(std::time::Duration::from_millis(500));
        let stats = server.stats();
        assert_eq!((&stats["streams"]["open"], &stats["streams"]["opened"]), (&1.into(), &opened));
    }
}

#[test]
fn without_the_listener_each_page_leaves_its_stream_behind() {
    let Some(browser) = Browser::start() else { return };
    let home = browser.first_tab();
    for swapper in [TURBO, TURBOLINKS] {
        browser.goto(&home, "about:blank");
        let server = server();
        let tab = browser.new_tab();
        if !open(&browser, &tab, &server, &swapper, "?listener=off") {
            return;
        }
        // With six streams, the browser has no connection left for a page.
        for visit in 1..=4 {
            let next = format!("/fixes/leave/{}", visit % 3 + 1);
            go(&browser, &tab, &format!("{}('{next}?listener=off')", swapper.visit), &next);
            browser.wait_for(&tab, STREAMS);
        }
        server.wait_for_stats("five streams", |stats| stats["streams"]["open"] == 5);
        browser.close_tab(tab);
    }
}

#[test]
fn a_page_from_the_browsers_cache_streams_again() {
    let Some(browser) = Browser::with_page_cache() else { return };
    let server = server();
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes/leave"));
    browser.wait_for(&tab, STREAMS);
    browser.run(&tab, "window.stays = true");
    browser.click(&tab, "a[href='/fixes/leave/2']");
    browser.wait_for(&tab, "location.pathname === '/fixes/leave/2'");
    browser.wait_for(&tab, STREAMS);
    server.wait_for_stats("one stream", |stats| stats["streams"]["open"] == 1);
    browser.back(&tab);
    browser.wait_for(&tab, "location.pathname === '/fixes/leave'");
    assert_eq!(browser.eval(&tab, "window.stays"), true, "the page was not restored from the cache");
    browser.wait_for(&tab, STREAMS);
    assert_eq!(create(server.app, "seen").0, 201);
    browser.wait_for(&tab, "document.getElementById('models').textContent.includes('seen')");
    server.wait_for_stats("one stream", |stats| stats["streams"]["open"] == 1);
}

#[test]
fn a_hidden_tab_can_close_its_stream() {
    let Some(browser) = Browser::start() else { return };
    let server = server();
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/fixes/leave?hidden=close"));
    browser.wait_for(&tab, STREAMS);
    let turn = |hidden: bool| {
        let script = format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});
             document.dispatchEvent(new Event('visibilitychange'))"
        );
        browser.run(&tab, &script);
    };
    for _ in 0..3 {
        turn(true);
        browser.wait_for(&tab, "document.getElementById('stream-state').textContent === 'closed'");
        server.wait_for_stats("no stream", |stats| stats["streams"]["open"] == 0);
        turn(false);
        browser.wait_for(&tab, STREAMS);
    }
    browser.click(&tab, "a[href='/fixes/leave/1?hidden=close']");
    browser.wait_for(&tab, STREAMS);
    server.wait_for_stats("one stream", |stats| stats["streams"]["open"] == 1);
}
