//! The clients of a measurement: nine tabs that connect in the way of the fix.
//!
//! A [`Listener`] notes which rows it received, and when. An EventSource is the lab's own [`Tab`]. Pollers send one
//! request after another. A cable client speaks Action Cable's protocol. Two fixes are scripts in a page, and need a
//! browser. All clients reconnect by themselves after a restart of their server, with their position if the protocol
//! has one.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, bounded};
use ninetabs_server::threads::{SpawnError, StopSignal, StoppableThread};
use serde_json::{Value, json};
use tungstenite::{ClientRequestBuilder, Message, WebSocket};

use super::super::chromium::{Chromium, PageId};
use super::super::http::{self, ClientRequest, HttpError};
use super::super::interrupt::Interrupt;
use super::super::pacing::Pacing;
use super::super::tab::{Happening, Happens, Settings, Tab, TabError};
use super::super::zombies::Zombie;

/// How long a single request may take.
const ASK_WITHIN: Duration = Duration::from_secs(40);
/// The delay before a client tries again, if the server has set none.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How often the titles of a browser's pages are read.
const LOOK_EVERY: Duration = Duration::from_millis(50);
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

/// A row that was received, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub id: i64,
    pub at: SystemTime,
}

/// The rows that a listener has received so far, in order.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<Seen>>>);

impl Notes {
    fn take(&self, ids: impl IntoIterator<Item = i64>) {
        let at = SystemTime::now();
        self.lock().extend(ids.into_iter().map(|id| Seen { id, at }));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        // A panic does not change the list.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn all(&self) -> Vec<Seen> {
        self.lock().clone()
    }

    pub fn last(&self) -> Option<Seen> {
        self.lock().last().copied()
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
    /// Opens tab `number` at this server (`http://…`); `every` is the interval of a poller's requests.
    pub fn open(way: Way, server: &str, number: usize, every: Duration) -> Result<Listener, TabError> {
        let mut listener =
            Listener { notes: Notes::default(), stalled: Arc::default(), _tab: None, thread: None };
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
            Ok(Happening { what: Happens::Event(event), .. }) if event.event_type == "message" => {
                it.notes.take(match words {
                    Words::Json => ids(event.data.as_bytes()),
                    Words::Html => rows(&event.data),
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
            Ok((200, new_tag, body)) => {
                let models = ids(&body);
                tag = new_tag;
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

fn ask(url: &str, tag: &str) -> Result<(u16, String, Vec<u8>), HttpError> {
    let url = http::parse_url(url)?;
    let mut headers = vec![http::field("Connection", "close")];
    if !tag.is_empty() {
        headers.push(http::field("If-None-Match", tag));
    }
    let answer = http::request(&url, &ClientRequest { headers, ..ClientRequest::default() }, ASK_WITHIN)?;
    Ok((answer.status(), answer.head.header("etag").unwrap_or_default(), answer.body))
}

fn long_poll(url: &str, it: &Within) {
    let (mut since, mut pacing) = (None, Pacing::default());
    while it.sleep(pacing.next(Instant::now())) {
        // A request without an id is answered with the next models, whose ids are then the client's position.
        let since_what = since.map(|id: i64| format!("&since={id}")).unwrap_or_default();
        match http::get(&format!("{url}{since_what}"), ASK_WITHIN) {
            Ok(answer) if answer.status() == 200 => {
                let models = ids(&answer.body);
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

/// Opens a connection, and subscribes to the models after `since`.
fn handshake(server: &str, since: Option<i64>) -> Result<WebSocket<TcpStream>, tungstenite::Error> {
    let stream = TcpStream::connect(server)?;
    let uri = format!("ws://{server}/cable").parse().map_err(tungstenite::http::Error::from)?;
    let request = ClientRequestBuilder::new(uri)
        .with_header("Origin", format!("http://{server}"))
        .with_sub_protocol("actioncable-v1-json");
    let handshake = tungstenite::client(request, stream);
    let (mut socket, _) = handshake.map_err(|error| io::Error::other(error.to_string()))?;
    let identifier = json!({ "channel": "ModelsChannel", "since": since }).to_string();
    let command = json!({ "command": "subscribe", "identifier": identifier });
    socket.send(Message::text(command.to_string()))?;
    Ok(socket)
}

fn subscribe(server: &str, since: &mut Option<i64>, it: &Within) -> Result<(), tungstenite::Error> {
    let mut socket = handshake(server, *since)?;
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

/// Pages in a real browser, whose titles show what they have received.
pub struct PageClients {
    notes: Vec<Notes>,
    _thread: StoppableThread,
}

impl PageClients {
    /// Opens the pages, and follows their titles.
    pub fn open(
        browser: Chromium,
        path: &str,
        hosts: Hosts,
        port: &str,
        tabs: usize,
        interrupt: &Interrupt,
    ) -> Result<PageClients, super::CompareError> {
        let mut pages: Vec<(PageId, Notes)> = Vec::new();
        for number in 1..=tabs {
            let host =
                if hosts == Hosts::Many { format!("tab{number}.localhost") } else { "localhost".to_owned() };
            pages.push((browser.open(&format!("http://{host}:{port}{path}"))?, Notes::default()));
            interrupt.sleep(LOOK_EVERY * 4)?;
        }
        let notes = pages.iter().map(|(_, notes)| notes.clone()).collect();
        let thread = StoppableThread::start("pages", move |stop| {
            while stop.sleep(LOOK_EVERY) {
                for seen in browser.pages().unwrap_or_default() {
                    if let Some((_, notes)) = pages.iter().find(|(id, _)| *id == seen.id) {
                        follow(&seen.title, notes);
                    }
                }
            }
        })?;
        Ok(PageClients { notes, _thread: thread })
    }

    pub fn notes(&self) -> Vec<Notes> {
        self.notes.clone()
    }
}

/// Reads a title such as `row 17 (13), …`: the id of the newest row, and how many rows have been received so far. If
/// several rows were received since the last check, they are assumed to have consecutive ids.
fn follow(title: &str, notes: &Notes) {
    let parsed = title
        .strip_prefix("row ")
        .and_then(|rest| rest.split_once(" ("))
        .and_then(|(id, rest)| Some((id.parse::<i64>().ok()?, rest.split_once(')')?.0.parse::<i64>().ok()?)));
    let Some((id, shown)) = parsed else { return };
    let more = shown - notes.lock().len() as i64;
    notes.take((0..more).rev().map(|back| id - back));
}

/// A connection that requested a fix's stream and is never read.
pub enum Abandoned {
    Request(#[allow(dead_code, reason = "kept open, never read")] Zombie),
    Socket(#[allow(dead_code, reason = "kept open, never read")] WebSocket<TcpStream>),
}

impl Abandoned {
    /// Sends the request, and never reads the answer.
    pub fn open(way: Way, server: &str, number: usize) -> Result<Abandoned, HttpError> {
        let path = match way {
            Way::Stream(path, _) => path,
            Way::Poll(_) => "/fixes/poll/models.json",
            Way::LongPoll => "/fixes/long-poll/poll",
            Way::Page(..) => "/models/live_stream",
            Way::Cable => {
                let socket = handshake(server.trim_start_matches("http://"), None);
                let connect = |error: tungstenite::Error| HttpError::Connect {
                    to: server.to_owned(),
                    source: io::Error::other(error.to_string()),
                };
                return socket.map(Abandoned::Socket).map_err(connect);
            }
        };
        let query = if let Way::Poll(rung) = way { format!("&rung={rung}") } else { String::new() };
        Zombie::open(&format!("{server}{path}?tab={number}{query}")).map(Abandoned::Request)
    }
}

/// The ids of an array of models.
pub fn ids(json: &[u8]) -> Vec<i64> {
    let models: Vec<Value> = serde_json::from_slice(json).unwrap_or_default();
    models.iter().filter_map(|model| model["id"].as_i64()).collect()
}

/// The ids of rows that were pushed as HTML.
fn rows(html: &str) -> Vec<i64> {
    let rows = html.split("id=\"model_").skip(1);
    rows.filter_map(|row| row.split_once('"')?.0.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_shows_the_models_received_since_the_last_check() {
        let notes = Notes::default();
        let got = || notes.all().iter().map(|seen| seen.id).collect::<Vec<_>>();
        for title in ["leave: a fix", "row x (1), a", "row 5 (1), a"] {
            follow(title, &notes);
        }
        assert_eq!(got(), [5]);
        follow("row 8 (4), a", &notes);
        follow("row 8 (4), a", &notes);
        assert_eq!(got(), [5, 6, 7, 8]);
    }

    #[test]
    fn rows_and_models_have_ids() {
        assert_eq!(rows("<li id=\"model_3\">3</li> <li id=\"model_x\"><li id=\"model_14\">"), [3, 14]);
        assert_eq!(ids(br#"[{"id":1,"name":"a"},{"id":2}]"#), [1, 2]);
        assert_eq!(ids(b"{}"), [0; 0]);
    }
}
