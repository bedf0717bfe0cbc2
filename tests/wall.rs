//! The wall in the real Chromium: its frames, and the state of each frame according to the server's record.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::axe::Axe;
use crate::common::chromedriver::{Browser, LOOK_EVERY, Tab};
use crate::common::{self, Server, json, wait_for};
use crate::tour::{begin_step, start_tour, wait_until_as_expected};
use serde_json::{Value, json as object};

/// How long a step of the tour may take on the slowest machine.
const STEP: Duration = Duration::from_secs(180);

/// A server with the puma front, which peeks at the requests in its queue.
pub fn server(flags: &[&str]) -> Server {
    Server::start(&[&["--front", "puma"], flags].concat())
}

pub fn open(browser: &Browser, server: &Server, query: &str) -> Tab {
    let tab = browser.first_tab();
    browser.goto(&tab, &format!("http://{}/wall{query}", server.control));
    browser.wait_for(&tab, "document.body.dataset.connection === 'live'");
    tab
}

/// Like [`open`], but allows the motion of the picture.
fn open_moving(browser: &Browser, server: &Server, query: &str) -> Tab {
    browser.allow_motion(&browser.first_tab());
    open(browser, server, query)
}

/// The state shown by the tile of the tab with this number.
fn state(browser: &Browser, wall: &Tab, number: u32) -> String {
    let state =
        browser.eval(wall, &format!("document.querySelector('[data-tab=\"{number}\"]').dataset.state"));
    state.as_str().unwrap_or_default().to_owned()
}

/// Waits until the tabs are in these states, in order and beginning with tab 1.
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

pub fn wait_long(browser: &Browser, wall: &Tab, expression: &str) {
    let end = Instant::now() + STEP;
    while browser.eval(wall, expression) != Value::Bool(true) {
        if Instant::now() > end {
            panic!("{expression} did not become true within {STEP:?}: {}", what_it_shows(browser, wall));
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn what_it_shows(browser: &Browser, wall: &Tab) -> String {
    let shown = browser.eval(wall, "document.body.innerText");
    format!("{}\n{:?}", shown.as_str().unwrap_or_default(), browser.console(wall))
}

pub fn text(browser: &Browser, wall: &Tab, id: &str) -> String {
    let text = browser.eval(wall, &format!("document.getElementById('{id}').textContent"));
    text.as_str().unwrap_or_default().to_owned()
}

/// Asserts that neither the page nor its frames logged an error or a policy violation.
pub fn assert_quiet(browser: &Browser, wall: &Tab) {
    let told = browser.console(wall);
    let loud: Vec<_> =
        told.iter().filter(|line| line.starts_with("SEVERE") || line.contains("Policy")).collect();
    assert!(loud.is_empty(), "{loud:?}");
}

const TABS: &str = "[...document.querySelectorAll('.tab')]";

#[test]
fn with_a_host_per_tab_the_ninth_tab_waits_and_takes_the_thread_of_a_closed_tab() {
    let Some(browser) = Browser::start() else { return };
    for front in ["tiny-http", "puma"] {
        ninth_waits(&browser, front);
    }
}

fn ninth_waits(browser: &Browser, front: &str) {
    let server = Server::start(&["--front", front, "--update-rate", "300ms", "--produce-every", "1"]);
    let wall = open_moving(browser, &server, "");
    wait_for_states(browser, &wall, &[("streaming", 8), ("waiting-for-thread", 1)]);
    let stats = server.stats();
    assert_eq!(stats["streams"]["open"], 8, "{stats}");
    // A spare connection of the browser also counts in the backlog.
    assert!(stats["backlog"].as_u64() >= Some(1) && stats["pool_capacity"] == 0, "{stats}");
    let hosts = browser.eval(
        &wall,
        &format!("new Set({TABS}.map(tab => new URL(tab.querySelector('iframe').src).hostname)).size"),
    );
    assert_eq!(hosts, 9);
    // The lanes and the queue agree.
    let held = "document.querySelectorAll('[data-lane][data-state=\"streaming\"]').length === 8";
    browser.wait_for(&wall, held);
    browser.wait_for(&wall, "document.querySelectorAll('#todo [data-path^=\"/?tab=9\"]').length === 1");

    browser.click(&wall, "[data-tab='3'] .tab-close");
    wait_for_states(browser, &wall, &[("streaming", 2), ("closed", 1), ("streaming", 6)]);
    let said = text(browser, &wall, "said");
    assert!(said.starts_with("Tab 3 closed: write ") && said.contains("(EPIPE)"), "{said}");
    assert!(said.contains("and took tab 9’s page, which had waited "), "{said}");

    // When tab 3 is opened again, it joins the end of the queue.
    browser.click(&wall, "[data-tab='3'] .tab-close");
    wait_for_states(browser, &wall, &[("streaming", 2), ("waiting-for-thread", 1), ("streaming", 6)]);
    let elsewhere = "performance.getEntriesByType('resource').filter(it => it.initiatorType !== 'iframe' && new URL(it.name).origin !== location.origin).length";
    assert_eq!(browser.eval(&wall, elsewhere), 0);
    let frames_elsewhere = format!(
        "{TABS}.filter(tab => !tab.querySelector('iframe').src.match(/^http:..tab\\d+.localhost:/)).length"
    );
    assert_eq!(browser.eval(&wall, &frames_elsewhere), 0);
    assert_quiet(browser, &wall);
    for (path, most) in [("/wall", 100_000), ("/wall?tour=1", 125_000)] {
        let (status, page) = common::get(server.control, path);
        assert!(status == 200 && page.len() < most, "{path}: {status}, {} bytes", page.len());
    }
    // The page is left here, because a page that outlives its server logs errors.
    browser.goto(&wall, "about:blank");
    browser.wait_for(&wall, "location.href === 'about:blank'");
    browser.console(&wall);
}

#[test]
fn on_one_host_three_tabs_stay_in_the_browser_and_two_threads_are_idle() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--update-rate", "300ms"]);
    let wall = open(&browser, &server, "?tabs=9&hosts=one");
    wait_for_states(&browser, &wall, &[("streaming", 6), ("waiting-for-socket", 3)]);
    let stats = server.stats();
    assert_eq!((&stats["pool_capacity"], &stats["backlog"]), (&2.into(), &0.into()), "{stats}");

    // A tab of the lab with the same number is a different tab.
    assert_eq!(json(server.control, "POST", "/lab/tabs/open?tab=7").0, 200);
    browser.wait_for(&wall, "feed.ofTab(7).some(story => wall.ofLab.has(story) && isStreaming(story))");
    wait_for_states(&browser, &wall, &[("streaming", 6), ("waiting-for-socket", 3)]);
    assert_eq!(json(server.control, "POST", "/lab/tabs/close?tab=7").0, 200);

    // The connection of a closed frame goes to one of the waiting frames, which the browser chooses.
    browser.click(&wall, "[data-tab='3'] .tab-close");
    let streaming = format!("{TABS}.filter(tab => tab.dataset.state === 'streaming').length");
    browser.wait_for(&wall, &format!("{streaming} === 6"));
    assert_eq!(state(&browser, &wall, 3), "closed");
    assert_quiet(&browser, &wall);

    // The switch gives each tab its own host.
    browser.click(&wall, "[name='hosts'][value='many']");
    wait_for_states(&browser, &wall, &[("streaming", 8), ("waiting-for-thread", 1)]);
    assert_eq!(browser.eval(&wall, "new URL(location).searchParams.get('hosts')"), "many");
    assert_quiet(&browser, &wall);

    // This address requests too many tabs.
    open(&browser, &server, "?tabs=99");
    assert_eq!(
        text(&browser, &wall, "said"),
        "Give a number of tabs from 1 to 16, not 99. The wall shows 9."
    );
    assert_eq!(browser.eval(&wall, &format!("{TABS}.length")), 9);
}

#[test]
fn with_three_threads_and_one_host_both_limits_are_distinguished() {
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
fn a_browser_that_does_not_resolve_the_hosts_gets_an_explanation() {
    // Safari is such a browser, because it uses the system's resolver.
    let Some(browser) = Browser::start_with(&["--host-resolver-rules=MAP *.localhost ^NOTFOUND"]) else {
        return;
    };
    let server = server(&["--update-rate", "300ms"]);
    let wall = open(&browser, &server, "");
    browser.wait_for(&wall, "!document.getElementById('unknown-hosts').hidden");
    assert_eq!(state(&browser, &wall, 1), "loading");
    assert_eq!(state(&browser, &wall, 2), "closed", "tab 2 must wait for tab 1");
    assert_eq!(server.stats()["requests_count"], 0);
    browser.click(&wall, "#use-one");
    wait_for_states(&browser, &wall, &[("streaming", 6), ("waiting-for-socket", 3)]);
    assert_eq!(browser.eval(&wall, "document.getElementById('unknown-hosts').hidden"), true);
}

#[test]
fn with_a_maximum_age_all_nine_tabs_take_turns() {
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
fn the_state_of_a_tab_is_derived_from_moments_alone() {
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
        // A queued request is attributed to its tab only after the server has peeked at it.
        (with(&["queued page"], &[]), 5, "loading"),
        (with(&["queued page", "peeked page"], &[]), 5, "waiting-for-thread"),
        (with(&page, &[]), 5, "loading"),
        (with(&answered, &[]), 5, "loading"),
        (with(&answered, &[]), 6, "waiting-for-socket"),
        (with(&answered, &["queued stream", "peeked stream"]), 0, "waiting-for-thread"),
        // The stream has a thread but has sent nothing yet. It may be waiting for the database.
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
    assert_eq!(state, "reconnecting", "numbers have arrived since the stream was reaped");
}

#[test]
fn axe_finds_nothing_serious_on_the_wall_and_nothing_overflows() {
    let Some(browser) = Browser::start() else { return };
    let Some(axe) = Axe::fetch() else { return };
    let server = server(&["--update-rate", "300ms"]);
    let wall = open(&browser, &server, "?tabs=9&hosts=one");
    wait_for_states(&browser, &wall, &[("streaming", 6), ("waiting-for-socket", 3)]);
    let look = |state: &str| {
        axe.expect_nothing_serious(&browser, &wall, state);
    };
    look("one host");
    start_tour(&browser, &wall);
    begin_step(&browser, &wall, 1);
    wait_until_as_expected(&browser, &wall, 1);
    look("a step of the tour");
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    for width in [1280, 390] {
        let size = object!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        browser.devtools(&wall, "Emulation.setDeviceMetricsOverride", &size);
        wait_for("the new width", || (browser.eval(&wall, "innerWidth") == width).then_some(()));
        assert_eq!(browser.eval(&wall, overflow), 0, "{width} wide");
    }
}

#[test]
fn a_printed_wall_has_the_numbers_of_the_tiles_and_a_picture_in_light_colors() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    for query in ["?tabs=2", "?tabs=2&beside=leave"] {
        let wall = open(&browser, &server, query);
        wait_for_states(&browser, &wall, &[("streaming", 2)]);
        browser.prefer(&wall, "dark");
        // From here on, the picture is drawn only for paper.
        browser.run(
            &wall,
            "window.requestAnimationFrame = () => 0;
             window.setTimeout(() => { picture.drawing.draw = () => { window.drawnIn = picture.drawing.colors.ink } }, 200)",
        );
        browser.wait_for(&wall, "Object.hasOwn(picture.drawing, 'draw')");
        browser.devtools(
            &wall,
            "Emulation.setEmulatedMedia",
            &object!({ "media": "print", "features": [{ "name": "prefers-color-scheme", "value": "dark" }] }),
        );
        let light = "(it => { it.style.color = 'var(--ink)'; document.body.append(it); return getComputedStyle(it).color })(document.createElement('i'))";
        browser.wait_for(&wall, &format!("matchMedia('print').matches && window.drawnIn === {light}"));
        assert_eq!(browser.eval(&wall, light), "rgb(28, 30, 33)");
        let is_there = |selector: &str| {
            let script = format!(
                "[...document.querySelectorAll('{selector}')].filter(it => it.getClientRects().length).length"
            );
            browser.eval(&wall, &script)
        };
        assert_eq!(is_there(".tab-name"), 2, "{query}: a tile lacks its number");
        assert_eq!(is_there("#open-all, .tab-close, .button"), 0, "{query}: the printed page shows controls");
        browser.devtools(&wall, "Emulation.setEmulatedMedia", &object!({ "media": "", "features": [] }));
    }
}

/// The longest texts of a tile's small line and of its state.
const LONG_WORDS: &str = "['thread 12 freed after 123.4 s', 'thread 12, no data yet', 'six connections in use', 'opens after the first numbers']";
const LONG_STATES: &str = "['in the browser', 'reconnects', '1234.5 s', 'streams']";

/// Sets the size of the window, and waits until the page has it.
fn resize(browser: &Browser, wall: &Tab, width: u32, height: u32) {
    let size = object!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
    browser.devtools(wall, "Emulation.setDeviceMetricsOverride", &size);
    let there = format!("innerWidth === {width} && innerHeight === {height}");
    wait_for("the new size", || (browser.eval(wall, &there) == true).then_some(()));
}

#[test]
fn on_a_projector_everything_is_visible_and_no_text_is_cut_off() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--update-rate", "300ms"]);
    let wall = open(&browser, &server, "?tabs=9&hosts=one");
    wait_for_states(&browser, &wall, &[("streaming", 6), ("waiting-for-socket", 3)]);
    for (tour, width, height) in [false, true].into_iter().flat_map(|tour| {
        [(1024, 768), (1280, 720), (1366, 768), (1920, 1080)].map(|(width, height)| (tour, width, height))
    }) {
        let at = format!("{width} x {height}, {} tour", if tour { "with the" } else { "without" });
        if tour && browser.eval(&wall, "tour === null") == true {
            start_tour(&browser, &wall);
            browser.click(&wall, "#open-all");
            wait_for_states(&browser, &wall, &[("streaming", 6), ("waiting-for-socket", 3)]);
        }
        resize(&browser, &wall, width, height);
        let places = |of: &str| {
            browser.eval(
                &wall,
                &format!("new Set({TABS}.map(tab => Math.round(tab.getBoundingClientRect().{of} / 9))).size"),
            )
        };
        assert_eq!((places("left"), places("top")), (3.into(), 3.into()), "{at}");
        for part in ["#headline", "#meter", "#frames", "#picture", ".axis", ".legend", ".controls"] {
            let bottom = browser.eval(
                &wall,
                &format!("Math.ceil(document.querySelector('{part}').getBoundingClientRect().bottom)"),
            );
            assert!(bottom.as_u64() <= Some(height.into()), "{at}: {part} ends at {bottom}");
        }
        assert_eq!(browser.eval(&wall, "document.querySelectorAll('#lanes .lane').length"), 8);
        if !tour {
            let form =
                browser.eval_in_frame(&wall, "getComputedStyle(document.querySelector('form')).display");
            assert_eq!(form, "none", "{at}");
        }
        // No text is cut off, and no text of a tile extends beyond it.
        let cut = browser.eval(
            &wall,
            &format!(
                "(() => {{
                   const cut = [];
                   const look = words => document.querySelectorAll('.tab-words, .tab-state, .tab-name, #headline, #said, .lane-name, .legend li, #tour p, #tour h2, #tour button').forEach(it => {{
                     const tab = it.closest('.tab')?.getBoundingClientRect();
                     const box = it.getBoundingClientRect();
                     const isOut = tab && (box.bottom > tab.bottom + 1 || box.right > tab.right + 1);
                     if (it.scrollWidth > it.clientWidth + 1 && it.clientWidth > 0 && !it.closest('.unseen') || isOut) {{
                       cut.push([words, it.className || it.id, it.textContent]);
                     }}
                   }});
                   look('as it is');
                   for (const [part, texts] of [['.tab-words', {LONG_WORDS}], ['.tab-state', {LONG_STATES}]]) {{
                     const places = [...document.querySelectorAll(part)];
                     const before = places.map(it => it.textContent);
                     for (const words of texts) {{
                       places.forEach(it => {{ it.textContent = words; }});
                       look(words);
                     }}
                     places.forEach((it, at) => {{ it.textContent = before[at]; }});
                   }}
                   return cut;
                 }})()"
            ),
        );
        assert_eq!(cut, object!([]), "{at}");
        // No text is smaller than 14 pixels. The headline, the count and the numbers of the tiles are large enough to
        // be read from a distance.
        let sizes = browser.eval(
            &wall,
            "['#headline', '.meter-count', '.tab-name', '.tab-words', '.lane-name', '.legend li', '.controls label', '.controls button']
               .map(it => parseFloat(getComputedStyle(document.querySelector(it)).fontSize))",
        );
        let sizes: Vec<f64> = serde_json::from_value(sizes).unwrap();
        let large = if width >= 1280 { 30.0 } else { 24.0 };
        assert!(sizes.iter().all(|size| *size >= 13.99), "{at}: {sizes:?}");
        assert!(sizes[..3].iter().all(|size| *size >= large), "{at}: {sizes:?}");
    }
    // On a phone, the order is headline, meter, tiles, lanes, controls.
    browser.click(&wall, "#tour-toggle");
    resize(&browser, &wall, 390, 844);
    let tops = browser.eval(
        &wall,
        "['#headline', '#meter', '#frames', '#picture', '.controls'].map(it => document.querySelector(it).getBoundingClientRect().top + scrollY)",
    );
    let tops: Vec<f64> = serde_json::from_value(tops).unwrap();
    assert!(tops.is_sorted() && tops[1] < 600.0, "{tops:?}");
    let low = "[...document.querySelectorAll('.controls button, .controls select, .controls input:not([type=radio], [type=checkbox], [hidden]), .tab-close, nav a')]
        .filter(it => it.getBoundingClientRect().height < 44).map(it => it.id || it.className || it.textContent)";
    assert_eq!(browser.eval(&wall, low), object!([]));
    assert_quiet(&browser, &wall);
}

/// Compares the headline, the meter and the tiles with the server's own numbers.
fn agree(browser: &Browser, wall: &Tab, server: &Server) {
    let stats = server.stats();
    let threads = json(server.control, "GET", "/threads").1;
    let held = threads.as_array().unwrap().iter().filter(|thread| thread["state"] == "busy").count();
    let max = &stats["max_threads"];
    browser
        .wait_for(wall, &format!("document.querySelector('.meter-count').textContent === '{held} / {max}'"));
    let block = |state: &str| format!("document.querySelectorAll('.meter [data-state=\"{state}\"]').length");
    browser.wait_for(wall, &format!("{} + {} === {held}", block("held"), block("gone")));
    let spare = "feed.todo().filter(story => story.isSpare).length";
    browser.wait_for(wall, &format!("{} + {spare} === {}", block("waiting"), stats["backlog"]));
    let streaming = format!("{TABS}.filter(tab => tab.dataset.state === 'streaming').length");
    let frames = "wall.tabs.filter(tab => tab.isOpen).length";
    browser.wait_for(wall, &format!("{streaming} === Math.min({frames}, {})", stats["streams"]["open"]));
    for thread in threads.as_array().unwrap().iter().filter(|thread| thread["state"] == "busy") {
        let path = thread["path"].as_str().unwrap();
        let Some(tab) = path.strip_prefix("/models/live_stream?tab=") else { continue };
        let words = format!("document.querySelector('[data-tab=\"{tab}\"] .tab-words').textContent");
        if browser.eval(wall, &format!("wall.tabs[{tab} - 1].isOpen")) == true {
            browser.wait_for(wall, &format!("{words} === 'thread {}'", thread["number"]));
        }
    }
}

#[test]
fn headline_meter_and_tiles_agree_with_the_server_and_a_gone_client_is_shown_until_a_write_fails() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--update-rate", "2"]);
    let wall = open(&browser, &server, "?start=no");
    browser.wait_for(&wall, "feed.state !== null");
    let headline = |words: &str| {
        let says = format!("document.getElementById('headline').textContent.startsWith('{words}')");
        wait_long(&browser, &wall, &says);
    };
    headline("Nine tabs, eight threads. Which tab will wait, and where?");
    let fits = "(it => it.scrollWidth <= it.clientWidth)(document.getElementById('headline'))";
    assert_eq!(browser.eval(&wall, fits), true);
    agree(&browser, &wall, &server);
    browser.click(&wall, "#open-all");
    wait_for_states(&browser, &wall, &[("streaming", 8), ("waiting-for-thread", 1)]);
    headline("All 8 threads are held. Tab 9 has waited ");
    agree(&browser, &wall, &server);
    assert!(browser.title(&wall).starts_with("8/8 +1 · wall"), "{}", browser.title(&wall));
    browser.click(&wall, "[data-tab='3'] .tab-close");
    let gone = "document.querySelectorAll('.meter [data-state=\"gone\"]').length";
    browser.wait_for(&wall, &format!("{gone} === 1"));
    let words = text(&browser, &wall, "frames");
    assert!(words.contains(" still held"), "{words}");
    let label = "[...document.querySelectorAll('.lane-strip')].filter(it => it.ariaLabel?.endsWith('tab 3, client gone') || it.getAttribute('aria-label').endsWith('tab 3, client gone')).length";
    browser.wait_for(&wall, &format!("{label} === 1"));
    wait_long(&browser, &wall, &format!("{gone} === 0 && wall.tabs[8].state === 'streaming'"));
    headline("8 of 8 threads are held. Nothing waits.");
    let words = text(&browser, &wall, "frames");
    assert!(words.contains(" freed after "), "{words}");
    agree(&browser, &wall, &server);
    // The picture marks the close, and shows which thread took tab 9's request from the queue.
    assert_eq!(browser.eval(&wall, "feed.marks().map(it => it.text).includes('tab 3 closed')"), true);
    let taken = "feed.waits.filter(it => it.story.tab === '9' && it.thread !== null).length";
    assert!(browser.eval(&wall, taken).as_u64() >= Some(1));

    // The wall also counts threads that are held by zombies of the lab.
    assert_eq!(json(server.control, "POST", "/lab/zombies?count=2").0, 200);
    headline("All 8 threads are held. 2 wait, the first for ");
    agree(&browser, &wall, &server);
    browser.click(&wall, "#close-all");
    wait_long(&browser, &wall, "feed.state.stats.streams.open === 2");
    headline("2 of 8 threads are held. Nothing waits.");
    agree(&browser, &wall, &server);
    assert_quiet(&browser, &wall);
}

#[test]
fn the_headline_describes_the_pool_and_fits_on_one_line() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let wall = open(&browser, &server, "?start=no");
    let says = |max: u32, held: u32, zombies: u32, waiting: &[&str], tabs: Value| {
        let waiting = object!(waiting);
        let pool = format!(
            "{{ max: {max}, held: {held}, ioBound: 0, zombies: {zombies}, now: 12.3e6, waiting: {waiting}.map(tab => ({{ tab, queuedAt: 0 }})) }}"
        );
        let said =
            browser.eval(&wall, &format!("headlineOf({pool}, {tabs}).map(([text]) => text).join(' ')"));
        said.as_str().unwrap().to_owned()
    };
    let none = || object!({ "streaming": 0, "inBrowser": 0 });
    for (said, expected) in [
        (says(8, 8, 0, &["9"], none()), "All 8 threads are held. Tab 9 has waited 12.3 s."),
        (says(8, 8, 0, &[], none()), "8 of 8 threads are held. Nothing waits."),
        (
            says(8, 6, 0, &[], object!({ "streaming": 6, "inBrowser": 3 })),
            "6 tabs stream, 3 are in the browser. 2 threads are idle.",
        ),
        (says(8, 8, 8, &["page-4"], none()), "8 zombies hold all 8 threads. A page has waited 12.3 s."),
        (says(8, 8, 8, &[], none()), "8 zombies hold all 8 threads. Nothing waits."),
        (says(8, 0, 0, &[], none()), "All 8 threads are idle. Nothing waits."),
        (says(1, 1, 0, &["2"], none()), "The only thread is held. Tab 2 has waited 12.3 s."),
        (says(8, 8, 0, &["9", "1"], none()), "All 8 threads are held. 2 wait, the first for 12.3 s."),
        (says(3, 8, 0, &[], none()), "8 threads are held, 5 too many. Nothing waits."),
        (says(64, 64, 64, &["9"; 12], none()), "64 zombies hold all 64 threads. 12 wait."),
    ] {
        assert_eq!(said, expected);
        assert!(said.chars().count() <= 56, "{said}");
    }
}

#[test]
fn the_wall_can_start_empty_and_its_keys_have_the_documented_effects() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--update-rate", "300ms"]);
    let wall = open(&browser, &server, "?tour=1");
    browser.wait_for(&wall, "feed.state !== null && !document.getElementById('tour').hidden");
    // With the tour, nothing is requested before the first key press.
    browser.run(&wall, "window.told = 0; feed.on(change => { told += change === 'state'; })");
    browser.wait_for(&wall, "told > 3");
    assert_eq!(server.stats()["requests_count"], 0);
    assert_eq!(browser.eval(&wall, "document.querySelectorAll('iframe').length"), 0);
    // A prediction is remembered, and a key of a presentation remote runs the step.
    browser.click(&wall, "#guesses button:nth-child(1)");
    browser.run(&wall, "document.activeElement.blur()");
    browser.press(&wall, "\u{e014}");
    wait_until_as_expected(&browser, &wall, 1);
    let guessed = text(&browser, &wall, "guessed");
    assert_eq!(guessed, "Your prediction: In the browser. Found: In Puma’s queue.");
    let step = || browser.eval(&wall, "document.getElementById('tour').dataset.step");
    browser.press(&wall, "\u{e014}");
    assert_eq!(step(), "2");
    browser.press(&wall, "\u{e012}");
    assert_eq!(step(), "1");

    let wall = open(&browser, &server, "?start=no&tabs=2");
    let frames = "document.querySelectorAll('iframe').length";
    browser.wait_for(&wall, "feed.state !== null");
    assert_eq!(browser.eval(&wall, frames), 0);
    browser.press(&wall, "2");
    browser.wait_for(&wall, &format!("{frames} === 1 && wall.tabs[1].isOpen"));
    browser.press(&wall, "o");
    browser.wait_for(&wall, &format!("{frames} === 2"));
    wait_for_states(&browser, &wall, &[("streaming", 2)]);
    browser.press(&wall, "1");
    browser.wait_for(&wall, &format!("{frames} === 1 && !wall.tabs[0].isOpen"));
    browser.press(&wall, "x");
    browser.wait_for(&wall, &format!("{frames} === 0"));
    let modes: Vec<_> = (0..3)
        .map(|_| {
            browser.press(&wall, "w");
            browser.eval(&wall, "document.getElementById('window').value")
        })
        .collect();
    assert_eq!(modes, ["15", "60", "auto"]);
    let size = "parseFloat(getComputedStyle(document.documentElement).fontSize)";
    let before = browser.eval(&wall, size).as_f64().unwrap();
    browser.press(&wall, "+");
    assert!(browser.eval(&wall, size).as_f64().unwrap() > before);
    browser.press(&wall, "0");
    assert_eq!(browser.eval(&wall, size).as_f64().unwrap(), before);
    let visible = |part: &str| {
        let rects = format!("document.querySelector('{part}').getClientRects().length > 0");
        browser.eval(&wall, &rects)
    };
    browser.press(&wall, "k");
    assert_eq!(
        (visible(".controls"), visible(".legend"), visible("nav")),
        (false.into(), false.into(), false.into())
    );
    browser.press(&wall, "k");
    assert_eq!(visible(".controls"), true);
    browser.press(&wall, "d");
    assert_eq!(browser.eval(&wall, "getComputedStyle(document.body).backgroundColor"), "rgb(22, 24, 27)");
    browser.press(&wall, "d");
    browser.press(&wall, "?");
    assert_eq!(browser.eval(&wall, "document.getElementById('keys').open"), true);
    browser.run(&wall, "document.getElementById('keys').close()");
    // In a field, keys only type letters. `?keys=off` disables the keys everywhere.
    browser.run(&wall, "document.getElementById('count').focus()");
    browser.press(&wall, "o");
    assert_eq!(browser.eval(&wall, frames), 0);
    let wall = open(&browser, &server, "?start=no&tabs=2&keys=off");
    browser.wait_for(&wall, "feed.state !== null");
    browser.press(&wall, "o");
    assert_eq!(browser.eval(&wall, frames), 0);
    assert_quiet(&browser, &wall);
}

#[test]
fn a_click_on_the_number_of_a_tab_enlarges_its_page_without_loading_it_again() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&["--update-rate", "300ms"]);
    let wall = open(&browser, &server, "?tabs=1");
    wait_for_states(&browser, &wall, &[("streaming", 1)]);
    let asked = server.stats()["requests_count"].clone();
    let wide = "document.querySelector('iframe').getBoundingClientRect().width / innerWidth";
    browser.click(&wall, ".tab-name");
    browser.wait_for(&wall, &format!("{wide} > 0.8"));
    browser.press(&wall, "\u{e00c}");
    browser.wait_for(&wall, &format!("{wide} < 0.3"));
    assert_eq!(server.stats()["requests_count"], asked);
    assert_eq!(state(&browser, &wall, 1), "streaming");
}

#[test]
fn the_picture_is_redrawn_as_soon_as_the_colors_change() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let wall = open(&browser, &server, "?start=no");
    browser.run(
        &wall,
        "window.paper = null;
         const draw = picture.draw.bind(picture);
         picture.draw = () => { paper = picture.drawing.colors.paper; draw(); };
         onRecolored(() => { window.isDrawn = paper === picture.drawing.colors.paper; })",
    );
    browser.wait_for(&wall, "paper !== null");
    for scheme in ["dark", "light"] {
        browser.run(&wall, "window.isDrawn = null");
        browser.prefer(&wall, scheme);
        browser.wait_for(&wall, "isDrawn !== null");
        assert_eq!(browser.eval(&wall, "isDrawn"), true, "{scheme}");
    }
}

#[test]
fn the_window_grows_with_the_oldest_band_up_to_a_minute() {
    let Some(browser) = Browser::start() else { return };
    let server = server(&[]);
    let wall = open_moving(&browser, &server, "?start=no");
    browser.run(
        &wall,
        "window.seen = new Shown({ lanes: new Map(), todo: () => [], state: null });
         window.openSince = at => seen.feed.lanes.set(1, { current: { from: at * 1e6 } });
         window.wide = at => seen.window(at * 1e6) / 1e6",
    );
    let wide = |at: f64| browser.eval(&wall, &format!("wide({at})")).as_f64().unwrap();
    assert_eq!(wide(1.0), 15.0);
    browser.run(&wall, "openSince(1)");
    assert_eq!(wide(10.0), 15.0);
    let (one, two) = (wide(21.0), wide(21.1));
    assert!(20.0 < one && one < two && two < 21.0, "{one} {two}");
    assert_eq!(wide(500.0), 60.0);
    // After the band has ended, the window gradually becomes narrower again.
    browser.run(&wall, "seen.feed.lanes.clear()");
    let later = wide(501.0);
    assert!(15.0 < later && later < 60.0, "{later}");
    assert_eq!(wide(530.0), 15.0);
    browser.run(&wall, "seen.mode = '60'");
    assert_eq!(wide(531.0), 60.0);
}
