//! The real Chromium with a chromedriver of a test's own, driven through WebDriver.
//!
//! fantoccini is asynchronous; a test is a story told in order. So each call here
//! blocks until the driver has answered, and the runtime behind it runs at no other
//! time. Pages load with the strategy `none`: a call that opens an address returns
//! at once, whether or not the page ever comes, which is what these tests are about.
//!
//! One Chromium runs at a time: nine tabs are enough for a small machine. Dropped,
//! even by a panic, a browser and all its processes are killed and its profile goes.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fantoccini::wd::{Capabilities, WindowHandle};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use ninetabs::lab::{http, program::Program};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// How long a test waits for what must come, on the slowest of machines.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks. Each look costs the browser something, too.
const LOOK_EVERY: Duration = Duration::from_millis(50);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A running Chromium and its driver.
pub struct Browser {
    // Dropped in this order: who is driven, who drives, the processes, their folder.
    client: Client,
    runtime: Runtime,
    program: Program,
    folder: Option<TempDir>,
    session: String,
    targets: String,
    _alone: MutexGuard<'static, ()>,
}

/// A tab of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tab(WindowHandle);

impl Browser {
    /// Starts both; `None`, with a word why, where one is not installed. With `CI` set
    /// that is a failure instead.
    pub fn start() -> Option<Browser> {
        Browser::start_with(&[])
    }

    /// As `start`, with these switches besides.
    pub fn start_with(switches: &[&str]) -> Option<Browser> {
        super::program("chromium")?;
        let driver = super::program("chromedriver")?;
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

        let folder = tempfile::tempdir().unwrap();
        let (program, port) = listening(&driver, folder.path());
        let url = format!("http://127.0.0.1:{port}");

        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities(&folder.path().join("profile"), switches));
        let client = runtime.block_on(builder.connect(&url)).unwrap();
        let id = runtime.block_on(client.session_id()).unwrap().unwrap();
        let session = format!("{url}/session/{id}");
        let has = client.capabilities().unwrap();
        let address = has["goog:chromeOptions"]["debuggerAddress"].as_str().unwrap();
        let targets = format!("http://{address}/json/list");
        Some(Browser { client, runtime, program, folder: Some(folder), session, targets, _alone: alone })
    }

    /// The tab that Chromium has from the start.
    pub fn first_tab(&self) -> Tab {
        Tab(self.runtime.block_on(self.client.window()).unwrap())
    }

    /// Opens an empty tab.
    pub fn new_tab(&self) -> Tab {
        let window = self.runtime.block_on(self.client.new_window(true)).unwrap();
        Tab(window.handle)
    }

    /// Types an address into a tab. Returns at once.
    pub fn goto(&self, tab: &Tab, url: &str) {
        self.look_at(tab);
        self.runtime.block_on(self.client.goto(url)).unwrap();
    }

    /// The browser's Back.
    pub fn back(&self, tab: &Tab) {
        self.look_at(tab);
        self.runtime.block_on(self.client.back()).unwrap();
    }

    /// Clicks where a person would.
    pub fn click(&self, tab: &Tab, selector: &str) {
        self.look_at(tab);
        self.runtime.block_on(async {
            self.client.find(Locator::Css(selector)).await.unwrap().click().await.unwrap();
        });
    }

    pub fn close_tab(&self, tab: Tab) {
        self.look_at(&tab);
        self.runtime.block_on(self.client.close_window()).unwrap();
    }

    /// The value of an expression in a tab's page; null while that throws, as it does
    /// in a page that is half there. Blocks, for 30 s, while the page has not come at all.
    pub fn eval(&self, tab: &Tab, expression: &str) -> Value {
        self.look_at(tab);
        self.eval_here(expression)
    }

    /// Runs statements in a tab's page.
    pub fn run(&self, tab: &Tab, script: &str) {
        self.look_at(tab);
        self.runtime.block_on(self.client.execute(script, Vec::new())).unwrap();
    }

    /// The value of an expression in the page of a tab's first frame, as `eval` has it.
    pub fn eval_in_frame(&self, tab: &Tab, expression: &str) -> Value {
        self.look_at(tab);
        self.runtime.block_on(async {
            self.client.find(Locator::Css("iframe")).await.unwrap().enter_frame().await.unwrap();
        });
        self.eval_here(expression)
    }

    fn eval_here(&self, expression: &str) -> Value {
        let script = format!("try {{ return {expression} }} catch {{ return null }}");
        self.runtime.block_on(self.client.execute(&script, Vec::new())).unwrap()
    }

    /// Types on the keyboard, wherever the focus is.
    pub fn press(&self, tab: &Tab, keys: &str) {
        self.look_at(tab);
        self.runtime.block_on(async {
            self.client.active_element().await.unwrap().send_keys(keys).await.unwrap();
        });
    }

    /// A command of the DevTools protocol to a tab.
    pub fn devtools(&self, tab: &Tab, command: &str, parameters: &Value) {
        self.look_at(tab);
        let asked = json!({ "cmd": command, "params": parameters }).to_string();
        let url = format!("{}/goog/cdp/execute", self.session);
        let answer = http::post(&url, "application/json", asked, PATIENCE).unwrap();
        assert_eq!(answer.status(), 200, "{command}: {}", answer.text());
    }

    /// Has a tab's person prefer `light` or `dark`.
    pub fn prefer(&self, tab: &Tab, scheme: &str) {
        let scheme = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools(tab, "Emulation.setEmulatedMedia", &json!({ "features": [scheme] }));
    }

    /// A tab's title by DevTools; `about:blank` while its page has not come. WebDriver
    /// cannot be asked this then: it waits for the page.
    pub fn title(&self, tab: &Tab) -> String {
        #[derive(Deserialize)]
        struct Target {
            id: String,
            title: String,
        }
        let answer = http::get(&self.targets, PATIENCE).unwrap();
        let targets: Vec<Target> = serde_json::from_slice(&answer.body).unwrap();
        let id = String::from(tab.0.clone());
        let found = targets.into_iter().find(|target| target.id == id);
        found.unwrap_or_else(|| panic!("DevTools has no {tab:?}: {}", answer.text())).title
    }

    /// Waits until an expression is true in a tab's page.
    pub fn wait_for(&self, tab: &Tab, expression: &str) {
        let end = Instant::now() + PATIENCE;
        while self.eval(tab, expression) != Value::Bool(true) {
            if Instant::now() > end {
                let page = self.eval(tab, "location.href + document.documentElement.outerHTML");
                panic!("{expression} did not come true in {PATIENCE:?}: {page}\n{:?}", self.console(tab));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// What a tab's console has been told since it was last asked: `LEVEL message`.
    pub fn console(&self, tab: &Tab) -> Vec<String> {
        self.look_at(tab);
        let asked = json!({ "type": "browser" }).to_string();
        let answer =
            http::post(&format!("{}/se/log", self.session), "application/json", asked, PATIENCE).unwrap();
        let answer = answer.json().unwrap();
        let entries = answer["value"].as_array().unwrap_or_else(|| panic!("no log: {answer}"));
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        entries.iter().map(|entry| format!("{} {}", text(entry, "level"), text(entry, "message"))).collect()
    }

    fn look_at(&self, tab: &Tab) {
        self.runtime.block_on(self.client.switch_to_window(tab.0.clone())).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium is in the driver's process group. Its helpers may take a moment to
        // let go of what they were writing.
        let killed = self.program.kill();
        let Some(folder) = self.folder.take() else { return };
        let folder = folder.keep();
        let end = Instant::now() + PATIENCE;
        while folder.exists() && Instant::now() < end {
            let _ = fs::remove_dir_all(&folder);
            thread::sleep(Duration::from_millis(20));
        }
        if let Err(error) = killed {
            eprintln!("chromedriver was not killed: {error}");
        }
    }
}

/// A chromedriver that listens, and its port, which it writes on its standard output then. It
/// wants the same one for both kinds of address, and ends where one of them is taken: then
/// another is started.
fn listening(driver: &Path, folder: &Path) -> (Program, u16) {
    let said = folder.join("chromedriver");
    let end = Instant::now() + PATIENCE;
    loop {
        let mut command = Command::new(driver);
        command.arg("--port=0").stdin(Stdio::null()).stderr(Stdio::null());
        command.stdout(File::create(&said).unwrap());
        // Killed, Chromium leaves its lock's socket in the folder for temporary files.
        command.env("TMPDIR", folder);
        let mut program = Program::start(&mut command).unwrap();
        loop {
            let text = fs::read_to_string(&said).unwrap();
            let port =
                text.split_once("started successfully on port ").and_then(|(_, rest)| rest.split_once('.'));
            if let Some(port) = port.and_then(|(port, _)| port.parse().ok()) {
                return (program, port);
            }
            assert!(Instant::now() < end, "chromedriver does not listen: {text}");
            if program.status().unwrap().is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn capabilities(profile: &Path, switches: &[&str]) -> Capabilities {
    let mut arguments = vec![
        "--headless=new".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-quic".to_owned(),
        "--no-first-run".to_owned(),
        "--no-proxy-server".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        format!("--user-data-dir={}", profile.display()),
    ];
    arguments.extend(switches.iter().map(|switch| (*switch).to_owned()));
    if rustix::process::getuid().is_root() {
        // Chromium refuses to run as root with its sandbox.
        arguments.push("--no-sandbox".to_owned());
    }
    let capabilities = json!({
        "browserName": "chrome",
        "pageLoadStrategy": "none",
        "goog:loggingPrefs": { "browser": "ALL" },
        "goog:chromeOptions": { "args": arguments },
    });
    serde_json::from_value(capabilities).unwrap()
}
