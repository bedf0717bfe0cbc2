//! Framing: where a body ends and the next message begins.
//!
//! The framing of a request is decided in one pure function, [`of_request`]. It has four results: no body, a counted
//! body, a chunked body, or a refusal with its status. Every known request-smuggling technique has a row in its test
//! table. The framing of an answer is an [`AnswerFraming`]. The decisions follow Puma::Client#setup_body; docs/puma.md
//! lists where they are stricter.

use super::first_line::Version;
use super::head::RequestHead;
use super::refusal::Refusal;

/// How the end of an answer's body is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFraming {
    /// Nothing follows the head.
    None,
    /// The body has this many bytes.
    Counted(usize),
    /// The body is sent in chunks.
    Chunked,
    /// HTTP/1.0: the body ends when the connection closes.
    UntilClose,
}

/// How a streamed body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerEnd {
    /// The body is complete, and is framed as complete.
    Clean,
    /// The body was cut off. The client must not treat it as complete.
    Cut,
}

/// Whether a connection is kept open after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAnswer {
    /// Another request may follow.
    Keep,
    /// This is the last answer.
    Close,
}

impl AfterAnswer {
    /// Returns `Keep` if `is_kept`, otherwise `Close`.
    pub fn kept_if(is_kept: bool) -> AfterAnswer {
        if is_kept { AfterAnswer::Keep } else { AfterAnswer::Close }
    }
}

/// How a request's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFraming {
    /// Nothing follows the head.
    None,
    /// The body has this many bytes.
    Counted(u64),
    /// The body is sent in chunks.
    Chunked {
        /// Whether another request may follow. It may not if a length was given as well, nor in HTTP/1.0, which does
        /// not define chunks: in both cases a proxy might determine a different end of the body.
        may_be_followed: bool,
    },
}

/// Codings that Puma accepts before `chunked`. They are not decoded.
const PASSED: [&str; 3] = ["gzip", "deflate", "compress"];

/// Decides how the body of this request is framed, or refuses the request.
pub fn of_request(head: &RequestHead, max_body_bytes: u64) -> Result<BodyFraming, Refusal> {
    let mut lengths = head.fields.values("content-length");
    let codings: Vec<&str> = head.fields.values("transfer-encoding").collect();
    let counted = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(length), None) => Some(content_length(length)?),
        (Some(_), Some(_)) => {
            return Err(Refusal::BadRequest("the request has more than one Content-Length"));
        }
    };
    if !codings.is_empty() {
        transfer_coding(&codings)?;
        let may_be_followed = counted.is_none() && head.version == Version::Http11;
        return Ok(BodyFraming::Chunked { may_be_followed });
    }
    match counted {
        None | Some(0) => Ok(BodyFraming::None),
        Some(length) if length > max_body_bytes => Err(Refusal::BodyTooLarge),
        Some(length) => Ok(BodyFraming::Counted(length)),
    }
}

/// Parses a number that consists of digits only. A value that does not fit into a `u64` becomes `u64::MAX`, which is
/// above any limit.
fn content_length(value: &str) -> Result<u64, Refusal> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::BadRequest("Content-Length is not a number"));
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

/// Checks that `chunked` appears once and last, after codings that Puma accepts.
pub(super) fn transfer_coding(values: &[&str]) -> Result<(), Refusal> {
    let joined = values.join(",");
    let codings: Vec<String> =
        joined.split(',').map(|coding| coding.trim_matches([' ', '\t']).to_ascii_lowercase()).collect();
    if codings.iter().any(|coding| coding != "chunked" && !PASSED.contains(&coding.as_str())) {
        return Err(Refusal::NotImplemented("the transfer coding is not supported"));
    }
    let chunked = codings.iter().filter(|coding| *coding == "chunked").count();
    if chunked != 1 || codings.last().is_none_or(|last| last != "chunked") {
        return Err(Refusal::BadRequest("the last transfer coding must be chunked, exactly once"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::head;

    fn framed(method: &str, version: &str, fields: &str) -> Result<BodyFraming, u16> {
        let head = head(&format!("{method} / {version}\r\nHost: a\r\n{fields}\r\n"));
        of_request(&head, 1000).map_err(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn every_way_to_frame_a_body_has_a_result() {
        let chunked = Ok(BodyFraming::Chunked { may_be_followed: true });
        for (fields, expected) in [
            ("", Ok(BodyFraming::None)),
            ("Content-Length: 0\r\n", Ok(BodyFraming::None)),
            ("Content-Length: 8\r\n", Ok(BodyFraming::Counted(8))),
            ("Content-Length: 0008\r\n", Ok(BodyFraming::Counted(8))),
            ("CONTENT-length:8\r\n", Ok(BodyFraming::Counted(8))),
            ("Content-Length: 1000\r\n", Ok(BodyFraming::Counted(1000))),
            ("Content-Length: 1001\r\n", Err(413)),
            ("Content-Length: 18446744073709551616\r\n", Err(413)),
            ("Content-Length: 99999999999999999999999\r\n", Err(413)),
            ("Content-Length:\r\n", Err(400)),
            ("Content-Length: +8\r\n", Err(400)),
            ("Content-Length: -8\r\n", Err(400)),
            ("Content-Length: 8.0\r\n", Err(400)),
            ("Content-Length: 0x8\r\n", Err(400)),
            ("Content-Length: 8 8\r\n", Err(400)),
            ("Content-Length: 8, 8\r\n", Err(400)),
            ("Content-Length: 8\r\nContent-Length: 8\r\n", Err(400)),
            ("Content-Length: 8\r\nContent-Length: 9\r\n", Err(400)),
            ("Content_Length: 8\r\n", Ok(BodyFraming::None)),
            ("Transfer-Encoding: chunked\r\n", chunked),
            ("Transfer-Encoding: CHUNKED\r\n", chunked),
            ("Transfer-Encoding: \t chunked \r\n", chunked),
            ("Transfer-Encoding: gzip, chunked\r\n", chunked),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", chunked),
            ("Transfer-Encoding: deflate, gzip\r\nTransfer-Encoding: compress, Chunked\r\n", chunked),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", Err(400)),
            ("Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", Err(501)),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                Ok(BodyFraming::Chunked { may_be_followed: false }),
            ),
            ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\nContent-Length: 4\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\nContent-Length: x\r\n", Err(400)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(400)),
            ("Transfer-Encoding: chunked, gzip\r\n", Err(400)),
            ("Transfer-Encoding: gzip\r\n", Err(400)),
            ("Transfer-Encoding:\r\n", Err(501)),
            ("Transfer-Encoding: ,chunked\r\n", Err(501)),
            ("Transfer-Encoding: chunked,\r\n", Err(501)),
            ("Transfer-Encoding: identity\r\n", Err(501)),
            ("Transfer-Encoding: xchunked\r\n", Err(501)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(501)),
            ("Transfer-Encoding: chunked;q=1\r\n", Err(501)),
            ("Transfer_Encoding: chunked\r\n", Ok(BodyFraming::None)),
        ] {
            // The method makes no difference. In HTTP/1.0, no request may follow a chunked body.
            let last = match expected {
                Ok(BodyFraming::Chunked { .. }) => Ok(BodyFraming::Chunked { may_be_followed: false }),
                other => other,
            };
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "QUERY"] {
                assert_eq!(framed(method, "HTTP/1.1", fields), expected, "{method} {fields:?}");
                assert_eq!(framed(method, "HTTP/1.0", fields), last, "{method} {fields:?}");
            }
        }
    }
}
