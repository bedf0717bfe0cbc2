//! Models ActionController::Live: an action that writes while it runs.
//!
//! In Rails an action of a controller that includes Live is handed a stream, and
//! holds its thread until it returns. So it is here: [`Live::respond`] makes a
//! response whose body is the action itself, run on the pool thread that took the
//! request. What Rails lacks is added: the streams that are open are known
//! ([`registry`]), their sleep can be ended from outside, and a reaper ends
//! those that have reached their age ([`reaper`]). And an answer need not hold its thread at
//! all: its connection can leave the pool, for one loop that has all such ([`detached`]).

pub mod detached;
pub mod event;
pub mod reaper;
pub mod registry;
pub mod stream;

use std::sync::Arc;

use crate::puma::{Request, Response};

pub use event::Event;
pub use reaper::Reaper;
pub use registry::{Interrupt, Live, NoticeClose, Settings};
pub use stream::{Dialect, Stream, StreamError};

impl Live {
    /// A response whose body is written by `action` while it runs.
    ///
    /// The stream counts as open, and its age begins, when the pool thread enters
    /// the action. However the action leaves, the stream is closed after it.
    pub fn respond(
        self: &Arc<Self>,
        request: &Request,
        dialect: Dialect,
        action: impl FnOnce(&mut Stream<'_>) + Send + 'static,
    ) -> Response {
        let live = Arc::clone(self);
        let (subject, thread) = (request.subject, request.thread);
        Response::live(move |connection| {
            let mut stream = Stream::open(&live, connection, subject, thread, dialect);
            action(&mut stream);
            stream.close()
        })
        .with_header("content-type", "text/event-stream")
        .with_header("cache-control", "no-cache")
        .with_header("x-accel-buffering", "no")
    }
}
