//! The operator's token, which opens the control server from anywhere.

use std::fmt;

use constant_time_eq::constant_time_eq;

use crate::app::content_security_policy::Nonce;

/// The shortest token that the control server accepts, which catches typing errors. A token that other hosts can try to
/// guess should have [`SAFE`] characters.
pub const SHORTEST: usize = 3;
/// A random token of this length cannot be guessed over a network.
pub const SAFE: usize = 16;

/// A token. `{:?}` does not print its value, so that no log and no error can show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Accepts a text that needs no encoding in a query or in a state file. Otherwise the error says what is
    /// accepted, and does not repeat the text.
    pub fn new(text: &str) -> Result<Token, String> {
        let stands_for_itself =
            |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'&' | b';');
        if !text.is_empty() && text.bytes().all(stands_for_itself) {
            return Ok(Token(text.to_owned()));
        }
        Err("give a token of ASCII letters, digits and punctuation, without spaces, &, ;, # and quotes"
            .to_owned())
    }

    /// How many characters it has.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// A random token.
    pub(super) fn drawn(nonce: &Nonce) -> Token {
        Token(nonce.as_str().to_owned())
    }

    /// Its value, for a request or a file that only its owner reads.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether the text equals it. The time depends only on the length of the text.
    pub fn is(&self, said: &str) -> bool {
        constant_time_eq(self.0.as_bytes(), said.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_needs_no_encoding_in_a_query_or_in_a_file() {
        assert_eq!(Token::new("s3cret_-+/=.~").map(|it| it.reveal().to_owned()), Ok("s3cret_-+/=.~".into()));
        for wrong in ["", "a b", "a&b", "a;b", "a#b", "\"a\"", "a\r\nb", "äöü", "a\0b"] {
            let refusal = Token::new(wrong).unwrap_err();
            assert!(wrong.is_empty() || wrong == "a b" || !refusal.contains(wrong), "{refusal}");
        }
    }

    #[test]
    fn a_token_equals_only_its_own_text_and_is_never_printed() {
        let token = Token::new("s3cret").unwrap();
        assert!(token.is("s3cret"));
        for other in ["", "s3cre", "s3cret1", "S3cret"] {
            assert!(!token.is(other), "{other}");
        }
        assert!(!format!("{token:?}").contains("s3cret"));
    }
}
