//! `cap`: a maximum number of streams; the next one is refused immediately.
//!
//! Without a cap, the ninth tab waits behind streams that do not end, and so does every page. A cap keeps threads free
//! for pages. The status of the refusal matters: an EventSource gives up for good on a 503, and reconnects after a 200
//! that ends immediately.

use super::{Fix, FixGroup, Fixes, PLAIN, embedded};
use http::StatusCode;
use ninetabs_server::{Request, Response};

pub(super) const FIX: Fix = Fix {
    name: "cap",
    does: "The number of streams is limited, and a further one is refused at once.",
    group: FixGroup::BoundTheStreams,
    measured_as: "cap",
    view: embedded!("fixes/cap.html"),
    streams: &["stream"],
    is_on: |fixes| fixes.live.cap().is_some(),
    action,
    ..PLAIN
};

fn action(fixes: &Fixes, request: &Request, rest: &str) -> Option<Response> {
    if rest != "stream" {
        return None;
    }
    match request.param("full").as_deref() {
        Some("503") if fixes.live.is_full() => {
            let retry = fixes.live.retry().as_secs().max(1).to_string();
            Some(
                Response::line(StatusCode::SERVICE_UNAVAILABLE, "the maximum number of streams is reached")
                    .with_header("retry-after", retry),
            )
        }
        // The app's own stream ends immediately if the maximum number of streams is reached.
        _ => Some(fixes.rails.live_stream(request)),
    }
}
