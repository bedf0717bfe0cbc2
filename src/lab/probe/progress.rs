//! The progress reports of a run, for the lines on the terminal.

use std::time::Duration;

use super::measured::{Baseline, Climb, Cut, Free, HeldConnections, Measured, ProbedTab, SlotReturn};

/// One progress report.
#[derive(Debug, Clone, Copy)]
pub enum ProbeProgress<'a> {
    /// The baseline of a page is known.
    Baseline(&'a Baseline),
    /// The baseline of all pages is known, and the control server has been queried. `target` and `statistics` are
    /// filled in.
    Ready(&'a Measured),
    /// A tab of the current staircase changed: it was opened, received its first event, or its pages answered.
    Tab(&'a ProbedTab),
    /// A tab of the current staircase was judged, and the pages beside it were requested. It will not change, unless it
    /// is cut off.
    TabJudged(&'a ProbedTab),
    /// A tab beyond the last one that streamed waits or has ended. Reported again whenever it changes.
    Waiting(&'a ProbedTab),
    /// The number of streams of the first climb is known. Contains everything measured so far.
    Count(&'a Measured),
    /// The run is in a step that takes a while: `listening until the oldest stream is 33 s old`.
    Doing {
        /// The step, as a participle clause.
        what: &'a str,
        /// How long it may take.
        up_to: Duration,
    },
    /// The server ended a stream.
    Cut(&'a Cut),
    /// A slot returned, or did not.
    SlotReturn(&'a SlotReturn),
    /// Everything was closed, and it is known how long the server took to recover.
    Free(&'a Free),
    /// An experiment with silent connections has ended.
    Idle(&'a HeldConnections),
    /// The experiment with keep-alive connections has ended.
    Kept(&'a HeldConnections),
    /// A further climb has ended.
    Climb(&'a Climb),
    /// An optional experiment has ended. Its result is in the measurements.
    Extra(&'a Measured),
}
