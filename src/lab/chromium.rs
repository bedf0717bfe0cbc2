//! The real Chromium, headless, driven by DevTools' plain HTTP endpoints.
//!
//! `PUT /json/new?URL` opens a page in a tab of its own, `GET /json/list` names the
//! pages with their titles, `GET /json/close/ID` closes one. That is all that nine
//! tabs need: a page says by its title how it fares, and the server says the rest.
//! So nothing here speaks WebSocket.
//!
//! Each [`Chromium`] has a profile in a temporary folder, which goes with it, also if this process
//! is killed ([`super::scratch`]).
//! Starting blocks until DevTools answers ([`START_TIMEOUT`] at the most), each call
//! for [`CALL_TIMEOUT`] at the most, dropping until all its processes are killed.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use url::Url;

use super::http::{self, Answer, HttpError, Request};
use super::interrupt::{Interrupt, Interrupted};
use super::program::{Program, find};
use super::scratch::Scratch;

/// How long Chromium may take until its DevTools answer.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one call of DevTools may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Why Chromium did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ChromiumError {
    /// None of its names is on PATH.
    #[error("Chromium is not installed: install the package chromium to see this in a real browser")]
    NotInstalled,
    /// A signal came meanwhile.
    #[error("interrupted")]
    Interrupted,
    /// The system did not run it, or gave no folder for its profile.
    #[error("Chromium could not be run: {0}")]
    NotRun(#[from] io::Error),
    /// It ended, or its DevTools did not answer in time.
    #[error("Chromium started, but its DevTools did not answer: {0}")]
    NotReady(String),
    /// DevTools did not answer a call.
    #[error("Chromium's DevTools did not answer: {0}")]
    Call(#[from] HttpError),
    /// DevTools answered something else than what was asked for.
    #[error("Chromium's DevTools answered {status}: {text}")]
    Refused {
        /// Its status.
        status: u16,
        /// What it said.
        text: String,
    },
}

/// DevTools' name for a page.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct PageId(String);

/// A page as DevTools lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Page {
    /// Its name.
    pub id: PageId,
    /// Its title; its address while it has none.
    pub title: String,
    /// Its address, as far as it has got: `about:blank` or empty at first.
    pub url: String,
}

/// A running Chromium. Killed, and its profile removed, when dropped.
#[derive(Debug)]
pub struct Chromium {
    // Dropped in this order: the folder can go when nothing writes to it.
    program: Program,
    profile: Scratch,
    port: u16,
}

impl Chromium {
    /// Starts it with an empty profile and waits until DevTools answers.
    pub fn start() -> Result<Chromium, ChromiumError> {
        Chromium::start_unless(&Interrupt::never())
    }

    /// The same, for as long as no interrupt comes.
    pub fn start_unless(interrupt: &Interrupt) -> Result<Chromium, ChromiumError> {
        let path = NAMES.iter().find_map(|name| find(name)).ok_or(ChromiumError::NotInstalled)?;
        let mut profile = Scratch::make("ninetabs-chromium")?;
        let mut command = Command::new(path);
        command.args([
            "--headless=new",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-default-browser-check",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        // What it leaves elsewhere when it is killed is cleared away with the profile.
        command.env("TMPDIR", profile.path());
        if rustix::process::getuid().is_root() {
            // Chromium refuses to run as root with its sandbox.
            command.arg("--no-sandbox");
        }
        command.arg("about:blank").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let program = Program::start(&mut command)?;
        profile.kill_first(program.id())?;
        let mut chromium = Chromium { program, profile, port: 0 };
        chromium.wait_until_ready(interrupt)?;
        Ok(chromium)
    }

    fn wait_until_ready(&mut self, interrupt: &Interrupt) -> Result<(), ChromiumError> {
        let end = Instant::now() + START_TIMEOUT;
        let mut last = "it wrote no DevToolsActivePort".to_owned();
        while Instant::now() < end {
            if let Some(status) = self.program.status()? {
                return Err(ChromiumError::NotReady(format!("it ended with {status}")));
            }
            if let Some(port) = devtools_port(self.profile.path()) {
                self.port = port;
                match self.pages() {
                    Ok(_) => return Ok(()),
                    Err(error) => last = error.to_string(),
                }
            }
            interrupt.sleep(Duration::from_millis(20)).map_err(|Interrupted| ChromiumError::Interrupted)?;
        }
        Err(ChromiumError::NotReady(last))
    }

    /// Opens a tab on `url`. Returns when the tab exists, whether or not its page
    /// ever loads.
    pub fn open(&self, url: &str) -> Result<PageId, ChromiumError> {
        // DevTools takes the whole query as the address, percent-decoded.
        let mut query = Url::parse("http://query/").map_err(|error| http::bad_url(url, &error))?;
        query.set_query(Some(&url.replace('%', "%25").replace('#', "%23")));
        let answer = self.call("PUT", &format!("new?{}", query.query().unwrap_or_default()))?;
        let page: Page = read(&answer)?;
        Ok(page.id)
    }

    /// Closes a tab. Returns when DevTools has taken the order; the server hears of
    /// it some milliseconds later.
    pub fn close(&self, id: &PageId) -> Result<(), ChromiumError> {
        self.call("GET", &format!("close/{}", id.0)).map(drop)
    }

    /// The tabs that are open, the newest first.
    pub fn pages(&self) -> Result<Vec<Page>, ChromiumError> {
        #[derive(Deserialize)]
        struct Target {
            #[serde(rename = "type")]
            kind: String,
            #[serde(flatten)]
            page: Page,
        }
        let targets: Vec<Target> = read(&self.call("GET", "list")?)?;
        Ok(targets.into_iter().filter(|target| target.kind == "page").map(|target| target.page).collect())
    }

    fn call(&self, method: &'static str, what: &str) -> Result<Answer, ChromiumError> {
        let url = http::parse_url(&format!("http://127.0.0.1:{}/json/{what}", self.port))?;
        let headers = vec![("Connection", b"close".to_vec())];
        let answer = http::request(&url, &Request { method, headers, body: None }, CALL_TIMEOUT)?;
        if answer.status() == 200 { Ok(answer) } else { Err(refused(&answer)) }
    }
}

fn read<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Result<T, ChromiumError> {
    serde_json::from_slice(&answer.body).map_err(|_| refused(answer))
}

fn refused(answer: &Answer) -> ChromiumError {
    ChromiumError::Refused { status: answer.status(), text: answer.text() }
}

/// Chromium writes the port that it got as the first line of this file.
fn devtools_port(profile: &Path) -> Option<u16> {
    let text = fs::read_to_string(profile.join("DevToolsActivePort")).ok()?;
    text.lines().next()?.parse().ok()
}
