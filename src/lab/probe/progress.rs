//! What a run tells while it goes on, for the lines on the terminal.

use std::time::Duration;

use super::measured::{Baseline, Climb, Cut, Free, HeldConnections, Measured, ProbedTab, SlotReturn};

/// One thing that has become known.
#[derive(Debug, Clone, Copy)]
pub enum ProbeProgress<'a> {
    /// A page is stable, before the first tab.
    Baseline(&'a Baseline),
    /// All pages are stable, and the control server has been asked. `target` and `statistics` are known.
    Ready(&'a Measured),
    /// A tab of the current staircase changed: it was opened, received its first event, or its pages answered.
    Tab(&'a ProbedTab),
    /// A tab of the current staircase was judged and its pages were asked. It will not change, unless it is cut.
    TabJudged(&'a ProbedTab),
    /// A tab beyond the last that flowed waits or ended; told again whenever it changes.
    Waiting(&'a ProbedTab),
    /// The count is known, with what was measured until now. For the first climb only.
    Count(&'a Measured),
    /// The run is at something that takes a while: `listening until the oldest stream is 33 s old`.
    Doing {
        /// A clause without a subject.
        what: &'a str,
        /// How long it may take.
        up_to: Duration,
    },
    /// The server ended a stream.
    Cut(&'a Cut),
    /// A slot came back, or did not.
    SlotReturn(&'a SlotReturn),
    /// Everything was closed, and what came back.
    Free(&'a Free),
    /// The experiment with silent connections.
    Idle(&'a HeldConnections),
    /// The experiment with connections that had been answered.
    Kept(&'a HeldConnections),
    /// A further climb.
    Climb(&'a Climb),
    /// An experiment on request has ended: its result is in the measurements.
    Extra(&'a Measured),
}
