//! A small HTTP/1.1 client that distinguishes every kind of failure.
//!
//! The lab studies failures: a server that accepts and never answers, one that refuses, one that cuts an answer short.
//! [`HttpError`] distinguishes them. The client has neither a connection pool nor cookies, does not request
//! compression, and uses TLS only if its caller allows it ([`Options::tls`]). A [`Connection`] carries one request. Its
//! local port identifies the request in the server's own records.
//!
//! Checks of a server read answers strictly. A tab reads answers as a browser does ([`Reading`]), and decodes the body
//! ([`Content`]).
//!
//! Everything blocks the calling thread: [`get`], [`post`] and [`request`] for at most their timeout, a bare
//! [`Connection`] until its deadline. A [`Closer`] ends either from another thread. Only the name resolver, which is
//! used for names that are not loopback, may block for longer.

pub mod address;
pub mod body;
pub mod chunked;
mod client_request;
pub mod coding;
pub mod connection;
mod framing;
pub mod head;
pub mod mime;
pub mod tls;
mod wire;

use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use url::Url;

pub use body::Body;
pub use client_request::{
    ClientRequest, Field, FieldError, RequestVersion, check_method, field, parse_field, replace_fields,
};
pub use coding::Content;
pub use connection::{Connection, Options};
pub use head::Reading;
pub use tls::{Tls, Verification};
pub use wire::Closer;

/// Maximum size of a response's head: 256 KiB, as in Chromium.
pub const MAX_HEAD_BYTES: usize = 256 * 1024;

/// Maximum number of header fields of a response that is read strictly.
pub const MAX_HEADERS: usize = 256;

/// Maximum size of a body that [`request`] collects: 64 MiB.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The schemes of the URLs that a caller allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schemes {
    /// `http`
    Http,
    /// `http` and `https`
    HttpOrHttps,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The text is not a URL, or is a URL that cannot be requested.
    #[error("{url:?} is not the URL of a server: {why}; give http://HOST[:PORT]/PATH")]
    BadUrl {
        /// The text.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The scheme is not `http`.
    #[error("{url} uses {scheme}, but only plain http is supported; give the server's http:// address")]
    NotHttp {
        /// The text.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// The scheme is neither `http` nor `https`.
    #[error(
        "{url} uses {scheme}, but only http and https are supported; give the server's https:// or http:// address"
    )]
    NotHttpOrHttps {
        /// The text.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// The method is not a token, or this client cannot read its answer.
    #[error("cannot send the method {method:?}: {why}")]
    BadMethod {
        /// The method.
        method: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A header name is not a token.
    #[error("{name:?} is not a valid header name")]
    BadHeaderName {
        /// The name.
        name: Cow<'static, str>,
    },
    /// A header value contains CR, LF or NUL.
    #[error("the value of {name} has a line break or a NUL, which a header cannot contain")]
    BadHeaderValue {
        /// The header.
        name: Cow<'static, str>,
    },
    /// The resolver does not know the name.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// Nothing listens at the address.
    #[error("{to} refused the connection")]
    Refused {
        /// Name, port and addresses.
        to: String,
    },
    /// The connection was not made in time.
    #[error("{to} did not accept the connection within {after:?}")]
    ConnectTimedOut {
        /// Name, port and addresses.
        to: String,
        /// The limit.
        after: Duration,
    },
    /// Another thread ended the attempt to connect.
    #[error("the attempt to connect was canceled on this side")]
    GivenUp,
    /// The connection could not be made, for any other reason.
    #[error("cannot connect to {to}: {source}")]
    Connect {
        /// Name, port and addresses.
        to: String,
        /// The system's error.
        source: io::Error,
    },
    /// The server's certificate was not accepted.
    #[error("cannot verify the certificate of {to}: {why}; --insecure skips the verification")]
    Certificate {
        /// Name, port and addresses.
        to: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server does not speak TLS, or shares no version or cipher suite with this client.
    #[error("cannot agree on TLS with {to}: {why}")]
    Tls {
        /// Name, port and addresses.
        to: String,
        /// What is wrong.
        why: String,
    },
    /// The request was sent, but no part of the answer arrived in time.
    #[error("connected, but the server did not answer in time")]
    NoFirstByte,
    /// The deadline passed in the middle of the request or of the answer.
    #[error("the request or its answer was not complete in time")]
    TimedOut,
    /// The server closed the connection without sending anything.
    #[error("the server closed the connection without an answer")]
    NoAnswer,
    /// The connection was reset (RST), or had been closed before a write (EPIPE).
    #[error("the connection was reset: {source}")]
    Reset {
        /// The system's error.
        source: io::Error,
    },
    /// The connection ended in the middle of the head, or before the body's end.
    #[error("the answer ended before it was complete")]
    EndedEarly,
    /// The head is larger than [`MAX_HEAD_BYTES`] or has more than [`MAX_HEADERS`] fields.
    #[error("the head of the answer is larger than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} fields")]
    HeadTooLarge,
    /// The head is not HTTP.
    #[error("the head of the answer is not HTTP/1.x: {what}")]
    BadHead {
        /// What is wrong with it.
        what: String,
    },
    /// A coding that cannot be decoded.
    #[error(
        "the answer's {field} is {coding:?}, which is not supported; have the server send gzip, deflate, br, \
         or an uncompressed body"
    )]
    UnknownCoding {
        /// `content-encoding` or `transfer-encoding`.
        field: &'static str,
        /// Its name.
        coding: String,
    },
    /// The body's length, its chunks or its coding are invalid.
    #[error("the framing of the answer's body is invalid: {what}")]
    BadFraming {
        /// What is wrong with it.
        what: String,
    },
    /// The body is larger than [`MAX_ANSWER_BYTES`].
    #[error("the body of the answer is larger than {MAX_ANSWER_BYTES} bytes")]
    AnswerTooLarge,
    /// Reading or writing failed, for any other reason.
    #[error("the exchange failed: {source}")]
    Failed {
        /// The system's error.
        source: io::Error,
    },
}

impl HttpError {
    /// Whether another attempt would fail in the same way, because the cause is the request or the server's answer and
    /// not an event on the connection.
    pub fn is_final(&self) -> bool {
        match self {
            HttpError::BadUrl { .. }
            | HttpError::NotHttp { .. }
            | HttpError::NotHttpOrHttps { .. }
            | HttpError::BadMethod { .. }
            | HttpError::BadHeaderName { .. }
            | HttpError::BadHeaderValue { .. }
            | HttpError::Certificate { .. }
            | HttpError::Tls { .. }
            | HttpError::HeadTooLarge
            | HttpError::BadHead { .. }
            | HttpError::UnknownCoding { .. }
            | HttpError::BadFraming { .. }
            | HttpError::AnswerTooLarge => true,
            HttpError::Resolve { .. }
            | HttpError::Refused { .. }
            | HttpError::ConnectTimedOut { .. }
            | HttpError::GivenUp
            | HttpError::Connect { .. }
            | HttpError::NoFirstByte
            | HttpError::TimedOut
            | HttpError::NoAnswer
            | HttpError::Reset { .. }
            | HttpError::EndedEarly
            | HttpError::Failed { .. } => false,
        }
    }

    /// Converts an error from reading a [`Body`].
    pub fn from_body(error: io::Error) -> HttpError {
        match error.kind() {
            ErrorKind::UnexpectedEof => HttpError::EndedEarly,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => HttpError::TimedOut,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
                HttpError::Reset { source: error }
            }
            ErrorKind::InvalidData => HttpError::BadFraming { what: error.to_string() },
            _ => HttpError::Failed { source: error },
        }
    }
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The status code, such as 200.
    pub status: u16,
    /// In the order received, names as received.
    pub headers: Vec<(String, Vec<u8>)>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
}

impl Head {
    /// The last value of a header, decoded as UTF-8. The name is case-insensitive.
    pub fn header(&self, name: &str) -> Option<String> {
        self.values(name).last().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// All values of a header. The name is case-insensitive.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.headers.iter().filter(move |(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_slice())
    }
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// Its body, without the transfer coding.
    pub body: Vec<u8>,
    /// The local port of the connection.
    pub local_port: u16,
    /// How long its first byte took to arrive, measured from the attempt to connect.
    pub first_byte: Duration,
}

impl Answer {
    /// The status code, such as 200.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The body as text. Invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// Requests `url` and reads the whole answer, whatever its status. The connection is then closed. Blocks for at most
/// `timeout`.
pub fn get(url: &str, timeout: Duration) -> Result<Answer, HttpError> {
    request(&parse_url(url)?, &closing("GET", Vec::new(), None), timeout)
}

/// Posts `body` and reads the whole answer, as [`get`] does.
pub fn post(
    url: &str,
    content_type: &str,
    body: impl Into<Vec<u8>>,
    timeout: Duration,
) -> Result<Answer, HttpError> {
    let content_type = field("Content-Type", content_type);
    request(&parse_url(url)?, &closing("POST", vec![content_type], Some(body.into())), timeout)
}

fn closing(method: &'static str, mut headers: Vec<Field>, body: Option<Vec<u8>>) -> ClientRequest {
    headers.push(field("Connection", "close"));
    ClientRequest { method: method.into(), headers, body, ..ClientRequest::default() }
}

/// Sends `request` on a new connection and reads the whole answer. Blocks for at most `timeout`. Redirects are not
/// followed.
pub fn request(url: &Url, request: &ClientRequest, timeout: Duration) -> Result<Answer, HttpError> {
    let began = Instant::now();
    let mut connection = Connection::open(url, timeout)?;
    connection.set_deadline(Some(began + timeout));
    let local_port = connection.local_port();
    connection.send(url, request)?;
    connection.wait_for_first_byte()?;
    let first_byte = began.elapsed();
    let (head, body) = connection.answer()?;
    Ok(Answer { head, body, local_port, first_byte })
}

/// Parses a URL as a browser's address bar does. Refuses `https`, and any URL that this client does not support.
pub fn parse_url(text: &str) -> Result<Url, HttpError> {
    parse_url_of(text, Schemes::Http)
}

/// Like [`parse_url`], with these schemes.
pub fn parse_url_of(text: &str, schemes: Schemes) -> Result<Url, HttpError> {
    let url = Url::parse(text).map_err(|error| bad_url(text, &error))?;
    if !matches!(url.scheme(), "http" | "https") && !text.contains("//") {
        // `localhost:9292/path` is a URL of the scheme `localhost`.
        return Err(bad_url(text, &url::ParseError::RelativeUrlWithoutBase));
    }
    check_url(&url, schemes)?;
    Ok(url)
}

/// Why this text is not a URL.
pub(crate) fn bad_url(text: &str, error: &url::ParseError) -> HttpError {
    let has_zone = *error == url::ParseError::InvalidIpv6Address && text.contains('%');
    let why = match error {
        _ if has_zone => "an address in a URL cannot have a zone; remove the % and the zone".to_owned(),
        url::ParseError::RelativeUrlWithoutBase => "it does not begin with http://".to_owned(),
        error => error.to_string(),
    };
    HttpError::BadUrl { url: text.to_owned(), why }
}

/// Refuses a URL that this client does not support, such as the target of a redirect.
pub fn check_url(url: &Url, schemes: Schemes) -> Result<(), HttpError> {
    let bad = |why: &str| Err(HttpError::BadUrl { url: url.to_string(), why: why.to_owned() });
    let (url_text, scheme) = (url.to_string(), url.scheme().to_owned());
    match (url.scheme(), schemes) {
        ("http", _) | ("https", Schemes::HttpOrHttps) => {}
        (_, Schemes::Http) => return Err(HttpError::NotHttp { url: url_text, scheme }),
        (_, Schemes::HttpOrHttps) => return Err(HttpError::NotHttpOrHttps { url: url_text, scheme }),
    }
    match (url.host(), url.port()) {
        (None, _) => bad("it has no host"),
        (Some(_), Some(0)) => bad("a server cannot have port 0"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_url_takes_effect_or_is_refused_with_a_correction() {
        for (text, url) in [
            ("HTTP://A.test:80/x#y", "http://a.test/x#y"),
            ("http://a.test:/", "http://a.test/"),
            (" http://a.te\nst/\tx ", "http://a.test/x"),
            ("http:\\\\a.test\\x", "http://a.test/x"),
            ("http:a.test", "http://a.test/"),
            ("http://b\u{fc}cher.test/", "http://xn--bcher-kva.test/"),
            ("http://b%C3%BCcher.test/", "http://xn--bcher-kva.test/"),
            ("http://127.1:8/", "http://127.0.0.1:8/"),
            ("http://[::ffff:1.2.3.4]/", "http://[::ffff:102:304]/"),
            ("http://me:p%40ss@a.test/", "http://me:p%40ss@a.test/"),
            ("http://a.test/\u{e4} b?\u{e4}", "http://a.test/%C3%A4%20b?%C3%A4"),
        ] {
            assert_eq!(parse_url(text).unwrap().as_str(), url, "{text:?}");
        }
        for (text, says) in [
            ("localhost:9292/x", "does not begin with http://"),
            ("/models", "does not begin with http://"),
            ("", "does not begin with http://"),
            ("https://a.test/", "only plain http"),
            ("ws://a.test/", "only plain http"),
            ("http://", "empty host"),
            ("http://a.test:0/", "port 0"),
            ("http://a.test:65536/", "invalid port number"),
            ("http://[fe80::1%25eth0]/", "remove the %"),
            ("http://[fe80::1%eth0]/", "remove the %"),
            ("http://a b/", "domain name"),
            ("http://1.2.3.4.5/", "IPv4"),
        ] {
            let error = parse_url(text).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("give "), "{text:?}: {error}");
        }
    }
}
