//! The wall: frames in the real Chromium, each with its state as the server's record has
//! it, and a tour whose steps are done and not only told.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::axe::Axe;
use crate::common::chromedriver::{Browser, Tab};
use crate::common::{self, Server, json, wait_for};
use serde_json::{Value, json as object};

/// How long a step of the tour may take, on the slowest of machines.
const STEP: Duration = Duration::from_secs(180);

/// A server that looks into its todo.
fn server(flags: &[&str]) -> Server {
    Server::start(&[&["--front", "puma"], flags].concat())
}

fn open(browser: &Browser, server: &Server, query: &str) -> Tab {
    let tab = browser.first_tab();
    browser.goto(&tab, &format!("http://{}/wall{query}", server.control));
    browser.wait_for(&tab, "document.body.dataset.connection === 'live'");
    tab
}

/// The state of tab N's element.
fn state(browser: &Browser, wall: &Tab, number: u32) -> String {
    let state =
        browser.eval(wall, &format!("document.querySelector('[data-tab=\"{number}\"]').dataset.state"));
    state.as_str().unwrap_or_default().to_owned()
}

/// Waits until the tabs, from the first on, are in these states.
fn wait_for_states(browser: &Browser, wall: &Tab, states: &[(&str, usize)]) {
    let wanted: Vec<_> = states.iter().flat_map(|(state, count)| vec![*state; *count]).collect();
    let wanted = object!(wanted);
    wait_long(
        browser,
        wall,
        &format!(
            "JSON.stringify({wanted}) === JSON.stringify({wanted}.map((_, at) => document.querySelector('[data-tab=\"' + (at + 1) + '\"]').dataset.state))"
        ),
    );
}

fn wait_long(browser: &Browser, wall: &Tab, expression: &str) {
    let end = Instant::now() + STEP;
    while browser.eval(wall, expression) != Value::Bool(true) {
        if Instant::now() > end {
            panic!("{expression} did not come true in {STEP:?}: {}", what_it_shows(browser, wall));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn what_it_shows(browser: &Browser, wall: &Tab) -> String {
    let shown = browser.eval(wall, "document.body.innerText");
    format!("{}\n{:?}", shown.as_str().unwrap_or_default(), browser.console(wall))
}

fn text(browser: &Browser, wall: &Tab, id: &str) -> String {
    let text = browser.eval(wall, &format!("document.getElementById('{id}').textContent"));
    text.as_str().unwrap_or_default().to_owned()
}

/// No error, and nothing that a policy kept out, in the page and its frames.
fn assert_quiet(browser: &Browser, wall: &Tab) {
    let told = browser.console(wall);
    let loud: Vec<_> =
        told.iter().filter(|line| line.starts_with("SEVERE") || line.contains("Policy")).collect();
    assert!(loud.is_empty(), "{loud:?}");
}

const TABS: &str = "[...document.querySelectorAll('.tab')]";

#[test]
fn on_a_host_each_the_ninth_waits_for_a_thread_and_gets_that_of_a_closed_one() {
    let Some(browser) = Browser::start() else { return };
    for front in ["tiny-http", "puma"] {
        ninth_waits(&browser, front);
    }
}

fn ninth_waits(browser: &Browser, front: &str) {
    let server = Server::start(&["--front", front, "--update-rate", "300ms", "--produce-every", "1"]);
    let wall = open(browser, &server, "");
    wait_for_states(browser, &wall, &[("streaming", 8), ("waiting-for-thread", 1)]);
    let stats = server.stats();
    assert_eq!(stats["streams"]["open"], 8, "{stats}");
    // A connection that the browser has opened in advance waits in todo, too.
    assert!(stats["backlog"].as_u64() >= Some(1) && stats["pool_capacity"] == 0, "{stats}");
    let hosts = browser.eval(
        &wall,
        &format!("new Set({TABS}.map(tab => new URL(tab.querySelector('iframe').src).hostname)).size"),
    );
    assert_eq!(hosts, 9);
    // The lanes and todo say the same.
    let held = "document.querySelectorAll('[data-lane][data-state=\"streaming\"]').length === 8";
    browser.wait_for(&wall, held);
    browser.wait_for(&wall, "document.querySelectorAll('#todo [data-path^=\"/?tab=9\"]').length === 1");

    browser.click(&wall, "[data-tab='3'] button");
    wait_for_states(browser, &wall, &[("streaming", 2), ("closed", 1), ("streaming", 6)]);
    let said = text(browser, &wall, "said");
    assert!(said.starts_with("Tab 3 closed: write ") && said.contains("(EPIPE)"), "{said}");
    assert!(said.contains("and took tab 9’s page, which had waited "), "{said}");

    // Opened again it is the last in line.
    browser.click(&wall, "[data-tab='3'] button");
    wait_for_states(browser, &wall, &[("streaming", 2), ("waiting-for-thread", 1), ("streaming", 6)]);
    let elsewhere = "performance.getEntriesByType('resource').filter(it => it.initiatorType !== 'iframe' && new URL(it.name).origin !== location.origin).length";
    assert_eq!(browser.eval(&wall, elsewhere), 0);
    let frames_elsewhere = format!(
        "{TABS}.filter(tab => !tab.querySelector('iframe').src.match(/^http:..tab\\d+.localhost:/)).length"
    );
    assert_eq!(browser.eval(&wall, &frames_elsewhere), 0);
    assert_quiet(browser, &wall);
    let (status, page) = common::get(server.control, "/wall");
    assert!(status == 200 && page.len() < 110_000, "{status}, {} bytes", page.len());
    // Whoever is still there when its server goes would say so in the next one's place.
    browser.goto(&wall, "about:blank");
    browser.wait_for(&wall, "location.href === 'about:blank'");
    browser.console(&wall);
}

#[test]
fn on_one_host_three_wait_for_a_socket_and_two_threads_are_idle() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--update-rate", "300ms"]);
    let wall = open(&browser, &server, "?tabs=9&hosts=one");
    wait_for_states(&browser, &wall, &[("streaming", 6), ("waiting-for-socket", 3)]);
    let stats = server.stats();
    assert_eq!((&stats["pool_capacity"], &stats["backlog"]), (&2.into(), &0.into()), "{stats}");

    // A tab of the lab with the same number is another one.
    assert_eq!(json(server.control, "POST", "/lab/tabs/open?tab=7").0, 200);
    browser.wait_for(&wall, "feed.ofTab(7).some(story => wall.ofLab.has(story) && isStreaming(story))");
    wait_for_states(&browser, &wall, &[("streaming", 6), ("waiting-for-socket", 3)]);
    assert_eq!(json(server.control, "POST", "/lab/tabs/close?tab=7").0, 200);

    // A closed frame's connection goes to one that waits, whichever the browser likes.
    browser.click(&wall, "[data-tab='3'] button");
    let streaming = format!("{TABS}.filter(tab => tab.dataset.state === 'streaming').length");
    browser.wait_for(&wall, &format!("{streaming} === 6"));
    assert_eq!(state(&browser, &wall, 3), "closed");
    assert_quiet(&browser, &wall);

    // Another host each, by the switch.
    browser.click(&wall, "[name='hosts'][value='many']");
    wait_for_states(&browser, &wall, &[("streaming", 8), ("waiting-for-thread", 1)]);
    assert_eq!(browser.eval(&wall, "new URL(location).searchParams.get('hosts')"), "many");
    assert_quiet(&browser, &wall);

    // An address that asks for what is not to be had.
    open(&browser, &server, "?tabs=99");
    assert_eq!(text(&browser, &wall, "said"), "tabs: a number from 1 to 16 is wanted, not 99; here are 9.");
    assert_eq!(browser.eval(&wall, &format!("{TABS}.length")), 9);
}

#[test]
fn with_three_threads_and_one_host_both_limits_are_told_apart() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--update-rate", "300ms", "--threads", "3:3"]);
    let wall = open(&browser, &server, "?tabs=8&hosts=one");
    wait_for_states(
        &browser,
        &wall,
        &[("streaming", 3), ("waiting-for-thread", 3), ("waiting-for-socket", 2)],
    );
    assert_quiet(&browser, &wall);
}

#[test]
fn where_a_browser_does_not_know_the_hosts_the_wall_says_so() {
    // As in Safari, which asks the system's resolver.
    let Some(browser) = Browser::start_with(&["--host-resolver-rules=MAP *.localhost ^NOTFOUND"]) else {
        return;
    };
    let server = server(&["--update-rate", "300ms"]);
    let wall = open(&browser, &server, "");
    browser.wait_for(&wall, "!document.getElementById('unknown-hosts').hidden");
    assert_eq!(state(&browser, &wall, 1), "loading");
    assert_eq!(state(&browser, &wall, 2), "closed", "it waits for the first");
    assert_eq!(server.stats()["requests_count"], 0);
    browser.click(&wall, "#use-one");
    wait_for_states(&browser, &wall, &[("streaming", 6), ("waiting-for-socket", 3)]);
    assert_eq!(browser.eval(&wall, "document.getElementById('unknown-hosts').hidden"), true);
}

#[test]
fn with_a_maximum_age_all_nine_take_turns() {
    let Some(browser) = Browser::start() else { return };
    let server =
        server(&["--update-rate", "500ms", "--max-stream-age", "2", "--reap-every", "200ms", "--retry", "1"]);
    let wall = open(&browser, &server, "?tabs=9");
    browser.run(
        &wall,
        "window.seen = {};
         new MutationObserver(changes => changes.forEach(({ target }) =>
           (seen[target.dataset.tab] ??= new Set()).add(target.dataset.state)))
           .observe(document.getElementById('frames'), { subtree: true, attributeFilter: ['data-state'] })",
    );
    wait_long(
        &browser,
        &wall,
        "Object.keys(seen).length === 9 && Object.values(seen).every(states =>
           ['streaming', 'reaped', 'reconnecting'].every(state => states.has(state)))",
    );
    assert_quiet(&browser, &wall);
}

#[test]
fn what_is_known_of_a_tab_is_told_by_moments_alone() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let wall = open(&browser, &server, "?tabs=1");
    browser.run(
        &wall,
        "window.stateAfter = (kinds, taken = 0, seenAt = 0) => {
           const record = new Record();
           const page = { connection: 5, request: 1 };
           const stream = { connection: 5, request: 2 };
           kinds.forEach((kind, at) => {
             const [what, of] = kind.split(' ');
             const more = {
               accepted: { method: 'GET', target: of === 'page' ? '/?tab=4' : '/models/live_stream?tab=4', peeked: what === 'peeked' },
               answered: { status: 200, bytes: 9, duration_us: 500 },
               disconnected: { write: 2, error: 'EPIPE' },
               reaped: { age_ms: 5000, why: 'maximum age' },
             };
             const kindOf = what === 'peeked' ? 'accepted' : what;
             const onThread = ['queued', 'peeked'].includes(what) ? {} : { thread: 3 };
             record.take({ seq: at + 1, at_us: (at + 1) * 1000, kind: kindOf, ...onThread, ...(of === 'page' ? page : stream), ...more[kindOf] });
           });
           return tabState({ isOpen: true, stories: record.ofTab(4), taken, seenAt, isLoaded: false }).state;
         }",
    );
    let page = ["queued page", "started page", "accepted page"];
    let answered = [&page[..], &["wrote page", "finished page"]].concat();
    let streams =
        [&answered[..], &["queued stream", "started stream", "accepted stream", "streaming stream"]].concat();
    let wrote = [&streams[..], &["wrote stream"]].concat();
    let with = |so_far: &[&str], more: &[&str]| {
        so_far.iter().chain(more).map(|kind| (*kind).to_owned()).collect::<Vec<_>>()
    };
    let cases = [
        (vec![], 0, "loading"),
        (vec![], 5, "loading"),
        (vec![], 6, "waiting-for-socket"),
        // Who waits in todo is known once it was looked at there.
        (with(&["queued page"], &[]), 5, "loading"),
        (with(&["queued page", "peeked page"], &[]), 5, "waiting-for-thread"),
        (with(&page, &[]), 5, "loading"),
        (with(&answered, &[]), 5, "loading"),
        (with(&answered, &[]), 6, "waiting-for-socket"),
        (with(&answered, &["queued stream", "peeked stream"]), 0, "waiting-for-thread"),
        // It has a thread, and no byte: of the database, perhaps.
        (with(&streams, &[]), 0, "loading"),
        (with(&streams, &["finished stream"]), 0, "reconnecting"),
        (with(&wrote, &[]), 5, "streaming"),
        (with(&wrote, &["reaped stream"]), 5, "reaped"),
        (with(&wrote, &["reaped stream", "finished stream"]), 5, "reaped"),
        (with(&wrote, &["finished stream"]), 5, "reconnecting"),
        (with(&wrote, &["disconnected stream", "finished stream"]), 5, "closed"),
    ];
    for (kinds, taken, expected) in cases {
        let state = browser.eval(&wall, &format!("stateAfter({}, {taken})", object!(kinds)));
        assert_eq!(state, expected, "{kinds:?}, {taken} taken");
    }
    let over = with(&wrote, &["reaped stream", "finished stream"]);
    let state = browser.eval(&wall, &format!("stateAfter({}, 0, 99000)", object!(over)));
    assert_eq!(state, "reconnecting", "numbers were seen since");
}

/// The wall with its tour beside one frame.
fn open_tour(browser: &Browser, server: &Server) -> Tab {
    let wall = open(browser, server, "?tabs=1");
    browser.click(&wall, "#tour-toggle");
    wall
}

/// Clicks on a step, and on what does it.
fn begin_step(browser: &Browser, wall: &Tab, number: usize) {
    browser.click(wall, &format!("#steps li:nth-child({number}) button"));
    browser.wait_for(wall, &format!("document.getElementById('tour').dataset.step === '{number}'"));
    browser.wait_for(wall, "document.getElementById('do').ariaDisabled === 'false'");
    browser.click(wall, "#do");
}

fn wait_until_it_held(browser: &Browser, wall: &Tab, number: usize) {
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

#[test]
fn each_step_of_the_tour_is_done_and_holds_and_a_reset_restores() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--update-rate", "1", "--retry", "500ms", "--produce-every", "1"]);
    let wall = open_tour(&browser, &server);
    for number in 1..=5 {
        begin_step(&browser, &wall, number);
        wait_until_it_held(&browser, &wall, number);
    }

    // A server with a connection for every thread cannot show the sixth, and says how.
    browser.click(&wall, "#next");
    browser.wait_for(
        &wall,
        "document.getElementById('needs').textContent.includes('ninetabs serve --db-pool 5')",
    );
    assert_eq!(browser.eval(&wall, "document.getElementById('do').ariaDisabled"), "true");

    // The last takes a tab of the browser's own.
    begin_step(&browser, &wall, 7);
    let doing = |words: &str| format!("document.getElementById('doing').textContent.startsWith('{words}')");
    wait_long(&browser, &wall, &doing("Open the page"));
    let own = browser.new_tab();
    browser.goto(&own, browser.eval(&wall, "document.querySelector('#by-hand a').href").as_str().unwrap());
    wait_long(&browser, &wall, &doing("There, change"));
    browser.goto(&own, &format!("http://localhost:{}/?tab=22", server.app.port()));
    wait_until_it_held(&browser, &wall, 7);
    browser.close_tab(own);

    browser.click(&wall, "#rails");
    server.wait_for_stats("three threads", |stats| stats["max_threads"] == 3);
    browser.click(&wall, "#age button");
    browser.wait_for(&wall, "feed.state.max_stream_age_s === 5");
    browser.click(&wall, "#open-all");
    browser.wait_for(&wall, "document.querySelectorAll('iframe').length > 1");
    browser.click(&wall, "#reset");
    let stats = server.wait_for_stats("eight threads, all idle", |stats| {
        stats["max_threads"] == 8 && stats["busy_threads"] == 0 && stats["streams"]["open"] == 0
    });
    assert_eq!(stats["pool_capacity"], 8);
    browser.wait_for(&wall, "feed.state.max_stream_age_s === null");
    assert_eq!(browser.eval(&wall, "document.querySelectorAll('iframe').length"), 0);
    let lab = json(server.control, "GET", "/lab").1;
    assert_eq!(lab, object!({ "tabs": [], "zombies": [], "pages": [] }));
    assert_quiet(&browser, &wall);
}

#[test]
fn the_pool_behind_the_pool_is_shown_where_the_server_has_one() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--update-rate", "500ms", "--db-pool", "5", "--db-checkout-timeout", "1"]);
    let wall = open_tour(&browser, &server);
    begin_step(&browser, &wall, 6);
    wait_until_it_held(&browser, &wall, 6);
    assert_quiet(&browser, &wall);
}

#[test]
fn a_step_says_so_when_it_does_not_hold_and_can_be_stopped() {
    let Some(browser) = Browser::start() else { return };
    // A close is noticed at once, and not at the second write.
    let server = server(&["--update-rate", "1", "--notice-close", "poll", "--threads", "2:2"]);
    let wall = open_tour(&browser, &server);
    begin_step(&browser, &wall, 1);
    browser.click(&wall, "#stop");
    browser.wait_for(&wall, "document.getElementById('verdict').textContent === 'Stopped.'");
    begin_step(&browser, &wall, 3);
    wait_until_it_held(&browser, &wall, 3);
    begin_step(&browser, &wall, 2);
    wait_long(&browser, &wall, "document.getElementById('tour').dataset.verdict === 'not-held'");
    assert!(text(&browser, &wall, "verdict").starts_with("Not held: "));
    let found = text(&browser, &wall, "findings");
    assert!(
        found.contains("writes after the close until one failed: ") && found.contains("(expected: 2)"),
        "{found}"
    );
    // Seven waited for two threads: which of them streams next is theirs to settle.
    assert!(found.contains("who waited and streams now: tab "), "{found}");
}

#[test]
fn nothing_keeps_anybody_from_using_the_wall_in_light_and_dark() {
    let Some(browser) = Browser::start() else { return };
    let Some(axe) = Axe::fetch() else { return };
    let server = server(&["--update-rate", "300ms"]);
    let wall = open(&browser, &server, "?tabs=9&hosts=one");
    wait_for_states(&browser, &wall, &[("streaming", 6), ("waiting-for-socket", 3)]);
    let look = |state: &str| {
        for scheme in ["light", "dark"] {
            browser.prefer(&wall, scheme);
            assert_eq!(axe.serious(&browser, &wall), [""; 0], "{state}, {scheme}");
        }
    };
    look("one host");
    browser.click(&wall, "#tour-toggle");
    begin_step(&browser, &wall, 1);
    wait_until_it_held(&browser, &wall, 1);
    look("a step of the tour");
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    for width in [1280, 390] {
        let size = object!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        browser.devtools(&wall, "Emulation.setDeviceMetricsOverride", &size);
        wait_for("the new width", || (browser.eval(&wall, "innerWidth") == width).then_some(()));
        assert_eq!(browser.eval(&wall, overflow), 0, "{width} wide");
    }
}

/// Words that are as long as the wall has them.
const LONG_WORDS: &str = "['thread 12 is back: write 2 failed', 'reaped at 12.5 s; six sockets held', \
    'ended without a byte; six sockets held', 'thread 12 has its stream, no byte yet', 'thread 12 goes on: 123 writes since']";

#[test]
fn on_a_projector_frames_lanes_and_their_words_are_seen_whole() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--update-rate", "300ms"]);
    let wall = open(&browser, &server, "?tabs=9&hosts=one");
    wait_for_states(&browser, &wall, &[("streaming", 6), ("waiting-for-socket", 3)]);
    for (tour, width, height) in [false, true]
        .into_iter()
        .flat_map(|tour| [(1024, 768), (1280, 720), (1366, 768)].map(|(width, height)| (tour, width, height)))
    {
        let at = format!("{width} x {height}, {} tour", if tour { "with the" } else { "without" });
        if browser.eval(&wall, "document.getElementById('tour').hidden") == tour {
            browser.click(&wall, "#tour-toggle");
        }
        let size = object!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser.devtools(&wall, "Emulation.setDeviceMetricsOverride", &size);
        wait_for("the new size", || (browser.eval(&wall, "innerWidth") == width).then_some(()));
        let places = |of: &str| {
            browser.eval(
                &wall,
                &format!("new Set({TABS}.map(tab => Math.round(tab.getBoundingClientRect().{of} / 9))).size"),
            )
        };
        assert_eq!((places("left"), places("top")), (3.into(), 3.into()), "{at}");
        let bottom = browser.eval(&wall, "document.querySelector('.axis').getBoundingClientRect().bottom");
        assert!(bottom.as_f64() <= Some(f64::from(height)), "{at}: the lanes end at {bottom}");
        assert_eq!(browser.eval(&wall, "document.querySelectorAll('#lanes .lane').length"), 8);
        let form = browser.eval_in_frame(&wall, "getComputedStyle(document.querySelector('form')).display");
        assert_eq!(form, "none", "{at}");
        // Whatever is said of a tab, it can be read.
        let cut = browser.eval(
            &wall,
            &format!(
                "(() => {{
                   const cut = [];
                   const look = words => document.querySelectorAll('.tab-words, .tab-state, .tab-name, .lane-holder, #headline, #said, #tour *').forEach(it => {{
                     const tab = it.closest('.tab')?.getBoundingClientRect();
                     const isOut = tab && it.getBoundingClientRect().bottom > tab.bottom;
                     if (it.scrollWidth > it.clientWidth && it.clientWidth > 0 && getComputedStyle(it).overflow !== 'visible' || isOut) {{
                       cut.push([words, it.className || it.id, it.textContent]);
                     }}
                   }});
                   look('as it is');
                   const held = [...document.querySelectorAll('.tab-words')].map(it => it.textContent);
                   for (const words of {LONG_WORDS}) {{
                     document.querySelectorAll('.tab-words').forEach(it => {{ it.textContent = words; }});
                     look(words);
                   }}
                   document.querySelectorAll('.tab-words').forEach((it, at) => {{ it.textContent = held[at]; }});
                   return cut;
                 }})()"
            ),
        );
        assert_eq!(cut, object!([]), "{at}");
        // A name in a lane fits its band.
        let fits = "[...document.querySelectorAll('.lane-strip')].every(strip => {
            const ink = strip.getContext('2d');
            ink.font = '600 11px ' + getComputedStyle(document.documentElement).getPropertyValue('--font');
            const { actualBoundingBoxAscent: up, actualBoundingBoxDescent: down } = ink.measureText('tab 1gj');
            return [true, false].every(isStream => bandBox(strip.clientHeight, isStream).tall >= up + down);
          })";
        assert_eq!(browser.eval(&wall, fits), true, "{at}");
    }
    assert_quiet(&browser, &wall);
}
