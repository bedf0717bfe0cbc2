//! Step 3: examines the first tab that gets nothing.
//!
//! Finds out where the tab waits, what another user, another address and the pages get at the same time, and whether
//! the tab was only late.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::Run;
use super::connection::ProbedConnection;
use super::connections::Flow;
use super::exchange::Purpose;
use super::observation::Id;
use super::staircase::{Climbing, PLACE_AFTER, Step};
use crate::lab::probe::measured::{
    CloseBy, OtherAddress, PageAsks, PageOutcome, StatsMoment, Tries, UncachedPage,
};
use crate::lab::probe::requests::{self, Variant};

/// Number of streams to request for each variant.
const TRIES: usize = 3;

/// A tab that ends within this time was refused.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// Maximum number of tabs that wait at the same time.
const WAITING: usize = 2;

/// Tabs that end by themselves are replaced until this many have ended.
const ENDED: usize = 3;

/// How long further climbs watch a waiting tab.
const AGAIN_WITHIN: Duration = Duration::from_secs(6);

/// The number of tabs beyond the last step, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Beyond {
    waiting: usize,
    /// Tabs that the server ended.
    ended: usize,
    /// Tabs that have streamed since another stream was cut off.
    took_over: usize,
}

/// The next action while tabs wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextMove {
    /// The count is known.
    Done,
    /// Opens one more tab, in addition to the others or as a replacement.
    Open,
    Watch,
}

/// Decides on the next action while tabs wait. `is_old` means that the first tab has been watched for long enough.
fn next(beyond: Beyond, at_once: usize, may_open: bool, is_old: bool) -> NextMove {
    let Beyond { waiting, ended, took_over } = beyond;
    let has_room = waiting + took_over < at_once && waiting + took_over + ended < ENDED;
    match (waiting, took_over) {
        _ if ended >= ENDED || is_old => NextMove::Done,
        _ if may_open && has_room => NextMove::Open,
        (0, 0) => NextMove::Done,
        _ => NextMove::Watch,
    }
}

impl Run<'_> {
    /// Runs the experiments at the limit and watches the waiting tabs. Returns whether the climb continues because a
    /// tab was only late.
    pub(super) fn beyond(&mut self, climb: &mut Climbing) -> Flow<bool> {
        if climb.is_first {
            if self.is_session_lock(climb)? {
                climb.is_session_lock = true;
                return Ok(false);
            }
            self.try_other_address(climb)?;
            self.ask_pages_at_limit(climb)?;
        }
        self.watch(climb)
    }

    /// Looks at the listening processes and at the statistics, once the count is known.
    pub(super) fn look_at_limit(&mut self) -> Flow<()> {
        self.measured.listeners_at_limit = crate::lab::probe::listeners::of(self.plan.address);
        self.ask_statistics(StatsMoment::AtLimit)
    }

    /// Tries three streams of another user while one stream runs and the next one waits. The other user has another
    /// session, so a session lock does not stop these streams.
    fn is_session_lock(&mut self, climb: &Climbing) -> Flow<bool> {
        let Some(step) = climb.beyond.last() else { return Ok(false) };
        let (id, number) = (step.id, step.number);
        let waits = |run: &Self| run.net.get(id).is_some_and(ProbedConnection::waits);
        if !self.plan.has_cookie() || !waits(self) || self.net.flowing().len() != 1 {
            return Ok(false);
        }
        let mut tries = Tries::default();
        while tries.of < TRIES && tries.flowed == tries.of && self.net.has_room() {
            let variant = Variant { is_other_user: true, ..Variant::default() };
            let other = self.open_stream(number, "other cookie", variant)?;
            self.judge(other, self.event_within())?;
            tries.of += 1;
            tries.flowed += usize::from(self.net.get(other).is_some_and(ProbedConnection::has_flowed));
            self.net.close(other, CloseBy::Fin);
            // The server keeps the session locked until it notices the close.
            let pause = self.usual_gap() * 5 / 2;
            self.pause(pause)?;
        }
        self.measured.other_cookie = Some(tries);
        Ok(tries.flowed == TRIES && waits(self))
    }

    /// After a refusal, tries three streams from another address, alternating with three from ours.
    fn try_other_address(&mut self, climb: &Climbing) -> Flow<()> {
        let Some(step) = climb.beyond.last() else { return Ok(()) };
        let number = step.number;
        let end = self.net.get(step.id).and_then(|it| Some((it.opened, it.server_end()?.0)));
        let is_refused = end.is_some_and(|(from, to)| to.saturating_duration_since(from) < REFUSED_WITHIN);
        let is_this_machine = self.plan.address.ip() == IpAddr::from(Ipv4Addr::LOCALHOST);
        // Elsewhere, 127.0.0.2 is not an address of this machine unless it was set up.
        if !is_refused || !is_this_machine || !cfg!(target_os = "linux") {
            return Ok(());
        }
        let began = Instant::now();
        let mut found = OtherAddress::default();
        for _ in 0..TRIES {
            for from in [Some(IpAddr::from(Ipv4Addr::new(127, 0, 0, 2))), None] {
                if !self.net.has_room() {
                    return Ok(());
                }
                let name = if from.is_some() { "from 127.0.0.2" } else { "from 127.0.0.1" };
                let variant = Variant::default();
                let id = self.open_stream_with(number, name, variant, Purpose::Read, from, None)?;
                self.judge(id, self.event_within())?;
                let tries = if from.is_some() { &mut found.other } else { &mut found.own };
                tries.of += 1;
                tries.flowed += usize::from(self.net.get(id).is_some_and(ProbedConnection::has_flowed));
                self.net.close(id, CloseBy::Fin);
            }
        }
        found.a_stream_ended = self.net.was_cut_since(began);
        self.measured.other_address = Some(found);
        Ok(())
    }

    /// Repeats the requests for the pages that still answer, once unchanged and once bypassing caches.
    pub(super) fn ask_pages_at_limit(&mut self, climb: &mut Climbing) -> Flow<()> {
        self.finish_first_asks(climb)?;
        let pages: Vec<usize> =
            self.fastest_first().into_iter().filter(|page| !climb.dead.contains(page)).collect();
        let found = self.ask_pages(&pages)?;
        let number = climb.beyond.last().map_or(climb.opened, |step| step.number);
        let beside = if climb.is_blind { climb.opened } else { self.net.flowing().len() };
        self.note_pages(climb, number, beside, &found);
        self.measured.uncached_pages.clear();
        for (page, asks) in pages.into_iter().zip(&found).filter(|(_, asks)| asks.answered() > 0) {
            let url = requests::uncached(&self.pages[page].url);
            let id = self.open_page_at(page, url, Purpose::Read)?;
            let until = Instant::now() + self.pages[page].baseline.limit();
            let ask = self.wait_for_page(id, page, until)?;
            if ask.is_none() {
                self.give_up(id, page, false);
            }
            let uncached = ask.is_some_and(|ask| ask.outcome == PageOutcome::Answered);
            self.measured.uncached_pages.push(UncachedPage {
                path: asks.path.clone(),
                plain: true,
                uncached,
            });
        }
        if let Some(step) = climb.beyond.last_mut() {
            step.pages = found;
        }
        if let Some(step) = climb.beyond.last() {
            self.tell_waiting(step);
        }
        Ok(())
    }

    /// Sends the page requests that were left out beside the first stream, one at a time.
    fn finish_first_asks(&mut self, climb: &mut Climbing) -> Flow<()> {
        if climb.steps.len() != 1 || climb.is_blind {
            return Ok(());
        }
        let is_unfinished =
            |asks: &PageAsks| asks.asks.len() < super::asks::ASKS && asks.answered() < asks.asks.len();
        let mut pages = climb.steps[0].pages.clone();
        for asks in pages.iter_mut().filter(|asks| is_unfinished(asks)) {
            let Some(page) = self.pages.iter().position(|page| page.baseline.path == asks.path) else {
                continue;
            };
            while asks.asks.len() < super::asks::ASKS {
                let (id, ask) = self.ask_once(page, self.pages[page].baseline.limit())?;
                let is_last = asks.asks.len() + 1 == super::asks::ASKS;
                asks.asks.push(ask.unwrap_or_else(|| self.give_up(id, page, is_last)));
            }
        }
        self.note_pages(climb, climb.steps[0].number, 1, &pages);
        climb.steps[0].pages = pages;
        let tab = self.tab(&climb.steps[0]);
        (self.tell)(crate::lab::probe::progress::ProbeProgress::TabJudged(&tab));
        Ok(())
    }

    /// Watches the waiting tabs until the first one is old enough. Returns whether all of them were only late.
    fn watch(&mut self, climb: &mut Climbing) -> Flow<bool> {
        let (patience, at_once) = match climb.is_first {
            true => (self.plan.waiting_patience(), WAITING),
            false => (self.plan.waiting_patience().min(AGAIN_WITHIN), 1),
        };
        loop {
            let was_late = self.sort_out(climb)?;
            if was_late && self.beyond_now(climb).waiting == 0 {
                return Ok(true);
            }
            let opened = self.first_beyond(climb).unwrap_or_else(Instant::now);
            let deadline = opened + patience;
            let may_open = climb.opened < self.plan.tabs && self.net.has_room();
            match next(self.beyond_now(climb), at_once, may_open, Instant::now() >= deadline) {
                NextMove::Done => break,
                NextMove::Open => {
                    let Some(id) = self.open_tab(climb)? else { break };
                    let step = Step::new(id, climb.opened);
                    self.tell_waiting(&step);
                    climb.beyond.push(step);
                    // Judged before the next tab is opened, so that refusals are counted one by one as well.
                    self.judge(id, PLACE_AFTER)?;
                }
                NextMove::Watch => self.watch_until(climb, deadline)?,
            }
        }
        let waiting = self.waiting_of(climb);
        self.net.look_up_places(&waiting);
        // The look-up takes long on a machine with many connections, and a tab can end meanwhile.
        self.pause(Duration::ZERO)?;
        for step in climb.beyond.iter().filter(|step| waiting.contains(&step.id)) {
            self.tell_waiting(step);
        }
        Ok(false)
    }

    /// Waits until a waiting tab changes, or until its place has to be looked up.
    fn watch_until(&mut self, climb: &Climbing, deadline: Instant) -> Flow<()> {
        let waiting: Vec<Id> = self.waiting_of(climb);
        let unplaced = waiting.iter().filter_map(|id| self.net.get(*id).filter(|it| it.place.is_none()));
        let until = unplaced.map(|it| it.opened + PLACE_AFTER).filter(|at| *at > Instant::now()).min();
        let until = until.map_or(deadline, |at| at.min(deadline));
        self.wait(until, |net| {
            waiting.iter().any(|id| !net.get(*id).is_some_and(ProbedConnection::waits)).then_some(())
        })?;
        for id in waiting {
            self.note_head(id);
            let is_due =
                self.net.get(id).is_some_and(|it| it.place.is_none() && it.opened.elapsed() >= PLACE_AFTER);
            if is_due && self.net.get(id).is_some_and(ProbedConnection::waits) {
                self.net.look_up_place(id);
            }
            if let Some(step) = climb.beyond.iter().find(|step| step.id == id) {
                self.tell_waiting(step);
            }
        }
        Ok(())
    }

    /// Turns the tabs that were only late into steps, and marks those that took over a slot. Returns whether a tab was
    /// late.
    fn sort_out(&mut self, climb: &mut Climbing) -> Flow<bool> {
        let has_flowed = |run: &Self, step: &Step| {
            !step.took_over && run.net.get(step.id).is_some_and(ProbedConnection::has_flowed)
        };
        let mut was_late = false;
        while let Some(at) = climb.beyond.iter().position(|step| has_flowed(self, step)) {
            // The threads of two connections may report in any order.
            self.pause(Duration::from_millis(10))?;
            if self.saw_a_cut(climb.beyond[at].id, self.first_beyond(climb)) {
                climb.beyond[at].took_over = true;
                self.tell_waiting(&climb.beyond[at]);
                continue;
            }
            let mut step = climb.beyond.remove(at);
            let at_limit = std::mem::take(&mut step.pages);
            self.ask_beside(climb, &mut step)?;
            if step.pages.is_empty() {
                step.pages = at_limit;
            }
            climb.add_step(step);
            climb.streams = climb.streams.max(self.flowing_steps(climb, None));
            was_late = true;
        }
        // Closes refusals whose body does not end.
        let refused = climb.beyond.iter().map(|step| step.id).filter(|id| {
            self.net.get(*id).is_some_and(|it| it.is_open() && it.status().is_some_and(|it| it != 200))
        });
        for id in refused.collect::<Vec<_>>() {
            self.judge(id, Duration::ZERO)?;
        }
        Ok(was_late)
    }

    fn waiting_of(&self, climb: &Climbing) -> Vec<Id> {
        let ids = climb.beyond.iter().map(|step| step.id);
        ids.filter(|id| self.net.get(*id).is_some_and(ProbedConnection::waits)).collect()
    }

    fn beyond_now(&self, climb: &Climbing) -> Beyond {
        let mut beyond = Beyond { waiting: self.waiting_of(climb).len(), ..Beyond::default() };
        for step in climb.beyond.iter().filter(|step| step.number > climb.last_step()) {
            if step.took_over {
                beyond.took_over += 1;
            } else if !self.net.get(step.id).is_some_and(ProbedConnection::is_open) {
                beyond.ended += 1;
            }
        }
        beyond
    }

    /// When the first tab beyond the last step, or the first waiting tab, was opened, whichever is earlier.
    fn first_beyond(&self, climb: &Climbing) -> Option<Instant> {
        let opened = |step: &Step| self.net.get(step.id).map(|it| it.opened);
        let beyond = climb.beyond.iter().filter(|step| step.number > climb.last_step());
        let all: Vec<Instant> = beyond.filter_map(opened).collect();
        let waiting = self.waiting_of(climb);
        let first_waiting = waiting.first().and_then(|id| self.net.get(*id)).map(|it| it.opened);
        all.into_iter().chain(first_waiting).min()
    }

    /// The usual time between two events, or a second if it is unknown.
    pub(super) fn usual_gap(&self) -> Duration {
        let gap = self.net.gap().unwrap_or(Duration::from_secs(1));
        gap.clamp(Duration::from_millis(20), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(waiting: usize, ended: usize, took_over: usize) -> NextMove {
        next(Beyond { waiting, ended, took_over }, WAITING, true, false)
    }

    #[test]
    fn at_most_two_tabs_wait_and_three_ends_are_enough() {
        assert_eq!(at(1, 0, 0), NextMove::Open);
        assert_eq!(at(2, 0, 0), NextMove::Watch);
        assert_eq!(at(1, 1, 0), NextMove::Open);
        assert_eq!(at(1, 2, 0), NextMove::Watch, "the waiting tab may become the third that ends");
        assert_eq!(at(0, 1, 0), NextMove::Open);
        assert_eq!(at(0, 2, 0), NextMove::Open);
        assert_eq!(at(0, 3, 0), NextMove::Done);
    }

    #[test]
    fn tabs_that_took_over_a_slot_are_not_replaced() {
        assert_eq!(at(1, 0, 1), NextMove::Watch);
        assert_eq!(at(0, 0, 2), NextMove::Watch);
    }

    #[test]
    fn the_watch_ends_at_an_age_of_the_first_tab_or_when_no_tab_may_be_opened() {
        let beyond = |waiting, ended| Beyond { waiting, ended, took_over: 0 };
        assert_eq!(next(beyond(2, 0), WAITING, true, true), NextMove::Done);
        assert_eq!(next(beyond(0, 1), WAITING, false, false), NextMove::Done);
        assert_eq!(next(beyond(1, 1), WAITING, false, false), NextMove::Watch);
        assert_eq!(next(beyond(1, 0), 1, true, false), NextMove::Watch);
    }
}
