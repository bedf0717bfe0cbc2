//! Notes about clients, and about the run itself.

use super::super::super::measured::{Measured, Stopped};
use super::super::evidence::Evidence;
use super::super::{Finding, LimitKind, NoteKind};
use super::NoteFacts;

/// Connections that a browser opens to one HTTP/1.1 host.
const BROWSERS_CONNECTIONS: usize = 6;

/// The server speaks HTTP/1.1, and pages answer beside six or more streams, or no limit was found. A browser reaches
/// its own limit first.
pub(super) fn browsers_six(asked: &NoteFacts<'_>) -> Option<Finding<NoteKind>> {
    let http = &*asked.measured.target.http;
    let pages = asked.facts.pages_until().low;
    let holds_more = asked.limit == Some(LimitKind::NoneFound) || pages >= BROWSERS_CONNECTIONS;
    let is_http1 = http == "1.1" && !browsers_use_http2(asked.measured);
    (is_http1 && asked.limit.is_some() && holds_more).then(|| {
        let evidence = Evidence::new().with("http", http).with("pages_until", pages);
        let text = "tabs of one browser stop at six streams per host on any server: a browser opens six connections.";
        let remedy = "Share one stream per browser (a SharedWorker or a BroadcastChannel), or serve HTTP/2.";
        NoteKind::BrowsersSix.found(evidence, text, remedy)
    })
}

/// Whether a browser would use HTTP/2 with this server, as far as `--http2` has shown. Browsers use it over TLS only.
fn browsers_use_http2(measured: &Measured) -> bool {
    let flows = measured.http2.as_ref().is_some_and(|http2| http2.reached > 0);
    flows && measured.target.url.starts_with("https:")
}

/// The note about the early end of a run, if there is a note for its cause.
pub(super) fn of_an_early_end(measured: &Measured) -> Option<Finding<NoteKind>> {
    match measured.stopped.as_ref()? {
        Stopped::OwnLimit { why, held } => Some(NoteKind::OwnLimit.found(
            Evidence::new().with("held", *held).with("error", &**why),
            format!("this machine permits no more than {held} connections: {why}."),
            "Raise the descriptor limit (ulimit -n), or lower --tabs.",
        )),
        Stopped::NotAStream { what } => Some(NoteKind::NotAStream.found(
            Evidence::new().with("response", &**what),
            format!("the response is not a stream: {what}."),
            instead_of_a_stream(what),
        )),
        Stopped::Unreachable { why } => Some(NoteKind::Unreachable.found(
            Evidence::new().with("error", &**why),
            format!("no complete answer: {why}."),
            "Check the address, whether it is http or https, and that the server is running.",
        )),
        _ => None,
    }
}

/// What to do about a response of this status and type.
fn instead_of_a_stream(what: &str) -> &'static str {
    match what {
        page if page.starts_with("200 text/html") => {
            "This is a page. Give the URL that its JavaScript passes to EventSource or fetch."
        }
        refused if refused.starts_with("400") => {
            "Check the URL, whether the server expects https, and what -H, -X and -d send."
        }
        refused if refused.starts_with("30") || refused.starts_with("401") || refused.starts_with("403") => {
            "The stream needs a login: copy the session cookie of a logged-in browser into --cookie, or give -u or -H."
        }
        unreadable if unreadable.contains(": ") => {
            "Look at the response (curl -N prints it as it arrives), and at each proxy that may change it."
        }
        _ => {
            "Check the URL, and whether the stream needs a header, a cookie or another method (-H, --cookie, -X)."
        }
    }
}
