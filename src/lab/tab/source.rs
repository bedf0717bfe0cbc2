//! The thread of a tab: connect, ask, read, wait, again.
//!
//! Models the processing of the standard's EventSource constructor: each round of
//! [`Source::run`] is one connection (with its redirects), and what it comes back
//! with decides between "reestablish the connection" and "fail the connection".
//!
//! It blocks in connecting, in reading, in telling (a full channel), in waiting for
//! one of the browser's six connections, and in the delay; [`Tab::close`] ends each
//! of them.
//!
//! [`Tab::close`]: super::Tab::close

use std::convert::Infallible;
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, select};
use url::Url;

use super::{Cause, Happening, MAX_REDIRECTS, ReadyState, Reason, Settings, Shared, Waiting, What};
use crate::lab::event_stream::Parser;
use crate::lab::http::{Body, Connection, Head, HttpError, Options, Request, check_url};
use crate::lab::sockets::Slot;

const READ_BYTES: usize = 16 * 1024;

/// What the tab's thread owns.
pub(super) struct Source {
    /// Where the next connection goes: the given URL, or where it was redirected to.
    url: Url,
    settings: Settings,
    parser: Parser,
    shared: Arc<Shared>,
    to: Sender<Happening>,
    /// Disconnected when the tab is closed.
    stop: Receiver<Infallible>,
}

/// How a connection was left.
enum Left {
    Again(Cause),
    Failed(Reason),
    Closed,
}

impl Source {
    pub(super) fn new(
        url: Url,
        settings: Settings,
        shared: Arc<Shared>,
        to: Sender<Happening>,
    ) -> Result<Source, HttpError> {
        if settings.last_event_id.contains(['\r', '\n', '\0']) {
            return Err(HttpError::BadHeaderValue { name: "Last-Event-ID" });
        }
        let mut parser = Parser::with_limit(settings.max_event_bytes);
        parser.resume_from(&settings.last_event_id);
        Ok(Source { url, settings, parser, shared, to, stop: crossbeam_channel::never() })
    }

    /// Runs until the tab fails for good or `stop` is disconnected.
    pub(super) fn run(mut self, stop: Receiver<Infallible>) {
        self.stop = stop;
        loop {
            self.parser.begin();
            let left = self.connection();
            self.shared.change(|state| {
                state.closer = None;
                state.progress.waiting = Waiting::ToReconnect;
                state.progress.ready_state = ReadyState::Connecting;
            });
            match left {
                Left::Again(cause) => {
                    let reconnect_in = self.parser.retry().unwrap_or(self.settings.reconnect_after);
                    self.tell(What::Ended { cause, reconnect_in });
                    if self.is_stopped_within(reconnect_in) {
                        break;
                    }
                }
                Left::Failed(reason) => {
                    self.shared.change(|state| {
                        state.progress.failed = Some(reason.clone());
                        state.progress.ready_state = ReadyState::Closed;
                    });
                    self.tell(What::Failed { reason });
                    break;
                }
                Left::Closed => break,
            }
        }
        self.shared.change(|state| state.progress.ready_state = ReadyState::Closed);
    }

    /// One connection, from its first attempt to its end.
    fn connection(&mut self) -> Left {
        let mut url = self.url.clone();
        for _ in 0..MAX_REDIRECTS {
            let Ok(_slot) = self.slot(&url) else { return Left::Closed };
            let began = Instant::now();
            let (head, body) = match self.ask(&url, began) {
                Ok(answer) => answer,
                Err(error) => return self.left(error),
            };
            match redirect(&head, &url) {
                Some(Ok(target)) => url = target,
                Some(Err(error)) => return Left::Failed(Reason::Unusable(error.to_string())),
                None if head.status != 200 => return Left::Failed(Reason::Status(head.status)),
                None => match mime_type(&head) {
                    essence if essence == "text/event-stream" => {
                        self.url = url;
                        return self.read(body, began);
                    }
                    other => return Left::Failed(Reason::MimeType(other)),
                },
            }
        }
        Left::Again(Cause::TooManyRedirects)
    }

    /// Waits for one of the browser's connections to the host; `Err`: closed meanwhile.
    fn slot(&self, url: &Url) -> Result<Option<Slot>, ()> {
        let Some(sockets) = &self.settings.sockets else { return Ok(None) };
        let waiting = || self.shared.change(|state| state.progress.waiting = Waiting::ForSocket);
        sockets.take(url, &self.stop, waiting).map(Some).ok_or(())
    }

    fn ask(&self, url: &Url, began: Instant) -> Result<(Head, Body), HttpError> {
        let options = Options { connect_timeout: self.settings.connect_timeout, receive_buffer: None };
        let mut connection = Connection::open_with(url, &options, |closer| {
            self.shared.change(|state| {
                state.cut = false;
                state.closer = Some(closer);
                state.progress.first_byte = None;
                state.progress.waiting = Waiting::ForServer;
            });
        })?;
        let local_port = connection.local_port();
        self.shared.change(|state| {
            state.progress.connections += 1;
            state.progress.local_port = Some(local_port);
        });
        self.tell(What::Connecting { local_port });
        connection.send(url, &self.request())?;
        connection.wait_for_first_byte()?;
        let after = began.elapsed();
        self.shared.change(|state| state.progress.first_byte = Some(after));
        self.tell(What::FirstByte { after });
        connection.response()
    }

    fn request(&self) -> Request {
        let mut headers: Vec<(&'static str, Vec<u8>)> = [
            ("Connection", "keep-alive"),
            ("Pragma", "no-cache"),
            ("Cache-Control", "no-cache"),
            ("User-Agent", "ninetabs"),
            ("Accept", "text/event-stream"),
        ]
        .map(|(name, value)| (name, value.as_bytes().to_vec()))
        .into();
        let id = self.parser.last_event_id();
        if !id.is_empty() {
            // A header loses the blanks around its value on the way in any case.
            headers.push(("Last-Event-ID", id.trim_matches([' ', '\t']).as_bytes().to_vec()));
        }
        Request { headers, ..Request::default() }
    }

    /// Reads the stream until it ends, telling each event as soon as it is whole.
    fn read(&mut self, mut body: Body, began: Instant) -> Left {
        self.shared.change(|state| {
            state.progress.opened += 1;
            state.progress.ready_state = ReadyState::Open;
        });
        self.tell(What::Opened { after: began.elapsed() });
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => return self.left_by(Cause::Finished),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.left(HttpError::from_body(error)),
            };
            if let Err(too_large) = self.take(&buffer[..read]) {
                return too_large;
            }
            // The kernel may hold megabytes of a fast server, which nobody waits for now.
            if self.is_cut_or_closing() {
                return self.left_by(Cause::Cut);
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Left> {
        let mut events = Vec::new();
        let fed = self.parser.feed(bytes, |event| events.push(event));
        self.shared.change(|state| {
            let progress = &mut state.progress;
            progress.bytes += bytes.len() as u64;
            progress.events += events.len() as u64;
            progress.retry = self.parser.retry();
            if progress.last_event_id != self.parser.last_event_id() {
                progress.last_event_id = self.parser.last_event_id().to_owned();
            }
        });
        for event in events {
            self.tell(What::Event(event));
        }
        fed.map_err(|too_large| Left::Failed(Reason::EventTooLarge(too_large)))
    }

    fn left(&self, error: HttpError) -> Left {
        match error {
            HttpError::BadUrl { .. } | HttpError::NotHttp { .. } | HttpError::BadHeaderValue { .. } => {
                Left::Failed(Reason::Unusable(error.to_string()))
            }
            error => self.left_by(Cause::Network(error)),
        }
    }

    /// What was done on this side counts before what the socket said about it.
    fn left_by(&self, cause: Cause) -> Left {
        let state = self.shared.state();
        match (state.closing, state.cut) {
            (true, _) => Left::Closed,
            (false, true) => Left::Again(Cause::Cut),
            (false, false) => Left::Again(cause),
        }
    }

    fn is_cut_or_closing(&self) -> bool {
        let state = self.shared.state();
        state.cut || state.closing
    }

    fn is_stopped_within(&self, delay: Duration) -> bool {
        select! {
            recv(self.stop) -> _ => true,
            default(delay) => false,
        }
    }

    fn tell(&self, what: What) {
        let happening = Happening { at: Instant::now(), what };
        if let Err(TrySendError::Full(happening)) = self.to.try_send(happening) {
            select! {
                send(self.to, happening) -> _ => {}
                recv(self.stop) -> _ => {}
            }
        }
    }
}

/// Where a redirect leads, if the answer is one and names a place.
fn redirect(head: &Head, from: &Url) -> Option<Result<Url, HttpError>> {
    if !matches!(head.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = head.header("location")?;
    let target = from.join(&location).map_err(|_| HttpError::BadUrl { url: location });
    Some(target.and_then(|target| check_url(&target).map(|()| target)))
}

/// The type without its parameters, in small letters; empty if there is none. The
/// charset is not looked at: the standard decodes every stream as UTF-8.
fn mime_type(head: &Head) -> String {
    let value = head.header("content-type").unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim_matches([' ', '\t']).to_ascii_lowercase()
}
