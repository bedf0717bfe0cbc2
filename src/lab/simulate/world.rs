//! The run: events in order of time, each handled in one method.
//!
//! This file contains the tabs and the pool threads that take their requests. `streaming` contains the requests on
//! threads, `demand` the pages and rows, and `faults` the faults and the checks of the whole state.

use std::time::Duration;

use super::agenda::Agenda;
use super::balancer::Balancer;
use super::costs::{Query, micros, period_us};
use super::event::SimulatedEvent;
use super::figures::Figures;
use super::pool::{Kept, Roused, ThreadStep};
use super::scenario::{HeldBy, Scenario};
use super::server::{Doing, Errand, Health, SimulatedServer, Twin};
use super::tabs::{SimulatedTab, TabPlace};
use crate::lab::interrupt::{Interrupt, Interrupted};
use ninetabs_server::timeline::What;

/// How often the whole state is checked during a run.
const CHECKS: u64 = 10;
/// The minimum time after which a page replaces an EventSource that gave up.
const REOPENS_AFTER: Duration = Duration::from_secs(1);
/// A run checks for an interrupt each time it has handled this many events.
const LOOK_EVERY: u64 = 4_096;

/// The state of the simulation.
pub struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) agenda: Agenda<SimulatedEvent>,
    pub(super) random: fastrand::Rng,
    pub(super) tabs: Vec<SimulatedTab>,
    pub(super) servers: Vec<SimulatedServer>,
    pub(super) balancer: Balancer,
    pub(super) figures: Figures,
    /// The number of the newest row.
    pub(super) newest_row: u32,
    /// Tabs whose next connection is scheduled.
    pub(super) connecting: u32,
    pub(super) engine_gone_us: Vec<(u64, u64)>,
}

impl<'a> World<'a> {
    /// The state at the start, with all events scheduled that do not depend on others.
    pub fn new(scenario: &'a Scenario, watched: Kept) -> World<'a> {
        let watch = |server| if server == 0 { watched } else { Kept::None };
        let mut world = World {
            scenario,
            agenda: Agenda::default(),
            random: fastrand::Rng::with_seed(scenario.seed),
            tabs: Vec::with_capacity(scenario.tabs as usize),
            servers: (0..scenario.servers)
                .map(|server| SimulatedServer::new(scenario, 0, watch(server)))
                .collect(),
            balancer: Balancer::new(scenario.balance, scenario.servers),
            figures: Figures::default(),
            newest_row: 0,
            connecting: 0,
            engine_gone_us: scenario
                .engine_gone
                .iter()
                .map(|(from, until)| (micros(*from), micros(*until)))
                .collect(),
        };
        let within_us = micros(scenario.open_within) as f64;
        for tab in 0..scenario.tabs {
            let at_us = (within_us * f64::from(tab) / f64::from(scenario.tabs)) as u64;
            world.tabs.push(SimulatedTab::opened(at_us));
            let connect_us = scenario.costs.connect.draw(&mut world.random);
            world.schedule_connect(tab, at_us + connect_us);
        }
        world.figures.checked.later_since_us = within_us as u64 + micros(scenario.retry);
        (0..scenario.servers).for_each(|server| world.start_rounds(server));
        world.schedule_page();
        if let Some(every) = scenario.produce_every {
            world.agenda.at(period_us(every), SimulatedEvent::Produces);
        }
        world.schedule_faults();
        let length_us = micros(scenario.length);
        (1..CHECKS).for_each(|check| world.agenda.at(length_us / CHECKS * check, SimulatedEvent::Audit));
        world
    }

    /// Runs the simulation to its end.
    pub fn run(&mut self, interrupt: &Interrupt) -> Result<(), Interrupted> {
        let end_us = micros(self.scenario.length);
        let mut events = 0_u64;
        while let Some(event) = self.agenda.next_until(end_us) {
            events += 1;
            if events.is_multiple_of(LOOK_EVERY) && interrupt.has_come() {
                return Err(Interrupted);
            }
            self.happen(event);
        }
        self.agenda.end(end_us);
        self.close();
        Ok(())
    }

    fn happen(&mut self, event: SimulatedEvent) {
        use SimulatedEvent as E;
        match event {
            E::Connects { tab, attempt } => self.connects(tab, attempt),
            E::Cut { tab, attempt } => self.cut(tab, attempt),
            E::Runs { server, life, .. }
            | E::Updates { server, life, .. }
            | E::Whole { server, life, .. }
            | E::Ends { server, life, .. }
            | E::Reaps { server, life }
            | E::Trims { server, life } => {
                let of = &mut self.servers[usize::from(server)];
                if of.life != life {
                    return;
                }
                if matches!(of.health, Health::Stopped { .. }) {
                    of.deferred.push(event);
                    return;
                }
                match event {
                    E::Runs { thread, is_new, .. } => self.runs(server, thread as usize, is_new),
                    E::Updates { thread, serial, .. } => self.updates(server, thread as usize, serial),
                    E::Ends { thread, serial, .. } => self.ends(server, thread as usize, serial),
                    E::Whole { tab, attempt, .. } => self.whole(server, tab, attempt),
                    E::Reaps { .. } => self.reaps(server),
                    _ => self.trims(server),
                }
            }
            E::Produces => self.produces(),
            E::Asks => self.asks(),
            E::Kill { server } => self.kill(server),
            E::Restart { server } => self.restart(server),
            E::Stop { server } => self.stop(server),
            E::Continue { server } => self.goes_on(server),
            E::Checked { server } => self.checked(server),
            E::EngineBack { after_us } => self.engine_back(after_us),
            E::Audit => self.audit(),
        }
    }

    pub(super) fn now_us(&self) -> u64 {
        self.agenda.now_us()
    }

    /// Starts the periodic work of a server.
    pub(super) fn start_rounds(&mut self, server: u16) {
        let life = self.servers[usize::from(server)].life;
        let scenario = self.scenario;
        if scenario.max_stream_age.is_some() && scenario.held_by == HeldBy::Thread {
            let every_us = period_us(scenario.reap_every);
            self.agenda.after(every_us, SimulatedEvent::Reaps { server, life });
        }
        if scenario.threads.min() < scenario.threads.max() {
            let every_us = period_us(scenario.auto_trim_time);
            self.agenda.after(every_us, SimulatedEvent::Trims { server, life });
        }
    }

    pub(super) fn schedule_connect(&mut self, tab: u32, at_us: u64) {
        let attempt = self.tabs[tab as usize].attempt;
        self.connecting += 1;
        self.agenda.at(at_us, SimulatedEvent::Connects { tab, attempt });
    }

    /// A tab has lost its connection, and reconnects after its delay.
    pub(super) fn reconnects(&mut self, tab: u32, retry_us: u64) {
        let of = &mut self.tabs[tab as usize];
        of.attempt += 1;
        of.state = TabPlace::Reconnects;
        let connect_us = self.scenario.costs.connect.draw(&mut self.random);
        self.schedule_connect(tab, self.now_us() + retry_us + connect_us);
    }

    fn connects(&mut self, tab: u32, attempt: u32) {
        self.connecting -= 1;
        debug_assert_eq!(self.tabs[tab as usize].attempt, attempt, "a tab has one connection at a time");
        let Some(server) = self.balancer.choose() else {
            // The balancer answers 503.
            self.figures.gave_up += 1;
            return self.reconnects(tab, micros(self.scenario.retry.max(REOPENS_AFTER)));
        };
        let now_us = self.now_us();
        // The scenario decides when tabs are opened, so first connections say nothing about the servers.
        if attempt > 0 {
            self.figures.joins.add(now_us);
        }
        let of = &mut self.tabs[tab as usize];
        (of.state, of.server) = (TabPlace::Waits, server as u16);
        if let Some(every) = self.scenario.cut_every {
            let after_us = self.exponential(micros(every) as f64);
            self.agenda.after(after_us, SimulatedEvent::Cut { tab, attempt });
        }
        self.arrives(server as u16, Errand::Stream { tab, attempt, has_arrived: false });
    }

    /// A connection reaches a server.
    pub(super) fn arrives(&mut self, server: u16, job: Errand) {
        let now_us = self.now_us();
        let of = &mut self.servers[usize::from(server)];
        if matches!(of.health, Health::Stopped { .. }) {
            return of.kernel.push(job);
        }
        let subject = of.subject();
        let roused = of.pool.push(now_us, subject, job);
        self.rouse(server, roused);
    }

    fn rouse(&mut self, server: u16, roused: Roused) {
        let life = self.servers[usize::from(server)].life;
        for (thread, is_new) in [(roused.started, true), (roused.notified, false)] {
            if let Some(thread) = thread {
                let wake_us = self.scenario.costs.wake.draw(&mut self.random);
                let thread = thread as u32;
                self.agenda.after(wake_us, SimulatedEvent::Runs { server, life, thread, is_new });
            }
        }
    }

    fn runs(&mut self, server: u16, thread: usize, is_new: bool) {
        let now_us = self.now_us();
        let pool = &mut self.servers[usize::from(server)].pool;
        let step = if is_new { pool.begin(now_us, thread) } else { pool.wake(now_us, thread) };
        self.proceeds(server, thread, step);
    }

    fn trims(&mut self, server: u16) {
        let now_us = self.now_us();
        let of = &mut self.servers[usize::from(server)];
        let (life, notified) = (of.life, of.pool.trim(now_us));
        self.rouse(server, Roused { started: None, notified });
        let every_us = period_us(self.scenario.auto_trim_time);
        self.agenda.after(every_us, SimulatedEvent::Trims { server, life });
    }

    /// A thread has taken a request, or has nothing to do.
    pub(super) fn proceeds(&mut self, server: u16, thread: usize, step: ThreadStep<Errand>) {
        let ThreadStep::Runs { subject, work, waited_us } = step else { return };
        let now_us = self.now_us();
        let costs = &self.scenario.costs;
        let (doing, first) = match work {
            Errand::Page { asked_us } => {
                self.figures.pages.wait.add(now_us - asked_us);
                let fails = matches!(self.query(now_us), Query::FailsAt(_));
                (Doing::Page { fails }, costs.page.draw(&mut self.random))
            }
            Errand::Stream { tab, attempt, .. } if self.tabs[tab as usize].attempt != attempt => {
                (Doing::Nothing, costs.left.draw(&mut self.random))
            }
            Errand::Stream { tab, attempt, has_arrived } => {
                let later_us = if has_arrived { None } else { self.arrives_later(now_us - waited_us) };
                match later_us {
                    Some(until_us) => {
                        (Doing::SetsAside { tab, attempt, until_us }, costs.set_aside.draw(&mut self.random))
                    }
                    None => self.turn(server, tab, attempt, waited_us),
                }
            }
        };
        let is_stream = matches!(doing, Doing::Streams(_));
        let of = &mut self.servers[usize::from(server)];
        let serial = of.starts(thread, subject, doing);
        if let Doing::Streams(stream) = doing {
            of.newest = Some((Twin { thread, serial }, stream.opened_us));
        }
        let life = of.life;
        let target = || match work {
            Errand::Page { .. } => "/".to_owned(),
            Errand::Stream { tab, .. } => format!("/models/live_stream?tab={}", tab + 1),
        };
        if !matches!(doing, Doing::SetsAside { .. }) {
            of.pool.note(now_us, Some(thread), subject, || What::accepted("GET", target()));
        }
        if is_stream {
            of.pool.note(now_us, Some(thread), subject, || What::Streaming);
        }
        let thread = thread as u32;
        let ends = |failed_us| (failed_us, SimulatedEvent::Ends { server, life, thread, serial });
        let updates = (now_us + first, SimulatedEvent::Updates { server, life, thread, serial });
        let (at_us, event) = match (doing, self.query(now_us)) {
            // The stream queries the database itself.
            (Doing::Streams(_), _) => updates,
            (Doing::Nothing | Doing::SetsAside { .. } | Doing::Detaches { .. }, _) | (_, Query::Now) => {
                ends(now_us + first)
            }
            (_, Query::At(at_us)) => ends(at_us + first),
            (_, Query::FailsAt(at_us)) => ends(at_us),
        };
        self.agenda.at(at_us, event);
    }
}
