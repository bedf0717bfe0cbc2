//! The log lines of a stream: one when it opens and one when it ends.
//!
//! The original controller logs a line for each write. Here those lines are at debug level: eight tabs would scroll
//! the addresses of the start-up message out of the terminal within seconds.

use std::time::Instant;

use ninetabs_server::log_limit::limited;
use ninetabs_server::streams::StreamInterrupt;
use ninetabs_server::{Request, StreamError, WriteError, WriteFailure};
use thiserror::Error;

use super::database::{CheckoutError, QueryError};

/// Why a stream's action ended.
#[derive(Debug, Error)]
pub enum Left {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// The log of one stream.
pub struct StreamLog {
    /// `tab 3`, or the connection's number in the record if the client sent no number of a tab.
    name: String,
    thread: usize,
    began: Instant,
    is_open: bool,
}

impl StreamLog {
    pub fn of(request: &Request) -> StreamLog {
        let tab: Option<u32> = request.param("tab").and_then(|tab| tab.parse().ok());
        let name = tab.map_or_else(
            || format!("connection {}", request.subject().connection),
            |tab| format!("tab {tab}"),
        );
        StreamLog { name, thread: request.thread(), began: Instant::now(), is_open: false }
    }

    /// Logs a write. The line follows the write: waking the thread that writes the log adds a fifth to the time
    /// until a new stream's first byte.
    pub fn wrote(&mut self) {
        if self.is_open {
            log::debug!("{}: streaming models", self.name);
        } else {
            self.is_open = true;
            limited!(Info, "{}: stream opened on thread {}", self.name, self.thread);
        }
    }

    /// Logs the end of the stream.
    pub fn ended(&self, end: Result<(), Left>) {
        let StreamLog { name, thread, .. } = self;
        let after = format!("{:.1} s", self.began.elapsed().as_secs_f64());
        let why = match end {
            Ok(()) => return log::debug!("{name}: stream complete, thread {thread} freed after {after}"),
            Err(Left::Query(QueryError::Checkout(CheckoutError::Interrupted))) => {
                "stream ended while it waited for a database connection".to_owned()
            }
            Err(Left::Query(error)) => {
                return limited!(
                    Error,
                    "{name}: stream failed: {error}; thread {thread} freed after {after}"
                );
            }
            Err(Left::Stream(StreamError::ClientDisconnected(error))) => lost(&error),
            Err(Left::Stream(StreamError::Reaped(why))) => match why {
                StreamInterrupt::MaxAge => "reaped at its maximum age".to_owned(),
                StreamInterrupt::Asked => "reaped on request".to_owned(),
                StreamInterrupt::Stopping => "stream ended, the server is stopping".to_owned(),
                // Its client retries every few seconds.
                StreamInterrupt::Full => {
                    return log::debug!("{name}: stream refused, the stream cap is reached");
                }
            },
        };
        limited!(Info, "{name}: {why}, thread {thread} freed after {after}");
    }
}

fn lost(error: &WriteError) -> String {
    match &error.cause {
        // No write failed: the close was detected on the socket.
        WriteFailure::SeenClosed => format!("client closed ({})", error.cause),
        cause => format!("write {} failed ({cause})", error.number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_is_named_by_its_number_and_errno() {
        let lost = |number, cause| lost(&WriteError { number, cause });
        assert_eq!(lost(6, WriteFailure::Closed), "write 6 failed (EPIPE)");
        assert_eq!(lost(2, WriteFailure::SeenClosed), "client closed (POLLRDHUP)");
    }
}
