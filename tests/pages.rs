//! The app's page is accessible, fits into a frame, says only what it knows, and requests nothing but itself and
//! its stream. The palette of all pages has enough contrast.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::common::axe::Axe;
use crate::common::chromedriver::{Browser, Tab};
use crate::common::{Server, ask, create, get, json, send, wait_for};
use serde_json::json as object;

const STREAMS: &str = "document.body.dataset.state === 'streaming'";

/// How many pixels of the page are beyond its right edge.
const OVERFLOW: &str = "document.documentElement.scrollWidth - document.documentElement.clientWidth";

/// A server whose page has something to show.
fn server(flags: &[&str]) -> Server {
    let server = Server::start(&[flags, &["--update-rate", "100ms"]].concat());
    for name in ["first", "second"] {
        assert_eq!(create(server.app, name).0, 201);
    }
    server
}

fn open(browser: &Browser, url: &str) -> Tab {
    let tab = browser.first_tab();
    browser.goto(&tab, url);
    browser.wait_for(&tab, STREAMS);
    tab
}

fn tab_url(server: &Server, tab: u32) -> String {
    format!("http://tab{tab}.localhost:{}/?tab={tab}", server.app.port())
}

fn text(browser: &Browser, tab: &Tab, id: &str) -> String {
    let text = browser.eval(tab, &format!("document.getElementById('{id}').textContent"));
    text.as_str().unwrap_or_default().to_owned()
}

/// Types a name of this many letters, and sends the form as its button does.
fn submit(browser: &Browser, tab: &Tab, name: &str) {
    let name = object!(name);
    browser.run(
        tab,
        &format!(
            "document.getElementById('name').value = {name};
             document.getElementById('create').requestSubmit()"
        ),
    );
}

fn wait_for_text(browser: &Browser, tab: &Tab, id: &str, words: &str) {
    browser.wait_for(tab, &format!("document.getElementById('{id}').textContent.includes('{words}')"));
}

#[test]
fn axe_finds_nothing_serious_on_the_page_in_light_and_dark() {
    let Some(browser) = Browser::start() else { return };
    let Some(axe) = Axe::fetch() else { return };
    let server = server(&["--retry", "600"]);
    let tab = open(&browser, &tab_url(&server, 1));
    in_each_state(&browser, &tab, &server, |state| {
        for scheme in ["light", "dark"] {
            browser.prefer(&tab, scheme);
            assert_eq!(axe.serious(&browser, &tab), [""; 0], "{state}, {scheme}");
        }
    });
}

/// Shows every state of a page that streams. The `retry:` of its server must be long enough.
fn in_each_state(browser: &Browser, tab: &Tab, server: &Server, mut look: impl FnMut(&str)) {
    look("streaming");
    submit(browser, tab, &"x".repeat(16 * 1024 + 1));
    wait_for_text(browser, tab, "note", "longer than");
    look("streaming, with an error");
    assert_eq!(json(server.control, "POST", "/reap").0, 200);
    browser.wait_for(tab, "document.body.dataset.state === 'reconnecting'");
    look("reconnecting");
    browser.click(tab, "#toggle");
    browser.wait_for(tab, "document.body.dataset.state === 'closed'");
    assert_eq!(text(browser, tab, "detail"), "by this page", "it held no thread");
    look("closed");
    browser.run(tab, "document.documentElement.dataset.framed = ''");
    look("in a frame");
}

#[test]
fn a_tab_is_two_requests_and_none_leaves_the_server() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let before = server.stats()["requests_count"].as_u64().unwrap();
    let tab = open(&browser, &tab_url(&server, 2));
    submit(&browser, &tab, "third");
    browser.wait_for(&tab, "document.querySelectorAll('#models tr.new').length === 1");

    let asked = server.stats()["requests_count"].as_u64().unwrap() - before;
    assert_eq!(asked, 3, "the page, its stream, and the form");
    let elsewhere = browser.eval(
        &tab,
        "performance.getEntriesByType('resource').filter(it => new URL(it.name).origin !== location.origin).length",
    );
    assert_eq!(elsewhere, 0);
    assert_eq!(browser.console(&tab), [""; 0], "no error, and nothing that the policy refused");
}

#[test]
fn the_page_is_small_however_many_models_are_kept() {
    let server = Server::start(&[]);
    for n in 1..=1000 {
        assert_eq!(create(server.app, &format!("model {n}")).0, 201);
    }
    let (_, page) = get(server.app, "/");
    assert_eq!(page.matches("<tr><td>").count(), 100, "the newest");
    assert!(page.contains("href=\"/?before=901"), "a link to the older ones: {page}");
    assert!(page.len() < 100_000, "{} bytes", page.len());
}

#[test]
fn every_page_has_a_policy_and_a_nonce_of_its_own() {
    let server = Server::start(&["--allow-host", "example.com,.test"]);
    let page = |_| {
        let answer = ask(server.app, "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n");
        let field = |name: &str| {
            let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
        };
        assert_eq!(field("x-content-type-options"), "nosniff");
        assert_eq!(field("referrer-policy"), "same-origin");
        assert_eq!(field("cache-control"), "no-cache, private");
        let policy = field("content-security-policy");
        let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        assert_eq!(
            policy,
            format!(
                "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
                 img-src data:; form-action 'self'; base-uri 'none'; frame-src 'none'; frame-ancestors \
                 http://127.0.0.1:* http://localhost:* http://*.localhost:* http://example.com:* http://*.test:*"
            )
        );
        for element in ["<style", "<script"] {
            let with_nonce = format!("{element} nonce=\"{nonce}\">");
            assert_eq!(answer.matches(element).count(), answer.matches(&with_nonce).count());
        }
        assert!(!answer.contains("style=") && !answer.contains("onclick="));
        nonce
    };
    let nonces: std::collections::BTreeSet<String> = (0..20).map(page).collect();
    assert_eq!(nonces.len(), 20);
    let up = ask(server.app, "GET /up HTTP/1.0\r\n\r\n");
    assert!(up.contains("\r\ncontent-security-policy: default-src 'none'\r\n"), "{up}");
}

/// A page of another origin, with this header line and the app's page in a frame.
fn page_with_a_frame(src: String, header: &'static str) -> String {
    page_with_a_frame_of(200, src, header)
}

/// The same, with a frame of this height in pixels.
fn page_with_a_frame_of(height: u16, src: String, header: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let page = format!("<!doctype html><iframe width=250 height={height} src='{src}'></iframe>");
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n";
            let _ = write!(stream, "{head}{header}content-length: {}\r\n\r\n{page}", page.len());
        }
    });
    url
}

#[test]
fn a_frame_of_a_local_page_shows_the_state_and_the_models() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--produce-every", "200ms"]);
    let tab = browser.first_tab();
    browser.goto(&tab, &page_with_a_frame(tab_url(&server, 3), ""));
    server.wait_for_stats("stream", |stats| stats["streams"]["open"] == 1);
    let eval = |expression: &str| browser.eval_in_frame(&tab, expression);
    wait_for("models", || {
        let all = eval(&format!("{STREAMS} && document.querySelectorAll('#models tr').length > 8"));
        (all == true).then_some(())
    });
    for what in ["#state", "#detail", "#models tr:nth-child(1)", "#models tr:nth-child(3)", "#name"] {
        let at_its_middle = format!(
            "(box => document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2))
               (document.querySelector('{what}').getBoundingClientRect())"
        );
        assert_eq!(eval(&format!("{at_its_middle}.closest('{what}') !== null")), true, "{what}");
    }
    assert_eq!(eval("innerWidth"), 250);
    assert_eq!(eval(OVERFLOW), 0);
}

#[test]
fn a_tile_shows_only_the_newest_row() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--produce-every", "200ms"]);
    let tab = browser.first_tab();
    browser.goto(&tab, &page_with_a_frame_of(60, format!("{}&view=tile", tab_url(&server, 3)), ""));
    let eval = |expression: &str| browser.eval_in_frame(&tab, expression);
    wait_for("rows", || {
        let all = eval(&format!("{STREAMS} && document.querySelectorAll('#models tr').length > 3"));
        (all == true).then_some(())
    });
    let seen =
        "[...document.querySelectorAll('tr, header, form, h2, nav')].filter(it => it.offsetHeight > 0)";
    assert_eq!(eval(&format!("{seen}.length")), 1);
    assert_eq!(eval(&format!("{seen}[0] === document.querySelector('#models tr')")), true);
    assert_eq!(eval("document.querySelector('#models tr').offsetHeight < 40"), true);
    assert_eq!(eval(OVERFLOW), 0);
}

#[test]
fn a_frame_of_a_page_that_is_not_local_is_empty() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let tab = browser.first_tab();
    // A sandboxed page has an opaque origin.
    let sandbox = "content-security-policy: sandbox allow-scripts\r\n";
    browser.goto(&tab, &page_with_a_frame(tab_url(&server, 3), sandbox));
    server.wait_for_stats("request", |stats| stats["requests_count"].as_u64() > Some(2));
    wait_for("the browser's own page in its place", || {
        let shown = browser.eval_in_frame(&tab, "location.protocol");
        (shown == "chrome-error:").then_some(())
    });
    assert_eq!(server.stats()["streams"]["opened"], 0);
}

#[test]
fn a_new_row_can_be_read_from_its_first_moment_on() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--retry", "600"]);
    let tab = open(&browser, &tab_url(&server, 4));
    browser.wait_for(&tab, STREAMS);
    create(server.app, "new");
    browser.wait_for(&tab, "document.querySelector('tr.new td') !== null");
    for scheme in ["light", "dark"] {
        browser.prefer(&tab, scheme);
        // Calculates the colors as they are painted: each layer over the one below.
        let contrast = browser.eval(
            &tab,
            "(() => {
               const row = document.querySelector('tr.new');
               row.getAnimations().forEach(it => { it.pause(); it.currentTime = 0; });
               if (!row.getAnimations().length) return 0;
               const ink = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
               const painted = (...layers) => {
                 layers.forEach(color => { ink.fillStyle = color; ink.fillRect(0, 0, 1, 1); });
                 const [r, g, b] = [...ink.getImageData(0, 0, 1, 1).data].map(it => it / 255).map(it => it <= .03928 ? it / 12.92 : ((it + .055) / 1.055) ** 2.4);
                 return .2126 * r + .7152 * g + .0722 * b + .05;
               };
               const table = getComputedStyle(row.closest('table')).backgroundColor;
               const below = painted(table, getComputedStyle(row).backgroundColor);
               const texts = [...row.cells].map(cell => painted(getComputedStyle(cell).color));
               return Math.min(...texts.map(text => Math.max(text, below) / Math.min(text, below)));
             })()",
        );
        assert!(contrast.as_f64() >= Some(4.5), "{scheme}: {contrast}");
    }
}

#[test]
fn nothing_overflows_in_a_narrow_window() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--retry", "600"]);
    create(server.app, &"unbroken".repeat(100));
    let tab = open(&browser, &tab_url(&server, 4));
    in_each_state(&browser, &tab, &server, |state| {
        for width in [250, 280, 390, 700, 1280] {
            browser.devtools(
                &tab,
                "Emulation.setDeviceMetricsOverride",
                &object!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false }),
            );
            browser.wait_for(&tab, &format!("innerWidth === {width}"));
            assert_eq!(browser.eval(&tab, OVERFLOW), 0, "{state}, {width}");
        }
    });
}

#[test]
fn a_model_from_the_form_arrives_in_all_tabs_and_an_error_stays_in_place() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let tab = open(&browser, &tab_url(&server, 1));
    browser.run(&tab, "window.remembered = true");
    let other = browser.new_tab();
    browser.goto(&other, &tab_url(&server, 2));
    browser.wait_for(&other, STREAMS);

    let too_long = "x".repeat(16 * 1024 + 1);
    submit(&browser, &tab, &too_long);
    wait_for_text(&browser, &tab, "note", "is longer than 16384 bytes (422)");
    assert_eq!(browser.eval(&tab, "document.getElementById('name').value.length"), too_long.len());
    assert_eq!(browser.eval(&tab, "document.getElementById('name').ariaInvalid"), "true");

    submit(&browser, &tab, "made here");
    for tab in [&tab, &other] {
        browser.wait_for(
            tab,
            "document.querySelector('#models tr.new td:nth-child(2)').textContent === 'made here'",
        );
    }
    wait_for_text(&browser, &tab, "note", "Row 3 was created");
    assert_eq!(browser.eval(&tab, "document.getElementById('name').value"), "");
    assert_eq!(browser.eval(&tab, "document.getElementById('name').ariaInvalid"), "false");
    assert_eq!(browser.eval(&tab, "remembered"), true, "the page was loaded anew");
    assert_eq!(server.stats()["streams"]["opened"], 2);
}

#[test]
fn a_form_that_waits_for_a_thread_says_that_it_waits() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--threads", "1"]);
    let tab = open(&browser, &server.url("/"));
    submit(&browser, &tab, "patient");
    wait_for_text(&browser, &tab, "note", "No answer yet");
    wait_for_text(&browser, &tab, "waited", "Waiting for ");
    server.wait_for_stats("queued form", |stats| stats["backlog"] == 1);

    browser.click(&tab, "#toggle");
    assert_eq!(text(&browser, &tab, "detail"), "by this page; its thread is freed once the server notices");
    wait_for_text(&browser, &tab, "note", "Row 3 was created");
    wait_for_text(&browser, &tab, "note", "once it streams again");
    assert_eq!(text(&browser, &tab, "waited"), "");
    browser.click(&tab, "#toggle");
    browser.wait_for(&tab, &format!("{STREAMS} && document.querySelectorAll('#models tr').length === 3"));
}

#[test]
fn the_browser_reconnects_when_the_server_said() {
    let Some(browser) = Browser::start() else { return };
    for (flags, wanted) in [
        (&["--retry", "50"][..], "reconnects in about "),
        (&["--loop", "faithful"], "after a pause of its own"),
    ] {
        let mut server = server(flags);
        let tab = open(&browser, &server.url("/"));
        browser.run(
            &tab,
            "window.told = [];
             new MutationObserver(() => told.push(document.getElementById('detail').textContent))
               .observe(document.getElementById('detail'), { childList: true })",
        );
        server.child.kill().unwrap();
        server.wait_for_exit();
        browser.wait_for(&tab, "document.body.dataset.state === 'reconnecting'");
        browser.wait_for(&tab, &format!("told.some(it => it.includes('{wanted}'))"));
        if flags[0] == "--retry" {
            let first = browser.eval(&tab, "told.find(it => it.startsWith('reconnects'))");
            assert_eq!(first, "reconnects in about 50 s");
            browser.wait_for(&tab, "told.some(it => it.startsWith('reconnects in about 4'))");
        }
    }
}

#[test]
fn a_page_that_waits_says_no_more_than_it_knows() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--threads", "1", "--retry", "2"]);
    let tab = open(&browser, &server.url("/"));
    // Another client is in todo, so that it has the thread when the page reconnects.
    let other = send(server.app, b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.wait_for_stats("queued client", |stats| stats["backlog"] == 1);
    assert_eq!(json(server.control, "POST", "/reap").0, 200);
    wait_for_text(&browser, &tab, "detail", "reconnects now; no answer for ");
    wait_for_text(&browser, &tab, "hint", "the page cannot tell which");
    drop(other);
    browser.wait_for(&tab, STREAMS);
    assert_eq!(text(&browser, &tab, "hint"), "");
}

#[test]
fn the_page_can_be_used_by_keyboard_alone() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let tab = open(&browser, &tab_url(&server, 5));
    let focused = || browser.eval(&tab, "document.activeElement.id || document.activeElement.textContent");
    let press = |keys: &str| browser.press(&tab, keys);
    press("\u{E004}");
    assert_eq!(focused(), "toggle");
    press("\u{E004}");
    assert_eq!(focused(), "name");
    press("typed\u{E007}");
    browser.wait_for(&tab, "document.querySelectorAll('#models tr.new').length === 1");
    assert_eq!(focused(), "name", "the next name can be typed");
    press("\u{E004}");
    assert_eq!(focused(), "Create");
    press("\u{E004}");
    assert_eq!(focused(), "tab 1");
}

/// The values of palette.css by name: light, then dark.
fn palette() -> std::collections::BTreeMap<String, [[f64; 3]; 2]> {
    let css = include_str!("../views/palette.css");
    let value = |hex: &str| {
        let hex = hex.trim().strip_prefix('#').unwrap();
        let channel =
            |at: usize| f64::from(u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()) / 255.0;
        [0, 1, 2].map(channel)
    };
    css.lines()
        .filter_map(|line| line.trim().strip_prefix("--")?.split_once(": light-dark("))
        .map(|(name, values)| {
            let (light, dark) = values.trim_end_matches(");").split_once(',').unwrap();
            (name.to_owned(), [value(light), value(dark)])
        })
        .collect()
}

/// The contrast of two colors, as WCAG 2 defines it.
fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let luminance = |color: [f64; 3]| {
        let [r, g, b] =
            color.map(|it| if it <= 0.03928 { it / 12.92 } else { ((it + 0.055) / 1.055).powf(2.4) });
        0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05
    };
    let (one, other) = (luminance(one), luminance(other));
    one.max(other) / one.min(other)
}

#[test]
fn texts_and_fills_of_the_palette_have_enough_contrast_in_both_modes() {
    let palette = palette();
    let states = ["held", "waiting", "reaped", "error", "answered"];
    assert_eq!(palette.len(), 6 + states.len() * 3 + 3, "{:?}", palette.keys());
    let mut wanted = vec![("held".to_owned(), "line".to_owned(), 3.2)];
    for paper in ["paper", "card"] {
        for text in
            ["ink", "quiet"].map(str::to_owned).into_iter().chain(states.map(|it| format!("{it}-text")))
        {
            wanted.push((text, paper.to_owned(), 4.5));
        }
        for fill in states.into_iter().chain(["edge"]) {
            wanted.push((fill.to_owned(), paper.to_owned(), 3.0));
        }
    }
    wanted.extend(states.map(|it| (format!("on-{it}"), it.to_owned(), 4.5)));
    // A row that has just arrived, and the tile of a tab that waits.
    for text in ["ink", "quiet", "held-text"] {
        wanted.push((text.to_owned(), "held-tint".to_owned(), 4.5));
    }
    for text in ["ink", "quiet", "waiting-text"] {
        wanted.push((text.to_owned(), "waiting-tint".to_owned(), 4.5));
    }
    for (front, back, least) in wanted {
        for (mode, name) in ["light", "dark"].into_iter().enumerate() {
            let ratio = contrast(palette[&front][mode], palette[&back][mode]);
            assert!(ratio >= least, "{front} on {back}, {name}: {ratio:.2}");
        }
    }
}
