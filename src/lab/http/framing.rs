//! The framing of an answer's body: counted, chunked, or until the connection closes.

use super::coding::{Coding, elements};
use super::head::Reading;
use super::{Head, HttpError};

/// How the end of a body is determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Counted(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    /// The framing, and the transfer codings inside it, in the order in which they were applied.
    pub(super) fn of(head: &Head, reading: Reading) -> Result<(Framing, Vec<Coding>), HttpError> {
        match reading {
            Reading::Strict => Framing::strictly(head).map(|framing| (framing, Vec::new())),
            Reading::Browser => Framing::as_browser(head),
        }
    }

    /// Decides as Chromium does, except that an unknown transfer coding is refused. Chromium would
    /// pass on bytes that it cannot decode.
    fn as_browser(head: &Head) -> Result<(Framing, Vec<Coding>), HttpError> {
        if matches!(head.status, 100..200 | 204 | 205 | 304) {
            return Ok((Framing::Counted(0), Vec::new()));
        }
        // Transfer codings are new in HTTP/1.1.
        if head.minor_version > 0 {
            let codings = Coding::list(head, "transfer-encoding", |name| name == "chunked")?;
            let names = elements(head, "transfer-encoding");
            if names.iter().any(|name| name.eq_ignore_ascii_case("chunked")) {
                return Ok((Framing::Chunked, codings));
            }
            if !codings.is_empty() {
                return Ok((Framing::UntilClose, codings));
            }
        }
        let lengths = elements(head, "content-length");
        let Some(first) = lengths.first() else { return Ok((Framing::UntilClose, Vec::new())) };
        if let Some(other) = lengths.iter().find(|other| *other != first) {
            let what = format!("Content-Length has two different values, {first} and {other}");
            return Err(HttpError::BadFraming { what });
        }
        // A value that is not a number counts as missing.
        let length = Some(first).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let framing = length.and_then(|text| text.parse().ok()).map_or(Framing::UntilClose, Framing::Counted);
        Ok((framing, Vec::new()))
    }

    fn strictly(head: &Head) -> Result<Framing, HttpError> {
        if matches!(head.status, 100..200 | 204 | 304) {
            return Ok(Framing::Counted(0));
        }
        if let Some(coding) = head.header("transfer-encoding") {
            let last = coding.rsplit(',').next().unwrap_or_default().trim();
            let chunked = last.eq_ignore_ascii_case("chunked");
            return Ok(if chunked { Framing::Chunked } else { Framing::UntilClose });
        }
        let mut lengths = head.values("content-length");
        let Some(first) = lengths.next() else { return Ok(Framing::UntilClose) };
        let length = std::str::from_utf8(first).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        match length.and_then(|text| text.parse().ok()) {
            Some(length) if lengths.all(|other| other == first) => Ok(Framing::Counted(length)),
            _ => Err(HttpError::BadFraming {
                what: "Content-Length is not a number, or has several values".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, headers: &[(&str, &str)]) -> Head {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        Head { status, headers: headers.collect(), minor_version: 1 }
    }

    fn framing(status: u16, headers: &[(&str, &str)]) -> Option<Framing> {
        Framing::of(&head(status, headers), Reading::Strict).ok().map(|(framing, _)| framing)
    }

    #[test]
    fn a_browser_frames_a_body_by_these_rules() {
        const LENGTH: &str = "Content-Length";
        const CODING: &str = "Transfer-Encoding";
        let plain = |framing| Some((framing, Vec::new()));
        for (fields, expected) in [
            (&[][..], plain(Framing::UntilClose)),
            (&[(LENGTH, "15")], plain(Framing::Counted(15))),
            (&[(LENGTH, "15, 15")], plain(Framing::Counted(15))),
            (&[(LENGTH, "15"), (LENGTH, "15")], plain(Framing::Counted(15))),
            (&[(LENGTH, "15,")], plain(Framing::Counted(15))),
            (&[(LENGTH, "15, 16")], None),
            (&[(LENGTH, "15"), (LENGTH, "16")], None),
            (&[(LENGTH, "15"), (LENGTH, "015")], None),
            // Chromium treats these like a missing length.
            (&[(LENGTH, "+15")], plain(Framing::UntilClose)),
            (&[(LENGTH, "-15")], plain(Framing::UntilClose)),
            (&[(LENGTH, "1 5")], plain(Framing::UntilClose)),
            (&[(LENGTH, "")], plain(Framing::UntilClose)),
            (&[(LENGTH, "99999999999999999999999")], plain(Framing::UntilClose)),
            (&[(CODING, "chunked")], plain(Framing::Chunked)),
            (&[(CODING, "CHUNKED")], plain(Framing::Chunked)),
            (&[(CODING, "chunked, chunked")], plain(Framing::Chunked)),
            (&[(CODING, "chunked"), (CODING, "chunked")], plain(Framing::Chunked)),
            (&[(CODING, "identity, chunked")], plain(Framing::Chunked)),
            (&[(CODING, "identity"), (LENGTH, "15")], plain(Framing::Counted(15))),
            (&[(CODING, ""), (LENGTH, "15")], plain(Framing::Counted(15))),
            (&[(CODING, "chunked"), (LENGTH, "3"), (LENGTH, "4")], plain(Framing::Chunked)),
            (&[(CODING, "gzip, chunked")], Some((Framing::Chunked, vec![Coding::Gzip]))),
            (&[(CODING, "x-gzip"), (LENGTH, "3")], Some((Framing::UntilClose, vec![Coding::Gzip]))),
            (&[(CODING, "compress, chunked")], None),
            (&[(CODING, "gzip,gzip,gzip,gzip,gzip,chunked")], None),
        ] {
            let found = Framing::of(&head(200, fields), Reading::Browser).ok();
            assert_eq!(found, expected, "{fields:?}");
        }
        for status in [204, 205, 304] {
            let found = Framing::of(&head(status, &[(LENGTH, "3")]), Reading::Browser).unwrap();
            assert_eq!(found.0, Framing::Counted(0));
        }
        let old = Head { minor_version: 0, ..head(200, &[(CODING, "chunked"), (LENGTH, "3")]) };
        assert_eq!(Framing::of(&old, Reading::Browser).unwrap().0, Framing::Counted(3));
    }

    #[test]
    fn the_head_decides_how_the_body_ends() {
        assert_eq!(framing(200, &[]), Some(Framing::UntilClose));
        assert_eq!(framing(200, &[("Content-Length", "3")]), Some(Framing::Counted(3)));
        assert_eq!(
            framing(200, &[("content-length", "3"), ("Content-Length", "3")]),
            Some(Framing::Counted(3))
        );
        assert_eq!(framing(200, &[("Content-Length", "3"), ("Content-Length", "4")]), None);
        assert_eq!(framing(200, &[("Content-Length", "+3")]), None);
        assert_eq!(framing(200, &[("Content-Length", "")]), None);
        assert_eq!(
            framing(200, &[("Transfer-Encoding", "Chunked"), ("Content-Length", "3")]),
            Some(Framing::Chunked)
        );
        assert_eq!(framing(200, &[("Transfer-Encoding", "gzip")]), Some(Framing::UntilClose));
        assert_eq!(framing(204, &[("Transfer-Encoding", "chunked")]), Some(Framing::Counted(0)));
        assert_eq!(framing(304, &[]), Some(Framing::Counted(0)));
    }
}
