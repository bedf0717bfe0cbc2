//! Fetches npm packages into a temporary folder while a test runs.

use std::fs;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::common::program;

/// A folder whose `node_modules` contains these packages (`name@version`). If npm is missing or cannot reach its
/// registry, prints a message and returns `None`. With `CI` set, the test fails instead.
pub fn install(packages: &[&str]) -> Option<TempDir> {
    let npm = program("npm")?;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(npm);
    command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
    command.arg(folder.path()).args(packages).stdin(Stdio::null());
    let output = command.output().unwrap();
    if !output.status.success() {
        let (packages, why) = (packages.join(" "), String::from_utf8_lossy(&output.stderr));
        assert!(std::env::var_os("CI").is_none(), "npm did not fetch {packages}: {why}");
        eprintln!("skipped: npm did not fetch {packages}: {why}");
        return None;
    }
    Some(folder)
}

/// The text of a file in a package. See [`install`].
pub fn fetch(package: &str, file: &str) -> Option<String> {
    let folder = install(&[package])?;
    let (name, _) = package.rsplit_once('@').unwrap();
    Some(fs::read_to_string(folder.path().join("node_modules").join(name).join(file)).unwrap())
}
