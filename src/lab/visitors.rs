//! The clients that the article names: the real `curl` and the real `ab`.
//!
//! They run for a limited time, and their output is kept. The effects on the server are observed there. A program that is
//! not installed is reported as a value ([`VisitError::NotInstalled`]), because a demonstration continues without it.
//!
//! [`Visitor::wait`] blocks until the program ends or its limit has passed. [`Visitor::leave`] and dropping kill it,
//! which has the effect of Ctrl-C in its terminal.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::program::{Program, find};
use ninetabs_server::threads::{self, SpawnError};

/// Maximum size of the text that is kept from each of a program's two outputs: 1 MiB. The rest is read and dropped, so
/// that the program never blocks.
pub const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// The program is not on PATH.
    #[error("{program} is not installed: install the package {package} to see this")]
    NotInstalled {
        /// Its name.
        program: &'static str,
        /// The Debian package that contains it.
        package: &'static str,
    },
    /// The system could not run it, or wait for it.
    #[error("cannot run {program}: {source}")]
    NotRun {
        /// Its name.
        program: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// `curl` or `ab`.
    pub program: &'static str,
    /// Its exit status, or `None` if it was killed, because of its limit or by [`Visitor::leave`].
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// The time from its start to its end.
    pub took: Duration,
}

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Visitor {
    name: &'static str,
    began: Instant,
    limit: Duration,
    program: Program,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

/// `curl -sN URL`: reads a page or a stream, unbuffered, for at most `limit`.
pub fn curl(url: &str, limit: Duration) -> Result<Visitor, VisitError> {
    // The user's proxy settings and .curlrc are meant for other servers.
    Visitor::start("curl", "curl", ["-q", "-sSN", "--noproxy", "*", "--", url], limit)
}

/// `ab -n REQUESTS -c CONCURRENCY URL`: ApacheBench, which speaks HTTP/1.0.
pub fn ab(url: &str, requests: usize, concurrency: usize, limit: Duration) -> Result<Visitor, VisitError> {
    let [requests, concurrency] = [requests, concurrency].map(|number| number.to_string());
    Visitor::start("ab", "apache2-utils", ["-n", &requests, "-c", &concurrency, url], limit)
}

impl Visitor {
    fn start<'a>(
        name: &'static str,
        package: &'static str,
        arguments: impl IntoIterator<Item = &'a str>,
        limit: Duration,
    ) -> Result<Visitor, VisitError> {
        let path = find(name).ok_or(VisitError::NotInstalled { program: name, package })?;
        let began = Instant::now();
        let not_run = |source| VisitError::NotRun { program: name, source };
        let mut program = Program::start(&mut command(path.as_os_str(), arguments)).map_err(not_run)?;
        let not_read = |error: SpawnError| not_run(error.into());
        let stdout = program.child().stdout.take().map(collect).transpose().map_err(not_read)?;
        let stderr = program.child().stderr.take().map(collect).transpose().map_err(not_read)?;
        Ok(Visitor { name, began, limit, program, stdout, stderr })
    }

    /// Whether it still runs.
    pub fn is_there(&mut self) -> bool {
        matches!(self.program.status(), Ok(None))
    }

    /// Blocks until it has ended by itself, or kills it once its limit has passed.
    pub fn wait(mut self) -> Result<Visit, VisitError> {
        let ended = self.program.wait(self.began + self.limit);
        ended.map_err(|source| VisitError::NotRun { program: self.name, source })?;
        self.leave()
    }

    /// Kills it now, if it still runs.
    pub fn leave(mut self) -> Result<Visit, VisitError> {
        let status = self.program.kill();
        let status = status.map_err(|source| VisitError::NotRun { program: self.name, source })?;
        let took = self.began.elapsed();
        let [stdout, stderr] = [self.stdout.take(), self.stderr.take()]
            .map(|reader| reader.and_then(|reader| reader.join().ok()).unwrap_or_default());
        Ok(Visit { program: self.name, status: status.code(), stdout, stderr, took })
    }
}

fn command<'a>(path: &OsStr, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn collect(mut pipe: impl Read + Send + 'static) -> Result<JoinHandle<String>, SpawnError> {
    threads::spawn("output", move || {
        let mut kept = Vec::new();
        let read = pipe.by_ref().take(MAX_OUTPUT_BYTES).read_to_end(&mut kept);
        if let Err(error) = read.and_then(|_| io::copy(&mut pipe, &mut io::sink())) {
            log::debug!("the output of a program could not be read to its end: {error}");
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}
