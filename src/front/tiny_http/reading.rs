//! Reads or refuses requests from tiny_http, following the rules of Puma's front door.
//!
//! tiny_http itself does not check methods, targets, hosts or transfer codings.

use std::io::{Read, Write};
use std::mem;

use ninetabs_server::configuration::UNWANTED_BODY_BYTES;
use ninetabs_server::refusal::Refusal;
use ninetabs_server::request::Version;
use ninetabs_server::{Request, RequestBuilder, Response};

/// Reads a request. Blocks while the client sends a wanted body.
///
/// The head is checked before the body is read, because tiny_http treats every transfer coding as chunked.
pub fn read(request: &mut tiny_http::Request, max_body_bytes: u64) -> Result<RequestBuilder, Refusal> {
    head(request).build()?;
    let body = read_body(request, max_body_bytes)?;
    Ok(head(request).body(body))
}

fn head(request: &tiny_http::Request) -> RequestBuilder {
    let is_http10 = *request.http_version() == tiny_http::HTTPVersion(1, 0);
    let head = Request::builder()
        .method(request.method().as_str())
        .path(request.url())
        .version(if is_http10 { Version::Http10 } else { Version::Http11 });
    request
        .headers()
        .iter()
        .fold(head, |head, header| head.header(header.field.as_str().as_str(), header.value.as_str()))
}

/// Reads the body. If the method does not take a body, one that tiny_http has not read yet is refused instead.
fn read_body(request: &mut tiny_http::Request, max_body_bytes: u64) -> Result<Vec<u8>, Refusal> {
    let wanted = max_body_bytes > 0 && matches!(request.method().as_str(), "POST" | "PUT" | "PATCH");
    let declared = declared_length(request)?;
    let limit = if wanted { max_body_bytes } else { UNWANTED_BODY_BYTES.min(max_body_bytes) };
    if declared > limit || (!wanted && is_unread(request)) {
        return Err(Refusal::BodyTooLarge);
    }
    if says(request, "Connection", "upgrade") {
        // In this case tiny_http returns the bare connection instead of a body, so a read would continue past the end
        // of the body.
        return match declared {
            0 => Ok(Vec::new()),
            _ => Err(Refusal::BadRequest("a request to upgrade must not have a body")),
        };
    }
    let counted = request.body_length().map_or(0, |length| length as u64);
    let mut body = Vec::new();
    let read = request.as_reader().take(limit.saturating_add(1)).read_to_end(&mut body);
    match read {
        Ok(_) if body.len() as u64 > limit => Err(Refusal::BodyTooLarge),
        Ok(_) if (body.len() as u64) < counted => Err(Refusal::BadRequest("the body ended early")),
        Ok(_) => Ok(body),
        Err(_) => Err(Refusal::BadRequest("the body cannot be read")),
    }
}

/// Returns the declared Content-Length. tiny_http would ignore an invalid number and use the first of two lengths, so
/// both cases are refused.
fn declared_length(request: &tiny_http::Request) -> Result<u64, Refusal> {
    let mut lengths = lengths(request);
    let (first, second) = (lengths.next(), lengths.next());
    if second.is_some() {
        return Err(Refusal::BadRequest("the request has more than one Content-Length"));
    }
    match first {
        None => Ok(0),
        Some(text) if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(Refusal::BadRequest("Content-Length is not a number"))
        }
        // A number that does not fit into a u64 is above any limit.
        Some(text) => Ok(text.parse().unwrap_or(u64::MAX)),
    }
}

fn lengths(request: &tiny_http::Request) -> impl Iterator<Item = &str> {
    let all = request.headers().iter().filter(|header| header.field.equiv("Content-Length"));
    all.map(|header| header.value.as_str())
}

/// Whether the first header with this name contains this word. tiny_http itself uses the same test.
fn says(request: &tiny_http::Request, name: &'static str, word: &str) -> bool {
    let first = request.headers().iter().find(|header| header.field.equiv(name));
    first.is_some_and(|header| header.value.as_str().to_ascii_lowercase().contains(word))
}

/// Answers a request whose body has not been read completely.
///
/// If tiny_http would wait for the end of the body before it reads the next request, the connection is leaked.
/// Otherwise it is not leaked, because the response to the client's next request would wait forever, on a pool thread,
/// for this response to end.
pub fn refuse(request: tiny_http::Request, refusal: Refusal) {
    let line = Response::status(refusal.status()).into_bytes().unwrap_or_default();
    if !holds_its_connection(&request) {
        let response = tiny_http::Response::from_data(line).with_status_code(refusal.status().as_u16());
        // A failed write means that the client has closed its connection.
        let _ = request.respond(response);
        return;
    }
    let is_head = *request.method() == tiny_http::Method::Head;
    // An upgrade is the only way to keep a request from being dropped. With an upgrade, tiny_http does not send a
    // Content-Length, so it is appended to the value of the `Upgrade` header after a line break.
    let protocol =
        format!("close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}", line.len());
    let mut stream = request.upgrade(&protocol, tiny_http::Response::empty(refusal.status().as_u16()));
    if !is_head {
        let _ = stream.write_all(&line).and_then(|()| stream.flush());
    }
    mem::forget(stream);
}

/// Whether tiny_http reads the next request from this connection only after the body of this one has been read or
/// dropped. (tiny_http copies only short bodies of a declared length.)
fn holds_its_connection(request: &tiny_http::Request) -> bool {
    is_unread(request) || says(request, "Connection", "upgrade")
}

/// Whether tiny_http has not read the body yet.
fn is_unread(request: &tiny_http::Request) -> bool {
    let has = |name| says(request, name, "");
    match request.body_length() {
        Some(length) => length > 1024 || (length > 0 && has("Expect")),
        None => has("Transfer-Encoding"),
    }
}
