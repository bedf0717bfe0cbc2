//! Step 8: one stream that accepts a coding, or the other variant if a header was given.

use std::time::Duration;

use super::Run;
use super::connection::ProbedConnection;
use super::connections::Flow;
use crate::lab::probe::measured::{CloseBy, Compression};
use crate::lab::probe::requests::{self, Variant};

/// An event must come within this time.
const WITHIN: Duration = Duration::from_secs(5);

impl Run<'_> {
    pub(super) fn compression(&mut self) -> Flow<()> {
        if self.measured.compression.is_some() || self.measured.is_blind {
            return Ok(());
        }
        let is_given = requests::given_encoding(self.plan).is_some();
        let accepted = if is_given { "identity" } else { "gzip" }.to_owned();
        let variant = Variant { encoding: Some(accepted.clone()), ..Variant::default() };
        let id = self.open_stream(0, &accepted, variant)?;
        self.judge(id, WITHIN)?;
        let Some(connection) = self.net.get(id) else { return Ok(()) };
        let flows = connection.has_flowed();
        self.measured.compression = Some(Compression {
            accepted,
            coding: connection.head.as_ref().and_then(|(_, head)| head.header("content-encoding")),
            first_event: connection
                .first_event
                .filter(|_| flows)
                .map(|at| at.saturating_duration_since(connection.opened)),
            identity_flows: if is_given { ProbedConnection::has_flowed(connection) } else { true },
            bytes: if flows { 0 } else { connection.line.received() },
        });
        self.net.close(id, CloseBy::Rst);
        Ok(())
    }
}
