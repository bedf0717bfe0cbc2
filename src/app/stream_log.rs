//! The log lines of a stream: one when it opens and one when it ends.
//!
//! The original controller logs a line for each write. Here those lines are at debug level. Otherwise, eight tabs
//! would scroll the addresses of the start-up message out of the terminal within seconds.

use std::time::Instant;

use ninetabs_server::action_threads;
use ninetabs_server::log_limit::limited;
use ninetabs_server::streams::StreamInterrupt;
use ninetabs_server::{Request, StreamError, WriteError, WriteFailure};
use thiserror::Error;

use super::adapters::Failure;
use super::database::{CheckoutError, QueryError};

/// The prefix that the lab's zombies put before their number.
const ZOMBIE: &str = "zombie-";

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
    /// `tab 3`, `zombie-3`, or for any other client the number of its connection in the event log.
    name: String,
    thread: usize,
    /// The number of the action's own thread, if it has one.
    own_thread: Option<usize>,
    began: Instant,
    is_open: bool,
}

impl StreamLog {
    pub fn of(request: &Request) -> StreamLog {
        let connection = request.subject().connection;
        let name = request.param("tab").and_then(|tab| client(&tab));
        let name = name.unwrap_or_else(|| format!("connection {connection}"));
        StreamLog { name, thread: request.thread(), own_thread: None, began: Instant::now(), is_open: false }
    }

    /// Records whether the action runs on a thread of its own.
    pub fn runs_on(&mut self, own_thread: Option<usize>) {
        self.own_thread = own_thread;
    }

    /// Logs a write. Call this after the write: waking the thread that writes the log would add a fifth to the
    /// time until a new stream's first byte.
    pub fn wrote(&mut self) {
        if self.is_open {
            log::debug!("{}: streaming models", self.name);
        } else {
            self.is_open = true;
            match self.own_thread {
                None => limited!(Info, "{}: stream opened on thread {}", self.name, self.thread),
                Some(own) => limited!(
                    Info,
                    "{}: stream opened on thread {}, action on {}",
                    self.name,
                    self.thread,
                    action_threads::name(own)
                ),
            }
        }
    }

    /// Logs the end of the stream.
    pub fn ended(&self, end: Result<(), Left>) {
        let StreamLog { name, thread, own_thread, .. } = self;
        let after = format!("{:.1} s", self.began.elapsed().as_secs_f64());
        // If the action has its own thread, it does not know when its pool thread was freed.
        let freed = match own_thread {
            None => format!("thread {thread} freed after {after}"),
            Some(own) => format!("action on {} ended after {after}", action_threads::name(*own)),
        };
        let why = match end {
            Ok(()) => return log::debug!("{name}: stream complete, {freed}"),
            Err(Left::Query(QueryError::Checkout(CheckoutError::Interrupted))) => {
                "stream ended while waiting for a database connection".to_owned()
            }
            Err(Left::Query(QueryError::Failure(Failure::Interrupted))) => {
                "stream ended while it waited for the database".to_owned()
            }
            Err(Left::Query(error)) => {
                return limited!(Error, "{name}: stream failed: {error}; {freed}");
            }
            Err(Left::Stream(StreamError::ClientDisconnected(error))) => lost(&error),
            Err(Left::Stream(StreamError::Reaped(why))) => match why {
                StreamInterrupt::MaxAge => "reaped at its maximum age".to_owned(),
                StreamInterrupt::Asked => "reaped on request".to_owned(),
                StreamInterrupt::Stopping => "stream ended, the server is stopping".to_owned(),
                // Logged at debug level, since the client retries every few seconds.
                StreamInterrupt::Full => {
                    return log::debug!("{name}: stream refused, the stream cap is reached");
                }
            },
        };
        limited!(Info, "{name}: {why}, {freed}");
    }
}

/// The name that a client gives in `?tab=`, as the pages show it. Any other text is kept out of the log.
fn client(tab: &str) -> Option<String> {
    let number = |text: &str| text.parse::<u32>().ok();
    match tab.strip_prefix(ZOMBIE) {
        Some(zombie) => number(zombie).map(|number| format!("{ZOMBIE}{number}")),
        None => number(tab).map(|number| format!("tab {number}")),
    }
}

fn lost(error: &WriteError) -> String {
    match &error.cause {
        // No write failed; the close was detected on the socket.
        WriteFailure::SeenClosed => format!("client closed ({})", error.cause),
        cause => format!("write {} failed ({cause})", error.number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_named_by_its_number_and_never_by_other_text() {
        for (tab, name) in [
            ("3", Some("tab 3")),
            ("zombie-12", Some("zombie-12")),
            ("zombie-", None),
            ("zombie-1\n2", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(client(tab).as_deref(), name, "{tab:?}");
        }
    }

    #[test]
    fn a_failed_write_is_named_by_its_number_and_errno() {
        let lost = |number, cause| lost(&WriteError { number, cause });
        assert_eq!(lost(6, WriteFailure::Closed), "write 6 failed (EPIPE)");
        assert_eq!(lost(2, WriteFailure::SeenClosed), "client closed (POLLRDHUP)");
    }
}
