//! `short-stream`: the action ends after one batch and says when to come back.
//!
//! The cheapest cure of all, two lines of the seed's controller: the loop goes, and a
//! `retry:` stays. EventSource does the rest by itself. It comes back after that time, says
//! what it had last, and has become a poller; the thread is free each time.

use std::sync::Arc;

use super::{Fix, Fixes, PLAIN};
use crate::app::batch::BATCH;
use crate::app::model::to_json;
use crate::app::models_controller::{GREETING, Left, rescue};
use crate::app::position;
use ninetabs_server::{Dialect, Event};
use ninetabs_server::{Request, Response};

pub(super) const FIX: Fix = Fix {
    name: "short-stream",
    does: "the action ends after one batch, and EventSource comes back by itself",
    view: ("fixes/short-stream.html", include_str!("../../views/fixes/short-stream.html")),
    streams: &["stream"],
    action,
    ..PLAIN
};

fn action(fixes: &Fixes, request: &Request, rest: &str) -> Option<Response> {
    (rest == "stream").then(|| stream(fixes, request))
}

/// What is new, and no more; a client that was away for long gets all of it in several events.
fn stream(fixes: &Fixes, request: &Request) -> Response {
    let database = Arc::clone(&fixes.database);
    // The client comes back as often as a stream would have looked. The time is not drawn as it is for
    // other streams: no client stays, so how many there are is not known.
    let dialect = Dialect::Resumable { retry: Some(fixes.server.update_rate), greeting: GREETING };
    let resume_from = position::of_stream(request);
    Response::events_in(dialect, move |stream| {
        rescue(stream, |stream| -> Result<(), Left> {
            let mut db = database.lease();
            let (mut last_id, mut batch) =
                db.query(Some(stream.interrupted()), |db| position::begin(db, resume_from, BATCH))?;
            let mut lost = position::lost(&database, resume_from, last_id, &batch);
            loop {
                last_id = batch.last_id().unwrap_or(last_id);
                stream.send(Event::data(to_json(&batch.models)).id(last_id).comments(lost.take()))?;
                if batch.is_all {
                    return Ok(());
                }
                batch = db.query(Some(stream.interrupted()), |db| db.next(last_id, BATCH))?;
                lost = position::lost(&database, Some(last_id), last_id, &batch);
            }
        });
        Ok(())
    })
}
