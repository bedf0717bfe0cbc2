//! Checks a trace in the Trace Event Format: every begin event has its end event, and no thread's time runs backward.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// All events of a file. The file of a killed server has no closing bracket.
pub fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.trim_end();
    let whole = if text.ends_with(']') { text.to_owned() } else { format!("{text}]") };
    serde_json::from_str(&whole).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Checks the format of a trace, and returns the names of its threads by process and thread. `is_whole` requires
/// that everything that began has also ended.
pub fn check(events: &[Value], is_whole: bool) -> BTreeMap<(u64, u64), String> {
    let mut names = BTreeMap::new();
    let mut used = BTreeSet::new();
    let mut open: BTreeMap<(u64, u64), Vec<(String, u64)>> = BTreeMap::new();
    let mut last: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut waits: BTreeMap<(u64, String, String), Vec<u64>> = BTreeMap::new();
    for event in events {
        let number = |key: &str| event[key].as_u64().unwrap_or_else(|| panic!("no {key} in {event}"));
        let name = event["name"].as_str().unwrap().to_owned();
        let (ts, of) = (number("ts"), (number("pid"), number("tid")));
        let phase = event["ph"].as_str().unwrap();
        if phase == "M" {
            if name == "thread_name" {
                names.insert(of, event["args"]["name"].as_str().unwrap().to_owned());
            }
            continue;
        }
        used.insert(of);
        if !"be".contains(phase) {
            let before = last.insert(of, ts).unwrap_or_default();
            assert!(before <= ts, "{before} precedes {event}");
        }
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text in {event}")).to_owned();
        let wait = || (number("pid"), text(&event["cat"]), text(&event["id2"]["local"]));
        match phase {
            "B" => open.entry(of).or_default().push((name, ts)),
            "E" => {
                let (begun, from) = open.entry(of).or_default().pop().unwrap_or_else(|| panic!("{event}"));
                assert!(begun == name && from <= ts, "{begun} at {from} and {event}");
            }
            "X" => drop(number("dur")),
            "i" => assert!(["t", "p", "g"].contains(&event["s"].as_str().unwrap()), "{event}"),
            "b" => waits.entry(wait()).or_default().push(ts),
            "e" => {
                let from = waits.entry(wait()).or_default().pop().unwrap_or_else(|| panic!("{event}"));
                assert!(from <= ts, "{from} and {event}");
            }
            other => panic!("unknown phase {other}: {event}"),
        }
    }
    if is_whole {
        assert!(open.values().all(Vec::is_empty), "{open:?}");
        assert!(waits.values().all(Vec::is_empty), "{waits:?}");
    }
    for of in used {
        assert!(names.contains_key(&of), "thread {of:?} has no name");
    }
    names
}

/// The events of this phase and name.
pub fn events_of<'a>(events: &'a [Value], phase: &str, name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["ph"] == phase && event["name"] == name).collect()
}
