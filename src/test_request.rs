//! Builds requests for unit tests.

use ninetabs_server::Request;
use ninetabs_server::request::Version;

/// A GET of this target with these fields. Without a `Host`, it is an HTTP/1.0 request, because HTTP/1.1 requires one.
pub fn with_fields(target: &str, fields: &[(&str, &str)]) -> Request {
    let has_host = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let version = if has_host { Version::Http11 } else { Version::Http10 };
    let request = Request::builder().path(target).version(version);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(name, value));
    request.build().unwrap()
}
