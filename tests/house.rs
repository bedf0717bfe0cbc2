//! Which module may use which, where no crate boundary says so; and that each file of `tests/` is a module at all.
//!
//! The server (`crates/ninetabs-server`) cannot know anything of this package. Inside it the thread pool knows
//! no HTTP, and the reactor knows descriptors and deadlines only. In this package `app` uses the server, `fixes`
//! the app, `control` all but the fixes; `lab` is the client half and knows of the server only its record and
//! how it escapes text. `control` also uses the lab's clients, which its buttons open.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and the modules that it may use besides itself.
const RULES: &[(&str, &[&str])] = &[
    ("app", &[]),
    ("fixes", &["app"]),
    ("front", &[]),
    ("control", &["app", "front", "lab"]),
    ("lab", &[]),
    ("cli", &["app", "fixes", "front", "control", "lab"]),
];

/// Words that a module must not even know.
const FOREIGN: &[(&str, &[&str])] = &[
    ("crates/ninetabs-server/src", &["rusqlite", "minijinja", "tiny_http"]),
    ("crates/ninetabs-server/src/thread_pool.rs", &["http"]),
    ("crates/ninetabs-server/src/pool_state.rs", &["http"]),
    ("crates/ninetabs-server/src/reactor.rs", &["http::", "super::head", "super::client", "httparse"]),
    ("crates/ninetabs-server/src/reactor_state.rs", &["http::", "super::head", "super::client", "httparse"]),
    ("src/lab", &["rusqlite::", "tiny_http::"]),
    ("src/app", &["tiny_http::"]),
    ("src/fixes", &["tiny_http::", "rusqlite::"]),
    ("src/control", &["tiny_http::", "rusqlite::"]),
];

/// Modules of the server crate that the lab may use: it must work against a server that others wrote.
const LAB_MAY_USE: &[&str] = &["timeline", "escape", "log_limit", "chunks"];

#[test]
fn every_room_uses_only_the_rooms_that_it_may() {
    let mut looked_at = 0;
    for (room, may_use) in RULES {
        for file in files_of(&format!("src/{room}")) {
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
fn no_module_knows_the_trade_of_another() {
    for (place, words) in FOREIGN {
        let files = files_of(place);
        assert!(!files.is_empty(), "{place} is gone");
        for file in files {
            for (number, line) in code(&file) {
                let lower = line.to_lowercase();
                let word = words.iter().find(|word| lower.contains(**word));
                assert!(word.is_none(), "{}:{number}: {place} knows {word:?}", file.display());
            }
        }
    }
}

#[test]
fn the_lab_uses_of_the_server_its_record_only() {
    for file in files_of("src/lab") {
        for (number, line) in code(&file) {
            for used in line.split("ninetabs_server::").skip(1) {
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                assert!(LAB_MAY_USE.contains(&used), "{}:{number}: lab uses {used:?}", file.display());
            }
        }
    }
}

#[test]
fn no_file_of_tests_is_left_out() {
    let main = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/main.rs")).unwrap();
    let mut looked_at = 0;
    for file in files_of("tests").iter().filter(|file| file.parent().unwrap().ends_with("tests")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") else { continue };
        looked_at += 1;
        assert!(main.contains(&format!("\nmod {module};\n")), "{name} is compiled by nobody");
    }
    assert!(looked_at > 30, "only {looked_at} files were found");
}

/// The files of a folder, or a file, under the root.
fn files_of(place: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut open = vec![root.join(place), root.join(place).with_extension("rs")];
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
