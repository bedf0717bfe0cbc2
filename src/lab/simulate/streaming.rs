//! Requests on threads: the loop of a stream, the reaper, the end of a request, and clients that close.

use std::time::Duration;

use ninetabs_server::rules::{is_due, retry_of};
use ninetabs_server::timeline::What;

use super::costs::{Query, micros, period_us};
use super::event::SimulatedEvent;
use super::scenario::Noticed;
use super::server::{Doing, OnThread};
use super::tabs::TabPlace;
use super::world::World;

/// Which write after a close fails. The first one is answered with a reset.
const FAILING_WRITE: u8 = 2;
/// The size of an event in the record, in bytes.
const EVENT_BYTES: u64 = 100;

impl World<'_> {
    /// A stream queries the table and writes the new rows.
    pub(super) fn updates(&mut self, server: u16, thread: usize, serial: u32) {
        let now_us = self.now_us();
        let asked = self.query(now_us);
        let newest_row = self.newest_row;
        let of = &mut self.servers[usize::from(server)];
        let life = of.life;
        let Some(running) = of.running(thread, serial) else { return };
        let subject = running.subject;
        let Doing::Streams(stream) = &mut running.doing else { return };
        if stream.reaped {
            return;
        }
        let number = thread as u32;
        let update = SimulatedEvent::Updates { server, life, thread: number, serial };
        let end = SimulatedEvent::Ends { server, life, thread: number, serial };
        match asked {
            Query::Now => {}
            Query::At(at_us) => return self.agenda.at(at_us, update),
            Query::FailsAt(at_us) => {
                self.figures.streams_failed += 1;
                return self.agenda.at(at_us, end);
            }
        }
        let tab = &mut self.tabs[stream.tab as usize];
        if tab.attempt == stream.attempt {
            if tab.gets(now_us, stream.sent, newest_row).is_err() {
                self.figures.checked.out_of_order += 1;
            }
        } else {
            stream.writes_to_none += 1;
        }
        stream.sent = newest_row;
        let has_failed = stream.writes_to_none == FAILING_WRITE;
        if has_failed {
            let write = u64::from(FAILING_WRITE);
            let failed = || What::Disconnected { write, error: "Broken pipe".to_owned() };
            of.pool.note(now_us, Some(thread), subject, failed);
            return self.agenda.at(now_us, end);
        }
        of.pool.note(now_us, Some(thread), subject, || What::Wrote { bytes: EVENT_BYTES });
        let cost_us = self.scenario.costs.update.draw(&mut self.random);
        self.agenda.after(micros(self.scenario.update_rate) + cost_us, update);
    }

    /// Runs a round of the reaper.
    pub(super) fn reaps(&mut self, server: u16) {
        let Some(max_age) = self.scenario.max_stream_age else { return };
        let now_us = self.now_us();
        let of = &mut self.servers[usize::from(server)];
        let life = of.life;
        of.round += 1;
        let due = |running: &OnThread| match running.doing {
            Doing::Streams(stream) if !stream.reaped => now_us
                .checked_sub(stream.opened_us)
                .is_some_and(|age_us| is_due(Duration::from_micros(age_us), max_age, stream.share)),
            _ => false,
        };
        let due: Vec<(usize, u32)> = of
            .all_running()
            .filter(|(_, running)| due(running))
            .map(|(thread, it)| (thread, it.serial))
            .collect();
        due.iter().for_each(|(thread, serial)| of.note_reaped(*thread, *serial));
        for (thread, serial) in due {
            let Some(running) = of.running(thread, serial) else { continue };
            let subject = running.subject;
            let Doing::Streams(stream) = &mut running.doing else { continue };
            stream.reaped = true;
            let (age_us, twin) = (now_us - stream.opened_us, stream.twin);
            let age_ms = age_us / 1_000;
            let why = || "this stream has reached its maximum age".to_owned();
            of.pool.note(now_us, Some(thread), subject, || What::Reaped { age_ms, why: why() });
            if let Some(twin) = twin {
                self.figures.checked.twins += 1;
                self.figures.checked.twins_together += u64::from(of.is_reaped_now(twin));
            }
            let cost_us = self.scenario.costs.reaped.draw(&mut self.random);
            let thread = thread as u32;
            self.agenda.after(cost_us, SimulatedEvent::Ends { server, life, thread, serial });
        }
        let round_us = self.scenario.costs.round.draw(&mut self.random);
        self.agenda
            .after(period_us(self.scenario.reap_every) + round_us, SimulatedEvent::Reaps { server, life });
    }

    /// A thread finishes a request and continues.
    pub(super) fn ends(&mut self, server: u16, thread: usize, serial: u32) {
        let now_us = self.now_us();
        let of = &mut self.servers[usize::from(server)];
        let Some(running) = of.ends(thread, serial) else { return };
        match running.doing {
            Doing::Streams(stream) => {
                if self.tabs[stream.tab as usize].attempt == stream.attempt {
                    self.balancer.closed(usize::from(server));
                    self.reconnects(stream.tab, micros(self.scenario.retry));
                }
            }
            Doing::Detaches { tab, attempt } => {
                let of = &mut self.servers[usize::from(server)];
                let tab = &mut self.tabs[tab as usize];
                if tab.attempt == attempt {
                    of.listeners += 1;
                    tab.state = TabPlace::Listens;
                    let from = tab.position(self.newest_row);
                    if tab.gets(now_us, from, self.newest_row).is_err() {
                        self.figures.checked.out_of_order += 1;
                    }
                }
            }
            Doing::Page { fails } => {
                let pages = &mut self.figures.pages;
                *(if fails { &mut pages.failed } else { &mut pages.answered }) += 1;
                self.balancer.closed(usize::from(server));
            }
            Doing::SetsAside { tab, attempt, until_us } => {
                let of = &mut self.servers[usize::from(server)];
                of.reactor.push((tab, attempt));
                let life = of.life;
                self.agenda.at(until_us, SimulatedEvent::Whole { server, life, tab, attempt });
            }
            Doing::Nothing => {}
        }
        let step = self.servers[usize::from(server)].pool.end(now_us, thread, running.subject);
        self.proceeds(server, thread, step);
    }

    /// The network cuts the connection of a tab.
    pub(super) fn cut(&mut self, tab: u32, attempt: u32) {
        let of = self.tabs[tab as usize];
        if of.attempt != attempt {
            return;
        }
        self.figures.cuts += 1;
        self.balancer.closed(usize::from(of.server));
        let retry_us = self.leaves(tab);
        self.reconnects(tab, retry_us);
        let server = &self.servers[usize::from(of.server)];
        if self.scenario.noticed == Noticed::ByPoll
            && let Some((thread, serial)) = server.thread_of(tab, attempt)
        {
            let (server, life, thread) = (of.server, server.life, thread as u32);
            let after_us = self.scenario.costs.reaped.draw(&mut self.random);
            self.agenda.after(after_us, SimulatedEvent::Ends { server, life, thread, serial });
        }
    }

    /// Ends a tab's stream on the event loop. The tab has received everything up to now. Returns the delay after which
    /// it reconnects, in microseconds.
    pub(super) fn leaves(&mut self, tab: u32) -> u64 {
        let of = &mut self.tabs[tab as usize];
        let server = &mut self.servers[usize::from(of.server)];
        let base = self.scenario.retry;
        if of.state != TabPlace::Listens {
            return micros(base);
        }
        let (now_us, newest) = (self.agenda.now_us(), self.newest_row);
        let (heard_us, row) = server.news_until(now_us, newest);
        of.heard_us = heard_us.max(of.heard_us);
        of.last_row = row.max(of.last_row);
        let retry = retry_of(base, server.listeners, || self.random.f64());
        server.listeners -= 1;
        micros(retry)
    }
}
