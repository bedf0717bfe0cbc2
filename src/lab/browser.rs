//! A browser: tabs that load a page, then that page's stream, over six connections.
//!
//! It shows why a seventh tab does not load. A stream holds one of the six HTTP/1.1 connections that a browser opens
//! per host ([`sockets`](super::sockets)), so while six tabs stream, the seventh tab's *page* is not even requested,
//! however many threads of the server are idle. A connection is in use during a page's request and during a stream, but
//! not during a stream's reconnect delay. Each request has a connection of its own.
//!
//! [`Browser::open`] returns immediately. Closing or dropping a [`BrowserTab`] blocks until its threads have ended.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ninetabs_server::threads::{StopSignal, StoppableThread};
use url::Url;

use super::http::{
    ClientRequest, Closer, Connection, HttpError, Options, Reading, bad_url, field, parse_url,
};
use super::sockets::HostSockets;
use super::tab::{ReadyState, Reason, Settings, Tab, TabError, Waiting};

/// A browser: the state that its tabs share.
#[derive(Debug, Default)]
pub struct Browser {
    sockets: HostSockets,
    opened: AtomicUsize,
}

/// The state of a tab, as a user can see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TabState {
    /// The page has not loaded yet.
    Loading(Waiting),
    /// The page has loaded, and its stream is connecting or reconnecting.
    Connecting(Waiting),
    /// The stream is open.
    Streaming,
    /// It failed for good.
    Failed(TabFailure),
    /// Closed by [`BrowserTab::close`].
    Closed,
}

/// Why a tab failed for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TabFailure {
    /// The page was answered, but not with 200.
    #[error("the page was answered with {0}")]
    PageStatus(u16),
    /// The answer to the page's request is incomplete.
    #[error("the page did not load: {0}")]
    Page(String),
    /// The page's EventSource failed for good.
    #[error("the page's stream failed: {0}")]
    Stream(#[from] Reason),
}

impl Browser {
    /// A browser without tabs.
    pub fn new() -> Browser {
        Browser::default()
    }

    /// The connections of this browser.
    pub fn sockets(&self) -> &HostSockets {
        &self.sockets
    }

    /// Opens a tab on `page_url`. When the page has loaded, the tab opens the stream at `stream_path`, which is
    /// resolved against the page's URL.
    pub fn open(&self, page_url: &str, stream_path: &str) -> Result<BrowserTab, TabError> {
        let page_url = parse_url(page_url)?;
        let bad = |error| bad_url(stream_path, &error);
        let stream_url = page_url.join(stream_path).map_err(bad)?;
        let number = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let settings = Settings {
            name: format!("tab {number}"),
            sockets: Some(self.sockets.clone()),
            ..Settings::default()
        };
        let page = Arc::new(LoadedPage::default());
        let loader =
            Loader { page_url, stream_url, settings, sockets: self.sockets.clone(), page: page.clone() };
        let thread = StoppableThread::start(&format!("page {number}"), |stop| loader.run(stop))?;
        Ok(BrowserTab { page, thread })
    }
}

/// One tab of a [`Browser`]. Closed when dropped.
#[derive(Debug)]
pub struct BrowserTab {
    page: Arc<LoadedPage>,
    thread: StoppableThread,
}

impl BrowserTab {
    /// The current state.
    pub fn state(&self) -> TabState {
        let page = self.page.progress().clone();
        if page.closing {
            return TabState::Closed;
        }
        if let Some(failure) = page.failure {
            return TabState::Failed(failure);
        }
        let Some(stream) = self.page.stream.get() else { return TabState::Loading(page.waiting) };
        let stream = stream.progress();
        match (stream.ready_state, stream.failed) {
            (_, Some(reason)) => TabState::Failed(TabFailure::Stream(reason)),
            (ReadyState::Open, None) => TabState::Streaming,
            (ReadyState::Connecting, None) => TabState::Connecting(stream.waiting),
            (ReadyState::Closed, None) => TabState::Closed,
        }
    }

    /// The page's EventSource, once there is one.
    pub fn stream(&self) -> Option<&Tab> {
        self.page.stream.get()
    }

    /// The local port of the page's request, once it has been sent.
    pub fn page_port(&self) -> Option<u16> {
        self.page.progress().local_port
    }

    /// Blocks until `condition` holds, and returns the state in which it did, or `None` once `timeout` has passed.
    /// Checks every 2 ms.
    pub fn wait_for(&self, condition: impl Fn(&TabState) -> bool, timeout: Duration) -> Option<TabState> {
        let end = Instant::now() + timeout;
        loop {
            let state = self.state();
            if condition(&state) {
                return Some(state);
            }
            if Instant::now() >= end {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Closes the tab as a user would. Blocks until its threads have ended.
    pub fn close(&self) {
        self.page.progress().closing = true;
        self.thread.end_with(|| {
            let closer = self.page.progress().closer.clone();
            closer.inspect(Closer::close);
        });
        if let Some(stream) = self.page.stream.get() {
            stream.close();
        }
    }
}

impl Drop for BrowserTab {
    fn drop(&mut self) {
        self.close();
    }
}

/// The state that a tab and its page's thread share.
#[derive(Debug, Default)]
struct LoadedPage {
    progress: Mutex<PageProgress>,
    stream: OnceLock<Tab>,
}

#[derive(Debug, Clone, Default)]
struct PageProgress {
    waiting: Waiting,
    local_port: Option<u16>,
    failure: Option<TabFailure>,
    closer: Option<Closer>,
    closing: bool,
}

impl LoadedPage {
    fn progress(&self) -> MutexGuard<'_, PageProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state that the page's thread owns.
struct Loader {
    page_url: Url,
    stream_url: Url,
    settings: Settings,
    sockets: HostSockets,
    page: Arc<LoadedPage>,
}

impl Loader {
    fn run(self, stop: &StopSignal) {
        let failure = match self.load(stop) {
            Ok(Some(200)) => match Tab::open_into(self.stream_url.as_str(), self.settings, deaf()) {
                Ok(stream) => {
                    // The cell is empty: only this thread fills it, once.
                    let _ = self.page.stream.set(stream);
                    return;
                }
                Err(error) => TabFailure::Page(error.to_string()),
            },
            Ok(Some(status)) => TabFailure::PageStatus(status),
            Ok(None) => return,
            Err(error) => TabFailure::Page(error.to_string()),
        };
        self.page.progress().failure = Some(failure);
    }

    /// Loads the page and returns its status, or `None` if the tab was closed in the meantime.
    fn load(&self, stop: &StopSignal) -> Result<Option<u16>, HttpError> {
        let waiting = || self.page.progress().waiting = Waiting::ForSocket;
        let Some(_slot) = self.sockets.take(&self.page_url, stop, waiting) else { return Ok(None) };
        let reading = Reading::Browser;
        let options = Options { reading, ..Options::within(self.settings.connect_timeout) };
        let mut connection = Connection::open_with(&self.page_url, &options, |closer| {
            let mut page = self.page.progress();
            page.waiting = Waiting::ForServer;
            page.closer = Some(closer);
            !page.closing
        })?;
        self.page.progress().local_port = Some(connection.local_port());
        let headers =
            [("Connection", "close"), ("User-Agent", "ninetabs"), ("Accept", "text/html,*/*;q=0.8")];
        let headers = headers.map(|(name, value)| field(name, value)).into();
        connection.send(&self.page_url, &ClientRequest { headers, ..ClientRequest::default() })?;
        let (head, mut body) = connection.response()?;
        io::copy(&mut body, &mut io::sink()).map_err(HttpError::from_body)?;
        Ok((!self.page.progress().closing).then_some(head.status))
    }
}

/// A channel without a receiver. Only the state of the tab is used, not its events.
fn deaf() -> crossbeam_channel::Sender<super::tab::Happening> {
    crossbeam_channel::bounded(0).0
}
