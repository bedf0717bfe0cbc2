//! Whether a run measured anything. If it did not, the exit status is 3.

use std::time::Duration;

use super::super::measured::{Measured, SharedStream, Stopped};
use super::super::plan::LONGEST_PATIENCE;
use super::Findings;
use super::evidence::{count, time};
use super::facts::Facts;

/// Why nothing was measured, as one sentence with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMeasured {
    #[error("cannot measure the streams: the run was interrupted")]
    Interrupted,
    #[error(
        "cannot measure the streams: the answers of {path} varied before the first stream ({answers}); give a page \
         whose answers do not vary with --page"
    )]
    UnstablePage { path: String, answers: String },
    #[error("cannot reach the server: {why}")]
    Unreachable { why: String },
    #[error(
        "cannot measure the streams: the response is not a stream ({what}); check the URL, and what -H and -X send"
    )]
    NotAStream { what: String },
    #[error("cannot reach the server: its certificate was not accepted: {why}; --insecure skips the check")]
    Certificate { why: String },
    #[error(
        "cannot measure the streams: they finish by themselves after {}, before the next tab is judged; ask for an \
         answer that lasts at least 30 s", time(*after)
    )]
    StreamsFinish { after: Duration },
    #[error(
        "cannot measure the streams: this machine permits no more than {held} connections ({why}); raise the \
         descriptor limit (ulimit -n), or lower --tabs"
    )]
    OwnLimit { why: String, held: usize },
    #[error(
        "cannot measure the streams: none of {} delivered an event in {}, and no page stopped; try --patience {}",
        count(*tabs, "stream"), time(*patience), proposed(*patience)
    )]
    NothingFlows { tabs: usize, patience: Duration },
    #[error(
        "cannot measure the application: a cache answered the streams (a late tab began with all {events} events of \
         the first tab); put {{tab}} into the URL, so that each tab requests a different URL"
    )]
    SharedStream { events: usize },
    #[error("cannot measure the streams: the run ended before the first tab")]
    NoTab,
}

/// Whether the run was measured. Thresholds that need a figure of their own are checked elsewhere.
///
/// # Errors
///
/// The reason, if the findings lack a limit: exit status 3, or 130 for [`NotMeasured::Interrupted`].
pub fn is_measured(measured: &Measured, findings: &Findings) -> Result<(), NotMeasured> {
    match findings.limit {
        Some(_) => Ok(()),
        None => Err(obstacle(measured, Facts::of(measured).as_ref()).unwrap_or(NotMeasured::NoTab)),
    }
}

/// The reason why a limit cannot be named.
pub(super) fn obstacle(measured: &Measured, facts: Option<&Facts<'_>>) -> Option<NotMeasured> {
    if let Some(stopped) = &measured.stopped
        && let Some(why) = by_an_early_end(stopped, facts)
    {
        return Some(why);
    }
    let Some(facts) = facts else { return Some(NotMeasured::NoTab) };
    if let Some(shared) = cached_stream(measured) {
        return Some(NotMeasured::SharedStream { events: shared.events_of_the_first });
    }
    let is_silent = facts.nothing_flows() && !facts.a_page_stops();
    is_silent.then(|| NotMeasured::NothingFlows {
        tabs: facts.climb.tabs.len().max(facts.climb.pages_until),
        patience: measured.target.patience,
    })
}

/// The obstacle, if the run ended early. A leak is not an obstacle: the run has been measured by then. Nor is our own
/// limit, if the server's limit was found before it.
fn by_an_early_end(stopped: &Stopped, facts: Option<&Facts<'_>>) -> Option<NotMeasured> {
    Some(match stopped.clone() {
        Stopped::Leak => return None,
        Stopped::OwnLimit { .. } if facts.is_some_and(|facts| facts.climb.met_a_limit) => return None,
        Stopped::OwnLimit { why, held } => NotMeasured::OwnLimit { why, held },
        Stopped::Interrupted => NotMeasured::Interrupted,
        Stopped::UnstablePage { path, answers } => NotMeasured::UnstablePage { path, answers },
        Stopped::Unreachable { why } => NotMeasured::Unreachable { why },
        Stopped::NotAStream { what } => NotMeasured::NotAStream { what },
        Stopped::Certificate { why } => NotMeasured::Certificate { why },
        Stopped::StreamsFinish { after } => NotMeasured::StreamsFinish { after },
    })
}

/// The late tab that received the first tab's events from a cache. A header has to name a cache, and a stream at a new
/// address has to begin anew. Otherwise the application may be replaying its history.
pub(super) fn cached_stream(measured: &Measured) -> Option<SharedStream> {
    let shared = measured.shared_stream?;
    let has_all = shared.events_of_the_first > 0 && shared.events_at_once >= shared.events_of_the_first;
    let is_cached = measured.target.names_a_cache && shared.a_new_address_begins_anew == Some(true);
    (has_all && is_cached).then_some(shared)
}

/// Five times the patience, at least a minute and at most what the command accepts, in whole seconds.
fn proposed(patience: Duration) -> u64 {
    (patience.as_secs() * 5).clamp(60, LONGEST_PATIENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proposed_patience_is_one_that_the_command_accepts() {
        for (given, then) in [(1, 60), (12, 60), (60, 300), (1000, 3600), (3600, 3600)] {
            assert_eq!(proposed(Duration::from_secs(given)), then);
        }
        assert_eq!(LONGEST_PATIENCE, Duration::from_secs(3600));
    }
}
