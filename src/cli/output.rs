//! The meaning of a failed write to standard output, for every command.
//!
//! A reader that closes the pipe does not need more output, so this counts as success. Every other error is
//! reported in one line on standard error, with exit status 1: lost output must not look like success.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use thiserror::Error;

/// Some output was lost.
#[derive(Debug, Error)]
#[error("cannot write to standard output: {0}")]
pub struct Unwritten(io::Error);

/// Treats a closed pipe as success.
pub fn check(written: io::Result<()>) -> Result<(), Unwritten> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Unwritten(error)),
        _ => Ok(()),
    }
}

/// Writes all of a command's output.
pub fn write(text: &[u8]) -> Result<(), Unwritten> {
    let mut out = io::stdout().lock();
    check(out.write_all(text).and_then(|()| out.flush()))
}

/// Writes all of a command's output and returns the exit status.
pub fn print(text: &[u8]) -> ExitCode {
    write(text).map_or_else(super::failed, |()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_pipe_counts_as_success() {
        assert!(check(Ok(())).is_ok() && check(Err(ErrorKind::BrokenPipe.into())).is_ok());
        for kind in [ErrorKind::StorageFull, ErrorKind::WriteZero, ErrorKind::Other] {
            assert!(check(Err(kind.into())).is_err_and(|it| it.to_string().contains("standard output")));
        }
    }
}
