//! Why a request is not served, and what its client is told: one line, and the
//! end of the connection, since where the next request begins is not known.

use thiserror::Error;

/// A request that is answered without the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("the rest of the request did not come in time")]
    RequestTimeout,
    #[error("the body is over the limit")]
    BodyTooLarge,
    #[error("the request target is over the limit")]
    TargetTooLong,
    #[error("{0}")]
    HeadTooLarge(&'static str),
    #[error("{0}")]
    NotImplemented(&'static str),
    #[error("the server has all the connections that it can have")]
    TooManyConnections,
    #[error("the server is stopping")]
    Stopping,
    #[error("there is no room for a body of that size now")]
    NoRoomForBody,
    #[error("unfinished requests take all the memory that --max-pending-bytes allows them")]
    TooManyPending,
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    BadVersion,
}

impl Refusal {
    pub fn status(self) -> u16 {
        match self {
            Refusal::BadRequest(_) => 400,
            Refusal::RequestTimeout => 408,
            Refusal::BodyTooLarge => 413,
            Refusal::TargetTooLong => 414,
            Refusal::HeadTooLarge(_) => 431,
            Refusal::NotImplemented(_) => 501,
            Refusal::TooManyConnections
            | Refusal::Stopping
            | Refusal::NoRoomForBody
            | Refusal::TooManyPending => 503,
            Refusal::BadVersion => 505,
        }
    }

    /// The whole answer. An unreadable request line is answered in HTTP/1.0, as
    /// Puma does, since the version of its client is not known. An answer to HEAD has no body.
    pub fn answer(self, is_http11: bool, is_for_head: bool) -> Vec<u8> {
        let version = if is_http11 { "HTTP/1.1" } else { "HTTP/1.0" };
        let line = format!("{self}\n");
        // Each 503 is of a state that passes.
        let again = if self.status() == 503 { "retry-after: 1\r\n" } else { "" };
        let body = if is_for_head { "" } else { &line };
        format!(
            "{version} {}\r\ncontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n{again}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            super::status::code_and_reason(self.status()),
            line.len(),
        )
        .into_bytes()
    }
}
