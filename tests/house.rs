//! Checks that each module uses only the modules that it may, where no crate boundary enforces this, and that each
//! file of `tests/` is compiled.
//!
//! The server (`crates/ninetabs-server`) cannot use anything of this package. Within it, the thread pool knows
//! nothing about HTTP, and the reactor knows only descriptors and deadlines. In this package, `app` uses the
//! server, `fixes` uses the app, and `control` uses everything but the fixes. `lab` is the client half. From the
//! server it uses only the record, the escaping of text, and the starting and stopping of threads; its simulator also
//! uses the rules of the pool. `control` also uses the lab's clients, which its buttons open. Only the app's adapters
//! name the crate of a database engine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and the other modules that it may use.
const RULES: &[(&str, &[&str])] = &[
    ("app", &[]),
    ("fixes", &["app"]),
    ("front", &[]),
    ("control", &["app", "front", "lab"]),
    ("lab", &[]),
    ("cli", &["app", "fixes", "front", "control", "lab"]),
];

/// Words that must not appear in a module.
const FOREIGN: &[(&str, &[&str])] = &[
    ("crates/ninetabs-server/src", &["rusqlite", "minijinja", "tiny_http"]),
    ("crates/ninetabs-server/src/thread_pool.rs", &["http"]),
    ("crates/ninetabs-server/src/pool_state.rs", &["http"]),
    ("crates/ninetabs-server/src/reactor.rs", &["http::", "super::head", "super::client", "httparse"]),
    ("crates/ninetabs-server/src/reactor_state.rs", &["http::", "super::head", "super::client", "httparse"]),
    ("src/lab", &["tiny_http::"]),
    ("src/app", &["tiny_http::", "httparse::"]),
    ("src/fixes", &["tiny_http::", "httparse::"]),
    ("src/control", &["tiny_http::", "httparse::"]),
    // The lab has the only HTTP client.
    ("src/cli", &["httparse::"]),
    // The server crate's event loop serves every connection that has left the pool.
    ("src", &["mio::"]),
];

/// Crates of database engines, and the only folder of `src` that may name them. Other folders must not name them in
/// their tests either.
const ENGINES: (&[&str], &str) = (&["rusqlite", "tokio_postgres"], "src/app/adapters");

/// Modules of the server crate that the lab may use. The lab must also work with other servers.
const LAB_MAY_USE: &[&str] = &["timeline", "escape", "threads"];

/// The simulator is not a client of a server: it computes what one would do, by the same rules.
const SIMULATOR_MAY_USE: &[&str] = &["timeline", "rules"];

#[test]
fn every_module_uses_only_the_modules_that_it_may() {
    let mut looked_at = 0;
    for (module, may_use) in RULES {
        for file in files_of(&format!("src/{module}")) {
            looked_at += 1;
            for (number, line) in code(&file) {
                for used in line.split("crate::").skip(1) {
                    let used =
                        used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                    let is_module = RULES.iter().any(|(module, _)| *module == used);
                    assert!(
                        !is_module || used == *module || may_use.contains(&used),
                        "{}:{number}: {module} must not use {used}",
                        file.display()
                    );
                }
                assert!(
                    !line.contains("use crate::{"),
                    "{}:{number}: import one module per line",
                    file.display()
                );
            }
        }
    }
    assert!(looked_at > 30, "only {looked_at} files were found");
}

#[test]
fn no_module_names_what_another_one_hides() {
    for (place, words) in FOREIGN {
        let files = files_of(place);
        assert!(!files.is_empty(), "{place} does not exist");
        for file in files {
            for (number, line) in code(&file) {
                let lower = line.to_lowercase();
                let word = words.iter().find(|word| lower.contains(**word));
                assert!(word.is_none(), "{}:{number}: {place} must not contain {word:?}", file.display());
            }
        }
    }
}

#[test]
fn only_the_adapters_name_the_crate_of_a_database_engine() {
    let (engines, home) = ENGINES;
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join(home);
    let (mut at_home, mut elsewhere) = (0, 0);
    for file in files_of("src") {
        let is_at_home = file.starts_with(&home);
        *(if is_at_home { &mut at_home } else { &mut elsewhere }) += 1;
        for (number, line) in code_and_tests(&file) {
            let engine = engines.iter().find(|engine| line.contains(**engine));
            assert!(is_at_home || engine.is_none(), "{}:{number} names {engine:?}", file.display());
        }
    }
    assert!(at_home > 5 && elsewhere > 100, "only {at_home} and {elsewhere} files were found");
}

#[test]
fn the_lab_uses_only_the_record_of_the_server() {
    let simulator = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lab/simulate");
    for file in files_of("src/lab") {
        let may_use = if file.starts_with(&simulator) { SIMULATOR_MAY_USE } else { LAB_MAY_USE };
        for (number, line) in code(&file) {
            for used in line.split("ninetabs_server::").skip(1) {
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                assert!(may_use.contains(&used), "{}:{number}: lab uses {used:?}", file.display());
            }
        }
    }
}

/// Only `lab/state.rs` tracks which request a thread has. All other code uses its result.
#[test]
fn one_module_of_the_lab_tracks_which_request_a_thread_has() {
    for file in ["src/lab", "src/cli"].iter().flat_map(|place| files_of(place)) {
        for (number, line) in code(&file) {
            let follows = line.contains("Snapshot") || line.contains(".holds");
            assert!(!follows || file.ends_with("src/lab/state.rs"), "{}:{number}: {line}", file.display());
        }
    }
}

#[test]
fn threads_are_started_in_one_place() {
    // The pool's tests replace its locks and threads with those of a schedule explorer.
    let may_start = ["threads.rs", "thread_pool.rs"];
    for file in [files_of("src"), files_of("crates/ninetabs-server/src")].concat() {
        let name = file.file_name().unwrap().to_str().unwrap();
        if may_start.contains(&name) || name == "tests.rs" {
            continue;
        }
        for (number, line) in code(&file) {
            let starts = line.contains("thread::Builder") || line.contains("thread::spawn");
            assert!(!starts, "{}:{number}: start it with ninetabs_server::threads", file.display());
        }
    }
}

#[test]
fn every_file_of_tests_is_compiled() {
    let main = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/main.rs")).unwrap();
    let mut looked_at = 0;
    for file in files_of("tests").iter().filter(|file| file.parent().unwrap().ends_with("tests")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") else { continue };
        looked_at += 1;
        assert!(main.contains(&format!("\nmod {module};\n")), "{name} is not compiled");
    }
    assert!(looked_at > 30, "only {looked_at} files were found");
}

/// No module of the server crate uses a module that directly or indirectly uses it.
#[test]
fn the_modules_of_the_server_have_no_circular_dependencies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/ninetabs-server/src");
    let lib = fs::read_to_string(root.join("lib.rs")).unwrap();
    // The module of each name that the crate re-exports.
    let offered: HashMap<String, String> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub use ")?.split_once("::"))
        .flat_map(|(module, names)| words(names).map(move |name| (name.to_owned(), module.to_owned())))
        .collect();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files_of("crates/ninetabs-server/src") {
        let place = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let module = place.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        // In a file in a folder, `super` is the folder's own module.
        let from: &[&str] = if place.contains('/') { &["crate::"] } else { &["crate::", "super::"] };
        if place == "lib.rs" || place.ends_with("/tests.rs") {
            continue;
        }
        let text = code(&file).into_iter().map(|(_, line)| line).collect::<Vec<_>>().join(" ");
        for used in from.iter().flat_map(|from| text.split(from).skip(1)) {
            let names = match used.strip_prefix('{') {
                Some(several) => several.split('}').next().unwrap_or_default(),
                None => words(used).next().unwrap_or_default(),
            };
            assert!(!names.contains('{'), "{}: nested braces hide what is used", file.display());
            for name in words(names) {
                let used = offered.get(name).map_or(name, String::as_str);
                if used != module && root.join(used).with_extension("rs").exists() {
                    uses.entry(module.clone()).or_default().insert(used.to_owned());
                }
            }
        }
    }
    assert!(uses.len() > 20, "only {} modules use another", uses.len());
    // Repeatedly removes the modules that use none of the remaining ones.
    while !uses.is_empty() {
        let (above, bottom): (BTreeMap<_, _>, BTreeMap<_, _>) =
            uses.iter().partition(|(_, used)| used.iter().any(|it| uses.contains_key(it)));
        assert!(!bottom.is_empty(), "there is a cycle among {above:?}");
        uses = above.into_iter().map(|(module, used)| (module.clone(), used.clone())).collect();
    }
}

/// The walk through the code in docs/architecture.md is correct: each file and function that it names exists. A
/// page and a stream each pass through few files, and through none more than twice.
#[test]
fn a_request_passes_through_few_files_and_the_walk_names_each() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let architecture = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let walk = architecture.split("### Follow it in the code").nth(1).unwrap().split("\n## ").next().unwrap();
    let walk = walk.replace("\n    ", " ");
    let (mut page, mut stream) = (BTreeMap::new(), BTreeMap::new());
    for stop in walk.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        let mut of = "";
        assert!(stop.contains(" (`"), "no file and function: {stop}");
        for part in stop.split("`) ").filter(|part| part.contains(" (`")) {
            let (before, function) = part.rsplit_once("` (`").unwrap();
            let (before, file) = before.rsplit_once('`').unwrap();
            of = ["A page: ", "A stream: "].into_iter().find(|it| before.ends_with(it)).unwrap_or(of);
            let path = if file.starts_with("src/") {
                root.join(file)
            } else {
                root.join("crates/ninetabs-server/src").join(file)
            };
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
            let (holder, name) = function.split_once("::").unwrap_or(("", function));
            let begins = |line: &str, what: &str| {
                line.trim_start().split_once(what).is_some_and(|(before, after)| {
                    !before.contains("//") && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                })
            };
            let block = match holder {
                "" => Some(text.as_str()),
                holder => text.split("\nimpl").skip(1).find(|block| {
                    let head = block.lines().next().unwrap_or_default();
                    words(head).any(|word| word == holder)
                        && block.lines().any(|line| begins(line, &format!("fn {name}")))
                }),
            };
            let has =
                block.is_some_and(|block| block.lines().any(|line| begins(line, &format!("fn {name}"))));
            assert!(has, "{file} has no {function}");
            if of != "A stream: " {
                *page.entry(file.to_owned()).or_insert(0) += 1;
            }
            if of != "A page: " {
                *stream.entry(file.to_owned()).or_insert(0) += 1;
            }
        }
    }
    for (what, stops) in [("a page", page), ("a stream", stream)] {
        assert!(stops.len() > 10, "{what}: {stops:?}");
        assert!(stops.len() <= 16, "{what} passes {} files: {stops:?}", stops.len());
        assert!(stops.values().all(|times| *times <= 2), "{what}: {stops:?}");
    }
}

#[test]
fn no_two_types_have_the_same_name() {
    let mut types: BTreeMap<String, PathBuf> = BTreeMap::new();
    let files = ["src", "crates/ninetabs-server/src"].into_iter().flat_map(files_of);
    let is_for_tests = |file: &PathBuf| {
        let mut parts = file.iter().filter_map(|part| part.to_str());
        parts.any(|part| ["tests", "tests.rs", "scripted.rs", "test_request.rs"].contains(&part))
    };
    for file in files.filter(|file| !is_for_tests(file)) {
        for (number, line) in code(&file) {
            // An associated type in an `impl` is indented.
            let declared =
                line.strip_prefix("pub").map_or(&*line, |rest| rest.trim_start_matches(|c| c != ' '));
            let declared = declared.trim_start_matches(' ');
            let name =
                ["struct ", "enum ", "trait ", "type "].iter().find_map(|it| declared.strip_prefix(it));
            let Some(name) = name.filter(|_| !line.starts_with(' ')).and_then(|name| words(name).next())
            else {
                continue;
            };
            let other = types.insert(name.to_owned(), file.clone());
            assert!(other.is_none(), "{}:{number}: {name} is also in {other:?}", file.display());
        }
    }
    assert!(types.len() > 300, "only {} types were found", types.len());
}

/// The words and identifiers in a line.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// All files in this folder of the repository, and the file `place.rs` beside the folder if there is one.
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

/// The lines of code in a file, up to its tests.
fn code(file: &Path) -> Vec<(usize, String)> {
    let mut lines = code_and_tests(file);
    lines.truncate(lines.iter().take_while(|(_, line)| line != "#[cfg(test)]").count());
    lines
}

/// All lines of a file except its comments.
fn code_and_tests(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line.to_owned()))
        .collect()
}
