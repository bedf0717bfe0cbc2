//! Fetches npm packages into a temporary folder while a test runs.

use std::fs;
use std::process::{Command, Stdio};

use crate::common::program;

/// The text of a file in a package (`name@version`). If npm is missing or cannot reach its registry, prints a
/// message and returns `None`. With `CI` set, the test fails instead.
pub fn fetch(package: &str, file: &str) -> Option<String> {
    let npm = program("npm")?;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(npm);
    command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
    command.arg(folder.path()).arg(package).stdin(Stdio::null());
    let output = command.output().unwrap();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(std::env::var_os("CI").is_none(), "npm did not fetch {package}: {why}");
        eprintln!("skipped: npm did not fetch {package}: {why}");
        return None;
    }
    let (name, _) = package.rsplit_once('@').unwrap();
    Some(fs::read_to_string(folder.path().join("node_modules").join(name).join(file)).unwrap())
}
