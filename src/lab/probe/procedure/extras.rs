//! Step 10: the optional experiments.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Run;
use super::connection::ProbedConnection;
use super::connections::{Connections, Flow};
use super::exchange::Purpose;
use super::observation::Id;
use crate::lab::probe::measured::{CloseBy, Http10, PageOutcome, Stopped, Zombies};
use crate::lab::probe::progress::ProbeProgress;
use crate::lab::probe::requests::Variant;
use crate::lab::probe::{http2, place};

/// Receive buffer of a zombie in bytes. It is small, so that the server's buffers fill soon. The kernel doubles it.
const SMALL_BUFFER: usize = 2048;

impl Run<'_> {
    pub(super) fn extras(&mut self) -> Flow<()> {
        if let Some(n) = self.plan.zombies {
            self.zombies(n)?;
            (self.tell)(ProbeProgress::Extra(&self.measured));
        }
        if self.plan.http2 {
            self.http2()?;
            (self.tell)(ProbeProgress::Extra(&self.measured));
        }
        if self.plan.http10 {
            self.http10()?;
            (self.tell)(ProbeProgress::Extra(&self.measured));
        }
        Ok(())
    }

    /// Opens streams that stop reading after their first event, and one tab and one page beside them.
    fn zombies(&mut self, n: usize) -> Flow<()> {
        let patience = self.plan.zombie_patience();
        let what = format!("watching {n} clients that do not read");
        let up_to = patience + self.event_within();
        (self.tell)(ProbeProgress::Doing { what: &what, up_to });
        let mut ids = Vec::new();
        for number in 1..=n {
            if self.net.held() + 1 >= self.plan.tabs {
                break;
            }
            let name = format!("zombie {number}");
            let (purpose, buffer) = (Purpose::Stall, Some(SMALL_BUFFER));
            let id = self.open_stream_with(number, &name, Variant::default(), purpose, None, buffer)?;
            self.judge(id, self.event_within())?;
            if !self.net.get(id).is_some_and(ProbedConnection::has_flowed) {
                // A waiting stream would take the first slot that returns, instead of the tab below.
                self.net.close(id, CloseBy::Rst);
                break;
            }
            ids.push(id);
        }
        if ids.is_empty() {
            self.measured.zombies = Some(Zombies::default());
            return Ok(());
        }
        let began = Instant::now();
        let tab = match self.net.has_room() {
            true => Some(self.open_stream(n + 1, "tab beside zombies", Variant::default())?),
            false => None,
        };
        let page = self.stopped_page();
        let ask = self.open_page(page)?;
        let until = began + patience;
        let page_is_over = |net: &Connections<'_>| net.get(ask).is_some_and(|it| !it.is_open());
        self.wait(until, |net| {
            let tab_is_served = tab.is_none_or(|tab| net.get(tab).is_some_and(ProbedConnection::has_flowed));
            (tab_is_served || page_is_over(net)).then_some(())
        })?;
        // A served tab must not take the slot that the page waits for.
        let served = tab.filter(|tab| self.net.get(*tab).is_some_and(ProbedConnection::has_flowed));
        if let Some(tab) = served.filter(|_| !page_is_over(&self.net)) {
            self.net.close(tab, CloseBy::Rst);
        }
        self.wait(until, |net| {
            let tab_is_served = tab.is_none_or(|tab| net.get(tab).is_some_and(ProbedConnection::has_flowed));
            (tab_is_served && page_is_over(net)).then_some(())
        })?;
        let first = tab.and_then(|tab| self.net.get(tab)).filter(|it| it.has_flowed());
        let tab = first.and_then(|it| it.first_event).map(|at| at.saturating_duration_since(began));
        let answered = self.settled(ask, page).filter(|ask| ask.outcome == PageOutcome::Answered);
        let unsent = self.unsent(&ids);
        let mut zombies = Zombies {
            n: ids.len(),
            watched: began.elapsed(),
            tab,
            page: answered.map(|ask| ask.time),
            unsent,
            free: None,
        };
        self.measured.zombies = Some(zombies.clone());
        let free = self.leave()?;
        zombies.free = Some(free);
        self.measured.zombies = Some(zombies);
        self.unless_leaked(&free)
    }

    fn unsent(&self, ids: &[Id]) -> Option<u64> {
        let ours: Vec<SocketAddr> = ids.iter().filter_map(|id| self.net.get(*id)?.local).collect();
        place::unsent(self.plan.address, &ours)
    }

    /// Counts the streams on one HTTP/2 connection.
    fn http2(&mut self) -> Flow<()> {
        let what = "counting the streams of one HTTP/2 connection";
        let event_within = self.event_within();
        let up_to = http2::longest(self.plan, &self.measured.baseline, event_within);
        (self.tell)(ProbeProgress::Doing { what, up_to });
        let mut requests = 0;
        let found =
            http2::measure(self.plan, &self.measured.baseline, event_within, self.stop, &mut requests);
        self.net.requests += requests;
        self.measured.http2 = Some(found);
        if self.stop.has_come() { Err(Stopped::Interrupted) } else { Ok(()) }
    }

    /// Opens one HTTP/1.0 stream, and then climbs without pages. If fewer streams run than before, there is a leak.
    fn http10(&mut self) -> Flow<()> {
        let variant = Variant { is_http10: true, ..Variant::default() };
        let id = self.open_stream(0, "HTTP/1.0", variant)?;
        self.judge(id, self.event_within())?;
        self.pause(self.usual_gap() * 2)?;
        let stream = self.net.get(id);
        let flowed = stream.is_some_and(ProbedConnection::has_flowed);
        let end = stream.and_then(ProbedConnection::server_end).map(|(at, _)| at);
        let began = stream.and_then(|it| it.first_event);
        let ended = began.zip(end).map(|(began, end)| end.saturating_duration_since(began));
        self.net.close(id, CloseBy::Fin);
        let found = Http10 { flowed, ended, streams_after: None };
        self.measured.http10 = Some(found.clone());
        self.pause((self.usual_gap() * 3).min(Duration::from_secs(4)))?;
        let streams = self.climb_once_more(false)?;
        self.measured.http10 = Some(Http10 { streams_after: Some(streams), ..found });
        Ok(())
    }
}
