//! The clients of a measurement: nine tabs that connect in the way of the fix.
//!
//! A [`Listener`] notes which rows it received, and when. An EventSource is the lab's own [`Tab`]. Pollers send one
//! request after another. A cable client speaks Action Cable's protocol. Two fixes are scripts in a page, and need a
//! browser. All clients reconnect by themselves after a restart of their server, with their position if the protocol
//! has one.

mod abandoned;
mod pages;

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, bounded};
use ninetabs_server::threads::{SpawnError, StopSignal, StoppableThread};
use serde_json::{Value, json};
use tungstenite::{ClientRequestBuilder, Message, WebSocket};

use super::super::cluster::haproxy;
use super::super::http::{self, Answer, ClientRequest, HttpError};
use super::super::model_ids;
use super::super::pacing::Pacing;
use super::super::tab::{Happening, Happens, SERVED_BY, Settings, Tab, TabError};
pub use abandoned::Abandoned;
pub use pages::PageClients;

/// How long a single request may take.
const ASK_WITHIN: Duration = Duration::from_secs(40);
/// The delay before a client tries again, if the server has set none.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often a thread checks whether it has to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// How a tab receives the rows of a fix.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// An EventSource on this path, whose events carry rows in this form.
    Stream(&'static str, Words),
    /// Requests the new rows at every update, with this value of `rung`.
    Poll(&'static str),
    LongPoll,
    Cable,
    /// This page in a browser, with one host per tab or one for all.
    Page(&'static str, Hosts),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    Json,
    /// One `<turbo-stream>` per row.
    Html,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    Many,
    One,
}

/// Where a tab connects.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `http://HOST:PORT`.
    pub url: String,
    /// The number of the server at this address. `None` if there is only one server, or a balancer, which names the
    /// server in each answer.
    pub server: Option<usize>,
}

/// A row that was received, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub id: i64,
    pub at: SystemTime,
    /// The number of the server that sent it, if there are several.
    pub server: Option<usize>,
}

/// The rows that a listener has received so far, in order.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    seen: Vec<Seen>,
    /// The server that answered last.
    server: Option<usize>,
}

impl Notes {
    fn of_server(server: Option<usize>) -> Notes {
        Notes(Arc::new(Mutex::new(Noted { server, seen: Vec::new() })))
    }

    fn take(&self, ids: impl IntoIterator<Item = i64>) {
        let at = SystemTime::now();
        let mut noted = self.lock();
        let server = noted.server;
        noted.seen.extend(ids.into_iter().map(|id| Seen { id, at, server }));
    }

    /// Notes which server has answered, if the answer names it.
    fn served_by(&self, name: Option<&str>) {
        if let Some(number) = name.and_then(haproxy::number_of) {
            self.lock().server = Some(number);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        // A panic does not change the list.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn all(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    pub fn last(&self) -> Option<Seen> {
        self.lock().seen.last().copied()
    }
}

/// One tab. Dropping closes it, and may wait for a request to end.
pub struct Listener {
    pub notes: Notes,
    /// While this is set, the tab reads nothing.
    stalled: Arc<AtomicBool>,
    // Dropped in this order: the thread receives the tab's events.
    _tab: Option<Tab>,
    thread: Option<StoppableThread>,
}

impl Listener {
    /// Opens tab `number` at this endpoint; `every` is the interval of a poller's requests.
    pub fn open(way: Way, at: &Endpoint, number: usize, every: Duration) -> Result<Listener, TabError> {
        let server = &at.url;
        let notes = Notes::of_server(at.server);
        let mut listener = Listener { notes, stalled: Arc::default(), _tab: None, thread: None };
        match way {
            Way::Stream(path, words) => {
                let url = format!("{server}{path}?tab={number}");
                let settings = Settings { name: format!("tab {number}"), ..Settings::default() };
                // The tab reads only as fast as its events are received from this channel.
                let (to, happenings) = bounded(1);
                listener._tab = Some(Tab::open_into(&url, settings, to)?);
                listener.spawn(move |it| listen(&happenings, words, it))?;
            }
            Way::Poll(rung) => {
                let url = format!("{server}/fixes/poll/models.json?rung={rung}&tab={number}");
                listener.spawn(move |it| poll(&url, every, it))?;
            }
            Way::LongPoll => {
                let url = format!("{server}/fixes/long-poll/poll?tab={number}");
                listener.spawn(move |it| long_poll(&url, it))?;
            }
            Way::Cable => {
                let server = server.trim_start_matches("http://").to_owned();
                listener.spawn(move |it| cable(&server, it))?;
            }
            // A browser opens these tabs: see [`PageClients`].
            Way::Page(..) => {}
        }
        Ok(listener)
    }

    fn spawn(&mut self, run: impl FnOnce(&Within) + Send + 'static) -> Result<(), SpawnError> {
        let (notes, stalled) = (self.notes.clone(), Arc::clone(&self.stalled));
        let run = move |stop: &StopSignal| run(&Within { notes, stalled, stop: stop.clone() });
        self.thread = Some(StoppableThread::start("listener", run)?);
        Ok(())
    }

    /// Makes the tab stop or resume reading.
    pub fn stall(&self, is_stalled: bool) {
        self.stalled.store(is_stalled, Ordering::Release);
    }

    /// Asks the tab to end, without waiting for it.
    pub fn end(&self) {
        self.thread.iter().for_each(StoppableThread::stop);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.end();
    }
}

/// The part of a listener that its thread uses.
struct Within {
    notes: Notes,
    stalled: Arc<AtomicBool>,
    stop: StopSignal,
}

impl Within {
    /// Waits for this long, and until a stall is over. Returns `false` once the listener has ended.
    fn sleep(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while !self.stop.has_come() {
            let left = end.saturating_duration_since(Instant::now());
            let is_stalled = self.stalled.load(Ordering::Acquire);
            if left.is_zero() && !is_stalled {
                return true;
            }
            self.stop.sleep(if is_stalled { PATIENCE } else { left });
        }
        false
    }
}

fn listen(happenings: &Receiver<Happening>, words: Words, it: &Within) {
    while it.sleep(Duration::ZERO) {
        match happenings.recv_timeout(PATIENCE) {
            Ok(Happening { what: Happens::Opened { served_by, .. }, .. }) => {
                it.notes.served_by(served_by.as_deref());
            }
            Ok(Happening { what: Happens::Event(event), .. }) if event.event_type == "message" => {
                it.notes.take(match words {
                    Words::Json => model_ids::in_json(event.data.as_bytes()),
                    Words::Html => model_ids::in_html(&event.data),
                });
            }
            _ => {}
        }
    }
}

fn poll(url: &str, every: Duration, it: &Within) {
    let (mut since, mut tag) = (0, String::new());
    let mut pacing = Pacing::default();
    // The first answers have rows that existed before the tab was opened.
    let mut is_new = true;
    loop {
        // After a full answer, the next one is requested without a pause, until the server has no more.
        if !it.sleep(pacing.next(Instant::now())) {
            return;
        }
        let answer = ask(&format!("{url}&since={since}"), &tag);
        let mut pause = every;
        match answer {
            Ok(answer) if answer.status() == 200 => {
                it.notes.served_by(answer.head.header(SERVED_BY).as_deref());
                let models = model_ids::in_json(&answer.body);
                tag = answer.head.header("etag").unwrap_or_default();
                since = models.last().copied().unwrap_or(since);
                if models.len() >= BATCH {
                    pause = Duration::ZERO;
                }
                if !is_new {
                    it.notes.take(models);
                }
                is_new &= pause.is_zero();
            }
            Ok(_) => is_new = false,
            Err(_) => pause = TRY_AGAIN_AFTER,
        }
        if !it.sleep(pause) {
            return;
        }
    }
}

/// The number of models in a full answer. After a full answer there may be more.
const BATCH: usize = 50;

fn ask(url: &str, tag: &str) -> Result<Answer, HttpError> {
    let url = http::parse_url(url)?;
    let mut headers = vec![http::field("Connection", "close")];
    if !tag.is_empty() {
        headers.push(http::field("If-None-Match", tag));
    }
    http::request(&url, &ClientRequest { headers, ..ClientRequest::default() }, ASK_WITHIN)
}

fn long_poll(url: &str, it: &Within) {
    let (mut since, mut pacing) = (None, Pacing::default());
    while it.sleep(pacing.next(Instant::now())) {
        // A request without an id is answered with the next models, whose ids are then the client's position.
        let since_what = since.map(|id: i64| format!("&since={id}")).unwrap_or_default();
        match http::get(&format!("{url}{since_what}"), ASK_WITHIN) {
            Ok(answer) if answer.status() == 200 => {
                it.notes.served_by(answer.head.header(SERVED_BY).as_deref());
                let models = model_ids::in_json(&answer.body);
                since = models.last().copied().or(since);
                it.notes.take(models);
            }
            _ => {
                it.sleep(TRY_AGAIN_AFTER);
            }
        }
    }
}

fn cable(server: &str, it: &Within) {
    let mut since = None;
    while it.sleep(Duration::ZERO) {
        // However this connection ends, another one follows.
        let _ = subscribe(server, &mut since, it);
        it.sleep(TRY_AGAIN_AFTER);
    }
}

/// Opens a connection, and subscribes to the models after `since`. Also returns the name of the server, if the answer
/// has one.
fn handshake(
    server: &str,
    since: Option<i64>,
) -> Result<(WebSocket<TcpStream>, Option<String>), tungstenite::Error> {
    let stream = TcpStream::connect(server)?;
    let uri = format!("ws://{server}/cable").parse().map_err(tungstenite::http::Error::from)?;
    let request = ClientRequestBuilder::new(uri)
        .with_header("Origin", format!("http://{server}"))
        .with_sub_protocol("actioncable-v1-json");
    let handshake = tungstenite::client(request, stream);
    let (mut socket, answer) = handshake.map_err(|error| io::Error::other(error.to_string()))?;
    let identifier = json!({ "channel": "ModelsChannel", "since": since }).to_string();
    let command = json!({ "command": "subscribe", "identifier": identifier });
    socket.send(Message::text(command.to_string()))?;
    let served_by = answer.headers().get(SERVED_BY).and_then(|name| name.to_str().ok());
    Ok((socket, served_by.map(str::to_owned)))
}

fn subscribe(server: &str, since: &mut Option<i64>, it: &Within) -> Result<(), tungstenite::Error> {
    let (mut socket, served_by) = handshake(server, *since)?;
    it.notes.served_by(served_by.as_deref());
    socket.get_mut().set_read_timeout(Some(PATIENCE))?;
    while it.sleep(Duration::ZERO) {
        let text = match socket.read() {
            Ok(Message::Text(text)) => text,
            Ok(_) => continue,
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(id) = told["message"]["id"].as_i64() {
            *since = Some(id);
            it.notes.take([id]);
        }
    }
    socket.close(None)
}
