//! The file that has the control token, so that it stands neither in the list of processes nor in
//! the environment.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::control::Token;

/// The most bytes that are read: a longer file has no token.
const MOST: u64 = 4_096;

/// Why there is no token.
#[derive(Debug, Error)]
pub enum TokenFileError {
    #[error(
        "cannot read --control-token-file {}: {error}; give the path of a file that has the token on its only line", .path.display()
    )]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("--control-token-file {}: its only line cannot be a token: {what}", .path.display())]
    NoToken { path: PathBuf, what: String },
}

/// Reads it. Blanks and line ends around the token are no part of it.
pub fn read(path: &Path) -> Result<Token, TokenFileError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST).read_to_end(&mut bytes))
        .map_err(|error| TokenFileError::Unreadable { path: path.to_owned(), error })?;
    let text = String::from_utf8_lossy(&bytes);
    Token::new(text.trim()).map_err(|what| TokenFileError::NoToken { path: path.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_token_or_is_refused_without_being_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(read(&path).unwrap_err().to_string().contains("No such file"));
        for (text, is_one) in [
            ("s3cret", true),
            (" s3cret\r\n", true),
            ("", false),
            ("s3cret\ntwo\n", false),
            ("\u{fc}\u{fc}\u{fc}", false),
        ] {
            std::fs::write(&path, text).unwrap();
            match read(&path) {
                Ok(token) => assert!(is_one && token.is("s3cret"), "{text:?}"),
                Err(error) => assert!(!is_one && !error.to_string().contains("s3cret"), "{error}"),
            }
        }
    }
}
