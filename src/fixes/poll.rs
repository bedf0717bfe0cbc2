//! `poll`: the page asks every two seconds, and holds a thread for a millisecond each time.
//!
//! The seed's own conclusion: a cache answers most of these requests, as long as the data
//! changes more seldom than it is asked for. Whether that is so depends on which cache, so there are three
//! rungs, by `?rung=`. `naive` asks the database and sends what it says. `etag` asks it, and sends
//! nothing where the client has it: that saves bytes and no query. `shared` has one answer for
//! all, which a commit renews: then nine tabs, or nine hundred, cost one query a change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Fix, Fixes, PLAIN};
use crate::app::batch::BATCH;
use crate::app::batch::{Batch, Limit};
use crate::app::database::{Database, QueryError};
use crate::app::model::Model;
use crate::app::models_controller::{batch_as_json, failed};
use crate::app::position;
use crate::app::table::Table;
use http::StatusCode;
use ninetabs_server::{Request, Response};

pub(super) const FIX: Fix = Fix {
    name: "poll",
    does: "the page asks every two seconds, with an answer that all tabs share",
    view: ("fixes/poll.html", include_str!("../../views/fixes/poll.html")),
    streams: &["models.json"],
    action,
    post,
    ..PLAIN
};

/// The most that the shared answer has, the newest models. A request for older ones asks the database.
const SHARED: Limit = Limit::rows(200);

/// How long the page's button keeps the producer quiet: without a pause every answer is new, and no
/// client of the second rung ever sees a 304.
pub(super) const LULL: Duration = Duration::from_secs(10);

/// The answer for all.
#[derive(Debug, Default)]
pub(super) struct SharedAnswer {
    known: Mutex<Arc<Newest>>,
    /// How often it could not be renewed.
    failures: AtomicU64,
}

/// The newest models, oldest first; all that there were after id `after`, up to `newest`.
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
                "rung: naive, etag or shared is wanted",
            ));
        }
    };
    Some(answer.unwrap_or_else(|error| failed(request, &error)))
}

fn post(fixes: &Fixes, _: &Request, rest: &str) -> Option<Response> {
    (rest == "lull").then(|| {
        fixes.server.lull.last(LULL);
        Response::line(StatusCode::ACCEPTED, "no model is produced for a while")
    })
}

fn naive(database: &Arc<Database>, since: i64, rung: &str) -> Result<Response, QueryError> {
    let (_, batch) = database.lease().query(None, |db| position::after(db, since, BATCH))?;
    Ok(answer(&batch, rung).with_header("cache-control", "no-cache"))
}

/// With a `Link` to ask again at once, on the same rung, if there are more.
fn answer(batch: &Batch, rung: &str) -> Response {
    batch_as_json(batch, &format!("/fixes/poll/models.json?rung={rung}&since="))
}

/// Models Rails' `fresh_when`: the comparison costs a query, too.
fn etag(database: &Arc<Database>, request: &Request, since: i64) -> Result<Response, QueryError> {
    let mut db = database.lease();
    let table = database.table();
    let newest = db.query(None, |db| db.last_id())?;
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
        // Only the database knows whether an id beyond the newest that is known here has been given.
        if since < known.after || since > known.newest {
            return naive(database, since, "shared");
        }
        let newer = || known.models.iter().filter(|model| model.id > since);
        let models: Vec<Model> = newer().take(BATCH.rows as usize).cloned().collect();
        let batch = Batch { is_all: models.len() == newer().count(), models, ..Batch::default() };
        let last = batch.last_id().unwrap_or(known.newest);
        Ok(tagged(self::answer(&batch, "shared"), known.table, last))
    }

    /// Asks the database where something has been committed since the last time. Whoever comes
    /// meanwhile waits for that one answer, and does not ask as well. If there is none, those
    /// who have waited for it get the answer of before: one after the other they would wait for
    /// the database as long again, each with a thread.
    fn renewed(&self, database: &Arc<Database>) -> Result<Arc<Newest>, QueryError> {
        let failures = self.failures.load(Ordering::Acquire);
        // A panic leaves the answer of before.
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
                // It may have more by now, and never less.
                newest: models.last().map_or(newest, |model| model.id.max(newest)),
                models,
            });
        }
        Ok(Arc::clone(&known))
    }
}

/// Whether the client says that it has all up to this model.
fn has_it(request: &Request, table: Table, newest: i64) -> bool {
    request.has_tag(&opaque(table, newest))
}

/// With a tag that names the last model that the client has now. That is not the newest one
/// where more are to be had than come in one answer.
fn tagged(response: Response, table: Table, last: i64) -> Response {
    response.with_header("etag", tag(table, last)).with_header("cache-control", "no-cache")
}

fn tag(table: Table, last: i64) -> String {
    format!("W/\"{}\"", opaque(table, last))
}

/// What stands between the tag's quotes. An id alone would match another table's as well.
fn opaque(table: Table, last: i64) -> String {
    format!("{table}-{last}")
}
