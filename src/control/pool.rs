//! `GET /pool`: three numbers of the app's pool, for the strip on the pages of the fixes.
//!
//! These pages belong to the app's server, and a browser lets them read this answer only if a CORS header names their
//! origin. No other path has one. The answer is short, changes nothing, and closes its connection: a page that kept its
//! connection would use up one of the six that a browser opens to the control server, which the dashboard needs.

use serde::Serialize;

use super::view::View;
use ninetabs_server::Response;

/// The path.
pub(super) const PATH: &str = "/pool";

/// The numbers, as the wall's meter counts them.
#[derive(Debug, Serialize)]
pub(super) struct PoolShown {
    /// The maximum number of threads that is currently in force.
    threads: usize,
    /// Threads that serve a request.
    held: usize,
    /// Requests in the queue. A connection that has sent nothing is not counted.
    waiting: usize,
}

impl PoolShown {
    /// The numbers of this moment.
    pub fn of(view: &View) -> PoolShown {
        view.server.look_at_todo();
        let mut watcher = view.watcher();
        watcher.look(&view.timeline, &view.server.threads());
        let snapshot = watcher.snapshot();
        PoolShown {
            threads: view.server.size().max(),
            held: snapshot.threads.values().filter(|thread| thread.holds.is_some()).count(),
            waiting: snapshot.todo.iter().filter(|held| held.target.is_some()).count(),
        }
    }
}

/// Lets pages of this origin read the answer. A cache must not reuse it for another page.
pub(super) fn open_to(answer: Response, page: Option<&str>) -> Response {
    let answer = answer.with_header("vary", "origin");
    match page {
        Some(origin) => answer.with_header("access-control-allow-origin", origin.to_owned()),
        None => answer,
    }
}
