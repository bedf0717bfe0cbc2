//! Step 2: opens one tab after another, and requests the pages beside each.

use std::time::{Duration, Instant};

use super::Run;
use super::asks::LateAsk;
use super::connection::{Carries, ProbedConnection};
use super::connections::{Flow, Opening};
use super::exchange::Purpose;
use super::observation::{End, Id};
use crate::lab::probe::measured::{CloseBy, CutHow, PageAsks, PageOutcome, Stopped, Unit};
use crate::lab::probe::progress::ProbeProgress;
use crate::lab::probe::requests::{self, Variant};

/// How long a tab may take until its first event. For the first tab, the patience of the plan applies instead.
pub(super) const EVENT_WITHIN: Duration = Duration::from_secs(3);

/// The age at which the place of a tab without an event is looked up.
pub(super) const PLACE_AFTER: Duration = Duration::from_millis(400);

/// How long the body of a refusal is read.
const BODY_WITHIN: Duration = Duration::from_secs(1);

/// A cut counts as earlier than a first event if it is reported up to this long after it, because the threads of two
/// connections may report in any order.
const CUTS_SETTLE: Duration = Duration::from_millis(10);

/// Number of consecutive tabs that end before the next one is judged, after which the probe gives up counting.
const ENDLESS: usize = 3;

/// Minimum duration of a stream. A chunked page is complete sooner.
const STREAM_LASTS: Duration = Duration::from_secs(1);

/// A tab of a staircase.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) id: Id,
    pub(super) number: usize,
    pub(super) pages: Vec<PageAsks>,
    /// Whether its first event arrived after another stream was cut off.
    pub(super) took_over: bool,
    /// Whether it ended before the next tab was judged.
    pub(super) is_cut: bool,
}

impl Step {
    pub(super) fn new(id: Id, number: usize) -> Step {
        Step { id, number, pages: Vec::new(), took_over: false, is_cut: false }
    }
}

/// A staircase that is being climbed.
#[derive(Debug, Default)]
pub(super) struct Climbing {
    /// Number of tabs that were opened.
    pub(super) opened: usize,
    /// Tabs that streamed, in order.
    pub(super) steps: Vec<Step>,
    /// Tabs that did not stream, or that took over a slot, in order.
    pub(super) beyond: Vec<Step>,
    /// Dead pages: those that were not answered in any of three requests. They are not requested again.
    pub(super) dead: Vec<usize>,
    /// The first page that stopped.
    pub(super) first_dead: Option<usize>,
    /// Page requests beside the first stream that were not answered quickly.
    pub(super) pending: Vec<LateAsk>,
    /// The maximum number of tabs that streamed at the same time.
    pub(super) streams: usize,
    pub(super) pages_until: usize,
    /// The tab at which the first page stopped.
    pub(super) page_stopped_at: Option<usize>,
    /// Whether this is the first climb of the run. Further climbs have fewer experiments.
    pub(super) is_first: bool,
    pub(super) asks_pages: bool,
    /// Whether another user's tabs stream while this user's tabs wait.
    pub(super) is_session_lock: bool,
    pub(super) is_blind: bool,
}

impl Climbing {
    /// The first climb of a run.
    pub(super) fn first() -> Climbing {
        Climbing { is_first: true, asks_pages: true, ..Climbing::default() }
    }

    /// Adds a step, sorted by the number of its tab. A late tab becomes a step after younger ones.
    pub(super) fn add_step(&mut self, step: Step) {
        let at = self.steps.partition_point(|other| other.number < step.number);
        self.steps.insert(at, step);
    }

    /// The number of the last tab that streamed.
    pub(super) fn last_step(&self) -> usize {
        self.steps.last().map_or(0, |step| step.number)
    }

    /// The number of streams, or of held streams when the page stopped if none delivered an event.
    pub(super) fn n(&self) -> usize {
        if self.streams > 0 { self.streams } else { self.page_stopped_at.unwrap_or(0) }
    }
}

/// How the next tab was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// It streams and is a step.
    Flows,
    /// It got nothing, or it took over a slot.
    Beyond,
    /// The climb has opened all tabs, so a next tab does not exist.
    NoMoreTabs,
}

impl Run<'_> {
    /// Opens a stream. The caller has checked that the budget allows it.
    pub(super) fn open_stream(&mut self, tab: usize, name: &str, variant: Variant) -> Flow<Id> {
        self.open_stream_with(tab, name, variant, Purpose::Read, None, None)
    }

    pub(super) fn open_stream_with(
        &mut self,
        tab: usize,
        name: &str,
        mut variant: Variant,
        purpose: Purpose,
        from: Option<std::net::IpAddr>,
        receive_buffer: Option<usize>,
    ) -> Flow<Id> {
        variant.encoding = variant.encoding.or_else(|| self.encoding.clone());
        let (url, request) = requests::stream(self.plan, tab.max(1), &variant);
        let (kind, name) = (Carries::Stream(tab), name.to_owned());
        self.net.open(Opening { kind, name, url, request, purpose, from, receive_buffer })
    }

    /// Opens the next tab of a climb, if one more is allowed.
    pub(super) fn open_tab(&mut self, climb: &mut Climbing) -> Flow<Option<Id>> {
        if climb.opened >= self.plan.tabs || !self.net.has_room() {
            return Ok(None);
        }
        climb.opened += 1;
        let number = climb.opened;
        let id = self.open_stream(number, &format!("tab {number}"), Variant::default())?;
        Ok(Some(id))
    }

    /// Climbs until a tab gets nothing or all tabs are open. Includes the experiments at the limit.
    pub(super) fn climb(&mut self, climb: &mut Climbing) -> Flow<()> {
        loop {
            match self.next_tab(climb)? {
                Judged::Flows => {}
                Judged::Beyond if !self.beyond(climb)? => break,
                Judged::Beyond => {}
                Judged::NoMoreTabs => break,
            }
        }
        self.settle_pending(climb)?;
        if !climb.is_blind {
            climb.streams = climb.streams.max(self.flowing_steps(climb, None));
        }
        Ok(())
    }

    /// The number of steps that stream now, or that were streaming at that moment. Tabs that took over a slot are not
    /// counted.
    pub(super) fn flowing_steps(&self, climb: &Climbing, moment: Option<Instant>) -> usize {
        let flows = |it: &ProbedConnection| match moment {
            None => it.flows(),
            Some(moment) => {
                it.closed.is_none() && it.has_flowed() && it.server_end().is_none_or(|(at, _)| at > moment)
            }
        };
        climb.steps.iter().filter(|step| self.net.get(step.id).is_some_and(flows)).count()
    }

    /// Whether a tab of this climb got nothing. A tab that ended before a later one streamed does not count.
    pub(super) fn met_a_limit(&self, climb: &Climbing) -> bool {
        climb.beyond.iter().any(|step| {
            step.number > climb.last_step() || self.net.get(step.id).is_some_and(ProbedConnection::waits)
        })
    }

    /// Opens the next tab, judges it, and requests the pages if it streams.
    fn next_tab(&mut self, climb: &mut Climbing) -> Flow<Judged> {
        let Some(id) = self.open_tab(climb)? else { return Ok(Judged::NoMoreTabs) };
        let step = Step::new(id, climb.opened);
        self.tell_tab(&step);
        let is_very_first = climb.opened == 1 && climb.is_first;
        let limit = if is_very_first { self.plan.waiting_patience() } else { EVENT_WITHIN };
        self.judge(id, limit)?;
        if is_very_first && !self.net.get(id).is_some_and(ProbedConnection::has_flowed) {
            return self.first_tab_is_silent(climb, step);
        }
        self.settle_pending(climb)?;
        self.add_judged(climb, step)
    }

    /// Waits until the outcome of a stream is known, but at most until it has this age.
    pub(super) fn judge(&mut self, id: Id, limit: Duration) -> Flow<()> {
        let Some(opened) = self.net.get(id).map(|it| it.opened) else { return Ok(()) };
        let is_decided = |it: &ProbedConnection| {
            it.ended.is_some() || it.has_flowed() || it.status().is_some_and(|it| it != 200)
        };
        // A tab that ends before its limit may have waited before, so its place is looked up early.
        if limit > PLACE_AFTER {
            let is_early = self.wait(opened + PLACE_AFTER, |net| is_decided(net.get(id)?).then_some(()))?;
            if is_early.is_none() {
                self.net.look_up_place(id);
            }
        }
        self.wait(opened + limit, |net| is_decided(net.get(id)?).then_some(()))?;
        let now = Instant::now();
        match self.net.get(id) {
            Some(it) if it.has_flowed() => {
                self.pause(CUTS_SETTLE)?;
            }
            Some(it) if it.is_open() && it.status().is_some_and(|status| status != 200) => {
                self.wait(now + BODY_WITHIN, |net| net.get(id)?.ended.as_ref().map(|_| ()))?;
            }
            _ => {}
        }
        self.note_head(id);
        let is_refusal =
            |it: &ProbedConnection| it.is_open() && it.status().is_some_and(|status| status != 200);
        if self.net.get(id).is_some_and(is_refusal) {
            self.net.close(id, CloseBy::Fin);
        }
        Ok(())
    }

    /// Whether another stream was cut off while this one waited for its first event, or while an earlier one waited.
    pub(super) fn saw_a_cut(&self, id: Id, waiting_since: Option<Instant>) -> bool {
        let Some(connection) = self.net.get(id) else { return false };
        let opened = waiting_since.map_or(connection.opened, |since| since.min(connection.opened));
        let from = self.net.at(opened);
        let to = connection.first_event.map(|at| self.net.at(at) + CUTS_SETTLE);
        self.net.cuts_of_others(id).any(|cut| cut >= from && to.is_none_or(|to| cut <= to))
    }

    /// How long a stream may take until its first event in an experiment. Some servers always send it late.
    pub(super) fn event_within(&self) -> Duration {
        let oldest = self.net.iter().map(|(_, it)| it).find(|it| it.has_flowed());
        let took = oldest.and_then(|it| Some(it.first_event?.saturating_duration_since(it.opened)));
        EVENT_WITHIN.max(took.unwrap_or_default() * 2)
    }

    /// Adds a judged tab to its climb. If it streams, it becomes a step, and the pages are requested beside it.
    pub(super) fn add_judged(&mut self, climb: &mut Climbing, mut step: Step) -> Flow<Judged> {
        self.check_finished(climb)?;
        let has_flowed = self.net.get(step.id).is_some_and(ProbedConnection::has_flowed);
        step.took_over = has_flowed && self.saw_a_cut(step.id, None);
        let is_beyond = !has_flowed || step.took_over;
        // Streams that ended while this tab waited were still running when the tab was opened.
        let moment = self.net.get(step.id).map(|it| it.opened).filter(|_| is_beyond);
        climb.streams = climb.streams.max(self.flowing_steps(climb, moment));
        if let Some(previous) = climb.steps.last_mut() {
            let is_over = self.net.get(previous.id).is_some_and(|it| it.server_end().is_some());
            previous.is_cut |= is_over;
        }
        self.check_endless(climb)?;
        if is_beyond {
            if self.net.get(step.id).is_some_and(ProbedConnection::waits) {
                self.net.look_up_place(step.id);
            }
            self.tell_waiting(&step);
            climb.beyond.push(step);
            return Ok(Judged::Beyond);
        }
        self.note_unit(step.id);
        self.tell_tab(&step);
        self.ask_beside(climb, &mut step)?;
        climb.add_step(step);
        if climb.steps.len() == 1 {
            self.check_is_a_stream(climb)?;
        }
        Ok(Judged::Flows)
    }

    /// Requests the pages beside the newest step.
    pub(super) fn ask_beside(&mut self, climb: &mut Climbing, step: &mut Step) -> Flow<()> {
        if !climb.asks_pages {
            return Ok(());
        }
        let beside = if climb.is_blind { climb.opened } else { self.net.flowing().len() };
        let pages: Vec<usize> =
            self.fastest_first().into_iter().filter(|page| !climb.dead.contains(page)).collect();
        let is_first_stream = beside == 1 && climb.is_first && !climb.is_blind;
        if is_first_stream {
            (step.pages, climb.pending) = self.ask_pages_beside_the_first(&pages)?;
        } else {
            step.pages = self.ask_pages(&pages)?;
        }
        self.note_pages(climb, step.number, beside, &step.pages);
        let tab = self.tab(step);
        (self.tell)(ProbeProgress::TabJudged(&tab));
        Ok(())
    }

    /// Records which of the pages stopped beside this many streams.
    pub(super) fn note_pages(
        &mut self,
        climb: &mut Climbing,
        number: usize,
        beside: usize,
        pages: &[PageAsks],
    ) {
        for asks in pages {
            let page = self.pages.iter().position(|page| page.baseline.path == asks.path);
            if let Some(page) = page.filter(|_| asks.is_dead() && asks.asks.len() >= super::asks::ASKS) {
                climb.dead.push(page);
                climb.first_dead.get_or_insert(page);
                climb.page_stopped_at.get_or_insert(number);
            }
        }
        let all_asked = climb.pending.is_empty() && pages.len() == self.pages.len();
        if all_asked && pages.iter().all(|asks| !asks.asks.is_empty() && asks.answered() == asks.asks.len()) {
            climb.pages_until = climb.pages_until.max(beside);
        }
    }

    /// Waits for the outcome of the page requests that are still pending beside the first stream.
    pub(super) fn settle_pending(&mut self, climb: &mut Climbing) -> Flow<()> {
        if climb.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut climb.pending);
        let settled = self.settle(pending)?;
        let mut is_whole = true;
        for (page, ask) in settled {
            is_whole &= ask.outcome == PageOutcome::Answered;
            let path = self.pages[page].baseline.path.clone();
            let Some(step) = climb.steps.first_mut() else { continue };
            match step.pages.iter_mut().find(|asks| asks.path == path) {
                Some(asks) => asks.asks.push(ask),
                None => step.pages.push(PageAsks { path, asks: vec![ask] }),
            }
        }
        if is_whole {
            climb.pages_until = climb.pages_until.max(1);
        }
        if let Some(step) = climb.steps.first() {
            let tab = self.tab(step);
            (self.tell)(ProbeProgress::TabJudged(&tab));
        }
        Ok(())
    }

    /// Ends the run if a stream has finished by itself, because then nothing can be counted.
    fn check_finished(&self, climb: &Climbing) -> Flow<()> {
        self.check_is_readable(climb)?;
        let finished = self.net.cuts().iter().find(|cut| cut.how == CutHow::Finished);
        match finished {
            Some(cut) if climb.is_first => Err(Stopped::StreamsFinish { after: cut.age }),
            _ => Ok(()),
        }
    }

    /// Ends the run if an event of a stream was too large, because then the probe ended the stream, not the server.
    pub(super) fn check_is_readable(&self, climb: &Climbing) -> Flow<()> {
        let steps = climb.steps.iter().chain(&climb.beyond).filter_map(|step| self.net.get(step.id));
        match steps.filter(|_| climb.is_first).find(|it| it.has_a_too_large_event()) {
            Some(unreadable) => Err(Stopped::NotAStream { what: super::spoken_head(unreadable) }),
            None => Ok(()),
        }
    }

    /// Ends the run if every stream ends before the next tab is judged.
    fn check_endless(&self, climb: &Climbing) -> Flow<()> {
        let all_cut = climb.steps.iter().all(|step| step.is_cut);
        if climb.is_first && climb.steps.len() >= ENDLESS && all_cut && climb.streams == 0 {
            let after = self.net.cuts().iter().map(|cut| cut.age).max().unwrap_or_default();
            return Err(Stopped::StreamsFinish { after });
        }
        Ok(())
    }

    /// Ends the run if the first response was a chunked page.
    fn check_is_a_stream(&self, climb: &Climbing) -> Flow<()> {
        let Some(first) = climb.steps.first().and_then(|step| self.net.get(step.id)) else { return Ok(()) };
        let lasted = match (first.server_end(), first.first_event) {
            (Some((at, End::Complete)), Some(event)) => at.saturating_duration_since(event),
            _ => return Ok(()),
        };
        if first.unit == Some(Unit::Chunk) && lasted < STREAM_LASTS {
            return Err(Stopped::NotAStream { what: super::spoken_head(first) });
        }
        Ok(())
    }

    fn note_unit(&mut self, id: Id) {
        if self.measured.target.unit.is_none() {
            self.measured.target.unit = self.net.get(id).and_then(|it| it.unit);
        }
    }
}
