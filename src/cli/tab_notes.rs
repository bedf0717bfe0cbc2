//! The notes of `ninetabs tab` on its connection, in the words of [`crate::words`].
//!
//! A tab streams once its answer is a stream. If that stream ends at once and without an event, as an answer without
//! news or a refusal does, the tab never streamed. The head and the end of such an answer arrive together, so the note
//! on the head waits for [`SETTLES`], or for whatever happens before.

use std::mem;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, after, never};

use crate::lab::tab::{Cause, Happens};
use crate::words;

/// The time in which the end of an empty answer follows its head.
const SETTLES: Duration = Duration::from_millis(100);

/// The notes so far.
#[derive(Debug, Default)]
pub(super) struct TabNotes {
    /// A stream that is not noted yet: how long it took to open, and when its note is due.
    opened: Option<(Duration, Receiver<Instant>)>,
    has_ended: bool,
}

impl TabNotes {
    /// Receives when the note on a stream that has opened is due.
    pub fn due(&self) -> Receiver<Instant> {
        self.opened.as_ref().map_or_else(never, |(_, due)| due.clone())
    }

    /// The note on a stream that has opened, if it is not written yet.
    pub fn opened(&mut self) -> Option<String> {
        self.opened.take().map(|(after, _)| format!("{} after {:.1} ms", words::STREAMS, ms(after)))
    }

    /// The notes on what happened. An event has none of its own.
    pub fn on(&mut self, what: &Happens) -> Vec<String> {
        let note = match what {
            Happens::Opened { after: took } => {
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
        // The first time, the note also says that the tab keeps trying.
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

    const TOOK: Duration = Duration::from_micros(1500);
    const ENDED: Happens = Happens::Ended { cause: Cause::Finished, reconnect_in: Duration::from_secs(3) };

    #[test]
    fn an_answer_that_ends_at_once_without_an_event_is_not_called_a_stream() {
        let mut notes = TabNotes::default();
        assert!(notes.on(&Happens::Opened { after: TOOK }).is_empty());
        let note = "answered after 1.5 ms with an empty 200; reconnecting in 3.0 s";
        assert_eq!(notes.on(&ENDED), [format!("{note}, as an EventSource does. Ctrl-C stops")]);
        notes.on(&Happens::Opened { after: TOOK });
        assert_eq!(notes.on(&ENDED), [note]);
    }

    #[test]
    fn a_stream_is_noted_when_it_has_lasted_or_has_sent_an_event() {
        let mut notes = TabNotes::default();
        notes.on(&Happens::Opened { after: TOOK });
        notes.due().recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(notes.opened().as_deref(), Some("streams after 1.5 ms"));
        assert_eq!(notes.opened(), None);
        assert_eq!(notes.on(&ENDED).len(), 1);

        notes.on(&Happens::Opened { after: TOOK });
        let event =
            ReceivedEvent { event_type: "message".into(), data: "1".into(), last_event_id: "".into() };
        assert_eq!(notes.on(&Happens::Event(event)), ["streams after 1.5 ms"]);
        assert_eq!(notes.on(&ENDED), ["the server ended the stream; reconnecting in 3.0 s"]);

        // Cut before its first event: it streamed.
        notes.on(&Happens::Opened { after: TOOK });
        let cut = Happens::Ended { cause: Cause::Cut, reconnect_in: Duration::ZERO };
        let cut_notes =
            ["streams after 1.5 ms", "the connection was cut on this side; reconnecting in 0.0 s"];
        assert_eq!(notes.on(&cut), cut_notes);
    }
}
