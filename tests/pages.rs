//! The app's page is accessible, fits into a frame, states only what it has observed, and requests nothing except
//! itself and its stream. The palette that all pages share has enough contrast, and the app's pages use no other
//! colors.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::common::axe::Axe;
use crate::common::chromedriver::{Browser, Tab};
use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::{Server, ask, create, get, json, send, wait_for};
use serde_json::json as object;

on_each_engine! {
    the_page_stays_small_even_if_many_models_are_kept,
}

const STREAMS: &str = "document.body.dataset.state === 'streaming'";

/// By how many pixels the page is wider than the window.
const OVERFLOW: &str = "document.documentElement.scrollWidth - document.documentElement.clientWidth";

/// A server with two rows for its page to show.
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

/// Types this name and submits the form in the same way as its button.
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
fn axe_finds_nothing_serious_on_the_page_in_any_color_scheme() {
    let Some(browser) = Browser::start() else { return };
    let Some(axe) = Axe::fetch() else { return };
    let server = server(&["--retry", "600"]);
    let tab = open(&browser, &tab_url(&server, 1));
    in_each_state(&browser, &tab, &server, |state| {
        axe.expect_nothing_serious(&browser, &tab, state);
    });
}

/// Puts a streaming page into each of its states and calls `look` in each. The server's `retry:` must be long enough
/// for the page to stay in the state `reconnecting`.
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
    assert_eq!(
        text(browser, tab, "detail"),
        "by this page",
        "the page was reconnecting, so it held no thread"
    );
    look("closed");
    browser.run(tab, "document.documentElement.dataset.framed = ''");
    look("in a frame");
}

#[test]
fn a_tab_makes_two_requests_and_none_to_another_origin() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let before = server.stats()["requests_count"].as_u64().unwrap();
    let tab = open(&browser, &tab_url(&server, 2));
    submit(&browser, &tab, "third");
    browser.wait_for(&tab, "document.querySelectorAll('#models tr.new').length === 1");

    let asked = server.stats()["requests_count"].as_u64().unwrap() - before;
    assert_eq!(asked, 3, "expected the page, its stream, and the form");
    let elsewhere = browser.eval(
        &tab,
        "performance.getEntriesByType('resource').filter(it => new URL(it.name).origin !== location.origin).length",
    );
    assert_eq!(elsewhere, 0);
    assert_eq!(browser.console(&tab), [""; 0], "the console has an error or a policy violation");
}

fn the_page_stays_small_even_if_many_models_are_kept(engine: EngineKind) {
    let server = engine.server(&[]);
    server.other_program().insert(1_000, "a model");
    let (_, page) = get(server.app, "/");
    assert_eq!(page.matches("<tr><td>").count(), 100, "expected only the newest rows");
    assert!(page.contains("href=\"/?before=901"), "no link to the older rows: {page}");
    assert!(page.len() < 100_000, "{} bytes", page.len());
}

#[test]
fn every_response_has_a_policy_with_a_new_nonce() {
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

/// Serves a page of another origin, with this header line and a frame that shows `src`. Returns the page's URL.
fn page_with_a_frame(src: String, header: &'static str) -> String {
    page_with_a_frame_of(200, src, header)
}

/// Like [`page_with_a_frame`], with a frame of this height in pixels.
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
fn a_frame_in_a_local_page_shows_the_state_and_the_models() {
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
fn a_frame_in_a_page_that_is_not_local_is_blocked() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let tab = browser.first_tab();
    // A sandboxed page has an opaque origin.
    let sandbox = "content-security-policy: sandbox allow-scripts\r\n";
    browser.goto(&tab, &page_with_a_frame(tab_url(&server, 3), sandbox));
    server.wait_for_stats("request", |stats| stats["requests_count"].as_u64() > Some(2));
    wait_for("the browser's error page in the frame", || {
        let shown = browser.eval_in_frame(&tab, "location.protocol");
        (shown == "chrome-error:").then_some(())
    });
    assert_eq!(server.stats()["streams"]["opened"], 0);
}

#[test]
fn a_new_row_is_readable_from_the_start_of_its_animation() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--retry", "600"]);
    let tab = open(&browser, &tab_url(&server, 4));
    browser.wait_for(&tab, STREAMS);
    for scheme in ["light", "dark"] {
        browser.prefer_with_motion(&tab, scheme);
        create(server.app, scheme);
        browser
            .wait_for(&tab, &format!("document.querySelector('tr.new').cells[1].textContent === '{scheme}'"));
        // Computes the colors as they are painted, each layer over the one below it.
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
fn a_model_from_the_form_appears_in_all_tabs_and_an_error_keeps_the_input() {
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
    assert_eq!(browser.eval(&tab, "remembered"), true, "the page was reloaded");
    assert_eq!(server.stats()["streams"]["opened"], 2);
}

#[test]
fn a_form_that_waits_for_a_thread_shows_that_it_is_waiting() {
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
fn the_page_shows_when_the_browser_will_reconnect() {
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
fn a_waiting_page_claims_no_more_than_it_knows() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--threads", "1", "--retry", "2"]);
    let tab = open(&browser, &server.url("/"));
    // Another client is queued first, so it holds the thread when the page reconnects.
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
    for link in ["App", "Wall", "Dashboard", "Fixes", "See the threads"] {
        press("\u{E004}");
        assert_eq!(focused(), link);
    }
    press("\u{E004}");
    assert_eq!(focused(), "toggle");
    press("\u{E004}");
    assert_eq!(focused(), "name");
    press("typed\u{E007}");
    browser.wait_for(&tab, "document.querySelectorAll('#models tr.new').length === 1");
    assert_eq!(focused(), "name", "the focus must stay in the field for the next name");
    press("\u{E004}");
    assert_eq!(focused(), "Create");
    press("\u{E004}");
    assert_eq!(focused(), "tab 1");
}

#[test]
fn the_title_and_the_icon_show_the_state_of_the_stream() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--retry", "600"]);
    let icon = "document.querySelector('link[rel=icon]').href";
    let tab = open(&browser, &tab_url(&server, 3));
    browser.wait_for(&tab, "document.title === 'tab 3 · streams'");
    let mut icons = vec![browser.eval(&tab, icon)];
    assert_eq!(json(server.control, "POST", "/reap").0, 200);
    browser.wait_for(&tab, "document.title === 'tab 3 · reconnects'");
    icons.push(browser.eval(&tab, icon));
    browser.click(&tab, "#toggle");
    browser.wait_for(&tab, "document.title === 'tab 3 · closed'");
    icons.push(browser.eval(&tab, icon));
    // The icons have the green, amber and gray of the palette.
    let palette = palette();
    for (icon, token) in icons.iter().zip(["answered", "waiting", "edge"]) {
        let icon = icon.as_str().unwrap();
        let [red, green, blue] = palette[token][0].map(|channel| (channel * 255.0).round());
        let color = format!("fill%3D%22rgb({red}%2C%20{green}%2C%20{blue})%22");
        assert!(icon.starts_with("data:image/svg+xml,") && icon.contains(&color), "{token}: {icon}");
    }
    // The policy allows data: URLs for images only.
    let picture = format!(
        "new Promise(done => {{ const it = new Image(); it.onload = () => done(true); it.onerror = () => done(false); it.src = {icon}; }})"
    );
    browser.run(&tab, &format!("{picture}.then(drawn => {{ window.drawn = drawn }})"));
    browser.wait_for(&tab, "window.drawn === true");
    let severe: Vec<_> =
        browser.console(&tab).into_iter().filter(|line| line.starts_with("SEVERE")).collect();
    assert_eq!(severe, [""; 0], "the console has an error, such as a policy violation");
}

#[test]
fn a_note_does_not_move_what_is_below_it() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--threads", "1", "--retry", "1"]);
    let tab = open(&browser, &tab_url(&server, 1));
    let places = "['#stream', '#create', '.note', '#nine', '#newest', '#models'].map(it => {
        const { left, top, right } = document.querySelector(it).getBoundingClientRect();
        return [left, top + scrollY, right].map(Math.round);
      }).join(' ')";
    for width in [280, 390, 700, 1280] {
        browser.devtools(
            &tab,
            "Emulation.setDeviceMetricsOverride",
            &object!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false }),
        );
        browser.wait_for(&tab, &format!("innerWidth === {width}"));
        browser.wait_for(&tab, &format!("{STREAMS} && document.getElementById('hint').textContent === ''"));
        browser.run(&tab, "note(''); scrollTo(0, 0)");
        let before = browser.eval(&tab, places);
        // The longest notes of the form.
        for words in [
            "No answer: the connection ended. If the row was created, a stream will show it.",
            "Row 123456 was created; the streams deliver it. This tab shows it once it streams again.",
        ] {
            browser.run(&tab, &format!("note('{words}', true)"));
            assert_eq!(browser.eval(&tab, places), before, "{width}: {words}");
            let fits = "(it => it.scrollHeight <= it.clientHeight)(document.querySelector('.note'))";
            assert_eq!(browser.eval(&tab, fits), true, "{width}: {words}");
        }
        browser.run(&tab, "note('')");
        // Another client gets the thread, so the page gets no answer.
        let other = send(server.app, b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
        server.wait_for_stats("queued client", |stats| stats["backlog"].as_u64() >= Some(1));
        assert_eq!(json(server.control, "POST", "/reap").0, 200);
        wait_for_text(&browser, &tab, "hint", "the page cannot tell which");
        assert_eq!(browser.eval(&tab, places), before, "{width}: with the hint");
        drop(other);
    }
}

/// Checks the style sheets of the app's pages, including which colors each property may use.
#[test]
fn the_styles_of_the_app_use_only_colors_of_the_palette() {
    let palette = palette();
    let texts = ["ink", "paper", "quiet", "state-text"];
    let fills = ["paper", "card", "ink", "held", "held-tint", "state", "none", "transparent"];
    let borders = ["line", "edge", "ink", "state", "held", "answered", "error"];
    for (file, css) in [
        ("application.css", include_str!("../views/application.css")),
        ("fixes.css", include_str!("../views/fixes/fixes.css")),
    ] {
        assert!(!css.contains("light-dark("), "{file}");
        for (number, line) in css.lines().enumerate() {
            let place = format!("{file}:{}: {line}", number + 1);
            for word in ["rgb(", "rgba(", "hsl(", "oklch(", "color-mix(", "accent)"] {
                assert!(!line.contains(word), "{place}");
            }
            // In a value, `#` begins a color; elsewhere, it begins a selector. The black of a mask is allowed,
            // because it is never visible.
            let declared = line.split_once('{').map_or(line, |(_, rest)| rest);
            let declared = declared.replace("linear-gradient(to right, #000", "");
            assert!(!declared.contains(": #") && !declared.contains(" #0"), "{place}");
            for name in line.split("var(--").skip(1).map(|rest| rest.split(')').next().unwrap()) {
                assert!(palette.contains_key(name) || name.starts_with("state"), "{place}: {name}");
            }
            for declaration in declared.split(['{', ';', '}']).map(str::trim) {
                let Some((property, value)) = declaration.split_once(": ") else { continue };
                let used: Vec<_> =
                    value.split("var(--").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
                let may: &[&str] = match property {
                    "color" => &texts,
                    "background" => &fills,
                    _ if property.starts_with("border") => &borders,
                    _ => continue,
                };
                let is_text = property == "color" && used.iter().all(|name| name.ends_with("-text"));
                assert!(is_text || used.iter().all(|name| may.contains(name)), "{place}: {property}");
            }
        }
    }
    // Labels and states on every background that these pages use for them.
    for (front, back, least) in [
        ("paper", "ink", 4.5),
        ("answered-text", "card", 4.5),
        ("waiting-text", "card", 4.5),
        ("error-text", "paper", 4.5),
        ("quiet", "held-tint", 4.5),
        ("answered", "card", 3.0),
        ("waiting", "card", 3.0),
        ("edge", "card", 3.0),
        ("held", "card", 3.0),
        ("held", "paper", 3.0),
        ("error", "card", 3.0),
    ] {
        for (mode, name) in ["light", "dark"].into_iter().enumerate() {
            let ratio = contrast(palette[front][mode], palette[back][mode]);
            assert!(ratio >= least, "{front} on {back}, {name}: {ratio:.2}");
        }
    }
}

/// With forced colors, a browser paints a plate in the page's color behind text. This plate used to hide the text of
/// filled buttons.
#[test]
fn filled_buttons_keep_their_colors_if_the_user_forces_colors() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let tab = browser.first_tab();
    browser.prefer(&tab, "forced");
    let control = |path: &str| format!("http://{}{path}", server.control);
    let app = ["/?tab=1", "/fixes/push"].map(|path| server.url(path));
    for url in app.into_iter().chain(["/", "/wall?tour=1", "/wall?beside=leave"].map(control)) {
        browser.goto(&tab, &url);
        browser.wait_for(
            &tab,
            "document.readyState === 'complete' && matchMedia('(forced-colors: active)').matches",
        );
        let styles = browser.eval(
            &tab,
            "[...document.querySelectorAll('.main')].map(it => getComputedStyle(it))
               .map(it => it.forcedColorAdjust === 'none' && it.color !== it.backgroundColor)",
        );
        let styles = styles.as_array().unwrap();
        assert!(!styles.is_empty() && styles.iter().all(|it| *it == true), "{url}: {styles:?}");
    }
}

#[test]
fn links_and_the_focus_ring_have_the_ink_color_and_links_are_underlined() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let tab = browser.first_tab();
    for path in ["/?tab=1", "/fixes", "/fixes/push", "/fixes/reaper"] {
        browser.goto(&tab, &server.url(path));
        browser.wait_for(&tab, "document.readyState === 'complete'");
        for scheme in ["light", "dark"] {
            browser.prefer(&tab, scheme);
            let odd = browser.eval(
                &tab,
                "[...document.links].filter(link => {
                   const { color, textDecorationLine } = getComputedStyle(link);
                   const ink = getComputedStyle(document.body).color;
                   return color !== ink || textDecorationLine !== 'underline' && !link.hasAttribute('aria-current');
                 }).map(link => link.outerHTML).join()",
            );
            assert_eq!(odd, "", "{path}, {scheme}");
        }
        browser.press(&tab, "\u{E004}");
        let ring = browser.eval(
            &tab,
            "(it => [it.outlineWidth, it.outlineOffset, it.outlineColor === getComputedStyle(document.body).color].join())
               (getComputedStyle(document.activeElement))",
        );
        assert_eq!(ring, "3px,2px,true", "{path}");
    }
}

#[test]
fn on_a_phone_every_control_is_44_pixels_high() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let tab = browser.first_tab();
    for path in ["/?tab=1", "/fixes", "/fixes/push", "/fixes/cap", "/fixes/reaper", "/fixes/poll"] {
        browser.goto(&tab, &server.url(path));
        browser.devtools(
            &tab,
            "Emulation.setDeviceMetricsOverride",
            &object!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": false }),
        );
        browser.wait_for(&tab, "innerWidth === 390 && document.readyState === 'complete'");
        let small = browser.eval(
            &tab,
            "[...document.querySelectorAll('button, input, .pages a, nav li a')]
               .map(it => it.type === 'radio' ? it.closest('label') : it)
               .filter(it => it.offsetHeight > 0 && it.offsetHeight < 44).map(it => it.outerHTML).join()",
        );
        assert_eq!(small, "", "{path}");
        assert_eq!(browser.eval(&tab, OVERFLOW), 0, "{path}");
    }
}

/// The colors of palette.css by name, each in light and in dark mode.
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

/// The contrast ratio of two colors as defined by WCAG 2.
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
    // `held-tint` is the background of a row that has just arrived. `waiting-tint` is the background of a waiting
    // tab's tile.
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
