//! The file by which pumactl and `ctl` find a running server.
//!
//! Models Puma::StateFile: a line a key, of which `pid`, `control_url`,
//! `control_auth_token` and `running_from` are Puma's, and `bind`, where the app
//! listens, is ours. Unlike Puma's it is removed when the server has stopped, and
//! it is written whole: whoever waits for it never reads half of it.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::values::NO_TOKEN;

/// A file that was written; it goes when this is dropped.
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// Writes it beside its path, and moves it there.
    pub fn write(
        path: &Path,
        app: SocketAddr,
        control: SocketAddr,
        token: Option<&str>,
    ) -> io::Result<StateFile> {
        let here = std::env::current_dir().unwrap_or_default();
        let text = format!(
            "---\npid: {}\ncontrol_url: tcp://{control}\ncontrol_auth_token: {}\nrunning_from: \"{}\"\nbind: tcp://{app}\n",
            std::process::id(),
            quoted_if_a_number(token.unwrap_or(NO_TOKEN)),
            here.display(),
        );
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(StateFile { path: path.to_owned() })
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("{}: {error}", self.path.display());
        }
    }
}

/// Puma takes bare digits for a number, and `007` for 7.
fn quoted_if_a_number(token: &str) -> String {
    let is_number = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number { format!("\"{token}\"") } else { token.to_owned() }
}

/// What a state file says about the control server, of ours or of Puma.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ControlServer {
    pub url: Option<String>,
    pub token: Option<String>,
}

/// Reads it as Puma does: line by line, comments skipped, split at the first
/// colon, quotes around a value taken off, other keys passed over.
pub fn read(path: &Path) -> io::Result<ControlServer> {
    Ok(parse(&fs::read_to_string(path)?))
}

fn parse(text: &str) -> ControlServer {
    let value = |wanted: &str| {
        let lines = text.lines().rev().filter(|line| !line.starts_with('#'));
        let mut entries = lines.filter_map(|line| line.split_once(':'));
        let value = entries.find(|(key, _)| *key == wanted)?.1.trim();
        let value = value.strip_prefix('"').unwrap_or(value);
        let value = value.strip_suffix('"').unwrap_or(value);
        (!value.is_empty()).then(|| value.to_owned())
    };
    ControlServer {
        url: value("control_url"),
        token: value("control_auth_token").filter(|token| token != NO_TOKEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(url: &str, token: &str) -> ControlServer {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ControlServer { url: some(url), token: some(token) }
    }

    #[test]
    fn what_each_file_says() {
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
    fn what_is_written_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (app, control) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        for token in [None, Some("s3cret"), Some("007"), Some("1.50")] {
            let file = StateFile::write(&path, app, control, token).unwrap();
            assert_eq!(read(&path).unwrap(), says("tcp://127.0.0.1:2", token.unwrap_or_default()));
            drop(file);
            assert!(!path.exists());
        }
    }
}
