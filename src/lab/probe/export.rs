//! The results of a probe run, for people and for programs: lines on the terminal, JSON, Markdown, and an HTML page.
//!
//! Every exporter is a pure function of a [`ProbedRun`], except for [`narration`], which prints the facts as they
//! become known. All exporters escape text that came from the server. None of them sees a secret: the command is passed
//! without its secrets, and the measurements contain none.

mod conclusion;
mod extras;
pub mod html;
pub mod json;
mod layout;
pub mod markdown;
pub mod narration;
mod picture;
mod rows;
mod steps;
mod words;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use super::findings::Findings;
use super::measured::Measured;
use super::thresholds::ThresholdVerdict;

pub use super::super::signs::Signs;
pub use conclusion::conclusion;
pub use layout::TextLook;

/// A run that has ended.
#[derive(Debug, Clone, Copy)]
pub struct ProbedRun<'a> {
    /// The measurements.
    pub measured: &'a Measured,
    /// The limit and the notes.
    pub findings: &'a Findings,
    /// The verdict in one sentence.
    pub sentence: &'a str,
    /// Whether the thresholds hold.
    pub verdict: &'a ThresholdVerdict,
    /// The command that repeats the run, without secrets.
    pub command: &'a str,
    /// Commands that show more: the stream itself, and the server's own statistics.
    pub next: &'a [String],
}
