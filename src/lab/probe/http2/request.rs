//! The requests of the experiment. They are those of the other steps, without the header fields that HTTP/2 forbids.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use url::{Position, Url};

use crate::lab::http::ClientRequest;
use crate::lab::probe::plan::ProbePlan;
use crate::lab::probe::requests::{self, Variant};

/// Fields that are specific to HTTP/1.1 connections, or that the experiment sets itself.
const LEFT_OUT: [&str; 8] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The request for the stream of the tab with this number. It accepts only an
/// uncompressed body, because the body is not decoded.
pub(super) fn stream(plan: &ProbePlan, tab: usize) -> Result<Request<Bytes>, String> {
    let identity = Variant { encoding: Some("identity".to_owned()), ..Variant::default() };
    let (url, request) = requests::stream(plan, tab, &identity);
    build(&url, request)
}

pub(super) fn page(plan: &ProbePlan, url: &Url) -> Result<Request<Bytes>, String> {
    build(url, requests::page(plan, true))
}

fn build(url: &Url, request: ClientRequest) -> Result<Request<Bytes>, String> {
    let body = Bytes::from(request.body.unwrap_or_default());
    let mut head = Request::builder().uri(&url[..Position::AfterQuery]);
    if !request.method.is_empty() {
        head = head.method(&*request.method);
    }
    for (name, value) in request.headers {
        if LEFT_OUT.iter().any(|other| name.eq_ignore_ascii_case(other)) {
            continue;
        }
        // The messages do not contain the value, which may be a secret.
        let bad = || format!("cannot send the header {name} over HTTP/2");
        let value = HeaderValue::from_bytes(&value).map_err(|_| bad())?;
        head = head.header(HeaderName::try_from(name.as_ref()).map_err(|_| bad())?, value);
    }
    if !body.is_empty() {
        head = head.header("content-length", body.len());
    }
    head.body(body).map_err(|error| format!("cannot request {url} over HTTP/2: {error}"))
}
