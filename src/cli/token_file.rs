//! The file with the control token, which keeps the token out of the list of processes and out of
//! the environment.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::files::{FileError, read_small};
use crate::control::Token;

/// Why no token could be read from the file.
#[derive(Debug, Error)]
pub enum TokenFileError {
    #[error(
        "cannot read --control-token-file {}: {error}; give the path of a file that has the token on its only line", .path.display()
    )]
    Unreadable { path: PathBuf, error: FileError },
    #[error("--control-token-file {}: its only line cannot be a token: {what}", .path.display())]
    NoToken { path: PathBuf, what: String },
}

/// Reads the token. Whitespace around it is removed.
pub fn read(path: &Path) -> Result<Token, TokenFileError> {
    let text =
        read_small(path).map_err(|error| TokenFileError::Unreadable { path: path.to_owned(), error })?;
    Token::new(text.trim()).map_err(|what| TokenFileError::NoToken { path: path.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_token_or_is_refused_without_repeating_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(read(&path).unwrap_err().to_string().contains("no such file"));
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
