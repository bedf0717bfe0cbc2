//! A real program, found on PATH and run as a child process. It is killed when its owner is dropped.
//!
//! Each program has its own process group. A signal to it therefore reaches its children as well, and Ctrl-C in the
//! terminal reaches only this process. [`Program::wait`] blocks for at most its limit. Killing and dropping block until
//! the kernel has ended the child.

use std::env;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// The path of a program, if it is on PATH and may be run.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| may_run(file))
}

/// Whether a program that is not installed is an error, and not a reason to leave out what needs it.
pub fn is_everything_required() -> bool {
    env::var_os("CI").is_some()
}

fn may_run(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A running child and its process group. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Program {
    /// Starts it, in a process group of its own.
    pub fn start(command: &mut Command) -> io::Result<Program> {
        Ok(Program { child: command.process_group(0).spawn()?, ended: None })
    }

    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its exit status, if it has ended. Does not block.
    pub fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Blocks until it ends, or until `end`, and returns `None` if it still runs. Checks every 5 ms.
    pub fn wait(&mut self, end: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            let status = self.status()?;
            if status.is_some() || Instant::now() >= end {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGKILL, which ends even a stopped process. Blocks until the child has ended.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status()? {
            return Ok(status);
        }
        self.signal(Signal::KILL)?;
        let status = self.child.wait()?;
        self.ended = Some(status);
        Ok(status)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        // The group has the child's process id, which is not reused before the child has been waited for.
        Ok(kill_process_group(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            log::warn!("cannot kill process {}: {error}", self.child.id());
        }
    }
}
