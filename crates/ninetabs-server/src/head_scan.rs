//! Finding the end of a head in bytes that come in pieces.
//!
//! Each byte is looked at once for the end, and once more for an early refusal, however the
//! network cut them; the head is parsed once, when it is whole. A head that came in one piece
//! skips the early look. What comes of the bytes does not depend on how they were cut: the
//! early look is a function of the bytes in their order, and it also decides which status a
//! whole head with an error gets.

use super::head::{self, MAX_LINE_BYTES, Parsed};
use super::refusal::Refusal;

/// How far the head at the beginning of a buffer has been looked at.
#[derive(Debug, Clone)]
pub struct HeadScan {
    max_head_bytes: usize,
    /// Bytes that have been searched for the end.
    searched: usize,
    /// Where the request line begins, behind empty lines.
    begun: Option<usize>,
    /// Where the request line ends, behind its line end.
    first_line_end: Option<usize>,
    /// Line ends from the request line on.
    lines: usize,
    has_bare_line_feed: bool,
    /// Bytes that the early look has seen.
    checked: usize,
    place: ScanPlace,
}

/// Where in a head the early look stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanPlace {
    /// In empty lines before the request line.
    Before,
    RequestLine {
        begun: usize,
        /// Where the word begins that is being read: method, target or version.
        word_begun: usize,
        word: Word,
    },
    Field {
        begun: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Method,
    Target,
    Version,
}

const VERSION: &[u8] = b"HTTP/0.0";

impl HeadScan {
    pub fn new(max_head_bytes: usize) -> HeadScan {
        HeadScan {
            max_head_bytes,
            searched: 0,
            begun: None,
            first_line_end: None,
            lines: 0,
            has_bare_line_feed: false,
            checked: 0,
            place: ScanPlace::Before,
        }
    }

    /// Looks at the bytes that have come since the last look. `bytes` are all of the head so
    /// far, and may hold more than it. After a head or a refusal the scan is over.
    pub fn look(&mut self, bytes: &[u8]) -> Parsed {
        // Nothing is looked at that a limit forbids to be part of the head.
        let bytes = &bytes[..bytes.len().min(self.max_head_bytes)];
        match self.find_end(bytes) {
            Some(end) => match self.read(&bytes[..end]) {
                Ok(head) => Parsed::Whole(head, end),
                Err(refusal) => Parsed::Refused(refusal),
            },
            None => match self.check(bytes) {
                Err(refusal) => Parsed::Refused(refusal),
                Ok(()) if bytes.len() >= self.max_head_bytes => {
                    Parsed::Refused(Refusal::HeadTooLarge("the head is over the limit"))
                }
                Ok(()) => Parsed::NotYet,
            },
        }
    }

    /// Where the head ends, behind its empty line. Searches on from where it stopped.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(at) = bytes[self.searched..].iter().position(|byte| *byte == b'\n') {
            let at = self.searched + at;
            let is_bare = at == 0 || bytes[at - 1] != b'\r';
            self.has_bare_line_feed |= is_bare;
            let line = self.searched;
            self.searched = at + 1;
            if self.begun.is_none() {
                let first = bytes[line..at].iter().position(|byte| *byte != b'\r');
                self.begun = first.map(|first| line + first);
                if self.begun.is_none() {
                    continue;
                }
                self.first_line_end = Some(at + 1);
            }
            self.lines += 1;
            if !is_bare && at >= 2 && bytes[at - 2] == b'\n' {
                return Some(at + 1);
            }
        }
        // The line goes on. Its beginning is needed: the next piece is searched from here.
        if self.begun.is_none() {
            let first = bytes[self.searched..].iter().position(|byte| *byte != b'\r');
            self.begun = first.map(|first| self.searched + first);
        }
        self.searched = bytes.len();
        None
    }

    /// Parses the head that has come whole.
    fn read(&mut self, bytes: &[u8]) -> Result<head::Head, Refusal> {
        let read = if self.has_bare_line_feed { None } else { Some(head::read(bytes, self.lines)) };
        let begun = self.begun.unwrap_or_default();
        let is_too_long = self.first_line_end.is_some_and(|end| end - begun > MAX_LINE_BYTES);
        match read {
            Some(Ok(_)) | Some(Err(head::Fault::Meaning(_))) if is_too_long => Err(Refusal::TargetTooLong),
            Some(Ok(head)) => Ok(head),
            Some(Err(head::Fault::Meaning(refusal))) => Err(refusal),
            // The early look says which error comes first.
            Some(Err(head::Fault::Syntax(refusal))) => Err(self.check(bytes).err().unwrap_or(refusal)),
            None => Err(self.check(bytes).err().unwrap_or(BARE_LINE_FEED)),
        }
    }

    /// The early look: refuses what cannot become a head, at the first byte that shows it.
    fn check(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        while let Some(byte) = bytes.get(self.checked) {
            self.place = match self.place {
                ScanPlace::Before => self.before(bytes, *byte)?,
                ScanPlace::RequestLine { begun, word_begun, word } => {
                    self.in_request_line(bytes, *byte, begun, word_begun, word)?
                }
                ScanPlace::Field { begun } => self.in_field(bytes, *byte, begun)?,
            };
            self.checked += 1;
        }
        Ok(())
    }

    fn before(&self, bytes: &[u8], byte: u8) -> Result<ScanPlace, Refusal> {
        let at = self.checked;
        let is_behind_cr = at > 0 && bytes[at - 1] == b'\r';
        match byte {
            b'\n' if is_behind_cr => Ok(ScanPlace::Before),
            b'\n' => Err(BARE_LINE_FEED),
            _ if is_behind_cr => Err(LINE_END),
            b'\r' => Ok(ScanPlace::Before),
            _ => self.in_request_line(bytes, byte, at, at, Word::Method),
        }
    }

    fn in_request_line(
        &self,
        bytes: &[u8],
        byte: u8,
        begun: usize,
        word_begun: usize,
        word: Word,
    ) -> Result<ScanPlace, Refusal> {
        let at = self.checked;
        if at - begun >= MAX_LINE_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        let (is_first, seen) = (at == word_begun, &bytes[word_begun..at]);
        let next = |word| Ok(ScanPlace::RequestLine { begun, word_begun: at + 1, word });
        let same = Ok(ScanPlace::RequestLine { begun, word_begun, word });
        match (word, byte) {
            (Word::Method, b' ') if !is_first => next(Word::Target),
            (Word::Method, byte) if is_token_byte(byte) => same,
            (Word::Target, b' ') if !is_first && std::str::from_utf8(seen).is_ok() => next(Word::Version),
            (Word::Target, byte) if byte > b' ' && byte != 0x7f => same,
            (Word::Version, byte) if seen.len() < VERSION.len() => {
                let form = VERSION[seen.len()];
                match byte == form || form == b'0' && byte.is_ascii_digit() {
                    false => Err(Refusal::BadRequest("the version is malformed")),
                    true if seen.len() + 1 < VERSION.len() => same,
                    true if [b"1.0", b"1.1"].contains(&&[seen[5], seen[6], byte]) => same,
                    true => Err(Refusal::BadVersion),
                }
            }
            (Word::Version, b'\r') if seen.len() == VERSION.len() => same,
            (Word::Version, b'\n') if seen.len() == VERSION.len() => Err(BARE_LINE_FEED),
            (Word::Version, b'\n') => Ok(ScanPlace::Field { begun: at + 1 }),
            _ => Err(Refusal::BadRequest("the request line is malformed")),
        }
    }

    fn in_field(&self, bytes: &[u8], byte: u8, begun: usize) -> Result<ScanPlace, Refusal> {
        let at = self.checked;
        let is_behind_cr = at > begun && bytes[at - 1] == b'\r';
        match byte {
            b'\n' if !is_behind_cr => Err(BARE_LINE_FEED),
            b'\n' => head::check_field(&bytes[begun..=at]).map(|()| ScanPlace::Field { begun: at + 1 }),
            _ if is_behind_cr => Err(LINE_END),
            b'\r' | b'\t' => Ok(ScanPlace::Field { begun }),
            byte if byte.is_ascii_control() => Err(Refusal::BadRequest("a field has a control character")),
            _ => Ok(ScanPlace::Field { begun }),
        }
    }
}

const BARE_LINE_FEED: Refusal = Refusal::BadRequest("a line ends without CR");
const LINE_END: Refusal = Refusal::BadRequest("a line's end is malformed");

/// What a token is made of (RFC 9110 5.6.2), such as a method or a field's name.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
