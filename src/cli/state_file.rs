//! The state file, by which pumactl and `ctl` find a running server.
//!
//! Models Puma::StateFile: one line per key. `pid`, `control_url`, `control_auth_token` and `running_from` are Puma's;
//! `bind`, the address of the app, is ours. Unlike Puma's, the file is removed when the server has stopped, and it is
//! written in one step, so that a program that waits for it never reads an incomplete file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::files::access::Access;
use super::files::whole::{Put, Removal, ReservedFile};
use super::files::{FileError, read_small};
use super::values::NO_TOKEN;

/// A state file that was written. It is removed when this is dropped, if the file at the path is still the same one.
pub struct StateFile {
    path: PathBuf,
    put: Put,
}

impl StateFile {
    /// Checks whether a state file can be written at this path.
    pub fn reserve(path: &Path) -> Result<ReservedFile, FileError> {
        ReservedFile::at(path, Access::Secret)
    }

    /// Writes the state file at the reserved path.
    pub fn write(
        reserved: ReservedFile,
        app: SocketAddr,
        control: SocketAddr,
        token: Option<&str>,
    ) -> Result<StateFile, FileError> {
        let here = std::env::current_dir().unwrap_or_default();
        let text = format!(
            "---\npid: {}\ncontrol_url: tcp://{control}\ncontrol_auth_token: {}\nrunning_from: \"{}\"\nbind: tcp://{app}\n",
            std::process::id(),
            quoted_if_a_number(token.unwrap_or(NO_TOKEN)),
            here.display(),
        );
        let path = reserved.path().to_owned();
        Ok(StateFile { path, put: reserved.put(text.as_bytes())? })
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        let path = self.path.display();
        match self.put.remove() {
            Ok(Removal::Removed | Removal::Emptied) => {}
            Ok(Removal::NotOurs) => {
                log::debug!("--state {path} is now the file of another process, and is not removed")
            }
            Err(error) => log::warn!("cannot remove --state {path}: {error}"),
        }
    }
}

/// Quotes a token that consists of digits: Puma reads bare digits as a number, and `007` as 7.
fn quoted_if_a_number(token: &str) -> String {
    let is_number = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number { format!("\"{token}\"") } else { token.to_owned() }
}

/// The control server in a state file of ninetabs or Puma.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NamedControlServer {
    pub url: Option<String>,
    pub token: Option<String>,
}

/// Reads a state file as Puma does, line by line: skips comments and other keys, splits at the first colon, and
/// removes quotes around a value.
pub fn read(path: &Path) -> Result<NamedControlServer, FileError> {
    Ok(parse(&read_small(path)?))
}

/// The address of the app, which only a state file of ninetabs has.
pub fn app_in(path: &Path) -> Result<Option<String>, FileError> {
    Ok(value(&read_small(path)?, "bind"))
}

fn value(text: &str, wanted: &str) -> Option<String> {
    let lines = text.lines().rev().filter(|line| !line.starts_with('#'));
    let mut entries = lines.filter_map(|line| line.split_once(':'));
    let value = entries.find(|(key, _)| *key == wanted)?.1.trim();
    let value = value.strip_prefix('"').unwrap_or(value);
    let value = value.strip_suffix('"').unwrap_or(value);
    (!value.is_empty()).then(|| value.to_owned())
}

fn parse(text: &str) -> NamedControlServer {
    NamedControlServer {
        url: value(text, "control_url"),
        token: value(text, "control_auth_token").filter(|token| token != NO_TOKEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(url: &str, token: &str) -> NamedControlServer {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        NamedControlServer { url: some(url), token: some(token) }
    }

    #[test]
    fn a_state_file_is_read_as_puma_reads_it() {
        for (text, wanted) in [
            ("", says("", "")),
            ("---\npid: 1\ncontrol_url: tcp://h:1\ncontrol_auth_token: none\n", says("tcp://h:1", "")),
            ("control_url: \"unix:///a b\"\r\ncontrol_auth_token: \"007\"", says("unix:///a b", "007")),
            ("# control_url: tcp://h:1\n control_url: x\ncontrol_auth_token:\n", says("", "")),
            ("control_url: a\ncontrol_url: b:c", says("b:c", "")),
        ] {
            assert_eq!(parse(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_written_file_reads_back_and_is_removed_when_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (app, control) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        for token in [None, Some("s3cret"), Some("007"), Some("1.50")] {
            let file = StateFile::write(StateFile::reserve(&path).unwrap(), app, control, token).unwrap();
            assert_eq!(read(&path).unwrap(), says("tcp://127.0.0.1:2", token.unwrap_or_default()));
            drop(file);
            assert!(!path.exists());
        }
    }
}
