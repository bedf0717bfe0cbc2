//! Step 8: one stream that accepts gzip, or one that does not if the command line asks for compression.

use std::time::Duration;

use super::Run;
use super::connection::ProbedConnection;
use super::connections::Flow;
use super::staircase::EVENT_WITHIN;
use crate::lab::probe::measured::{CloseBy, Compression};
use crate::lab::probe::requests::{self, Variant};

/// An event must arrive within this time, or within twice the time that the first tab took if that is longer.
const WITHIN: Duration = Duration::from_secs(5);

/// A stream that finds a free slot gets its first event within this time plus one gap between events.
const AT_ONCE: Duration = Duration::from_secs(1);

impl Run<'_> {
    pub(super) fn compression(&mut self) -> Flow<()> {
        if self.measured.compression.is_some() || self.measured.is_blind {
            return Ok(());
        }
        let is_given = requests::given_encoding(self.plan).is_some();
        let accepted = if is_given { "identity" } else { "gzip" }.to_owned();
        let variant = Variant { encoding: Some(accepted.clone()), ..Variant::default() };
        let within = WITHIN.max(self.event_within());
        let id = self.open_stream(0, &accepted, variant)?;
        self.judge(id, within)?;
        let Some(connection) = self.net.get(id) else { return Ok(()) };
        let flows = connection.has_flowed();
        // A stream that was refused, or that ended, proves nothing about compression.
        if !flows && !connection.is_open() {
            return Ok(());
        }
        let has_answered = connection.head.is_some();
        let mut tried = Compression {
            accepted,
            coding: connection.head.as_ref().and_then(|(_, head)| head.header("content-encoding")),
            first_event: connection
                .first_event
                .filter(|_| flows)
                .map(|at| at.saturating_duration_since(connection.opened)),
            within,
            identity_flows: flows || !is_given,
            bytes: if flows { 0 } else { connection.line.received() },
        };
        self.net.close(id, CloseBy::Rst);
        if !flows && !has_answered && !is_given {
            // A slot that has not returned yet looks the same, but would delay an uncompressed stream as well.
            let identity = self.open_stream(0, "identity", Variant::default())?;
            let at_once = AT_ONCE + self.usual_gap() + self.event_within() - EVENT_WITHIN;
            self.judge(identity, at_once)?;
            tried.identity_flows = self.net.get(identity).is_some_and(ProbedConnection::has_flowed);
            self.net.close(identity, CloseBy::Rst);
        }
        self.measured.compression = Some(tried);
        Ok(())
    }
}
