//! The load besides streams (pages and new rows), and the state of the database.

use super::costs::{Query, micros, period_us};
use super::event::SimulatedEvent;
use super::server::Errand;
use super::world::World;

impl World<'_> {
    /// The result of a query that is sent now.
    pub(super) fn query(&self, now_us: u64) -> Query {
        let gone = self.engine_gone_us.iter().find(|(from, until)| (*from..*until).contains(&now_us));
        let timeout_us = micros(self.scenario.query_timeout);
        match gone {
            None => Query::Now,
            Some((_, until_us)) if until_us - now_us <= timeout_us => Query::At(*until_us),
            Some(_) => Query::FailsAt(now_us + timeout_us),
        }
    }

    pub(super) fn produces(&mut self) {
        if self.query(self.now_us()) == Query::Now {
            self.newest_row += 1;
        }
        if let Some(every) = self.scenario.produce_every {
            self.agenda.after(period_us(every), SimulatedEvent::Produces);
        }
    }

    pub(super) fn schedule_page(&mut self) {
        if self.scenario.pages_per_second > 0.0 {
            let after_us = self.exponential(1e6 / self.scenario.pages_per_second);
            self.agenda.after(after_us, SimulatedEvent::Asks);
        }
    }

    pub(super) fn asks(&mut self) {
        self.schedule_page();
        self.figures.pages.asked += 1;
        match self.balancer.choose() {
            Some(server) => self.arrives(server as u16, Errand::Page { asked_us: self.now_us() }),
            None => self.figures.pages.failed += 1,
        }
    }

    /// Draws from an exponential distribution with this mean.
    pub(super) fn exponential(&mut self, mean_us: f64) -> u64 {
        (-(1.0 - self.random.f64()).ln() * mean_us) as u64
    }
}
