//! The reasons to refuse a request. The client gets a one-line answer, and the connection ends, because the beginning
//! of the next request is unknown.

use http::StatusCode;
use thiserror::Error;

use super::first_line::Version;

/// Why a request is answered without calling the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// 400 Bad Request.
    #[error("{0}")]
    BadRequest(&'static str),
    /// 408 Request Timeout.
    #[error("the request was not complete before the timeout")]
    RequestTimeout,
    /// 413 Payload Too Large.
    #[error("the body is over the limit")]
    BodyTooLarge,
    /// 414 URI Too Long.
    #[error("the request target is over the limit")]
    TargetTooLong,
    /// 431 Request Header Fields Too Large.
    #[error("{0}")]
    HeadTooLarge(&'static str),
    /// 501 Not Implemented.
    #[error("{0}")]
    NotImplemented(&'static str),
    /// 503 Service Unavailable, because of the limit on connections.
    #[error("the server has reached its limit on connections")]
    TooManyConnections,
    /// 503 Service Unavailable, because the server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// 503 Service Unavailable, because of the limit on large bodies.
    #[error("cannot store a body of this size now")]
    NoRoomForBody,
    /// 503 Service Unavailable, because of the limit on incomplete requests.
    #[error("incomplete requests use all the memory that --max-pending-bytes allows")]
    TooManyPending,
    /// 505 HTTP Version Not Supported.
    #[error("only HTTP/1.0 and HTTP/1.1 are supported")]
    BadVersion,
}

impl Refusal {
    /// Returns the status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::BadRequest(_) => StatusCode::BAD_REQUEST,
            Refusal::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::TargetTooLong => StatusCode::URI_TOO_LONG,
            Refusal::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Refusal::TooManyConnections
            | Refusal::Stopping
            | Refusal::NoRoomForBody
            | Refusal::TooManyPending => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::BadVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    /// Returns the complete answer. A request with an unreadable request line is answered in HTTP/1.0, as in
    /// Puma, because the client's version is unknown. An answer to HEAD is sent without a body.
    pub fn answer(self, version: Version, is_for_head: bool) -> Vec<u8> {
        let line = format!("{self}\n");
        // Every 503 of this server is temporary.
        let again = if self.status() == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 1\r\n" } else { "" };
        let body = if is_for_head { "" } else { &line };
        format!(
            "{} {} {}\r\ncontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n{again}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            version.as_str(),
            self.status().as_str(),
            super::first_line::reason(self.status()),
            line.len(),
        )
        .into_bytes()
    }
}
