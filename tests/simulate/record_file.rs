//! The part of a record that concerns the queue, as a file: one event per line, with its time in microseconds, its
//! kind, the number of the request, and the thread or the tab.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use ninetabs::lab::simulate::replay::{QueueEvent, QueueEventKind, queue_events};
use ninetabs_server::timeline::{Moment, What};

/// The events of a record, and the tab of each stream's request.
#[derive(Debug, Clone, Default)]
pub struct QueueRecord {
    pub events: Vec<QueueEvent>,
    pub tabs: BTreeMap<u64, u64>,
}

impl QueueRecord {
    pub fn of(moments: &[Moment]) -> QueueRecord {
        let tab = |moment: &Moment| match &moment.what {
            What::Accepted { target, .. } if target.starts_with("/models/live_stream") => {
                let tab = target.split(['?', '&']).find_map(|part| part.strip_prefix("tab="))?;
                Some((moment.subject?.request, tab.parse().ok()?))
            }
            _ => None,
        };
        QueueRecord { events: queue_events(moments), tabs: moments.iter().filter_map(tab).collect() }
    }

    /// The last start of each stream's request, with the time in the queue before it: tab, start, wait. An earlier one
    /// found that the request had not arrived.
    fn turns_us(&self) -> Vec<(u64, u64, u64)> {
        let mut queued: BTreeMap<u64, u64> = BTreeMap::new();
        let mut turns: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
        for QueueEvent { at_us, request, kind, .. } in &self.events {
            match (kind, self.tabs.get(request)) {
                (QueueEventKind::Queued, _) => drop(queued.insert(*request, *at_us)),
                (QueueEventKind::Started, Some(tab)) => {
                    turns.insert(*request, (*tab, *at_us, at_us - queued[request]));
                }
                _ => {}
            }
        }
        turns.into_values().collect()
    }

    /// How long each turn's request waited for a thread, in seconds.
    pub fn waits_s(&self) -> Vec<f64> {
        self.turns_us().into_iter().map(|(_, _, wait_us)| wait_us as f64 / 1e6).collect()
    }

    /// The times between two turns of a tab, in seconds.
    pub fn periods_s(&self) -> Vec<f64> {
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        let since = |(tab, at_us, _)| last.insert(tab, at_us).map(|last_us| (at_us - last_us) as f64 / 1e6);
        self.turns_us().into_iter().filter_map(since).collect()
    }

    /// The length of the queue over time.
    pub fn mean_backlog(&self) -> f64 {
        let (mut queued, mut area, mut last_us) = (0_i64, 0.0, 0);
        for event in &self.events {
            area += (event.at_us - last_us) as f64 * queued as f64;
            last_us = event.at_us;
            queued += match event.kind {
                QueueEventKind::Queued => 1,
                QueueEventKind::Started => -1,
                QueueEventKind::Finished => 0,
            };
        }
        area / last_us as f64
    }

    pub fn write(&self, path: &Path, how: &str) {
        let mut text = format!("# {how}\n");
        for event in &self.events {
            let QueueEvent { at_us, thread, request, kind } = event;
            let name = match kind {
                QueueEventKind::Queued => "queued",
                QueueEventKind::Started => "started",
                QueueEventKind::Finished => "finished",
            };
            let thread = thread.map(|thread| format!(" {thread}")).unwrap_or_default();
            writeln!(text, "{at_us} {name} {request}{thread}").unwrap();
        }
        for (request, tab) in &self.tabs {
            writeln!(text, "0 tab {request} {tab}").unwrap();
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(name: &str) -> QueueRecord {
        let path = folder().join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut record = QueueRecord::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            let kind = match words[1] {
                "queued" => QueueEventKind::Queued,
                "started" => QueueEventKind::Started,
                "finished" => QueueEventKind::Finished,
                _ => {
                    record.tabs.insert(number(2), number(3));
                    continue;
                }
            };
            let thread = (words.len() > 3).then(|| number(3) as usize);
            record.events.push(QueueEvent { at_us: number(0), thread, request: number(2), kind });
        }
        record
    }
}

/// The folder of the records.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/simulate")
}
