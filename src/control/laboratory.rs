//! The clients that the buttons open: tabs, zombies and page requests of the lab, over real sockets to the app's
//! own address.
//!
//! They are real clients of the lab, and the timeline records them like any other. Each kind has a limit. A reset
//! closes all of them. Opening blocks while the client connects, and closing a tab blocks until its thread has
//! ended.

mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use thiserror::Error;

use crate::lab::http::{ClientRequest, Closer, Connection, HttpError, Options, field, parse_url};
use crate::lab::tab::{Settings, Tab, TabError};
use crate::lab::zombies::Zombie;
use ninetabs_server::threads::{self, SpawnError};
pub(super) use shown::{LabClient, LabShown, ShownPage, ShownTab, ShownZombie};
use shown::{client_of_tab, client_of_zombie, show_tab, show_zombie, tab_target, zombie_target};

/// Maximum number of tabs, which is also the greatest number that a tab can have.
pub(super) const MAX_TABS: u32 = 64;
/// Maximum number of zombies.
pub(super) const MAX_ZOMBIES: usize = 64;
/// Maximum number of unanswered page requests at one time.
pub(super) const MAX_PAGES: usize = 16;
/// The longest time that connecting may take: the listen queue may be full.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// After how long the client of a page gives up.
pub(super) const PAGE_WITHIN: Duration = Duration::from_secs(600);

/// Why an order of the lab was not carried out.
#[derive(Debug, Error)]
pub(super) enum LabError {
    #[error("tab {0} is already open")]
    IsOpen(u32),
    #[error("tab {0} is not open")]
    NotOpen(u32),
    #[error("{MAX_TABS} tabs are open; close one")]
    TooManyTabs,
    #[error(
        "{wanted} more zombies would exceed the maximum of {MAX_ZOMBIES}; {there} are open, and a reset closes them"
    )]
    TooManyZombies { wanted: usize, there: usize },
    #[error("{MAX_PAGES} page requests are already waiting; a reset ends them")]
    TooManyPages,
    #[error("a reset ended this order before it was carried out; repeat the order")]
    Reset,
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Tab(#[from] TabError),
    #[error(transparent)]
    Thread(#[from] SpawnError),
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
    pages: BTreeMap<usize, LabPage>,
    /// Clients that orders are opening now. They count as open, so that concurrent orders do not exceed a limit in
    /// total.
    opening_tabs: BTreeSet<u32>,
    opening_zombies: usize,
    opening_pages: usize,
    /// How many zombies and pages were opened since the start.
    counted: usize,
    /// How often everything was closed. An order that began before the last close opens nothing.
    generation: u64,
}

/// A reserved slot. It is released once its client is open, or when it is dropped.
struct Reserved<'a> {
    laboratory: &'a Laboratory,
    /// `None` once it is released.
    what: Option<Kind>,
    generation: u64,
}

enum Kind {
    Tab(u32),
    Zombies(usize),
    Page,
}

impl Kind {
    fn release(self, open: &mut Open) {
        match self {
            Kind::Tab(number) => {
                open.opening_tabs.remove(&number);
            }
            Kind::Zombies(count) => open.opening_zombies -= count,
            Kind::Page => open.opening_pages -= 1,
        }
    }
}

impl<'a> Reserved<'a> {
    fn new(laboratory: &'a Laboratory, what: Kind, generation: u64) -> Self {
        Reserved { laboratory, what: Some(what), generation }
    }

    /// Keeps the opened client, and releases the slot under the same lock, so that no client is counted twice. After a
    /// reset, the client is dropped, which closes it.
    fn keep<T>(mut self, opened: T, insert: impl FnOnce(&mut Open, T)) -> Result<(), LabError> {
        let mut open = self.laboratory.open();
        if open.generation != self.generation {
            // Dropping a tab joins its thread, so the lock is released first.
            drop(open);
            drop(opened);
            return Err(LabError::Reset);
        }
        insert(&mut open, opened);
        if let Some(what) = self.what.take() {
            what.release(&mut open);
        }
        Ok(())
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(what) = self.what.take() {
            what.release(&mut self.laboratory.open());
        }
    }
}

struct LabPage {
    target: String,
    local_port: u16,
    closer: Closer,
    outcome: Arc<Mutex<Option<Result<u16, String>>>>,
}

impl Laboratory {
    /// Creates a laboratory for the app at this address.
    pub fn new(app: SocketAddr) -> Self {
        let host: IpAddr = match app.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Laboratory { app: format!("http://{}", SocketAddr::new(host, app.port())), open: Mutex::default() }
    }

    /// Opens the tab with this number, or with the lowest free one.
    pub fn open_tab(&self, wanted: Option<u32>) -> Result<ShownTab, LabError> {
        let (reserved, number) = self.reserve_tab(wanted)?;
        let settings = Settings { name: format!("lab tab {number}"), ..Settings::default() };
        // Nothing receives its events: the server records what happens to it.
        let (to, _) = bounded(0);
        let tab = Tab::open_into(&self.url(&tab_target(number)), settings, to)?;
        let shown = show_tab(number, &tab);
        reserved.keep(tab, |open, tab| {
            open.tabs.insert(number, tab);
        })?;
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
        Ok((Reserved::new(self, Kind::Tab(number), open.generation), number))
    }

    /// Closes a tab as its page would, with a FIN. Calls `before` with the tab just before that.
    pub fn close_tab(&self, number: u32, before: impl FnOnce(&[LabClient])) -> Result<u32, LabError> {
        let tab = self.open().tabs.remove(&number).ok_or(LabError::NotOpen(number))?;
        before(&Vec::from_iter(client_of_tab(number, &tab)));
        tab.close();
        Ok(number)
    }

    /// Opens this many clients that request a stream and never read it.
    pub fn leave_zombies(&self, count: usize) -> Result<Vec<ShownZombie>, LabError> {
        let reserved = {
            let mut open = self.open();
            let there = open.zombies.len() + open.opening_zombies;
            if there.saturating_add(count) > MAX_ZOMBIES {
                return Err(LabError::TooManyZombies { wanted: count, there });
            }
            open.opening_zombies += count;
            Reserved::new(self, Kind::Zombies(count), open.generation)
        };
        // Opens all of them or none: if one fails, those that were opened are closed again.
        let mut opened = Vec::new();
        for _ in 0..count {
            self.check(reserved.generation)?;
            let number = self.count();
            opened.push((number, Zombie::open(&self.url(&zombie_target(number)))?));
        }
        let left = opened.iter().map(|(number, zombie)| show_zombie(*number, zombie)).collect();
        reserved.keep(opened, |open, opened| open.zombies.extend(opened))?;
        Ok(left)
    }

    /// Requests a page, and does not wait for the answer.
    pub fn ask_for_page(&self) -> Result<ShownPage, LabError> {
        let reserved = {
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
            Reserved::new(self, Kind::Page, open.generation)
        };
        let number = self.count();
        let target = format!("/?tab=page-{number}");
        let url = parse_url(&self.url(&target))?;
        let options = Options::within(CONNECT_WITHIN);
        let mut connection = Connection::open_with(&url, &options, |_| true)?;
        connection.set_deadline(Some(Instant::now() + PAGE_WITHIN));
        connection.send(
            &url,
            &ClientRequest { headers: vec![field("Connection", "close")], ..ClientRequest::default() },
        )?;
        let page = LabPage {
            target,
            local_port: connection.local_port(),
            closer: connection.closer(),
            outcome: Arc::default(),
        };
        let outcome = Arc::clone(&page.outcome);
        threads::spawn(&format!("lab page {number}"), move || {
            let answer = read_whole(connection).map_err(|error| error.to_string());
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        })?;
        let shown = page.show(number);
        let closer = page.closer.clone();
        let kept = reserved.keep(page, |open, page| {
            open.pages.insert(number, page);
        });
        kept.inspect_err(|_| closer.close())?;
        Ok(shown)
    }

    /// Closes everything that is open, and ends the orders that are opening something: whatever they have opened
    /// is closed as well. Calls `before` with the clients just before. Blocks until the tabs' threads have ended.
    pub fn close_all(&self, before: impl FnOnce(&[LabClient])) {
        let (tabs, zombies, pages) = {
            let mut open = self.open();
            open.generation += 1;
            (mem::take(&mut open.tabs), mem::take(&mut open.zombies), mem::take(&mut open.pages))
        };
        let waiting = pages.values().filter(|page| page.is_waiting());
        let clients = waiting
            .map(|page| LabClient { target: page.target.clone(), local_port: page.local_port })
            .chain(zombies.iter().map(|(number, zombie)| client_of_zombie(*number, zombie)))
            .chain(tabs.iter().filter_map(|(number, tab)| client_of_tab(*number, tab)));
        before(&clients.collect::<Vec<_>>());
        pages.values().for_each(|page| page.closer.close());
        drop((tabs, zombies));
    }

    /// The open clients.
    pub fn show(&self) -> LabShown {
        let open = self.open();
        LabShown {
            tabs: open.tabs.iter().map(|(number, tab)| show_tab(*number, tab)).collect(),
            zombies: open.zombies.iter().map(|(number, zombie)| show_zombie(*number, zombie)).collect(),
            pages: open.pages.iter().map(|(number, page)| page.show(*number)).collect(),
        }
    }

    /// An address of the app.
    pub fn url(&self, target: &str) -> String {
        format!("{}{target}", self.app)
    }

    /// Whether the lab has not been reset since an order of this generation began.
    fn check(&self, generation: u64) -> Result<(), LabError> {
        if self.open().generation == generation { Ok(()) } else { Err(LabError::Reset) }
    }

    fn count(&self) -> usize {
        let mut open = self.open();
        open.counted += 1;
        open.counted
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Every change under this lock is one insertion or removal, which is complete even after a panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LabPage {
    fn is_waiting(&self) -> bool {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn show(&self, number: usize) -> ShownPage {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        ShownPage {
            page: number,
            target: self.target.clone(),
            local_port: self.local_port,
            answered: outcome.as_ref().and_then(|it| it.as_ref().ok().copied()),
            failed: outcome.as_ref().and_then(|it| it.as_ref().err().cloned()),
        }
    }
}

/// Reads an answer to its end. Returns its status.
pub(super) fn read_whole(connection: Connection) -> Result<u16, HttpError> {
    let (head, mut body) = connection.response()?;
    let mut buffer = [0; 4_096];
    while body.read(&mut buffer).map_err(HttpError::from_body)? > 0 {}
    Ok(head.status)
}

#[cfg(test)]
mod tests;
