//! What the buttons open: tabs, zombies and page requests of the lab, over real
//! sockets to the app's own address.
//!
//! They are the lab's own clients and nothing is pretended: what they do to the
//! server is seen on the timeline, as what anybody else does. Each kind has a limit.
//! A reset closes them all and restores what can be set to what it was at the start.
//! An order blocks for the connecting, and a close until a tab's thread has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use serde::Serialize;
use thiserror::Error;

use crate::lab::http::{Closer, Connection, HttpError, Options, Request, parse_url};
use crate::lab::tab::{OpenError, ReadyState, Settings, Tab, Waiting};
use crate::lab::zombies::Zombie;

/// The most tabs, which is also the highest number that one can have.
pub(super) const MAX_TABS: u32 = 64;
/// The most zombies.
pub(super) const MAX_ZOMBIES: usize = 64;
/// The most page requests that have no answer yet.
pub(super) const MAX_PAGES: usize = 16;
/// How long a connection may take to be made: a listen queue may be full.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a page is waited for before its client goes away.
const PAGE_WITHIN: Duration = Duration::from_secs(600);

/// Why an order of the lab was not carried out.
#[derive(Debug, Error)]
pub(super) enum LabError {
    #[error("tab {0} is open already")]
    IsOpen(u32),
    #[error("tab {0} is not open")]
    NotOpen(u32),
    #[error("{MAX_TABS} tabs are open; close one")]
    TooManyTabs,
    #[error(
        "{wanted} more zombies would be more than {MAX_ZOMBIES}; there are {there}, and a reset closes them"
    )]
    TooManyZombies { wanted: usize, there: usize },
    #[error("{MAX_PAGES} page requests wait already; a reset ends them")]
    TooManyPages,
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Tab(#[from] OpenError),
    #[error("no thread for the page request: {0}")]
    Thread(#[from] io::Error),
}

/// The lab's clients of one app.
pub(super) struct Laboratory {
    /// `http://HOST:PORT`.
    app: String,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    tabs: BTreeMap<u32, Tab>,
    zombies: BTreeMap<usize, Zombie>,
    pages: BTreeMap<usize, Page>,
    /// What is being opened by orders under way. It counts as open, so that orders at the same moment
    /// do not pass a limit together.
    opening_tabs: BTreeSet<u32>,
    opening_zombies: usize,
    opening_pages: usize,
    /// How many zombies and pages there ever were.
    counted: usize,
}

/// Given back when dropped, however the order ends.
struct Reserved<'a> {
    laboratory: &'a Laboratory,
    what: Kind,
}

enum Kind {
    Tab(u32),
    Zombie,
    Page,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut open = self.laboratory.open();
        match self.what {
            Kind::Tab(number) => {
                open.opening_tabs.remove(&number);
            }
            Kind::Zombie => open.opening_zombies -= 1,
            Kind::Page => open.opening_pages -= 1,
        }
    }
}

struct Page {
    local_port: u16,
    closer: Closer,
    outcome: Arc<Mutex<Option<Result<u16, String>>>>,
}

/// What is open, as `GET /lab` shows it.
#[derive(Serialize)]
pub(super) struct Shown {
    tabs: Vec<ShownTab>,
    zombies: Vec<ShownZombie>,
    pages: Vec<ShownPage>,
}

#[derive(Serialize)]
pub(super) struct ShownTab {
    tab: u32,
    /// `connecting`, `open`, `reconnecting` or `closed`.
    state: &'static str,
    /// The newest connection's port, which is its number on the timeline.
    local_port: Option<u16>,
    events: u64,
    /// Why it failed for good.
    failed: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ShownZombie {
    zombie: usize,
    local_port: u16,
}

#[derive(Serialize)]
pub(super) struct ShownPage {
    page: usize,
    local_port: u16,
    /// Its status; null while it waits.
    answered: Option<u16>,
    failed: Option<String>,
}

impl Laboratory {
    /// For the app that listens here.
    pub fn new(app: SocketAddr) -> Self {
        let host: IpAddr = match app.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Laboratory { app: format!("http://{}", SocketAddr::new(host, app.port())), open: Mutex::default() }
    }

    /// Opens the tab of this number, or of the lowest that is free.
    pub fn open_tab(&self, wanted: Option<u32>) -> Result<ShownTab, LabError> {
        let (_reserved, number) = self.reserve_tab(wanted)?;
        let settings = Settings { name: format!("lab tab {number}"), ..Settings::default() };
        // Nobody hears what happens to it: that is on the server's own record.
        let (to, _) = bounded(0);
        let tab = Tab::open_into(&self.stream(&number.to_string()), settings, to)?;
        let shown = show_tab(number, &tab);
        self.open().tabs.insert(number, tab);
        Ok(shown)
    }

    fn reserve_tab(&self, wanted: Option<u32>) -> Result<(Reserved<'_>, u32), LabError> {
        let mut open = self.open();
        let is_taken = |number: u32| open.tabs.contains_key(&number) || open.opening_tabs.contains(&number);
        let number = match wanted {
            Some(number) if is_taken(number) => return Err(LabError::IsOpen(number)),
            Some(number) => number,
            None => (1..=MAX_TABS).find(|number| !is_taken(*number)).ok_or(LabError::TooManyTabs)?,
        };
        open.opening_tabs.insert(number);
        Ok((Reserved { laboratory: self, what: Kind::Tab(number) }, number))
    }

    /// Closes a tab as its page would: FIN.
    pub fn close_tab(&self, number: u32) -> Result<u32, LabError> {
        let tab = self.open().tabs.remove(&number).ok_or(LabError::NotOpen(number))?;
        tab.close();
        Ok(number)
    }

    /// Opens so many clients that ask for a stream and never read.
    pub fn leave_zombies(&self, count: usize) -> Result<Vec<ShownZombie>, LabError> {
        let reserved: Vec<Reserved<'_>> = {
            let mut open = self.open();
            let there = open.zombies.len() + open.opening_zombies;
            if there.saturating_add(count) > MAX_ZOMBIES {
                return Err(LabError::TooManyZombies { wanted: count, there });
            }
            open.opening_zombies += count;
            (0..count).map(|_| Reserved { laboratory: self, what: Kind::Zombie }).collect()
        };
        // All of them, or none: those that were opened before one fails are closed again.
        let mut opened = Vec::new();
        for _ in &reserved {
            let number = self.count();
            opened.push((number, Zombie::open(&self.stream(&format!("zombie-{number}")))?));
        }
        let shown = |(number, zombie): &(usize, Zombie)| ShownZombie {
            zombie: *number,
            local_port: zombie.local_port(),
        };
        let left = opened.iter().map(shown).collect();
        self.open().zombies.extend(opened);
        Ok(left)
    }

    /// Asks for a page, and does not wait for the answer.
    pub fn ask_for_page(&self) -> Result<ShownPage, LabError> {
        let _reserved = {
            let mut open = self.open();
            let waiting = open.pages.values().filter(|page| page.is_waiting()).count();
            if waiting + open.opening_pages >= MAX_PAGES {
                return Err(LabError::TooManyPages);
            }
            while open.pages.len() >= MAX_PAGES {
                let Some(oldest) = open.pages.iter().find(|(_, page)| !page.is_waiting()) else { break };
                let oldest = *oldest.0;
                open.pages.remove(&oldest);
            }
            open.opening_pages += 1;
            Reserved { laboratory: self, what: Kind::Page }
        };
        let number = self.count();
        let url = parse_url(&format!("{}/?tab=page-{number}", self.app))?;
        let options = Options::within(CONNECT_WITHIN);
        let mut connection = Connection::open_with(&url, &options, |_| true)?;
        connection.set_deadline(Some(Instant::now() + PAGE_WITHIN));
        connection.send(
            &url,
            &Request { headers: vec![("Connection", b"close".to_vec())], ..Request::default() },
        )?;
        let page = Page {
            local_port: connection.local_port(),
            closer: connection.closer(),
            outcome: Arc::default(),
        };
        let outcome = Arc::clone(&page.outcome);
        thread::Builder::new().name(format!("lab page {number}")).spawn(move || {
            let answer = read_whole(connection).map_err(|error| error.to_string());
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        })?;
        let shown = page.show(number);
        self.open().pages.insert(number, page);
        Ok(shown)
    }

    /// Closes everything that is open. Blocks until the tabs' threads have ended.
    pub fn close_all(&self) {
        let (tabs, zombies, pages) = {
            let mut open = self.open();
            (mem::take(&mut open.tabs), mem::take(&mut open.zombies), mem::take(&mut open.pages))
        };
        pages.values().for_each(|page| page.closer.close());
        drop((tabs, zombies));
    }

    /// What is open.
    pub fn show(&self) -> Shown {
        let open = self.open();
        Shown {
            tabs: open.tabs.iter().map(|(number, tab)| show_tab(*number, tab)).collect(),
            zombies: open
                .zombies
                .iter()
                .map(|(number, it)| ShownZombie { zombie: *number, local_port: it.local_port() })
                .collect(),
            pages: open.pages.iter().map(|(number, page)| page.show(*number)).collect(),
        }
    }

    fn stream(&self, tab: &str) -> String {
        format!("{}/models/live_stream?tab={tab}", self.app)
    }

    fn count(&self) -> usize {
        let mut open = self.open();
        open.counted += 1;
        open.counted
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Every change under this lock is one insertion or removal, whole even after a panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    fn is_waiting(&self) -> bool {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn show(&self, number: usize) -> ShownPage {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        ShownPage {
            page: number,
            local_port: self.local_port,
            answered: outcome.as_ref().and_then(|it| it.as_ref().ok().copied()),
            failed: outcome.as_ref().and_then(|it| it.as_ref().err().cloned()),
        }
    }
}

fn read_whole(connection: Connection) -> Result<u16, HttpError> {
    let (head, mut body) = connection.response()?;
    let mut buffer = [0; 4_096];
    while body.read(&mut buffer).map_err(HttpError::from_body)? > 0 {}
    Ok(head.status)
}

fn show_tab(number: u32, tab: &Tab) -> ShownTab {
    let progress = tab.progress();
    let state = match (progress.ready_state, progress.waiting) {
        (ReadyState::Open, _) => "open",
        (ReadyState::Closed, _) => "closed",
        (ReadyState::Connecting, Waiting::ToReconnect) => "reconnecting",
        (ReadyState::Connecting, _) => "connecting",
    };
    ShownTab {
        tab: number,
        state,
        local_port: progress.local_port,
        events: progress.events,
        failed: progress.failed.map(|reason| reason.to_string()),
    }
}
