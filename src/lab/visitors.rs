//! The clients that the article names: the real `curl` and the real `ab`.
//!
//! They run for a limited time, and their output is kept. Their effects are observed on the server. A program that is
//! not installed is reported as a value ([`VisitError::NotInstalled`]), because a demonstration continues without it.
//!
//! [`Visitor::wait`] blocks until the program ends or its limit has passed. [`Visitor::leave`] and dropping kill it,
//! which has the same effect on the server as Ctrl-C in the program's terminal.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

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
    events: Arc<AtomicUsize>,
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
        let events = Arc::new(AtomicUsize::new(0));
        let stdout = program.child().stdout.take().map(|pipe| collect(pipe, events.clone()));
        let stdout = stdout.transpose().map_err(not_read)?;
        let stderr = program.child().stderr.take().map(|pipe| collect(pipe, Arc::default()));
        let stderr = stderr.transpose().map_err(not_read)?;
        Ok(Visitor { name, began, limit, program, events, stdout, stderr })
    }

    /// The number of events that it has printed so far. Each event ends with an empty line.
    pub fn events(&self) -> usize {
        self.events.load(Relaxed)
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

/// A number of requests over HTTP/1.0, several of them at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Benchmark {
    pub requests: usize,
    /// How many clients request at the same time.
    pub concurrency: usize,
    /// How long a client waits for the end of an answer.
    pub limit: Duration,
}

/// The result of a [`Benchmark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// Requests whose answers ended.
    pub complete: usize,
    /// Requests that failed. An answer of a different length is not a failure, although ab counts it as one.
    pub failed: usize,
    pub took: Duration,
}

impl Benchmark {
    /// Reads the result from what ab has printed. `None` if ab did not complete.
    pub fn completed(stdout: &str) -> Option<Completed> {
        let value = |name: &str| {
            let line = stdout.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
            line.split_ascii_whitespace().next().map(str::to_owned)
        };
        let complete = value("Complete requests:")?.parse().ok()?;
        let all_failed: usize = value("Failed requests:")?.parse().ok()?;
        // Present if some failed: `(Connect: 0, Receive: 0, Length: 3, Exceptions: 0)`.
        let of_another_length = stdout.split_once("(Connect: ").and_then(|(_, rest)| {
            let (_, length) = rest.lines().next()?.split_once("Length: ")?;
            length.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
        });
        let failed = all_failed.saturating_sub(of_another_length.unwrap_or_default());
        let took = Duration::try_from_secs_f64(value("Time taken for tests:")?.parse().ok()?).ok()?;
        Some(Completed { complete, failed, took })
    }

    /// Sends the same requests with built-in clients, for a machine without ab. The result is sent once all clients
    /// have ended.
    pub fn start_own_clients(self, url: &str) -> Result<Receiver<Completed>, SpawnError> {
        let (tell, told) = bounded(1);
        let url = url.to_owned();
        threads::spawn("HTTP/1.0 clients", move || {
            let began = Instant::now();
            let share = |client: usize| {
                let own = self.requests / self.concurrency.max(1);
                own + usize::from(client < self.requests % self.concurrency.max(1))
            };
            let complete = thread::scope(|scope| {
                let clients: Vec<_> = (0..self.concurrency)
                    .map(|client| {
                        let url = &url;
                        let requests = (0..share(client)).map(move |_| get_http_1_0(url, self.limit));
                        scope.spawn(move || requests.filter(Result::is_ok).count())
                    })
                    .collect();
                clients.into_iter().map(|client| client.join().unwrap_or_default()).sum()
            });
            let failed = self.requests.saturating_sub(complete);
            // This fails if the act was interrupted.
            let _ = tell.send(Completed { complete, failed, took: began.elapsed() });
        })?;
        Ok(told)
    }
}

/// Requests this address over HTTP/1.0, and reads to the end of the connection.
fn get_http_1_0(url: &str, limit: Duration) -> io::Result<()> {
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap_or((url, ""));
    let mut client = TcpStream::connect(host)?;
    client.set_read_timeout(Some(limit))?;
    client.write_all(format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut begin = [0; 12];
    client.read_exact(&mut begin)?;
    io::copy(&mut client.take(MAX_OUTPUT_BYTES), &mut io::sink())?;
    if begin.ends_with(b" 200") { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn command<'a>(path: &OsStr, arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Keeps the beginning of the output, and counts the events in all of it.
fn collect(
    pipe: impl Read + Send + 'static,
    events: Arc<AtomicUsize>,
) -> Result<JoinHandle<String>, SpawnError> {
    threads::spawn("output", move || {
        let mut kept = Vec::new();
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A line without an end does not grow beyond the limit.
            match pipe.by_ref().take(MAX_OUTPUT_BYTES).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    log::debug!("cannot read all output of a program: {error}");
                    break;
                }
            }
            let room = (MAX_OUTPUT_BYTES as usize).saturating_sub(kept.len());
            kept.extend_from_slice(&line[..line.len().min(room)]);
            if line == b"\n" {
                events.fetch_add(1, Relaxed);
            }
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_output_of_ab_is_read_and_a_different_length_is_not_a_failure() {
        let stdout = "Document Length:        10 bytes\n\nConcurrency Level:      4\n\
            Time taken for tests:   0.118 seconds\nComplete requests:      100\nFailed requests:        7\n\
            \x20  (Connect: 2, Receive: 0, Length: 5, Exceptions: 0)\nTotal transferred:      1\n";
        let took = Duration::from_millis(118);
        assert_eq!(Benchmark::completed(stdout), Some(Completed { complete: 100, failed: 2, took }));
        let none =
            "Time taken for tests:   0.118 seconds\nComplete requests:      100\nFailed requests:        0\n";
        assert_eq!(Benchmark::completed(none), Some(Completed { complete: 100, failed: 0, took }));
        assert_eq!(Benchmark::completed("apr_socket_recv: Connection refused (111)\n"), None);
    }

    #[test]
    fn the_events_in_an_output_are_counted_as_they_arrive() {
        let (reader, mut writer) = io::pipe().unwrap();
        let events = Arc::new(AtomicUsize::new(0));
        let output = collect(reader, events.clone()).unwrap();
        writer.write_all(b"id: 1\ndata: a\n\ndata: b\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while events.load(Relaxed) == 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(events.load(Relaxed), 1);
        writer.write_all(b"\n: no end").unwrap();
        drop(writer);
        assert_eq!(output.join().unwrap(), "id: 1\ndata: a\n\ndata: b\n\n: no end");
        assert_eq!(events.load(Relaxed), 2);
    }

    #[test]
    fn built_in_clients_send_as_many_requests_as_ab_would() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/stream?tab=1", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            for number in 0..10 {
                let (mut client, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let read = client.read(&mut request).unwrap();
                assert!(request[..read].starts_with(b"GET /stream?tab=1 HTTP/1.0\r\n"));
                let status = if number == 3 { "500 No" } else { "200 OK" };
                client.write_all(format!("HTTP/1.0 {status}\r\n\r\nx").as_bytes()).unwrap();
            }
        });
        let benchmark = Benchmark { requests: 10, concurrency: 4, limit: Duration::from_secs(60) };
        let completed = benchmark.start_own_clients(&url).unwrap().recv().unwrap();
        assert_eq!((completed.complete, completed.failed), (9, 1));
        server.join().unwrap();
    }
}
