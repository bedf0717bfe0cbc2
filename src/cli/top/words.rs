//! The lines for events at the bottom of the screen, in the [words] of the dashboard's log.
//!
//! The lanes show the state of each request over time. These lines are for single events.

use std::fmt::Display;

use crate::lab::actions::action_name;
use crate::lab::record::Record;
use crate::words;
use ninetabs_server::timeline::{Moment, What, is_seen_close};

/// A wait in the queue or a response that is shorter than this gets no line, since a server under load has
/// thousands of them per second.
const PASSING_US: u64 = 100_000;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLine {
    pub at_us: u64,
    pub text: String,
    pub tone: Tone,
}

/// The meaning of a line, which decides its color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Held,
    Waiting,
    Reaped,
    Error,
    Answered,
}

/// A line without further parts.
const NONE: [(&str, &dyn Display); 2] = [("", &""), ("", &"")];

/// The line for a moment that is already in the record, if the moment gets a line.
pub fn tell(moment: &Moment, record: &Record) -> Option<EventLine> {
    let story = moment.subject.and_then(|subject| record.stories.get(&subject.request));
    let lasting = |us: u64| (us >= PASSING_US).then_some(us);
    let thread = moment.thread.map(|thread| format!("tp {thread:03}")).unwrap_or_default();
    let name = match (story, moment.subject) {
        (Some(story), _) if !story.target.is_empty() => story.name(),
        // An orphaned action may outlast the story of its request.
        (_, Some(subject)) => match record.actions.of_request(subject.request) {
            Some(action) => action.name.clone(),
            None => format!("request {}", subject.request),
        },
        _ => String::new(),
    };
    let (words, time_us, more): (&str, u64, [(&str, &dyn Display); 2]) = match &moment.what {
        What::Spawned => (words::SPAWNED, 0, NONE),
        What::Exited => (words::EXITED, 0, NONE),
        What::Started => {
            let waited_us = moment.at_us.saturating_sub(story?.queued_us);
            (words::STARTED, lasting(waited_us)?, NONE)
        }
        What::MarkedIoBound => (words::IO_BOUND, 0, NONE),
        What::Streaming => (words::STREAMING, 0, NONE),
        What::Blocked { us } => (words::BLOCKED, *us, NONE),
        What::Disconnected { error, .. } if is_seen_close(error) => {
            (words::SEEN_CLOSED, 0, [("error", error), ("", &"")])
        }
        What::Disconnected { write, error } => (words::DISCONNECTED, 0, [("write", write), ("error", error)]),
        What::Reaped { age_ms, why } => {
            (words::REAPED_AT, age_ms.saturating_mul(1000), [("why", why), ("", &"")])
        }
        What::Withdrawn => (words::WITHDRAWN, 0, NONE),
        What::Left => (words::LEFT, 0, NONE),
        What::Rejected { status, why } => (words::REJECTED, 0, [("status", status), ("why", why)]),
        What::Panicked { message } => (words::PANICKED, 0, [("message", message), ("", &"")]),
        What::Answered { duration_us, .. } if story.is_some_and(|story| story.is_stream) => {
            (words::ENDED, *duration_us, NONE)
        }
        What::Answered { duration_us, .. } => (words::ANSWERED_IN, lasting(*duration_us)?, NONE),
        What::ClientClosed => (words::CLIENT_CLOSED, 0, NONE),
        What::ActionBegan { .. } => (words::ACTION_BEGAN, 0, NONE),
        What::ActionOrphaned { .. } => (words::ACTION_ORPHANED, 0, NONE),
        What::ActionEnded { .. } => (words::ACTION_ENDED, 0, NONE),
        What::Ordered { text } => (words::ORDERED, 0, [("text", text), ("", &"")]),
        What::Database { text } => (words::DATABASE, 0, [("text", text), ("", &"")]),
        What::Accepted { .. }
        | What::Queued
        | What::Wrote { .. }
        | What::ActionCommitted { .. }
        | What::Finished
        | What::Unknown => return None,
    };
    let action = moment.what.worker().map(action_name).unwrap_or_default();
    let [one, other] = more;
    let parts: [(&str, &dyn Display); 6] =
        [("name", &name), ("thread", &thread), ("action", &action), ("time", &span(time_us)), one, other];
    let text = words::line(words, &parts);
    let tone = match &moment.what {
        What::Streaming | What::Started => Tone::Held,
        What::Blocked { .. } | What::Withdrawn | What::Left => Tone::Waiting,
        What::Reaped { .. } => Tone::Reaped,
        What::ActionOrphaned { .. } => Tone::Waiting,
        What::Disconnected { .. } | What::Rejected { .. } | What::Panicked { .. } => Tone::Error,
        What::Answered { .. } => Tone::Answered,
        _ => Tone::Plain,
    };
    Some(EventLine { at_us: moment.at_us, text, tone })
}

/// A length of time: `3 ms`, `2.1 s`, or, if it is at least a minute, as in [`long_span`].
pub fn span(us: u64) -> String {
    match us {
        0..100_000 => format!("{} ms", us / 1000),
        100_000..60_000_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => long_span(us / 1_000_000),
    }
}

/// A number of seconds: `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`.
pub fn long_span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninetabs_server::timeline::{Subject, Timeline};

    #[test]
    fn a_stream_has_a_line_for_each_step_of_its_life() {
        let timeline = Timeline::default();
        let subject = Some(Subject { connection: 40_001, port: 0, request: 1 });
        timeline.record(Some(3), None, What::Spawned);
        for (thread, what) in [
            (None, What::Queued),
            // The request is not complete: another thread takes it later.
            (Some(2), What::Started),
            (Some(2), What::Finished),
            (None, What::Queued),
            (Some(4), What::Started),
            (Some(4), What::Finished),
            (None, What::Queued),
            (Some(3), What::Started),
            (Some(3), What::accepted("GET", "/models/live_stream?tab=9")),
            (Some(3), What::Streaming),
            (Some(3), What::Wrote { bytes: 9 }),
            (Some(3), What::Disconnected { write: 2, error: "EPIPE".into() }),
            (Some(3), What::Answered { status: 200, bytes: 9, duration_us: 4_000_000 }),
            (Some(3), What::Finished),
        ] {
            timeline.record(thread, subject, what);
        }
        let mut excerpt = timeline.after(0);
        // The request was in the reactor for a second and in the queue for two, and it streamed for four.
        let last_queued = excerpt.moments.iter().rposition(|moment| moment.what == What::Queued);
        for (at, moment) in excerpt.moments.iter_mut().enumerate() {
            moment.at_us = match moment.what {
                What::Disconnected { .. } | What::Finished if moment.thread == Some(3) => 7_000_000,
                _ if Some(at) == last_queued => 1_000_000,
                _ if Some(at) < last_queued => 0,
                _ => 3_000_000,
            };
        }
        let mut record = Record::default();
        record.take(excerpt.clone());
        let told = excerpt.moments.iter();
        let told: Vec<_> = told.filter_map(|moment| tell(moment, &record)).map(|event| event.text).collect();
        assert_eq!(
            told,
            [
                "tp 003 started",
                "tp 003 took tab 9 after 2.0 s in the queue",
                "tab 9 streams on tp 003",
                "write 2 to tab 9 failed (EPIPE) on tp 003",
                "tab 9 ended after 4.0 s, tp 003 freed",
            ]
        );
    }

    #[test]
    fn a_detected_close_is_not_reported_as_a_failed_write() {
        let timeline = Timeline::default();
        let subject = Some(Subject { connection: 40_001, port: 0, request: 1 });
        timeline.record(Some(1), subject, What::accepted("GET", "/models/live_stream?tab=2"));
        timeline.record(Some(1), subject, What::Disconnected { write: 4, error: "POLLRDHUP".into() });
        let excerpt = timeline.after(0);
        let mut record = Record::default();
        record.take(excerpt.clone());
        let told = excerpt.moments.iter().filter_map(|moment| tell(moment, &record));
        let told: Vec<_> = told.map(|event| event.text).collect();
        assert_eq!(told, ["tp 001 saw that the client of tab 2 closed (POLLRDHUP)"]);
    }

    /// A request that was refused or is still in the reactor does not get the line of an answered request.
    #[test]
    fn only_an_answered_request_gets_the_line_of_an_answer() {
        let told = |whats: &[What]| {
            let timeline = Timeline::default();
            for what in whats {
                let thread = (*what != What::Queued).then_some(1);
                timeline.record(
                    thread,
                    Some(Subject { connection: 40_001, port: 0, request: 1 }),
                    what.clone(),
                );
            }
            let mut excerpt = timeline.after(0);
            for moment in &mut excerpt.moments {
                moment.at_us = moment.seq * 40_000;
            }
            let mut record = Record::default();
            record.take(excerpt.clone());
            excerpt.moments.iter().filter_map(|it| tell(it, &record)).map(|it| it.text).collect::<Vec<_>>()
        };
        let up = What::accepted("GET", "/up");
        let answered = What::Answered { status: 200, bytes: 9, duration_us: 100_000 };
        assert_eq!(told(&[What::Queued, What::Started, What::Finished]), [""; 0]);
        assert_eq!(
            told(&[What::Queued, What::Started, up.clone(), What::Left, What::Finished]),
            ["/up was not answered: its client closed while it was queued"]
        );
        let wrote = What::Wrote { bytes: 9 };
        let served = told(&[What::Queued, What::Started, up, wrote, answered, What::Finished]);
        assert_eq!(served, ["/up was answered by tp 001 in 0.1 s"]);
    }

    #[test]
    fn an_orphaned_action_is_named_after_the_story_of_its_request_is_dropped() {
        let timeline = Timeline::simulated();
        let subject = Some(Subject { connection: 1, port: 0, request: 1 });
        let target = "/models/live_stream?tab=ab";
        timeline.record(Some(1), None, What::Spawned);
        for (thread, what) in [
            (None, What::Queued),
            (Some(1), What::Started),
            (Some(1), What::accepted("GET", target)),
            (None, What::ActionBegan { worker: 1, target: target.into() }),
            (None, What::ActionOrphaned { worker: 1 }),
            (Some(1), What::Answered { status: 200, bytes: 9, duration_us: 9 }),
            (Some(1), What::Finished),
        ] {
            timeline.record(thread, subject, what);
        }
        let mut record = Record::default();
        record.take(timeline.after(0));
        record.forget_before(600_000_000, 0);
        assert!(record.stories.is_empty());
        let last = timeline.last_seq();
        timeline.record(None, subject, What::Reaped { age_ms: 600_000, why: "max age".into() });
        timeline.record(None, subject, What::ActionEnded { worker: 1 });
        let excerpt = timeline.after(last);
        record.take(excerpt.clone());
        let told: Vec<_> =
            excerpt.moments.iter().filter_map(|it| tell(it, &record)).map(|it| it.text).collect();
        assert_eq!(told, ["ab was reaped at 10 min 0 s: max age", "action 1 ended: ab"]);
    }

    #[test]
    fn times_are_written_in_the_largest_fitting_unit() {
        for (us, said) in [
            (0, "0 ms"),
            (99_999, "99 ms"),
            (100_000, "0.1 s"),
            (59_900_000, "59.9 s"),
            (60_000_000, "1 min 0 s"),
            (185_000_000, "3 min 5 s"),
            (7_800_000_000, "2 h 10 min"),
            (273_600_000_000, "3 d 4 h"),
        ] {
            assert_eq!(span(us), said);
        }
    }
}
