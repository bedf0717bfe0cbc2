//! The reason phrase that goes with a status.

use http::StatusCode;

/// A status as its line says it, code and reason. Where Puma's table (Rack's) has another reason than
/// the `http` crate, Puma's is taken. A code without a reason says `CUSTOM`, as Puma's unknown ones do.
pub(crate) fn code_and_reason(status: StatusCode) -> String {
    let reason = match status.as_u16() {
        422 => "Unprocessable Content",
        _ => status.canonical_reason().unwrap_or("CUSTOM"),
    };
    format!("{} {reason}", status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_the_reason_that_puma_gives_it() {
        for (code, line) in [
            (100, "100 Continue"),
            (101, "101 Switching Protocols"),
            (200, "200 OK"),
            (201, "201 Created"),
            (202, "202 Accepted"),
            (204, "204 No Content"),
            (303, "303 See Other"),
            (304, "304 Not Modified"),
            (400, "400 Bad Request"),
            (401, "401 Unauthorized"),
            (403, "403 Forbidden"),
            (404, "404 Not Found"),
            (405, "405 Method Not Allowed"),
            (408, "408 Request Timeout"),
            (413, "413 Payload Too Large"),
            (414, "414 URI Too Long"),
            (422, "422 Unprocessable Content"),
            (429, "429 Too Many Requests"),
            (431, "431 Request Header Fields Too Large"),
            (500, "500 Internal Server Error"),
            (501, "501 Not Implemented"),
            (503, "503 Service Unavailable"),
            (505, "505 HTTP Version Not Supported"),
            (299, "299 CUSTOM"),
        ] {
            assert_eq!(code_and_reason(StatusCode::from_u16(code).unwrap()), line);
        }
    }
}
