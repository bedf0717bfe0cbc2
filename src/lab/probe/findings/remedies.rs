//! Remedies for findings. They name the settings of the server if it was recognized, and are general otherwise.

mod limits;
mod notes;

pub(super) use limits::*;
pub(super) use notes::*;

use super::super::measured::{ProbedTab, TabOutcome, WaitPlace};

/// ` in the kernel`, ` after its request was read`, or nothing if the place is unknown.
pub(super) fn where_it_waits(place: Option<WaitPlace>) -> &'static str {
    match place {
        Some(WaitPlace::Kernel) => " in the kernel",
        Some(WaitPlace::AcceptQueueFull) => " for space in the accept queue",
        Some(WaitPlace::Unread) => " unread in an accepted connection",
        Some(WaitPlace::Read) => " after its request was read",
        Some(WaitPlace::Refused) | None => "",
    }
}

/// `an empty 200`, `a 503`, `a close without a response`.
pub(super) fn what_a_tab_gets(tab: &ProbedTab) -> String {
    match (tab.outcome, tab.status) {
        (TabOutcome::Empty, Some(status)) => format!("an empty {status}"),
        (TabOutcome::Empty, None) => "an empty response".to_owned(),
        (TabOutcome::Status, Some(status)) => {
            format!("{} {status}", if status / 100 == 8 { "an" } else { "a" })
        }
        (TabOutcome::NoEvent, Some(status)) => format!("a {status} without an event"),
        (TabOutcome::Closed, _) => "a close without a response".to_owned(),
        (TabOutcome::Reset, _) => "a reset without a response".to_owned(),
        (TabOutcome::NotConnected, _) => "no connection".to_owned(),
        _ => "no event".to_owned(),
    }
}
