//! Why a run ended before its last step.

use std::time::Duration;

/// Why a run ended before its last step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// A signal interrupted it.
    Interrupted,
    /// The answers of a page varied before the first tab, or were 5xx.
    UnstablePage {
        /// Its path.
        path: String,
        /// Its answers.
        answers: String,
    },
    /// The server accepted no connection or did not answer.
    Unreachable {
        /// The error.
        why: String,
    },
    /// The response to the stream's request is not a stream that can be read.
    NotAStream {
        /// Status and type of the response, and why it cannot be read.
        what: String,
    },
    /// The certificate was not accepted.
    Certificate {
        /// The error.
        why: String,
    },
    /// Streams finished by themselves before the next tab was judged.
    StreamsFinish {
        /// How long the streams lasted.
        after: Duration,
    },
    /// This process has used up its descriptors, ports or threads.
    OwnLimit {
        /// The system's error.
        why: String,
        /// Number of connections held at that moment.
        held: usize,
    },
    /// The server did not recover within 30 s after everything was closed.
    Leak,
}
