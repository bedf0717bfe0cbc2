//! Packages that are fetched with npm when a test runs, into a temporary folder.

use std::fs;
use std::process::{Command, Stdio};

use crate::common::program;

/// The text of a file of a package (`name@version`). `None`, after a message, if npm is missing or cannot
/// reach its registry; with `CI` set, that is a failure instead.
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
