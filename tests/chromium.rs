//! Nine tabs in the real Chromium: which tabs wait for a thread, which wait in the browser, and what a page does
//! when the user leaves it.

use crate::common::chromedriver::{Browser, Tab};
use crate::common::{self, Server, create, get, json, wait_for};
use ninetabs::lab::chromium::Chromium;
use ninetabs::lab::interrupt::Interrupt;
use serde_json::Value;

/// The number of models that arrived through the stream, not with the page.
const ARRIVED: &str = "document.querySelectorAll('#models tr.new').length";

const STREAMS: &str = "document.body.dataset.state === 'streaming'";

/// Waits until a tab's page is streaming and a model has arrived through that stream.
fn wait_until_it_streams(browser: &Browser, tab: &Tab) {
    browser.wait_for(tab, STREAMS);
    browser.wait_for(tab, &format!("{ARRIVED} > 0"));
}

/// Waits until the stream has delivered `count` more models. The tests use this in place of a fixed delay.
fn wait_for_models(browser: &Browser, tab: &Tab, count: u64) {
    let so_far = browser.eval(tab, ARRIVED).as_u64().unwrap();
    browser.wait_for(tab, &format!("{ARRIVED} >= {}", so_far + count));
}

fn errors(browser: &Browser, tab: &Tab) -> Vec<String> {
    browser.console(tab).into_iter().filter(|line| line.starts_with("SEVERE")).collect()
}

/// The moments of the timeline after this number.
fn moments(server: &Server, after: u64) -> Vec<Value> {
    let (_, excerpt) = json(server.control, "GET", &format!("/timeline?after={after}"));
    excerpt["moments"].as_array().unwrap().clone()
}

fn last_seq(server: &Server) -> u64 {
    moments(server, 0).last().map_or(0, |moment| moment["seq"].as_u64().unwrap())
}

#[test]
fn on_nine_hosts_the_ninth_page_waits_for_a_thread() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "200ms", "--produce-every", "200ms"]);
    let url = |n: usize| format!("http://tab{n}.localhost:{}/?tab={n}", server.app.port());

    let mut tabs = vec![browser.first_tab()];
    for n in 1..=8 {
        if n > 1 {
            tabs.push(browser.new_tab());
        }
        browser.goto(&tabs[n - 1], &url(n));
        wait_until_it_streams(&browser, &tabs[n - 1]);
    }
    let stats = server.stats();
    assert_eq!((&stats["pool_capacity"], &stats["streams"]["open"]), (&0.into(), &8.into()));

    let ninth = browser.new_tab();
    browser.goto(&ninth, &url(9));
    server.wait_for_stats("queued ninth page", |stats| stats["backlog"].as_u64() >= Some(1));
    for tab in &tabs {
        wait_for_models(&browser, tab, 2);
    }
    assert_eq!(browser.title(&ninth), "about:blank", "its page has not arrived");

    browser.close_tab(tabs.remove(2));
    wait_until_it_streams(&browser, &ninth);
    assert_eq!(browser.eval(&ninth, "document.title"), "tab 9 · streams");
    for tab in tabs.iter().chain([&ninth]) {
        assert_eq!(browser.eval(tab, STREAMS), true);
        assert_eq!(errors(&browser, tab), [""; 0]);
    }
}

#[test]
fn on_one_host_the_seventh_page_waits_in_the_browser() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "200ms", "--produce-every", "200ms"]);

    let mut tabs = vec![browser.first_tab()];
    for n in 1..=6 {
        if n > 1 {
            tabs.push(browser.new_tab());
        }
        browser.goto(&tabs[n - 1], &server.url("/"));
        wait_until_it_streams(&browser, &tabs[n - 1]);
    }
    let asked = server.stats()["requests_count"].clone();
    assert_eq!(asked, 12, "six pages and six streams");

    let waiting: Vec<Tab> = (7..=9)
        .map(|_| {
            let tab = browser.new_tab();
            browser.goto(&tab, &server.url("/"));
            tab
        })
        .collect();
    for tab in &tabs {
        wait_for_models(&browser, tab, 3);
    }
    let stats = server.stats();
    assert_eq!((&stats["pool_capacity"], &stats["backlog"]), (&2.into(), &0.into()));
    assert_eq!(stats["requests_count"], asked, "no request of tabs 7 to 9 has reached the server");
    for tab in &waiting {
        assert_eq!(browser.title(tab), "about:blank", "its page has not arrived");
    }
    assert_eq!(get(server.app, "/up").0, 200, "another client is answered");

    // Chromium gives the freed connection to a waiting page, and then to another page or to that page's stream. In
    // the end, six tabs stream again.
    browser.close_tab(tabs.remove(0));
    wait_for("the stream of one of the waiting pages", || {
        waiting
            .iter()
            .find(|tab| browser.title(tab) == "Live rows · streams" && browser.eval(tab, STREAMS) == true)
    });
    // A thread becomes idle a moment after its page or stream has ended.
    server.wait_for_stats("six streams and two idle threads", |stats| {
        stats["streams"]["open"] == 6 && stats["pool_capacity"] == 2
    });
}

/// Whether the client of this connection has closed it, according to the server's kernel.
fn has_closed(server: &Server, peer_port: u64) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (local, peer) = (format!(":{:04X}", server.app.port()), format!(":{peer_port:04X}"));
    let is_established = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        fields[1].ends_with(&local) && fields[2].ends_with(&peer) && fields[3] == "01"
    };
    !table.lines().skip(1).any(is_established)
}

#[test]
fn a_page_left_by_a_link_frees_its_thread_within_two_writes_and_streams_again_on_back() {
    let Some(browser) = Browser::with_page_cache() else { return };
    // On a busy machine, this test may see the close a second late. The first write after the close must be later
    // than that.
    let server = Server::start(&["--update-rate", "3"]);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/"));
    browser.wait_for(&tab, STREAMS);
    browser.run(
        &tab,
        "window.remembered = true;
         document.body.insertAdjacentHTML('beforeend', '<a id=leave href=/up>leave</a>')",
    );
    let streaming = moments(&server, 0).into_iter().find(|moment| moment["kind"] == "streaming").unwrap();
    let (port, request) = (streaming["port"].as_u64().unwrap(), &streaming["request"]);

    browser.click(&tab, "#leave");
    let left_at = wait_for("the close", || has_closed(&server, port).then(|| last_seq(&server)));
    server.wait_for_stats("free thread", |stats| stats["streams"]["open"] == 0);
    browser.wait_for(&tab, "location.pathname === '/up'");

    let writes: Vec<Value> = moments(&server, left_at)
        .into_iter()
        .filter(|moment| moment["request"] == *request)
        .filter(|moment| moment["kind"] == "wrote" || moment["kind"] == "disconnected")
        .collect();
    assert!((1..=2).contains(&writes.len()), "{writes:?}");
    assert_eq!(writes.last().unwrap()["kind"], "disconnected");

    // This model is created while the page is in the browser's cache. When the page is restored, it requests the
    // model.
    assert_eq!(create(server.app, "made meanwhile").0, 201);
    browser.back(&tab);
    browser.wait_for(
        &tab,
        "document.querySelector('#models tr.new td:nth-child(2)').textContent === 'made meanwhile'",
    );
    assert_eq!(browser.eval(&tab, STREAMS), true);
    assert_eq!(
        browser.eval(&tab, "remembered"),
        true,
        "the page was reloaded instead of restored from the cache"
    );
    assert_eq!(server.stats()["streams"]["opened"], 2);
    assert_eq!(browser.eval(&tab, ARRIVED), 1);
}

#[test]
fn a_models_name_is_text_and_not_markup() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "100ms"]);
    let name = "<b>x</b><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>";
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/"));
    browser.wait_for(&tab, STREAMS);
    assert_eq!(create(server.app, name).0, 201);

    let cell = "document.querySelector('#models tr td:nth-child(2)')";
    browser.wait_for(&tab, &format!("{ARRIVED} === 1"));
    let look = |what: &str| {
        assert_eq!(browser.eval(&tab, &format!("{cell}.textContent")), name, "{what}");
        assert_eq!(browser.eval(&tab, &format!("{cell}.childElementCount")), 0, "{what}");
        assert_eq!(browser.eval(&tab, "typeof window.ran"), "undefined", "{what}");
    };
    look("as it arrived");
    assert_eq!(browser.eval(&tab, "document.querySelectorAll('#models tr').length"), 1);

    browser.goto(&tab, &server.url("/?tab=1"));
    browser.wait_for(&tab, "location.search === '?tab=1'");
    browser.wait_for(&tab, STREAMS);
    look("as it was rendered");
    assert_eq!(errors(&browser, &tab), [""; 0]);
}

#[test]
fn page_fetch_closes_the_source() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "100ms"]);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/"));
    browser.wait_for(&tab, STREAMS);

    browser.run(&tab, "document.dispatchEvent(new Event('page:fetch'))");
    assert_eq!(browser.eval(&tab, "source.readyState === EventSource.CLOSED"), true);
    assert_eq!(browser.eval(&tab, "document.body.dataset.state"), "closed");
    let is_free = |stats: &Value| stats["streams"]["open"] == 0 && stats["pool_capacity"] == 8;
    let stats = server.wait_for_stats("free thread", is_free);
    assert_eq!(stats["streams"]["disconnected"], 1);
    let console = browser.console(&tab);
    assert!(console.iter().any(|line| line.contains("source closed")), "{console:?}");
    assert!(!console.iter().any(|line| line.starts_with("SEVERE")), "{console:?}");
}

#[test]
fn a_reaped_page_reconnects_without_a_message_on_the_console() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&["--update-rate", "100ms", "--retry", "200ms"]);
    let tab = browser.first_tab();
    browser.goto(&tab, &server.url("/"));
    browser.wait_for(&tab, STREAMS);
    browser.run(
        &tab,
        "window.states = [];
         new MutationObserver(() => states.push(document.body.dataset.state))
           .observe(document.body, { attributeFilter: ['data-state'] })",
    );

    let (status, told) = json(server.control, "POST", "/reap");
    assert_eq!((status, &told["reaped"]), (200, &1.into()));
    browser.wait_for(&tab, "states.includes('reconnecting') && states.at(-1) === 'streaming'");
    assert_eq!(create(server.app, "made after that").0, 201);
    browser.wait_for(&tab, &format!("{ARRIVED} === 1"));
    assert_eq!(browser.console(&tab), [""; 0]);
}

#[test]
fn the_labs_chromium_opens_and_closes_a_tab_and_leaves_nothing_behind() {
    if common::chromium().is_none() {
        return;
    }
    let server = Server::start(&["--update-rate", "100ms"]);
    let chromium = Chromium::start(&Interrupt::never()).unwrap();
    let page = chromium.open(&format!("http://tab1.localhost:{}/?tab=1", server.app.port())).unwrap();
    server.wait_for_stats("stream", |stats| stats["streams"]["open"] == 1);
    let pages = chromium.pages().unwrap();
    let ours = format!("ninetabs-chromium-{}-", std::process::id());
    let entries = || std::fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok);
    let mine = || entries().filter(|it| it.file_name().to_string_lossy().starts_with(&ours));
    let profile = mine().next().expect("a profile folder").path().join("profile");
    assert!(
        profile.exists() && !profile.join("DevToolsActivePort").exists(),
        "Chromium opened a debugging port, which other users can reach"
    );
    assert!(pages.iter().any(|it| it.id == page && it.title.starts_with("tab 1 · ")), "{pages:?}");
    chromium.close(&page).unwrap();
    server.wait_for_stats("free thread", |stats| stats["streams"]["open"] == 0);

    drop(chromium);
    assert_eq!(mine().count(), 0);
}
