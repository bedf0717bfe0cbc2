//! The thread of a tab: it connects, sends the request, reads the stream, waits, and starts over.
//!
//! Models the algorithm of the standard's EventSource constructor. Each round of [`Source::run`] is
//! one connection with its redirects, and its result decides between "reestablish the connection"
//! and "fail the connection".
//!
//! It may block while it connects, reads, sends an event to a full channel, waits for one of the
//! browser's six connections, or waits to reconnect. [`Tab::close`] ends each of these waits.
//!
//! [`Tab::close`]: super::Tab::close

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError, select};
use ninetabs_server::threads::StopSignal;
use url::{Origin, Url};

use super::fetch::{Fetch, Next};
use super::{
    Cause, Happening, Happens, MAX_REDIRECTS, ReadyState, Reason, SERVED_BY, Settings, Shared, Waiting,
};
use crate::lab::event_stream::Parser;
use crate::lab::http::{
    Body, ClientRequest, Connection, Content, Field, Head, HttpError, Options, Reading, field, replace_fields,
};
use crate::lab::pacing::Pacing;
use crate::lab::sockets::Slot;

const READ_BYTES: usize = 16 * 1024;

/// The state that the tab's thread owns.
pub(super) struct Source {
    /// The origin of its page, which is that of the given URL.
    page: Origin,
    /// The URL of the next connection: the given one, or the one that it was redirected to.
    url: Url,
    /// Whether the URL's user and password have been requested and accepted.
    is_authorized: bool,
    pacing: Pacing,
    settings: Settings,
    parser: Parser,
    shared: Arc<Shared>,
    to: Sender<Happening>,
    /// Arrives when the tab is closed.
    stop: StopSignal,
}

/// How a connection ended.
enum SourceLeft {
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
            return Err(HttpError::BadHeaderValue { name: "Last-Event-ID".into() });
        }
        let mut parser = Parser::with_limit(settings.max_event_bytes);
        parser.resume_from(&settings.last_event_id);
        Ok(Source {
            page: url.origin(),
            url,
            is_authorized: false,
            pacing: Pacing::default(),
            settings,
            parser,
            shared,
            to,
            stop: StopSignal::never(),
        })
    }

    /// Runs until the tab fails for good or `stop` arrives.
    pub(super) fn run(mut self, stop: StopSignal) {
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
                SourceLeft::Again(cause) => {
                    // The pacing counts only connections that the server ended.
                    if matches!(cause, Cause::Cut) {
                        self.pacing = Pacing::default();
                    }
                    let reconnect_in = self.parser.retry().unwrap_or(self.settings.reconnect_after);
                    self.tell(Happens::Ended { cause, reconnect_in });
                    if self.is_stopped_within(reconnect_in) {
                        break;
                    }
                }
                SourceLeft::Failed(reason) => {
                    self.shared.change(|state| {
                        state.progress.failed = Some(reason.clone());
                        state.progress.ready_state = ReadyState::Closed;
                    });
                    self.tell(Happens::Failed { reason });
                    break;
                }
                SourceLeft::Closed => break,
            }
        }
        self.shared.change(|state| state.progress.ready_state = ReadyState::Closed);
    }

    /// One connection, from its first attempt to its end.
    fn connection(&mut self) -> SourceLeft {
        let mut fetch =
            Fetch::new(self.page.clone(), self.url.clone(), self.settings.schemes(), self.is_authorized);
        for _ in 0..MAX_REDIRECTS {
            let pause = self.pacing.next(Instant::now());
            if !pause.is_zero() && self.is_stopped_within(pause) {
                return SourceLeft::Closed;
            }
            let Ok(_slot) = self.slot(fetch.url()) else { return SourceLeft::Closed };
            let began = Instant::now();
            let (head, body) = match self.ask(&fetch, began) {
                Ok(answer) => answer,
                Err(error) => return self.left(error),
            };
            match fetch.judge(&head) {
                Next::Ask => {}
                Next::Failed(reason) => return SourceLeft::Failed(reason),
                Next::Stream => {
                    (self.url, self.is_authorized) = (fetch.url().clone(), fetch.is_authorized());
                    return match Content::of(&head, body) {
                        Ok(content) => self.read(content, began, head.header(SERVED_BY)),
                        Err(error) => self.left(error),
                    };
                }
            }
        }
        SourceLeft::Again(Cause::TooManyRedirects)
    }

    /// Waits for one of the browser's connections to the host. Returns `Err` if the tab was closed
    /// in the meantime.
    fn slot(&self, url: &Url) -> Result<Option<Slot>, ()> {
        let Some(sockets) = &self.settings.sockets else { return Ok(None) };
        let waiting = || self.shared.change(|state| state.progress.waiting = Waiting::ForSocket);
        sockets.take(url, &self.stop, waiting).map(Some).ok_or(())
    }

    fn ask(&self, fetch: &Fetch, began: Instant) -> Result<(Head, Body), HttpError> {
        let options = Options {
            reading: Reading::Browser,
            tls: self.settings.tls.clone(),
            ..Options::within(self.settings.connect_timeout)
        };
        self.shared.change(|state| state.cut = false);
        let url = fetch.url();
        let mut connection = Connection::open_with(url, &options, |closer| {
            self.shared.change(|state| {
                state.closer = Some(closer);
                state.progress.first_byte = None;
                state.progress.waiting = Waiting::ForServer;
                !state.cut && !state.closing
            })
        })?;
        let local_port = connection.local_port();
        self.shared.change(|state| {
            state.progress.connections += 1;
            state.progress.local_port = Some(local_port);
        });
        self.tell(Happens::Connecting { local_port });
        connection.send(url, &self.request(fetch))?;
        connection.wait_for_first_byte()?;
        let after = began.elapsed();
        self.shared.change(|state| state.progress.first_byte = Some(after));
        self.tell(Happens::FirstByte { after });
        connection.response()
    }

    fn request(&self, fetch: &Fetch) -> ClientRequest {
        let mut headers: Vec<Field> = [
            ("Connection", "keep-alive"),
            ("Pragma", "no-cache"),
            ("Cache-Control", "no-cache"),
            ("User-Agent", "ninetabs"),
            ("Accept", "text/event-stream"),
        ]
        .map(|(name, value)| field(name, value))
        .into();
        let id = self.parser.last_event_id();
        if !id.is_empty() {
            // The blanks around a header's value are lost in transit in any case.
            headers.push(field("Last-Event-ID", id.trim_matches([' ', '\t'])));
        }
        headers.extend(fetch.headers());
        let given = self.settings.headers.iter().filter(|(name, _)| fetch.may_send(name));
        replace_fields(&mut headers, given.cloned());
        ClientRequest { headers, ..ClientRequest::default() }
    }

    /// Reads the stream until it ends, and sends each event as soon as it is complete.
    fn read(&mut self, mut content: Content, began: Instant, served_by: Option<String>) -> SourceLeft {
        let events_before = self.shared.state().progress.events;
        self.shared.change(|state| {
            state.progress.opened += 1;
            state.progress.ready_state = ReadyState::Open;
        });
        self.tell(Happens::Opened { after: began.elapsed(), served_by });
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => return self.left_by(Cause::Finished),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    let error = HttpError::from_body(error);
                    // A body that is broken before its first event would be broken the next time as
                    // well. After an event, the tab can resume from it.
                    let is_better = self.shared.state().progress.events > events_before;
                    return if is_better { self.left_by(Cause::Network(error)) } else { self.left(error) };
                }
            };
            if let Err(too_large) = self.take(&buffer[..read]) {
                return too_large;
            }
            // The kernel may still hold megabytes from a fast server, which are no longer needed.
            if self.is_cut_or_closing() {
                return self.left_by(Cause::Cut);
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), SourceLeft> {
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
            self.tell(Happens::Event(event));
        }
        fed.map_err(|too_large| SourceLeft::Failed(Reason::EventTooLarge(too_large)))
    }

    fn left(&self, error: HttpError) -> SourceLeft {
        match self.left_by(Cause::Network(error)) {
            SourceLeft::Again(Cause::Network(error)) if error.is_final() => {
                SourceLeft::Failed(Reason::Unusable(error.to_string()))
            }
            left => left,
        }
    }

    /// If this side ended the connection, that takes precedence over the socket's error.
    fn left_by(&self, cause: Cause) -> SourceLeft {
        let state = self.shared.state();
        match (state.closing, state.cut) {
            (true, _) => SourceLeft::Closed,
            (false, true) => SourceLeft::Again(Cause::Cut),
            (false, false) => SourceLeft::Again(cause),
        }
    }

    fn is_cut_or_closing(&self) -> bool {
        let state = self.shared.state();
        state.cut || state.closing
    }

    fn is_stopped_within(&self, delay: Duration) -> bool {
        select! {
            recv(self.stop.receiver()) -> _ => true,
            default(delay) => false,
        }
    }

    fn tell(&self, what: Happens) {
        let happening = Happening { at: Instant::now(), what };
        if let Err(TrySendError::Full(happening)) = self.to.try_send(happening) {
            select! {
                send(self.to, happening) -> _ => {}
                recv(self.stop.receiver()) -> _ => {}
            }
        }
    }
}
