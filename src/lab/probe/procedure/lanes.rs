//! The lanes of the connections, for the report.

use super::Run;
use super::connection::{Carries, ProbedConnection};
use crate::lab::probe::measured::{LaneEnd, LaneKind, ProbeLane};

impl Run<'_> {
    /// One lane per connection, in the order in which they were opened.
    pub(super) fn lanes(&self) -> Vec<ProbeLane> {
        self.net.iter().map(|(_, connection)| self.lane(connection)).collect()
    }

    fn lane(&self, connection: &ProbedConnection) -> ProbeLane {
        let net = &self.net;
        let end = connection.server_end().map(|(at, _)| at).or(connection.closed.map(|(at, _)| at));
        let to = end.unwrap_or_else(std::time::Instant::now);
        let kind = match connection.kind {
            Carries::Stream(_) => LaneKind::Stream,
            Carries::Page(_) => LaneKind::Page,
            Carries::Held => LaneKind::Held,
        };
        let answered = match connection.kind {
            Carries::Stream(_) => connection.first_event,
            Carries::Page(_) => connection.first_byte,
            Carries::Held => Some(connection.opened),
        };
        let waited_until = answered.unwrap_or(to);
        // Shorter waits would not be visible in the report.
        let is_wait = waited_until.saturating_duration_since(connection.opened).as_millis() >= 20;
        let wait = is_wait.then(|| (net.at(connection.opened), net.at(waited_until), connection.place));
        ProbeLane {
            name: connection.name.clone(),
            kind,
            from: net.at(connection.opened),
            to: net.at(to),
            ticks: connection.ticks.iter().map(|at| net.at(*at)).collect(),
            wait,
            end: lane_end(connection),
        }
    }
}

fn lane_end(connection: &ProbedConnection) -> LaneEnd {
    match (connection.kind, connection.server_end()) {
        (_, None) => LaneEnd::ClosedByUs,
        (Carries::Stream(_), Some(_)) if connection.has_flowed() => LaneEnd::Cut,
        (Carries::Page(_), Some(_)) if connection.is_complete() => LaneEnd::Answered,
        (Carries::Held, Some(_)) => LaneEnd::Cut,
        (_, Some(_)) => LaneEnd::Refused(connection.status()),
    }
}
