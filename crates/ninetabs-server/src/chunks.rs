//! Decodes the chunked body of a request incrementally.
//!
//! The input is bytes in pieces of any size, as they were read; the output is the data. Everything else (size lines,
//! extensions, trailers) counts against one budget, so no client can send it forever. The decoder is stricter than Puma
//! in two respects, listed in docs/puma.md: a size line must not begin with a blank, and must not end with a bare LF.

use super::head;
use super::refusal::Refusal;

/// The longest line, in bytes.
pub const MAX_LINE_BYTES: usize = 4_096;
/// The maximum number of bytes in a body that are neither data nor the plain size lines of its chunks.
pub const MAX_OVERHEAD_BYTES: usize = 16 * 1024;
/// The length of a size line without extensions: sixteen digits and CR LF.
const PLAIN_LINE_BYTES: usize = 18;

/// The state of the decoder for one body.
#[derive(Debug, Clone)]
pub struct Chunks {
    state: ChunkState,
    /// How many more bytes of data the chunks may declare.
    allowed: u64,
    /// The part of the current line that has been received.
    line: Vec<u8>,
    overhead: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    Size,
    Data(u64),
    /// The line end after a chunk's data.
    AfterData,
    Trailers,
    Done,
}

impl Chunks {
    /// Creates a decoder for a body of at most this many bytes of data.
    pub fn with_limit(max_body_bytes: u64) -> Chunks {
        Chunks { state: ChunkState::Size, allowed: max_body_bytes, line: Vec::new(), overhead: 0 }
    }

    /// Returns whether the last chunk and the trailers have been received.
    pub fn is_done(&self) -> bool {
        self.state == ChunkState::Done
    }

    /// How many bytes of memory the unprocessed line takes.
    pub(super) fn held_bytes(&self) -> usize {
        self.line.capacity()
    }

    /// Consumes bytes from the front and passes the decoded data to `data`. Returns the number of consumed bytes: all
    /// of them, unless the body ends earlier.
    pub fn take(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<usize, Refusal> {
        let mut rest = bytes;
        while !rest.is_empty() && self.state != ChunkState::Done {
            match self.state {
                ChunkState::Data(left) => {
                    let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    data(&rest[..taken]);
                    rest = &rest[taken..];
                    let left = left - taken as u64;
                    self.state = if left == 0 { ChunkState::AfterData } else { ChunkState::Data(left) };
                }
                _ => rest = self.take_line(rest)?,
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Appends to the current line, and acts on it when it is complete.
    fn take_line<'a>(&mut self, rest: &'a [u8]) -> Result<&'a [u8], Refusal> {
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (piece, rest) = rest.split_at(end);
        self.line.extend_from_slice(piece);
        if self.line.len() > MAX_LINE_BYTES {
            return Err(Refusal::BadRequest("a line of the chunked body is over the limit"));
        }
        let unexpected = self.state == ChunkState::AfterData && !b"\r\n".starts_with(&self.line);
        if unexpected {
            return Err(Refusal::BadRequest("a chunk is longer than its declared size"));
        }
        if self.line.ends_with(b"\n") {
            let line = std::mem::take(&mut self.line);
            let Some(line) = line.strip_suffix(b"\r\n") else {
                return Err(Refusal::BadRequest("a line of the chunked body ends without CR"));
            };
            // Some programs treat a bare CR as a line end.
            if line.contains(&b'\r') {
                return Err(Refusal::BadRequest("a line of the chunked body contains a CR"));
            }
            self.act_on(line)?;
        }
        Ok(rest)
    }

    fn act_on(&mut self, line: &[u8]) -> Result<(), Refusal> {
        match self.state {
            ChunkState::Size => {
                self.spend(line.len().saturating_sub(PLAIN_LINE_BYTES))?;
                self.state = match size(line)? {
                    0 => ChunkState::Trailers,
                    // Refused as soon as the size is declared, without waiting for the data.
                    size => {
                        self.allowed = self.allowed.checked_sub(size).ok_or(Refusal::BodyTooLarge)?;
                        ChunkState::Data(size)
                    }
                };
            }
            ChunkState::AfterData => self.state = ChunkState::Size,
            ChunkState::Trailers if line.is_empty() => self.state = ChunkState::Done,
            ChunkState::Trailers => {
                self.spend(line.len() + 2)?;
                head::check_field(&[line, b"\r\n"].concat())?;
            }
            ChunkState::Data(_) | ChunkState::Done => {}
        }
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.overhead += bytes;
        if self.overhead > MAX_OVERHEAD_BYTES {
            return Err(Refusal::BadRequest("chunk extensions and trailers are over the limit"));
        }
        Ok(())
    }
}

/// Parses `chunk-size [ chunk-ext ]`: hexadecimal digits, and extensions that are checked and ignored. Blanks
/// after the digits are accepted, as in Puma.
fn size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extensions) = line.split_at(digits);
    let extensions = without_blanks(extensions);
    if digits.is_empty() || !matches!(extensions.first(), None | Some(b';')) {
        return Err(Refusal::BadRequest("a chunk size is not a number"));
    }
    if !are_extensions(extensions) {
        return Err(Refusal::BadRequest("a chunk extension is malformed"));
    }
    let digits = std::str::from_utf8(digits).unwrap_or_default();
    u64::from_str_radix(digits, 16).map_err(|_| Refusal::BodyTooLarge)
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 7.1.1).
fn are_extensions(mut rest: &[u8]) -> bool {
    while let Some(extension) = rest.strip_prefix(b";") {
        let (name, behind) = token(without_blanks(extension));
        if name.is_empty() {
            return false;
        }
        rest = without_blanks(behind);
        if let Some(value) = rest.strip_prefix(b"=") {
            let value = without_blanks(value);
            let behind = match value.strip_prefix(b"\"") {
                Some(quoted) => behind_quoted(quoted),
                None => Some(token(value)).filter(|(word, _)| !word.is_empty()).map(|(_, behind)| behind),
            };
            let Some(behind) = behind else { return false };
            rest = without_blanks(behind);
        }
    }
    rest.is_empty()
}

fn without_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[blanks..]
}

fn token(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().take_while(|byte| head::is_token_byte(**byte)).count())
}

/// Returns the bytes after a quoted string whose opening quote has been removed. `None` if the string is not closed or
/// contains a control character.
fn behind_quoted(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        let (byte, behind) = rest.split_first()?;
        rest = match byte {
            b'"' => return Some(behind),
            b'\\' => behind.split_first().filter(|(quoted, _)| is_text_byte(**quoted))?.1,
            byte if is_text_byte(*byte) => behind,
            _ => return None,
        };
    }
}

fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BODY_BYTES: u64 = 10_000;

    /// Returns the data, whether the body is complete, and the number of bytes consumed. If the body is refused,
    /// returns the status.
    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, usize), u16> {
        let (mut chunks, mut out, mut taken) = (Chunks::with_limit(MAX_BODY_BYTES), Vec::new(), 0);
        for piece in pieces {
            let took = chunks.take(piece, |data| out.extend_from_slice(data));
            taken += took.map_err(Refusal::status)?;
        }
        Ok((out, chunks.is_done(), taken))
    }

    #[test]
    fn bodies_decode_the_same_in_one_piece_and_byte_by_byte() {
        for (bytes, expected) in [
            (&b"4\r\nwiki\r\n0\r\n\r\n"[..], Ok(&b"wiki"[..])),
            (b"4\r\nwiki\r\n5\r\npedia\r\n0\r\n\r\n", Ok(b"wikipedia")),
            (b"0004\r\nwiki\r\n0000\r\n\r\n", Ok(b"wiki")),
            (b"4;name=\"a;b\"\r\nwiki\r\n0;last\r\n\r\n", Ok(b"wiki")),
            (b"4 \t\r\nwiki\r\n0\r\n\r\n", Ok(b"wiki")),
            (b"4 ; a ;b = c;d=\"\\\"\";e\r\nwiki\r\n0\r\n\r\n", Ok(b"wiki")),
            (b"00000000000000000000000000000004\r\nwiki\r\n0\r\n\r\n", Ok(b"wiki")),
            (b"4;\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4;=b\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4;a=\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4;a b\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4;a=\"b\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4;a=\"\0\"\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4;a=\"b\"c\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"0\r\nno colon\r\n\r\n", Err(400)),
            (b"0\r\nX: 1\r\n folded\r\n\r\n", Err(400)),
            (b"0\r\nX : 1\r\n\r\n", Err(400)),
            (b"0\r\nX: \0\r\n\r\n", Err(400)),
            (b"4\r\nwiki\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", Ok(b"wiki")),
            (b"a\r\n0123456789\r\n0\r\n\r\n", Ok(b"0123456789")),
            (b"0\r\n\r\n", Ok(b"")),
            (b"\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b" 4\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"+4\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"0x4\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4.0\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4 4\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4\r\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4\x0c\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4;a\rb\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"0\r\nX: 1\r2\r\n\r\n", Err(400)),
            (b"3\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"5\r\nwiki\r\n0\r\n\r\n", Err(400)),
            (b"4\r\nwiki\n0\r\n\r\n", Err(400)),
            (b"0\r\nX: 1\n\r\n", Err(400)),
            (b"ffffffffffffffffffff\r\n", Err(413)),
        ] {
            let whole = decode(&[bytes]);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let said = String::from_utf8_lossy(bytes);
            assert_eq!(whole, decode(&single), "{said:?}");
            assert_eq!(whole.clone().map(|(data, ..)| data), expected.map(<[u8]>::to_vec), "{said:?}");
            if let Ok((_, done, taken)) = whole {
                assert!(done && taken == bytes.len(), "{said:?}");
            }
        }
    }

    #[test]
    fn a_size_over_the_limit_is_refused_when_it_is_declared() {
        for (bytes, expected) in [
            (&b"2710\r\n"[..], Ok(false)),
            (b"2711\r\n", Err(413)),
            (b"00002711;a=b\r\n", Err(413)),
            (b"7fffffffffffffff\r\n", Err(413)),
            (b"8000000000000000\r\n", Err(413)),
            (b"ffffffffffffffff\r\n", Err(413)),
            (b"10000000000000000\r\n", Err(413)),
            // The limit applies to all chunks together.
            (b"1\r\nx\r\n2710\r\n", Err(413)),
            (b"1\r\nx\r\n270f\r\n", Ok(false)),
            (b"1\r\nx\r\nffffffffffffffff\r\n", Err(413)),
        ] {
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            for pieces in [&[bytes][..], &single] {
                let done = decode(pieces).map(|(_, done, _)| done);
                assert_eq!(done, expected, "{}", String::from_utf8_lossy(bytes));
            }
        }
    }

    #[test]
    fn bytes_after_the_body_are_not_consumed() {
        let (data, done, taken) = decode(&[b"1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n"]).unwrap();
        assert_eq!((data.as_slice(), done, taken), (&b"x"[..], true, 11));
    }

    #[test]
    fn bytes_that_are_not_data_are_limited() {
        let endless = |line: &str| decode(&vec![line.as_bytes(); 20_000]).unwrap_err();
        assert_eq!(endless("1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n"), 400);
        let mut trailers = vec![&b"0\r\n"[..]];
        trailers.extend(vec![&b"X-Drip: 1\r\n"[..]; 20_000]);
        assert_eq!(decode(&trailers).unwrap_err(), 400);
        assert_eq!(decode(&[&[b'0'; 5_000]]).unwrap_err(), 400);
        // Ten thousand chunks of one byte are data and pass.
        assert_eq!(decode(&vec![&b"1\r\nx\r\n"[..]; 10_000]).unwrap().0.len(), 10_000);
    }
}
