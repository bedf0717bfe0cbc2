//! Requests the pages beside the streams.
//!
//! Each request uses a new connection, because one from before the streams might be answered when a new visitor would
//! not be. A path is requested three times, because with several queues a single result may be due to chance.

use std::time::{Duration, Instant};

use super::Run;
use super::connection::{Carries, ProbedConnection};
use super::connections::{Flow, Opening};
use super::exchange::Purpose;
use super::observation::{End, Id};
use crate::lab::probe::measured::{Baseline, CloseBy, LatePage, PageAsk, PageAsks, PageOutcome};
use crate::lab::probe::requests;

/// How often a path is requested beside a tab.
pub(super) const ASKS: usize = 3;

/// Maximum number of open page requests at the same time, while no tab waits.
const BESIDE: usize = 3;

/// A page, with its baseline.
#[derive(Debug, Clone)]
pub(super) struct ProbedPage {
    pub(super) url: url::Url,
    pub(super) baseline: Baseline,
    /// The `Server` header of its response.
    pub(super) server: Option<String>,
}

impl ProbedPage {
    /// After this time without an answer, the other pages are requested first.
    fn short_limit(&self) -> Duration {
        (self.baseline.time * 5).max(Duration::from_millis(250))
    }
}

/// A page request that was not answered in time, and that is left open until the streams are closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct LateAsk {
    pub(super) id: Id,
    pub(super) page: usize,
}

/// The requests for a path that does not answer quickly.
struct Slow {
    page: usize,
    /// Number of requests that are still to be sent.
    due: usize,
    open: Vec<Id>,
}

impl Run<'_> {
    /// Sends one request for this page.
    pub(super) fn open_page(&mut self, page: usize) -> Flow<Id> {
        let url = self.pages[page].url.clone();
        self.open_page_at(page, url, Purpose::Read)
    }

    /// Sends one request for this page, with another URL or purpose.
    pub(super) fn open_page_at(&mut self, page: usize, url: url::Url, purpose: Purpose) -> Flow<Id> {
        let kind = if purpose == Purpose::Keep { Carries::Held } else { Carries::Page(page) };
        let name = requests::path_of(&self.plan.pages[page]);
        let request = requests::page(self.plan, purpose == Purpose::Keep);
        let opening = Opening { kind, name, url, request, purpose, from: None, receive_buffer: None };
        self.net.open(opening)
    }

    /// The outcome of a page request, once it is decided.
    pub(super) fn settled(&self, id: Id, page: usize) -> Option<PageAsk> {
        settled(self.net.get(id)?, self.pages[page].baseline.status)
    }

    /// Requests a page once, and waits for the answer for at most `within`. An unanswered request stays open.
    pub(super) fn ask_once(&mut self, page: usize, within: Duration) -> Flow<(Id, Option<PageAsk>)> {
        let id = self.open_page(page)?;
        let ask = self.wait_for_page(id, page, Instant::now() + within)?;
        Ok((id, ask))
    }

    pub(super) fn wait_for_page(&mut self, id: Id, page: usize, until: Instant) -> Flow<Option<PageAsk>> {
        let status = self.pages[page].baseline.status;
        let ask = self.wait(until, |net| settled(net.get(id)?, status))?;
        self.note_head(id);
        Ok(ask)
    }

    /// How many page requests may be open at the same time now.
    fn asks_at_once(&self) -> usize {
        // In blind mode all streams wait, so waiting tabs are not counted.
        if self.measured.is_blind || self.net.waiting().is_empty() {
            BESIDE - usize::from(self.has_late_ask())
        } else {
            1
        }
    }

    /// Requests these pages, in this order, three times each.
    pub(super) fn ask_pages(&mut self, pages: &[usize]) -> Flow<Vec<PageAsks>> {
        let mut found: Vec<PageAsks> = pages.iter().map(|page| self.no_asks(*page)).collect();
        let mut slow: Vec<Slow> = Vec::new();
        for (place, &page) in pages.iter().enumerate() {
            while found[place].asks.len() < ASKS {
                let open: usize = slow.iter().map(|it| it.open.len()).sum();
                let may_leave_it = open + 1 < self.asks_at_once();
                let limit = self.pages[page].baseline.limit();
                let within = if may_leave_it { self.pages[page].short_limit().min(limit) } else { limit };
                match self.ask_once(page, within)? {
                    (_, Some(ask)) => found[place].asks.push(ask),
                    (id, None) if may_leave_it => {
                        let due = ASKS - found[place].asks.len() - 1;
                        slow.push(Slow { page, due, open: vec![id] });
                        break;
                    }
                    (id, None) => {
                        let is_last = found[place].asks.len() + 1 == ASKS;
                        let ask = self.give_up(id, page, is_last && open == 0);
                        found[place].asks.push(ask);
                    }
                }
            }
        }
        self.finish_slow(slow, pages, &mut found)?;
        Ok(found)
    }

    /// Requests these pages until each has three answers. A page that does not answer quickly is not requested further:
    /// its open request is returned.
    pub(super) fn ask_pages_beside_the_first(
        &mut self,
        pages: &[usize],
    ) -> Flow<(Vec<PageAsks>, Vec<LateAsk>)> {
        let (mut found, mut pending) = (Vec::new(), Vec::new());
        for &page in pages {
            let mut asks = self.no_asks(page);
            let within = self.pages[page].short_limit().min(self.pages[page].baseline.limit());
            while asks.asks.len() < ASKS {
                match self.ask_once(page, within)? {
                    (_, Some(ask)) => asks.asks.push(ask),
                    (id, None) => {
                        pending.push(LateAsk { id, page });
                        break;
                    }
                }
            }
            found.push(asks);
        }
        Ok((found, pending))
    }

    /// Waits for requests that stayed open, each until its own limit. If the last one is not answered, it is left open.
    pub(super) fn settle(&mut self, mut pending: Vec<LateAsk>) -> Flow<Vec<(usize, PageAsk)>> {
        let mut found = Vec::new();
        while !pending.is_empty() {
            let LateAsk { id, page } = pending.remove(0);
            let opened = self.net.get(id).map_or_else(Instant::now, |it| it.opened);
            let until = opened + self.pages[page].baseline.limit();
            let ask = match self.wait_for_page(id, page, until)? {
                Some(ask) => self.in_time(ask, page),
                None => self.give_up(id, page, pending.is_empty()),
            };
            found.push((page, ask));
        }
        Ok(found)
    }

    fn finish_slow(&mut self, mut slow: Vec<Slow>, pages: &[usize], found: &mut [PageAsks]) -> Flow<()> {
        loop {
            let at_once = self.asks_at_once();
            let mut open: usize = slow.iter().map(|it| it.open.len()).sum();
            for it in &mut slow {
                while it.due > 0 && open < at_once {
                    it.open.push(self.open_page(it.page)?);
                    it.due -= 1;
                    open += 1;
                }
            }
            if open == 0 {
                return Ok(());
            }
            let ids: Vec<(Id, usize, Instant)> = slow
                .iter()
                .flat_map(|it| it.open.iter().map(|id| (*id, it.page)))
                .map(|(id, page)| {
                    let opened = self.net.get(id).map_or_else(Instant::now, |it| it.opened);
                    (id, page, opened + self.pages[page].baseline.limit())
                })
                .collect();
            let until = ids.iter().map(|(_, _, until)| *until).min().unwrap_or_else(Instant::now);
            let statuses: Vec<u16> = self.pages.iter().map(|page| page.baseline.status).collect();
            self.wait(until, |net| {
                ids.iter()
                    .find(|(id, page, _)| net.get(*id).and_then(|it| settled(it, statuses[*page])).is_some())
                    .map(|_| ())
            })?;
            let now = Instant::now();
            for (id, page, until) in ids {
                let ask = match self.settled(id, page) {
                    Some(ask) => self.in_time(ask, page),
                    None if until <= now => {
                        let left: usize = slow.iter().map(|it| it.open.len() + it.due).sum();
                        self.give_up(id, page, left == 1)
                    }
                    None => continue,
                };
                self.note_head(id);
                if let Some(it) = slow.iter_mut().find(|it| it.page == page) {
                    it.open.retain(|open| *open != id);
                }
                if let Some(place) = pages.iter().position(|it| *it == page) {
                    found[place].asks.push(ask);
                }
            }
        }
    }

    /// Counts an answer as missing if it arrived after the page's limit, while other pages were requested.
    fn in_time(&self, ask: PageAsk, page: usize) -> PageAsk {
        let is_late = ask.outcome == PageOutcome::Answered && ask.time > self.pages[page].baseline.limit();
        if is_late { PageAsk { outcome: PageOutcome::Nothing, ..ask } } else { ask }
    }

    /// Gives up on a request that was not answered in time. If `stays_open`, it replaces the late request: the one that
    /// is left open until the streams are closed.
    pub(super) fn give_up(&mut self, id: Id, page: usize, stays_open: bool) -> PageAsk {
        let place = self.net.look_up_place(id);
        let time = self.net.get(id).map_or(Duration::ZERO, |it| it.opened.elapsed());
        if stays_open {
            self.end_late_ask();
            self.late_ask = Some(LateAsk { id, page });
        } else {
            self.net.close(id, CloseBy::Fin);
        }
        PageAsk { outcome: PageOutcome::Nothing, time, place }
    }

    /// Whether there is a late request that is still open.
    pub(super) fn has_late_ask(&self) -> bool {
        let open = self.late_ask.and_then(|late| self.net.get(late.id));
        open.is_some_and(ProbedConnection::is_open)
    }

    /// Records how the late request ended, and closes it. A request that ended is not replaced by one that did not.
    pub(super) fn end_late_ask(&mut self) {
        let Some(LateAsk { id, page }) = self.late_ask.take() else { return };
        self.note_head(id);
        let Some(connection) = self.net.get(id) else { return };
        let nothing = PageAsk {
            outcome: PageOutcome::Nothing,
            time: connection.opened.elapsed(),
            place: connection.place,
        };
        let mut ask = self.settled(id, page).unwrap_or(nothing);
        ask.place = connection.place;
        let server = connection.head.as_ref().map(|(_, head)| super::server_of(head));
        let is_from_another_sender = server.is_some_and(|server| server != self.pages[page].server);
        let late = LatePage { path: self.pages[page].baseline.path.clone(), ask, is_from_another_sender };
        let is_better = self.measured.late_page.as_ref().is_none_or(|known| {
            known.ask.outcome == PageOutcome::Nothing || late.ask.outcome != PageOutcome::Nothing
        });
        if is_better {
            self.measured.late_page = Some(late);
        }
        self.net.close(id, CloseBy::Fin);
    }

    fn no_asks(&self, page: usize) -> PageAsks {
        PageAsks { path: self.pages[page].baseline.path.clone(), asks: Vec::new() }
    }

    /// The pages, the fastest first.
    pub(super) fn fastest_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.pages.len()).collect();
        order.sort_by_key(|page| self.pages[*page].baseline.time);
        order
    }
}

/// The outcome of a page's connection, once it is decided. `status` is the status of the baseline.
fn settled(connection: &ProbedConnection, status: u16) -> Option<PageAsk> {
    let outcome = match (connection.is_complete(), connection.status()) {
        (true, Some(found)) if found == status => PageOutcome::Answered,
        (true, Some(found)) => PageOutcome::Status(found),
        _ => match connection.server_end()?.1 {
            End::Reset => PageOutcome::Reset,
            End::NotConnected(_) | End::OwnLimit(_) | End::Certificate(_) => PageOutcome::NotConnected,
            End::Complete | End::Early | End::Closed | End::Unusable(_) | End::EventTooLarge(_) => {
                PageOutcome::Closed
            }
        },
    };
    let ended = connection.server_end().map(|(at, _)| at).or(connection.parked_at)?;
    let time = ended.saturating_duration_since(connection.opened);
    Some(PageAsk { outcome, time, place: connection.place })
}
