//! Pages that detect a stopped server by its silence, and move to another one.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::chromedriver::{Browser, Tab};
use crate::common::{Server, create};

/// The permitted silence in `views/fixes/stream.js`.
const SILENCE: Duration = Duration::from_secs(15);
/// The maximum pause between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A balancer that carries bytes and knows nothing of HTTP. It connects each new client to the current server, and
/// never closes the connection of a server that is silent.
struct Balancer {
    address: SocketAddr,
    server: Arc<AtomicU16>,
    is_over: Arc<AtomicBool>,
}

impl Balancer {
    fn start(server: &Server) -> Balancer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let balancer = Balancer {
            address,
            server: Arc::new(AtomicU16::new(server.app.port())),
            is_over: Arc::new(AtomicBool::new(false)),
        };
        let (port, is_over) = (Arc::clone(&balancer.server), Arc::clone(&balancer.is_over));
        thread::spawn(move || {
            for client in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let Ok(server) = TcpStream::connect(("127.0.0.1", port.load(Ordering::Relaxed))) else {
                    continue;
                };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        balancer
    }

    fn use_server(&self, server: &Server) {
        self.server.store(server.app.port(), Ordering::Relaxed);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Continues the server however the test ends.
struct Continued<'a>(&'a Server);

impl Drop for Continued<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

/// Opens the page and keeps the states of its stream in `window.states`.
fn open(browser: &Browser, tab: &Tab, url: &str) {
    browser.goto(tab, url);
    browser.wait_for(tab, "document.getElementById('stream-state')?.textContent === 'streams'");
    browser.run(
        tab,
        "window.states = [];
         const state = document.getElementById('stream-state');
         new MutationObserver(() => states.push(state.textContent)).observe(state, { childList: true });",
    );
}

fn states(browser: &Browser, tab: &Tab) -> Value {
    browser.eval(tab, "states")
}

/// The names of the models on the page, oldest first.
fn shown(browser: &Browser, tab: &Tab) -> Value {
    browser.eval(
        tab,
        "[...document.querySelectorAll('#models li')].map(it => it.lastElementChild.textContent).reverse()",
    )
}

#[test]
fn pages_of_a_stopped_server_move_and_show_each_model_once_and_an_idle_page_stays() {
    let Some(browser) = Browser::start() else { return };
    // No idle connection to the stopped server remains, on which the browser could send its next request.
    let stopped = Server::start(&["--threads", "2", "--persistent-timeout", "1"]);
    let other = stopped.beside(&["--threads", "2"]);
    let balancer = Balancer::start(&stopped);
    let tabs = [browser.first_tab(), browser.new_tab(), browser.new_tab()];
    let [push, partials, idle] = &tabs;
    open(&browser, push, &format!("http://{}/fixes/push", balancer.address));
    open(&browser, partials, &format!("http://{}/fixes/partials", balancer.address));
    open(&browser, idle, &other.url("/fixes/push"));
    let all_show = |names: &[&str]| {
        for tab in &tabs {
            browser.wait_for(
                tab,
                &format!("document.getElementById('received').textContent === '{}'", names.len()),
            );
            assert_eq!(shown(&browser, tab), json!(names));
        }
    };
    assert_eq!(create(stopped.app, "first").0, 201);
    all_show(&["first"]);
    thread::sleep(Duration::from_secs(2));

    stopped.signal(Signal::STOP);
    let continued = Continued(&stopped);
    balancer.use_server(&other);
    assert_eq!(create(other.app, "meanwhile").0, 201);
    browser.wait_for(idle, "document.getElementById('received').textContent === '2'");
    let began = Instant::now();
    assert_eq!(shown(&browser, push), json!(["first"]));
    for tab in [push, partials] {
        browser.wait_for(tab, "states.at(-1) === 'streams'");
        let seen = states(&browser, tab);
        assert_eq!(seen, json!(["silent for 15 s; reconnects", "connects", "streams"]));
    }
    // The third page gets nothing but heartbeats for longer than the permitted silence.
    thread::sleep((SILENCE + HEARTBEAT).saturating_sub(began.elapsed()));
    all_show(&["first", "meanwhile"]);
    assert_eq!(create(other.app, "after").0, 201);
    all_show(&["first", "meanwhile", "after"]);

    drop(continued);
    stopped.wait_for_stats("no listener", |stats| stats["listeners"]["open"] == 0);
    assert_eq!(create(stopped.app, "last").0, 201);
    all_show(&["first", "meanwhile", "after", "last"]);
    assert_eq!(states(&browser, idle), json!([]), "the page of a healthy server has reconnected");
    let listeners = |server: &Server| server.stats()["listeners"].clone();
    assert_eq!(listeners(&stopped)["joined"], 2);
    assert_eq!((&listeners(&other)["open"], &listeners(&other)["joined"]), (&json!(3), &json!(3)));
}
