//! The kinds of events and their data.
//!
//! Texts come from clients, so their length is limited here, however an event is recorded.

use std::borrow::Cow;
use std::mem;
use std::ops::Deref;
use std::sync::Arc;

/// The maximum length of a text, such as a target or a method, in bytes. Longer ones are truncated. tiny_http does not
/// limit targets and methods, and the ring may hold thousands of them.
pub const LONGEST_TEXT: usize = 1_024;

/// What happened. The variants are roughly in the order in which they occur in the life of a request. The events of
/// actions and of the server follow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "kind", rename_all = "snake_case"))]
pub enum What {
    /// A pool thread was started.
    Spawned,
    /// A request was read. If `peeked`, only its head was peeked at, while the request was queued and unread.
    Accepted {
        /// The method.
        method: Cow<'static, str>,
        /// The target.
        target: Arc<str>,
        /// Whether the request was still queued and unread.
        #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "std::ops::Not::not"))]
        peeked: bool,
    },
    /// The request was put into `todo`.
    Queued,
    /// A pool thread took the request out of `todo`.
    Started,
    /// The front door took the request out of `todo` to evict its connection. The connection is then closed or queued
    /// again.
    Withdrawn,
    /// The thread of the request was marked IO-bound and no longer counts toward the pool's maximum.
    MarkedIoBound,
    /// The app registered the request as a live stream.
    Streaming,
    /// The kernel accepted bytes of the answer.
    Wrote {
        /// The number of bytes, including the head.
        bytes: u64,
    },
    /// A write blocked, because the client was not reading.
    Blocked {
        /// How long it waited, in microseconds.
        us: u64,
    },
    /// A write failed.
    Disconnected {
        /// The number of the write, counted from 1.
        write: u64,
        /// The error from the operating system.
        error: String,
    },
    /// The stream reaper, a user or a shutdown interrupted the stream.
    Reaped {
        /// The stream's age, in milliseconds.
        age_ms: u64,
        /// Why it was interrupted.
        why: String,
    },
    /// The request was answered without reaching the app.
    Rejected {
        /// The status that was sent.
        status: u16,
        /// Why it was refused.
        why: String,
    },
    /// The client closed while the request was queued, so it was not served.
    Left,
    /// The work panicked. The answer is lost or incomplete, but the thread survives. If an action panicked on its own
    /// thread, the event names no pool thread.
    Panicked {
        /// The panic message.
        message: String,
    },
    /// The answer has ended, completely or cut off, or the connection has left the pool.
    Answered {
        /// The status that was sent.
        status: u16,
        /// How many bytes of the answer the kernel has accepted, including the head.
        bytes: u64,
        /// How long the request held its thread, in microseconds.
        duration_us: u64,
    },
    /// The pool thread has finished with the connection and with the last request that it took from it. If the request
    /// has no answer at this point, it was incomplete, and the reactor is watching its connection.
    Finished,
    /// A pool thread ended, because of a trim or a shutdown.
    Exited,
    /// The client of the request has closed, according to the owner of the client. The server itself notices a close
    /// only when a write fails. The event has no thread, because the thread that the client holds has not noticed the
    /// close.
    ClientClosed,
    /// The action of a stream began to run on its own thread, and a pool thread writes its answer. This event and the
    /// following three have a request but no pool thread.
    ActionBegan {
        /// The number of the action's thread. Action threads and pool threads are numbered separately.
        worker: usize,
        /// The target of the request.
        target: Arc<str>,
    },
    /// The action has written for the first time, which commits its response.
    ActionCommitted {
        /// The number of the action's thread.
        worker: usize,
    },
    /// The answer has ended, and the action continues without a pool thread and without a client.
    ActionOrphaned {
        /// The number of the action's thread.
        worker: usize,
    },
    /// The action has ended.
    ActionEnded {
        /// The number of the action's thread.
        worker: usize,
    },
    /// An order to the server was carried out. The event has neither a thread nor a request.
    Ordered {
        /// The order, in a few words.
        text: String,
    },
    /// A change in the state of the database that requests use. It belongs to no thread and no request.
    Database {
        /// The change, in a few words.
        text: String,
    },
    /// An event from a newer server that this version does not support.
    #[cfg_attr(feature = "serde", serde(other))]
    Unknown,
}

impl What {
    /// Creates the event of a request that was read. Texts longer than [`LONGEST_TEXT`] are truncated.
    pub fn accepted(method: impl Into<Cow<'static, str>>, target: impl Into<Arc<str>>) -> What {
        let (method, target) = (cut(method.into()), cut(target.into()));
        What::Accepted { method, target, peeked: false }
    }

    /// Creates the event of a request that was peeked at in `todo`. Texts are truncated in the same way.
    pub fn peeked(method: impl Into<Cow<'static, str>>, target: impl Into<Arc<str>>) -> What {
        let (method, target) = (cut(method.into()), cut(target.into()));
        What::Accepted { method, target, peeked: true }
    }
}

impl What {
    /// Returns the number of the action's thread, if this is an event of an action.
    pub fn worker(&self) -> Option<usize> {
        match self {
            What::ActionBegan { worker, .. }
            | What::ActionCommitted { worker }
            | What::ActionOrphaned { worker }
            | What::ActionEnded { worker } => Some(*worker),
            _ => None,
        }
    }

    /// Truncates texts that are longer than [`LONGEST_TEXT`].
    pub(super) fn cut_texts(&mut self) {
        if let What::Disconnected { error: text, .. }
        | What::Reaped { why: text, .. }
        | What::Rejected { why: text, .. }
        | What::Panicked { message: text }
        | What::Ordered { text }
        | What::Database { text } = self
            && text.len() > LONGEST_TEXT
        {
            *text = cut(mem::take(text));
        }
        if let What::ActionBegan { target, .. } = self
            && target.len() > LONGEST_TEXT
        {
            *target = cut(Arc::clone(target));
        }
    }

    /// The total length of the texts, in bytes.
    pub(super) fn text_bytes(&self) -> usize {
        match self {
            What::Accepted { method: Cow::Owned(method), target, .. } => method.len() + target.len(),
            What::Accepted { target, .. } | What::ActionBegan { target, .. } => target.len(),
            What::Disconnected { error: text, .. }
            | What::Reaped { why: text, .. }
            | What::Rejected { why: text, .. }
            | What::Panicked { message: text }
            | What::Ordered { text }
            | What::Database { text } => text.len(),
            _ => 0,
        }
    }
}

fn cut<T: Deref<Target = str> + From<String>>(text: T) -> T {
    if text.len() <= LONGEST_TEXT {
        return text;
    }
    let end = (0..=LONGEST_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned().into()
}
