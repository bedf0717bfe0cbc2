//! The rules of the house: which room may use which.
//!
//! `escape` uses nothing, and every room may use it. `timeline` uses no other room, `puma` only the timeline, `live` those two, `app` those
//! three, `fixes` the app and what is below it, `control` all but the fixes; `lab` is the client half, and knows of the server
//! half only the timeline's words. `control` has the lab's clients, too: they are what
//! its buttons open.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms that it may use besides itself.
const RULES: &[(&str, &[&str])] = &[
    ("escape", &[]),
    ("timeline", &["escape"]),
    ("puma", &["escape", "timeline"]),
    ("live", &["escape", "timeline", "puma"]),
    ("app", &["escape", "timeline", "puma", "live"]),
    ("fixes", &["escape", "puma", "live", "app"]),
    ("control", &["escape", "timeline", "puma", "live", "app", "lab"]),
    ("lab", &["escape", "timeline"]),
    ("cli", &["escape", "timeline", "puma", "live", "app", "fixes", "control", "lab"]),
];

/// Words that a room must not even know.
const FOREIGN: &[(&str, &[&str])] = &[
    ("puma", &["rusqlite::", "minijinja::", "serde_json::"]),
    ("puma/thread_pool.rs", &["http"]),
    ("puma/pool_state.rs", &["http"]),
    ("puma/reactor.rs", &["http::", "super::head", "super::client", "httparse"]),
    ("puma/reactor_state.rs", &["http::", "super::head", "super::client", "httparse"]),
    ("live", &["rusqlite::", "tiny_http::", "minijinja::"]),
    ("lab", &["rusqlite::", "tiny_http::"]),
    ("app", &["tiny_http::"]),
    ("fixes", &["tiny_http::", "rusqlite::"]),
    ("control", &["tiny_http::", "rusqlite::"]),
];

#[test]
fn every_room_uses_only_the_rooms_that_it_may() {
    let mut looked_at = 0;
    for (room, may_use) in RULES {
        for file in files_of(room) {
            looked_at += 1;
            for (number, line) in code(&file) {
                for used in line.split("crate::").skip(1) {
                    let used =
                        used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                    let rooms = RULES.iter().any(|(room, _)| *room == used);
                    assert!(
                        !rooms || used == *room || may_use.contains(&used),
                        "{}:{number}: {room} must not use {used}",
                        file.display()
                    );
                }
                assert!(
                    !line.contains("use crate::{"),
                    "{}:{number}: one room a line, please",
                    file.display()
                );
            }
        }
    }
    assert!(looked_at > 30, "only {looked_at} files were found");
}

#[test]
fn no_room_knows_the_trade_of_another() {
    for (place, words) in FOREIGN {
        let files = files_of(place);
        assert!(!files.is_empty(), "{place} is gone");
        for file in files
            .into_iter()
            .filter(|file| !file.ends_with("tiny_http_front.rs") && !file.ends_with("puma/mod.rs"))
        {
            for (number, line) in code(&file) {
                let lower = line.to_lowercase();
                let word = words.iter().find(|word| lower.contains(**word));
                assert!(word.is_none(), "{}:{number}: {place} knows {word:?}", file.display());
            }
        }
    }
}

/// Room, or file, under `src`.
fn files_of(place: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut open = vec![src.join(place), src.join(place).with_extension("rs")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            files.push(path);
        }
    }
    files
}

/// The lines of a file that are code, up to its tests.
fn code(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .enumerate()
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line.to_owned()))
        .collect()
}
