//! Step 7: checks whether connections without an open request stop the page as streams do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Run;
use super::connection::{Carries, ProbedConnection};
use super::connections::{Flow, Opening};
use super::exchange::Purpose;
use super::observation::Id;
use crate::lab::probe::measured::{CloseBy, HeldConnections, PageOutcome, WaitPlace};
use crate::lab::probe::progress::ProbeProgress;

/// The age of silent connections before the pages are requested.
const SETTLE: Duration = Duration::from_secs(1);

/// A server that does not keep connections alive has closed them by this time after its answer.
const KEPT_SETTLE: Duration = Duration::from_millis(300);

/// Connections that were opened together expire within this time of each other.
const EXPIRE_TOGETHER: Duration = Duration::from_millis(300);

/// How long a connection attempt may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// The server notices a stream that was closed just before within this time.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// Runs the experiment with silent connections, and then the one with keep-alive connections.
    pub(super) fn idle_and_kept(&mut self, n: usize) -> Flow<()> {
        if n == 0 {
            return Ok(());
        }
        let noticed = (self.usual_gap() * 3 / 2).min(NOTICED_WITHIN);
        self.pause(noticed)?;
        let mut counts = vec![n];
        if n * 2 <= self.plan.tabs {
            counts.push(n * 2);
        }
        let mut kept = n.min(self.plan.tabs);
        for n in counts.into_iter().filter(|n| *n <= self.plan.tabs) {
            if !self.page_is_back()? {
                return Ok(());
            }
            let held = self.hold(n, Purpose::Silence, SETTLE)?;
            (self.tell)(ProbeProgress::Idle(&held));
            let stops = held.stop_a_page();
            self.measured.idle.push(held);
            if stops {
                kept = n;
                break;
            }
        }
        if !self.page_is_back()? {
            return Ok(());
        }
        let held = self.hold(kept, Purpose::Keep, KEPT_SETTLE)?;
        (self.tell)(ProbeProgress::Kept(&held));
        self.measured.kept = Some(held);
        Ok(())
    }

    /// Opens `n` such connections, one after another, and requests the pages beside them. If the connections expired
    /// during these requests, tries once more with a shorter wait.
    fn hold(&mut self, n: usize, purpose: Purpose, settle: Duration) -> Flow<HeldConnections> {
        match self.hold_once(n, purpose, settle)? {
            (_, true) => Ok(self.hold_once(n, purpose, settle / 4)?.0),
            (held, false) => Ok(held),
        }
    }

    /// The second value is whether the connections expired while the pages were requested, in which case the result
    /// proves nothing. A server that closes connections to serve a page closes as few as it can, not all.
    fn hold_once(&mut self, n: usize, purpose: Purpose, settle: Duration) -> Flow<(HeldConnections, bool)> {
        let ids = match purpose {
            Purpose::Keep => self.open_kept(n)?,
            _ => self.open_silent(n)?,
        };
        self.pause(settle)?;
        let open = |run: &Self| {
            ids.iter().filter(|id| run.net.get(**id).is_some_and(ProbedConnection::is_open)).count()
        };
        let place = self.usual_place(&ids);
        let open_before = open(self);
        let mut pages = Vec::new();
        for page in self.fastest_first() {
            let within = self.pages[page].baseline.limit();
            let (id, ask) = self.ask_once(page, within)?;
            let ask = ask.unwrap_or_else(|| self.give_up(id, page, false));
            pages.push((self.pages[page].baseline.path.clone(), ask));
        }
        let open_after = open(self);
        let held = HeldConnections { n, open_before, open_after, pages, place };
        let mut expired = false;
        if held.were_closed_for_the_page() && held.leave_pages_answered() {
            self.pause(EXPIRE_TOGETHER)?;
            let left = open(self);
            expired = left < open_after || left == 0;
        }
        for id in ids {
            self.net.close(id, CloseBy::Fin);
        }
        Ok((held, expired))
    }

    fn open_silent(&mut self, n: usize) -> Flow<Vec<Id>> {
        let mut ids = Vec::new();
        for number in 1..=n {
            let opening = Opening {
                kind: Carries::Held,
                name: format!("idle {number}"),
                url: self.plan.url.clone(),
                request: Default::default(),
                purpose: Purpose::Silence,
                from: None,
                receive_buffer: None,
            };
            let id = self.net.open(opening)?;
            ids.push(id);
            let until = Instant::now() + CONNECT_WITHIN;
            self.wait(until, |net| {
                let it = net.get(id)?;
                (it.parked.is_some() || it.ended.is_some()).then_some(())
            })?;
        }
        Ok(ids)
    }

    /// Opens `n` keep-alive connections. Stops at the first one that is not answered, because it waits as a page would.
    fn open_kept(&mut self, n: usize) -> Flow<Vec<Id>> {
        let page = self.stopped_page();
        let mut ids = Vec::new();
        for _ in 0..n {
            let id = self.open_page_at(page, self.pages[page].url.clone(), Purpose::Keep)?;
            ids.push(id);
            let until = Instant::now() + self.pages[page].baseline.limit();
            if self.wait_for_page(id, page, until)?.is_none_or(|ask| ask.outcome == PageOutcome::Nothing) {
                break;
            }
        }
        Ok(ids)
    }

    /// The most frequent place of these connections.
    fn usual_place(&mut self, ids: &[Id]) -> Option<WaitPlace> {
        let mut counts: HashMap<WaitPlace, usize> = HashMap::new();
        for place in self.net.look_up_places(ids).into_iter().flatten() {
            *counts.entry(place).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(place, count)| (*count, *place as u8)).map(|(place, _)| place)
    }
}
