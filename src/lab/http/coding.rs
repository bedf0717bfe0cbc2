//! The codings of a body: gzip, deflate and br are decoded, and any other is refused by name.
//!
//! A client that ignored a coding would parse encoded bytes as a stream, and its tab would
//! reconnect forever. Chromium ignores an unknown coding; this client does not.
//!
//! Flushed bytes are returned immediately: a decoder reads more bytes only when it has returned
//! everything that the previous ones contained. It returns at most one buffer per read, so a
//! decompression bomb costs time, not memory. Limiting the size of the content is left to the caller.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::{Decompress, FlushDecompress, Status};

use super::{Body, Head, HttpError};

/// Maximum number of codings of one body.
pub const MAX_CODINGS: usize = 4;
/// Bytes that a decoder reads ahead.
const READ_AHEAD: usize = 4 * 1024;
/// The largest window of deflate.
const WINDOW_BITS: u8 = 15;

/// A coding that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    /// With zlib's header, as the standard requires, or without it, as some servers send it.
    Deflate,
    Brotli,
}

impl Coding {
    /// The codings of a field's values, in the order in which they were applied. `is_framing`
    /// recognizes names that do not change the content.
    pub(super) fn list(
        head: &Head,
        field: &'static str,
        is_framing: impl Fn(&str) -> bool,
    ) -> Result<Vec<Coding>, HttpError> {
        let mut codings = Vec::new();
        for name in elements(head, field) {
            match name.to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                "deflate" => codings.push(Coding::Deflate),
                "br" => codings.push(Coding::Brotli),
                "identity" => {}
                other if is_framing(other) => {}
                _ => return Err(HttpError::UnknownCoding { field, coding: name }),
            }
        }
        if codings.len() > MAX_CODINGS {
            let coding = format!("{} nested codings", codings.len());
            return Err(HttpError::UnknownCoding { field, coding });
        }
        Ok(codings)
    }
}

/// The elements of a list field, over all of its values; empty ones are skipped.
pub(super) fn elements(head: &Head, field: &'static str) -> Vec<String> {
    let values = head.values(field).map(|value| String::from_utf8_lossy(value).into_owned());
    let elements =
        values.flat_map(|value| value.split(',').map(|it| it.trim().to_owned()).collect::<Vec<_>>());
    elements.filter(|element| !element.is_empty()).collect()
}

/// The decoded content of a body. The coding that was applied last is decoded first. A body whose
/// coding is broken fails with `InvalidData`, and one that ends early fails with `UnexpectedEof`.
pub struct Content(Box<dyn Read + Send>);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Content")
    }
}

impl Content {
    /// The content of this answer's body.
    pub fn of(head: &Head, body: Body) -> Result<Content, HttpError> {
        let content = Coding::list(head, "content-encoding", |_| false)?;
        let transfer = body.transfer_codings().to_vec();
        let plain: Box<dyn Read + Send> = Box::new(body);
        // The transfer codings were applied last.
        let undone = transfer.into_iter().rev().chain(content.into_iter().rev());
        Ok(Content(undone.fold(plain, undo)))
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

fn undo(source: Box<dyn Read + Send>, coding: Coding) -> Box<dyn Read + Send> {
    match coding {
        Coding::Gzip | Coding::Deflate => Box::new(Inflating::new(source, coding)),
        Coding::Brotli => Box::new(Unbrotli::new(source)),
    }
}

/// Decodes gzip and deflate.
struct Inflating<R> {
    source: BufReader<R>,
    coding: Coding,
    inflate: Option<Decompress>,
    /// Whether the last buffer was filled. If so, there may be more output without another byte of
    /// input.
    owes: bool,
    /// Whether the last member has ended.
    is_ended: bool,
    is_broken: bool,
}

impl<R: Read> Inflating<R> {
    fn new(source: R, coding: Coding) -> Self {
        let source = BufReader::with_capacity(READ_AHEAD, source);
        Inflating { source, coding, inflate: None, owes: false, is_ended: false, is_broken: false }
    }

    /// The decoder for the member that begins with this byte.
    fn begin(&mut self, first: u8) {
        // Deflate without a header begins with such a byte only if an encoder fills its padding
        // with ones.
        let is_zlib = first & 0x0f == 8 && first >> 4 <= 7;
        self.inflate = Some(match self.coding {
            Coding::Gzip => Decompress::new_gzip(WINDOW_BITS),
            _ => Decompress::new(is_zlib),
        });
        (self.is_ended, self.owes) = (false, false);
    }

    /// Continues after the end of a member. Another gzip member is decoded. Any other bytes are
    /// skipped, as in Chromium. Returns `false` at the end of the body.
    fn goes_on(&mut self) -> io::Result<bool> {
        loop {
            let rest = self.source.fill_buf()?;
            match rest {
                [] => return Ok(false),
                [0x1f, ..] if self.coding == Coding::Gzip => {
                    self.begin(0x1f);
                    return Ok(true);
                }
                _ => {
                    let length = rest.len();
                    self.source.consume(length);
                    // The skipped bytes are not searched for another member.
                    self.coding = Coding::Deflate;
                }
            }
        }
    }
}

impl<R: Read> Read for Inflating<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.is_broken {
                return Err(broken(self.coding));
            }
            if self.is_ended && !self.goes_on()? {
                return Ok(0);
            }
            if self.inflate.is_none() {
                let Some(first) = self.source.fill_buf()?.first().copied() else { return Ok(0) };
                self.begin(first);
            }
            let Some(inflate) = &mut self.inflate else { continue };
            let input = if self.owes { self.source.buffer() } else { self.source.fill_buf()? };
            let is_over = input.is_empty() && !self.owes;
            let before = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(input, buffer, FlushDecompress::None);
            let (taken, given) = (inflate.total_in() - before.0, inflate.total_out() - before.1);
            self.source.consume(taken as usize);
            self.owes = given as usize == buffer.len();
            match status {
                Ok(Status::StreamEnd) => self.is_ended = true,
                Ok(Status::Ok | Status::BufError) => {}
                // The bytes before the error are returned first.
                Err(_) => self.is_broken = true,
            }
            if given > 0 {
                return Ok(given as usize);
            }
            if is_over && !self.is_ended && !self.is_broken {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Decodes br.
struct Unbrotli<R: Read> {
    decoder: brotli_decompressor::Decompressor<Ending<R>>,
    is_over: Arc<AtomicBool>,
}

/// A reader that remembers whether it has ended, because the decoder does not distinguish missing
/// bytes from wrong ones.
struct Ending<R> {
    source: R,
    is_over: Arc<AtomicBool>,
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.is_over.fetch_or(read == 0, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Read> Unbrotli<R> {
    fn new(source: R) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let source = Ending { source, is_over: Arc::clone(&is_over) };
        Unbrotli { decoder: brotli_decompressor::Decompressor::new(source, READ_AHEAD), is_over }
    }
}

impl<R: Read> Read for Unbrotli<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer).map_err(|error| match error.kind() {
            ErrorKind::InvalidData if self.is_over.load(Ordering::Relaxed) => ErrorKind::UnexpectedEof.into(),
            ErrorKind::InvalidData => broken(Coding::Brotli),
            _ => error,
        })
    }
}

fn broken(coding: Coding) -> io::Error {
    let name = match coding {
        Coding::Gzip => "gzip",
        Coding::Deflate => "deflate",
        Coding::Brotli => "br",
    };
    io::Error::new(ErrorKind::InvalidData, format!("the body is not valid {name}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// A stored block of br, which needs no encoder. It holds at most 65536 bytes.
    fn brotli(text: &[u8]) -> Vec<u8> {
        let length = text.len() as u32 - 1;
        // A window of 16 bits, not the last block, four nibbles of length, not compressed.
        let bits = length << 4 | 1 << 20;
        let mut bytes = bits.to_le_bytes()[..3].to_vec();
        bytes.extend_from_slice(text);
        bytes.push(0b11);
        bytes
    }

    fn undone(coding: Coding, bytes: &[u8]) -> (Vec<u8>, Option<ErrorKind>) {
        let mut reader = undo(Box::new(io::Cursor::new(bytes.to_vec())), coding);
        let mut out = Vec::new();
        let error = reader.read_to_end(&mut out).err().map(|error| error.kind());
        (out, error)
    }

    #[test]
    fn each_coding_is_decoded() {
        let text: Vec<u8> = (0..50_000_u32).flat_map(|n| format!("data: {n}\n\n").into_bytes()).collect();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text).unwrap();
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::default());
        bare.write_all(&text).unwrap();
        for (coding, bytes) in [
            (Coding::Gzip, gzip(&text)),
            (Coding::Deflate, zlib.finish().unwrap()),
            (Coding::Deflate, bare.finish().unwrap()),
        ] {
            assert_eq!(undone(coding, &bytes), (text.clone(), None), "{coding:?}");
            let (out, error) = undone(coding, &bytes[..bytes.len() / 2]);
            assert!(text.starts_with(&out) && out.len() > 1000, "{coding:?}");
            assert_eq!(error, Some(ErrorKind::UnexpectedEof), "{coding:?}");
        }
        assert_eq!(undone(Coding::Brotli, &brotli(b"data: x\n\n")), (b"data: x\n\n".to_vec(), None));
        assert_eq!(
            undone(Coding::Brotli, &brotli(b"data: x\n\n")[..8]),
            (b"data:".to_vec(), Some(ErrorKind::UnexpectedEof))
        );
    }

    #[test]
    fn several_members_are_decoded_and_garbage_after_them_is_skipped() {
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(undone(Coding::Gzip, &two), (b"one two".to_vec(), None));
        let trailed = [gzip(b"one"), b"garbage\x1f\x8b".to_vec()].concat();
        assert_eq!(undone(Coding::Gzip, &trailed), (b"one".to_vec(), None));
        assert_eq!(undone(Coding::Gzip, b""), (Vec::new(), None));
    }

    #[test]
    fn a_body_in_another_coding_is_invalid() {
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli] {
            assert_eq!(undone(coding, b"id: 1\ndata: a\n\n").1, Some(ErrorKind::InvalidData), "{coding:?}");
        }
        let mut bad_sum = gzip(b"data: x\n\n");
        let end = bad_sum.len() - 8;
        bad_sum[end] ^= 1;
        assert_eq!(undone(Coding::Gzip, &bad_sum), (b"data: x\n\n".to_vec(), Some(ErrorKind::InvalidData)));
    }

    /// Returns one piece for each read, and panics if there is none left.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert!(!self.0.is_empty(), "more input was read before all decoded bytes were returned");
            let piece = &mut self.0[0];
            let length = piece.len().min(buffer.len());
            buffer[..length].copy_from_slice(&piece[..length]);
            piece.drain(..length);
            self.0.retain(|piece| !piece.is_empty());
            Ok(length)
        }
    }

    #[test]
    fn flushed_bytes_are_returned_before_more_input_is_read() {
        // The events are repetitive, so few bytes of input decode to more than a buffer of output.
        let events: Vec<Vec<u8>> = [1, 100, 100_000].map(|size| vec![b'x'; size]).to_vec();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let mut pieces = Vec::new();
        for event in &events {
            encoder.write_all(event).unwrap();
            encoder.flush().unwrap();
            pieces.push(std::mem::take(encoder.get_mut()));
        }
        for buffer_size in [1, 7, 1000, 16 * 1024] {
            let mut source = undo(Box::new(Pieces(pieces.clone())), Coding::Gzip);
            let mut buffer = vec![0; buffer_size];
            for event in &events {
                let mut came = 0;
                while came < event.len() {
                    came += source.read(&mut buffer).unwrap();
                }
                assert_eq!(came, event.len());
            }
        }
    }
}
