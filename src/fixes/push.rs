//! `push`: the connection leaves the pool, and one loop sends each commit to all listeners.
//!
//! The article hoped for this from the gem sse-rails-engine. The action ends immediately, and its thread returns
//! to the pool. The connection continues in [`crate::app::broadcaster`], which `after_commit` wakes.
//! Application code calls `send_event`, which does not wait for listeners. Writes do not block; a slow
//! consumer is cut off, and resumes from the table with its last event ID.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Fix, FixGroup, Fixes, PLAIN, embedded};
use crate::app::announcements::{Announcements, Cursor, FellBehind, News};
use crate::app::model::Model;
use crate::app::model::to_json;
use crate::app::models_controller::posted;
use crate::app::position;
use http::StatusCode;
use ninetabs_server::Event;
use ninetabs_server::event;
use ninetabs_server::event_loop::{FELL_BEHIND, NextPiece, Peer};
use ninetabs_server::log_limit::limited;
use ninetabs_server::streams::drawn_retry;
use ninetabs_server::{Request, Response};

pub(super) const FIX: Fix = Fix {
    name: "push",
    does: "The connection leaves the pool, and one loop sends each commit to all tabs.",
    group: FixGroup::FreeTheThread,
    measured_as: "push",
    view: embedded!("fixes/push.html"),
    streams: &["stream"],
    detaches: true,
    action: |fixes, request, rest| (rest == "stream").then(|| listen(fixes, request, as_json())),
    post: |fixes, request, rest| (rest == "events").then(|| say(fixes, request)),
    ..PLAIN
};

/// Maximum time without a write. Only a write detects a vanished peer.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Each wait is shortened at random by at most this fraction: all listeners got the last announcement at the
/// same moment, and should not all get their heartbeats at the same moment.
const HEARTBEAT_JITTER: f64 = 0.5;
/// Maximum length of a text for all listeners, in bytes.
const MAX_SAID: usize = 1024;

fn next_heartbeat(now: Instant) -> Instant {
    now + HEARTBEAT.mul_f64(1.0 - HEARTBEAT_JITTER * fastrand::f64())
}

/// How a stream sends its heartbeats. The parameter `heartbeat` of its address selects this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heartbeat {
    /// An EventSource discards comments, so the page's script does not see these heartbeats.
    Comment,
    /// An event, from which a script can tell a server that has nothing to send from one that has stopped. Its
    /// data is the longest pause before the next one, in seconds; an EventSource discards events without data. It
    /// is sent without an id, which would change the client's position.
    Event,
}

impl Heartbeat {
    /// Text that is not a kind of heartbeat counts as absent and is logged, as text that is not a position is.
    fn of(request: &Request) -> Heartbeat {
        match request.param("heartbeat").as_deref().map(str::trim) {
            None | Some("" | "comment") => Heartbeat::Comment,
            Some("event") => Heartbeat::Event,
            Some(text) => {
                limited!(
                    Warn,
                    "{text:?} is not a kind of heartbeat (comment or event); the stream sends comments"
                );
                Heartbeat::Comment
            }
        }
    }

    fn bytes(self) -> Rc<[u8]> {
        let mut text = String::new();
        match self {
            Heartbeat::Comment => text.push_str(":\n\n"),
            Heartbeat::Event => Event::data(HEARTBEAT.as_secs()).kind("heartbeat").encode(&mut text),
        }
        text.into_bytes().into()
    }
}

/// The format in which a stream sends models. Each announcement is formatted once for all listeners.
pub(super) struct PushShape {
    pub name: &'static str,
    pub make: PushWords,
}

type PushWords = Box<dyn Fn(&[Model]) -> String + Send>;

fn as_json() -> PushShape {
    PushShape { name: "json", make: Box::new(|models| to_json(&models)) }
}

/// A stream for an EventSource, on a connection outside the pool, which does not hold a thread.
pub(super) fn listen(fixes: &Fixes, request: &Request, shape: PushShape) -> Response {
    // Taken before the head is sent: a model that the client creates after seeing the head is sent to it.
    let since = position::of_stream(request).unwrap_or_else(|| fixes.database.newest());
    let broadcaster = Arc::clone(&fixes.broadcaster);
    let heartbeat = Heartbeat::of(request);
    let listener = PushListener::new(since, shape, heartbeat, fixes.live.retry(), Instant::now());
    Response::detach(move |detached| broadcaster.join(detached, Box::new(listener)))
        .with_header("content-type", "text/event-stream")
        .with_header("cache-control", "no-cache")
        .with_header("x-accel-buffering", "no")
}

/// Sends a text to all listeners without waiting for them, as application code could do anywhere.
fn say(fixes: &Fixes, request: &Request) -> Response {
    let Some(text) = posted(request, "text") else {
        return Response::line(
            StatusCode::UNPROCESSABLE_ENTITY,
            "text: missing; send it as a form field or as JSON",
        );
    };
    if text.is_empty() || text.len() > MAX_SAID {
        return Response::line(
            StatusCode::UNPROCESSABLE_ENTITY,
            &format!("text: must have 1 to {MAX_SAID} bytes"),
        );
    }
    fixes.broadcaster.send_event("said", &text);
    Response::line(StatusCode::ACCEPTED, "sent to all listeners")
}

/// A listener's position in the announcements.
#[derive(Debug, Clone, Copy)]
enum ListenerPosition {
    /// Its client has the models up to this one; the feed has not been queried yet.
    After(i64),
    At(Cursor),
}

/// One EventSource.
struct PushListener {
    reading: ListenerPosition,
    is_greeted: bool,
    shape: PushShape,
    /// The pause before its client reconnects.
    retry: Duration,
    heartbeat: Heartbeat,
    /// When it gets its next heartbeat, unless something is sent earlier.
    next_heartbeat: Instant,
}

impl PushListener {
    fn new(
        since: i64,
        shape: PushShape,
        heartbeat: Heartbeat,
        retry: Duration,
        now: Instant,
    ) -> PushListener {
        let (reading, next_heartbeat) = (ListenerPosition::After(since), next_heartbeat(now));
        PushListener { reading, is_greeted: false, shape, retry, heartbeat, next_heartbeat }
    }

    /// The first block of every stream. It is a single block, since some clients mistake a block with only a `retry:`
    /// for an event. It has an id but no model, so that a tab that is cut off before its first model loses nothing.
    fn greeting(&self, cursor: Cursor, listeners: usize) -> Vec<u8> {
        let mut text = String::new();
        event::comment(&mut text, "a stream of models");
        event::retry(&mut text, drawn_retry(self.retry, listeners));
        Event::data((self.shape.make)(&[])).id(cursor.position()).encode(&mut text);
        text.into_bytes()
    }

    fn encode(&self, news: &News) -> Vec<u8> {
        let mut text = String::new();
        match news {
            News::Models { models, up_to, lost, .. } => {
                let event = Event::data((self.shape.make)(models)).id(up_to);
                event.comments(lost.as_ref()).encode(&mut text);
            }
            News::Event { name, data } => Event::data(data.as_str()).kind(name.as_str()).encode(&mut text),
        }
        text.into_bytes()
    }
}

impl Peer<Announcements> for PushListener {
    fn next(&mut self, feed: &mut Announcements, now: Instant) -> NextPiece {
        if let ListenerPosition::After(since) = self.reading {
            self.reading = ListenerPosition::At(feed.after(since));
        }
        let ListenerPosition::At(cursor) = &mut self.reading else { return NextPiece::Wait };
        let news = match self.is_greeted {
            false if feed.settle(cursor) => {
                let cursor = *cursor;
                self.is_greeted = true;
                self.next_heartbeat = next_heartbeat(now);
                return NextPiece::Send(self.greeting(cursor, feed.listeners()).into());
            }
            // The position at which it continues is not known yet.
            false => Ok(None),
            true => feed.next(cursor),
        };
        match news {
            Ok(Some(announcement)) => {
                self.next_heartbeat = next_heartbeat(now);
                NextPiece::Send(announcement.shaped(self.shape.name, |news| self.encode(news)))
            }
            Ok(None) if now >= self.next_heartbeat => {
                self.next_heartbeat = next_heartbeat(now);
                NextPiece::Send(self.heartbeat.bytes())
            }
            Ok(None) => NextPiece::Wait,
            Err(FellBehind) => NextPiece::Cut(FELL_BEHIND),
        }
    }

    fn has_fallen_behind(&self, feed: &Announcements) -> bool {
        matches!(&self.reading, ListenerPosition::At(cursor) if feed.has_lost(cursor))
    }

    fn goodbye(&mut self, feed: &mut Announcements) -> Rc<[u8]> {
        let mut text = String::new();
        event::comment(&mut text, "the server is stopping");
        event::retry(&mut text, drawn_retry(self.retry, feed.listeners()));
        text.push('\n');
        text.into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::partials;
    use super::*;
    use crate::app::adapters::Session;
    use crate::app::adapters::sqlite3::theirs;
    use crate::app::announcements::tests::{announced, blocked_feed};
    use crate::app::batch::PIECE;
    use crate::app::templates::Templates;
    use ninetabs_server::event_loop::Feed;

    const LISTENERS: usize = 2_000;

    /// The maximum number of entries of `all` that lie within one interval of this length.
    fn most_within(mut all: Vec<Duration>, length: Duration) -> usize {
        all.sort_unstable();
        let within = |(n, from): (usize, &Duration)| all[n..].partition_point(|it| *it < *from + length);
        all.iter().enumerate().map(within).max().unwrap_or(0)
    }

    fn retry(piece: &[u8]) -> Duration {
        let text = str::from_utf8(piece).unwrap();
        let retry = text.lines().find_map(|line| line.strip_prefix("retry: ")).unwrap();
        Duration::from_millis(retry.parse().unwrap())
    }

    #[test]
    fn heartbeats_and_retries_of_two_thousand_listeners_are_spread_and_do_not_wait_for_the_database() {
        let mut feed = blocked_feed();
        feed.refresh(LISTENERS);
        let (base, began) = (Duration::from_secs(3), Instant::now());
        let shape = || PushShape { name: "none", make: Box::new(|_| String::new()) };
        let mut all: Vec<PushListener> =
            (0..LISTENERS).map(|_| PushListener::new(0, shape(), Heartbeat::Comment, base, began)).collect();
        // One of them claims a model that requires a query of the blocked database.
        all[0].reading = ListenerPosition::After(7);
        let (mut retries, mut beats) = (Vec::new(), Vec::new());
        let mut last = vec![began; LISTENERS];
        for step in 0..240 {
            let now = began + Duration::from_millis(250) * step;
            feed.refresh(LISTENERS);
            for (n, listener) in all.iter_mut().enumerate() {
                match listener.next(&mut feed, now) {
                    NextPiece::Wait => {}
                    NextPiece::Send(piece) if piece.starts_with(b": a stream") => retries.push(retry(&piece)),
                    NextPiece::Send(piece) => {
                        assert_eq!(&*piece, b":\n\n");
                        assert!(now - last[n] <= HEARTBEAT + Duration::from_millis(250));
                        last[n] = now;
                        beats.push(now - began);
                    }
                    NextPiece::Last(_) | NextPiece::Cut(_) => panic!("listener {n} ended"),
                }
            }
        }
        assert_eq!(retries.len(), LISTENERS - 1);
        assert!(beats.len() > LISTENERS * 11, "{}", beats.len());
        let step = Duration::from_millis(250);
        // Without the random part, all heartbeats would fall into the same step. The first ones are spread over
        // two and a half seconds.
        assert!(most_within(beats, step) < LISTENERS / 4);
        let goodbyes: Vec<Duration> = all.iter_mut().map(|it| retry(&it.goodbye(&mut feed))).collect();
        for told in [retries, goodbyes] {
            assert!(told.iter().all(|it| (base..=base + Duration::from_secs(1)).contains(it)));
            assert!(most_within(told, Duration::from_millis(100)) < LISTENERS / 5);
        }
    }

    #[test]
    fn a_stream_begins_with_one_block_that_has_its_retry_and_its_id() {
        let mut feed = blocked_feed();
        let shape = PushShape { name: "none", make: Box::new(|_| "[]".to_owned()) };
        let retry = Duration::from_millis(1_500);
        let mut listener = PushListener::new(0, shape, Heartbeat::Comment, retry, Instant::now());
        let NextPiece::Send(greeting) = listener.next(&mut feed, Instant::now()) else {
            panic!("no greeting")
        };
        let greeting = str::from_utf8(&greeting).unwrap();
        assert_eq!(greeting, ": a stream of models\nretry: 1500\nid: 0\ndata: []\n\n");
    }

    #[test]
    fn a_heartbeat_is_a_comment_or_on_request_an_event_without_an_id() {
        let retry = Duration::from_secs(3);
        for (address, wanted) in [
            ("/fixes/push/stream", ":\n\n"),
            ("/fixes/push/stream?heartbeat=", ":\n\n"),
            ("/fixes/push/stream?heartbeat=comment", ":\n\n"),
            ("/fixes/push/stream?heartbeat=EVENT", ":\n\n"),
            ("/fixes/push/stream?tab=1&heartbeat=event", "event: heartbeat\ndata: 5\n\n"),
        ] {
            let heartbeat = Heartbeat::of(&crate::test_request::with_fields(address, &[]));
            let (mut feed, began) = (blocked_feed(), Instant::now());
            let shape = PushShape { name: "none", make: Box::new(|_| "[]".to_owned()) };
            let mut listener = PushListener::new(0, shape, heartbeat, retry, began);
            assert!(matches!(listener.next(&mut feed, began), NextPiece::Send(_)), "no greeting");
            assert!(matches!(listener.next(&mut feed, began), NextPiece::Wait), "{address}");
            let NextPiece::Send(piece) = listener.next(&mut feed, began + HEARTBEAT) else {
                panic!("{address}: no heartbeat")
            };
            assert_eq!(str::from_utf8(&piece).unwrap(), wanted, "{address}");
        }
    }

    #[test]
    fn a_piece_takes_at_most_its_bytes_when_it_is_sent_whatever_its_names_contain() {
        let templates = Arc::new(Templates::new(partials::PARTIALS.to_vec(), None).unwrap());
        let listener =
            |shape| PushListener::new(0, shape, Heartbeat::Comment, Duration::ZERO, Instant::now());
        let listeners = [listener(as_json()), listener(partials::as_html(&templates))];
        let mut db = theirs::in_memory();
        for byte in (0..=0x7f).filter(|byte: &u8| !byte.is_ascii_alphanumeric()).chain([b'x', 0xff]) {
            db.execute("DELETE FROM models");
            for _ in 0..PIECE.rows {
                db.insert(&vec![byte; 1_300]);
            }
            let piece = announced(db.next(0, PIECE).unwrap().models);
            for listener in &listeners {
                let sent = listener.encode(&piece.news).len();
                // The JSON or HTML around each name takes less than 200 bytes.
                let most = PIECE.bytes + PIECE.rows as usize * 200;
                assert!(sent <= most, "{byte:#x} as {}: {sent} bytes", listener.shape.name);
            }
        }
    }
}
