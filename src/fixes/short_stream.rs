//! `short-stream`: the action ends after one batch, and `retry:` says when to reconnect.
//!
//! The smallest change to the original controller: without the loop, and with a `retry:`. EventSource reconnects by
//! itself after that time and sends its last event ID. The stream has become a poller, and each request frees its
//! thread after one batch.

use std::sync::Arc;

use super::{Fix, FixGroup, Fixes, PLAIN, embedded};
use crate::app::batch::BATCH;
use crate::app::model::to_json;
use crate::app::models_controller::{GREETING, rescue};
use crate::app::position;
use crate::app::stream_log::{Left, StreamLog};
use ninetabs_server::{Dialect, Event};
use ninetabs_server::{Request, Response};

pub(super) const FIX: Fix = Fix {
    name: "short-stream",
    does: "The action ends after one batch, and EventSource reconnects by itself.",
    group: FixGroup::DoNotStream,
    measured_as: "short-stream",
    view: embedded!("fixes/short-stream.html"),
    streams: &["stream"],
    action,
    ..PLAIN
};

fn action(fixes: &Fixes, request: &Request, rest: &str) -> Option<Response> {
    (rest == "stream").then(|| stream(fixes, request))
}

/// Sends the new models and ends. A client that was disconnected for long gets them in several events.
fn stream(fixes: &Fixes, request: &Request) -> Response {
    let database = Arc::clone(&fixes.database);
    // The client reconnects as often as a stream would query. The time is not random as it is for other
    // streams, since no client stays and their number is unknown.
    let dialect = Dialect::Resumable { retry: Some(fixes.server.update_rate), greeting: GREETING };
    let (resume_from, log) = (position::of_stream(request), StreamLog::of(request));
    Response::events_in(dialect, move |stream| {
        rescue(stream, log, |stream, _| -> Result<(), Left> {
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
