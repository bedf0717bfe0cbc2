//! Takes the place of the crate [`stringprep`](https://docs.rs/stringprep), of which `tokio-postgres` uses one function:
//! the preparation of a password for SCRAM ([RFC 4013]). The tables of Unicode that it needs would take 0.25 MB of the
//! program.
//!
//! Without them, a password that is not ASCII is refused here. `tokio-postgres` then sends it unchanged, as the RFC
//! asks for a password that cannot be prepared. So such a password works unless the preparation would have changed it,
//! which it does to few characters that a keyboard produces: letters with separate accents, `ª`, `²`, and spaces
//! other than U+0020.
//!
//! [RFC 4013]: https://www.rfc-editor.org/rfc/rfc4013

use std::borrow::Cow;
use std::error;
use std::fmt;

/// A string that cannot be prepared: it contains control characters, or characters outside ASCII.
#[derive(Debug)]
pub struct Error(());

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the string contains characters other than printable ASCII")
    }
}

impl error::Error for Error {}

/// Prepares a user's name or a password. Printable ASCII stays as it is.
///
/// # Errors
///
/// If the string contains anything else.
pub fn saslprep(text: &str) -> Result<Cow<'_, str>, Error> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        Ok(Cow::Borrowed(text))
    } else {
        Err(Error(()))
    }
}

#[cfg(test)]
mod tests {
    use super::saslprep;

    #[test]
    fn printable_ascii_stays_as_it_is_and_anything_else_is_refused() {
        let printable: String = (' '..='~').collect();
        assert_eq!(saslprep(&printable).unwrap(), printable);
        assert_eq!(saslprep("").unwrap(), "");
        for text in ["a\tb", "a\0", "\u{7f}", "pässwörd", "I\u{ad}X", "\u{aa}", "\u{a0}"] {
            assert!(saslprep(text).is_err(), "{text:?}");
        }
    }
}
