//! The experiment `--http2`: how many streams run on one HTTP/2 connection, and what stops the next one.
//!
//! HTTP/2 has its own limits: the server announces a maximum number of concurrent streams, and may refuse a stream with
//! `REFUSED_STREAM`. Like a browser, the client does not send a request beyond the announced maximum. A second
//! connection shows whether the limit applies per connection.
//!
//! This is the only module of the probe that uses an async runtime. The runtime runs on the caller's thread and ends
//! with [`measure`], which blocks. Each wait has a limit. All connections are closed on every exit path; after a stop
//! signal they are reset.

mod link;
mod request;
mod stream;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use ninetabs_server::threads::StopSignal;
use socket2::Socket;
use tokio::time::{interval, sleep};

use super::measured::{Baseline, Http2, Http2Stop};
use super::plan::ProbePlan;
use link::{CONNECT_WITHIN, Http2Link, SETTINGS_WITHIN};
use stream::{Http2Stream, StreamVerdict};

/// How often the stop signal is checked.
const STOP_CHECK: Duration = Duration::from_millis(20);
/// After this time without an event, a sign of life counts as one.
const EVENT_WITHIN: Duration = Duration::from_secs(3);
/// How long to wait for a stream beyond the announced maximum, in case the server has raised it.
const BEYOND_WITHIN: Duration = Duration::from_millis(500);
/// How long a canceled stream's slot may take to return.
const RETURN_WITHIN: Duration = Duration::from_secs(15);
/// How long a connection may take to close cleanly.
const CLOSE_WITHIN: Duration = Duration::from_millis(300);

/// The error of a measurement that was stopped.
pub const INTERRUPTED: &str = "interrupted";

/// Maximum length of an error in characters, because it may quote what the server sent.
const MAX_ERROR: usize = 200;

/// The longest time for which [`measure`] blocks: two connections, the streams, and one page. Most servers take a few
/// seconds.
pub fn longest(plan: &ProbePlan, baselines: &[Baseline], event_within: Duration) -> Duration {
    let streams = event_within * u32::try_from(plan.tabs).unwrap_or(u32::MAX);
    let page = baselines.iter().map(Baseline::limit).max().unwrap_or_default();
    (CONNECT_WITHIN + CLOSE_WITHIN) * 2
        + SETTINGS_WITHIN
        + plan.waiting_patience()
        + streams
        + page
        + BEYOND_WITHIN
        + RETURN_WITHIN
        + STOP_CHECK
}

/// Measures the streams of one HTTP/2 connection, and adds the requests that it sends to `requests`.
///
/// Beside the streams, it requests the page with the fastest of `baselines`, if there is one. Every stream but the
/// first may take `event_within` until its first event. Blocks for at most the time of [`longest`], or until the stop
/// signal.
pub fn measure(
    plan: &ProbePlan,
    baselines: &[Baseline],
    event_within: Duration,
    stop: &StopSignal,
    requests: &mut usize,
) -> Http2 {
    let mut found = Http2::default();
    // Handles through which a stop signal resets the connections.
    let mut sockets = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Http2 { error: Some(format!("cannot start HTTP/2: {error}")), ..found },
    };
    let experiment =
        Http2Experiment { plan, event_within, found: &mut found, requests, sockets: &mut sockets };
    let ended = runtime.block_on(unless_stopped(experiment.run(baselines), stop));
    match ended {
        Some(Ok(())) => {}
        Some(Err(why)) => found.error = Some(why.chars().take(MAX_ERROR).collect()),
        None => {
            found.error = Some(INTERRUPTED.to_owned());
            for socket in &sockets {
                // This fails if the server has already closed the connection.
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
        }
    }
    // The runtime owns the connections and must be dropped before the last handles to their sockets.
    drop(runtime);
    drop(sockets);
    found
}

/// Runs `work`, and returns `None` if the stop signal came first.
async fn unless_stopped<T>(work: impl Future<Output = T>, stop: &StopSignal) -> Option<T> {
    let mut work = pin!(work);
    let mut tick = interval(STOP_CHECK);
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        while tick.poll_tick(context).is_ready() {
            if stop.has_come() {
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    })
    .await
}

/// One run of the experiment. If it is dropped halfway, the results so far remain in `found`.
struct Http2Experiment<'a> {
    plan: &'a ProbePlan,
    event_within: Duration,
    found: &'a mut Http2,
    requests: &'a mut usize,
    sockets: &'a mut Vec<Socket>,
}

impl Http2Experiment<'_> {
    async fn run(mut self, baselines: &[Baseline]) -> Result<(), String> {
        let mut first = Http2Link::open(self.plan, self.sockets).await?;
        self.found.announced = first.announced().await?;
        let mut streams = Vec::new();
        let mut beyond = self.climb(&mut first, &mut streams).await?;
        self.found.page = self.page(&mut first, baselines).await?;
        if beyond.is_none() && self.is_full(streams.len()) {
            let (stream, outcome) = self.stream(&mut first, streams.len() + 1, BEYOND_WITHIN).await?;
            match outcome {
                StreamVerdict::Flows => self.found.reached += 1,
                StreamVerdict::Waits => self.found.stopped_by = Some(Http2Stop::Settings),
                StreamVerdict::Stopped(stop) => self.found.stopped_by = Some(stop),
            }
            beyond = stream;
        }
        if self.found.reached > 0 {
            let mut second = Http2Link::open(self.plan, self.sockets).await?;
            let (other, outcome) = self.stream(&mut second, streams.len() + 2, self.event_within).await?;
            self.found.second_connection = Some(outcome == StreamVerdict::Flows);
            // Dropping a stream cancels it. The waiting stream is dropped first, so that it cannot take over a slot.
            drop((beyond, other));
            streams.clear();
            second.close(CLOSE_WITHIN).await;
            let (again, outcome) = self.stream(&mut first, 1, RETURN_WITHIN).await?;
            self.found.after_cancel = Some(outcome == StreamVerdict::Flows);
            drop(again);
        }
        // Waits, so that the last cancellation is sent before the connection ends.
        sleep(STOP_CHECK).await;
        first.close(CLOSE_WITHIN).await;
        Ok(())
    }

    /// Opens one stream after another, up to the announced maximum. Returns the stream that got nothing, if it is still
    /// open.
    async fn climb(
        &mut self,
        link: &mut Http2Link,
        streams: &mut Vec<Http2Stream>,
    ) -> Result<Option<Http2Stream>, String> {
        let announced = self.found.announced.and_then(|most| usize::try_from(most).ok());
        for tab in 1..=announced.map_or(self.plan.tabs, |most| most.min(self.plan.tabs)) {
            let within = if tab == 1 { self.plan.waiting_patience() } else { self.event_within };
            let (stream, outcome) = self.stream(link, tab, within).await?;
            self.found.stopped_by = match outcome {
                StreamVerdict::Flows => {
                    streams.extend(stream);
                    let flowing = streams.iter().filter(|stream| stream.flows()).count();
                    self.found.reached = self.found.reached.max(flowing);
                    continue;
                }
                StreamVerdict::Waits => Some(Http2Stop::Waits),
                StreamVerdict::Stopped(stop) => Some(stop),
            };
            return Ok(stream);
        }
        Ok(None)
    }

    /// Whether this many streams reach the announced maximum.
    fn is_full(&self, streams: usize) -> bool {
        self.found.announced.is_some_and(|most| usize::try_from(most).is_ok_and(|most| most <= streams))
    }

    async fn stream(
        &mut self,
        link: &mut Http2Link,
        tab: usize,
        within: Duration,
    ) -> Result<(Option<Http2Stream>, StreamVerdict), String> {
        let request = request::stream(self.plan, tab)?;
        *self.requests += 1;
        Ok(Http2Stream::open(link, request, within).await)
    }

    /// Requests the fastest page.
    async fn page(&mut self, link: &mut Http2Link, baselines: &[Baseline]) -> Result<Option<bool>, String> {
        let pages = self.plan.pages.iter().zip(baselines);
        let Some((url, baseline)) = pages.min_by_key(|(_, baseline)| baseline.time) else { return Ok(None) };
        let request = request::page(self.plan, url)?;
        *self.requests += 1;
        Ok(Some(stream::is_answered(link, request, baseline).await))
    }
}
