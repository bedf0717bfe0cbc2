//! Why a request is not served, and what its client is told: one line, and the
//! end of the connection, since where the next request begins is not known.

use http::StatusCode;
use thiserror::Error;

use super::first_line::Version;

/// A request that is answered without the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// 400.
    #[error("{0}")]
    BadRequest(&'static str),
    /// 408.
    #[error("the rest of the request did not come in time")]
    RequestTimeout,
    /// 413.
    #[error("the body is over the limit")]
    BodyTooLarge,
    /// 414.
    #[error("the request target is over the limit")]
    TargetTooLong,
    /// 431.
    #[error("{0}")]
    HeadTooLarge(&'static str),
    /// 501.
    #[error("{0}")]
    NotImplemented(&'static str),
    /// 503: the limit on connections.
    #[error("the server has all the connections that it can have")]
    TooManyConnections,
    /// 503: the server stops.
    #[error("the server is stopping")]
    Stopping,
    /// 503: the limit on large bodies.
    #[error("there is no room for a body of that size now")]
    NoRoomForBody,
    /// 503: the limit on unfinished requests.
    #[error("unfinished requests take all the memory that --max-pending-bytes allows them")]
    TooManyPending,
    /// 505.
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    BadVersion,
}

impl Refusal {
    /// The status that it is answered with.
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

    /// The whole answer. An unreadable request line is answered in HTTP/1.0, as
    /// Puma does, since the version of its client is not known. An answer to HEAD has no body.
    pub fn answer(self, version: Version, is_for_head: bool) -> Vec<u8> {
        let line = format!("{self}\n");
        // Each 503 is of a state that passes.
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
