//! A tab: one EventSource, as the HTML standard and Chromium define it.
//!
//! What a server does for a stream depends on its client, so a tab must connect and close as a browser's tab does.
//! Until it is closed, it reconnects after the current delay, and sends `Last-Event-ID`. It gives up for good on any
//! status except 200 and on any type except `text/event-stream`. Where Chromium is more specific than the standard, a
//! tab does what Chromium does: it retries a refused connection, remembers a redirect, and accepts the heads and
//! framings that Chromium accepts ([`Reading::Browser`]).
//!
//! A tab belongs to a page with the origin of its URL. A user and password in the URL are sent after a 401, and an
//! answer from another origin must allow the page's origin (see `fetch`). If another attempt could not succeed, the tab
//! fails for good with the reason. The standard leaves this choice to the client. A tab never connects more often than
//! [`Pacing`] allows, whatever its server answers.
//!
//! [`Reading::Browser`]: super::http::Reading::Browser
//! [`Pacing`]: super::pacing::Pacing
//!
//! The connection has its own thread, which is named after the tab. Its events are sent as [`Happening`]s on a
//! channel, and its state can be read as [`Progress`]. [`Tab::close`] and dropping send FIN, and block until that
//! thread has ended, which happens immediately unless the resolver is still looking up a name.

mod fetch;
mod source;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use ninetabs_server::threads::{SpawnError, StoppableThread};

use super::event_stream::{EventTooLarge, MAX_EVENT_BYTES, ReceivedEvent};
use super::http::{Closer, HttpError, Schemes, Tls, parse_url_of};
use super::sockets::HostSockets;
use source::Source;

/// The delay before a reconnect if the stream sets none: 3 s, as in Chromium.
pub const RECONNECT_AFTER: Duration = Duration::from_secs(3);

/// How many requests in a row may be answered with a redirect: 20, as in Chromium.
pub const MAX_REDIRECTS: usize = 20;

/// The header by which a balancer names the server that answered. [`super::cluster::haproxy`] sets it.
pub const SERVED_BY: &str = "x-served-by";

/// The settings of a tab.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The thread's name, such as `tab 3`.
    pub name: String,
    /// The event after which to continue. It is sent as `Last-Event-ID` if it is not empty.
    pub last_event_id: String,
    /// The delay before a reconnect until the stream sends `retry:`.
    pub reconnect_after: Duration,
    /// How long connecting may take, over all addresses of the host.
    pub connect_timeout: Duration,
    /// Maximum size of an unfinished event, in bytes.
    pub max_event_bytes: usize,
    /// The connections of the browser that has this tab. `None` means no limit.
    pub sockets: Option<HostSockets>,
    /// Header fields that a browser's page could not set. They replace those of an EventSource by name. After a
    /// redirect to another origin, `Authorization` and `Cookie` among them are not sent.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Allows `https`, for the stream and for redirects. `None` refuses it.
    pub tls: Option<Tls>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: "tab".to_owned(),
            last_event_id: String::new(),
            reconnect_after: RECONNECT_AFTER,
            connect_timeout: Duration::from_secs(30),
            max_event_bytes: MAX_EVENT_BYTES,
            sockets: None,
            headers: Vec::new(),
            tls: None,
        }
    }
}

impl Settings {
    /// The schemes that the stream and its redirects may have.
    fn schemes(&self) -> Schemes {
        if self.tls.is_some() { Schemes::HttpOrHttps } else { Schemes::Http }
    }
}

/// The standard's `readyState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadyState {
    /// 0: no answer yet, or waiting to reconnect.
    #[default]
    Connecting,
    /// 1: the stream is open.
    Open,
    /// 2: closed, or failed for good.
    Closed,
}

/// What a tab that is not open, or a page that has not loaded, waits for. To a user, the first two look alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Waiting {
    /// The connection is being made, or its request has not been answered yet.
    #[default]
    ForServer,
    /// The browser's six connections to the host are all in use.
    ForSocket,
    /// The delay before the next connection is running.
    ToReconnect,
}

/// Something that happened to a tab, and when.
#[derive(Debug)]
pub struct Happening {
    /// When it happened, on the monotonic clock.
    pub at: Instant,
    /// What happened.
    pub what: Happens,
}

/// What happens to a tab. Durations are measured from the start of the attempt to connect.
#[derive(Debug)]
pub enum Happens {
    /// A connection was made, and the request is about to be sent.
    Connecting {
        /// The local port, by which the server's records identify the connection.
        local_port: u16,
    },
    /// The first byte of the answer's head arrived.
    FirstByte {
        /// Since the connection began.
        after: Duration,
    },
    /// The answer is a stream: the page's `open`.
    Opened {
        /// Since the connection began.
        after: Duration,
        /// The header [`SERVED_BY`], by which a balancer names the server that answered.
        served_by: Option<String>,
    },
    /// A complete event.
    Event(ReceivedEvent),
    /// The connection ended: the page's `error`, with `readyState` 0.
    Ended {
        /// Why it ended.
        cause: Cause,
        /// The delay until the next connection.
        reconnect_in: Duration,
    },
    /// Failed for good: the page's `error`, with `readyState` 2. Nothing follows.
    Failed {
        /// Why another attempt would fail as well.
        reason: Reason,
    },
}

/// Why a connection ended. The tab will reconnect.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The server ended the stream cleanly.
    #[error("the server ended the stream")]
    Finished,
    /// [`Tab::cut`] ended the connection.
    #[error("the connection was cut on this side")]
    Cut,
    /// More redirects in a row than [`MAX_REDIRECTS`].
    #[error("the server redirects in a loop")]
    TooManyRedirects,
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Network(HttpError),
}

/// Why a tab failed for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Any status except 200, or a redirect without a target.
    #[error("{}", status_in_words(*.0))]
    Status(u16),
    /// 401, after the URL's user and password were sent, or because they could not be sent.
    #[error("the server answered 401: {0}")]
    Unauthorized(String),
    /// A redirect to another origin, which does not allow the page's origin to read the answer.
    #[error(
        "the stream was redirected to {origin}, which does not allow requests from the stream's own origin: \
         have it send Access-Control-Allow-Origin, or give its address"
    )]
    OtherOrigin {
        /// The other origin.
        origin: String,
    },
    /// 200 with a type other than `text/event-stream`.
    #[error("the answer's type is {0:?}, not text/event-stream")]
    MimeType(String),
    /// An event exceeded [`Settings::max_event_bytes`].
    #[error("{0}")]
    EventTooLarge(#[from] EventTooLarge),
    /// The request cannot be sent, for example because of a redirect to ftp, or the certificate was not accepted.
    #[error("{0}")]
    Unusable(String),
}

fn status_in_words(status: u16) -> String {
    let why = match status {
        401 => "; the URL may contain a user and a password: http://USER:PASSWORD@HOST/",
        _ => "",
    };
    format!("the server answered {status}, which ends an EventSource for good{why}")
}

/// Why a tab could not be opened at all.
#[derive(Debug, thiserror::Error)]
pub enum TabError {
    /// The URL is invalid or not supported, or the id is not a valid header value.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The system refused a thread.
    #[error(transparent)]
    Thread(#[from] SpawnError),
}

/// The state of a tab. All numbers of one snapshot belong to the same moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// The standard's state.
    pub ready_state: ReadyState,
    /// What it waits for while it is [`ReadyState::Connecting`].
    pub waiting: Waiting,
    /// Connections made so far, including those after redirects.
    pub connections: u64,
    /// The local port of the newest connection.
    pub local_port: Option<u16>,
    /// How long the first byte of the answer took on the newest connection.
    pub first_byte: Option<Duration>,
    /// How many times a stream has opened.
    pub opened: u64,
    /// Stream bytes received, over all connections.
    pub bytes: u64,
    /// Events received, over all connections.
    pub events: u64,
    /// The last event ID.
    pub last_event_id: String,
    /// The reconnection time that the stream set.
    pub retry: Option<Duration>,
    /// Why it failed for good.
    pub failed: Option<Reason>,
}

/// One EventSource. Closed when dropped.
#[derive(Debug)]
pub struct Tab {
    shared: Arc<Shared>,
    happenings: Receiver<Happening>,
    thread: StoppableThread,
}

/// The state that the tab and its thread share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) progress: Progress,
    /// The connection that is being made or read.
    pub(super) closer: Option<Closer>,
    pub(super) cut: bool,
    pub(super) closing: bool,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Only a condition of `wait_for` can panic while the state is locked, and a condition only reads.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.state());
        self.changed.notify_all();
        answer
    }
}

impl Tab {
    /// Opens the stream at `url` and returns immediately. The channel of [`Tab::happenings`] is unbounded: it keeps
    /// every event until it is read.
    pub fn open(url: &str, settings: Settings) -> Result<Tab, TabError> {
        let (to, happenings) = unbounded();
        Tab::start(url, settings, to, happenings)
    }

    /// Opens the stream at `url` and sends its events to `to`. While `to` is full the tab does not read, which delays
    /// the server's writes. If its receiver is gone, the tab continues.
    pub fn open_into(url: &str, settings: Settings, to: Sender<Happening>) -> Result<Tab, TabError> {
        Tab::start(url, settings, to, crossbeam_channel::never())
    }

    fn start(
        url: &str,
        settings: Settings,
        to: Sender<Happening>,
        happenings: Receiver<Happening>,
    ) -> Result<Tab, TabError> {
        let url = parse_url_of(url, settings.schemes())?;
        let shared = Arc::new(Shared::default());
        shared.state().progress.last_event_id.clone_from(&settings.last_event_id);
        let name = settings.name.clone();
        let source = Source::new(url, settings, shared.clone(), to)?;
        let thread = StoppableThread::start(&name, |stop| source.run(stop.clone()))?;
        Ok(Tab { shared, happenings, thread })
    }

    /// Receives what happens to the tab, in order. Each change is visible in [`Tab::progress`] before it is sent. For
    /// a tab of [`Tab::open_into`], nothing is ever received.
    pub fn happenings(&self) -> &Receiver<Happening> {
        &self.happenings
    }

    /// The current state of the tab.
    pub fn progress(&self) -> Progress {
        self.shared.state().progress.clone()
    }

    /// The standard's `readyState`.
    pub fn ready_state(&self) -> ReadyState {
        self.shared.state().progress.ready_state
    }

    /// The local port of the newest connection.
    pub fn local_port(&self) -> Option<u16> {
        self.shared.state().progress.local_port
    }

    /// How long the first byte took on the newest connection.
    pub fn first_byte(&self) -> Option<Duration> {
        self.shared.state().progress.first_byte
    }

    /// Blocks until `condition` holds, and returns the state in which it did, or `None` once `timeout` has passed.
    pub fn wait_for(&self, condition: impl Fn(&Progress) -> bool, timeout: Duration) -> Option<Progress> {
        let waiting = |state: &mut State| !condition(&state.progress);
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.state(), timeout, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        condition(&state.progress).then(|| state.progress.clone())
    }

    /// Drops the connection, even in the middle of an event, as a broken network would. The tab then reconnects as
    /// usual. Returns `false` if the tab was not connected.
    pub fn cut(&self) -> bool {
        let mut state = self.shared.state();
        let Some(closer) = state.closer.clone() else { return false };
        state.cut = true;
        closer.close();
        true
    }

    /// The page's `source.close()`: sends FIN, and does not reconnect. Blocks until the tab's thread has ended.
    pub fn close(&self) {
        self.shared.change(|state| state.closing = true);
        self.thread.end_with(|| {
            let closer = self.shared.state().closer.clone();
            closer.inspect(Closer::close);
        });
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.close();
    }
}
