//! A real `curl` that stops reading in the middle of a stream.

use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;

/// A `curl` that is stopped by SIGSTOP while its output pipe stays open. It is killed when dropped.
pub struct Stopped {
    child: Child,
    // If the pipe were closed, curl would end at its next write.
    _output: ChildStdout,
}

impl Stopped {
    /// Starts `curl` on the stream, waits for the first byte of its body, and stops it.
    pub fn open(url: &str) -> Stopped {
        let within = PATIENCE.as_secs().to_string();
        let mut command = Command::new("curl");
        command.args(["-q", "-sN", "--noproxy", "*", "--max-time", &within, "--", url]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        output.read_exact(&mut [0]).expect("curl did not receive any of the stream");
        kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
        Stopped { child, _output: output }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
