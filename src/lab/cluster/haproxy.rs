//! HAProxy in front of the servers: its configuration, and its process.
//!
//! HAProxy gets its listening socket as standard input, so that no other program can take the port, not even during a
//! restart. A shell kills HAProxy and removes its folder, however this process ends. Starting does not block.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use thiserror::Error;

use super::super::program::{Program, find};
use super::super::scratch::{Scratch, ScratchError};

/// Folders in which packages install HAProxy. They are not on every user's PATH.
const FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// No timeout is shorter than the interval of a stream's heartbeats (5 s). The connection of a tab is cut if its server
/// is down, because an EventSource does not detect a stopped server. The tab then reconnects to another server.
const SETTINGS: &str = "\
defaults
    mode http
    timeout connect 2s
    timeout check 2s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
    option redispatch
frontend tabs
    bind fd@0
    default_backend servers
backend servers
    balance leastconn
    option httpchk GET /up
    default-server check inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
";

/// Why HAProxy could not be started.
#[derive(Debug, Error)]
pub enum HaProxyError {
    #[error("cannot listen on a port for HAProxy: {0}")]
    NoPort(io::Error),
    #[error(transparent)]
    NoFolder(#[from] ScratchError),
    #[error("cannot run {}: {error}", .program.display())]
    NotRun { program: PathBuf, error: io::Error },
}

/// A running HAProxy. Dropping it kills it.
#[derive(Debug)]
pub struct HaProxy {
    // Fields are dropped in this order, the folder last.
    running: Program,
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
        let mut folder = Scratch::make("ninetabs-haproxy")?;
        let not_run = |error| HaProxyError::NotRun { program: program.clone(), error };
        fs::write(folder.path().join("haproxy.cfg"), configuration(servers)).map_err(not_run)?;
        let running = run(&program, &listener, &mut folder).map_err(not_run)?;
        Ok(Some(HaProxy { running, listener, address, program, folder }))
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

    /// Starts HAProxy again at the same address, after it has ended.
    pub fn start_again(&mut self) -> Result<(), HaProxyError> {
        let not_run = |error| HaProxyError::NotRun { program: self.program.clone(), error };
        self.running = run(&self.program, &self.listener, &mut self.folder).map_err(not_run)?;
        Ok(())
    }
}

fn run(program: &Path, listener: &TcpListener, folder: &mut Scratch) -> io::Result<Program> {
    let socket = OwnedFd::from(listener.try_clone()?);
    let mut command = Command::new(program);
    // In the foreground, as one process. With -q it would close its standard input.
    command.args(["-db", "-f"]).arg(folder.path().join("haproxy.cfg"));
    command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Program::start(&mut command)?;
    folder.kill_first(running.id())?;
    Ok(running)
}

fn configuration(servers: &[SocketAddr]) -> String {
    let line = |(number, address): (usize, &SocketAddr)| format!("    server s{} {address}\n", number + 1);
    SETTINGS.to_owned() + &servers.iter().enumerate().map(line).collect::<String>()
}

fn installed() -> Option<PathBuf> {
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
    }
}
