//! `long-poll`: a request waits for the next commit without holding a thread.
//!
//! Models message_bus. With a thread per request, it would have the same problem as the streams. On a
//! detached connection it is `push` for clients that cannot stream: each answer is complete, so a proxy
//! cannot delay it, and each further request states the client's position.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Fix, FixGroup, Fixes, PLAIN, embedded};
use crate::app::announcements::{Announcement, Announcements, Cursor, FellBehind, News};
use crate::app::position;
use ninetabs_server::event_loop::{NextPiece, Peer};
use ninetabs_server::{Request, Response};

pub(super) const FIX: Fix = Fix {
    name: "long-poll",
    does: "A request leaves the pool and waits up to 25 s for the next commit.",
    group: FixGroup::FreeTheThread,
    measured_as: "long-poll",
    view: embedded!("fixes/long-poll.html"),
    streams: &["poll"],
    detaches: true,
    action: |fixes, request, rest| (rest == "poll").then(|| poll(fixes, request)),
    ..PLAIN
};

/// How long a request waits: less than the timeouts of proxies and browsers.
const PATIENCE: Duration = Duration::from_secs(25);

/// The loop also answers if newer models exist already, since it reads them once for all clients: otherwise a thousand
/// tabs that poll again after a change would cause a thousand queries.
fn poll(fixes: &Fixes, request: &Request) -> Response {
    if request.method() == "HEAD" {
        // The answer to HEAD consists of a head only, so there is nothing to wait for.
        return Response::detach(drop).with_header("content-type", "application/json; charset=utf-8");
    }
    let since = position::since(request).unwrap_or_else(|| fixes.database.newest());
    let broadcaster = Arc::clone(&fixes.broadcaster);
    let origin = fixes.rails.streams().allowed_origin(request);
    let waiting = LongPoll {
        since,
        head: head(origin),
        is_plain: origin.is_none(),
        cursor: None,
        until: Instant::now() + PATIENCE,
    };
    Response::detach_without_head(move |detached| broadcaster.join(detached, Box::new(waiting)))
}

/// One request.
struct LongPoll {
    /// The last model that its client has.
    since: i64,
    /// The header fields of its answer. They name the page's origin if it is a different one.
    head: String,
    /// Whether they do not name an origin, so that all such requests share one answer.
    is_plain: bool,
    /// `None` before its first turn.
    cursor: Option<Cursor>,
    until: Instant,
}

impl LongPoll {
    /// The answer with an announcement's models. An answer that names an origin is made for each request,
    /// around the same JSON: if `http://*.HOST` is allowed, a page can choose any name below it.
    fn answer(&self, announcement: &Announcement) -> Rc<[u8]> {
        let models = announcement.json_lines();
        let make = || {
            let models: Vec<_> = models.split(|byte| *byte == b'\n').map(String::from_utf8_lossy).collect();
            answer(&self.head, &format!("[{}]", models.join(",")))
        };
        if self.is_plain { announcement.shaped("long poll", |_| make()) } else { make().into() }
    }
}

impl Peer<Announcements> for LongPoll {
    fn next(&mut self, feed: &mut Announcements, now: Instant) -> NextPiece {
        let mut cursor = self.cursor.unwrap_or_else(|| feed.after(self.since));
        loop {
            match feed.next(&mut cursor) {
                Ok(Some(announcement)) => {
                    if let News::Models { models, .. } = &announcement.news
                        && !models.is_empty()
                    {
                        return NextPiece::Last(self.answer(&announcement));
                    }
                }
                Ok(None) if now < self.until => {
                    self.cursor = Some(cursor);
                    return NextPiece::Wait;
                }
                // A request that fell behind is answered as well: its client sends a new request with its position.
                Ok(None) | Err(FellBehind) => return NextPiece::Last(answer(&self.head, "[]").into()),
            }
        }
    }

    fn goodbye(&mut self, _: &mut Announcements) -> Rc<[u8]> {
        answer(&self.head, "[]").into()
    }
}

/// The header fields of every answer. They include those that
/// [`StreamsAccess`](crate::app::streams_access::StreamsAccess) adds for other streams, since the connection
/// has left the server.
fn head(origin: Option<&str>) -> String {
    let named = origin.map(|origin| format!("access-control-allow-origin: {origin}\r\n"));
    format!(
        "content-type: application/json; charset=utf-8\r\nx-content-type-options: nosniff\r\ncache-control: no-cache\r\nvary: origin\r\n{}",
        named.unwrap_or_default()
    )
}

/// A complete answer with its head.
fn answer(head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\n{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}
