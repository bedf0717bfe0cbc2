//! Faults (servers that are killed or stopped, and a database that does not answer), and the checks of the whole state.

use super::costs::micros;
use super::event::SimulatedEvent;
use super::pool::Kept;
use super::server::{Errand, Health, SimulatedServer};
use super::tabs::{SimulatedTab, TabPlace};
use super::world::World;

impl World<'_> {
    /// Schedules the faults of the scenario.
    pub(super) fn schedule_faults(&mut self) {
        let scenario = self.scenario;
        for outage in &scenario.killed {
            let server = outage.server - 1;
            self.agenda.at(micros(outage.from), SimulatedEvent::Kill { server });
            if let Some(until) = outage.until {
                self.agenda.at(micros(until), SimulatedEvent::Restart { server });
            }
        }
        for outage in &scenario.stopped {
            let server = outage.server - 1;
            self.agenda.at(micros(outage.from), SimulatedEvent::Stop { server });
            if let Some(until) = outage.until {
                self.agenda.at(micros(until), SimulatedEvent::Continue { server });
            }
        }
        for (from, until) in &scenario.engine_gone {
            let after_us = micros(until.saturating_sub(*from));
            self.agenda.at(micros(*until), SimulatedEvent::EngineBack { after_us });
        }
    }

    /// Kills a server. The balancer refuses its connections immediately, and sends new ones to other servers.
    pub(super) fn kill(&mut self, server: u16) {
        let index = usize::from(server);
        if self.servers[index].health == Health::Killed {
            return;
        }
        let pages = self.servers[index].jobs().filter(|job| matches!(job, Errand::Page { .. })).count();
        self.figures.pages.failed += pages as u64;
        for tab in 0..self.tabs.len() as u32 {
            let of = self.tabs[tab as usize];
            if of.state == TabPlace::Reconnects || of.server != server {
                continue;
            }
            // The answer had not begun, so the balancer answers 502.
            self.figures.gave_up += u64::from(of.state == TabPlace::Waits);
            let retry_us = self.leaves(tab);
            self.reconnects(tab, retry_us);
        }
        let now_us = self.now_us();
        let laws = self.servers[index].kill(self.scenario, now_us);
        self.figures.checked.queues.add(&laws);
        self.balancer.all_closed(index);
        self.balancer.set_in_rotation(index, false);
    }

    /// Starts a killed server again. It receives connections after the balancer's check has succeeded.
    pub(super) fn restart(&mut self, server: u16) {
        let index = usize::from(server);
        if self.servers[index].health != Health::Killed {
            return;
        }
        let life = self.servers[index].life + 1;
        self.servers[index] = SimulatedServer::new(self.scenario, self.now_us(), Kept::None);
        self.servers[index].life = life;
        self.start_rounds(server);
        self.agenda.after(micros(self.scenario.check), SimulatedEvent::Checked { server });
    }

    /// Stops a server by a signal. Its connections stay open, and its kernel accepts more.
    pub(super) fn stop(&mut self, server: u16) {
        let (since_us, newest_row) = (self.now_us(), self.newest_row);
        let of = &mut self.servers[usize::from(server)];
        if of.health == Health::Runs {
            of.health = Health::Stopped { since_us, newest_row };
            self.agenda.after(micros(self.scenario.check), SimulatedEvent::Checked { server });
        }
    }

    /// Continues a stopped server with everything that is due.
    pub(super) fn goes_on(&mut self, server: u16) {
        let now_us = self.now_us();
        let of = &mut self.servers[usize::from(server)];
        let Health::Stopped { since_us, .. } = of.health else { return };
        of.health = Health::Runs;
        for event in std::mem::take(&mut of.deferred) {
            self.agenda.at(now_us, event);
        }
        for job in std::mem::take(&mut of.kernel) {
            self.arrives(server, job);
        }
        let listening = |tab: &&mut SimulatedTab| tab.state == TabPlace::Listens && tab.server == server;
        for tab in self.tabs.iter_mut().filter(listening) {
            let heard_us = since_us.max(tab.heard_us);
            tab.longest_silence_us = tab.longest_silence_us.max(now_us - heard_us);
            tab.heard_us = now_us;
        }
        self.agenda.after(micros(self.scenario.check), SimulatedEvent::Checked { server });
    }

    /// The balancer's check detects the state of the server.
    pub(super) fn checked(&mut self, server: u16) {
        let runs = self.servers[usize::from(server)].health == Health::Runs;
        self.balancer.set_in_rotation(usize::from(server), runs);
    }

    /// The database answers again. Until now, listeners received nothing.
    pub(super) fn engine_back(&mut self, after_us: u64) {
        for tab in self.tabs.iter_mut().filter(|tab| tab.state == TabPlace::Listens) {
            tab.longest_silence_us = tab.longest_silence_us.max(after_us);
        }
    }

    /// Checks that each tab is in exactly one state: no two connections of a tab exist, and a tab that reconnects has
    /// none.
    pub(super) fn audit(&mut self) {
        let mut connections = vec![0_u8; self.tabs.len()];
        for (index, server) in self.servers.iter().enumerate() {
            for job in server.jobs() {
                let Errand::Stream { tab, attempt, .. } = job else { continue };
                let of = &self.tabs[tab as usize];
                let is_current = of.attempt == attempt && usize::from(of.server) == index;
                connections[tab as usize] += u8::from(is_current);
            }
        }
        let on_servers = |state| matches!(state, TabPlace::Waits | TabPlace::Streams);
        let wrong = self.tabs.iter().zip(&connections);
        let wrong = wrong.filter(|(tab, count)| u8::from(on_servers(tab.state)) != **count).count();
        let between = self.tabs.iter().filter(|tab| tab.state == TabPlace::Reconnects).count();
        let listening = self.tabs.iter().filter(|tab| tab.state == TabPlace::Listens).count();
        let listeners: usize = self.servers.iter().map(|server| server.listeners).sum();
        let unplanned = between.abs_diff(self.connecting as usize) + listening.abs_diff(listeners);
        self.figures.checked.misplaced += (wrong + unplanned) as u64;
    }

    /// Computes the figures that need the whole state at the end of the run.
    pub(super) fn close(&mut self) {
        self.audit();
        let now_us = self.now_us();
        let figures = &mut self.figures;
        for server in &mut self.servers {
            figures.backlog.at_end += server.pool.stats().backlog;
            let laws = server.pool.close(now_us);
            figures.checked.queues.add(&laws);
        }
        let queues = figures.checked.queues;
        figures.backlog.longest = queues.longest_queue;
        figures.backlog.mean = queues.area_us as f64 / now_us.max(1) as f64;
        for tab in &mut self.tabs {
            let server = &self.servers[usize::from(tab.server)];
            if tab.state == TabPlace::Listens {
                tab.heard_us = server.news_until(now_us, self.newest_row).0.max(tab.heard_us);
            }
            figures.silence.add(tab.silence_us(now_us));
            let at_end = &mut figures.tabs_at_end;
            match tab.state {
                TabPlace::Reconnects => at_end.reconnecting += 1,
                TabPlace::Waits => at_end.waiting += 1,
                TabPlace::Streams | TabPlace::Listens => at_end.streaming += 1,
            }
        }
        let turns = self.tabs.iter().map(|tab| tab.turns);
        figures.turns.fewest = turns.clone().min().unwrap_or_default();
        figures.turns.most = turns.clone().max().unwrap_or_default();
        figures.turns.tabs_without = turns.filter(|turns| *turns == 0).count() as u32;
        figures.turns.per_tab = figures.turns.all as f64 / f64::from(self.scenario.tabs.max(1));
    }
}

impl SimulatedServer {
    /// Until when the server's listeners have had news, and up to which row.
    pub(super) fn news_until(&self, now_us: u64, newest: u32) -> (u64, u32) {
        match self.health {
            Health::Stopped { since_us, newest_row } => (since_us, newest_row),
            Health::Runs | Health::Killed => (now_us, newest),
        }
    }
}
