//! `cable`: Action Cable's protocol, on connections outside the pool.
//!
//! Implements `actioncable-v1-json` exactly, so that Rails' own client (`@rails/actioncable`) works with it:
//! the client gets a welcome, subscribes to `ModelsChannel`, and gets each model as a message and a ping
//! every three seconds. tungstenite makes and parses the frames, on in-memory buffers that the event loop
//! fills from the socket and writes to it.
//!
//! Four things differ from Rails. The memory for a stalled reader is bounded, and the reader is cut off; Action Cable
//! keeps everything in memory forever. A subscription may have a parameter `since`, the id of the last model that the
//! client has; Action Cable does not number its messages and replays nothing, so a client that reconnects has missed
//! all messages in between. A second subscription with the same identifier is confirmed again; Rails up to 8.0 does
//! not answer, and its own client then repeats it twice per second forever. The times of pings differ between
//! clients.
//!
//! The server ends each connection with a close frame that has a code of RFC 6455 7.4.1.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::{Fix, FixGroup, Fixes, PLAIN, embedded};
use crate::app::announcements::{Announcement, Announcements, Cursor, FellBehind, News};
use crate::app::model::to_json;
use crate::app::origin::{Origin, Said};
use crate::app::position;
use ninetabs_server::event_loop::{FELL_BEHIND, NextPiece, PANICKED, Peer};
use ninetabs_server::request::Version;
use ninetabs_server::{Request, Response};

pub(super) const FIX: Fix = Fix {
    name: "cable",
    does: "A WebSocket outside the pool carries the rows, in Action Cable’s protocol.",
    group: FixGroup::FreeTheThread,
    measured_as: "cable",
    view: embedded!("fixes/cable.html"),
    detaches: true,
    ..PLAIN
};

/// Its path, as in Rails.
pub(super) const PATH: &str = "/cable";
/// The protocols of Action Cable. The second one means that none of the client's protocols is supported.
const PROTOCOLS: [&str; 2] = ["actioncable-v1-json", "actioncable-unsupported"];
const CHANNEL: &str = "ModelsChannel";
/// The identifier of a subscription without parameters, as Rails' own client writes it.
const PLAIN_IDENTIFIER: &str = r#"{"channel":"ModelsChannel"}"#;
/// The header field for the version of the WebSocket protocol, and the only version.
const VERSION: (&str, &str) = ("sec-websocket-version", "13");
/// The interval of pings. A client that gets nothing for two intervals reconnects.
const PING_EVERY: Duration = Duration::from_secs(3);
/// Maximum size of a client's message, in bytes.
const MAX_MESSAGE: usize = 16 * 1024;
/// Maximum number of a client's subscriptions.
const MAX_SUBSCRIPTIONS: usize = 16;
/// Maximum length of a subscription's identifier, in bytes.
const MAX_IDENTIFIER: usize = 1024;
/// Maximum bytes of unread answers to a client that continues to send commands.
const MAX_ANSWERS: usize = 64 * 1024;
/// The read buffer of a client. It grows when a larger message arrives, and does not shrink again, so this size keeps an
/// idle client small.
const READ_BUFFER: usize = 32;

/// Answers the request for the WebSocket. A request that is not a handshake, or whose page is neither ours
/// nor of an origin of `--allow-origin`, gets the 404 of Rails.
pub(super) fn connect(fixes: &Fixes, request: &Request) -> Response {
    let is_welcome = is_of_our_page(request) || fixes.rails.streams().allowed_origin(request).is_some();
    let Some(key) = websocket_key(request).filter(|_| is_welcome) else {
        let refusal = Response::new(StatusCode::NOT_FOUND, "text/plain", "Page not found");
        // RFC 6455 4.4: the answer to a client of another version names the supported one.
        let is_of_another_version = request.header_values(VERSION.0).any(|version| version != VERSION.1);
        return if is_of_another_version { refusal.with_header(VERSION.0, VERSION.1) } else { refusal };
    };
    let broadcaster = Arc::clone(&fixes.broadcaster);
    let response = Response::detach(move |detached| broadcaster.join(detached, Box::new(CableClient::new())))
        .with_status(StatusCode::SWITCHING_PROTOCOLS)
        .with_header("upgrade", "websocket")
        .with_header("connection", "Upgrade")
        .with_header("sec-websocket-accept", derive_accept_key(key.as_bytes()));
    let mut wanted = request.header_list("sec-websocket-protocol");
    // The first of the client's protocols that the server supports. The connection also works without one.
    match wanted.find_map(|it| PROTOCOLS.into_iter().find(|known| *known == it)) {
        Some(protocol) => response.with_header("sec-websocket-protocol", protocol),
        None => response,
    }
}

/// The key of a request that is a handshake by RFC 6455 4.2.1.
fn websocket_key(request: &Request) -> Option<&str> {
    let is_one = request.method() == "GET"
        && request.version() == Version::Http11
        && request.header_lists("upgrade", "websocket")
        && request.header_lists("connection", "upgrade")
        && request.only_header(VERSION.0) == Some(VERSION.1);
    request.only_header("sec-websocket-key").filter(|key| is_one && is_sixteen_bytes(key))
}

/// Whether a text is sixteen bytes in base64.
fn is_sixteen_bytes(key: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.strip_suffix("==").is_some_and(|digits| digits.bytes().all(is_digit))
}

/// Browsers do not apply the same-origin policy to WebSockets, so the server checks `Origin`. A
/// request without one is refused.
fn is_of_our_page(request: &Request) -> bool {
    matches!(Origin::of(request), Said::Of(origin) if origin.is_same_host(request))
}

/// The in-memory wire of a WebSocket: incoming bytes that were not parsed yet, and outgoing bytes.
#[derive(Default)]
struct CableWire {
    incoming: VecDeque<u8>,
    outgoing: Vec<u8>,
}

impl Read for CableWire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.incoming.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for CableWire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One client.
struct CableClient {
    socket: WebSocket<CableWire>,
    subscriptions: Vec<Subscription>,
    /// When the next ping is due.
    ping: Instant,
    /// Whether the last frame, a close, is on the wire.
    has_left: bool,
}

struct Subscription {
    /// The identifier as the client sent it: answers contain the same bytes. The plain one is borrowed, to save memory.
    identifier: Cow<'static, str>,
    cursor: Cursor,
}

/// A client's command.
#[derive(Deserialize)]
struct CableCommand {
    command: String,
    identifier: String,
}

/// A message to a subscription.
#[derive(Serialize)]
struct CableAnswer<'a> {
    identifier: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// A message to a connection as a whole, not to one of its subscriptions.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum CableNotice {
    Welcome,
    Ping { message: u64 },
    Disconnect { reason: &'static str, reconnect: bool },
}

impl CableClient {
    fn new() -> CableClient {
        let configuration = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = WebSocket::from_raw_socket(CableWire::default(), Role::Server, Some(configuration));
        // Random, so that a thousand clients that reconnected together are not all pinged together.
        let ping = Instant::now() + PING_EVERY.mul_f64(fastrand::f64());
        let mut client = CableClient { socket, subscriptions: Vec::new(), ping, has_left: false };
        client.tell(&CableNotice::Welcome);
        client
    }

    fn tell(&mut self, what: &impl Serialize) {
        frame(&to_json(what), &mut self.socket.get_mut().outgoing);
    }

    /// Puts the last frame on the wire, after everything that is already there.
    fn close(&mut self, code: CloseCode) {
        if !mem::replace(&mut self.has_left, true) {
            let close = CloseFrame { code, reason: "".into() };
            // The wire accepts everything.
            let _ = Frame::close(Some(close)).format(&mut self.socket.get_mut().outgoing);
        }
    }

    /// Handles a command. An unknown one gets no answer, as in Rails.
    fn hear(&mut self, feed: &mut Announcements, text: &str) {
        let Ok(CableCommand { command, identifier }) = serde_json::from_str(text) else {
            return log::debug!("cable: a client sent a message that is not a command");
        };
        let place = self.subscriptions.iter().position(|it| it.identifier == identifier);
        match (&*command, place) {
            ("subscribe", None) => self.subscribe(feed, identifier),
            ("subscribe", Some(_)) => {
                self.tell(&CableAnswer { identifier: &identifier, kind: "confirm_subscription" });
            }
            ("unsubscribe", Some(place)) => drop(self.subscriptions.remove(place)),
            // The channel does not define actions.
            _ => log::debug!("cable: a client's command {command} is ignored"),
        }
    }

    fn subscribe(&mut self, feed: &mut Announcements, identifier: String) {
        let Ok(parameters) = serde_json::from_str::<Value>(&identifier) else {
            return log::debug!("cable: a client subscribed with an invalid identifier");
        };
        if parameters["channel"] != CHANNEL {
            return log::debug!("cable: a client subscribed to an unknown channel");
        }
        let is_too_much = identifier.len() > MAX_IDENTIFIER || self.subscriptions.len() == MAX_SUBSCRIPTIONS;
        let since = match &parameters["since"] {
            Value::Null => Some(feed.newest()),
            Value::String(id) => position::parse(id),
            id => id.as_i64(),
        };
        let since = since.filter(|id| *id >= 0 && !is_too_much);
        let kind = if since.is_some() { "confirm_subscription" } else { "reject_subscription" };
        self.tell(&CableAnswer { identifier: &identifier, kind });
        if let Some(id) = since {
            let cursor = feed.after(id);
            let identifier = match &*identifier {
                PLAIN_IDENTIFIER => Cow::Borrowed(PLAIN_IDENTIFIER),
                _ => Cow::Owned(identifier),
            };
            // Nearly every client has only one subscription.
            self.subscriptions.reserve_exact(1);
            self.subscriptions.push(Subscription { identifier, cursor });
        }
    }
}

impl Subscription {
    /// The next models as messages; `None` if there are none.
    fn next(&mut self, feed: &mut Announcements) -> Option<Result<Rc<[u8]>, &'static str>> {
        loop {
            let announcement = match feed.next(&mut self.cursor) {
                Ok(announcement) => announcement?,
                Err(FellBehind) => return Some(Err(FELL_BEHIND)),
            };
            if let News::Models { models, .. } = &announcement.news
                && !models.is_empty()
            {
                return Some(Ok(messages(&announcement, &self.identifier)));
            }
        }
    }
}

impl Peer<Announcements> for CableClient {
    fn next(&mut self, feed: &mut Announcements, now: Instant) -> NextPiece {
        if now >= self.ping && !self.has_left {
            self.tell(&CableNotice::Ping { message: seconds() });
            self.ping += PING_EVERY;
            if self.ping <= now {
                self.ping = now + PING_EVERY;
            }
        }
        let outgoing = mem::take(&mut self.socket.get_mut().outgoing);
        match (self.has_left, outgoing.is_empty()) {
            (true, _) => return NextPiece::Last(outgoing.into()),
            (false, false) => return NextPiece::Send(outgoing.into()),
            (false, true) => {}
        }
        match self.subscriptions.iter_mut().find_map(|it| it.next(feed)) {
            Some(Ok(messages)) => NextPiece::Send(messages),
            Some(Err(why)) => NextPiece::Cut(why),
            None => NextPiece::Wait,
        }
    }

    fn has_fallen_behind(&self, feed: &Announcements) -> bool {
        self.subscriptions.iter().any(|it| feed.has_lost(&it.cursor))
    }

    fn receive(&mut self, feed: &mut Announcements, bytes: &[u8]) {
        if self.has_left {
            return;
        }
        self.socket.get_mut().incoming.extend(bytes);
        let end = loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => self.hear(feed, &text),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break None,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    self.has_left = true;
                    break None;
                }
                Err(error) => {
                    log::debug!("cable: a client violated the protocol: {error}");
                    break Some(close_code(&error));
                }
            }
        };
        // Sends pongs, and the answer to a close. The wire accepts everything.
        let _ = self.socket.flush();
        // Everything has been parsed. An idle client needs no memory for the bytes that it may send later.
        self.socket.get_mut().incoming = VecDeque::new();
        match end {
            Some(code) => self.close(code),
            None if self.socket.get_ref().outgoing.len() > MAX_ANSWERS => self.close(CloseCode::Policy),
            None => {}
        }
    }

    fn cut(&mut self, why: &'static str) -> Rc<[u8]> {
        self.close(if why == PANICKED { CloseCode::Error } else { CloseCode::Policy });
        mem::take(&mut self.socket.get_mut().outgoing).into()
    }

    fn goodbye(&mut self, _: &mut Announcements) -> Rc<[u8]> {
        if !self.has_left {
            self.tell(&CableNotice::Disconnect { reason: "server_restart", reconnect: true });
            self.close(CloseCode::Normal);
        }
        mem::take(&mut self.socket.get_mut().outgoing).into()
    }
}

/// The code with which the server fails a connection (RFC 6455 7.4.1).
fn close_code(error: &Error) -> CloseCode {
    match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Protocol(_) => CloseCode::Protocol,
        _ => CloseCode::Error,
    }
}

/// The messages of an announcement. Those for the plain identifier are made once and kept for all clients.
/// Other identifiers are chosen by clients, so their messages are made for each client, around the same JSON,
/// and not kept.
fn messages(announcement: &Announcement, identifier: &str) -> Rc<[u8]> {
    let models = announcement.json_lines();
    if identifier == PLAIN_IDENTIFIER {
        announcement.shaped("cable", |_| frames(identifier, &models))
    } else {
        frames(identifier, &models).into()
    }
}

/// One message per model, as a broadcast in `after_commit` would send it.
fn frames(identifier: &str, models: &[u8]) -> Vec<u8> {
    let identifier = to_json(&identifier);
    let mut frames = Vec::new();
    for model in String::from_utf8_lossy(models).lines() {
        frame(&format!("{{\"identifier\":{identifier},\"message\":{model}}}"), &mut frames);
    }
    frames
}

fn frame(text: &str, out: &mut Vec<u8>) {
    let frame = Frame::message(text.to_owned(), OpCode::Data(Data::Text), true);
    if let Err(error) = frame.format(out) {
        unreachable!("memory takes a frame: {error}");
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
