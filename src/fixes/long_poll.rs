//! `long-poll`: a request waits for news, and holds no thread meanwhile.
//!
//! Models message_bus. On a thread for each request this is the same disease as the stream's;
//! on a detached connection it is `push` for those who cannot stream: each answer is
//! whole, so no proxy can hold it back, and whoever asks again says what it has.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Fix, Fixes, PLAIN};
use crate::app::announcements::{Announcement, Announcements, Cursor, FellBehind, News};
use crate::app::position;
use ninetabs_server::event_loop::{NextPiece, Peer};
use ninetabs_server::{Request, Response};

pub(super) const FIX: Fix = Fix {
    name: "long-poll",
    does: "a request leaves the pool and waits for news, at most for 25 seconds",
    view: ("fixes/long-poll.html", include_str!("../../views/fixes/long-poll.html")),
    streams: &["poll"],
    detaches: true,
    action: |fixes, request, rest| (rest == "poll").then(|| poll(fixes, request)),
    ..PLAIN
};

/// How long a request waits: less than what proxies and browsers take for silence.
const PATIENCE: Duration = Duration::from_secs(25);

/// Also what is there already is told by the loop, which has it for all: else a thousand tabs
/// that come back with each change would ask the database a thousand times.
fn poll(fixes: &Fixes, request: &Request) -> Response {
    if request.method() == "HEAD" {
        // Nothing would follow the head that is worth a wait.
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
    /// The fields of its answer. They name the origin of its page, if that is another's.
    head: String,
    /// Whether they name no origin, so that the answer is the same for all of these.
    is_plain: bool,
    /// None: it is new.
    cursor: Option<Cursor>,
    until: Instant,
}

impl LongPoll {
    /// The models of an announcement. An answer that names an origin is made for each request, around the
    /// same JSON: with `http://*.HOST` allowed a page chooses the name.
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
                // Whoever fell behind is answered as well: it asks again, and says what it has.
                Ok(None) | Err(FellBehind) => return NextPiece::Last(answer(&self.head, "[]").into()),
            }
        }
    }

    fn goodbye(&mut self, _: &mut Announcements) -> Rc<[u8]> {
        answer(&self.head, "[]").into()
    }
}

/// The fields of every answer. What [`StreamsAccess`](crate::app::streams_access::StreamsAccess) adds
/// to other streams' heads stands here, as the server has let go of the connection.
fn head(origin: Option<&str>) -> String {
    let named = origin.map(|origin| format!("access-control-allow-origin: {origin}\r\n"));
    format!(
        "content-type: application/json; charset=utf-8\r\nx-content-type-options: nosniff\r\ncache-control: no-cache\r\nvary: origin\r\n{}",
        named.unwrap_or_default()
    )
}

/// All of an answer, its head included.
fn answer(head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\n{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}
