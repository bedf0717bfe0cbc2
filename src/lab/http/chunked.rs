//! The chunked transfer coding of HTTP/1.1, from the receiver's side.
//!
//! A stream's client must pass on every byte as soon as it arrives, and must distinguish a body
//! that has ended from one that was cut off. A decoder that waits for the line end after a chunk
//! before it returns the chunk can do neither: the last event before a cut would be lost, and an
//! event whose line end arrives in the next packet would be late. This decoder returns data as soon
//! as it has arrived, accepts trailers, and limits the size of everything that is not data.
//!
//! It blocks when the underlying reader blocks. A read that failed with a timeout can be repeated
//! without losing data.

use std::io::{self, BufRead, ErrorKind, Read};

/// Maximum size of a chunk's size line with its extensions, and of all trailers together: 16 KiB.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// The part of the coding to which the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size,
    Data(u64),
    DataEnd,
    Trailers { seen: usize },
    End,
}

/// Reads a chunked body from `source`, and leaves everything after the body unread.
///
/// Reading fails with `UnexpectedEof` if the source ends before the body, and with `InvalidData` if
/// the coding is broken.
#[derive(Debug)]
pub struct ChunkedReader<R> {
    source: R,
    at: At,
    line: Vec<u8>,
}

impl<R: BufRead> ChunkedReader<R> {
    /// Creates a reader of a body that begins at the source's next byte.
    pub fn new(source: R) -> Self {
        ChunkedReader { source, at: At::Size, line: Vec::new() }
    }

    /// The underlying reader, whose bytes may be part of the coding.
    pub(super) fn source(&self) -> &R {
        &self.source
    }

    /// Like [`source`](Self::source), but mutable. Reading from it would break the decoding.
    pub(super) fn source_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// The next line without its end. An incomplete line is kept in `self.line`, so that a timeout
    /// in the middle of it loses nothing.
    fn line(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        loop {
            let bytes = self.source.fill_buf()?;
            if bytes.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let take = end.map_or(bytes.len(), |end| end + 1);
            self.line.extend_from_slice(&bytes[..take]);
            self.source.consume(take);
            if self.line.len() > limit {
                return Err(broken("a line of the chunked coding is too long"));
            }
            if end.is_some() {
                let mut line = std::mem::take(&mut self.line);
                line.pop();
                line.pop_if(|byte| *byte == b'\r');
                return Ok(line);
            }
        }
    }
}

impl<R: BufRead> Read for ChunkedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            self.at = match self.at {
                At::Size => match chunk_size(&self.line(MAX_LINE_BYTES)?)? {
                    0 => At::Trailers { seen: 0 },
                    size => At::Data(size),
                },
                At::Data(left) => {
                    let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let read = self.source.read(&mut buffer[..most])?;
                    if read == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    self.at = if read as u64 == left { At::DataEnd } else { At::Data(left - read as u64) };
                    return Ok(read);
                }
                At::DataEnd => {
                    if !self.line(MAX_LINE_BYTES)?.is_empty() {
                        return Err(broken("a chunk is longer than its declared size"));
                    }
                    At::Size
                }
                At::Trailers { seen } => match self.line(MAX_LINE_BYTES - seen)?.len() {
                    0 => At::End,
                    length => At::Trailers { seen: seen + length },
                },
                At::End => return Ok(0),
            };
        }
    }
}

/// The hexadecimal number at the beginning of a size line (RFC 9112, 7.1). It may have any number
/// of leading zeros; the largest value is 2^63 - 1, as in Chromium.
fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(broken("a chunk's size is not a hexadecimal number"));
    }
    let digits = digits.iter().map(|digit| char::from(*digit).to_digit(16).unwrap_or_default());
    let size = digits.fold(0, |size: u64, digit| size.saturating_mul(16).saturating_add(u64::from(digit)));
    if size > i64::MAX as u64 { Err(broken("a chunk's size is larger than 2^63 - 1")) } else { Ok(size) }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> (Vec<u8>, Result<Vec<u8>, ErrorKind>) {
        let mut body = Vec::new();
        let mut reader = ChunkedReader::new(bytes);
        match reader.read_to_end(&mut body) {
            Ok(_) => (body, Ok(reader.source.to_vec())),
            Err(error) => (body, Err(error.kind())),
        }
    }

    macro_rules! cases {
        ($($name:ident: $bytes:expr => $body:expr, $after:expr;)*) => {$(
            #[test]
            fn $name() {
                let (body, after) = decode($bytes);
                assert_eq!(body, $body, "the body");
                let expected: Result<&[u8], ErrorKind> = $after;
                assert_eq!(after.as_deref().map_err(|kind| *kind), expected, "what follows");
            }
        )*};
    }

    cases! {
        two_chunks: b"3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\nnext" => b"abc0123456789", Ok(b"next");
        an_empty_body: b"0\r\n\r\n" => b"", Ok(b"");
        extensions_and_trailers: b"1;a=b\r\nx\r\n0;c\r\nA: b\r\nC: d\r\n\r\nnext" => b"x", Ok(b"next");
        bare_line_feeds: b"1\nx\n0\n\n" => b"x", Ok(b"");
        a_whole_chunk_before_a_cut: b"3\r\nabc" => b"abc", Err(ErrorKind::UnexpectedEof);
        a_cut_in_a_chunk: b"4\r\nabc" => b"abc", Err(ErrorKind::UnexpectedEof);
        a_cut_in_a_size: b"1\r\na\r\n1" => b"a", Err(ErrorKind::UnexpectedEof);
        a_cut_before_the_trailers_end: b"0\r\nA: b\r\n" => b"", Err(ErrorKind::UnexpectedEof);
        a_chunk_too_long: b"1\r\nab\r\n" => b"a", Err(ErrorKind::InvalidData);
        a_size_that_is_not_a_number: b"x\r\n" => b"", Err(ErrorKind::InvalidData);
        a_signed_number: b"+1\r\na\r\n" => b"", Err(ErrorKind::InvalidData);
        a_number_too_large: b"11111111111111111\r\na\r\n" => b"", Err(ErrorKind::InvalidData);
        a_number_of_64_bits: b"ffffffffffffffff\r\na\r\n" => b"", Err(ErrorKind::InvalidData);
        a_number_of_many_zeros: b"000000000000000000000001\r\na\r\n0\r\n\r\n" => b"a", Ok(b"");
        a_blank_after_a_number: b"1 \t\r\na\r\n0\r\n\r\n" => b"a", Ok(b"");
        a_blank_before_a_number: b" 1\r\na\r\n" => b"", Err(ErrorKind::InvalidData);
        a_number_with_a_prefix: b"0x1\r\na\r\n" => b"", Err(ErrorKind::InvalidData);
        an_endless_size: &[b'1'; MAX_LINE_BYTES + 2] => b"", Err(ErrorKind::InvalidData);
        endless_trailers: &b"0\r\n".iter().chain(b"A: b\r\n".repeat(5000).iter()).copied().collect::<Vec<u8>>()
            => b"", Err(ErrorKind::InvalidData);
    }

    #[test]
    fn a_timeout_anywhere_loses_nothing() {
        /// Alternates between returning one byte and failing with "not yet".
        struct Hesitant(Vec<u8>, bool);
        impl Read for Hesitant {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(ErrorKind::WouldBlock.into());
                }
                let Some(byte) = self.0.pop() else { return Ok(0) };
                buffer[0] = byte;
                Ok(1)
            }
        }
        let coded: Vec<u8> = b"0b;x\r\nhello world\r\n0\r\nA: b\r\n\r\n".iter().rev().copied().collect();
        let mut reader = ChunkedReader::new(io::BufReader::new(Hesitant(coded, false)));
        let mut body = Vec::new();
        let mut piece = [0; 4];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => body.extend_from_slice(&piece[..read]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert_eq!((body.as_slice(), reader.at == At::End), (&b"hello world"[..], true));
    }
}
