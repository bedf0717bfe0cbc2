//! Zombies: clients that ask for a stream, stay connected, and never read.
//!
//! To the loop that writes to them they look like an audience: its writes go into the
//! kernels' buffers, megabytes of them, without an error. A [`Zombie`] is a socket
//! that nobody reads, cheap enough for hundreds; a [`Stopped`] is the real thing, a
//! `curl` that was reading and has been stopped by SIGSTOP. Both hold the server's
//! thread until they are dropped.
//!
//! [`Zombie::open`] blocks for the connecting alone; [`Stopped::open`] until the
//! first byte of the stream has come, or its timeout has passed.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use crossbeam_channel::bounded;

use super::http::{Connection, HttpError, Options, Request, parse_url};
use super::program::{Program, find};
use ninetabs_server::threads;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which a stream was asked for, and from which nothing is read.
#[derive(Debug)]
pub struct Zombie {
    connection: Connection,
}

impl Zombie {
    /// Connects, asks for the stream, and reads nothing from then on.
    pub fn open(url: &str) -> Result<Zombie, HttpError> {
        Zombie::open_with_buffer(url, None)
    }

    /// The same with a receive buffer of about so many bytes, so that the server's
    /// writes block sooner: the system's own takes 128 KB and more.
    pub fn open_with_small_buffer(url: &str, bytes: usize) -> Result<Zombie, HttpError> {
        Zombie::open_with_buffer(url, Some(bytes))
    }

    fn open_with_buffer(url: &str, receive_buffer: Option<usize>) -> Result<Zombie, HttpError> {
        let url = parse_url(url)?;
        let options = Options { receive_buffer, ..Options::within(CONNECT_TIMEOUT) };
        let mut connection = Connection::open_with(&url, &options, |_| true)?;
        let headers = vec![("Accept", b"text/event-stream".to_vec())];
        connection.send(&url, &Request { headers, ..Request::default() })?;
        Ok(Zombie { connection })
    }

    /// The port on this side: how the server's records name the connection.
    pub fn local_port(&self) -> u16 {
        self.connection.local_port()
    }
}

/// A real `curl`, stopped in the middle of reading a stream. Killed when dropped.
#[derive(Debug)]
pub struct Stopped {
    program: Program,
}

/// Why there is no stopped reader.
#[derive(Debug, thiserror::Error)]
pub enum StoppedError {
    /// curl is not on PATH.
    #[error("curl is not installed: install the package curl to see this")]
    NotInstalled,
    /// The system did not run it, or did not stop it.
    #[error("curl could not be run and stopped: {0}")]
    NotRun(#[from] io::Error),
    /// It was still waiting for the stream, or had ended without a byte of it.
    #[error("curl got nothing from the stream within {0:?}")]
    NoFirstByte(Duration),
}

impl Stopped {
    /// Starts `curl` on the stream, waits for the first byte of its body, and stops it.
    pub fn open(url: &str, timeout: Duration) -> Result<Stopped, StoppedError> {
        let path = find("curl").ok_or(StoppedError::NotInstalled)?;
        let mut command = Command::new(path);
        command.args(["-q", "-sN", "--noproxy", "*", "--", url]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut program = Program::start(&mut command)?;
        let Some(mut output) = program.child().stdout.take() else {
            return Err(StoppedError::NoFirstByte(timeout));
        };
        let (tell, came) = bounded(1);
        // The pipe outlives the thread: it comes back with the byte, since closing
        // it would end curl at its next write.
        threads::spawn("first byte", move || {
            let first = output.read_exact(&mut [0]);
            let _ = tell.send(first.map(|()| output));
        })
        .map_err(io::Error::from)?;
        let output = match came.recv_timeout(timeout) {
            Ok(Ok(output)) => output,
            // Dropping the program kills it, and so ends the thread.
            Ok(Err(_)) | Err(_) => return Err(StoppedError::NoFirstByte(timeout)),
        };
        program.stop()?;
        program.child().stdout = Some(output);
        Ok(Stopped { program })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.program.id()
    }
}
