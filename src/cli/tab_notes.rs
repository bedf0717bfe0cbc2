//! The notes of `ninetabs tab` about its connection, in the words of [`crate::words`].
//!
//! A tab streams once it has received a stream as its answer. If that stream ends immediately and without an event, as
//! an answer without news or a refusal does, the notes do not call it a stream. The head and the end of such an answer
//! arrive together. The note about the head is therefore delayed by [`SETTLES`], or until something else happens.

use std::mem;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, never};

use crate::lab::tab::{Cause, Happens};
use crate::words;

/// The time within which the end of an empty answer follows its head.
const SETTLES: Duration = Duration::from_millis(100);

/// The notes so far.
#[derive(Debug, Default)]
pub(super) struct TabNotes {
    /// A stream whose note has not been written yet: how long it took to open, and when its note is due.
    opened: Option<(Duration, Receiver<Instant>)>,
    has_ended: bool,
}

impl TabNotes {
    /// Returns a channel that receives a message when the note about an opened stream is due.
    pub fn due(&self) -> Receiver<Instant> {
        self.opened.as_ref().map_or_else(never, |(_, due)| due.clone())
    }

    /// The note about an opened stream, if it has not been written yet.
    pub fn opened(&mut self) -> Option<String> {
        self.opened.take().map(|(after, _)| format!("{} after {:.1} ms", words::STREAMS, ms(after)))
    }

    /// The notes about what happened. An event itself is printed without a note.
    pub fn on(&mut self, what: &Happens) -> Vec<String> {
        let note = match what {
            Happens::Opened { after: took, .. } => {
                self.opened = Some((*took, after(SETTLES)));
                return Vec::new();
            }
            Happens::Event(_) => None,
            Happens::Connecting { local_port } => {
                Some(format!("connected from port {local_port}, waiting for an answer"))
            }
            Happens::FirstByte { after } => Some(format!("first byte after {:.1} ms", ms(*after))),
            Happens::Ended { cause, reconnect_in } => Some(self.end(cause, *reconnect_in)),
            Happens::Failed { reason } => Some(format!("failed for good: {reason}")),
        };
        self.opened().into_iter().chain(note).collect()
    }

    fn end(&mut self, cause: &Cause, reconnect_in: Duration) -> String {
        let why = match (cause, self.opened.take()) {
            (Cause::Finished, Some((after, _))) => {
                format!("{} after {:.1} ms with an empty 200", words::ANSWERED, ms(after))
            }
            (cause, opened) => {
                self.opened = opened;
                cause.to_string()
            }
        };
        let when = match cause {
            Cause::Network(_) => "trying again every",
            _ => "reconnecting in",
        };
        // The first such note also explains that the tab keeps reconnecting.
        let more = match mem::replace(&mut self.has_ended, true) {
            false => ", as an EventSource does. Ctrl-C stops",
            true => "",
        };
        format!("{why}; {when} {:.1} s{more}", reconnect_in.as_secs_f64())
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::event_stream::ReceivedEvent;

    const OPENED: Happens = Happens::Opened { after: Duration::from_micros(1500), served_by: None };
    const ENDED: Happens = Happens::Ended { cause: Cause::Finished, reconnect_in: Duration::from_secs(3) };

    #[test]
    fn an_answer_that_ends_immediately_without_an_event_is_not_called_a_stream() {
        let mut notes = TabNotes::default();
        assert!(notes.on(&OPENED).is_empty());
        let note = "answered after 1.5 ms with an empty 200; reconnecting in 3.0 s";
        assert_eq!(notes.on(&ENDED), [format!("{note}, as an EventSource does. Ctrl-C stops")]);
        notes.on(&OPENED);
        assert_eq!(notes.on(&ENDED), [note]);
    }

    #[test]
    fn a_stream_gets_its_note_after_a_short_time_or_at_its_first_event() {
        let mut notes = TabNotes::default();
        notes.on(&OPENED);
        notes.due().recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(notes.opened().as_deref(), Some("streams after 1.5 ms"));
        assert_eq!(notes.opened(), None);
        assert_eq!(notes.on(&ENDED).len(), 1);

        notes.on(&OPENED);
        let event =
            ReceivedEvent { event_type: "message".into(), data: "1".into(), last_event_id: "".into() };
        assert_eq!(notes.on(&Happens::Event(event)), ["streams after 1.5 ms"]);
        assert_eq!(notes.on(&ENDED), ["the server ended the stream; reconnecting in 3.0 s"]);

        // A stream that was cut off before its first event is still called a stream.
        notes.on(&OPENED);
        let cut = Happens::Ended { cause: Cause::Cut, reconnect_in: Duration::ZERO };
        let cut_notes =
            ["streams after 1.5 ms", "the connection was cut on this side; reconnecting in 0.0 s"];
        assert_eq!(notes.on(&cut), cut_notes);
    }
}
