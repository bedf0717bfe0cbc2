//! The figures of a staircase and its tabs, as they are at the moment of the call.

use std::time::Instant;

use super::Run;
use super::connection::ProbedConnection;
use super::observation::End;
use super::staircase::{Climbing, EVENT_WITHIN, Step};
use crate::lab::probe::measured::{Climb, ProbedTab, TabOutcome};
use crate::lab::probe::progress::ProbeProgress;

impl Run<'_> {
    pub(super) fn tell_tab(&mut self, step: &Step) {
        let tab = self.tab(step);
        (self.tell)(ProbeProgress::Tab(&tab));
    }

    pub(super) fn tell_waiting(&mut self, step: &Step) {
        let tab = self.tab_as(step, true);
        (self.tell)(ProbeProgress::Waiting(&tab));
    }

    /// The figures of a tab, as they are now.
    pub(super) fn tab(&self, step: &Step) -> ProbedTab {
        self.tab_as(step, false)
    }

    /// The figures of a tab. If `is_beyond`, the tab did not stream in time. A later event then means that it got the
    /// slot of another tab, and is left out.
    fn tab_as(&self, step: &Step, is_beyond: bool) -> ProbedTab {
        let mut tab = ProbedTab { number: step.number, pages: step.pages.clone(), ..ProbedTab::default() };
        let Some(connection) = self.net.get(step.id) else { return tab };
        let since = |at: Instant| at.saturating_duration_since(connection.opened);
        tab.opened_at = self.net.at(connection.opened);
        tab.outcome = outcome(connection, step, is_beyond);
        tab.status = connection.status();
        tab.first_byte = connection.first_byte.map(since);
        let is_served_later = is_beyond && !step.took_over && connection.has_flowed();
        tab.first_event = connection.first_event.map(since).filter(|_| !is_served_later);
        tab.ended = connection.server_end().map(|(at, _)| since(at)).filter(|_| !is_served_later);
        let until = connection.closed.map_or_else(Instant::now, |(at, _)| at);
        let until = connection.first_event.filter(|_| is_served_later).unwrap_or(until);
        tab.watched = tab.ended.unwrap_or_else(|| since(until));
        tab.place = connection.place;
        tab.saw_a_cut = step.took_over || self.saw_a_cut(step.id, None);
        let server = connection.head.as_ref().map(|(_, head)| super::server_of(head));
        let usual = self.pages.first().and_then(|page| page.server.clone());
        tab.is_from_another_sender = server.is_some_and(|server| server != usual);
        tab
    }

    /// The figures of a climb, as they are now.
    pub(super) fn figures(&self, climb: &Climbing) -> (Climb, Vec<ProbedTab>) {
        let tabs = climb.steps.iter().map(|step| self.tab(step)).collect();
        let waiting = climb.beyond.iter().map(|step| self.tab_as(step, true)).collect();
        let (streams, pages_until) = (climb.streams, climb.pages_until);
        (Climb { streams, pages_until, tabs, met_a_limit: self.met_a_limit(climb) }, waiting)
    }
}

fn outcome(connection: &ProbedConnection, step: &Step, is_beyond: bool) -> TabOutcome {
    if connection.has_flowed() {
        let took = connection.first_event.map(|at| at.saturating_duration_since(connection.opened));
        return match took {
            _ if step.took_over || is_beyond => TabOutcome::Waits,
            _ if step.is_cut => TabOutcome::Cut,
            Some(took) if took > EVENT_WITHIN => TabOutcome::Late,
            _ => TabOutcome::Flows,
        };
    }
    match (connection.server_end(), connection.status()) {
        (_, Some(status)) if status != 200 => TabOutcome::Status,
        (Some(_), Some(_)) => TabOutcome::Empty,
        (Some((_, End::Reset)), None) => TabOutcome::Reset,
        (Some((_, End::NotConnected(_) | End::OwnLimit(_) | End::Certificate(_))), None) => {
            TabOutcome::NotConnected
        }
        (Some(_), None) => TabOutcome::Closed,
        (None, _) if connection.first_byte.is_some() => TabOutcome::NoEvent,
        (None, _) => TabOutcome::Waits,
    }
}
