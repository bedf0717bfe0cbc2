//! The beginning of a turn: a thread takes the request of a stream, if the request has arrived.

use ninetabs_server::rules::share_of_max_age;

use super::costs::micros;
use super::pool::Flaw;
use super::scenario::HeldBy;
use super::server::{Doing, Errand, OpenStream};
use super::tabs::TabPlace;
use super::world::World;

impl World<'_> {
    /// When the request arrives on a connection that was queued at this time, if it has not arrived yet.
    pub(super) fn arrives_later(&mut self, queued_us: u64) -> Option<u64> {
        let at_us = queued_us + self.scenario.costs.request.draw(&mut self.random);
        (at_us > self.now_us()).then_some(at_us)
    }

    /// The reactor has read the request of a connection that a thread had passed to it.
    pub(super) fn whole(&mut self, server: u16, tab: u32, attempt: u32) {
        let of = &mut self.servers[usize::from(server)];
        of.reactor.retain(|waiting| *waiting != (tab, attempt));
        self.arrives(server, Errand::Stream { tab, attempt, has_arrived: true });
    }

    /// A thread has taken the request of a stream. Returns what the thread does, and how long its first step takes.
    pub(super) fn turn(&mut self, server: u16, tab: u32, attempt: u32, waited_us: u64) -> (Doing, u64) {
        self.figures.wait.add(waited_us);
        self.begins_turn(tab);
        let costs = &self.scenario.costs;
        match self.scenario.held_by {
            HeldBy::EventLoop => (Doing::Detaches { tab, attempt }, costs.detach.draw(&mut self.random)),
            HeldBy::Thread => {
                let open_us = costs.open.draw(&mut self.random);
                let opened_us = self.now_us() + open_us / 2;
                (Doing::Streams(self.opens(server, tab, attempt, opened_us)), open_us)
            }
        }
    }

    fn begins_turn(&mut self, tab: u32) {
        let now_us = self.now_us();
        let of = &mut self.tabs[tab as usize];
        of.state = TabPlace::Streams;
        if let Some(since_us) = of.begins_turn(now_us) {
            self.figures.period.add(since_us);
        }
        self.figures.turns.all += 1;
        if now_us >= self.figures.checked.later_since_us {
            self.figures.checked.later_turns += 1;
        }
    }

    /// Registers a stream, and draws its share of the maximum age.
    fn opens(&mut self, server: u16, tab: u32, attempt: u32, opened_us: u64) -> OpenStream {
        let newest = self.servers[usize::from(server)].newest;
        let round_us = micros(self.scenario.reap_every);
        let twin = newest.filter(|(_, at_us)| opened_us.abs_diff(*at_us) <= round_us).map(|(twin, _)| twin);
        let drawn = self.random.f64();
        let jitter = match self.scenario.flaw {
            Some(Flaw::NoJitter) => 0.0,
            _ => self.scenario.max_stream_age_jitter,
        };
        let sent = self.tabs[tab as usize].position(self.newest_row);
        let share = share_of_max_age(jitter, drawn);
        OpenStream { tab, attempt, opened_us, share, sent, writes_to_none: 0, reaped: false, twin }
    }
}
