//! The listings of the fix pages: Ruby and Node accept each without a warning, and the controllers do what their
//! page describes, both on stand-ins for Rails and in the real Rails.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Server, get, program};
use crate::fixes::NAMES;

/// Defines stand-ins for the Rails classes that the listings use, and runs one action.
const STUB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rails_stub.rb");

/// How a rendered page marks a listing, up to the name of its language.
const MARK: &str = "<pre tabindex=\"0\" data-code=\"";

/// The listings of a rendered page, each with its language.
fn listings(page: &str) -> Vec<(String, String)> {
    let marked = page.split(MARK).skip(1).map(|rest| {
        let (language, rest) = rest.split_once("\">").unwrap();
        let (code, _) = rest.split_once("</pre>").unwrap();
        let code = code.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        (language.to_owned(), code + "\n")
    });
    marked.collect()
}

/// Runs Ruby, which must succeed and print nothing to standard error. Returns its standard output.
fn ruby(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Writes each listing in this language to a separate file with this ending. Returns the page's name, the listing,
/// and the file's path.
fn files(folder: &TempDir, language: &str, ending: &str) -> Vec<(&'static str, String, String)> {
    let server = Server::start(&[]);
    let mut files = Vec::new();
    for name in NAMES {
        let (_, page) = get(server.app, &format!("/fixes/{name}"));
        let code = page.split("<h2 id=\"rails\">").nth(1).unwrap();
        assert_eq!(
            code.matches("<pre").count(),
            listings(code).len(),
            "{name}: a listing does not name its language"
        );
        assert!(!listings(code).is_empty(), "{name} has no listing");
        for (n, (of, code)) in listings(code).into_iter().enumerate() {
            if of == language {
                let file = folder.path().join(format!("{name}_{n}.{ending}"));
                fs::write(&file, &code).unwrap();
                files.push((name, code, file.to_str().unwrap().to_owned()));
            }
        }
    }
    files
}

#[test]
fn ruby_accepts_each_listing_without_a_warning() {
    let Some(program) = program("ruby") else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder, "ruby", "rb");
    assert!(files.len() >= 12, "{files:?}");
    for (name, _, file) in &files {
        assert_eq!(ruby(&program, &["-wc", file]).trim(), "Syntax OK", "{name}");
    }
}

#[test]
fn node_accepts_each_listing_as_a_module() {
    let Some(program) = program("node") else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder, "javascript", "mjs");
    assert!(files.len() >= 6, "{files:?}");
    for (name, code, file) in &files {
        let output = Command::new(&program).args(["--check", file]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{name}: {errors}");
        // A listing must define the function `show` if it calls it.
        assert!(!code.contains("show(") || code.contains("const show ="), "{name}: {code}");
    }
}

#[test]
fn each_listing_names_its_language() {
    let server = Server::start(&[]);
    for name in NAMES {
        let (_, page) = get(server.app, &format!("/fixes/{name}"));
        let code = page.split("<h2 id=\"rails\">").nth(1).unwrap();
        for (before, (language, _)) in code.split(MARK).zip(listings(code)) {
            let label = before.rsplit("<p>").next().unwrap();
            let word = match language.as_str() {
                "ruby" => "Ruby",
                "javascript" => "JavaScript",
                "erb" => "ERB",
                "yaml" => "YAML",
                "procfile" => "<code>Procfile</code>",
                other => panic!("{name}: {other}"),
            };
            assert!(label.starts_with(word), "{name}: {label}");
        }
    }
}

#[test]
fn each_controller_of_a_listing_does_what_its_page_describes() {
    let Some(program) = program("ruby") else { return };
    let folder = tempfile::tempdir().unwrap();
    let is_controller = |code: &str| code.contains("< ApplicationController");
    let files = files(&folder, "ruby", "rb").into_iter();
    let files: Vec<_> = files.filter(|(_, code, _)| is_controller(code)).collect();
    let names: Vec<_> = files.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, ["reaper", "cap", "io-threads", "other-server", "short-stream", "push", "poll"]);
    let run = |name: &str, last_event_id: &str, rows: &str, held: &str| -> Value {
        let (_, _, file) = files.iter().find(|it| it.0 == name).unwrap();
        serde_json::from_str(&ruby(&program, &["-w", STUB, file, last_event_id, rows, held])).unwrap()
    };

    let endless = json!([[[2], 2, 3000], [[3], 3, 3000], [[4], 4, 3000], [[5], 5, 3000]]);
    for (name, writes, log) in [
        // The action writes at 0, 2 and 4 s, and its time is up after 5 s.
        ("reaper", json!([[[2], 2, 3000], [[3], 3, 3000], [[4], 4, 3000]]), json!([])),
        ("short-stream", json!([[[2], 2, 2000]]), json!([])),
        ("cap", endless.clone(), json!(["client disconnected"])),
        ("io-threads", endless.clone(), json!(["client disconnected"])),
        ("other-server", endless, json!(["client disconnected"])),
    ] {
        let done = run(name, "1", "2", "0");
        assert_eq!(done["writes"], writes, "{name}");
        assert_eq!((&done["log"], &done["closed"]), (&log, &json!(1)), "{name}");
        assert_eq!(done["headers"]["Content-Type"], "text/event-stream", "{name}");
        assert!(done["headers"]["Last-Modified"].is_string(), "{name}");
        // Without a row and without a header, the position is 0.
        assert_eq!(run(name, "", "0", "0")["writes"][0], json!([[], 0, writes[0][2]]), "{name}");
    }
    assert_eq!(run("io-threads", "", "0", "0")["marked"], true);

    assert_eq!(run("cap", "1", "2", "5")["permits"], 1, "the action releases its permit");
    let refused = run("cap", "1", "2", "6");
    assert_eq!(
        refused["writes"],
        json!([[[], 1, 3000]]),
        "a refused client gets no rows, and its position does not change"
    );
    assert_eq!((&refused["permits"], &refused["closed"]), (&json!(0), &json!(1)));

    let hijacked = run("push", "", "2", "0");
    assert_eq!(hijacked["head"], json!(["ok", "text/event-stream"]));
    // Two listeners are cut off: one took only three bytes, and the other has closed.
    let event = "id: 2\ndata: [1,2]\n\n";
    assert_eq!(hijacked["got"], json!([[event, event], ["id:"], []]));
    assert_eq!((&hijacked["cut"], &hijacked["listeners"]), (&json!([false, true, true]), &json!(1)));

    let polled = run("poll", "", "3", "0");
    assert_eq!((&polled["json"], &polled["etag"]), (&json!([1, 2, 3]), &json!(3)));
    assert_eq!(run("poll", "", "0", "0")["json"], json!([]));
}

/// The exit status of `tests/data/rails_app.rb` if Rails is not installed.
const NO_RAILS: i32 = 3;

/// Runs each of these files in the real Rails, and returns the results. If Debian's Rails is not installed, prints
/// a message and returns `None`. With `CI` set, the test fails instead.
fn in_rails(ruby: &Path, files: &[(&str, String, String)]) -> Option<Vec<Value>> {
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rails_app.rb");
    let output = Command::new(ruby).arg(app).args(files.iter().map(|(.., file)| file)).output().unwrap();
    if output.status.code() == Some(NO_RAILS) {
        assert!(std::env::var_os("CI").is_none(), "Rails is not installed, and CI is set");
        eprintln!("skipped: Rails is not installed (ruby-rails, ruby-sqlite3)");
        return None;
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8(output.stdout).unwrap();
    Some(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn each_listing_works_in_a_real_rails_app() {
    let Some(program) = program("ruby") else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder, "ruby", "rb").into_iter();
    // The other listings configure Puma.
    let files: Vec<_> = files.filter(|(_, code, _)| code.starts_with("class ")).collect();
    assert_eq!(files.len(), 14, "{files:?}");
    let Some(results) = in_rails(&program, &files) else { return };
    assert_eq!(results.len(), files.len(), "{results:?}");
    for ((name, code, _), done) in files.iter().zip(&results) {
        let case = format!("{name}: {done}\n{code}");
        let body = done["body"].as_str().unwrap_or_default();
        match *name {
            "poll" if code.contains("< ApplicationRecord") => assert!(done["version"].is_string(), "{case}"),
            "poll" => {
                let rows: Value = serde_json::from_str(body).unwrap();
                assert_eq!(rows.as_array().map(Vec::len), Some(3), "{case}");
                assert_eq!((&done["status"], &done["again"]), (&json!(200), &json!(304)), "{case}");
            }
            "push" if code.contains("SseRailsEngine") => {
                assert_eq!(done["sent"][2], json!(["models", [3]]), "{case}")
            }
            "push" if code.contains("< ApplicationRecord") => {
                assert_eq!(done["sent"][2], json!(["push", [3]]), "{case}")
            }
            "push" => {
                assert!(body.starts_with("id: 3\ndata: [{\"id\":3,") && body.ends_with("}]\n\n"), "{case}");
                assert_eq!(done["listeners"], 1, "{case}");
            }
            "partials" => assert_eq!(done["sent"][2], json!(["models", "prepend"]), "{case}"),
            "cable" if code.contains("Channel") && !code.contains("< ApplicationRecord") => {
                assert_eq!(done["channel"], "ApplicationCable::Channel", "{case}");
            }
            "cable" => assert_eq!(done["broadcast"], json!([1, 2, 3]), "{case}"),
            "long-poll" => assert_eq!(done["sent"][2], json!(["/models", 3]), "{case}"),
            _ => {
                let retry = if *name == "short-stream" { 2000 } else { 3000 };
                assert!(body.contains(&format!("retry: {retry}\n")) && body.contains("id: 3\n"), "{case}");
                assert!(body.contains("data: [{\"id\":2,"), "{case}");
                assert_eq!(done["headers"]["Content-Type"], "text/event-stream", "{case}");
                assert_eq!(
                    done["log"],
                    *name != "short-stream",
                    "the action ends when its client leaves: {case}"
                );
                assert_eq!(done["marked"] == true, *name == "io-threads", "{case}");
            }
        }
    }
}
