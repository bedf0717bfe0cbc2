//! What to do about a finding: in the words of the recognized server's configuration, else in general.

mod limits;
mod notes;

pub(super) use limits::*;
pub(super) use notes::*;

use super::super::measured::{Outcome, Place, Tab};

/// ` in the kernel`, ` unread`, or nothing where the place is unknown.
pub(super) fn where_it_waits(place: Option<Place>) -> &'static str {
    match place {
        Some(Place::Kernel) => " in the kernel",
        Some(Place::AcceptQueueFull) => " for a full accept queue",
        Some(Place::Unread) => " unread in an accepted connection",
        Some(Place::Read) => " after its request was read",
        Some(Place::Refused) | None => "",
    }
}

/// `an empty 200`, `a 503`, `a close without a response`.
pub(super) fn what_a_tab_gets(tab: &Tab) -> String {
    match (tab.outcome, tab.status) {
        (Outcome::Empty, Some(status)) => format!("an empty {status}"),
        (Outcome::Empty, None) => "an empty response".to_owned(),
        (Outcome::Status, Some(status)) => {
            format!("{} {status}", if status / 100 == 8 { "an" } else { "a" })
        }
        (Outcome::NoEvent, Some(status)) => format!("a {status} without an event"),
        (Outcome::Closed, _) => "a close without a response".to_owned(),
        (Outcome::Reset, _) => "a reset without a response".to_owned(),
        (Outcome::NotConnected, _) => "no connection".to_owned(),
        _ => "no event".to_owned(),
    }
}
