//! The tour on the wall: its steps run against a real server, in the real Chromium.

use std::ops::RangeInclusive;

use crate::common::chromedriver::{Browser, Tab};
use crate::common::{Server, json};
use crate::wall::{assert_quiet, open, server, text, wait_long};
use serde_json::json as object;

/// Opens the wall with the tour beside one frame.
fn open_tour(browser: &Browser, server: &Server) -> Tab {
    let wall = open(browser, server, "?tabs=1");
    start_tour(browser, &wall);
    wall
}

/// Clicks on the button that loads the page with the tour.
pub fn start_tour(browser: &Browser, wall: &Tab) {
    browser.run(wall, "window.isOld = true");
    browser.click(wall, "#tour-toggle");
    browser.wait_for(
        wall,
        "typeof isOld === 'undefined' && document.body.dataset.connection === 'live' && feed.state !== null && !tour.place.hidden",
    );
}

/// Clicks on a step, and runs it.
pub fn begin_step(browser: &Browser, wall: &Tab, number: usize) {
    browser.click(wall, &format!("#steps li:nth-child({number}) button"));
    browser.wait_for(wall, &format!("document.getElementById('tour').dataset.step === '{number}'"));
    browser.wait_for(wall, "document.getElementById('do').ariaDisabled === 'false'");
    browser.click(wall, "#do");
}

pub fn wait_until_as_expected(browser: &Browser, wall: &Tab, number: usize) {
    wait_long(
        browser,
        wall,
        "['held', 'not-held'].includes(document.getElementById('tour').dataset.verdict)",
    );
    let verdict = browser.eval(wall, "document.getElementById('tour').dataset.verdict");
    let tour = browser.eval(wall, "document.getElementById('tour').innerText");
    assert_eq!(verdict, "held", "step {number}: {tour}");
    let findings = browser.eval(wall, "document.querySelectorAll('#findings [data-held=\"true\"]').length");
    assert!(findings.as_u64() > Some(1), "step {number}: {tour}");
}

/// The server for the steps of the tour. Three tests run a part of the steps each, so that the parts run in parallel.
fn tour_server() -> Server {
    server(&["--update-rate", "1", "--retry", "500ms", "--produce-every", "1"])
}

fn run_steps(browser: &Browser, wall: &Tab, numbers: RangeInclusive<usize>) {
    for number in numbers {
        begin_step(browser, wall, number);
        wait_until_as_expected(browser, wall, number);
        assert_eq!(text(browser, wall, "verdict"), "As expected ✓");
    }
}

#[test]
fn the_first_four_steps_of_the_tour_go_as_expected() {
    let Some(browser) = Browser::start() else { return };
    let server = tour_server();
    let wall = open_tour(&browser, &server);
    run_steps(&browser, &wall, 1..=4);
    assert_quiet(&browser, &wall);
}

#[test]
fn the_fourth_to_sixth_steps_of_the_tour_go_as_expected() {
    let Some(browser) = Browser::start() else { return };
    let server = tour_server();
    let wall = open_tour(&browser, &server);
    // The parts overlap, so every step is also run after its predecessor.
    run_steps(&browser, &wall, 4..=6);
    assert_eq!(server.stats()["database"]["size"], 5, "step 6 must have made the pool smaller");
    assert_quiet(&browser, &wall);
}

#[test]
fn the_last_step_of_the_tour_goes_as_expected_and_a_reset_restores_the_server() {
    let Some(browser) = Browser::start() else { return };
    let server = tour_server();
    let size = server.stats()["database"]["size"].clone();
    let wall = open_tour(&browser, &server);
    browser.run(
        &wall,
        "window.choose = (field, value) => {
           field.value = value;
           field.dispatchEvent(new Event('change', { bubbles: true }));
         }",
    );
    run_steps(&browser, &wall, 6..=6);
    assert_eq!(server.stats()["database"]["size"], 5, "step 6 must have made the pool smaller");

    // The last step needs a separate browser tab.
    begin_step(&browser, &wall, 7);
    let doing = |words: &str| format!("document.getElementById('doing').textContent.startsWith('{words}')");
    wait_long(&browser, &wall, &doing("Open the page"));
    let own = browser.new_tab();
    browser.goto(&own, browser.eval(&wall, "document.querySelector('#by-hand a').href").as_str().unwrap());
    wait_long(&browser, &wall, &doing("In that tab, change"));
    browser.goto(&own, &format!("http://localhost:{}/?tab=22", server.app.port()));
    wait_until_as_expected(&browser, &wall, 7);
    browser.close_tab(own);

    browser.run(&wall, "choose(document.querySelector('#threads select'), '3')");
    server.wait_for_stats("three threads", |stats| stats["max_threads"] == 3);
    browser.click(&wall, "#age-on");
    browser.wait_for(&wall, "feed.state.max_stream_age_s !== null");
    browser.run(&wall, "choose(document.getElementById('age').elements.secs, '5')");
    browser.wait_for(&wall, "feed.state.max_stream_age_s === 5");
    browser.click(&wall, "#open-all");
    browser.wait_for(&wall, "document.querySelectorAll('iframe').length > 1");
    browser.click(&wall, "#reset");
    let stats = server.wait_for_stats("eight threads, all idle", |stats| {
        stats["max_threads"] == 8 && stats["busy_threads"] == 0 && stats["streams"]["open"] == 0
    });
    assert_eq!(stats["pool_capacity"], 8);
    assert_eq!(stats["database"]["size"], size, "the reset must restore the database pool");
    browser.wait_for(&wall, "feed.state.max_stream_age_s === null");
    assert_eq!(browser.eval(&wall, "document.querySelectorAll('iframe').length"), 0);
    let lab = json(server.control, "GET", "/lab").1;
    assert_eq!(lab, object!({ "tabs": [], "zombies": [], "pages": [] }));
    assert_quiet(&browser, &wall);
}

#[test]
fn the_step_about_the_database_pool_works_if_the_pool_is_small_from_the_start() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--update-rate", "500ms", "--db-pool", "5", "--db-checkout-timeout", "1"]);
    let wall = open_tour(&browser, &server);
    begin_step(&browser, &wall, 6);
    wait_until_as_expected(&browser, &wall, 6);
    assert_quiet(&browser, &wall);
}

#[test]
fn a_step_that_does_not_go_as_expected_is_reported_and_a_step_can_be_stopped() {
    let Some(browser) = Browser::start() else { return };
    // With poll, a close is noticed immediately instead of at the second write, so step 2 cannot go as expected.
    let server = server(&["--update-rate", "1", "--notice-close", "poll", "--threads", "2:2"]);
    let wall = open_tour(&browser, &server);
    begin_step(&browser, &wall, 1);
    browser.click(&wall, "#stop");
    browser.wait_for(&wall, "document.getElementById('verdict').textContent === 'Stopped.'");
    begin_step(&browser, &wall, 3);
    wait_until_as_expected(&browser, &wall, 3);
    begin_step(&browser, &wall, 2);
    wait_long(&browser, &wall, "document.getElementById('tour').dataset.verdict === 'not-held'");
    assert!(text(&browser, &wall, "verdict").starts_with("Not as expected ✗ ("));
    let found = text(&browser, &wall, "findings");
    assert!(
        found.contains("the write that failed after the close: ") && found.contains("(expected: 2)"),
        "{found}"
    );
    // Seven tabs waited for two threads, and any of them may stream next.
    assert!(found.contains("waited before and streams now: tab "), "{found}");
}

#[test]
fn a_step_is_loaded_when_it_is_opened_and_a_failure_to_load_it_is_reported() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let wall = open(&browser, &server, "?tour=1&step=2");
    let loaded = || {
        let names = browser.eval(
            &wall,
            "performance.getEntriesByType('resource').map(it => new URL(it.name).pathname).filter(it => it.startsWith('/tour/')).join()",
        );
        names.as_str().unwrap_or_default().to_owned()
    };
    let title = |words: &str| {
        browser.wait_for(
            &wall,
            &format!("document.getElementById('step-title').textContent.startsWith('{words}')"),
        );
    };
    title("2. Tab 3 closes");
    assert_eq!(loaded(), "", "the page must contain the step named in its address");
    browser.click(&wall, "#next");
    title("3. One host");
    browser.click(&wall, "#back");
    title("2. Tab 3 closes");
    browser.click(&wall, "#next");
    title("3. One host");
    assert_eq!(loaded(), "/tour/3.js", "step 3 must be loaded only once");
    assert_quiet(&browser, &wall);

    drop(server);
    browser.wait_for(&wall, "document.body.dataset.connection === 'lost'");
    browser.click(&wall, "#steps li:nth-child(5) button");
    browser.wait_for(
        &wall,
        "document.getElementById('needs').textContent.startsWith('This step cannot be loaded')",
    );
    assert_eq!(browser.eval(&wall, "document.getElementById('do').ariaDisabled"), "true");
}
