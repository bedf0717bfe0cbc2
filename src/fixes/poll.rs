//! `poll`: the page sends a request every two seconds, which holds a thread for about a millisecond.
//!
//! The article's conclusion: a cache answers most of these requests, as long as the data changes less often
//! than it is requested. The cost depends on the cache, so `?rung=` chooses among three. `naive` queries the
//! database for each request. `etag` queries it as well, and sends no body if the client is up to date: that
//! saves bytes, but not the query. `shared` has one answer for all clients, which a commit renews: nine tabs,
//! or nine hundred, cost one query per change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Fix, FixGroup, Fixes, PLAIN, embedded};
use crate::app::batch::BATCH;
use crate::app::batch::{Batch, Limit};
use crate::app::database::{Database, QueryError};
use crate::app::model::Model;
use crate::app::models_controller::{batch_as_json, not_answered};
use crate::app::position;
use crate::app::table::Table;
use http::StatusCode;
use ninetabs_server::{Request, Response};

pub(super) const FIX: Fix = Fix {
    name: "poll",
    does: "The page polls every two seconds, and all tabs share one answer.",
    group: FixGroup::DoNotStream,
    measured_as: "poll-shared",
    view: embedded!("fixes/poll.html"),
    streams: &["models.json"],
    action,
    post,
    ..PLAIN
};

/// Maximum number of models in the shared answer, which lists the newest ones. A request for older models queries the
/// database.
const SHARED: Limit = Limit::rows(200);

/// How long the page's button pauses the producer. Without a pause every answer is new, and a client of the
/// second rung never gets a 304.
pub(super) const LULL: Duration = Duration::from_secs(10);

/// The answer that all clients share.
#[derive(Debug, Default)]
pub(super) struct SharedAnswer {
    known: Mutex<Arc<Newest>>,
    /// How many renewals failed.
    failures: AtomicU64,
}

/// The newest models, oldest first: all models after the id `after`, up to `newest`.
#[derive(Debug, Default)]
struct Newest {
    table: Table,
    after: i64,
    newest: i64,
    models: Vec<Model>,
}

fn action(fixes: &Fixes, request: &Request, rest: &str) -> Option<Response> {
    if rest != "models.json" {
        return None;
    }
    let since = position::since(request).unwrap_or(0);
    let answer = match request.param("rung").as_deref() {
        None | Some("naive") => naive(&fixes.database, since, "naive"),
        Some("etag") => etag(&fixes.database, request, since),
        Some("shared") => fixes.shared.answer(&fixes.database, request, since),
        Some(_) => {
            return Some(Response::line(
                StatusCode::UNPROCESSABLE_ENTITY,
                "rung: must be naive, etag or shared",
            ));
        }
    };
    Some(answer.unwrap_or_else(|error| not_answered(request, &error)))
}

fn post(fixes: &Fixes, _: &Request, rest: &str) -> Option<Response> {
    (rest == "lull").then(|| {
        fixes.server.lull.last(LULL);
        Response::line(StatusCode::ACCEPTED, "the producer is paused")
    })
}

fn naive(database: &Arc<Database>, since: i64, rung: &str) -> Result<Response, QueryError> {
    let (_, batch) = database.lease().query(None, |db| position::after(db, since, BATCH))?;
    Ok(answer(&batch, rung).with_header("cache-control", "no-cache"))
}

/// An answer; if there are more models, it has a `Link` for the next request, on the same rung.
fn answer(batch: &Batch, rung: &str) -> Response {
    batch_as_json(batch, &format!("/fixes/poll/models.json?rung={rung}&since="))
}

/// Models Rails' `fresh_when`: the comparison costs a query as well.
fn etag(database: &Arc<Database>, request: &Request, since: i64) -> Result<Response, QueryError> {
    let mut db = database.lease();
    let table = database.table();
    // If another program has deleted the newest models, PostgreSQL returns a smaller id than before.
    let newest = db.query(None, |db| db.last_id())?.max(database.newest());
    if has_it(request, table, newest) {
        return Ok(tagged(Response::status(StatusCode::NOT_MODIFIED), table, newest));
    }
    let (_, batch) = db.query(None, |db| position::after(db, since, BATCH))?;
    Ok(tagged(answer(&batch, "etag"), table, batch.last_id().unwrap_or(newest)))
}

impl SharedAnswer {
    fn answer(
        &self,
        database: &Arc<Database>,
        request: &Request,
        since: i64,
    ) -> Result<Response, QueryError> {
        let known = self.renewed(database)?;
        if has_it(request, known.table, known.newest) {
            return Ok(tagged(Response::status(StatusCode::NOT_MODIFIED), known.table, known.newest));
        }
        // Only the database knows whether an id beyond the newest known one exists.
        if since < known.after || since > known.newest {
            return naive(database, since, "shared");
        }
        let newer = || known.models.iter().filter(|model| model.id > since);
        let models: Vec<Model> = newer().take(BATCH.rows as usize).cloned().collect();
        let batch = Batch { is_all: models.len() == newer().count(), models, ..Batch::default() };
        let last = batch.last_id().unwrap_or(known.newest);
        Ok(tagged(self::answer(&batch, "shared"), known.table, last))
    }

    /// Queries the database if something has been committed since the last query. Concurrent callers share
    /// one query. If it fails, those that waited for it get the previous answer: otherwise each of them would
    /// in turn wait as long for the database, and hold a thread.
    fn renewed(&self, database: &Arc<Database>) -> Result<Arc<Newest>, QueryError> {
        let failures = self.failures.load(Ordering::Acquire);
        // A panic leaves the previous answer.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (table, newest) = (database.table(), database.newest());
        let is_old = known.newest < newest || known.table != table;
        if is_old && self.failures.load(Ordering::Acquire) == failures {
            let asked = database.lease().query(None, |db| db.newest(SHARED));
            if asked.is_err() {
                self.failures.fetch_add(1, Ordering::AcqRel);
            }
            let Batch { models, is_all, .. } = asked?;
            *known = Arc::new(Newest {
                table,
                after: models.first().filter(|_| !is_all).map_or(0, |model| model.id.saturating_sub(1)),
                // By now, the table may have more models, but never fewer.
                newest: models.last().map_or(newest, |model| model.id.max(newest)),
                models,
            });
        }
        Ok(Arc::clone(&known))
    }
}

/// Whether the client's tag says that it has all models up to this one.
fn has_it(request: &Request, table: Table, newest: i64) -> bool {
    request.has_tag(&opaque(table, newest))
}

/// Adds a tag with the last model that the client now has. That model is not the newest one if there are more models
/// than fit into one answer.
fn tagged(response: Response, table: Table, last: i64) -> Response {
    response.with_header("etag", tag(table, last)).with_header("cache-control", "no-cache")
}

fn tag(table: Table, last: i64) -> String {
    format!("W/\"{}\"", opaque(table, last))
}

/// The text between the tag's quotes. An id alone could match one of another table.
fn opaque(table: Table, last: i64) -> String {
    format!("{table}-{last}")
}
