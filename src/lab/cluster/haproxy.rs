//! HAProxy in front of the servers: its configuration, and its process.
//!
//! HAProxy gets its listening socket as standard input, so that no other program can take the port, not even during a
//! restart. A shell kills HAProxy and removes its folder, however this process ends. Starting does not block.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::super::program::{Program, find};
use super::super::scratch::{Scratch, ScratchError};

/// Folders in which packages install HAProxy. They are not on every user's PATH.
const FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
/// A HAProxy that ends sooner than this has failed to start.
const LASTS: Duration = Duration::from_secs(2);
/// How many times in a row it may fail to start.
const ATTEMPTS: u32 = 3;

/// No timeout is shorter than the interval of a stream's heartbeats (5 s). The connection of a tab is cut if its server
/// is down, because an EventSource does not detect a stopped server. The tab then reconnects to another server. Each
/// answer names its server, so that a client can tell which one it has. A GET that a killed server did not answer is
/// repeated at another server, because an EventSource gives up for good on a 502. A POST is not repeated: it may have
/// created a model.
const SETTINGS: &str = "\
defaults
    mode http
    timeout connect 2s
    timeout check 2s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    option redispatch
    retry-on conn-failure empty-response
frontend tabs
    bind fd@0
    http-request disable-l7-retry unless METH_GET
    default_backend servers
    http-response set-header x-served-by %s
backend servers
    balance leastconn
    option httpchk GET /up
    default-server check inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
";

/// Kills HAProxy. If ninetabs was killed immediately after it had started HAProxy, the process group is not known, but
/// the working directory of HAProxy is the folder.
const END: &str = r#"[ -n "$group" ] && kill -s KILL -- "-$group"
for process in /proc/[0-9]*; do
  if [ "$process/cwd" -ef "$1" ]; then
    read -r name < "$process/comm"
    [ "$name" = haproxy ] && kill -s KILL "${process#/proc/}"
  fi
done"#;

/// Why HAProxy could not be started.
#[derive(Debug, Error)]
pub enum HaProxyError {
    #[error("cannot listen on a port for HAProxy: {0}")]
    NoPort(io::Error),
    #[error(transparent)]
    NoFolder(#[from] ScratchError),
    #[error("cannot run {}: {error}", .program.display())]
    NotRun { program: PathBuf, error: io::Error },
    #[error("{} ended {ATTEMPTS} times within {LASTS:?} of its start: {said}", .program.display())]
    Ended { program: PathBuf, said: String },
}

/// A running HAProxy. Dropping it kills it.
#[derive(Debug)]
pub struct HaProxy {
    // Fields are dropped in this order, the folder last.
    running: Program,
    started: Instant,
    /// How many times in a row it has failed to start.
    failures: u32,
    listener: TcpListener,
    address: SocketAddr,
    program: PathBuf,
    folder: Scratch,
}

impl HaProxy {
    /// Starts HAProxy in front of the servers at these addresses. Returns `None` if it is not installed.
    pub fn start(servers: &[SocketAddr]) -> Result<Option<HaProxy>, HaProxyError> {
        let Some(program) = installed() else { return Ok(None) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(HaProxyError::NoPort)?;
        let address = listener.local_addr().map_err(HaProxyError::NoPort)?;
        let mut folder = Scratch::make_with_end("ninetabs-haproxy", END)?;
        let not_run = |error| HaProxyError::NotRun { program: program.clone(), error };
        fs::write(folder.path().join("haproxy.cfg"), configuration(servers)).map_err(not_run)?;
        let running = run(&program, &listener, &mut folder).map_err(not_run)?;
        let started = Instant::now();
        Ok(Some(HaProxy { running, started, failures: 0, listener, address, program, folder }))
    }

    /// The address, `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// The exit status, if HAProxy has ended by itself.
    pub fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.running.status()
    }

    /// Starts HAProxy again at the same address, after it has ended. Fails if it has ended immediately several times in
    /// a row.
    pub fn start_again(&mut self) -> Result<(), HaProxyError> {
        self.failures = if self.started.elapsed() < LASTS { self.failures + 1 } else { 0 };
        if self.failures >= ATTEMPTS {
            let log = fs::read_to_string(log_in(&self.folder)).unwrap_or_default();
            return Err(HaProxyError::Ended { program: self.program.clone(), said: reason_in(&log) });
        }
        let not_run = |error| HaProxyError::NotRun { program: self.program.clone(), error };
        self.running = run(&self.program, &self.listener, &mut self.folder).map_err(not_run)?;
        self.started = Instant::now();
        Ok(())
    }
}

fn run(program: &Path, listener: &TcpListener, folder: &mut Scratch) -> io::Result<Program> {
    let socket = OwnedFd::from(listener.try_clone()?);
    let mut command = Command::new(program);
    // In the foreground, as one process. With -q it would close its standard input.
    command.args(["-db", "-f"]).arg(folder.path().join("haproxy.cfg"));
    command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(File::create(log_in(folder))?);
    command.current_dir(folder.path());
    let running = Program::start(&mut command)?;
    folder.kill_first(running.id())?;
    Ok(running)
}

/// The file of what it prints. It is emptied at each start.
fn log_in(folder: &Scratch) -> PathBuf {
    folder.path().join("log")
}

/// The first error that it printed, or its last line.
fn reason_in(log: &str) -> String {
    let error = log.lines().find(|line| line.contains("[ALERT]"));
    error.or(log.lines().next_back()).unwrap_or("it said nothing").trim().to_owned()
}

fn configuration(servers: &[SocketAddr]) -> String {
    let line = |(number, address): (usize, &SocketAddr)| format!("    server s{} {address}\n", number + 1);
    SETTINGS.to_owned() + &servers.iter().enumerate().map(line).collect::<String>()
}

/// The number of a server, from its name in the header [`SERVED_BY`](super::super::tab::SERVED_BY). Counts from 1.
pub fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix('s')?.parse().ok()
}

/// The path of HAProxy, if it is installed.
pub fn installed() -> Option<PathBuf> {
    let elsewhere =
        || FOLDERS.iter().map(|folder| Path::new(folder).join("haproxy")).find(|file| file.is_file());
    find("haproxy").or_else(elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_a_line_for_each_server() {
        let servers = [1, 2].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let text = configuration(&servers);
        assert!(text.ends_with("sessions\n    server s1 127.0.0.1:1\n    server s2 127.0.0.1:2\n"), "{text}");
        assert!(text.contains(&format!("set-header {} %s\n", crate::lab::tab::SERVED_BY)), "{text}");
        assert_eq!((number_of("s2"), number_of("<NOSRV>")), (Some(2), None));
    }
    #[test]
    fn the_reason_of_its_end_is_the_first_error() {
        let log = "[NOTICE] version\n[ALERT] unknown keyword\n[ALERT] fatal errors\n";
        assert_eq!(reason_in(log), "[ALERT] unknown keyword");
        assert_eq!(
            (reason_in("killed\n"), reason_in("")),
            ("killed".to_owned(), "it said nothing".to_owned())
        );
    }
}
