//! The server under test: a child `ninetabs serve` on free ports.
//!
//! Its addresses are read from its state file. It stops when its standard input ends, so even a `kill -9` of this
//! process leaves neither a server nor a folder behind ([`super::scratch`]). Dropping the server stops it, and blocks
//! until it has ended.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use thiserror::Error;

use super::follower::RecordFollower;
use super::http::{self, HttpError};
use super::interrupt::Interrupt;
use super::program::Program;
use super::scratch::{Scratch, ScratchError};

/// Any free port on this machine.
pub const FREE_PORT: &str = "tcp://127.0.0.1:0";
/// How long the server may take until it listens.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How long the server may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How long the server's control server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why the server could not be started or queried.
#[derive(Debug, Error)]
pub enum SubjectError {
    #[error("cannot start {}: {error}", .program.display())]
    NotStarted { program: PathBuf, error: io::Error },
    #[error(transparent)]
    NoFolder(#[from] ScratchError),
    #[error("interrupted")]
    Interrupted,
    #[error("the server did not start: {0}")]
    Ended(String),
    #[error("the server did not write its addresses within {START_WITHIN:?}")]
    NotReady,
    #[error("the server's control server did not answer: {0}")]
    Control(#[from] HttpError),
    #[error("the server's control server did not answer with JSON: {0}")]
    NoJson(#[from] serde_json::Error),
}

/// What a server is started with.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    pub program: &'a Path,
    /// The address of the app (`tcp://…`).
    pub bind: &'a str,
    /// The file of its database. `None` if an environment variable names the database.
    pub database: Option<&'a Path>,
    /// Additional flags.
    pub flags: &'a [String],
    /// Environment variables, for values that other users must not see.
    pub variables: &'a [(&'static str, String)],
}

/// A running `ninetabs serve`. Dropping this stops the server, and blocks until it has ended.
#[derive(Debug)]
pub struct ChildServer {
    // Dropped in this order: the folder last.
    program: Program,
    app: String,
    control: String,
    interrupt: Interrupt,
    _folder: Scratch,
}

/// A running server, and its record.
#[derive(Debug)]
pub struct TestedServer {
    // Dropped in this order: the follower first, because it is a client of the server.
    follower: RecordFollower,
    server: ChildServer,
}

impl TestedServer {
    /// Starts `program serve` on a free port and a database of its own, with these additional flags. It does not
    /// inherit NINETABS_ variables of the environment.
    pub fn start(
        program: &Path,
        flags: &[String],
        interrupt: &Interrupt,
    ) -> Result<TestedServer, SubjectError> {
        TestedServer::start_at(program, FREE_PORT, Path::new(":memory:"), flags, interrupt)
    }

    /// Like `start`, at this address (`tcp://…`) and with this database.
    pub fn start_at(
        program: &Path,
        bind: &str,
        database: &Path,
        flags: &[String],
        interrupt: &Interrupt,
    ) -> Result<TestedServer, SubjectError> {
        let launch = Launch { program, bind, database: Some(database), flags, variables: &[] };
        TestedServer::launch(launch, interrupt)
    }

    /// Starts a server, and follows its record.
    pub fn launch(launch: Launch<'_>, interrupt: &Interrupt) -> Result<TestedServer, SubjectError> {
        let server = ChildServer::start(launch, interrupt)?;
        let not_started = |error| SubjectError::NotStarted { program: launch.program.to_owned(), error };
        let follower = RecordFollower::start(server.control()).map_err(|error| not_started(error.into()))?;
        Ok(TestedServer { follower, server })
    }

    /// The URL of a path of the app.
    pub fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    /// The app's port, for addresses with another name of this machine.
    pub fn port(&self) -> &str {
        self.server.app.rsplit(':').next().unwrap_or_default()
    }

    /// The address that it listens on, in the form that `start_at` expects.
    pub fn bind(&self) -> String {
        self.server.app.replace("http://", "tcp://")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// The record so far.
    pub fn follower(&self) -> &RecordFollower {
        &self.follower
    }

    /// Its current stats.
    pub fn stats(&self) -> Result<Value, SubjectError> {
        Ok(http::get(&format!("{}/stats", self.server.control), ANSWER_WITHIN)?.json()?)
    }

    /// Stops the server, and blocks until it has ended. Returns whether it ended by itself and successfully.
    pub fn stop(mut self) -> bool {
        self.server.ask_to_stop();
        let ended = self.server.program.wait(Instant::now() + STOP_WITHIN);
        matches!(ended, Ok(Some(status)) if status.success())
    }

    /// Sends SIGKILL. Blocks until the server has ended.
    pub fn kill(&mut self) -> io::Result<()> {
        self.server.kill()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.server.program.status(), Ok(None))
    }
}

impl ChildServer {
    /// Starts it, and blocks until it listens. It does not inherit NINETABS_ variables of the environment.
    pub fn start(launch: Launch<'_>, interrupt: &Interrupt) -> Result<ChildServer, SubjectError> {
        let Launch { program, bind, database, flags, variables } = launch;
        let not_started = |error| SubjectError::NotStarted { program: program.to_owned(), error };
        let mut folder = Scratch::make("ninetabs")?;
        let state = folder.path().join("state");
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
            command.env_remove(name);
        }
        command
            .args(["serve", "--bind", bind, "--control-url", FREE_PORT])
            .args(["--stop-with-stdin", "--force-shutdown-after", "1", "--state"])
            .arg(&state)
            .args(database.iter().flat_map(|file| [OsStr::new("--database"), file.as_os_str()]))
            .args(flags)
            .env("TMPDIR", folder.path())
            .env("RUST_LOG", "off")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut program = Program::start(&mut command).map_err(not_started)?;
        folder.kill_first(program.id()).map_err(not_started)?;
        let text = wait_for_state(&mut program, &state, interrupt)?;
        let address = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map(|address| address.trim().replace("tcp://", "http://")).ok_or(SubjectError::NotReady)
        };
        let (app, control) = (address("bind:")?, address("control_url:")?);
        Ok(ChildServer { program, app, control, interrupt: interrupt.clone(), _folder: folder })
    }

    /// The URL of a path of the app.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.app)
    }

    /// The address of its control server: `http://HOST:PORT`.
    pub fn control(&self) -> &str {
        &self.control
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// Its exit status, if it has ended by itself.
    pub fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.program.status()
    }

    /// Kills it. Blocks until it has ended.
    pub fn kill(&mut self) -> io::Result<()> {
        self.program.kill().map(drop)
    }

    /// Asks it to stop. Does not block.
    pub fn ask_to_stop(&mut self) {
        drop(self.program.child().stdin.take());
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        self.ask_to_stop();
        // After an interrupt, do not wait until the server stops: dropping the program kills it.
        if self.interrupt.has_come() {
            return;
        }
        if let Ok(None) = self.program.wait(Instant::now() + STOP_WITHIN) {
            log::warn!("server process {} did not stop in time; killing it", self.program.id());
        }
    }
}

fn is_ours(name: &OsString) -> bool {
    name.to_string_lossy().starts_with("NINETABS_")
}

/// Waits for the state file, which is written in one step once the server listens on all addresses.
fn wait_for_state(
    program: &mut Program,
    state: &Path,
    interrupt: &Interrupt,
) -> Result<String, SubjectError> {
    let deadline = Instant::now() + START_WITHIN;
    while Instant::now() < deadline {
        if let Ok(text) = fs::read_to_string(state) {
            return Ok(text);
        }
        if interrupt.has_come() {
            return Err(SubjectError::Interrupted);
        }
        let looked = program.wait(Instant::now() + Duration::from_millis(10));
        if !matches!(looked, Ok(None)) {
            let status = looked.ok().flatten();
            let mut said = String::new();
            if let Some(stderr) = program.child().stderr.as_mut() {
                // After a read error, the text that was read so far is used.
                let _ = stderr.read_to_string(&mut said);
            }
            let said = match (said.trim(), status) {
                ("", Some(status)) => format!("it ended without a message ({status})"),
                (said, _) => said.to_owned(),
            };
            return Err(SubjectError::Ended(said));
        }
    }
    Err(SubjectError::NotReady)
}
