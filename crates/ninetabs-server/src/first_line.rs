//! The parts of the first line of requests and answers: the HTTP version, and the reason phrase of a status.

use http::StatusCode;

/// The HTTP version of a request. It decides how the answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    /// Returns the version as it is written in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

/// The reason phrase of a status. Where Puma's table (Rack's) differs from the `http` crate, Puma's phrase is
/// used. A code without a phrase gets `CUSTOM`, like a code that Puma does not know.
pub(crate) fn reason(status: StatusCode) -> &'static str {
    match status.as_u16() {
        422 => "Unprocessable Content",
        _ => status.canonical_reason().unwrap_or("CUSTOM"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_the_reason_phrase_that_puma_uses() {
        for (code, wanted) in [
            (100, "Continue"),
            (101, "Switching Protocols"),
            (200, "OK"),
            (201, "Created"),
            (202, "Accepted"),
            (204, "No Content"),
            (303, "See Other"),
            (304, "Not Modified"),
            (400, "Bad Request"),
            (401, "Unauthorized"),
            (403, "Forbidden"),
            (404, "Not Found"),
            (405, "Method Not Allowed"),
            (408, "Request Timeout"),
            (413, "Payload Too Large"),
            (414, "URI Too Long"),
            (422, "Unprocessable Content"),
            (429, "Too Many Requests"),
            (431, "Request Header Fields Too Large"),
            (500, "Internal Server Error"),
            (501, "Not Implemented"),
            (503, "Service Unavailable"),
            (505, "HTTP Version Not Supported"),
            (299, "CUSTOM"),
        ] {
            assert_eq!(reason(StatusCode::from_u16(code).unwrap()), wanted);
        }
    }
}
