//! The real Chromium, headless, driven by DevTools over a pipe (`devtools`).
//!
//! `Target.createTarget` opens a page in a tab of its own, `Target.getTargets` names the pages with their
//! titles, `Target.closeTarget` closes one. Nine tabs do not need other calls: a page shows its state in its
//! title, and the server's record shows everything else.
//!
//! Each [`Chromium`] is a [`Process`] with a profile in a temporary folder. The folder is removed with it, even
//! if this process is killed ([`super::scratch`]). Other drivers, such as chromedriver in the tests, also start
//! Chromium in a [`Process`] with the same [`switches`].
//!
//! Starting blocks until DevTools answers, for at most [`START_TIMEOUT`]. Each call blocks for at most
//! [`CALL_TIMEOUT`]. Dropping blocks until all processes of Chromium are killed.

mod devtools;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

pub use self::devtools::CallError;
use self::devtools::DevTools;
use super::interrupt::Interrupt;
use super::program::{Program, find};
use super::scratch::{Scratch, ScratchError};

/// How long Chromium may take to start until DevTools answers.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long one call of DevTools may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The names of Chromium on PATH, the cheapest first: the headless shell is the same engine without a user interface,
/// and needs less than half the processor time to start.
const NAMES: [&str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

/// Why Chromium could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ChromiumError {
    /// None of Chromium's names is on PATH.
    #[error("Chromium is not installed: install the package chromium to see this in a real browser")]
    NotInstalled,
    /// A signal was received.
    #[error("interrupted")]
    Interrupted,
    /// The system could not run it.
    #[error("cannot run Chromium: {0}")]
    NotRun(#[from] io::Error),
    /// The folder for its profile could not be created.
    #[error(transparent)]
    NoFolder(#[from] ScratchError),
    /// Chromium ended, or its DevTools did not answer in time.
    #[error("Chromium started, but its DevTools did not answer: {0}")]
    NotReady(String),
    /// A call failed.
    #[error("Chromium's DevTools: {0}")]
    Call(#[from] CallError),
    /// DevTools sent an unexpected answer.
    #[error("Chromium's DevTools gave an unexpected answer: {0}")]
    Unexpected(Value),
}

/// The id of a page in DevTools.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct PageId(String);

/// A page as DevTools lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Page {
    /// Its id.
    #[serde(rename = "targetId")]
    pub id: PageId,
    /// Its title, or its address if it has none yet.
    pub title: String,
    /// Its current address: `about:blank` or empty at first.
    pub url: String,
}

/// A shell script that runs the browser with the shell's standard input and output as descriptors 3 and 4.
const SCRIPT: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

/// A Chromium, or a program that starts one, and its temporary folder. When this is dropped, the program and
/// all processes of its group are killed and the folder is removed.
#[derive(Debug)]
pub struct Process {
    // Dropped in this order, so that nothing writes into the folder when it is removed.
    program: Program,
    folder: Scratch,
}

impl Process {
    /// Starts the command that `make` returns for the folder, whose name begins with `prefix`.
    pub fn start(prefix: &str, make: impl FnOnce(&Path) -> Command) -> Result<Process, ChromiumError> {
        let mut folder = Scratch::make(prefix)?;
        let mut command = make(folder.path());
        // A killed Chromium leaves lock files in the temporary folder. They are removed with it.
        command.env("TMPDIR", folder.path());
        let program = Program::start(&mut command)?;
        folder.kill_first(program.id())?;
        Ok(Process { program, folder })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the program has ended. Does not block.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.program.status(), Ok(None))
    }
}

/// The path of the Chromium that is used, if one is installed.
pub fn installed() -> Option<PathBuf> {
    NAMES.iter().find_map(|name| find(name))
}

/// The switches of a headless Chromium that has its profile in this folder and does not connect to anything by itself.
pub fn switches(folder: &Path) -> Vec<String> {
    let mut switches: Vec<String> = [
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
        // Otherwise each tab starts a process.
        "--process-per-site",
    ]
    .map(str::to_owned)
    .into();
    switches.push(format!("--user-data-dir={}", folder.join("profile").display()));
    if rustix::process::getuid().is_root() {
        // Chromium refuses to run as root with its sandbox.
        switches.push("--no-sandbox".to_owned());
    }
    switches
}

/// A running Chromium.
#[derive(Debug)]
pub struct Chromium {
    _process: Process,
    devtools: DevTools,
}

impl Chromium {
    /// Starts Chromium with an empty profile, and waits until DevTools answers or an interrupt arrives.
    pub fn start(interrupt: &Interrupt) -> Result<Chromium, ChromiumError> {
        let path = installed().ok_or(ChromiumError::NotInstalled)?;
        let mut process = Process::start("ninetabs-chromium", |folder| {
            let mut command = Command::new("sh");
            command.args(["-c", SCRIPT, "sh"]).arg(path).args(switches(folder));
            // The pages are not visible, but each of them would draw its animations.
            command.args(["--force-prefers-reduced-motion", "--remote-debugging-pipe", "about:blank"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            command
        })?;
        let devtools = DevTools::of(process.program.child())?;
        match devtools.call("Browser.getVersion", &json!({}), START_TIMEOUT, interrupt) {
            Ok(_) => Ok(Chromium { _process: process, devtools }),
            Err(CallError::Interrupted) => Err(ChromiumError::Interrupted),
            Err(error) => Err(ChromiumError::NotReady(error.to_string())),
        }
    }

    /// Opens a tab on `url`. Returns when the tab exists, whether or not its page ever loads.
    pub fn open(&self, url: &str) -> Result<PageId, ChromiumError> {
        let mut answer = self.call("Target.createTarget", &json!({ "url": url }))?;
        read(answer["targetId"].take())
    }

    /// Closes a tab. Returns when DevTools has accepted the command. The server detects the close some
    /// milliseconds later.
    pub fn close(&self, id: &PageId) -> Result<(), ChromiumError> {
        self.call("Target.closeTarget", &json!({ "targetId": id.0 })).map(drop)
    }

    /// The open tabs, in no particular order.
    pub fn pages(&self) -> Result<Vec<Page>, ChromiumError> {
        #[derive(Deserialize)]
        struct Target {
            #[serde(rename = "type")]
            kind: String,
            #[serde(flatten)]
            page: Page,
        }
        let mut answer = self.call("Target.getTargets", &json!({}))?;
        let targets: Vec<Target> = read(answer["targetInfos"].take())?;
        Ok(targets.into_iter().filter(|target| target.kind == "page").map(|target| target.page).collect())
    }

    fn call(&self, method: &'static str, params: &Value) -> Result<Value, ChromiumError> {
        Ok(self.devtools.call(method, params, CALL_TIMEOUT, &Interrupt::never())?)
    }
}

fn read<T: for<'a> Deserialize<'a>>(answer: Value) -> Result<T, ChromiumError> {
    T::deserialize(&answer).map_err(|_| ChromiumError::Unexpected(answer))
}
