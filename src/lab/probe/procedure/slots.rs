//! Step 4: closes three streams, and measures how long each slot takes to return.

use std::time::{Duration, Instant};

use super::Run;
use super::connection::ProbedConnection;
use super::connections::Flow;
use super::observation::Id;
use super::staircase::Climbing;
use crate::lab::probe::measured::{CloseBy, SlotReturn, WaitPlace};
use crate::lab::probe::progress::ProbeProgress;
use crate::lab::probe::requests::Variant;

/// How the three streams are closed: two like closed tabs, and one like the connection of a killed program.
const CLOSES: [CloseBy; 3] = [CloseBy::Fin, CloseBy::Fin, CloseBy::Rst];

/// A slot that does not return within this time counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(15);

/// The pause after a tab that ended by itself.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Maximum number of fresh tabs to try if a slot did not go to the waiting tab.
const FRESH_TABS: usize = 3;

/// How long a new tab waits before a stream is closed, so that the tab has reached its queue.
const QUEUED_AFTER: Duration = Duration::from_millis(300);

/// How a measurement ended.
enum Returned {
    /// A tab received its first event.
    At(Instant),
    /// No tab received an event in time.
    No,
}

impl Run<'_> {
    /// Measures up to three returns of a slot.
    pub(super) fn slot_returns(&mut self, climb: &mut Climbing) -> Flow<()> {
        if self.net.flowing().is_empty() {
            return Ok(());
        }
        let took_over = climb.beyond.iter().any(|step| step.took_over);
        let tabs_wait = took_over || !self.net.waiting().is_empty();
        for (number, by) in CLOSES.into_iter().enumerate() {
            let needs_a_tab = tabs_wait && self.net.waiting().is_empty();
            if needs_a_tab && (climb.is_session_lock || !self.queue_a_tab(climb)?) {
                break;
            }
            let Some(id) = self.ripe_stream()? else { break };
            let what = format!("closing a stream to see when its slot returns ({} of 3)", number + 1);
            (self.tell)(ProbeProgress::Doing { what: &what, up_to: LOST_AFTER });
            let slot_return = self.slot_return(climb, id, by, tabs_wait)?;
            self.measured.slot_returns.push(slot_return);
            (self.tell)(ProbeProgress::SlotReturn(&slot_return));
        }
        Ok(())
    }

    /// Opens a tab that waits. Returns `false` if it finds none. If a tab streams immediately, it is left open and
    /// another one is tried, because otherwise a free slot would be measured instead of the returned one.
    fn queue_a_tab(&mut self, climb: &Climbing) -> Flow<bool> {
        for _ in 0..FRESH_TABS {
            let Some(id) = self.open_fresh(climb)? else { return Ok(false) };
            self.judge(id, QUEUED_AFTER)?;
            if self.net.get(id).is_some_and(ProbedConnection::waits) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens a stream that is not a step of the climb. `None` if `--tabs` does not allow another connection.
    fn open_fresh(&mut self, climb: &Climbing) -> Flow<Option<Id>> {
        if !self.net.has_room() {
            return Ok(None);
        }
        self.open_stream(climb.opened + 1, "fresh tab", Variant::default()).map(Some)
    }

    /// The youngest stream that has been delivering events for two gaps. Waits until there is one.
    fn ripe_stream(&mut self) -> Flow<Option<Id>> {
        let age = self.usual_gap() * 2;
        let until = Instant::now() + age + Duration::from_secs(1);
        loop {
            let now = Instant::now();
            let flowing: Vec<(Id, Instant)> = self
                .net
                .flowing()
                .into_iter()
                .filter_map(|id| Some((id, self.net.get(id)?.first_event?)))
                .collect();
            let ripe = flowing.iter().rev().find(|(_, first)| *first + age <= now);
            if let Some((id, _)) = ripe {
                return Ok(Some(*id));
            }
            let Some(next) = flowing.iter().map(|(_, first)| *first + age).min().filter(|_| now < until)
            else {
                return Ok(None);
            };
            self.wait(next.min(until), |_| None::<()>)?;
        }
    }

    fn slot_return(&mut self, climb: &Climbing, id: Id, by: CloseBy, tabs_wait: bool) -> Flow<SlotReturn> {
        let mut waiting = self.net.waiting();
        // The kernel retries an unfinished handshake on its own schedule, so the time would be wrong.
        let is_full = self.net.look_up_places(&waiting).contains(&Some(WaitPlace::AcceptQueueFull));
        let is_made = |id: &Id| self.net.get(*id).is_some_and(|it| it.is_connected);
        let mut is_void = is_full || !waiting.iter().all(is_made);
        let closed = Instant::now();
        self.net.close(id, by);
        if waiting.is_empty() || self.measured.slot_went_to_a_fresh_tab {
            waiting.extend(self.open_fresh(climb)?);
        }
        let until = closed + LOST_AFTER;
        let (returned, ends_between) = self.first_event_of(climb, &mut waiting, until)?;
        is_void |= self.net.was_cut_since(closed);
        let after = match returned {
            Returned::At(at) => Some(at.saturating_duration_since(closed)),
            Returned::No => None,
        };
        if after.is_none() && tabs_wait && !climb.is_session_lock && !self.measured.slot_went_to_a_fresh_tab {
            // If a tab in another queue gets the slot, it is not lost, but the time of its return is unknown.
            is_void |= self.try_fresh_tabs(climb)?;
        }
        Ok(SlotReturn { by, after, ends_between, is_void })
    }

    /// Waits for the first event of any of these tabs. Counts the tabs that end; if all have, opens a fresh one.
    fn first_event_of(
        &mut self,
        climb: &Climbing,
        tabs: &mut Vec<Id>,
        until: Instant,
    ) -> Flow<(Returned, usize)> {
        let mut ends = 0;
        loop {
            let seen = tabs.clone();
            let flowed = |it: &ProbedConnection| it.has_flowed().then_some(it.first_event).flatten();
            let is_over =
                |it: &ProbedConnection| !it.is_open() || it.status().is_some_and(|status| status != 200);
            self.wait(until, |net| {
                let any = seen.iter().filter_map(|id| net.get(*id));
                any.into_iter().any(|it| flowed(it).is_some() || is_over(it)).then_some(())
            })?;
            let first = tabs.iter().filter_map(|id| flowed(self.net.get(*id)?));
            if let Some(at) = first.min() {
                return Ok((Returned::At(at), ends));
            }
            if Instant::now() >= until {
                return Ok((Returned::No, ends));
            }
            for id in std::mem::take(tabs) {
                if self.net.get(id).is_some_and(is_over) {
                    ends += 1;
                    self.judge(id, Duration::ZERO)?;
                } else {
                    tabs.push(id);
                }
            }
            if tabs.is_empty() {
                if climb.is_session_lock {
                    return Ok((Returned::No, ends));
                }
                self.pause(AGAIN_AFTER)?;
                tabs.extend(self.open_fresh(climb)?);
                if tabs.is_empty() {
                    return Ok((Returned::No, ends));
                }
            }
        }
    }

    /// Tries up to three fresh tabs, one after another. Returns whether one of them got an event.
    fn try_fresh_tabs(&mut self, climb: &Climbing) -> Flow<bool> {
        for _ in 0..FRESH_TABS {
            let Some(id) = self.open_fresh(climb)? else { break };
            self.judge(id, self.event_within())?;
            if self.net.get(id).is_some_and(ProbedConnection::has_flowed) {
                self.measured.slot_went_to_a_fresh_tab = true;
                // Slots that seemed lost before may have gone to the other queue as well.
                for earlier in self.measured.slot_returns.iter_mut().filter(|it| it.after.is_none()) {
                    earlier.is_void = true;
                }
                return Ok(true);
            }
            self.net.close(id, CloseBy::Fin);
        }
        Ok(false)
    }

    /// Whether only some of the slots returned to the waiting tab, as happens with several queues.
    pub(super) fn has_uneven_returns(&self) -> bool {
        let returns = || self.measured.slot_returns.iter().filter(|it| !it.is_void);
        let some = returns().any(|it| it.after.is_some());
        self.measured.slot_went_to_a_fresh_tab || (some && returns().any(|it| it.after.is_none()))
    }
}
