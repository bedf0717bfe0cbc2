//! The real Chromium, or its headless shell, which takes less than half the processor time. Each browser has its
//! own chromedriver and is controlled through WebDriver.
//!
//! fantoccini is asynchronous, but a test is a sequence of steps. Each call here therefore blocks until the driver
//! has answered, and the runtime runs only in these calls. Pages load with the strategy `none`: a call that opens
//! an address returns immediately, even if the page never loads. Whether it loads is what these tests check.
//!
//! At most [`BROWSERS`] browsers run at the same time, since nine tabs in each are as much as a small machine can
//! handle. A test borrows a browser and returns it with a single empty tab and without cookies or a cache. The next
//! test reuses it, since starting a browser takes longer than most tests. After a panic, the browser is killed
//! instead. When the test program ends, the remaining processes are killed and their profiles are removed.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fantoccini::error::CmdError;
use fantoccini::wd::{Capabilities, WindowHandle};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use ninetabs::lab::chromium::{self, Process};
use ninetabs::lab::http;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// How long a test waits for something that must happen, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The color schemes in which every page must be readable: light, dark, and forced colors.
pub const SCHEMES: [&str; 3] = ["light", "dark", "forced"];
/// The pause between two checks. Each check costs the browser some time as well.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest pause. What has not happened within seconds need not be noticed at once.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(250);

/// Every browser prefers reduced motion. The wall and the dashboard then draw only once per second, which saves a
/// seventh to a quarter of their processor time, and new rows on the page of models do not fade.
const CALM: &str = "--force-prefers-reduced-motion";
/// The preference of most users.
const MOTION: (&str, &str) = ("prefers-reduced-motion", "no-preference");

/// Maximum number of browsers that run at the same time.
const BROWSERS: usize = 3;

static POOL: Pool =
    Pool { browsers: Mutex::new(Browsers { borrowed: 0, idle: Vec::new() }), returned: Condvar::new() };

/// The browsers that are running.
struct Pool {
    browsers: Mutex<Browsers>,
    /// Notified when a browser is returned.
    returned: Condvar,
}

struct Browsers {
    borrowed: usize,
    idle: Vec<Driven>,
}

/// A running Chromium and its driver, borrowed by one test.
pub struct Browser {
    /// `None` only while it is being dropped.
    driven: Option<Driven>,
    // Dropped last: the next test may borrow a browser only after this one was returned.
    _place: Place,
}

/// The right to use one of the [`BROWSERS`].
struct Place;

struct Driven {
    kind: Kind,
    client: Client,
    runtime: Runtime,
    session: String,
    targets: String,
    _process: Process,
}

/// How a browser was started. Tests that need the same kind share browsers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    program: PathBuf,
    switches: Vec<String>,
}

/// A tab of a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tab(WindowHandle);

impl Browser {
    /// Borrows a browser. Blocks while the maximum number is in use. If Chromium or its driver is not installed,
    /// prints a message and returns `None`. With `CI` set, the test fails instead.
    pub fn start() -> Option<Browser> {
        Browser::start_with(&[])
    }

    /// The same, for a browser that is started with these additional switches.
    pub fn start_with(switches: &[&str]) -> Option<Browser> {
        let switches = switches.iter().map(|switch| (*switch).to_owned()).collect();
        Browser::of(Kind { program: super::chromium()?, switches })
    }

    /// A browser that caches pages for Back and Forward. The headless shell does not.
    pub fn with_page_cache() -> Option<Browser> {
        Browser::of(Kind { program: super::program("chromium")?, switches: Vec::new() })
    }

    fn of(kind: Kind) -> Option<Browser> {
        let driver = super::program("chromedriver")?;
        let (place, idle) = POOL.borrow(&kind);
        let driven = idle.unwrap_or_else(|| Driven::start(&driver, kind));
        Some(Browser { driven: Some(driven), _place: place })
    }

    /// The tab that Chromium starts with.
    pub fn first_tab(&self) -> Tab {
        Tab(self.driven().runtime.block_on(self.driven().client.window()).unwrap())
    }

    /// Opens an empty tab.
    pub fn new_tab(&self) -> Tab {
        let window = self.driven().runtime.block_on(self.driven().client.new_window(true)).unwrap();
        Tab(window.handle)
    }

    /// Opens an address in a tab. Returns immediately.
    pub fn goto(&self, tab: &Tab, url: &str) {
        self.look_at(tab);
        self.driven().runtime.block_on(self.driven().client.goto(url)).unwrap();
    }

    /// Goes back in a tab's history, as the browser's Back button does.
    pub fn back(&self, tab: &Tab) {
        self.look_at(tab);
        self.driven().runtime.block_on(self.driven().client.back()).unwrap();
    }

    /// Clicks on an element as a user would.
    pub fn click(&self, tab: &Tab, selector: &str) {
        self.look_at(tab);
        self.driven().runtime.block_on(async {
            self.driven().client.find(Locator::Css(selector)).await.unwrap().click().await.unwrap();
        });
    }

    pub fn close_tab(&self, tab: Tab) {
        self.look_at(&tab);
        self.driven().runtime.block_on(self.driven().client.close_window()).unwrap();
    }

    /// A screenshot of a tab, as a PNG.
    pub fn screenshot(&self, tab: &Tab) -> Vec<u8> {
        self.look_at(tab);
        self.driven().runtime.block_on(self.driven().client.screenshot()).unwrap()
    }

    /// The value of an expression in a tab's page, or null if the expression throws, as it may in a partly loaded
    /// page. Blocks for up to 30 s if no part of the page has arrived.
    pub fn eval(&self, tab: &Tab, expression: &str) -> Value {
        self.look_at(tab);
        self.eval_here(expression)
    }

    /// Runs statements in a tab's page.
    pub fn run(&self, tab: &Tab, script: &str) {
        self.look_at(tab);
        self.driven().runtime.block_on(self.driven().client.execute(script, Vec::new())).unwrap();
    }

    /// The value of an expression in the page of a tab's first frame, as `eval` returns it.
    pub fn eval_in_frame(&self, tab: &Tab, expression: &str) -> Value {
        self.eval_in_frame_of(tab, "iframe", expression)
    }

    /// The same for the first frame that this selector matches.
    pub fn eval_in_frame_of(&self, tab: &Tab, selector: &str, expression: &str) -> Value {
        self.look_at(tab);
        self.driven().runtime.block_on(async {
            self.driven().client.find(Locator::Css(selector)).await.unwrap().enter_frame().await.unwrap();
        });
        self.eval_here(expression)
    }

    fn eval_here(&self, expression: &str) -> Value {
        let script = format!("try {{ return {expression} }} catch {{ return null }}");
        self.driven().runtime.block_on(self.driven().client.execute(&script, Vec::new())).unwrap()
    }

    /// Types these keys into the focused element.
    pub fn press(&self, tab: &Tab, keys: &str) {
        self.look_at(tab);
        self.driven().runtime.block_on(async {
            self.driven().client.active_element().await.unwrap().send_keys(keys).await.unwrap();
        });
    }

    /// Sends a DevTools protocol command to a tab, and returns its result.
    pub fn devtools(&self, tab: &Tab, command: &str, parameters: &Value) -> Value {
        self.look_at(tab);
        let asked = json!({ "cmd": command, "params": parameters }).to_string();
        let answer = self.driven().post("goog/cdp/execute", asked);
        let answer = answer.unwrap_or_else(|error| panic!("{command}: {error}"));
        answer.json().map(|mut answer| answer["value"].take()).unwrap_or_default()
    }

    /// A tab's page on A4, as a PDF. The page's own size and margins take precedence.
    pub fn print(&self, tab: &Tab) -> Vec<u8> {
        let paper = json!({ "paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": true });
        let printed = self.devtools(tab, "Page.printToPDF", &paper);
        super::case_bytes::base64(printed["data"].as_str().unwrap_or_else(|| panic!("no PDF: {printed}")))
    }

    /// Makes a tab prefer one of [`SCHEMES`].
    pub fn prefer(&self, tab: &Tab, scheme: &str) {
        let (scheme, forced) = if scheme == "forced" { ("dark", "active") } else { (scheme, "none") };
        self.emulate(tab, &[("prefers-color-scheme", scheme), ("forced-colors", forced)]);
    }

    /// Allows motion in a tab's pages, as most users do, until `prefer` is called. See [`CALM`].
    pub fn allow_motion(&self, tab: &Tab) {
        self.emulate(tab, &[MOTION]);
    }

    /// Makes a tab prefer a color scheme, and allows motion in its pages.
    pub fn prefer_with_motion(&self, tab: &Tab, scheme: &str) {
        self.emulate(tab, &[("prefers-color-scheme", scheme), MOTION]);
    }

    fn emulate(&self, tab: &Tab, features: &[(&str, &str)]) {
        let feature = |(name, value): &(&str, &str)| json!({ "name": name, "value": value });
        let features: Vec<Value> = features.iter().map(feature).collect();
        self.devtools(tab, "Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// A tab's title from DevTools; `about:blank` until its page has arrived. WebDriver cannot be used for
    /// this, since it waits for the page.
    pub fn title(&self, tab: &Tab) -> String {
        #[derive(Deserialize)]
        struct Target {
            id: String,
            title: String,
        }
        let answer = http::get(&self.driven().targets, PATIENCE).unwrap();
        let targets: Vec<Target> = serde_json::from_slice(&answer.body).unwrap();
        let id = String::from(tab.0.clone());
        let found = targets.into_iter().find(|target| target.id == id);
        found.unwrap_or_else(|| panic!("DevTools has no {tab:?}: {}", answer.text())).title
    }

    /// Waits until an expression is true in a tab's page.
    pub fn wait_for(&self, tab: &Tab, expression: &str) {
        let began = Instant::now();
        while self.eval(tab, expression) != Value::Bool(true) {
            if began.elapsed() > PATIENCE {
                let page = self.eval(tab, "location.href + document.documentElement.outerHTML");
                panic!(
                    "{expression} did not become true within {PATIENCE:?}: {page}\n{:?}",
                    self.console(tab)
                );
            }
            thread::sleep((began.elapsed() / 8).clamp(LOOK_EVERY, LOOK_AT_LEAST_EVERY));
        }
    }

    /// The messages on a tab's console since the last call: `LEVEL message`.
    pub fn console(&self, tab: &Tab) -> Vec<String> {
        self.look_at(tab);
        let asked = json!({ "type": "browser" }).to_string();
        let answer = self.driven().post("se/log", asked).unwrap();
        let answer = answer.json().unwrap();
        let entries = answer["value"].as_array().unwrap_or_else(|| panic!("no log: {answer}"));
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        entries.iter().map(|entry| format!("{} {}", text(entry, "level"), text(entry, "message"))).collect()
    }

    fn look_at(&self, tab: &Tab) {
        self.driven().runtime.block_on(self.driven().client.switch_to_window(tab.0.clone())).unwrap();
    }

    fn driven(&self) -> &Driven {
        self.driven.as_ref().expect("present until dropped")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let driven = self.driven.take().filter(|_| !thread::panicking());
        if let Some(driven) = driven
            && driven.reset().is_ok()
        {
            POOL.browsers().idle.push(driven);
        }
    }
}

impl Pool {
    /// Blocks until a browser is available. Returns an idle browser of this kind, if there is one.
    fn borrow(&'static self, kind: &Kind) -> (Place, Option<Driven>) {
        let mut browsers = self.browsers();
        while browsers.borrowed == BROWSERS {
            browsers = self.returned.wait(browsers).unwrap_or_else(PoisonError::into_inner);
        }
        browsers.borrowed += 1;
        let found = browsers.idle.iter().position(|driven| driven.kind == *kind);
        let found = found.map(|at| browsers.idle.swap_remove(at));
        let is_one_too_many = found.is_none() && browsers.borrowed + browsers.idle.len() > BROWSERS;
        let surplus = if is_one_too_many { browsers.idle.pop() } else { None };
        drop(browsers);
        drop(surplus);
        (Place, found)
    }

    fn browsers(&self) -> MutexGuard<'_, Browsers> {
        self.browsers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        POOL.browsers().borrowed -= 1;
        POOL.returned.notify_one();
    }
}

impl Driven {
    fn start(driver: &Path, kind: Kind) -> Driven {
        let (process, port) = listening(driver);
        let url = format!("http://127.0.0.1:{port}");

        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities(&kind, process.folder()));
        let client = runtime.block_on(builder.connect(&url)).unwrap();
        let id = runtime.block_on(client.session_id()).unwrap().unwrap();
        let session = format!("{url}/session/{id}");
        let has = client.capabilities().unwrap();
        let address = has["goog:chromeOptions"]["debuggerAddress"].as_str().unwrap();
        let targets = format!("http://{address}/json/list");
        Driven { kind, client, runtime, session, targets, _process: process }
    }

    /// Leaves one empty tab and an empty console, and no cookies or cache.
    fn reset(&self) -> Result<(), Box<dyn Error>> {
        self.runtime.block_on(self.keep_one_tab())?;
        for command in ["Network.clearBrowserCookies", "Network.clearBrowserCache"] {
            let asked = json!({ "cmd": command, "params": {} }).to_string();
            self.post("goog/cdp/execute", asked)?;
        }
        self.post("se/log", json!({ "type": "browser" }).to_string())?;
        Ok(())
    }

    async fn keep_one_tab(&self) -> Result<(), CmdError> {
        let used = self.client.windows().await?;
        let empty = self.client.new_window(false).await?.handle;
        for window in used {
            self.client.switch_to_window(window).await?;
            self.client.close_window().await?;
        }
        self.client.switch_to_window(empty).await
    }

    /// Sends a command that is an extension of WebDriver.
    fn post(&self, command: &str, body: String) -> Result<http::Answer, Box<dyn Error>> {
        let answer = http::post(&format!("{}/{command}", self.session), "application/json", body, PATIENCE)?;
        match answer.status() {
            200 => Ok(answer),
            status => Err(format!("{command} was answered {status}: {}", answer.text()).into()),
        }
    }
}

/// Starts a chromedriver, and returns it with its port, which it prints once it listens. chromedriver needs the
/// same port for IPv4 and IPv6 and exits if either is in use. Another one is then started.
fn listening(driver: &Path) -> (Process, u16) {
    let end = Instant::now() + PATIENCE;
    loop {
        // Chromium is in the driver's process group.
        let mut process = Process::start("ninetabs-chromedriver", |folder| {
            let mut command = Command::new(driver);
            command.arg("--port=0").stdin(Stdio::null()).stderr(Stdio::null());
            command.stdout(fs::File::create(folder.join("chromedriver")).unwrap());
            command
        })
        .unwrap();
        loop {
            let text = fs::read_to_string(process.folder().join("chromedriver")).unwrap();
            let port =
                text.split_once("started successfully on port ").and_then(|(_, rest)| rest.split_once('.'));
            if let Some(port) = port.and_then(|(port, _)| port.parse().ok()) {
                return (process, port);
            }
            assert!(Instant::now() < end, "chromedriver does not listen: {text}");
            if process.has_ended() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn capabilities(kind: &Kind, folder: &Path) -> Capabilities {
    let mut arguments = chromium::switches(folder);
    // Without this switch, the frames of nine hosts run in nine processes, which start slowly on a small machine.
    // The switch does not affect requests and connections.
    arguments.push("--disable-site-isolation-trials".to_owned());
    arguments.push(CALM.to_owned());
    arguments.extend_from_slice(&kind.switches);
    // chromedriver expects that every Chromium opens with a page, but the headless shell opens without one.
    let is_shell = kind.program.ends_with("chromium-headless-shell");
    let capabilities = json!({
        "browserName": if is_shell { "chrome-headless-shell" } else { "chrome" },
        "pageLoadStrategy": "none",
        "goog:loggingPrefs": { "browser": "ALL" },
        "goog:chromeOptions": { "binary": kind.program, "args": arguments },
    });
    serde_json::from_value(capabilities).unwrap()
}
