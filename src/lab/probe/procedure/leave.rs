//! Step 6: closes everything as a browser does, and waits for the page and a fresh stream.

use std::time::{Duration, Instant};

use super::Run;
use super::connection::ProbedConnection;
use super::connections::Flow;
use super::observation::Id;
use crate::lab::probe::measured::{CloseBy, Free, PageOutcome, Stopped};
use crate::lab::probe::progress::ProbeProgress;
use crate::lab::probe::requests::Variant;

/// If the page or a fresh stream is not served within this time, the server has leaked slots.
const LEAKED_AFTER: Duration = Duration::from_secs(30);

/// The minimum time that the fresh stream gets.
const STREAM_WITHIN: Duration = Duration::from_secs(5);

/// After this time, the page is requested a second time, in case the first request is in the wrong queue.
const SECOND_PAGE_AFTER: Duration = Duration::from_secs(5);

/// The pause before a request that ended is repeated.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The server usually notices a closed stream within two gaps between events, and at most within this time.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);

/// The maximum time to wait for a slot to return.
const SETTLED_WITHIN: Duration = Duration::from_secs(8);

/// Number of events that are read from the fresh stream.
const EVENTS: usize = 3;

/// The fresh stream is kept open for at most this time.
const EVENTS_WITHIN: Duration = Duration::from_secs(10);

impl Run<'_> {
    /// Closes everything, and measures how long the page and a fresh stream take.
    pub(super) fn leave(&mut self) -> Flow<Free> {
        self.end_late_ask();
        (self.tell)(ProbeProgress::Doing {
            what: "closing everything and waiting for a page",
            up_to: LEAKED_AFTER,
        });
        let left = Instant::now();
        self.net.close_all(CloseBy::Fin);
        let mut free = Free { page: self.page_comes(left)?, stream: None };
        if free.page.is_some() && !self.measured.is_blind {
            let stream = self.stream_comes(left)?;
            free.stream = stream.map(|(_, after)| after);
            if let Some((id, _)) = stream {
                let gaps = self.gaps_of(id)?;
                if self.measured.lone_gaps.is_empty() {
                    self.measured.lone_gaps = gaps;
                }
                // RST, so that the server notices at its next write.
                self.net.close(id, CloseBy::Rst);
            }
        }
        Ok(free)
    }

    /// Like [`leave`](Self::leave), for the first climb: records the result, and ends the run if there is a leak.
    pub(super) fn leave_first(&mut self) -> Flow<()> {
        let free = self.leave()?;
        self.measured.free = Some(free);
        (self.tell)(ProbeProgress::Free(&free));
        self.unless_leaked(&free)
    }

    /// Ends the run if the page or a fresh stream was not served. In blind mode, no fresh stream was requested.
    pub(super) fn unless_leaked(&self, free: &Free) -> Flow<()> {
        let is_free = free.page.is_some() && (free.stream.is_some() || self.measured.is_blind);
        if is_free { Ok(()) } else { Err(Stopped::Leak) }
    }

    /// Keeps one request for the page pending, and a second one after a while. Returns the time until an answer.
    fn page_comes(&mut self, left: Instant) -> Flow<Option<Duration>> {
        let page = self.stopped_page();
        let until = left + LEAKED_AFTER;
        let mut pending: Vec<Id> = vec![self.open_page(page)?];
        let mut has_second = false;
        let found = loop {
            let seen = pending.clone();
            let step = if has_second { until } else { (left + SECOND_PAGE_AFTER).min(until) };
            self.wait(step, |net| {
                seen.iter().filter_map(|id| net.get(*id)).any(|it| !it.is_open()).then_some(())
            })?;
            let answered = pending.iter().filter_map(|id| {
                let ask = self.settled(*id, page)?;
                let at = self.net.get(*id)?.opened + ask.time;
                (ask.outcome == PageOutcome::Answered).then_some(at)
            });
            if let Some(at) = answered.min() {
                break Some(at.saturating_duration_since(left));
            }
            if Instant::now() >= until {
                break None;
            }
            pending.retain(|id| self.net.get(*id).is_some_and(ProbedConnection::is_open));
            if pending.is_empty() {
                self.pause(AGAIN_AFTER)?;
                pending.push(self.open_page(page)?);
            }
            if !has_second && left.elapsed() >= SECOND_PAGE_AFTER {
                has_second = true;
                pending.push(self.open_page(page)?);
            }
        };
        for id in pending {
            self.net.close(id, CloseBy::Fin);
        }
        Ok(found)
    }

    /// Opens a fresh stream, and another one whenever it ends. Returns the time until an event.
    fn stream_comes(&mut self, left: Instant) -> Flow<Option<(Id, Duration)>> {
        let until = (left + LEAKED_AFTER).max(Instant::now() + STREAM_WITHIN.max(self.event_within()));
        loop {
            let id = self.open_stream(0, "fresh stream", Variant::default())?;
            let within = until.saturating_duration_since(Instant::now());
            self.judge(id, within)?;
            let Some(connection) = self.net.get(id) else { return Ok(None) };
            if let Some(first) = connection.first_event.filter(|_| connection.has_flowed()) {
                return Ok(Some((id, first.saturating_duration_since(left))));
            }
            let is_over = !connection.is_open();
            self.net.close(id, CloseBy::Fin);
            if !is_over || Instant::now() + AGAIN_AFTER >= until {
                return Ok(None);
            }
            self.pause(AGAIN_AFTER)?;
        }
    }

    /// Keeps a stream open for three events. Returns the gaps between them.
    fn gaps_of(&mut self, id: Id) -> Flow<Vec<Duration>> {
        let until = Instant::now() + (self.usual_gap() * 4 + Duration::from_secs(1)).min(EVENTS_WITHIN);
        self.wait(until, |net| {
            let connection = net.get(id)?;
            (connection.ticks.len() >= EVENTS || !connection.is_open()).then_some(())
        })?;
        Ok(self.net.get(id).map(|it| it.gaps_since(self.net.began())).unwrap_or_default())
    }

    /// Waits until the slot of the stream that was closed last should have returned. Otherwise the next climb, or the
    /// next run, would find one slot too few.
    pub(super) fn settle_down(&mut self) -> Flow<()> {
        let streams = self.net.iter().filter(|(_, it)| it.has_flowed());
        let Some(closed) = streams.filter_map(|(_, it)| it.closed.map(|(at, _)| at)).max() else {
            return Ok(());
        };
        let worst =
            self.measured.slot_returns.iter().filter(|it| !it.is_void).filter_map(|it| it.after).max();
        let noticed = (self.usual_gap() * 2).min(NOTICED_WITHIN);
        let until = closed + noticed.max(worst.unwrap_or_default()).min(SETTLED_WITHIN);
        self.wait(until, |_| None::<()>).map(|_| ())
    }

    /// Waits until the page is answered. Returns `false` if it is not answered in time.
    pub(super) fn page_is_back(&mut self) -> Flow<bool> {
        Ok(self.page_comes(Instant::now())?.is_some())
    }

    /// The first page that stopped, or the fastest page if none did.
    pub(super) fn stopped_page(&self) -> usize {
        self.first_dead.or_else(|| self.fastest_first().first().copied()).unwrap_or(0)
    }
}
