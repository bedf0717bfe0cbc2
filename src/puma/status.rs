//! The words that go with a status.

use std::borrow::Cow;

/// A status as its line says it, number and words; codes that the house does not send
/// say `CUSTOM`, as Puma's unknown ones do.
pub(super) fn code_and_reason(status: u16) -> Cow<'static, str> {
    Cow::Borrowed(match status {
        101 => "101 Switching Protocols",
        200 => "200 OK",
        201 => "201 Created",
        204 => "204 No Content",
        303 => "303 See Other",
        304 => "304 Not Modified",
        400 => "400 Bad Request",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        408 => "408 Request Timeout",
        413 => "413 Payload Too Large",
        414 => "414 URI Too Long",
        422 => "422 Unprocessable Content",
        431 => "431 Request Header Fields Too Large",
        500 => "500 Internal Server Error",
        501 => "501 Not Implemented",
        503 => "503 Service Unavailable",
        505 => "505 HTTP Version Not Supported",
        _ => return format!("{status} CUSTOM").into(),
    })
}
