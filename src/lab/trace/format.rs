//! The Trace Event Format: its events, and how a file of events is encoded.

use serde::Serialize;
use serde_json::{Map, Value};

use ninetabs_server::escape;

/// One event, as the format defines it. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceEvent {
    pub(super) name: String,
    pub(super) cat: &'static str,
    #[serde(flatten)]
    pub(super) phase: Phase,
    pub(super) ts: u64,
    pub(super) pid: u32,
    pub(super) tid: usize,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(super) args: Map<String, Value>,
}

/// The kind of an event, with the fields of that kind only.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "ph")]
pub(super) enum Phase {
    #[serde(rename = "B")]
    Begin,
    #[serde(rename = "E")]
    End,
    #[serde(rename = "X")]
    Complete { dur: u64 },
    #[serde(rename = "i")]
    Instant { s: &'static str },
    #[serde(rename = "b")]
    WaitBegins { id2: OfItsProcess },
    #[serde(rename = "e")]
    WaitEnds { id2: OfItsProcess },
    #[serde(rename = "M")]
    Metadata,
}

/// The id that connects a begin event with its end event. Another process may use the same id. The pair is shown among
/// the threads of its own process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct OfItsProcess {
    pub(super) local: String,
}

/// Encodes events as the bytes of a file: a JSON array with one event per line. Every piece ends after an event, so a
/// file that is cut off between two pieces can still be opened.
#[derive(Debug, Default)]
pub struct Encoder {
    has_begun: bool,
}

impl Encoder {
    /// The next piece of the file.
    pub fn encode(&mut self, events: &[TraceEvent]) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = Vec::new();
        for event in events {
            bytes.extend_from_slice(if self.has_begun { b",\n" } else { b"[\n" });
            bytes.extend_from_slice(escape::json(&serde_json::to_string(event)?).as_bytes());
            self.has_begun = true;
        }
        Ok(bytes)
    }

    /// The end of the file. The format allows it to be missing.
    pub fn end(&self) -> &'static [u8] {
        if self.has_begun { b"\n]\n" } else { b"[]\n" }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TraceProcess;
    use super::*;
    use ninetabs_server::timeline::{Moment, What};

    #[test]
    fn a_file_that_was_cut_between_two_pieces_lacks_only_its_bracket() {
        let mut process = TraceProcess::new(1, "a \"server\"");
        let mut encoder = Encoder::default();
        assert_eq!(encoder.end(), b"[]\n");
        let mut file = encoder.encode(&process.drain()).unwrap();
        process.take(&Moment { seq: 1, at_us: 1, thread: Some(1), subject: None, what: What::Spawned });
        file.extend(encoder.encode(&process.drain()).unwrap());
        assert!(encoder.encode(&[]).unwrap().is_empty());
        file.extend(encoder.end());
        let events: Vec<Value> = serde_json::from_slice(&file).unwrap();
        assert_eq!(events[0]["args"]["name"], "a \"server\"");
        assert_eq!(events.last().unwrap()["name"], "spawned");
    }
}
