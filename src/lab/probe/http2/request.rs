//! The requests of the experiment, with the header fields of the other steps as far as HTTP/2 has them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use url::{Position, Url};

use crate::lab::http::{Field, field, replace_fields};
use crate::lab::probe::plan::ProbePlan;

const USER_AGENT: &str = concat!("ninetabs-probe/", env!("CARGO_PKG_VERSION"));

/// Fields that belong to a connection of HTTP/1.1, or that the experiment sets itself.
const LEFT_OUT: [&str; 9] = [
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The stream of the tab with this number.
pub(super) fn stream(plan: &ProbePlan, tab: usize) -> Result<Request<Bytes>, String> {
    let url = with_tab(&plan.url, tab)?;
    let fields = vec![field("accept", "text/event-stream"), field("cache-control", "no-cache")];
    let body = Bytes::from(plan.body.clone().unwrap_or_default());
    build(plan, &url, &plan.method, fields, body)
}

pub(super) fn page(plan: &ProbePlan, url: &Url) -> Result<Request<Bytes>, String> {
    build(plan, url, "GET", vec![field("accept", "text/html")], Bytes::new())
}

fn with_tab(url: &Url, tab: usize) -> Result<Url, String> {
    let mut text = url.as_str().to_owned();
    for placeholder in ["{tab}", "%7Btab%7D", "%7btab%7d"] {
        text = text.replace(placeholder, &tab.to_string());
    }
    Url::parse(&text).map_err(|error| format!("cannot put the tab's number into {url}: {error}"))
}

fn build(
    plan: &ProbePlan,
    url: &Url,
    method: &str,
    mut fields: Vec<Field>,
    body: Bytes,
) -> Result<Request<Bytes>, String> {
    fields.push(field("user-agent", USER_AGENT));
    replace_fields(&mut fields, plan.headers.iter().cloned());
    if let Some(cookie) = &plan.cookie {
        replace_fields(&mut fields, [("cookie", cookie.as_bytes().to_vec())]);
    }
    // The experiment reads the events without decoding.
    fields.retain(|(name, _)| !LEFT_OUT.iter().any(|other| name.eq_ignore_ascii_case(other)));
    fields.push(field("accept-encoding", "identity"));
    if !body.is_empty() {
        fields.push(field("content-length", body.len().to_string()));
    }
    let mut request = Request::builder().method(method).uri(&url[..Position::AfterQuery]);
    for (name, value) in fields {
        // Neither message repeats the value, which may be a secret.
        let bad = || format!("the header {name} cannot be sent by HTTP/2");
        let value = HeaderValue::from_bytes(&value).map_err(|_| bad())?;
        request = request.header(HeaderName::try_from(name.as_ref()).map_err(|_| bad())?, value);
    }
    request.body(body).map_err(|error| format!("cannot ask for {url} by HTTP/2: {error}"))
}
