//! Tabs and their models: what each tab has received, and the record of its connection on the server's
//! timeline.

use std::time::Duration;

use ninetabs::app::model::MAX_NAME_BYTES;
use ninetabs::lab::tab::{Happens, Settings, Tab};
use ninetabs_server::timeline::{Moment, What};
use serde_json::Value;

use crate::common::{self, Server};

pub const STREAM: &str = "/models/live_stream";

/// A tab that resumes after this id, and reconnects after 10 ms unless the stream sends a `retry:`.
pub fn open_tab(server: &Server, name: &str, last_event_id: &str) -> Tab {
    open_tab_at(server, STREAM, name, last_event_id)
}

/// The same for another stream of the app.
pub fn open_tab_at(server: &Server, path: &str, name: &str, last_event_id: &str) -> Tab {
    let settings = Settings {
        name: name.to_owned(),
        last_event_id: last_event_id.to_owned(),
        reconnect_after: Duration::from_millis(10),
        ..Settings::default()
    };
    Tab::open(&server.url(path), settings).unwrap()
}

/// The ids in an event's data, or in the answer of `/models.json`.
pub fn ids(json: &str) -> Vec<i64> {
    let models: Vec<Value> = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json:?}"));
    models.iter().map(|model| model["id"].as_i64().unwrap()).collect()
}

/// The ids of the app's models.
pub fn ids_there(server: &Server) -> Vec<i64> {
    common::all_models(server.app).iter().map(|model| model["id"].as_i64().unwrap()).collect()
}

/// The ids in the events that the tab has received since the last call.
pub fn received(tab: &Tab) -> Vec<i64> {
    received_as(tab, ids)
}

/// The same for events in another format.
pub fn received_as(tab: &Tab, ids: impl Fn(&str) -> Vec<i64>) -> Vec<i64> {
    let happened = tab.happenings().try_iter();
    let events = happened.filter_map(|it| match it.what {
        Happens::Event(event) if event.event_type == "message" => Some(event),
        _ => None,
    });
    events.flat_map(|event| ids(&event.data)).collect()
}

/// Waits until the tab has received as many models as are wanted, and fails unless they are these.
#[cfg(feature = "postgresql")]
pub fn expect_ids(tab: &Tab, wanted: &[i64], who: &str) {
    let mut got = received(tab);
    let all = common::poll(common::PATIENCE, || {
        got.extend(received(tab));
        (got.len() >= wanted.len()).then_some(())
    });
    assert_eq!(got, wanted, "{who} (enough: {})", all.is_some());
}

/// Fails unless the ids are `first`, `first + 1`, … without a gap or a repetition.
pub fn assert_gapless(ids: &[i64], first: i64, who: &str) {
    for (expected, id) in (first..).zip(ids) {
        assert_eq!(*id, expected, "{who}: {id} arrived instead of {expected}");
    }
}

/// Waits until the tab has received this model. It keeps requesting a page while it waits, because tiny_http leaves
/// a connection of a burst unread until another one ends.
pub fn wait_for_id(server: &Server, tab: &Tab, id: i64) {
    common::wait_for("the last model", || {
        assert_eq!(common::get(server.app, "/up").0, 200);
        let reached = tab.progress().last_event_id.parse().is_ok_and(|last: i64| last >= id);
        reached.then_some(())
    });
}

/// Creates models of the maximum size in one statement, so that each stream gets them in one event. The models
/// are written directly to the database, which does not need a pool thread.
pub fn create_large_models(server: &Server, count: usize) {
    server.other_program().insert(count, &"x".repeat(MAX_NAME_BYTES));
}

/// All moments of the timeline.
pub fn timeline(server: &Server) -> Vec<Moment> {
    timeline_after(server, 0)
}

/// The moments of the timeline after this one.
pub fn timeline_after(server: &Server, seq: u64) -> Vec<Moment> {
    let (status, excerpt) = common::json(server.control, "GET", &format!("/timeline?after={seq}"));
    assert_eq!(status, 200, "{excerpt}");
    serde_json::from_value(excerpt["moments"].clone()).unwrap()
}

/// The moments of the connection from this port, in order.
pub fn lane(server: &Server, port: u16) -> Vec<What> {
    let is_its = |moment: &Moment| moment.subject.is_some_and(|it| it.port == port);
    timeline(server).into_iter().filter(is_its).map(|moment| moment.what).collect()
}

/// How many writes to the connection from this port the kernel has accepted.
pub fn writes(server: &Server, port: u16) -> u64 {
    lane(server, port).iter().filter(|what| matches!(what, What::Wrote { .. })).count() as u64
}

/// Waits until a write to the connection from this port has failed. Returns the write's number and the errno.
pub fn wait_for_disconnect(server: &Server, port: u16) -> (u64, String) {
    common::wait_for("a failed write", || {
        lane(server, port).into_iter().find_map(|what| match what {
            What::Disconnected { write, error } => Some((write, error)),
            _ => None,
        })
    })
}
