//! A request of the lab's client: method, header fields, body, and the bytes on the wire.
//!
//! Method and names may come from a user's command line, so they are checked before anything is sent. A
//! field cannot add a line, and no field can contradict the length of the body.

use std::borrow::Cow;

use url::{Position, Url};

use super::HttpError;
use super::head::is_token_byte;

/// The name and the value of a header field. Values are bytes: a `Last-Event-ID` is raw UTF-8.
pub type Field = (Cow<'static, str>, Vec<u8>);

/// A header field with this name and value.
pub fn field(name: impl Into<Cow<'static, str>>, value: impl Into<Vec<u8>>) -> Field {
    (name.into(), value.into())
}

/// Adds the fields that a user gave. They replace every field of the same name, in any case. As in curl, a
/// given field without a value is not sent, but still removes the default.
pub fn replace_fields<N: Into<Cow<'static, str>>>(
    fields: &mut Vec<Field>,
    given: impl IntoIterator<Item = (N, Vec<u8>)>,
) {
    let given: Vec<Field> = given.into_iter().map(|(name, value)| (name.into(), value)).collect();
    fields.retain(|(name, _)| !given.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
    fields.extend(given.into_iter().filter(|(_, value)| !value.is_empty()));
}

/// Why the text of a header field cannot be used. No message repeats the value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The text lacks a colon.
    #[error("a header needs a colon; give 'Name: value'")]
    NoColon,
    /// The name is not a token of RFC 9110.
    #[error("{0:?} is not a valid header name; give 'Name: value'")]
    Name(String),
    /// The value has CR, LF or NUL.
    #[error("the value of {0} has a line break or a NUL, which a header cannot contain")]
    Value(String),
    /// The field belongs to the body's framing.
    #[error("{0} cannot be given: it is determined by the body")]
    Framing(String),
}

/// Reads a header field as users type it: `Name: value`. Blanks around the value are removed.
pub fn parse_field(text: &str) -> Result<(String, Vec<u8>), FieldError> {
    let (name, value) = text.split_once(':').ok_or(FieldError::NoColon)?;
    let value = value.trim_matches([' ', '\t']);
    if !is_token(name) {
        return Err(FieldError::Name(name.to_owned()));
    }
    if !is_value(value.as_bytes()) {
        return Err(FieldError::Value(name.to_owned()));
    }
    if ["content-length", "transfer-encoding"].iter().any(|other| name.eq_ignore_ascii_case(other)) {
        return Err(FieldError::Framing(name.to_owned()));
    }
    Ok((name.to_owned(), value.as_bytes().to_vec()))
}

/// The version of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestVersion {
    /// HTTP/1.0. It is sent with a `Host` nevertheless, as `curl --http1.0` does.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// A request, apart from its URL.
#[derive(Debug, Clone, Default)]
pub struct ClientRequest {
    /// The method; `GET` if empty. `HEAD` and `CONNECT` are refused, because their answers consist of a head only.
    pub method: Cow<'static, str>,
    /// Sent in this order. `Host` is sent before them, unless it is among them.
    pub headers: Vec<Field>,
    /// The body, if there is one. It is sent with its `Content-Length`.
    pub body: Option<Vec<u8>>,
    /// The version of the request line.
    pub version: RequestVersion,
}

impl ClientRequest {
    /// The bytes of a request for `url`.
    pub(super) fn encode(&self, url: &Url) -> Result<Vec<u8>, HttpError> {
        let method = if self.method.is_empty() { "GET" } else { &self.method };
        check_method(method)?;
        let target = &url[Position::BeforePath..Position::AfterQuery];
        let version = match self.version {
            RequestVersion::Http10 => "HTTP/1.0",
            RequestVersion::Http11 => "HTTP/1.1",
        };
        let mut bytes = format!("{method} {target} {version}\r\n").into_bytes();
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            let host = &url[Position::BeforeHost..Position::AfterPort];
            push(&mut bytes, "Host", host.as_bytes());
        }
        for (name, value) in &self.headers {
            if !is_token(name) {
                return Err(HttpError::BadHeaderName { name: name.clone() });
            }
            if !is_value(value) {
                return Err(HttpError::BadHeaderValue { name: name.clone() });
            }
            push(&mut bytes, name, value);
        }
        if let Some(body) = &self.body {
            push(&mut bytes, "Content-Length", body.len().to_string().as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        Ok(bytes)
    }
}

/// Refuses a method that is not a token, and one whose answer consists of a head only.
pub fn check_method(method: &str) -> Result<(), HttpError> {
    let bad = |why| Err(HttpError::BadMethod { method: method.to_owned(), why });
    match method {
        method if !is_token(method) => bad("it is not a valid method"),
        "HEAD" | "CONNECT" => bad("its answer has no body"),
        _ => Ok(()),
    }
}

fn push(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        bytes.extend_from_slice(part);
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_value(value: &[u8]) -> bool {
    !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(url: &str, request: &ClientRequest) -> String {
        String::from_utf8(request.encode(&Url::parse(url).unwrap()).unwrap()).unwrap()
    }

    fn fails(request: &ClientRequest) -> HttpError {
        request.encode(&Url::parse("http://localhost/").unwrap()).unwrap_err()
    }

    #[test]
    fn a_request_names_its_host_and_omits_the_fragment() {
        let request = ClientRequest { headers: vec![field("A", "b")], ..ClientRequest::default() };
        let expected = "GET /a?b=c HTTP/1.1\r\nHost: tab1.localhost:9292\r\nA: b\r\n\r\n";
        assert_eq!(sent("http://user@tab1.localhost:9292/a?b=c#d", &request), expected);
        assert!(
            sent("http://[::1]:80", &ClientRequest::default())
                .starts_with("GET / HTTP/1.1\r\nHost: [::1]\r\n")
        );
    }

    #[test]
    fn method_version_host_and_body_can_be_given() {
        let request = ClientRequest {
            method: "POST".to_owned().into(),
            headers: vec![field("host", "other")],
            body: Some(b"{}".to_vec()),
            version: RequestVersion::Http10,
        };
        let expected = "POST /x HTTP/1.0\r\nhost: other\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(sent("http://localhost/x", &request), expected);
    }

    #[test]
    fn neither_a_name_nor_a_value_nor_a_method_can_add_a_line() {
        for value in [&b"a\r\nB: c"[..], b"a\nb", b"a\0b"] {
            let request = ClientRequest { headers: vec![field("A", value)], ..ClientRequest::default() };
            assert!(matches!(fails(&request), HttpError::BadHeaderValue { name } if name == "A"));
        }
        for name in ["", "a b", "a:", "a\r\nb", "ä"] {
            let request = ClientRequest { headers: vec![field(name, "x")], ..ClientRequest::default() };
            assert!(matches!(fails(&request), HttpError::BadHeaderName { .. }), "{name}");
        }
        for method in ["GET /x", "A\nB", "HEAD", "CONNECT"] {
            let request = ClientRequest { method: method.into(), ..ClientRequest::default() };
            assert!(matches!(fails(&request), HttpError::BadMethod { .. }), "{method}");
        }
    }

    #[test]
    fn a_typed_header_is_a_name_and_a_value() {
        let parsed = |text| parse_field(text).map(|(name, value)| (name, String::from_utf8(value).unwrap()));
        let ok = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(parsed("A: b: c "), ok("A", "b: c"));
        assert_eq!(parsed("A:b"), ok("A", "b"));
        assert_eq!(parsed("Accept:"), ok("Accept", ""));
        assert_eq!(parsed("Authorization Bearer x"), Err(FieldError::NoColon));
        assert_eq!(parsed("A : b"), Err(FieldError::Name("A ".to_owned())));
        assert_eq!(parsed("A: b\nC: d"), Err(FieldError::Value("A".to_owned())));
        assert_eq!(parsed("content-length: 3"), Err(FieldError::Framing("content-length".to_owned())));
    }

    #[test]
    fn a_given_header_replaces_the_default_of_its_name() {
        let mut fields = vec![field("Accept", "text/html"), field("B", "1"), field("C", "2")];
        let given = [("accept", "x"), ("accept", "y"), ("C", ""), ("D", "3")];
        replace_fields(&mut fields, given.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())));
        let expected = [field("B", "1"), field("accept", "x"), field("accept", "y"), field("D", "3")];
        assert_eq!(fields, expected);
    }
}
