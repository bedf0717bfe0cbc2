//! The original controller, of the 2016 article: a page of models, and a live stream of them.
//!
//! `stream_by_time` is the article's listing, line by line. It holds its thread as long as its client stays
//! connected, and it loses models that are created between its query and `previous_time = Time.now`.
//! `stream_by_id` is the same loop with an id instead of the time, so that each tab gets each model exactly
//! once, even across reconnects.

use std::fmt::Display;
use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::Value;
use url::form_urlencoded;

use super::batch::{BATCH, Batch, Limit};
use super::content_security_policy::{ContentSecurityPolicy, Nonce};
use super::database::{CreateError, Database, QueryError};
use super::first_sentence::{StreamLimits, first_sentence};
use super::model::{MAX_NAME_BYTES, to_json};
use super::position;
use super::stream_log::{Left, StreamLog};
use super::views::{Shown, Views};
use super::{AppSettings, Loop};
use crate::timestamp;
use ninetabs_server::log_limit::limited;
use ninetabs_server::{Dialect, Event, Stream, Streams};
use ninetabs_server::{Request, Response};

/// The first line of a stream.
pub const GREETING: &str = "a stream of models";
/// The maximum number of models on the page, and in one answer of `/models.json`.
const PAGE: Limit = Limit::rows(100);

pub(super) struct ModelsController {
    pub(super) settings: AppSettings,
    pub(super) database: Arc<Database>,
    pub(super) live: Arc<Streams>,
    pub(super) views: Views,
    pub(super) policy: ContentSecurityPolicy,
}

impl ModelsController {
    /// `GET /`: the newest models at render time. `GET /?before=ID`: the newest models with smaller ids.
    pub(super) fn index(&self, request: &Request) -> Response {
        let before = match request.param("before").map(|id| id.parse()) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => {
                return Response::line(StatusCode::UNPROCESSABLE_ENTITY, "before: must be the id of a row");
            }
        };
        let batch = match self.database.lease().query(None, |db| db.before(before, PAGE)) {
            Ok(batch) => batch,
            Err(error) => return not_answered(request, &error),
        };
        let nonce = match Nonce::draw() {
            Ok(nonce) => nonce,
            Err(error) => return failed(request, &error),
        };
        // The original loop does not send `retry:`, so the browser chooses how long it waits.
        let retry = (self.settings.stream_loop == Loop::ById).then(|| self.live.retry());
        let shown = Shown {
            batch: &batch,
            before,
            first_sentence: first_sentence(&self.limits()),
            control: self.settings.servers.control(request),
        };
        match self.views.index(request, &shown, &nonce, retry, self.settings.streams_at.as_deref()) {
            Ok(page) => self.policy.page(&nonce, page),
            Err(error) => failed(request, &error),
        }
    }

    /// The limits that are in force now.
    fn limits(&self) -> StreamLimits<'_> {
        let AppSettings { servers, threads, max_io_threads, streams_at, .. } = &self.settings;
        StreamLimits {
            threads: servers.threads(*threads),
            max_io_threads: *max_io_threads,
            stream_cap: self.live.cap(),
            max_stream_age: self.live.max_age(),
            leased_connections: self.database.leased_for_actions(),
            streams_at: streams_at.as_deref(),
        }
    }

    /// `GET /models/live_stream`: models that are created after the request, or after the position that it
    /// names.
    pub(super) fn live_stream(&self, request: &Request) -> Response {
        if self.settings.max_io_threads > 0 {
            request.mark_as_io_bound();
        }
        let (database, settings) = (Arc::clone(&self.database), self.settings.clone());
        let log = StreamLog::of(request);
        match settings.stream_loop {
            Loop::ById => {
                let resume_from = position::of_stream(request);
                Response::events_in(Dialect::Resumable { retry: None, greeting: GREETING }, move |stream| {
                    rescue(stream, log, |stream, log| {
                        stream_by_id(stream, &database, &settings, resume_from, log)
                    });
                    Ok(())
                })
            }
            Loop::Faithful => Response::events_in(Dialect::Bare, move |stream| {
                rescue(stream, log, |stream, log| stream_by_time(stream, &database, &settings, log));
                Ok(())
            }),
        }
    }

    /// `GET /models.json?since=ID`: the oldest models with greater ids, or the oldest models if no id is
    /// given. If there are more, a `Link` header gives the address of the next ones.
    pub(super) fn since(&self, request: &Request) -> Response {
        let id = position::since(request).unwrap_or(0);
        match self.database.lease().query(None, |db| position::after(db, id, PAGE)) {
            Ok((_, batch)) => {
                batch_as_json(&batch, "/models.json?since=").with_header("cache-control", "no-cache")
            }
            Err(error) => not_answered(request, &error),
        }
    }

    /// `POST /models`: creates a model. Once the answer is 201, the model survives the end of the process.
    pub(super) fn create(&self, request: &Request) -> Response {
        let Some(name) = posted(request, "name") else {
            return Response::line(
                StatusCode::UNPROCESSABLE_ENTITY,
                "name: is missing; send it in a form or a JSON object",
            );
        };
        if name.is_empty() {
            return Response::line(StatusCode::UNPROCESSABLE_ENTITY, "name: can't be blank");
        }
        if name.contains('\0') {
            // PostgreSQL cannot store U+0000 in a text, and some programs treat it as the end of a text.
            return Response::line(StatusCode::UNPROCESSABLE_ENTITY, "name: can't contain U+0000");
        }
        if name.len() > MAX_NAME_BYTES {
            return Response::line(
                StatusCode::UNPROCESSABLE_ENTITY,
                &format!("name: is longer than {MAX_NAME_BYTES} bytes"),
            );
        }
        let keep = self.settings.keep_models;
        let model = match self.database.lease().create(&name, keep) {
            Ok(model) => model,
            // The adapter has already logged this.
            Err(CreateError::Gone(_)) => return Response::status(StatusCode::INTERNAL_SERVER_ERROR),
            Err(error) if error.is_temporary() => return unavailable(request, &error),
            Err(error) => return failed(request, &error),
        };
        if is_from_a_page(request) {
            return Response::line(StatusCode::SEE_OTHER, "the model was created; see the list")
                .with_header("location", "/");
        }
        json(StatusCode::CREATED, &model)
    }
}

/// The original loop, with an id instead of the time.
fn stream_by_id(
    stream: &mut Stream<'_>,
    database: &Arc<Database>,
    settings: &AppSettings,
    resume_from: Option<i64>,
    log: &mut StreamLog,
) -> Result<(), Left> {
    let mut db = database.lease();
    let mut table = database.table();
    let (mut last_id, mut batch) =
        db.query(Some(stream.interrupted()), |db| position::begin(db, resume_from, BATCH))?;
    let mut lost = position::lost(database, resume_from, last_id, &batch);
    loop {
        last_id = batch.last_id().unwrap_or(last_id);

        stream.send(Event::data(to_json(&batch.models)).id(last_id).comments(lost.take()))?;
        log.wrote();

        // we reenter loop after a slight wait, or immediately while there is more to catch up with
        if batch.is_all {
            stream.sleep(settings.update_rate)?;
        }

        // lets only grab new models since the last one sent; if the table was replaced, none of its models
        // were sent
        let is_another = table != database.table();
        if is_another {
            (table, last_id) = (database.table(), 0);
        }
        batch = db.query(Some(stream.interrupted()), |db| db.next(last_id, BATCH))?;
        // more models may be created between two queries than are kept
        lost = position::lost(database, (!is_another).then_some(last_id), last_id, &batch);
    }
}

/// The original loop, as in the article.
fn stream_by_time(
    stream: &mut Stream<'_>,
    database: &Arc<Database>,
    settings: &AppSettings,
    log: &mut StreamLog,
) -> Result<(), Left> {
    let mut db = database.lease();
    // here we start our time slicing
    let mut previous_time = SystemTime::now();
    loop {
        // lets only grab new models since original render
        let mut from = (timestamp::micros(previous_time), i64::MAX);
        loop {
            let slice = db.query(Some(stream.interrupted()), |db| db.models_since(from, BATCH))?;

            stream.send(Event::data(to_json(&slice.models)))?;
            log.wrote();

            // a slice that is too large for one event is sent in several
            match slice.last_id().map(|id| (slice.last_us, id)) {
                Some(last) if !slice.is_all && last > from => from = last,
                _ => break,
            }
        }

        // we increment our timer for next slice
        previous_time = SystemTime::now();

        // we reenter loop after a slight wait
        stream.sleep(settings.update_rate)?;
    }
}

/// The original `rescue` and `ensure`: the stream is closed however the loop ends.
pub fn rescue(
    stream: &mut Stream<'_>,
    mut log: StreamLog,
    action: impl FnOnce(&mut Stream<'_>, &mut StreamLog) -> Result<(), Left>,
) {
    log.runs_on(stream.own_thread());
    // as long as the action returns, the server will close the stream
    let end = action(stream, &mut log);
    log.ended(end);
}

/// A field of a posted form or JSON object.
pub fn posted(request: &Request, field: &str) -> Option<String> {
    let no_body = |error: &std::io::Error| limited!(Error, "{request:?}: cannot read its body: {error}");
    let body = request.body().read().inspect_err(no_body).ok()?;
    if request.is_of_type("application/json") {
        let posted: Value = serde_json::from_slice(&body).ok()?;
        return posted.get(field)?.as_str().map(str::to_owned);
    }
    // The last of several values wins, as in Rack and in JSON.
    let values = form_urlencoded::parse(&body).filter(|(key, _)| key == field);
    values.last().map(|(_, value)| value.into_owned())
}

/// Whether a form on a page sent this request. A form is answered with a redirect to a page, and a program
/// with the model.
fn is_from_a_page(request: &Request) -> bool {
    request.accepts("text/html") && !request.is_of_type("application/json")
}

/// A batch as an answer. If there are more models, its `Link` header gives the next address: `address` with
/// the last id appended. A client that follows the links gets all models.
pub fn batch_as_json(batch: &Batch, address: &str) -> Response {
    let answer = json(StatusCode::OK, &batch.models);
    match batch.last_id().filter(|_| !batch.is_all) {
        Some(last) => answer.with_header("link", format!("<{address}{last}>; rel=\"next\"")),
        None => answer,
    }
}

/// One model or several as an answer.
pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    Response::new(status, "application/json; charset=utf-8", to_json(value))
}

/// The answer after a query that failed: 503 if the database may answer soon.
pub fn not_answered(request: &Request, error: &QueryError) -> Response {
    if error.is_temporary() { unavailable(request, error) } else { failed(request, error) }
}

/// Logs the cause, and asks the client to try again. The outcome of its request is unknown.
fn unavailable(request: &Request, error: &dyn Display) -> Response {
    limited!(Error, "{request:?}: {error:#}");
    Response::status(StatusCode::SERVICE_UNAVAILABLE).with_header("retry-after", "1")
}

/// Logs the cause; the client gets only the status.
pub fn failed(request: &Request, error: &dyn Display) -> Response {
    limited!(Error, "{request:?}: {error:#}");
    Response::status(StatusCode::INTERNAL_SERVER_ERROR)
}
