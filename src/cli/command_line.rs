//! The command line, as it can be shown: quoted for a shell, and without secrets.

use std::env;

use crate::app::database_place::without_password;

/// The text that is shown in place of a secret.
pub(super) const HIDDEN: &str = "…";

/// The command line of this process.
pub(super) fn typed() -> String {
    shown(env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()))
}

fn shown(words: impl Iterator<Item = String>) -> String {
    let mut shown = vec!["ninetabs".to_owned()];
    let mut is_secret = false;
    for word in words {
        let text = match word.split_once('=') {
            _ if is_secret => HIDDEN.to_owned(),
            Some((flag, _)) if flag == SECRET => format!("{flag}={HIDDEN}"),
            _ => without_password(&word, HIDDEN),
        };
        is_secret = !is_secret && word == SECRET;
        shown.push(quoted(text));
    }
    shown.join(" ")
}

/// The flag whose value is a secret.
const SECRET: &str = "--control-token";

/// A word, quoted for a shell if necessary.
pub(super) fn quoted(word: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=+@%…".contains(c);
    let is_plain = !word.is_empty() && word.chars().all(plain);
    if is_plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_quoted_and_shows_no_secret() {
        for (words, line) in [
            (&["serve", "--threads", "3:3"][..], "ninetabs serve --threads 3:3"),
            (&["serve", "--state", "a b'c"], "ninetabs serve --state 'a b'\\''c'"),
            (
                &["serve", "--control-token", "secret", "--state", "x"],
                "ninetabs serve --control-token … --state x",
            ),
            (&["serve", "--control-token=secret"], "ninetabs serve --control-token=…"),
            (&["--control-token", "--control-token", "x"], "ninetabs --control-token … x"),
            (
                &["--database", "postgresql://me:p@ss@db:5432/x?y"],
                "ninetabs --database 'postgresql://me:…@db:5432/x?y'",
            ),
            (&["--database=postgresql://me:pass@db/x"], "ninetabs --database=postgresql://me:…@db/x"),
            (&["--database", "postgresql://me@db/x"], "ninetabs --database postgresql://me@db/x"),
            (&[""], "ninetabs ''"),
        ] {
            assert_eq!(shown(words.iter().map(|word| (*word).to_owned())), line);
        }
    }
}
