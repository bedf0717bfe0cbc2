//! Serves one request: calls the app and writes its answer. Both happen on the pool thread that took the request. The
//! thread is held until the answer has ended, or until the app takes over the connection to answer on it
//! ([`Detached`](crate::Detached)).
//!
//! Models the middle of Puma::Server#process_client, after the request has been read. A panic in the app or in a
//! stream's action is caught here. It results in a 500 or, if the answer has begun, in an incomplete answer.

use std::any::Any;
use std::fmt::Arguments;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use rustc_hash::FxHashMap;

use super::action_threads::{ActionRequest, ActionThreadStats, ActionThreadView, ActionThreads};
use super::answer_writer::{AnswerWriter, SentSoFar, Transport};
use super::app::App;
use super::configuration::{ActionsOn, AnswerLimits, MAX_STALL};
use super::first_line::Version;
use super::framing::{AfterAnswer, AnswerEnd, AnswerFraming};
use super::live_queue::{Drained, live_queue};
use super::request::Request;
use super::response::{self, DetachedHead, Events, Response, ResponseBody, TakeOver};
use crate::escape::Escaped;
use crate::log_limit::limited;
use crate::stream::{OwnThread, Stream};
use crate::streams::Streams;
use crate::timeline::{Subject, Timeline, What};

/// A request that holds a thread.
#[derive(Debug, Clone)]
pub struct RequestView {
    /// The numbers of the request and its connection.
    pub subject: Subject,
    /// The target of the request.
    pub target: Arc<str>,
    /// How long the request has held its thread.
    pub age: Duration,
    /// Bytes of the answer that the kernel has accepted.
    pub bytes: u64,
    /// Bytes of the write in progress that the kernel has not accepted yet. 0 between writes.
    pub unsent: u64,
}

/// The state that the pool threads share while they serve.
pub struct Serving {
    app: Arc<dyn App>,
    /// `None` if actions run on pool threads.
    action_threads: Option<ActionThreads>,
    timeline: Arc<Timeline>,
    streams: Arc<Streams>,
    limits: AnswerLimits,
    requests_count: AtomicU64,
    /// The slots by thread number.
    in_flight: Mutex<FxHashMap<usize, ThreadSlot>>,
}

/// What happens to a connection after its answer.
pub(crate) enum Served {
    /// Another request may follow.
    Kept,
    Ended,
    /// This function takes over the connection.
    Detached(TakeOver),
}

/// The state of one pool thread.
#[derive(Default)]
struct ThreadSlot {
    begun: Option<BegunRequest>,
    /// The progress of the current answer. The next request reuses it unless another owner still holds it.
    progress: Arc<SentSoFar>,
}

struct BegunRequest {
    subject: Subject,
    target: Arc<str>,
    at: Instant,
}

impl Serving {
    /// Creates the state for serving this app. Its streams are registered in `streams`.
    pub fn new(
        app: Arc<dyn App>,
        timeline: Arc<Timeline>,
        streams: Arc<Streams>,
        limits: AnswerLimits,
    ) -> Self {
        Serving {
            app,
            action_threads: None,
            timeline,
            streams,
            limits,
            requests_count: AtomicU64::new(0),
            in_flight: Mutex::default(),
        }
    }

    /// Sets the kind of thread on which actions run [default: the pool thread].
    pub fn with_actions_on(mut self, thread: ActionsOn) -> Self {
        self.action_threads = match thread {
            ActionsOn::PoolThread => None,
            ActionsOn::OwnThread => Some(ActionThreads::new(Arc::clone(&self.timeline))),
        };
        self
    }

    /// Returns the statistics of the actions that run on their own threads, or `None` if actions run on pool threads.
    pub fn action_thread_stats(&self) -> Option<ActionThreadStats> {
        self.action_threads.as_ref().map(ActionThreads::stats)
    }

    /// Returns the threads of the actions, lowest number first. Empty if actions run on pool threads.
    pub fn action_threads(&self) -> Vec<ActionThreadView> {
        self.action_threads.as_ref().map_or_else(Vec::new, ActionThreads::views)
    }

    /// Blocks until no action is running on its own thread, for at most this time. Returns the number of actions still
    /// running.
    pub fn await_actions(&self, at_most: Duration) -> usize {
        self.action_threads.as_ref().map_or(0, |threads| threads.await_end(at_most))
    }

    /// Returns the registry of open streams.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// Counts a request. The server calls this directly for a request that is not served because its client has gone.
    pub fn count_request(&self) {
        self.requests_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many requests have reached a thread since the start, whether or not they have been answered.
    pub fn requests_count(&self) -> u64 {
        self.requests_count.load(Ordering::Relaxed)
    }

    /// Returns the request that this thread is serving on this connection, or `None` if it has ended. A thread may
    /// serve several requests on one connection in succession.
    pub fn view(&self, thread: usize, connection: u64) -> Option<RequestView> {
        let in_flight = self.in_flight();
        let ThreadSlot { begun, progress } = in_flight.get(&thread)?;
        let begun = begun.as_ref().filter(|begun| begun.subject.connection == connection)?;
        Some(RequestView {
            subject: begun.subject,
            target: Arc::clone(&begun.target),
            age: begun.at.elapsed(),
            bytes: progress.bytes.load(Ordering::Relaxed),
            unsent: progress.unsent.load(Ordering::Relaxed),
        })
    }

    /// Returns how many bytes of the writes in progress the kernel has not accepted yet. The number is above 0 while
    /// clients do not read.
    pub fn unsent_bytes(&self) -> u64 {
        self.in_flight().values().map(|slot| slot.progress.unsent.load(Ordering::Relaxed)).sum()
    }

    /// Serves one request on this thread until its answer has ended. Meant for a server that cannot provide the socket.
    /// Another thread cannot end a write to this writer.
    ///
    /// The caller gives each of its threads a unique number ([`RequestBuilder::thread`]). If two requests are served at
    /// the same time under the same number, [`view`](Self::view) and [`unsent_bytes`](Self::unsent_bytes) show the one
    /// that began last.
    ///
    /// [`RequestBuilder::thread`]: crate::RequestBuilder::thread
    pub fn serve_to(&self, request: &Request, writer: Box<dyn Write + Send>) {
        self.serve(request, Transport::Writer(writer), Instant::now(), AfterAnswer::Keep);
    }

    /// Serves one request on this thread until its answer has ended or its connection is detached.
    ///
    /// A panic in the app results in a 500 or, if the answer has begun, in an incomplete answer. `at` is when the
    /// thread took the request. With [`AfterAnswer::Close`], no other request may follow.
    pub(crate) fn serve(
        &self,
        request: &Request,
        transport: Transport,
        at: Instant,
        after: AfterAnswer,
    ) -> Served {
        self.count_request();
        let (subject, thread) = (request.subject(), request.thread());
        let progress = self.begin(thread, BegunRequest { subject, target: Arc::clone(&request.target), at });
        let connection = AnswerWriter::new(
            transport,
            subject,
            thread,
            Arc::clone(&self.timeline),
            Arc::clone(&progress),
            self.limits.write_timeout,
        );
        let response =
            panic::catch_unwind(AssertUnwindSafe(|| self.app.call(request))).unwrap_or_else(|panic| {
                self.report(request, panic.as_ref());
                Response::status(StatusCode::INTERNAL_SERVER_ERROR).with_default_headers()
            });
        let (status, served) = self.answer(request, response, connection, after);
        self.let_go(thread);
        let bytes = progress.bytes.load(Ordering::Relaxed);
        let ended = Instant::now();
        let duration_us = ended.duration_since(at).as_micros() as u64;
        let what = What::Answered { status: status.as_u16(), bytes, duration_us };
        self.timeline.record_at(ended, Some(thread), Some(subject), what);
        served
    }

    /// Writes the answer. Also returns the status that was sent, which may differ from the app's.
    fn answer(
        &self,
        request: &Request,
        response: Response,
        mut connection: AnswerWriter,
        after: AfterAnswer,
    ) -> (StatusCode, Served) {
        if matches!(response.body, ResponseBody::Detached { .. }) && connection.is_hidden() {
            return self.answer(
                request,
                Response::status(StatusCode::NOT_IMPLEMENTED).with_default_headers(),
                connection,
                after,
            );
        }
        let status = response.status;
        let framing = response::framing(request, &response);
        // Whether another request may follow this answer. If a 500 replaces the answer, this is determined again.
        let after_this = AfterAnswer::kept_if(
            after == AfterAnswer::Keep
                && request.keeps_alive()
                && framing != AnswerFraming::UntilClose
                && !response.says_close(),
        );
        connection.begin(response::head(request, &response, framing, after_this), framing);
        // An app that writes the head itself also does so for HEAD requests.
        let writes_its_own =
            matches!(response.body, ResponseBody::Detached { head: DetachedHead::ByApp, .. });
        if (request.method == "HEAD" && !writes_its_own) || framing == AnswerFraming::None {
            connection.bare();
            return (status, served(connection.end(AnswerEnd::Clean), after_this));
        }
        let ended = match response.body {
            // The failed write is in the timeline. For a page, nothing else has to be done.
            ResponseBody::Whole(bytes) => {
                if let Some(most) = self.limits.max_answer_time {
                    connection.limit_waits(most, MAX_STALL);
                }
                connection.write(&bytes).map_or(AnswerEnd::Cut, |()| AnswerEnd::Clean)
            }
            ResponseBody::Detached { head, take_over } => {
                if head == DetachedHead::ByServer {
                    connection.end(AnswerEnd::Clean);
                }
                return (status, Served::Detached(take_over));
            }
            ResponseBody::Events(events) => match &self.action_threads {
                Some(threads) => self.drain(threads, request, events, &mut connection),
                None => self.run(request, events, &mut connection),
            },
        };
        if ended == AnswerEnd::Cut && !connection.has_begun() {
            return self.answer(
                request,
                Response::status(StatusCode::INTERNAL_SERVER_ERROR).with_default_headers(),
                connection,
                after,
            );
        }
        (status, served(connection.end(ended), after_this))
    }

    /// Runs the action of a stream on this thread.
    fn run(&self, request: &Request, events: Events, connection: &mut AnswerWriter) -> AnswerEnd {
        let ended = panic::catch_unwind(AssertUnwindSafe(|| {
            let mut stream = Stream::open(&self.streams, connection, request, events.dialect);
            // The reason why an action ended early is already in the record.
            let _ = (events.action)(&mut stream);
            stream.close()
        }));
        ended.unwrap_or_else(|panic| {
            self.report(request, panic.as_ref());
            AnswerEnd::Cut
        })
    }

    /// Runs the action of a stream on its own thread, and writes the answer on this one.
    fn drain(
        &self,
        threads: &ActionThreads,
        request: &Request,
        events: Events,
        connection: &mut AnswerWriter,
    ) -> AnswerEnd {
        let (subject, thread) = (request.subject(), request.thread());
        let writes = Arc::default();
        let (queue, chunks) = live_queue(&writes);
        let membership = self.streams.enter(subject, thread, connection.cutter());
        let entered = membership.number();
        let last_event_id = request.only_header("last-event-id").map(str::to_owned);
        let (streams, timeline) = (Arc::clone(&self.streams), Arc::clone(&self.timeline));
        let (shown, Events { dialect, action }) = (format!("{request:?}"), events);
        let run = move |number: usize| {
            let own = OwnThread { number, queue, membership, last_event_id };
            let mut stream = Stream::open_on_own_thread(&streams, own, dialect);
            let ended = panic::catch_unwind(AssertUnwindSafe(|| {
                // The reason why an action ended early is already in the record.
                let _ = action(&mut stream);
                stream.close();
            }));
            if let Err(panic) = ended {
                // Report before the stream is dropped, because dropping it ends the answer, and the record must show
                // the panic before the end. The pool thread is not named, because it may already be serving another
                // request.
                report(&timeline, format_args!("{shown}"), (None, subject), panic.as_ref());
            }
        };
        let target = Arc::clone(&request.target);
        let worker = match threads.run(ActionRequest { subject, target, pool_thread: thread, writes }, run) {
            Ok(worker) => worker,
            Err(error) => {
                limited!(Error, "{request:?}: {error}");
                return AnswerEnd::Cut;
            }
        };
        let committed = || {
            self.timeline.record(None, Some(subject), What::ActionCommitted { worker });
        };
        let drained = match request.version() {
            Version::Http11 => chunks.drain(connection, committed),
            Version::Http10 => chunks.take_committed(connection, committed),
        };
        match drained {
            Drained::Ended(ended) => ended,
            Drained::Left(ended) => {
                self.streams.orphan(entered);
                threads.orphan(worker, subject);
                ended
            }
        }
    }

    fn report(&self, request: &Request, panic: &(dyn Any + Send)) {
        report(
            &self.timeline,
            format_args!("{request:?}"),
            (Some(request.thread()), request.subject()),
            panic,
        );
    }

    /// Notes that a request now holds this thread. A new thread gets the lowest free number, so the number of slots
    /// never exceeds the maximum number of threads so far.
    fn begin(&self, thread: usize, begun: BegunRequest) -> Arc<SentSoFar> {
        let mut in_flight = self.in_flight();
        let slot = in_flight.entry(thread).or_default();
        slot.begun = Some(begun);
        match Arc::get_mut(&mut slot.progress) {
            Some(unused) => *unused = SentSoFar::default(),
            None => slot.progress = Arc::default(),
        }
        Arc::clone(&slot.progress)
    }

    /// Notes that no request holds this thread any more.
    fn let_go(&self, thread: usize) {
        if let Some(slot) = self.in_flight().get_mut(&thread) {
            slot.begun = None;
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, FxHashMap<usize, ThreadSlot>> {
        // Every change under this lock is to one entry, so the data is consistent even after a panic.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs and records a panic. `at` holds the subject of the request and, if it is still serving that request, the pool
/// thread.
fn report(
    timeline: &Timeline,
    request: Arguments<'_>,
    at: (Option<usize>, Subject),
    panic: &(dyn Any + Send),
) {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    limited!(Error, "{request}: {}", Escaped(&message));
    let (thread, subject) = at;
    timeline.record(thread, Some(subject), What::Panicked { message });
}

/// `is_whole` means that the answer was sent completely and the client can determine where it ends.
fn served(is_whole: bool, after: AfterAnswer) -> Served {
    match after {
        AfterAnswer::Keep if is_whole => Served::Kept,
        AfterAnswer::Keep | AfterAnswer::Close => Served::Ended,
    }
}

#[cfg(test)]
mod tests;
