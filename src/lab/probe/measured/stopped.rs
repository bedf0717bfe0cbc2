//! Why a run ended before its last step.

use std::time::Duration;

/// Why a run ended before its last step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// A signal.
    Interrupted,
    /// A page never settled, or answered 5xx.
    UnstablePage {
        /// Its path.
        path: String,
        /// Its answers.
        answers: String,
    },
    /// No connection, or no byte.
    Unreachable {
        /// The error.
        why: String,
    },
    /// The stream's response has no event, and its body ended.
    NotAStream {
        /// Status and type.
        what: String,
    },
    /// The certificate was not accepted.
    Certificate {
        /// The error.
        why: String,
    },
    /// Streams ended by themselves before the next tab was judged.
    StreamsFinish {
        /// How long they lasted.
        after: Duration,
    },
    /// This process has no descriptor or no port left.
    OwnLimit {
        /// The system's error.
        why: String,
        /// Connections held at that moment.
        held: usize,
    },
    /// After everything was closed, nothing came back in 30 s.
    Leak,
}
