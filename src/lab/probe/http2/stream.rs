//! One stream of an HTTP/2 connection, judged by its first event, and one page.

use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::EVENT_WITHIN;
use super::link::Http2Link;
use crate::lab::http::Head;
use crate::lab::probe::events::{Arrival, UnitReader};
use crate::lab::probe::measured::{Baseline, Http2Stop};

/// How a stream is judged once it has an event, has ended, or its time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamVerdict {
    /// It has delivered an event and is open.
    Flows,
    /// It has neither delivered an event nor ended in time.
    Waits,
    /// It ended.
    Stopped(Http2Stop),
}

/// What a response has shown so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum StreamSign {
    Nothing,
    /// A comment or `retry:`, which counts as an event if no event arrives.
    SignOfLife,
    Event,
}

impl StreamSign {
    fn of(arrival: Arrival) -> StreamSign {
        match arrival {
            Arrival { events: 1.., .. } => StreamSign::Event,
            Arrival { signs: 1.., .. } => StreamSign::SignOfLife,
            _ => StreamSign::Nothing,
        }
    }
}

/// The state of a stream so far.
#[derive(Debug, Clone, Copy)]
struct StreamSeen {
    shown: StreamSign,
    end: Option<Http2Stop>,
}

/// An open stream. Its events are read and discarded, so that it never blocks the connection's flow-control window.
/// When dropped, it is canceled with RST_STREAM.
pub(super) struct Http2Stream {
    send: SendStream<Bytes>,
    seen: watch::Receiver<StreamSeen>,
}

impl Http2Stream {
    /// Sends a request, and waits for its first event or its end for at most `within`. The stream is `None` if it
    /// could not be opened at all.
    pub(super) async fn open(
        link: &mut Http2Link,
        request: Request<Bytes>,
        within: Duration,
    ) -> (Option<Http2Stream>, StreamVerdict) {
        let began = Instant::now();
        // Sending blocks only if an earlier request is still waiting to be sent.
        let (response, send) = match timeout_at(began + within, send(link, request)).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(error)) => return (None, StreamVerdict::Stopped(stop(&error))),
            Err(_) => return (None, StreamVerdict::Waits),
        };
        let (tell, seen) = watch::channel(StreamSeen { shown: StreamSign::Nothing, end: None });
        tokio::spawn(read(response, tell));
        let mut stream = Http2Stream { send, seen };
        let has_event = |seen: &StreamSeen| seen.shown == StreamSign::Event || seen.end.is_some();
        let is_alive = |seen: &StreamSeen| seen.shown != StreamSign::Nothing || seen.end.is_some();
        // `wait_for` fails only on a timeout, because the reader keeps the sender until the stream has ended.
        // If no event arrives soon, a sign of life counts instead.
        let soon = began + within.min(EVENT_WITHIN);
        if timeout_at(soon, stream.seen.wait_for(has_event)).await.is_err() {
            let _ = timeout_at(began + within, stream.seen.wait_for(is_alive)).await;
        }
        let outcome = stream.outcome();
        (Some(stream), outcome)
    }

    /// Whether it has delivered an event and is still open.
    pub(super) fn flows(&self) -> bool {
        self.outcome() == StreamVerdict::Flows
    }

    fn outcome(&self) -> StreamVerdict {
        match *self.seen.borrow() {
            StreamSeen { end: Some(stop), .. } => StreamVerdict::Stopped(stop),
            StreamSeen { shown: StreamSign::Nothing, .. } => StreamVerdict::Waits,
            StreamSeen { .. } => StreamVerdict::Flows,
        }
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        self.send.send_reset(Reason::CANCEL);
    }
}

/// Whether a page is answered completely, with the status of its baseline and within the baseline's limit.
pub(super) async fn is_answered(link: &mut Http2Link, request: Request<Bytes>, baseline: &Baseline) -> bool {
    let answered = async {
        let (response, _send) = send(link, request).await.ok()?;
        let (head, mut body) = response.await.ok()?.into_parts();
        while let Some(data) = body.data().await {
            release(&mut body, data.ok()?.len());
        }
        Some(head.status.as_u16() == baseline.status)
    };
    // On a timeout, dropping the handles cancels the request.
    timeout(baseline.limit(), answered).await.is_ok_and(|answered| answered == Some(true))
}

async fn send(
    link: &mut Http2Link,
    request: Request<Bytes>,
) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
    let (head, body) = request.into_parts();
    let mut sender = link.sender.clone().ready().await?;
    let (response, mut send) = sender.send_request(Request::from_parts(head, ()), body.is_empty())?;
    if !body.is_empty() {
        send.send_data(body, true)?;
    }
    Ok((response, send))
}

/// Reads a response until it ends.
async fn read(response: ResponseFuture, tell: watch::Sender<StreamSeen>) {
    let end = match response.await {
        Ok(response) => read_body(response, &tell).await,
        Err(error) => stop(&error),
    };
    tell.send_modify(|seen| seen.end = Some(end));
}

async fn read_body(response: Response<RecvStream>, tell: &watch::Sender<StreamSeen>) -> Http2Stop {
    let (head, mut body) = response.into_parts();
    if head.status != http::StatusCode::OK {
        return Http2Stop::Reset;
    }
    let fields = head.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let head = Head { status: head.status.as_u16(), headers: fields.collect(), minor_version: 1 };
    // In HTTP/2, a body without a length is a stream.
    let mut reader = UnitReader::of(&head, head.header("content-length").is_none());
    // The head may be large, and the body may last as long as the experiment.
    drop(head);
    while let Some(data) = body.data().await {
        let bytes = match data {
            Ok(bytes) => bytes,
            Err(error) => return stop(&error),
        };
        release(&mut body, bytes.len());
        let Ok(arrival) = reader.feed(&bytes) else { return Http2Stop::Reset };
        let shown = StreamSign::of(arrival);
        tell.send_if_modified(|seen| {
            let is_more = shown > seen.shown;
            seen.shown = seen.shown.max(shown);
            is_more
        });
    }
    Http2Stop::Reset
}

/// Returns flow-control capacity to the server, so that it can send this many further bytes.
fn release(body: &mut RecvStream, bytes: usize) {
    // This fails only for more bytes than have arrived.
    let _ = body.flow_control().release_capacity(bytes);
}

fn stop(error: &h2::Error) -> Http2Stop {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) => Http2Stop::RefusedStream,
        _ => Http2Stop::Reset,
    }
}
