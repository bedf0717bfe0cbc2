//! Blind mode: the first tab receives no event, so the pages alone show the limit.

use std::time::Duration;

use super::Run;
use super::connection::ProbedConnection;
use super::connections::Flow;
use super::observation::End;
use super::staircase::{Climbing, EVENT_WITHIN, Judged, Step};
use crate::lab::probe::measured::{CloseBy, Compression, Stopped};
use crate::lab::probe::requests::{self, Variant};

/// How long each tab is open before the pages are requested.
const TAB_WITHIN: Duration = Duration::from_millis(500);

impl Run<'_> {
    /// Continues after the first tab received no event: without compression if the command line asked for it and events
    /// then arrive, otherwise in blind mode.
    pub(super) fn first_tab_is_silent(&mut self, climb: &mut Climbing, step: Step) -> Flow<Judged> {
        self.check_is_open(&step)?;
        if let Some(accepted) = requests::given_encoding(self.plan) {
            let identity = "identity".to_owned();
            let variant = Variant { encoding: Some(identity.clone()), ..Variant::default() };
            climb.opened += 1;
            let number = climb.opened;
            let id = self.open_stream(number, &format!("tab {number}"), variant)?;
            self.judge(id, self.plan.waiting_patience())?;
            let identity_flows = self.net.get(id).is_some_and(ProbedConnection::has_flowed);
            self.measured.compression = self.net.get(step.id).map(|it| Compression {
                accepted,
                coding: it.head.as_ref().and_then(|(_, head)| head.header("content-encoding")),
                first_event: None,
                within: self.plan.waiting_patience(),
                identity_flows,
                bytes: it.line.received(),
            });
            if identity_flows {
                self.encoding = Some(identity);
                self.net.close(step.id, CloseBy::Fin);
                return self.add_judged(climb, Step::new(id, number));
            }
            self.net.close(id, CloseBy::Fin);
        }
        self.climb_blind(climb, step)?;
        Ok(Judged::NoMoreTabs)
    }

    /// Ends the run if the first response is complete or is not a 200.
    fn check_is_open(&self, step: &Step) -> Flow<()> {
        let Some(first) = self.net.get(step.id) else { return Ok(()) };
        match first.server_end() {
            Some((_, End::NotConnected(why))) => Err(Stopped::Unreachable { why: why.clone() }),
            Some(_) => Err(Stopped::NotAStream { what: super::spoken_head(first) }),
            None if first.status().is_some_and(|status| status != 200) => {
                Err(Stopped::NotAStream { what: super::spoken_head(first) })
            }
            None => Ok(()),
        }
    }

    /// Opens tabs until a page is dead (not answered at all), and one more.
    fn climb_blind(&mut self, climb: &mut Climbing, mut step: Step) -> Flow<()> {
        self.measured.is_blind = true;
        climb.is_blind = true;
        loop {
            self.net.look_up_place(step.id);
            self.ask_beside(climb, &mut step)?;
            climb.steps.push(step);
            let Some(id) = self.open_tab(climb)? else { return Ok(()) };
            step = Step::new(id, climb.opened);
            if !climb.dead.is_empty() {
                break;
            }
            self.judge(id, TAB_WITHIN)?;
            self.tell_tab(&step);
        }
        // The tab beyond the one that stopped the page.
        self.judge(step.id, EVENT_WITHIN)?;
        self.net.look_up_place(step.id);
        self.tell_waiting(&step);
        climb.beyond.push(step);
        self.ask_pages_at_limit(climb)
    }
}
