//! `push`: the connection leaves the pool, and a commit is told to all by one loop.
//!
//! What the seed wished for when it named rails-sse-engine. The action ends at once, and its
//! thread goes back to the pool; the connection lives on in [`crate::app::broadcaster`], which
//! is rung for by `after_commit`. Application code has one call, `send_event`, that waits for
//! no listener. Each is written to without waiting; who does not keep up is cut, and goes on
//! from the table with the last event ID that it has.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Fix, Fixes, PLAIN};
use crate::app::announcements::{Announcements, Cursor, FellBehind, News};
use crate::app::model::Model;
use crate::app::models_controller::{posted, to_json};
use crate::app::position;
use crate::live::Event;
use crate::live::detached::{FELL_BEHIND, Next, Peer};
use crate::live::event;
use crate::puma::{Request, Response};

pub(super) const FIX: Fix = Fix {
    name: "push",
    does: "the connection leaves the pool, and one loop tells all of each commit",
    view: ("fixes/push.html", include_str!("../../views/fixes/push.html")),
    streams: &["stream"],
    detaches: true,
    action: |fixes, request, rest| (rest == "stream").then(|| listen(fixes, request, as_json())),
    post: |fixes, request, rest| (rest == "events").then(|| say(fixes, request)),
    ..PLAIN
};

/// How long a stream may be quiet. Whoever is gone without a word is found by what is written.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The longest thing that can be said to all, in bytes.
const MAX_SAID: usize = 1024;

/// In which words a stream tells of models. Each is made once for all who listen.
pub(super) struct Shape {
    pub name: &'static str,
    pub make: Words,
}

type Words = Box<dyn Fn(&[Model]) -> String + Send>;

fn as_json() -> Shape {
    Shape { name: "json", make: Box::new(|models| to_json(&models)) }
}

/// An EventSource's stream on a connection of its own, which holds no thread.
pub(super) fn listen(fixes: &Fixes, request: &Request, shape: Shape) -> Response {
    // Said before the head goes out: what the client creates when it has seen that is told.
    let since = position::of_stream(request).unwrap_or_else(|| fixes.database.newest());
    let (broadcaster, retry) = (Arc::clone(&fixes.broadcaster), fixes.live.retry());
    let listener = Listener { since, cursor: None, shape, retry, spoke: Instant::now() };
    Response::detach(true, move |detached| broadcaster.join(detached, Box::new(listener)))
        .with_header("content-type", "text/event-stream")
        .with_header("cache-control", "no-cache")
        .with_header("x-accel-buffering", "no")
}

/// What application code would do anywhere: tells all who listen, and waits for none of them.
fn say(fixes: &Fixes, request: &Request) -> Response {
    let Some(text) = posted(request, "text") else {
        return Response::line(422, "text: a form with a text is wanted");
    };
    if text.is_empty() || text.len() > MAX_SAID {
        return Response::line(422, &format!("text: 1 to {MAX_SAID} bytes are wanted"));
    }
    fixes.broadcaster.send_event("said", &text);
    Response::line(202, "said to all who listen")
}

/// One EventSource.
struct Listener {
    /// The last model that its client has.
    since: i64,
    /// None: it is new.
    cursor: Option<Cursor>,
    shape: Shape,
    retry: Duration,
    /// When it was last told anything.
    spoke: Instant,
}

impl Listener {
    /// What every stream begins with. The id, without a model, is for a tab that is cut before
    /// its first: it loses nothing.
    fn greeting(&self, cursor: Cursor) -> Vec<u8> {
        let mut text = String::new();
        event::comment(&mut text, "a stream of models");
        event::retry(&mut text, self.retry);
        text.push('\n');
        Event::data((self.shape.make)(&[])).id(cursor.position()).encode(&mut text);
        text.into_bytes()
    }

    fn encode(&self, news: &News) -> Vec<u8> {
        let mut text = String::new();
        match news {
            News::Models { after, models } => {
                let last = models.last().map_or(*after, |model| model.id);
                Event::data((self.shape.make)(models)).id(last).encode(&mut text);
            }
            News::Event { name, data } => Event::data(data.as_str()).kind(name.as_str()).encode(&mut text),
        }
        text.into_bytes()
    }
}

impl Peer<Announcements> for Listener {
    fn next(&mut self, feed: &mut Announcements, now: Instant) -> Next {
        let Some(cursor) = &mut self.cursor else {
            let cursor = feed.after(self.since);
            self.cursor = Some(cursor);
            self.spoke = now;
            return Next::Send(self.greeting(cursor).into());
        };
        match feed.next(cursor) {
            Ok(Some(announcement)) => {
                self.spoke = now;
                Next::Send(announcement.shaped(self.shape.name, |news| self.encode(news)))
            }
            Ok(None) if now.saturating_duration_since(self.spoke) >= HEARTBEAT => {
                self.spoke = now;
                Next::Send(Rc::from(&b":\n\n"[..]))
            }
            Ok(None) => Next::Wait,
            Err(FellBehind) => Next::Cut(FELL_BEHIND),
        }
    }

    fn has_fallen_behind(&self, feed: &Announcements) -> bool {
        self.cursor.is_some_and(|cursor| feed.has_lost(&cursor))
    }

    fn goodbye(&mut self, _: &mut Announcements) -> Rc<[u8]> {
        let mut text = String::new();
        event::comment(&mut text, "the server is stopping");
        event::retry(&mut text, self.retry);
        text.push('\n');
        text.into_bytes().into()
    }
}
